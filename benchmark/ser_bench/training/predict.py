"""Predict a partition: batched in length order, each utterance's number independent of its batch mates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ser_bench.errors import SerBenchError, TrainingError
from ser_bench.training.batches import Batch, Inputs, batches, length_order


def forward(system: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the system's predictions for a batch, [b, 3] float32 on 0..1.

    Raises:
        TrainingError: the system gives another shape ([1, 3] will do for one that reads nothing).
    """
    try:
        predicted = system(batch.audio, batch.audio_lengths, batch.text, batch.text_lengths)
    except (SerBenchError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a stranger's code
        first = (str(error).strip().splitlines() or [""])[0]
        raise TrainingError(
            f"the system's forward failed on a batch of {len(batch.index)} utterances: {type(error).__name__}: "
            f"{first}. Correct the plugin; --debug shows where."
        ) from error
    size = len(batch.index)
    shapes = {(size, 3)} if batch.audio is not None or batch.text is not None else {(size, 3), (1, 3)}
    if not isinstance(predicted, torch.Tensor) or tuple(predicted.shape) not in shapes:
        given = list(predicted.shape) if isinstance(predicted, torch.Tensor) else type(predicted).__name__
        raise TrainingError(f"the system gave {given}, expected [{size}, 3]. Correct the plugin's forward.")
    return predicted.float().expand(size, 3)


@contextmanager
def naming_memory(inputs: Inputs, index: NDArray[np.int64]) -> Iterator[None]:
    """Turn running out of memory into an error that names the batch at ``index``."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        names = ", ".join(inputs.utterance[int(n)] for n in index[:3])
        raise TrainingError(
            f"out of memory on a batch of {len(index)} utterances (longest {inputs.duration[index].max():.1f} s; "
            f"first: {names}). Use a smaller depth, a larger device, or --set recipe.batch_size=N (another recipe)."
        ) from error


@torch.no_grad()
def predict(system: nn.Module, inputs: Inputs, *, batch_size: int, device: torch.device) -> NDArray[np.float64]:
    """Return [n, 3] on 0..1, in the partition's order; values outside are kept as they are.

    Raises:
        TrainingError: a prediction is not finite, or out of memory; names the utterance.
    """
    was_training = system.training
    system.eval()
    out = np.full((len(inputs), 3), np.nan)
    for batch in batches(inputs, length_order(inputs.duration, batch_size), device):
        with naming_memory(inputs, batch.index):
            out[batch.index] = forward(system, batch).double().cpu().numpy()
    system.train(was_training)
    bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
    if len(bad):
        raise TrainingError(
            f"{len(bad)} of {len(out)} predictions are not finite (first: {inputs.utterance[int(bad[0])]}). "
            "Lower recipe.learning_rate, or look for the fault in the plugin's forward."
        )
    return out
