"""Train a system: one loop, read from top to bottom.

What is random in it: the order (a function of seed and epoch, ``batches.epoch_order``) and dropout (a function of seed,
epoch, step, process and part, ``step.seed_dropout``). So a killed run that is continued gives what an undisturbed one
gives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

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
from ser_bench.training.checkpoint import Checkpoints, take_over, under
from ser_bench.training.checkpoint import Position as Position
from ser_bench.training.predict import naming_memory, predict
from ser_bench.training.ranks import Ranks
from ser_bench.training.step import backward, divide
from ser_bench.training.stop import Stop

log = logging.getLogger(__name__)

CHECK_EVERY = 50  # steps between looks at the loss: often enough to stop early, seldom enough not to stall a GPU
Progress = Callable[[str, int, int], None]
"""Called with what is going on, steps done in this epoch, and steps in it."""


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
    micro_batch: int | None = None,
    checkpoint_minutes: float = 10.0,
    progress: Progress | None = None,
) -> Position:
    """Train until development stops getting better; leave the best epoch's weights in ``system``.

    Several processes (``accelerate launch``) share each batch: all of them call this alike, and the main one writes.

    Args:
        system: a built system; every parameter that requires a gradient is trained. Without one, nothing is.
        train, development: what is read.
        recipe: batch size, rates, patience, attributes.
        seed: of the order and of dropout; the caller has seeded torch before building.
        folder: takes ``log.jsonl`` and ``checkpoints/``.
        accelerator: device, precision, processes.
        resume: go on from the last checkpoint, if there is one.
        micro_batch: utterances that go through the system at once; the gradient stays that of the whole batch.
        checkpoint_minutes: a checkpoint is written at the end of every epoch, and within one after this much time.
        progress: told after each step.

    Raises:
        TrainingError: too few utterances, a loss that is not finite (names the batch), out of memory, or a checkpoint
            that cannot be written.
        KeyboardInterrupt: it was interrupted, and has written a checkpoint to go on from.
    """
    ranks, files = Ranks(accelerator), Checkpoints(folder)
    check_division(recipe, ranks.count, micro_batch)
    columns = [ATTRIBUTES.index(attribute) for attribute in recipe.attributes]
    at = Position(threads=torch.get_num_threads(), processes=ranks.count)
    system.to(accelerator.device)
    if ranks.main:
        files.folder.mkdir(parents=True, exist_ok=True)
    if not any(p.requires_grad for p in system.parameters()):
        at.finished, at.best_epoch = True, 0
        at.best_ccc = _development(system, development, columns, recipe, accelerator, ranks)
        if ranks.main:
            files.truncate_log(0)
            files.append(at, {"epoch": 0, "development": at.best_ccc, "note": "nothing to train"})
        return at
    kept = ranks.from_main(files.load() if resume and ranks.main else None)
    if kept is not None:  # before the optimiser is made: an extra state may make parameters anew
        saved.restore(system, under(kept[0], "model"), kept[1]["extra"], where=files.last)
    optimiser = _optimiser(system, recipe)
    if kept is not None:
        at = _resumed(take_over(kept, optimiser), at)
    del kept  # weights and moments, which are in the system and the optimiser now
    ranks.as_main(saved.state(system)[0].values())
    if ranks.main:
        files.truncate_log(at.log_bytes)

    with Stop(launched=ranks.count > 1) as stop:
        steps = _Steps(
            system=system,
            optimiser=optimiser,
            train=train,
            columns=columns,
            accelerator=accelerator,
            ranks=ranks,
            files=files,
            stop=stop,
            checkpoint_seconds=checkpoint_minutes * 60,
            progress=progress,
        )
        while not at.finished and at.epoch <= recipe.epochs:
            if at.epoch > 0:  # epoch 0 scores the start
                steps.take(at, recipe, seed=seed, micro_batch=micro_batch)
            ranks.as_main(system.buffers())  # running statistics are of a process's own share
            try:
                with stop.at_once():
                    ccc = _development(system, development, columns, recipe, accelerator, ranks)
            except KeyboardInterrupt:
                files.save(system, optimiser, at)
                raise
            loss = float(np.mean(at.losses)) if at.losses else None
            if ranks.main:
                line = {"epoch": at.epoch, "loss": loss, "development": ccc}
                files.append(at, line)
                accelerator.log({k: v for k, v in line.items() if v is not None}, step=at.epoch)  # to trackers, if any
            if ccc > at.best_ccc:
                at.best_epoch, at.best_ccc = at.epoch, ccc
                if ranks.main:
                    files.save_best(system, at)
            at.finished = at.epoch >= recipe.epochs or at.epoch - at.best_epoch >= recipe.patience
            at.epoch, at.step, at.losses = at.epoch + 1, 0, []
            if ranks.main:
                files.save(system, optimiser, at)
                files.forget_stale(at)
            steps.saved_at = time.monotonic()
            if ranks.agreed([stop.asked])[0]:  # which the main process says after it has saved
                raise KeyboardInterrupt
    if ranks.main:
        files.restore_best(system, at)
    ranks.as_main(saved.state(system)[0].values())
    return at


@dataclass(kw_only=True)
class _Steps:
    """What the steps of every epoch are taken with."""

    system: nn.Module
    optimiser: torch.optim.Optimizer
    train: Inputs
    columns: list[int]
    accelerator: Accelerator
    ranks: Ranks
    files: Checkpoints
    stop: Stop
    checkpoint_seconds: float
    progress: Progress | None
    saved_at: float = field(default_factory=time.monotonic)

    def take(self, at: Position, recipe: Recipe, *, seed: int, micro_batch: int | None) -> None:
        """Take the rest of an epoch's steps; on a GPU, nothing in one waits for the GPU.

        Raises:
            TrainingError: as ``fit``.
            KeyboardInterrupt: as ``fit``.
        """
        train, ranks, device = self.train, self.ranks, self.accelerator.device
        order = epoch_order(train.duration, recipe.batch_size, recipe.bucket_batches, seed=seed, epoch=at.epoch - 1)
        divided = [divide(index, ranks, micro_batch) for index in order]
        loaded = batches(train, [part for parts in divided[at.step :] for part in parts], device)
        # Copied once: an index or label that a step brought from the host would make it wait.
        labels = torch.from_numpy(train.labels[np.stack(order)][:, :, self.columns]).to(device)  # [steps, b, k]
        columns = torch.tensor(self.columns, device=device)
        self.system.train()
        recent: list[Tensor] = []
        began = time.monotonic()
        for index, parts in zip(order[at.step :], divided[at.step :], strict=True):
            with naming_memory(train, index, micro_batch):
                loss = backward(
                    self.system,
                    list(islice(loaded, len(parts))),
                    labels[at.step],
                    columns,
                    seed=(seed, at.epoch, at.step),
                    ranks=ranks,
                    autocast=self.accelerator.autocast,
                )
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
            recent.append(loss)
            at.step += 1
            at.trained_audio_seconds += float(train.duration[index].sum())
            stopping = ranks.agreed([self.stop.asked])[0]
            late = at.step < len(order) and time.monotonic() - self.saved_at > self.checkpoint_seconds
            if len(recent) == CHECK_EVERY or stopping or late or at.step == len(order):
                at.losses += _finite(recent, order[: at.step], train)
                at.trained_seconds += time.monotonic() - began
                recent = []
                if stopping or late:
                    if ranks.main:
                        self.files.save(self.system, self.optimiser, at)
                    self.saved_at = time.monotonic()
                began = time.monotonic()
            if stopping:
                ranks.wait()  # a launcher ends them all when one has ended
                raise KeyboardInterrupt
            if self.progress is not None:
                self.progress(f"epoch {at.epoch} (best development CCC {at.best_ccc:.3f})", at.step, len(order))


def check_division(recipe: Recipe, processes: int, micro_batch: int | None) -> None:
    """Refuse a batch that cannot be divided so.

    Raises:
        TrainingError: more processes than utterances in a batch, or parts without any.
    """
    if micro_batch is not None and micro_batch < 1:
        raise TrainingError(
            f"--micro-batch {micro_batch} was given; expected utterances that go through at once, 1 up."
        )
    if processes > recipe.batch_size:
        raise TrainingError(
            f"{processes} processes cannot share a batch of {recipe.batch_size}, which is the recipe's. Start at most "
            f"{recipe.batch_size}, or use --set recipe.batch_size={processes} (another recipe)."
        )


def _resumed(at: Position, here: Position) -> Position:
    """Return the position of a checkpoint as this run goes on from it; what may differ is said."""
    if at.threads != here.threads:
        log.warning("resuming with %d threads after %d: rounding may differ", here.threads, at.threads)
    if at.processes != here.processes:
        log.warning(
            "processes: %d, after %d before: dropout draws other masks, and rounding may differ",
            here.processes,
            at.processes,
        )
    if (at.threads, at.processes) != (here.threads, here.processes):
        at.before = [*at.before, f"{at.threads} threads, {at.processes} processes, to epoch {at.epoch}"]
    at.threads, at.processes = here.threads, here.processes
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
    return kinds[recipe.optimiser](
        [g for g in groups if g["params"]],
        weight_decay=recipe.weight_decay,
        fused=True,  # one pass over the weights instead of one for each operation
    )


def _development(
    system: nn.Module,
    development: Inputs,
    columns: list[int],
    recipe: Recipe,
    accelerator: Accelerator,
    ranks: Ranks,
) -> float:
    """Return the mean CCC over the recipe's attributes on development; the same number on every process."""
    with accelerator.autocast():
        predicted = predict(system, development, batch_size=recipe.batch_size, device=accelerator.device, ranks=ranks)
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
