"""The frames store under use and abuse: kills, full disks, damage, changed inputs, several processes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser_bench import frames
from ser_bench.errors import StoreError

Array = np.ndarray[Any, Any]
KEY = {"modality": "audio", "frontend": "abc", "condition": "clean"}
COUNT = 12
CHANNELS = 6


def utterance(number: int) -> Array:
    """Give the frames of one utterance: [3 + number, CHANNELS] float32."""
    return np.random.default_rng(number).normal(size=(3 + number, CHANNELS)).astype(np.float32)


class Front:
    """A front end that counts what it is asked for."""

    def __init__(self, give: Callable[[int], Array] = utterance) -> None:
        self.made: list[int] = []
        self.give = give

    def __call__(self, number: int) -> tuple[Array, bool]:
        self.made.append(number)
        return self.give(number), number % 5 == 0


def open_store(root: Path, make: frames.Make, *, count: int = COUNT, **changes: Any) -> frames.Store:
    arguments: dict[str, Any] = {
        "key": KEY,
        "names": [f"u{n}.wav" for n in range(count)],
        "stamps": [f"{n}:1" for n in range(count)],
        "costs": [float(3 + n) for n in range(count)],
        "dtype": "float16",
    } | changes
    key, names, stamps, costs = (arguments.pop(name) for name in ("key", "names", "stamps", "costs"))
    return frames.store(root, key, names, stamps, costs, make, **arguments)


def only_folder(root: Path) -> Path:
    (folder,) = (root / "frames").iterdir()
    return folder


def assert_whole(store: frames.Frames, give: Callable[[int], Array] = utterance, dtype: str = "float16") -> None:
    for number in range(len(store)):
        np.testing.assert_array_equal(store[number], give(number).astype(dtype))
        assert store[number].dtype == dtype
        assert store.truncated(number) is (number % 5 == 0)


def test_a_store_is_made_once_and_gives_back_what_was_made(tmp_path: Path) -> None:
    front, told = Front(), []
    store = open_store(tmp_path, front, progress=lambda done, total: told.append((done, total)))
    assert front.made == list(range(COUNT))
    assert told == [(n + 1, COUNT) for n in range(COUNT)]
    assert len(store) == COUNT
    assert_whole(store)
    assert store.nbytes == sum(3 + n for n in range(COUNT)) * CHANNELS * 2

    again = open_store(tmp_path, Front(lambda number: pytest.fail(f"utterance {number} was made again")))
    assert_whole(again)
    assert {path.name for path in only_folder(tmp_path).iterdir()} == {
        "data.bin", "index.npz", "key.json", "lock", "parts.jsonl"
    }  # fmt: skip


def test_an_array_read_is_the_readers_own(tmp_path: Path) -> None:
    store = open_store(tmp_path, Front())
    store[3][:] = 0
    assert_whole(store)


def test_the_order_of_reading_does_not_matter(tmp_path: Path) -> None:
    store = open_store(tmp_path, Front())
    for number in (11, 0, 5, 5, 0):
        np.testing.assert_array_equal(store[number], utterance(number).astype("float16"))


@pytest.mark.parametrize(
    "changes",
    [
        {"key": KEY | {"condition": "noise:babble@10dB"}},
        {"key": KEY | {"frontend": "abd"}},
        {"key": KEY | {"another": 1}},
        {"dtype": "float32"},
        {"names": [f"v{n}.wav" for n in range(COUNT)]},
        {"names": [f"u{n}.wav" for n in reversed(range(COUNT))]},
    ],
)
def test_what_the_arrays_depend_on_makes_another_store(tmp_path: Path, changes: dict[str, Any]) -> None:
    open_store(tmp_path, Front())
    front = Front()
    assert_whole(open_store(tmp_path, front, **changes), dtype=changes.get("dtype", "float16"))
    assert front.made == list(range(COUNT))
    assert len(list((tmp_path / "frames").iterdir())) == 2


def test_the_key_is_readable_beside_the_data(tmp_path: Path) -> None:
    open_store(tmp_path, Front())
    held = json.loads((only_folder(tmp_path) / "key.json").read_text())
    assert held.items() >= KEY.items()
    assert held["dtype"] == "float16"


def test_a_changed_input_is_made_again_and_no_other(tmp_path: Path) -> None:
    open_store(tmp_path, Front())
    stamps = [f"{n}:{2 if n in (2, 7) else 1}" for n in range(COUNT)]

    def edited(number: int) -> Array:
        return -utterance(number)[: 2 + number // 4]  # shorter, too

    folder = only_folder(tmp_path)

    def give(number: int) -> Array:
        # Another process may open the store at any moment: it must find a whole index, if an old one.
        old = frames.Store(folder, [f"u{n}.wav" for n in range(COUNT)])
        np.testing.assert_array_equal(old[2], utterance(2).astype("float16"))
        return edited(number)

    front = Front(give)
    store = open_store(tmp_path, front, stamps=stamps)
    assert front.made == [2, 7]
    assert_whole(store, lambda n: edited(n) if n in (2, 7) else utterance(n))
    assert_whole(
        open_store(tmp_path, Front(pytest.fail), stamps=stamps), lambda n: edited(n) if n in (2, 7) else utterance(n)
    )


def test_token_ids_are_stored_ragged(tmp_path: Path) -> None:
    def ids(number: int) -> Array:
        return np.arange(number + 1, dtype=np.int64) * 1_000_003

    store = open_store(tmp_path, Front(ids), dtype="int32")
    assert_whole(store, ids, "int32")
    assert store[4].shape == (5,)


@pytest.mark.parametrize(
    "ids", [np.array([2**31]), np.array([-(2**31) - 1]), np.array([0.5]), np.array([3e9], dtype=np.float32)]
)
def test_an_id_that_does_not_fit_is_refused(tmp_path: Path, ids: Array) -> None:
    with pytest.raises(StoreError) as told:
        open_store(tmp_path, Front(lambda number: ids), dtype="int32")
    assert str(told.value) == (
        f"the front end's output for u0.wav holds {ids.dtype} values that int32 cannot hold; token ids are whole "
        "numbers below 2^31. Correct the plugin's front end."
    )


def test_off_gives_the_same_arrays(tmp_path: Path) -> None:
    names = [f"u{n}.wav" for n in range(COUNT)]
    for dtype in ("float16", "float32"):
        computed = frames.Computed(names, Front(), dtype)
        store = open_store(tmp_path, Front(), dtype=dtype)
        assert len(computed) == len(store)
        for number in range(COUNT):
            assert computed[number].dtype == store[number].dtype
            np.testing.assert_array_equal(computed[number], store[number])
            assert computed.truncated(number) is store.truncated(number)


def test_a_part_is_a_window(tmp_path: Path) -> None:
    part = frames.Part(open_store(tmp_path, Front()), 4, 3)
    assert len(part) == 3
    assert [len(part[n]) for n in range(3)] == [7, 8, 9]
    assert [part.truncated(n) for n in range(3)] == [False, True, False]


def test_no_utterances_at_all(tmp_path: Path) -> None:
    assert len(open_store(tmp_path, Front(), count=0)) == 0
    assert len(open_store(tmp_path, Front(), count=0)) == 0


BAD = {
    "float16 cannot hold it": (
        np.array([[1.0, 70_000.0]], dtype=np.float32),
        "the front end's output for u3.wav reaches 7e+04, which float16 cannot hold. Use --frames-dtype float32.",
    ),
    "not finite": (
        np.array([[1.0, np.nan]], dtype=np.float32),
        "the front end's output for u3.wav is not finite. Check the wav and the weights.",
    ),
    "infinite": (
        np.array([[1.0, -np.inf]], dtype=np.float32),
        "the front end's output for u3.wav is not finite. Check the wav and the weights.",
    ),
    "a batch of one": (
        np.zeros((1, 4, CHANNELS), np.float32),
        "the front end gave u3.wav an array of shape [1, 4, 6], expected [t, c] or [t], t and c at least 1. "
        "Correct the plugin's front end.",
    ),
    "no frame": (
        np.zeros((0, CHANNELS), np.float32),
        "the front end gave u3.wav an array of shape [0, 6], expected [t, c] or [t], t and c at least 1. "
        "Correct the plugin's front end.",
    ),
    "a number": (
        np.float32(1.0) * np.ones(()),
        "the front end gave u3.wav an array of shape [], expected [t, c] or [t], t and c at least 1. "
        "Correct the plugin's front end.",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_array_names_the_utterance_stored_or_not(tmp_path: Path, bad: str) -> None:
    array, message = BAD[bad]

    def give(number: int) -> Array:
        return array if number == 3 else utterance(number)

    with pytest.raises(StoreError) as told:
        open_store(tmp_path, Front(give))
    assert str(told.value) == message
    with pytest.raises(StoreError) as told:
        frames.Computed([f"u{n}.wav" for n in range(COUNT)], Front(give), "float16")[3]
    assert str(told.value) == message
    assert_whole(open_store(tmp_path, Front()))  # once the plugin is corrected


@pytest.mark.parametrize("other", [np.zeros((4, CHANNELS + 1), np.float32), np.zeros(4, np.float32)])
def test_another_width_than_the_others_is_refused(tmp_path: Path, other: Array) -> None:
    with pytest.raises(StoreError) as told:
        open_store(tmp_path, Front(lambda number: other if number == 3 else utterance(number)))
    assert str(told.value) == (
        f"the front end gave u3.wav an array of shape {list(other.shape)}, expected [t, 6] as for the others. "
        "Correct the plugin's front end."
    )


# --- kills -----------------------------------------------------------------------------------------------------------

CHILD = """
import sys, time
from pathlib import Path
from ser_bench import frames
from test_frames import COUNT, Front, open_store, utterance
frames.PART_BYTES = 100  # an utterance or two to a part
pause, log = float(sys.argv[2]), Path(sys.argv[3])

def slow(number):
    with log.open("a") as file:
        file.write(f"{number}\\n")
    time.sleep(pause)
    return utterance(number)

store = open_store(Path(sys.argv[1]), Front(slow))
print(sum(float(store[n].sum()) for n in range(COUNT)))
"""


def child(root: Path, pause: float, log: Path) -> subprocess.Popen[str]:
    log.touch()
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(root), str(pause), str(log)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(done: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "the child process did not get there"
        time.sleep(0.01)


def numbers(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A cache folder in which a real process was killed while it made a store."""
    root, log = tmp_path / "cache", tmp_path / "log"
    process = child(root, 0.05, log)
    try:
        wait_for(lambda: len(numbers(log)) >= 6)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (only_folder(root) / "index.npz").exists()
    return root


def kept(folder: Path) -> set[int]:
    lines = (folder / "parts.jsonl").read_text().splitlines()
    return {entry["n"] for line in lines for entry in json.loads(line)}


def test_a_kill_costs_no_more_than_the_part_it_hit(killed: Path) -> None:
    before = kept(only_folder(killed))
    assert before >= {0, 1, 2}
    front, told = Front(), []
    store = open_store(killed, front, progress=lambda done, total: told.append((done, total)))
    assert set(front.made) == set(range(COUNT)) - before
    assert told[0] == (len(before) + 1, COUNT)
    assert told[-1] == (COUNT, COUNT)
    assert_whole(store)


def test_a_torn_part_and_a_torn_line_do_not_count(killed: Path) -> None:
    folder = only_folder(killed)
    before = kept(folder)
    with (folder / "data.bin").open("ab") as data:
        data.write(b"\xff" * 1001)  # an odd number: not even whole values
    with (folder / "parts.jsonl").open("ab") as parts:
        parts.write(b'[{"n": 11, "start": 0, "rows"')
    front = Front()
    assert_whole(open_store(killed, front))
    assert set(front.made) == set(range(COUNT)) - before
    assert_whole(open_store(killed, Front(pytest.fail)))


def test_a_kill_while_an_edited_utterance_is_made_again(tmp_path: Path) -> None:
    open_store(tmp_path, Front())
    stamps = [f"{n}:2" for n in range(COUNT)]

    def killed_at_the_third(number: int) -> Array:
        if number == 2:
            raise KeyboardInterrupt
        return utterance(number)

    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path, Front(killed_at_the_third), stamps=stamps)
    assert_whole(open_store(tmp_path, Front(pytest.fail)))  # the old inputs are back: what was made of them still holds
    front = Front(lambda number: -utterance(number))
    assert_whole(open_store(tmp_path, front, stamps=stamps), lambda number: -utterance(number))
    assert front.made == list(range(COUNT))


def test_two_processes_make_a_store_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = child(tmp_path / "cache", 0.02, log)
    second = child(tmp_path / "cache", 0.02, log)
    results = [process.communicate(timeout=120) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], results
    assert sorted(numbers(log)) == list(range(COUNT))
    assert results[0][0] == results[1][0]


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(3 + n for n in range(COUNT)) * CHANNELS * 2
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    front = Front()
    with pytest.raises(StoreError) as told:
        open_store(tmp_path, front)
    assert re.fullmatch(
        rf"the frames store needs about 0\.0 GB \({needed} bytes\), and 0\.0 GB \({needed - 1} bytes\) are free at "
        r".*/frames\. Free space, name another place with --cache DIR, or run with --frames off\.",
        str(told.value),
    )
    assert front.made == [0]  # one utterance tells
    assert (only_folder(tmp_path) / "data.bin").stat().st_size == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert_whole(open_store(tmp_path, Front()))


def test_a_disk_that_fills_up_keeps_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "PART_BYTES", 1)  # a part for each utterance
    real = os.fsync

    def full(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.name == "data.bin" and path.stat().st_size > 5 * 12 * CHANNELS:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as told:
        open_store(tmp_path, Front())
    assert re.fullmatch(
        r"the disk is full while writing the frames store .* \(\d+ bytes free\)\. What was made is kept: free space "
        r"and run again, or use --cache DIR or --frames off\.",
        str(told.value),
    )
    monkeypatch.setattr(os, "fsync", real)
    before = kept(only_folder(tmp_path))
    assert before
    front = Front()
    assert_whole(open_store(tmp_path, front))
    assert set(front.made) == set(range(COUNT)) - before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB; skips where this user may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_real_disk_that_fills_up(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first utterance is the smallest, so the estimate is too low and the disk fills in the middle."""
    monkeypatch.setattr(frames, "PART_BYTES", 300_000)

    def growing(number: int) -> Array:
        return np.full((100 * (1 + 8 * number), 100), number, dtype=np.float32)

    with pytest.raises(
        StoreError, match=r"^the disk is full while writing .* \(\d+ bytes free\)\. What was made is kept"
    ):
        open_store(small_disk, Front(growing), costs=[1.0] * COUNT)
    before = kept(only_folder(small_disk))
    assert before
    shutil.copytree(small_disk / "frames", tmp_path / "large" / "frames")  # as if space had been freed
    front = Front(growing)
    assert_whole(open_store(tmp_path / "large", front, costs=[1.0] * COUNT), growing)
    assert set(front.made) == set(range(COUNT)) - before


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("a file where a folder belongs")
    with pytest.raises(
        StoreError, match=r"^the frames store .* cannot be written: .*Check the folder, or use --cache DIR"
    ):
        open_store(tmp_path, Front())


# --- damage ----------------------------------------------------------------------------------------------------------


def command(root: Path) -> str:
    return (
        f"Remove it with `ser-bench cache remove {only_folder(root).name} --cache {root}`; the next run makes it again."
    )


def test_a_flipped_byte_names_the_utterance_and_the_command(tmp_path: Path) -> None:
    store = open_store(tmp_path, Front())
    path = only_folder(tmp_path) / "data.bin"
    raw = bytearray(path.read_bytes())
    position = sum(3 + n for n in range(5)) * CHANNELS * 2 + 8  # within u5.wav
    raw[position] ^= 0x10
    path.write_bytes(raw)
    store = open_store(tmp_path, Front(pytest.fail))
    np.testing.assert_array_equal(store[4], utterance(4).astype("float16"))
    np.testing.assert_array_equal(store[6], utterance(6).astype("float16"))
    for _ in range(2):  # not only the first time
        with pytest.raises(StoreError) as told:
            store[5]
        assert str(told.value) == (
            f"the frames store {path.parent} is damaged: the checksum of u5.wav differs. {command(tmp_path)}"
        )


@pytest.mark.parametrize("keep", [0, 7, -1, -24])
def test_cut_data_is_told_when_the_store_is_opened(tmp_path: Path, keep: int) -> None:
    open_store(tmp_path, Front())
    path = only_folder(tmp_path) / "data.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError) as told:
        open_store(tmp_path, Front(pytest.fail))
    assert str(told.value).startswith(f"the frames store {path.parent} is damaged: ")
    assert str(told.value).endswith(command(tmp_path))


@pytest.mark.parametrize("file", ["data.bin", "index.npz"])
def test_cut_or_foreign_files_are_told(tmp_path: Path, file: str) -> None:
    open_store(tmp_path, Front())
    path = only_folder(tmp_path) / file
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not what it was"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"is damaged: .*ser-bench cache remove"):
            open_store(tmp_path, Front(pytest.fail))


def test_a_flipped_bit_anywhere_in_the_index_never_gives_wrong_frames(tmp_path: Path) -> None:
    open_store(tmp_path, Front())
    path = only_folder(tmp_path) / "index.npz"
    whole = path.read_bytes()
    told = 0
    for position in range(0, len(whole), 37):
        raw = bytearray(whole)
        raw[position] ^= 0x04
        path.write_bytes(raw)
        try:
            assert_whole(open_store(tmp_path, Front()))  # an unread byte of the container may go unnoticed
        except StoreError as error:
            assert "is damaged" in str(error)
            told += 1
        path.write_bytes(whole)
    assert told > 10


def test_missing_data_beside_an_index_is_told(tmp_path: Path) -> None:
    open_store(tmp_path, Front())
    (only_folder(tmp_path) / "data.bin").unlink()
    with pytest.raises(StoreError, match=r"is damaged: FileNotFoundError.*ser-bench cache remove"):
        open_store(tmp_path, Front(pytest.fail))


def test_an_unfinished_store_whose_data_are_cut_is_told_not_filled_with_zeros(killed: Path) -> None:
    path = only_folder(killed) / "data.bin"
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(
        StoreError, match=r"data\.bin holds 10 bytes, parts\.jsonl promises \d+\. Remove it with `ser-bench"
    ):
        open_store(killed, Front())


def test_an_unfinished_store_with_an_unreadable_line_is_told(killed: Path) -> None:
    path = only_folder(killed) / "parts.jsonl"
    path.write_bytes(b"\x00" * 20 + b"\n" + path.read_bytes())
    with pytest.raises(
        StoreError, match=r"line 1 of parts\.jsonl is unreadable\. Remove it with `ser-bench cache remove"
    ):
        open_store(killed, Front())


def test_an_unfinished_store_without_its_parts_starts_anew(killed: Path) -> None:
    (only_folder(killed) / "parts.jsonl").unlink()
    front = Front()
    assert_whole(open_store(killed, front))
    assert front.made == list(range(COUNT))


# --- memory ----------------------------------------------------------------------------------------------------------


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon from /proc")
def test_reading_keeps_anonymous_memory_flat(tmp_path: Path) -> None:
    """128 MB in the store; mapped pages belong to the page cache and are not counted."""
    block = np.zeros((1000, 512), dtype=np.float16)  # 1 MB, 20 s of speech
    count = 128
    costs = [1.0] * count
    open_store(tmp_path, lambda number: (block, False), count=count, costs=costs)
    before = anonymous_bytes()
    store = open_store(tmp_path, Front(pytest.fail), count=count, costs=costs)
    for number in range(count):
        assert store[number].shape == block.shape
    assert store.nbytes == count * block.nbytes
    assert anonymous_bytes() - before < 8 << 20
