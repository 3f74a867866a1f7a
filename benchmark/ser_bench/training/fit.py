"""Train a system: one loop, read from top to bottom.

What is random in it: the order (a function of seed and epoch, ``batches.epoch_order``) and dropout (torch's
generators, kept in every checkpoint). So a killed run that is continued gives what an undisturbed one gives.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_bench import saved
from ser_bench.errors import TrainingError
from ser_bench.interface import ATTRIBUTES, Recipe
from ser_bench.scoring.ccc import concordance
from ser_bench.system import head_of
from ser_bench.training.batches import Inputs, batches, epoch_order
from ser_bench.training.loss import ccc_loss
from ser_bench.training.predict import forward, naming_memory, predict

log = logging.getLogger(__name__)

CHECK_EVERY = 50  # steps between looks at the loss: often enough to stop early, seldom enough not to stall a GPU
Progress = Callable[[str, int, int], None]
"""Called with what is going on, steps done in this epoch, and steps in it."""


@dataclass
class Position:
    """Where a training is; all of it is in every checkpoint."""

    epoch: int = 0
    """The epoch that is being trained, counted from 1; 0 before the first."""
    step: int = 0
    """Steps done in it."""
    best_epoch: int = -1
    best_ccc: float = -2.0
    """Development mean CCC of the best epoch (epoch 0 is the start, before any step)."""
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    """Of the epoch's steps so far."""
    trained_seconds: float = 0.0
    """Wall seconds spent in steps."""
    trained_audio_seconds: float = 0.0
    log_bytes: int = 0
    threads: int = 0
    """CPU threads; another number gives other rounding."""


def fit(
    system: nn.Module,
    train: Inputs,
    development: Inputs,
    recipe: Recipe,
    *,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
    resume: bool = False,
    checkpoint_minutes: float = 10.0,
    progress: Progress | None = None,
) -> Position:
    """Train until development stops getting better; leave the best epoch's weights in ``system``.

    Args:
        system: a built system; every parameter that requires a gradient is trained. Without one, nothing is.
        train, development: what is read.
        recipe: batch size, rates, patience, attributes.
        seed: of the order; the caller has seeded torch before building.
        folder: takes ``log.jsonl`` and ``checkpoints/``.
        accelerator: device and precision.
        resume: go on from the last checkpoint, if there is one.
        checkpoint_minutes: a checkpoint is written at the end of every epoch, and within one after this much time.
        progress: told after each step.

    Raises:
        TrainingError: too few utterances, a loss that is not finite (names the batch), or out of memory.
    """
    if accelerator.num_processes > 1:
        raise TrainingError(
            f"training was started with {accelerator.num_processes} processes; this version trains in one, so that the "
            "loss is the CCC of the whole batch. Start it without a launcher."
        )
    columns = [ATTRIBUTES.index(attribute) for attribute in recipe.attributes]
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    last = checkpoints / "last.safetensors"
    at = Position(threads=torch.get_num_threads())
    system.to(accelerator.device)
    if not any(p.requires_grad for p in system.parameters()):
        at.finished, at.best_epoch = True, 0
        _truncate(folder / "log.jsonl", 0)
        at.best_ccc = _development(system, development, columns, recipe, accelerator)
        _log(folder, at, {"epoch": 0, "development": at.best_ccc, "note": "nothing to train"})
        return at
    kept = saved.read(last) if resume and last.exists() else None
    if kept is not None:  # before the optimiser is made: an extra state may make parameters anew
        saved.restore(system, _under(kept[0], "model"), kept[1]["extra"], where=last)
    optimiser = _optimiser(system, recipe)
    model, stepper = accelerator.prepare(system, optimiser)
    if kept is not None:
        at = _resumed(*kept, optimiser, accelerator.device)
        if at.threads != torch.get_num_threads():
            log.warning("resuming with %d threads after %d: rounding may differ", torch.get_num_threads(), at.threads)
    _truncate(folder / "log.jsonl", at.log_bytes)

    saved_at = time.monotonic()
    labels = torch.from_numpy(train.labels[:, columns]).to(accelerator.device)
    while not at.finished and at.epoch <= recipe.epochs:
        if at.epoch > 0:  # epoch 0 scores the start
            order = epoch_order(train.duration, recipe.batch_size, recipe.bucket_batches, seed=seed, epoch=at.epoch - 1)
            model.train()
            recent: list[Tensor] = []
            began = time.monotonic()
            for batch in batches(train, order[at.step :], accelerator.device):
                with naming_memory(train, batch.index):
                    with accelerator.autocast():
                        predicted = forward(model, batch)
                    loss = ccc_loss(predicted[:, columns], labels[torch.from_numpy(batch.index).to(labels.device)])
                    accelerator.backward(loss)
                    stepper.step()
                    stepper.zero_grad(set_to_none=True)
                recent.append(loss.detach())
                at.step += 1
                at.trained_audio_seconds += float(train.duration[batch.index].sum())
                late = time.monotonic() - saved_at > checkpoint_minutes * 60
                if len(recent) == CHECK_EVERY or late or at.step == len(order):
                    at.losses += _finite(recent, order[: at.step], train)
                    at.trained_seconds += time.monotonic() - began
                    recent, began = [], time.monotonic()
                    if late and at.step < len(order):
                        _save(checkpoints, system, optimiser, at)
                        saved_at = began = time.monotonic()
                if progress is not None:
                    progress(f"epoch {at.epoch} (best development CCC {at.best_ccc:.3f})", at.step, len(order))
        ccc = _development(system, development, columns, recipe, accelerator)
        line = {"epoch": at.epoch, "loss": float(np.mean(at.losses)) if at.losses else None, "development": ccc}
        _log(folder, at, line)
        accelerator.log({k: v for k, v in line.items() if v is not None}, step=at.epoch)  # to trackers, if any
        if ccc > at.best_ccc:
            at.best_epoch, at.best_ccc = at.epoch, ccc
            tensors, extra = saved.state(system, trained_only=True)
            saved.write(checkpoints / f"best-{at.epoch}.safetensors", tensors, {"extra": extra})
        at.finished = at.epoch >= recipe.epochs or at.epoch - at.best_epoch >= recipe.patience
        at.epoch, at.step, at.losses = at.epoch + 1, 0, []
        _save(checkpoints, system, optimiser, at)
        saved_at = time.monotonic()
        for stale in checkpoints.glob("best-*.safetensors"):
            if stale.name != f"best-{at.best_epoch}.safetensors":
                stale.unlink()
    best = checkpoints / f"best-{at.best_epoch}.safetensors"
    tensors, about = saved.read(best)
    saved.restore(system, tensors, about["extra"], where=best)
    accelerator.free_memory()  # it would keep this system beside the next seed's
    return at


def _optimiser(system: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the recipe's optimiser; the head may have a rate of its own."""
    head = head_of(system)
    in_head = {id(p) for p in head.parameters()} if head is not None else set()
    trained = [p for p in system.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in in_head], "lr": recipe.learning_rate},
        {"params": [p for p in trained if id(p) in in_head], "lr": recipe.head_learning_rate or recipe.learning_rate},
    ]
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[recipe.optimiser]([g for g in groups if g["params"]], weight_decay=recipe.weight_decay)


def _development(
    system: nn.Module, development: Inputs, columns: list[int], recipe: Recipe, accelerator: Accelerator
) -> float:
    """Return the mean CCC over the recipe's attributes on development."""
    with accelerator.autocast():
        predicted = predict(system, development, batch_size=recipe.batch_size, device=accelerator.device)
    return float(np.mean([concordance(predicted[:, c], development.labels[:, c].astype(np.float64)) for c in columns]))


def _finite(losses: list[Tensor], done: list[NDArray[np.int64]], train: Inputs) -> list[float]:
    """Bring losses over from the device; stop at the first that is not a number."""
    values = [float(v) for v in torch.stack(losses).double().cpu()]
    for value, index in zip(values, done[len(done) - len(values) :], strict=True):
        if not np.isfinite(value):
            names = ", ".join(train.utterance[int(n)] for n in index[:3])
            raise TrainingError(
                f"the loss became {value} on the batch with {names} and {max(0, len(index) - 3)} more. "
                "Lower it with --set recipe.learning_rate=RATE, or look for the fault in the plugin's forward."
            )
    return values


def _save(checkpoints: Path, system: nn.Module, optimiser: torch.optim.Optimizer, at: Position) -> None:
    """Write one file that holds all a continuation needs."""
    model, extra = saved.state(system, trained_only=True)
    moments, settings = saved.optimiser_state(optimiser)
    tensors = {f"model.{k}": v for k, v in model.items()} | {f"optimiser.{k}": v for k, v in moments.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"random.cuda.{n}": s for n, s in enumerate(torch.cuda.get_rng_state_all())}
    about = {"at": asdict(at), "extra": extra, "optimiser": settings}
    saved.write(checkpoints / "last.safetensors", tensors, about)


def _resumed(
    tensors: dict[str, Tensor], about: dict[str, Any], optimiser: torch.optim.Optimizer, device: torch.device
) -> Position:
    """Take over all of a checkpoint but the weights."""
    saved.restore_optimiser(optimiser, _under(tensors, "optimiser"), about["optimiser"])
    random = _under(tensors, "random")
    torch.set_rng_state(random["cpu"])
    if device.type == "cuda":
        states = [random[f"cuda.{n}"] for n in range(torch.cuda.device_count()) if f"cuda.{n}" in random]
        torch.cuda.set_rng_state_all(states)
    return Position(**about["at"])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def _log(folder: Path, at: Position, line: dict[str, Any]) -> None:
    """Append a line to log.jsonl and remember its length, so that a resumed run overwrites what it repeats."""
    with (folder / "log.jsonl").open("ab") as file:
        file.write((json.dumps({**line, "seconds": round(at.trained_seconds, 3)}, sort_keys=True) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
        at.log_bytes = file.tell()


def _truncate(path: Path, size: int) -> None:
    if path.exists():
        os.truncate(path, size)
