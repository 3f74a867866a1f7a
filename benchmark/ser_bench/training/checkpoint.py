"""Where a training is, on disk: one file that holds all a continuation needs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ser_bench import saved
from ser_bench.errors import StoreError, TrainingError


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
    processes: int = 1
    """Another number draws other dropout masks, and rounds otherwise."""
    before: list[str] = field(default_factory=list)
    """What it ran on before, where that was another number of either."""

    @property
    def told(self) -> str:
        """Where it is, for people."""
        return f"epoch {self.epoch}, step {self.step}"


class Checkpoints:
    """The files of one training: ``checkpoints/last.safetensors``, ``checkpoints/best-N.safetensors``, ``log.jsonl``.

    Every file is written whole or not at all, so that whatever stops the training leaves the checkpoint before.
    """

    def __init__(self, folder: Path) -> None:
        """Take the seed's folder."""
        self.folder = folder / "checkpoints"
        self.last = self.folder / "last.safetensors"
        self.log = folder / "log.jsonl"

    def save(self, system: nn.Module, optimiser: torch.optim.Optimizer, at: Position) -> None:
        """Write all that a continuation needs; dropout is seeded step by step and leaves no state.

        Raises:
            TrainingError: the disk is full or the folder cannot be written; says what there is to resume from.
        """
        model, extra = saved.state(system, trained_only=True)
        moments, settings = saved.optimiser_state(optimiser)
        tensors = {f"model.{k}": v for k, v in model.items()} | {f"optimiser.{k}": v for k, v in moments.items()}
        self._write(self.last, tensors, {"at": asdict(at), "extra": extra, "optimiser": settings}, at)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the last checkpoint, if there is one."""
        return saved.read(self.last) if self.last.exists() else None

    def save_best(self, system: nn.Module, at: Position) -> None:
        """Write the weights of the best epoch so far."""
        tensors, extra = saved.state(system, trained_only=True)
        self._write(self._best(at), tensors, {"extra": extra}, at)

    def forget_stale(self, at: Position) -> None:
        """Remove the weights of epochs that are no longer the best, once a checkpoint says so."""
        for stale in self.folder.glob("best-*.safetensors"):
            if stale != self._best(at):
                stale.unlink()

    def restore_best(self, system: nn.Module, at: Position) -> None:
        """Load the best epoch's weights."""
        tensors, about = saved.read(self._best(at))
        saved.restore(system, tensors, about["extra"], where=self._best(at))

    def append(self, at: Position, line: dict[str, Any]) -> None:
        """Append a line to log.jsonl and remember its length, so that a resumed run overwrites what it repeats.

        Raises:
            TrainingError: as ``save``.
        """
        text = json.dumps({**line, "seconds": round(at.trained_seconds, 3)}, sort_keys=True) + "\n"
        try:
            with self.log.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
                at.log_bytes = file.tell()
        except OSError as error:
            raise self._stopped(at, self.log, error) from error

    def truncate_log(self, size: int) -> None:
        """Cut log.jsonl back to what a checkpoint knows of."""
        if self.log.exists():
            os.truncate(self.log, size)

    def _best(self, at: Position) -> Path:
        return self.folder / f"best-{at.best_epoch}.safetensors"

    def _write(self, path: Path, tensors: dict[str, Tensor], about: dict[str, Any], at: Position) -> None:
        try:
            saved.write(path, tensors, about)
        except StoreError as error:
            raise self._stopped(at, path, error.__cause__ or error) from error

    def _stopped(self, at: Position, path: Path, cause: BaseException) -> TrainingError:
        """Return an error that says where the training stopped, and what it can go on from."""
        why = cause.strerror if isinstance(cause, OSError) else str(cause)
        free = shutil.disk_usage(self.folder).free
        there = (
            f"{self.last} is whole: add --resume." if self.last.exists() else "there is no checkpoint yet: start anew."
        )
        return TrainingError(
            f"training stopped at {at.told}: {path} cannot be written ({why}; {free:,} bytes are free). Make room or "
            f"correct the folder; {there}"
        )


def take_over(kept: tuple[dict[str, Tensor], dict[str, Any]], optimiser: torch.optim.Optimizer) -> Position:
    """Take over all of a checkpoint but the weights."""
    saved.restore_optimiser(optimiser, under(kept[0], "optimiser"), kept[1]["optimiser"])
    return Position(**kept[1]["at"])


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
