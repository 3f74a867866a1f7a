"""Contract checks of training and saving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from ser_bench import saved
from ser_bench.interface import Recipe, Regularisation
from ser_bench.system import digest
from ser_bench.testing.bench import QUIET, Bench, train
from ser_bench.testing.breach import InapplicableError, require
from ser_bench.testing.material import SHORT, labels
from ser_bench.testing.subjects import Subject
from ser_bench.training.loss import ccc_loss

# Masks on, so that what only they read (a learned mask vector) is reached; nothing is dropped.
MASKED = Recipe(
    head_dropout=0.0, regularisation=Regularisation(dropout=0.0, layerdrop=0.0, time_mask=0.05, feature_mask=0.05)
)
EVALUATIONS = 200
"""Of the loss and its gradient, at most, each time that it is tried. By line search small encoders need up to 90, those
of full size with random weights 11 to 28 (measured)."""
RATES = (3e-3, 1e-3)
"""Of Adam, tried where the line search stalls: that needs a gradient which is the loss' own, and a straight-through
estimator's is not."""
REMEMBERED = 600_000_000
"""Numbers that the optimiser keeps of its last steps, two for each parameter and step: 2.4 GB."""
LEARNT = 0.5
"""The loss on one batch must fall at least to this share of where it started."""


def gradients(bench: Bench) -> str:
    """A gradient reaches every trainable parameter, and nothing of a front end or of the buffers."""
    count = 0
    for subject in _trainable(bench, MASKED):
        samples = subject.samples(SHORT)
        before = {m: digest(subject.frontend_state(m)) for m in subject.reads}
        subject.module.train()
        for _ in range(4):
            loss: Any = ccc_loss(subject.predictions(samples), labels(len(SHORT)).to(subject.device))
            loss.backward()
        trained = {name: p for name, p in subject.module.named_parameters() if p.requires_grad}
        dead = [name for name, p in trained.items() if p.grad is None or not bool(p.grad.any())]
        measured = f"{subject.on}no gradient reaches {len(dead)} of {len(trained)} trainable parameters{_first(dead)}"
        require(not dead, measured, "a gradient for each; freeze or leave out what is not used")
        wild = [name for name, p in trained.items() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
        measured = f"{subject.on}the gradient is not finite for {len(wild)} parameters{_first(wild)}"
        require(not wild, measured, "finite gradients")
        buffers = [name for name, buffer in subject.module.named_buffers() if buffer.requires_grad]
        require(
            not buffers, f"{len(buffers)} buffers want a gradient{_first(buffers)}", "parameters alone to be trained"
        )
        torch.optim.SGD(trained.values(), lr=0.1).step()
        subject.module.eval()
        moved = [m for m in subject.reads if digest(subject.frontend_state(m)) != before[m]]
        require(not moved, f"a training step changed frontend_state({', '.join(moved)})", "a front end that is frozen")
        for one, other in zip(samples, subject.samples(SHORT), strict=True):
            same = all(torch.equal(one[m], other[m]) for m in subject.reads)
            require(same, "a training step changed what a front end gives", "a front end that is frozen")
        count = max(count, len(trained))
    return f"all of {count} trainable parameters are reached, and the front end stays as it is"


def learns(bench: Bench) -> str:
    """Training on one batch lowers its loss clearly."""
    told = []
    for subject in _trainable(bench, QUIET):
        losses = _descent(subject, None)
        for rate in RATES:
            if min(losses) <= LEARNT * losses[0]:
                break
            losses = _descent(bench.fitted(subject.reads, recipe=QUIET), rate)
        fell = f"from {losses[0]:.3f} to {min(losses):.3f} in {len(losses)} evaluations"
        measured = f"{subject.on}the loss (1 - CCC) of one batch went {fell}"
        require(min(losses) <= LEARNT * losses[0], measured, f"{LEARNT:g} of the start or less")
        told.append(f"{subject.on}{fell}")
    return f"the loss (1 - CCC) of one batch went {', '.join(told)}"


class _EnoughError(Exception):
    """The loss is low enough, or the evaluations are used up."""


def _descent(subject: Subject, rate: float | None) -> list[float]:
    """Lower the loss of one batch until it is ``LEARNT`` of its start; returns the loss of every evaluation.

    By L-BFGS with a line search, which has no rate to choose: a rate of Adam's that moves a small network at all throws
    a full-size transformer off (of 3e-4, 3e-3 and 1e-2 none halved DistilHuBERT's loss in 80 steps). By Adam where a
    rate is given.
    """
    samples = subject.samples(SHORT)
    target = labels(len(SHORT)).to(subject.device)
    subject.module.train()
    trained = [p for p in subject.module.parameters() if p.requires_grad]
    optimiser: Any
    if rate is None:
        steps = REMEMBERED // (2 * sum(p.numel() for p in trained))
        optimiser = torch.optim.LBFGS(
            trained, max_iter=EVALUATIONS, history_size=min(max(2, steps), 20), line_search_fn="strong_wolfe"
        )
    else:
        optimiser = torch.optim.Adam(trained, lr=rate)
    losses: list[float] = []

    def evaluated() -> float:
        optimiser.zero_grad()
        loss: Any = ccc_loss(subject.predictions(samples), target)
        losses.append(float(loss.detach()))
        if losses[-1] <= LEARNT * losses[0] or len(losses) >= EVALUATIONS:
            raise _EnoughError
        loss.backward()
        return losses[-1]

    with suppress(_EnoughError):
        optimiser.step(evaluated)
        while rate is not None:
            optimiser.step(evaluated)
    return losses


def state(bench: Bench) -> str:
    """What was trained and fitted comes back from disk into a new module, with the same results bit for bit."""
    size = 0
    for resting in bench.resting:
        subject = bench.fitted(resting.reads, seed=1)
        if any(p.requires_grad for p in subject.module.parameters()):
            train(subject, 2, rate=1e-3)
        subject.module.eval()
        place = bench.folder / "state.safetensors"
        tensors, extra = saved.state(subject.module)
        saved.write(place, tensors, {"extra": extra})
        fresh = bench.build(subject.reads, seed=2).to(bench.device)
        tensors, about = saved.read(place)
        saved.restore(fresh.module, tensors, about["extra"], where=place)
        fresh.module.eval()
        samples = subject.samples(SHORT)
        for m in subject.reads:
            same = digest(fresh.frontend_state(m)) == digest(subject.frontend_state(m))
            require(same, f"frontend_state({m}) is another after saving and loading", "the same")
        for one, other in zip(samples, fresh.samples(SHORT), strict=True):
            same = all(torch.equal(one[m], other[m]) for m in subject.reads)
            require(same, "a front end gives something else after saving and loading", "the same, bit for bit")
        pairs = zip(subject.together(samples), fresh.together(samples), strict=True)
        gaps = [float((a - b).abs().max()) for a, b in pairs if not torch.equal(a, b)]
        measured = f"{subject.on}results differ by up to {max(gaps, default=0):.1e} after saving and loading"
        expected = "the same, bit for bit; keep what fit finds in buffers, parameters or get_extra_state"
        require(not gaps, measured, expected)
        size = place.stat().st_size
    return f"the same results, bit for bit, from a file of {size:,} bytes"


def _trainable(bench: Bench, recipe: Recipe) -> Iterator[Subject]:
    """Yield the plugin anew, ready for training."""
    for resting in bench.resting:
        if not any(p.requires_grad for p in resting.module.parameters()):
            raise InapplicableError("nothing in it is trained")
        yield bench.fitted(resting.reads, recipe=recipe)


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""
