"""The order of an epoch: what it must hold, and what it must not give away."""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_frames import anonymous_bytes

from ser_bench import frames
from ser_bench.errors import TrainingError
from ser_bench.frames import Computed, Part, Store
from ser_bench.training.batches import AHEAD, Inputs, batches, epoch_order, length_order, load

N, SIZE = 103, 8  # 103 = 12 x 8 + 7
DURATION = np.random.default_rng(0).uniform(2.75, 11.0, N)


def order(
    epoch: int, *, seed: int = 1, duration: np.ndarray = DURATION, size: int = SIZE, buckets: int = 4
) -> list[list[int]]:
    return [batch.tolist() for batch in epoch_order(duration, size, buckets, seed=seed, epoch=epoch)]


def test_every_batch_has_exactly_its_size() -> None:
    for epoch in range(20):
        batches_of_epoch = order(epoch)
        assert {len(batch) for batch in batches_of_epoch} == {SIZE}
        # What is left of n utterances an epoch is carried over: 12 or 13 batches, never a short one.
        assert len(batches_of_epoch) == N * (epoch + 1) // SIZE - N * epoch // SIZE


def test_every_utterance_comes_once_an_epoch_up_to_the_remainder() -> None:
    counts: Counter[int] = Counter()
    for epoch in range(8):
        seen = Counter(n for batch in order(epoch) for n in batch)
        assert max(seen.values()) <= 2  # carried over, and in its own epoch
        counts += seen
        # Nobody is ahead or behind by more than the remainder that waits for the next epoch.
        waiting = N * (epoch + 1) % SIZE
        assert sum(counts.values()) == N * (epoch + 1) - waiting
        assert [counts[n] for n in range(N)].count(epoch) == waiting
        assert set(counts.values()) <= {epoch, epoch + 1}
    assert waiting == 0  # after 8 epochs of 103 in batches of 8 nobody waits


def test_the_remainder_opens_the_next_epoch() -> None:
    first = {n for batch in order(0, buckets=1) for n in batch}
    left = set(range(N)) - first
    assert len(left) == N % SIZE
    second = Counter(n for batch in order(1, buckets=1) for n in batch)
    assert left <= second.keys()
    assert {n for n, count in second.items() if count == 2} <= left


def test_a_function_of_seed_and_epoch() -> None:
    np.random.seed(0)
    first = order(3)
    torch.manual_seed(5)
    np.random.seed(7)
    assert order(3) == first
    assert order(4) != first
    assert order(3, seed=2) != first
    members = [sorted(map(sorted, order(epoch, seed=seed))) for epoch, seed in ((3, 1), (4, 1), (3, 2))]
    assert members[0] != members[1]
    assert members[0] != members[2]


def padding(batches_of_epoch: list[list[int]], duration: np.ndarray) -> float:
    """Return the share of a batch that is padding."""
    padded = sum(duration[batch].max() * len(batch) for batch in batches_of_epoch)
    return float(1 - sum(duration[batch].sum() for batch in batches_of_epoch) / padded)


def test_buckets_save_padding() -> None:
    duration = np.random.default_rng(1).uniform(2.75, 11.0, 1600)
    bucketed = padding(order(0, duration=duration, size=16, buckets=8), duration)
    plain = padding(order(0, duration=duration, size=16, buckets=1), duration)
    assert plain > 0.3
    assert bucketed < plain / 3


def test_batches_keep_the_variance_of_labels_that_go_with_length() -> None:
    # Labels that follow length with a correlation of 0.5: what length does not explain (0.75) must stay within batches,
    # as far as sixteen values can hold it (15/16 of a variance); sorted by label, 1 % would.
    rng = np.random.default_rng(2)
    duration = rng.uniform(2.75, 11.0, 1600)
    standard = (duration - duration.mean()) / duration.std()
    label = 0.5 * standard + np.sqrt(0.75) * rng.normal(size=1600)
    found = order(0, duration=duration, size=16, buckets=8)
    kept = np.mean([label[batch].var() for batch in found]) / label.var()
    assert kept > 0.9 * 0.75 * 15 / 16
    by_label = np.argsort(label).reshape(-1, 16)
    assert np.mean([label[batch].var() for batch in by_label]) / label.var() < 0.05


def test_buckets_are_coarse_and_their_batches_shuffled() -> None:
    duration = np.random.default_rng(3).uniform(2.75, 11.0, 1600)
    found = order(0, duration=duration, size=16, buckets=8)
    lengths = [duration[batch].mean() for batch in found]
    assert 0.35 < (np.diff(lengths) > 0).mean() < 0.65  # sorted within a bucket of eight, 7/8 would grow
    # Sorted as a whole, the batches' lengths would not overlap; and every epoch would bring the same company together.
    spans = [(duration[batch].min(), duration[batch].max()) for batch in found]
    overlapping = sum(a[0] < b[1] and b[0] < a[1] for i, a in enumerate(spans) for b in spans[:i])
    assert overlapping > 5 * len(spans)
    pairs = [
        {(a, b) for batch in order(epoch, duration=duration, size=16, buckets=8) for a in batch for b in batch if a < b}
        for epoch in (0, 1)
    ]
    assert len(pairs[0] & pairs[1]) < 0.2 * len(pairs[0])


def test_too_few_utterances() -> None:
    with pytest.raises(TrainingError) as caught:
        order(0, duration=DURATION[:5])
    assert str(caught.value) == (
        "a batch takes 8 utterances, and train has 5. Use a larger release or --set recipe.batch_size=5."
    )
    assert [len(batch) for batch in order(0, duration=DURATION[:8])] == [8]


def test_length_order_is_longest_first_and_complete() -> None:
    duration = np.array([1.0, 5.0, 3.0, 5.0, 2.0])
    assert [batch.tolist() for batch in length_order(duration, 2)] == [[1, 3], [2, 4], [0]]


def test_padding_is_at_the_end_and_zero() -> None:
    audio = [np.full((t, 2), t, np.float16) for t in (3, 1, 2)]
    text = [np.arange(1, t + 1, dtype=np.int32) for t in (1, 4, 2)]
    inputs = Inputs(
        utterance=list("abc"),
        duration=np.ones(3),
        labels=np.zeros((3, 3), np.float32),
        audio=audio,  # type: ignore[arg-type]
        text=text,  # type: ignore[arg-type]
    )
    kept = load(inputs, np.array([2, 0]))
    assert kept.audio is not None
    assert kept.audio.dtype == torch.float16  # as it is stored, until it is where it is computed on
    batch = kept.to(torch.device("cpu"))
    assert batch.audio is not None
    assert batch.text is not None
    assert batch.audio.dtype == torch.float32
    assert batch.audio[:, :, 0].tolist() == [[2, 2, 0], [3, 3, 3]]
    assert batch.audio_lengths is not None
    assert batch.audio_lengths.tolist() == [2, 3]
    assert batch.text.dtype == torch.int64
    assert batch.text.tolist() == [[1, 2], [1, 0]]
    found = list(batches(inputs, [np.array([1]), np.array([0, 2])], torch.device("cpu")))
    assert [b.index.tolist() for b in found] == [[1], [0, 2]]
    silent = load(
        Inputs(utterance=["a"], duration=np.ones(1), labels=inputs.labels[:1], audio=None, text=None), np.array([0])
    )
    assert (silent.audio, silent.audio_lengths, silent.text, silent.text_lengths) == (None, None, None, None)


def sparse_store(folder: Path, count: int) -> Store:
    """Return a store of utterances with the corpus' lengths whose data are a hole in a file: 300 kB each, and free."""
    rng = np.random.default_rng(0)
    rows = np.clip(rng.normal(5.69, 2.35, count), 1.91, 11.94) * 50
    sums = {int(t): zlib.crc32(bytes(int(t) * 512 * 2)) for t in np.unique(rows.astype(int))}
    starts = np.concatenate([[0], np.cumsum(rows.astype(int))])
    entries = [
        {"start": start, "rows": int(t), "sum": sums[int(t)], "stamp": "", "truncated": False}
        for start, t in zip(starts[:-1].tolist(), rows, strict=True)
    ]
    folder.mkdir()
    frames._write_index(folder, entries, 512, "float16")
    with (folder / "data.bin").open("wb") as data:
        data.truncate(int(starts[-1]) * 512 * 2)
    return Store(folder, [f"{n}.wav" for n in range(count)])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon from /proc")
def test_reading_is_flat_in_memory(tmp_path: Path) -> None:
    """Anonymous memory over 29 GB of frames is what it is over a hundredth of that, but for index and names."""

    def after_reading(count: int) -> int:
        store = sparse_store(tmp_path / str(count), count)
        duration = store._rows / 50
        inputs = Inputs(utterance=store.names, duration=duration, labels=np.zeros((count, 3)), audio=store, text=None)
        order = epoch_order(duration, 16, 8, seed=1, epoch=0)
        assert len(order) == count // 16
        for batch in batches(inputs, order[:62], torch.device("cpu")):
            assert batch.audio is not None
            assert batch.audio.shape[2] == 512
        return anonymous_bytes()

    few = after_reading(1000)
    many = after_reading(100_000)
    assert (tmp_path / "100000" / "data.bin").stat().st_size > 29e9
    assert many - few < 300e6  # the bar is 1.5 GB


def test_nothing_is_read_ahead_after_the_last_batch_that_was_wanted() -> None:
    read: list[int] = []

    class Counted(list):  # type: ignore[type-arg]
        def __getitem__(self, number: Any) -> Any:
            read.append(number)
            return super().__getitem__(number)

    data = Inputs(
        utterance=[str(n) for n in range(100)],
        duration=np.ones(100),
        labels=np.zeros((100, 3), np.float32),
        audio=Counted([np.ones((3, 2), np.float16)] * 100),  # type: ignore[arg-type]
        text=None,
    )
    loaded = batches(data, [np.array([n]) for n in range(100)], torch.device("cpu"))
    assert next(loaded).index.tolist() == [0]
    loaded.close()  # type: ignore[attr-defined]
    assert len(read) <= 1 + AHEAD
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_what_is_computed_on_the_fly_is_computed_in_the_main_thread() -> None:
    seen = []

    def make(number: int) -> tuple[Any, bool]:
        seen.append(threading.current_thread() is threading.main_thread())
        return np.ones((2, 3), np.float32), False

    computed = Computed(list("abcd"), make, "float32")
    data = Inputs(
        utterance=list("ab"), duration=np.ones(2), labels=np.zeros((2, 3)), audio=Part(computed, 2, 2), text=None
    )
    assert len(list(batches(data, [np.array([0]), np.array([1])], torch.device("cpu")))) == 2
    assert seen == [True, True]
