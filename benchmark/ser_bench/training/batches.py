"""From stored frames to padded batches, in an order that is a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_bench.ahead import in_order
from ser_bench.errors import TrainingError
from ser_bench.frames import Computed, Frames, whole

READERS = 2  # threads: one copies while another waits for the disk
AHEAD = 4  # batches read before they are asked for


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What training and prediction read of one partition's n utterances."""

    utterance: Sequence[str]
    duration: NDArray[np.float64]
    """[n] seconds; batches are bucketed by it."""
    labels: NDArray[np.float32]
    """[n, 3] on 0..1, NaN where withheld."""
    audio: Frames | None
    text: Frames | None

    def __len__(self) -> int:
        return len(self.utterance)


@dataclass(frozen=True)
class Batch:
    """b utterances, padded at the end with zeros to the longest."""

    index: NDArray[np.int64]
    """[b] positions in the partition."""
    audio: Tensor | None
    """[b, t, c] as it is stored; float32 once it is ``to`` a device."""
    audio_lengths: Tensor | None
    """[b] int64."""
    text: Tensor | None
    """[b, t] token ids, or [b, t, d] states where the text encoder is frozen; int64 or float32 once ``to`` a device."""
    text_lengths: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, in float32 and int64 (wider types stay)."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            there = tensor.to(device, non_blocking=True)  # as it is stored: half the bytes of float32
            wide = torch.float32 if there.is_floating_point() else torch.int64
            return there.to(torch.promote_types(there.dtype, wide))

        return Batch(
            self.index, moved(self.audio), moved(self.audio_lengths), moved(self.text), moved(self.text_lengths)
        )


def epoch_order(
    duration: NDArray[np.float64], batch_size: int, bucket_batches: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Return the batches of one epoch, each of exactly ``batch_size`` positions.

    A fresh permutation every epoch, preceded by the last epoch's incomplete remainder; pools of ``bucket_batches``
    batches are sorted by length within, so padding is small while a batch still holds utterances from all over the
    partition (the CCC of a batch needs their variance); then the batches are shuffled. An utterance that was carried
    over may meet its own copy in the first pool.

    Raises:
        TrainingError: fewer utterances than a batch takes.
    """
    n = len(duration)
    if n < batch_size:
        raise TrainingError(
            f"a batch takes {batch_size} utterances, and train has {n}. Use a larger release or "
            f"--set recipe.batch_size={max(2, n)}."
        )
    carried = (n * epoch) % batch_size
    order = _permutation(n, seed, epoch)
    if carried:
        order = np.concatenate([_permutation(n, seed, epoch - 1)[n - carried :], order])
    order = order[: len(order) // batch_size * batch_size]
    batches: list[NDArray[np.int64]] = []
    for first in range(0, len(order), batch_size * bucket_batches):
        pool = order[first : first + batch_size * bucket_batches]
        pool = pool[np.argsort(duration[pool], kind="stable")]
        batches += np.split(pool, len(pool) // batch_size)
    shuffle = np.random.default_rng([seed, epoch, 1]).permutation(len(batches))
    return [batches[position] for position in shuffle]


def length_order(duration: NDArray[np.float64], batch_size: int) -> list[NDArray[np.int64]]:
    """Return batches in order of length, longest first (so that what does not fit in memory shows at once)."""
    order = np.argsort(-duration, kind="stable")
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def load(inputs: Inputs, index: NDArray[np.int64], *, pinned: bool = False) -> Batch:
    """Read and pad the utterances at ``index``; into pinned memory, which a GPU copies from while it computes."""
    audio, audio_lengths = _padded(inputs.audio, index, pinned)
    text, text_lengths = _padded(inputs.text, index, pinned)
    return Batch(index, audio, audio_lengths, text, text_lengths)


def batches(inputs: Inputs, order: Sequence[NDArray[np.int64]], device: torch.device) -> Iterator[Batch]:
    """Yield the batches of an order on the device; what is stored is read ahead, by threads.

    Reading and copying let other threads of Python run. Frames that are computed on the fly are not read ahead: a
    stranger's front end need not be safe to call from several threads.

    Raises:
        StoreError: what is stored cannot be read.
    """
    pinned = device.type == "cuda"
    if any(isinstance(whole(f), Computed) for f in (inputs.audio, inputs.text)):
        for index in order:
            yield load(inputs, index, pinned=pinned).to(device)
        return
    for batch in in_order(partial(load, inputs, pinned=pinned), order, threads=READERS, ahead=AHEAD):
        yield batch.to(device)


def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, 0]).permutation(n)


def _padded(frames: Frames | None, index: NDArray[np.int64], pinned: bool) -> tuple[Tensor | None, Tensor | None]:
    if frames is None:
        return None, None
    arrays = [frames[int(number)] for number in index]
    lengths = torch.tensor([len(array) for array in arrays], dtype=torch.int64, pin_memory=pinned)
    kept = torch.from_numpy(arrays[0]).dtype
    shape = (len(arrays), max(map(len, arrays)), *arrays[0].shape[1:])
    padded = torch.zeros(shape, dtype=kept, pin_memory=pinned)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = torch.from_numpy(array)
    return padded, lengths
