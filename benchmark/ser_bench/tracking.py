"""Follow a training elsewhere than in its log: TensorBoard, Weights & Biases and the like, through accelerate."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ser_bench.errors import TrainingError

PROJECT = "ser-bench"
TRACKERS = {
    "aim": "aim",
    "clearml": "clearml",
    "comet_ml": "comet_ml",
    "dvclive": "dvclive",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""accelerate's name -> the module that it needs, whose distribution has the same name (an optional dependency)."""


def require(name: str) -> None:
    """Refuse a tracker that is unknown or whose package is missing, before anything is done.

    Raises:
        TrainingError: which, with a near match or what to install.
    """
    if name not in TRACKERS:
        near = difflib.get_close_matches(name, TRACKERS, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise TrainingError(f"tracker '{name}' is unknown. {hint}Known are {', '.join(TRACKERS)}.")
    if importlib.util.find_spec(TRACKERS[name]) is None:
        raise TrainingError(
            f"--tracker {name} needs the package {TRACKERS[name]}, which is not installed. Install it with "
            f"`pip install {TRACKERS[name]}`, or leave --tracker out: log.jsonl is always written."
        )


@contextmanager
def tracking(
    accelerator: Any, name: str | None, folder: Path, settings: Mapping[str, Any], seed: int
) -> Iterator[None]:
    """Send what the accelerator logs to a tracker for a while.

    Args:
        accelerator: accelerate's.
        name: one of ``TRACKERS``; None: nothing is tracked.
        folder: of the seed; a tracker that writes files has them under ``tracker/`` in it.
        settings: of the run, told to the tracker.
        seed: told too.
    """
    if name is None:
        yield
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    where = {"logging_dir": folder / "tracker"} if kind.requires_logging_directory else {}
    tracker = kind(PROJECT, **where)
    tracker.start()
    try:
        tracker.store_init_configuration(_flat({**settings, "seed": seed}))
        accelerator.trackers = [tracker]
        yield
    finally:
        accelerator.trackers = []
        tracker.finish()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names, as plain numbers and words, which is what trackers take."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = inner if isinstance(inner, bool | int | float | str) else str(inner)
    return flat
