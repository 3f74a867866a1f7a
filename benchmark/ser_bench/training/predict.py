"""Predict a partition: batched in length order, each utterance's number independent of its batch mates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ser_bench.errors import SerBenchError, TrainingError
from ser_bench.foreign import out_of_memory
from ser_bench.training.batches import Batch, Inputs, batches
from ser_bench.training.ranks import Ranks

MOST = 8  # times the recipe's batch: beyond that, a batch of the shortest gains nothing


def forward(system: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the system's predictions for a batch, [b, 3] on 0..1, in float32 or wider.

    Raises:
        TrainingError: the system gives another shape ([1, 3] will do for one that reads nothing).
    """
    try:
        predicted = system(batch.audio, batch.audio_lengths, batch.text, batch.text_lengths)
    except SerBenchError:
        raise
    except Exception as error:  # a stranger's code
        if out_of_memory(error):
            raise
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
    return predicted.to(torch.promote_types(predicted.dtype, torch.float32)).expand(size, 3)


@contextmanager
def naming_memory(inputs: Inputs, index: NDArray[np.int64], micro_batch: int | None = None) -> Iterator[None]:
    """Turn running out of memory into an error that names the batch at ``index`` and what to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        names = ", ".join(inputs.utterance[int(n)] for n in index[:3])
        at_once = min(micro_batch or len(index), len(index))
        smaller = f"--micro-batch {max(1, at_once // 2)} (the same gradient), " if at_once > 1 else ""
        raise TrainingError(
            f"out of memory on a batch of {len(index)} utterances, {at_once} at once (longest "
            f"{inputs.duration[index].max():.1f} s; first: {names}). Use {smaller}a smaller depth, or a larger device."
        ) from error


def budget_order(duration: NDArray[np.float64], batch_size: int) -> list[NDArray[np.int64]]:
    """Return batches in order of length, longest first, each of as many utterances as fit where the first batch fits.

    A batch of ``batch_size`` of the longest has ``batch_size`` x longest seconds with its padding; shorter utterances
    fill the same time in greater number. The longest come first, so that what does not fit in memory shows at once.
    """
    order = np.argsort(-duration, kind="stable")
    budget = batch_size * float(duration.max(initial=0.0))
    found, first = [], 0
    while first < len(order):
        longest = float(duration[order[first]])
        size = max(batch_size, int(budget / longest + 1e-9)) if longest > 0 else batch_size
        size = min(size, MOST * batch_size)
        found.append(order[first : first + size])
        first += size
    return found


@torch.no_grad()
def predict(
    system: nn.Module, inputs: Inputs, *, batch_size: int, device: torch.device, ranks: Ranks | None = None
) -> NDArray[np.float64]:
    """Return [n, 3] on 0..1, in the partition's order; values outside are kept as they are.

    Args:
        system: any.
        inputs: n utterances.
        batch_size: how many of the longest go through at once.
        device: where the system is.
        ranks: processes that share the work; each gets all of the result.

    Raises:
        TrainingError: a prediction is not finite, or out of memory; names the utterance.
    """
    ranks = ranks or Ranks()
    was_training = system.training
    system.eval()
    shared = budget_order(inputs.duration, batch_size)
    order = shared[ranks.own(len(shared))]
    out = torch.zeros((len(inputs), 3), dtype=torch.float64)
    found = []
    loaded = batches(inputs, order, device)
    for index in order:
        with naming_memory(inputs, index):
            found.append(forward(system, next(loaded)))
    if found:  # fetched in the end, so that a GPU is not waited for batch by batch
        out[torch.from_numpy(np.concatenate(order))] = torch.cat(found).double().cpu()
    system.train(was_training)
    together = out.to(ranks.device)
    ranks.sum_(together)  # the others' rows are 0 here
    values = together.cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise TrainingError(
            f"{len(bad)} of {len(values)} predictions are not finite (first: {inputs.utterance[int(bad[0])]}). "
            "Lower recipe.learning_rate, or look for the fault in the plugin's forward."
        )
    return values
