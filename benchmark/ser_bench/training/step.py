"""The gradient of one batch, exactly, however the batch is divided over processes and parts.

A CCC is not the average of its parts' CCCs. So the predictions of all parts are brought together, the loss and its
gradient at the predictions are taken there, and each part goes backward from its own rows of that gradient: by the
chain rule the sum over parts is the gradient of the undivided batch. Letters: b utterances of the whole batch, k
attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_bench.training.batches import Batch
from ser_bench.training.loss import ccc_loss
from ser_bench.training.predict import forward
from ser_bench.training.ranks import Ranks


def divide(index: NDArray[np.int64], ranks: Ranks, micro_batch: int | None) -> list[NDArray[np.int64]]:
    """Return the parts of a batch that this process takes, each of at most ``micro_batch`` utterances."""
    own = index[ranks.own(len(index))]
    return np.array_split(own, -(-len(own) // (micro_batch or len(own))))


def backward(
    system: nn.Module,
    parts: Sequence[Batch],
    labels: Tensor,
    columns: Tensor,
    *,
    seed: Sequence[int],
    ranks: Ranks,
    autocast: Callable[[], AbstractContextManager[None]],
) -> Tensor:
    """Add the gradient of the whole batch's loss to the parameters, on every process alike.

    With several parts each goes forward twice, first without a graph, so that memory is that of one part; dropout draws
    the same masks both times. With one part there is one pass.

    Args:
        system: in training mode.
        parts: this process's share, as ``divide`` gives it.
        labels: [b, k] of the whole batch.
        columns: [k] int64, which of the three predictions the labels are of.
        seed: whole numbers; dropout is a function of them, the process and the part.
        ranks: the processes that share the batch.
        autocast: gives the precision's context. One for each pass: the weights that it keeps in bfloat16 are of one
            graph.

    Returns:
        The loss, a scalar without a graph.

    Raises:
        TrainingError: as ``predict.forward``.
    """

    def predicted(number: int, *, graph: bool) -> Tensor:
        seed_dropout([*seed, ranks.index, number])
        with torch.set_grad_enabled(graph), autocast():
            return forward(system, parts[number]).index_select(1, columns)

    divided = len(parts) > 1
    buffers = list(system.buffers()) if divided else []
    before = [buffer.clone() for buffer in buffers]
    found = [predicted(number, graph=not divided) for number in range(len(parts))]
    with torch.no_grad():  # what a forward counts (running statistics) is counted once, by the second pass
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
    whole = found[0].new_zeros(labels.shape)
    whole[ranks.own(len(labels))] = torch.cat(found).detach()
    ranks.sum_(whole)  # the other processes' rows are 0 here: nothing is rounded
    loss = ccc_loss(whole.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss, whole)
    rows = torch.split(gradient[ranks.own(len(labels))], [len(part.index) for part in parts])
    for number, own in enumerate(rows):
        again = predicted(number, graph=True) if divided else found[0]
        torch.autograd.backward(again, own)
    ranks.sum_gradients([p for p in system.parameters() if p.requires_grad])
    return loss.detach()


def seed_dropout(numbers: Sequence[int]) -> None:
    """Seed torch's generators by whole numbers; so no checkpoint has to hold their states."""
    torch.manual_seed(int(np.random.SeedSequence([int(n) for n in numbers]).generate_state(1, np.uint64)[0]))
