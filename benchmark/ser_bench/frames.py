"""Front-end outputs, computed once per utterance and memory-mapped.

A store is a folder ``<cache>/frames/<key>/``::

    key.json     what the store holds, readable; its digest is the folder's name
    data.bin     the arrays of all utterances, one after the other, row-major
    parts.jsonl  while it is made: a line for each part that is safely on disk
    index.npz    written last, so its presence marks a complete store: start row, rows, checksum, stamp, truncation
                 mark; data is only ever appended, so it stays true while some utterances are made again

Reading maps ``data.bin`` and copies one utterance at a time. Letters: t rows (frames or tokens) of an utterance, c
channels (no second axis for token ids).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ser_bench.cache import atomic_write
from ser_bench.errors import StoreError

Array = NDArray[Any]
Make = Callable[[int], tuple[Array, bool]]
"""Utterance number -> its array [t, c] or [t], and whether its text was truncated."""
Each = Callable[[Make, Sequence[int]], Iterator[tuple[Array, bool]]]
"""Applies a ``Make`` to numbers and gives the results in their order; it may do several at once."""
Progress = Callable[[int, int], None]
"""Called with utterances done and utterances in all."""

PART_BYTES = 64 << 20  # what a kill may cost at most: a few seconds of front end


class Frames(Protocol):
    """Front-end outputs of a list of utterances, however they come."""

    def __len__(self) -> int:
        """Return the number of utterances."""

    def __getitem__(self, number: int) -> Array:
        """Return one utterance's array, [t, c] or [t]."""

    def truncated(self, number: int) -> bool:
        """Return whether the utterance's text was longer than the model reads."""


@dataclass(frozen=True)
class Computed:
    """Frames made on the fly (``--frames off``), still one utterance at its exact length."""

    names: Sequence[str]
    make: Make
    dtype: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Array:
        """Compute one utterance's array, rounded as it would be stored."""
        return _stored(self.make(number)[0], self.dtype, self.names[number])

    def truncated(self, number: int) -> bool:
        """Compute one utterance and say whether its text was cut."""
        return self.make(number)[1]


class Store:
    """A complete store, opened for reading; any number of processes may."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Open ``folder``; ``names`` are for messages.

        Raises:
            StoreError: the index or the data is unreadable or does not belong together.
        """
        self.folder, self.names = folder, names
        try:
            # opened here, since np.load does not close a file that turns out to be no archive
            with (folder / "index.npz").open("rb") as file, np.load(file, allow_pickle=False) as index:
                self._start, self._rows = index["start"], index["rows"]
                self._sums, self.stamps, self._truncated = index["sums"], index["stamps"], index["truncated"]
                width, dtype = int(index["width"]), str(index["dtype"])
            flat = np.memmap(folder / "data.bin", dtype=dtype, mode="r") if self._rows.any() else np.zeros(0, dtype)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise _unreadable(folder, f"{type(error).__name__}: {error}") from error
        last = int((self._start + self._rows).max(initial=0))
        if len(self._rows) != len(names) or flat.size < last * max(width, 1):
            raise _unreadable(folder, f"data.bin holds {flat.size} values, {last * max(width, 1)} are indexed")
        self._data = flat[: flat.size // max(width, 1) * max(width, 1)].reshape(-1, width) if width else flat
        self._checked = np.zeros(len(names), dtype=bool)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Array:
        """Return one utterance's array, checked against its checksum the first time it is read.

        Raises:
            StoreError: what is on disk is not what was written.
        """
        start, rows = int(self._start[number]), int(self._rows[number])
        array = np.array(self._data[start : start + rows])
        if not self._checked[number]:
            if zlib.crc32(array.tobytes()) != int(self._sums[number]):
                raise _unreadable(self.folder, f"the checksum of {self.names[number]} differs")
            self._checked[number] = True
        return array

    def truncated(self, number: int) -> bool:
        """Return whether the utterance's text was longer than the model reads."""
        return bool(self._truncated[number])

    @property
    def nbytes(self) -> int:
        """Bytes of data on disk."""
        return int(self._data.nbytes)


def store(
    root: Path,
    key: Mapping[str, Any],
    names: Sequence[str],
    stamps: Sequence[str],
    costs: Sequence[float],
    make: Make,
    *,
    dtype: str,
    each: Each = map,
    progress: Progress | None = None,
) -> Store:
    """Open the store of that key, making first what is missing or out of date.

    A made part survives a kill at any moment; two processes that want one store make it once (the second waits). An
    utterance whose stamp changed is made again and appended.

    Args:
        root: the cache folder.
        key: what the arrays depend on, beside the utterances; JSON values.
        names: utterances; their list is part of the key.
        stamps: what tells that an utterance's input changed: a file's size and time, a text's digest. At most 64 bytes.
        costs: what an utterance's size grows with (seconds, characters), to estimate the disk that will be needed.
        make: gives the array of one utterance.
        dtype: what is stored: ``float16``, ``float32`` or ``int32``.
        each: how ``make`` is applied; by default to one utterance after the other.
        progress: told after each utterance made.

    Raises:
        StoreError: the disk is too small (needed and free bytes), a value does not fit ``dtype``, or the folder is not
            writable or damaged.
    """
    described = {**key, "dtype": dtype, "utterances": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    text = json.dumps(described, indent=1, sort_keys=True)
    folder = root / "frames" / hashlib.sha256(text.encode()).hexdigest()[:20]
    if (folder / "index.npz").exists():
        found = Store(folder, names)
        if np.array_equal(found.stamps, _stamps(stamps)):
            return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "key.json", text + "\n")
        with _locked(folder):
            _make(folder, names, stamps, costs, make, dtype, each, progress)
    except OSError as error:
        raise _failed(folder, error) from error
    return Store(folder, names)


def _make(
    folder: Path,
    names: Sequence[str],
    stamps: Sequence[str],
    costs: Sequence[float],
    make: Make,
    dtype: str,
    each: Each,
    progress: Progress | None,
) -> None:
    """Make what is missing, part by part, then write the index."""
    wanted = _stamps(stamps)
    done = _resumed(folder, len(names))
    fresh = [n for n in range(len(names)) if n not in done or done[n]["stamp"].encode() != bytes(wanted[n])]
    width, dtype_size = next((entry["width"] for entry in done.values()), None), np.dtype(dtype).itemsize
    end = max((entry["start"] + entry["rows"] for entry in done.values()), default=0)
    with (folder / "data.bin").open("ab") as data, (folder / "parts.jsonl").open("ab") as parts:
        kept = end * max(width or 1, 1) * dtype_size
        if data.tell() < kept:
            raise _unreadable(folder, f"data.bin holds {data.tell()} bytes, parts.jsonl promises {kept}")
        data.truncate(kept)  # a kill may have left the start of a part behind
        part: list[dict[str, Any]] = []
        pending = 0
        for position, (number, (array, truncated)) in enumerate(zip(fresh, each(make, fresh), strict=True)):
            array = _stored(array, dtype, names[number])
            this_width = array.shape[1] if array.ndim == 2 else 0
            if width is None:
                width = this_width
            if this_width != width:
                raise _shapeless(array, names[number], f"[t{f', {width}' if width else ''}] as for the others")
            if position == 0:
                _require_space(folder, array.nbytes / max(costs[number], 1e-9) * sum(costs[n] for n in fresh))
            raw = array.tobytes()
            data.write(raw)
            entry = {"n": number, "start": end, "rows": len(array), "width": width, "sum": zlib.crc32(raw)}
            part.append({**entry, "stamp": stamps[number], "truncated": truncated})
            end, pending = end + len(array), pending + len(raw)
            if pending >= PART_BYTES or position == len(fresh) - 1:
                _commit(data, parts, part)
                done |= {entry["n"]: entry for entry in part}
                part, pending = [], 0
            if progress is not None:
                progress(len(names) - len(fresh) + position + 1, len(names))
    _write_index(folder, [done[n] for n in range(len(names))], width or 0, dtype)


def _commit(data: BinaryIO, parts: BinaryIO, part: list[dict[str, Any]]) -> None:
    """Put a part on disk, then the line that says so."""
    data.flush()
    os.fsync(data.fileno())
    parts.write((json.dumps(part) + "\n").encode())
    parts.flush()
    os.fsync(parts.fileno())


def _resumed(folder: Path, count: int) -> dict[int, dict[str, Any]]:
    """Return the utterances that are safely on disk; a torn last line does not count.

    Raises:
        StoreError: another line is not readable.
    """
    path = folder / "parts.jsonl"
    done: dict[int, dict[str, Any]] = {}
    if not path.exists() or not (folder / "data.bin").exists():
        for name in ("index.npz", path.name, "data.bin"):  # what is left of them describes nothing
            (folder / name).unlink(missing_ok=True)
        return done
    whole = path.read_bytes().rpartition(b"\n")[0]
    with path.open("r+b") as lines:
        lines.truncate(len(whole) + 1 if whole else 0)
    for line_number, line in enumerate(whole.splitlines(), start=1):
        try:
            done |= {entry["n"]: entry for entry in json.loads(line) if entry["n"] < count}
        except (ValueError, TypeError, KeyError) as error:
            raise _unreadable(folder, f"line {line_number} of parts.jsonl is unreadable") from error
    return done


def _write_index(folder: Path, entries: list[dict[str, Any]], width: int, dtype: str) -> None:
    columns = {
        "start": np.array([e["start"] for e in entries], dtype=np.int64),
        "rows": np.array([e["rows"] for e in entries], dtype=np.int64),
        "sums": np.array([e["sum"] for e in entries], dtype=np.uint32),
        "stamps": _stamps([e["stamp"] for e in entries]),
        "truncated": np.array([e["truncated"] for e in entries], dtype=bool),
    }
    buffer = io.BytesIO()
    np.savez(buffer, width=np.int64(width), dtype=np.array(dtype), **columns)  # type: ignore[arg-type]
    atomic_write(folder / "index.npz", buffer.getvalue())


def _stamps(stamps: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([stamp.encode() for stamp in stamps], dtype="S64")


def _stored(array: Array, dtype: str, name: str) -> Array:
    """Convert to what is stored; a value that does not survive is an error, never an infinity in the store."""
    if array.ndim not in (1, 2) or not array.size:
        raise _shapeless(array, name, "[t, c] or [t], t and c at least 1")
    if not np.isfinite(array).all():
        raise StoreError(f"the front end's output for {name} is not finite. Check the wav and the weights.")
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        converted = np.ascontiguousarray(array.astype(dtype, copy=False))
    if np.issubdtype(converted.dtype, np.integer) and not np.array_equal(converted, array):
        raise StoreError(
            f"the front end's output for {name} holds {array.dtype} values that {dtype} cannot hold; token ids are "
            "whole numbers below 2^31. Correct the plugin's front end."
        )
    if not np.isfinite(converted).all():
        raise StoreError(
            f"the front end's output for {name} reaches {np.abs(array).max():.3g}, which {dtype} cannot hold. "
            "Use --frames-dtype float32."
        )
    return converted


def _shapeless(array: Array, name: str, expected: str) -> StoreError:
    return StoreError(
        f"the front end gave {name} an array of shape {list(array.shape)}, expected {expected}. "
        "Correct the plugin's front end."
    )


def _require_space(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"the frames store needs about {needed / 1e9:.1f} GB ({int(needed)} bytes), and {free / 1e9:.1f} GB "
            f"({free} bytes) are free at {folder.parent}. Free space, name another place with --cache DIR, or run with "
            "--frames off."
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the store's lock; the system lets go of it if the process dies."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _failed(folder: Path, error: OSError) -> StoreError:
    if error.errno == errno.ENOSPC:
        return StoreError(
            f"the disk is full while writing the frames store {folder} ({shutil.disk_usage(folder).free} bytes free). "
            "What was made is kept: free space and run again, or use --cache DIR or --frames off."
        )
    return StoreError(f"the frames store {folder} cannot be written: {error}. Check the folder, or use --cache DIR.")


def _unreadable(folder: Path, cause: str) -> StoreError:
    return StoreError(
        f"the frames store {folder} is damaged: {cause}. Remove it with `ser-bench cache remove {folder.name} --cache "
        f"{folder.parent.parent}`; the next run makes it again."
    )


@dataclass(frozen=True)
class Part:
    """Some consecutive utterances of longer frames: one partition of a store that holds all."""

    whole: Frames
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Array:
        """Return one utterance's array."""
        return self.whole[self.first + number]

    def truncated(self, number: int) -> bool:
        """Return whether the utterance's text was longer than the model reads."""
        return self.whole.truncated(self.first + number)


def whole(frames: Frames | None) -> Frames | None:
    """Return what a part is of, or the frames themselves."""
    return frames.whole if isinstance(frames, Part) else frames
