"""One plugin under test: built, fitted and trained as often as the checks need it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch

from ser_bench import system
from ser_bench.errors import PluginError, TrainingError
from ser_bench.foreign import calling, one_line
from ser_bench.host import Host, Offer
from ser_bench.interface import Kind, Recipe, Regularisation, Weights
from ser_bench.testing.material import SHORT, TEXTS, labels, rows
from ser_bench.testing.subjects import DEPTHS, WIDTHS, EncoderSubject, HeadSubject, Subject, SystemSubject
from ser_bench.training.loss import ccc_loss

QUIET = Recipe(head_dropout=0.0, regularisation=Regularisation(dropout=0.0))
WARM = 5  # steps of training before a plugin is looked at


class Bench:
    """One plugin, built as often as the checks need it, always of the same sources of chance."""

    def __init__(self, offer: Offer, found: Host, *, weights: Weights, device: str, folder: Path) -> None:
        """Build the plugin once; ``folder`` is for what is written on the way.

        Raises:
            PluginError: it, or a part of the system, cannot be built.
            TrainingError: there is no such device.
        """
        self.offer, self.found, self.weights = offer, found, weights
        self.kind: Kind = offer.spec.kind
        self.device, self.folder = _device(device), folder
        self.resting = [subject for subject in map(self._accepted, self._combinations()) if subject is not None]
        """The plugin in eval mode after a few steps of training, since an output that starts at zero would hide most
        faults; a head once for every combination of modalities that it takes."""
        if not self.resting:
            raise PluginError(f"{offer}: build refused audio, text, and both; a head takes at least one of these.")

    def build(
        self, reads: Sequence[str], *, seed: int = 0, recipe: Recipe = QUIET, weights: Weights | None = None
    ) -> Subject:
        """Build it anew, without letting it fit anything."""
        size = weights or self.weights
        with sheltered():
            torch.manual_seed(seed)
            whose, spec = str(self.offer), self.offer.spec
            if self.kind == "head":
                dims, depths = ({m: sizes[m] for m in reads} for sizes in (WIDTHS, DEPTHS))
                head = system.build_head(self.offer, _unpooled(spec, dims), depths, dropout=recipe.head_dropout)
                return HeadSubject(head, reads, whose, pooled=spec.pooling is not None, layers=spec.layers)
            if self.kind == "system":
                plan = self.found.plan(spec.name)
                return SystemSubject(system.build(plan, dict.fromkeys(plan.parts, size), recipe), reads, whose)
            return EncoderSubject(system.build_encoder(self.offer, size, depth=None, recipe=recipe), reads, whose)

    def fitted(self, reads: Sequence[str], *, seed: int = 0, recipe: Recipe = QUIET) -> Subject:
        """Build it anew and let it fit what it fits, as a run does before training."""
        subject = self.build(reads, seed=seed, recipe=recipe)
        with sheltered():
            torch.manual_seed(seed)
            _fit(subject, self.folder)
        return subject.to(self.device)

    def _combinations(self) -> list[tuple[str, ...]]:
        if self.kind == "head":
            return [("audio",), ("text",), ("audio", "text")]
        return [self.found.plan(self.offer.spec.name).reads if self.kind == "system" else (self.kind,)]

    def _accepted(self, reads: Sequence[str]) -> Subject | None:
        """Build and fit in eval mode; None where a head refuses this combination, which it may."""
        try:
            subject = self.fitted(reads)
        except PluginError as error:
            if self.kind == "head" and refused(error):
                return None
            raise
        if any(p.requires_grad for p in subject.module.parameters()):
            try:
                trains = all(map(math.isfinite, train(subject, WARM, rate=1e-3)))
            except Exception:  # the checks of training tell why; the others go on
                trains = False
            subject = subject if trains else self.fitted(reads)
        subject.module.eval()
        return subject


def train(subject: Subject, steps: int, *, rate: float) -> list[float]:
    """Train on one batch with Adam; returns the loss of every step."""
    samples = subject.samples(SHORT)
    target = labels(len(SHORT)).to(subject.device)
    subject.module.train()
    optimiser = torch.optim.Adam([p for p in subject.module.parameters() if p.requires_grad], lr=rate)
    losses: list[float] = []
    for _ in range(steps):
        loss: Any = ccc_loss(subject.predictions(samples), target)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


def sheltered() -> AbstractContextManager[None]:
    """Give chance its state back afterwards, on the CPU and on accelerators that are in use."""
    devices = range(torch.cuda.device_count()) if cast(Any, torch.cuda).is_initialized() else ()
    return torch.random.fork_rng(devices=list(devices))


def refused(error: BaseException) -> bool:
    """Tell whether a plugin said no by itself, in an error of our family: nothing else was raised underneath."""
    below = error.__cause__
    return isinstance(error, PluginError) and (below is None or refused(below))


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"there is no device '{name}' here ({one_line(error)}). Give cpu, cuda or cuda:N."
        ) from error


def _unpooled(spec: Any, widths: Mapping[str, int]) -> dict[str, int]:
    """Return encoders' widths that a pooling turns into these: half where it doubles them."""
    return {m: w // 2 if spec.pooling == "mean_std" else w for m, w in widths.items()}


def _fit(subject: Subject, folder: Path) -> None:
    """Let a subject count or solve what it does, on made-up train rows."""
    module, whose = subject.module, subject.whose
    if isinstance(subject, EncoderSubject):
        if subject.reads == ("text",) and hasattr(module, "fit"):
            with calling(whose, "in fit"):
                module.fit([*TEXTS, *TEXTS])
        return
    lengths = [0.4 + 0.05 * n for n in range(16)]
    if isinstance(subject, SystemSubject):
        system.fit_texts(module, [*TEXTS, *TEXTS])
        if isinstance(module, system.Whole):
            module.fit(rows(lengths, folder))
            return
    solve = system.fit_head(module) if isinstance(subject, SystemSubject) else getattr(module, "fit", None)
    if solve is None or (isinstance(subject, HeadSubject) and not subject.pooled):  # the latter, "spec" tells
        return
    module.eval()
    with torch.no_grad():
        samples = subject.samples(lengths)
        if isinstance(subject, SystemSubject):
            vectors = system.pooled(module, subject.batch(samples))
        else:
            stacked = {m: torch.stack([sample[m] for sample in samples]) for m in subject.reads}
            vectors = stacked.get("audio"), stacked.get("text")
    module.train()
    with calling(whose, "in fit"):
        solve(*vectors, labels(len(lengths)))
