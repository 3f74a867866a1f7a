"""The processes that train one system together, and what they tell each other.

Gradients are summed here and not by DistributedDataParallel: it averages, which is another number where processes hold
unequal shares of a batch, and it cannot know which parameters the other parts of a divided batch will use.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from accelerate import Accelerator
from torch import Tensor, nn

from ser_bench.errors import OtherProcessError
from ser_bench.foreign import out_of_memory

T = TypeVar("T")
SLICE_BYTES = 64 << 20  # gradients sent together: large enough to fill a link, small beside the model


class Ranks:
    """This process among ``count``; alone, everything here is free.

    Whatever is exchanged raises OtherProcessError where another process has ended.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        """Take the processes of an accelerator; None: this one alone."""
        self.index = 0 if accelerator is None else int(accelerator.process_index)
        self.count = 1 if accelerator is None else int(accelerator.num_processes)
        self.device = torch.device("cpu") if accelerator is None else accelerator.device
        if self.count > 1:
            _hosts(distributed.group.WORLD)  # all processes have to make it together

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.index == 0

    def own(self, size: int) -> slice:
        """Return which of ``size`` things are this process's; every ``count``-th, so that lengths are shared out."""
        return slice(self.index, size, self.count)

    def sum_(self, tensor: Tensor) -> None:
        """Add up a tensor over the processes, in place."""
        if self.count > 1:
            with _exchanging():
                distributed.all_reduce(tensor)

    def agreed(self, flags: Sequence[bool]) -> list[bool]:
        """Return which flags any process has set."""
        if self.count == 1:
            return list(flags)
        together = torch.tensor(flags, dtype=torch.uint8)
        with _exchanging():
            distributed.all_reduce(together, op=distributed.ReduceOp.MAX, group=_hosts(distributed.group.WORLD))
        return [bool(flag) for flag in together.tolist()]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up gradients; a parameter that no process used keeps None, which an optimiser leaves alone."""
        if self.count == 1:
            return
        used = self.agreed([p.grad is not None for p in parameters])
        gradients = []
        for parameter, by_any in zip(parameters, used, strict=True):
            if by_any and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for together in _slices(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in together])
            with _exchanging():
                distributed.all_reduce(flat)
            for gradient, summed in zip(together, torch.split(flat, [g.numel() for g in together]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def from_main(self, value: T) -> T:
        """Return the main process's value; it travels pickled, between processes of one run."""
        if self.count == 1:
            return value
        held = [value]
        with _exchanging():
            distributed.broadcast_object_list(
                held, src=0, device=torch.device("cpu"), group=_hosts(distributed.group.WORLD)
            )
        return held[0]

    @torch.no_grad()
    def as_main(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have on the main process."""
        if self.count > 1:
            for tensor in tensors:
                there = tensor.to(self.device).contiguous()
                with _exchanging():
                    distributed.broadcast(there, src=0)
                tensor.copy_(there)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.agreed([True])  # of nothing at all, gloo waits for nobody


@contextmanager
def _exchanging() -> Iterator[None]:
    """Tell a connection that broke from a fault of this process."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise OtherProcessError(
            "another process of this run has ended, or cannot be reached; what it said itself tells why. Correct that, "
            "then give the same command with --resume."
        ) from error


@cache
def _hosts(world: Any) -> Any:
    """Return the group that reaches the processes over their hosts, so that what the loop asks never waits for a GPU.

    Made once for each start of the processes.
    """
    group = world if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")
    atexit.register(_leave)
    return group


def _leave() -> None:
    """End gloo's threads: one that lets go of a tensor while the interpreter ends would abort a finished run."""
    if distributed.is_initialized():
        distributed.destroy_process_group(_hosts(distributed.group.WORLD))
    _hosts.cache_clear()  # its threads end with the last reference to a group, so nothing else here keeps one


def _slices(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Yield tensors of one type that are sent together."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        together = kinds.setdefault(tensor.dtype, [])
        if sum(t.nbytes for t in together) + tensor.nbytes > SLICE_BYTES and together:
            yield together
            together = kinds[tensor.dtype] = []
        together.append(tensor)
    yield from (together for together in kinds.values() if together)
