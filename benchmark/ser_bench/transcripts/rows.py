"""The texts of one source under one condition, on disk: a Parquet file, and journals while more are made.

In the source's folder lie::

    source.json              what made the texts
    <condition>.parquet      the rows, sorted by (utterance, digest of its audio); the same bytes for the same rows
    <condition>.parts/       while texts are made: <shard>.jsonl, a line for each batch that is safely on disk
    <condition>.lock         held while journals are joined to the file, and while one is opened

A journal is locked by the process that writes it. A merge reads all of them, writes the file, and only then removes
those that nobody writes: at any moment each row is in the file or in a journal, whoever is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ser_bench.cache import atomic_write
from ser_bench.errors import StoreError, TranscriptError
from ser_bench.transcripts.source import Source, listed, shown

_BLOCK = 1024
"""Rows that are Python objects at one time: they take several times the memory of Arrow's."""


class Transcript(NamedTuple):
    """What a recogniser heard in one utterance."""

    text: str
    """Without surrounding blanks; empty where nothing was heard."""
    language: str
    """The one detected, such as ``en``, which is only counted: the text is decoded as English."""
    language_probability: float | None
    """0..1; None for a model that knows English alone."""
    avg_logprob: float
    """Mean log-probability (natural) of the tokens, the end mark included, as Whisper tells it."""
    no_speech_prob: float
    """0..1."""
    window_seconds: int
    """What the encoder was given."""
    repeated: bool
    """Whether the text is that of a second decoding, in the full window, since the first one looped."""
    looping: bool
    """Whether the text still looks like a repetition loop."""
    tokens: int
    made_with: str
    """Versions of the libraries, and the kind of device."""


KEY = ("utterance", "audio_sha256")
COLUMNS = (*KEY, *Transcript._fields)
Row = tuple[str, str, Transcript]
"""Utterance, digest of its audio, and what was heard."""
Append = Callable[[Sequence[Row]], None]


class Rows:
    """The rows of a source under a condition; iterating gives every row that is safely on disk."""

    path: Path
    """The Parquet file, which may not exist yet."""

    def __init__(self, folder: Path, source: Source, condition: str) -> None:
        """Find them in the source's folder; ``condition`` is a condition's key."""
        name = quote(condition, safe="@+")  # another one for every key
        self.path = folder / f"{name}.parquet"
        self._parts, self._lock = folder / f"{name}.parts", folder / f"{name}.lock"
        self._folder, self._source, self._condition = folder, source, condition

    def __iter__(self) -> Iterator[Row]:
        """Give every row; one that is being joined to the file may come twice.

        Raises:
            StoreError: a file is damaged.
        """
        # Journals first: a merge that runs meanwhile has written the file before it removes them.
        for _, row in _journaled(self._journals()):
            yield _row(row)
        for batch in self._batches():
            yield from map(_row, batch.to_pylist())

    def keys(self) -> set[tuple[str, str]]:
        """Return (utterance, digest of its audio) of every row.

        Raises:
            StoreError: a file is damaged.
        """
        found = {tuple(row[key] for key in KEY) for _, row in _journaled(self._journals())}
        return found.union(*(_keys(batch) for batch in self._batches()))

    @contextmanager
    def journal(self, shard: tuple[int, int]) -> Iterator[Append]:
        """Hold the journal of shard I of N, and give what appends a batch: safely on disk when that returns.

        Raises:
            TranscriptError: another process holds it, or another source has the same label.
            StoreError: the disk is full, or the folder cannot be written. What was appended before stays.
        """
        path = self._parts / f"{shard[0]}-of-{shard[1]}.jsonl"
        self._describe()
        with contextlib.ExitStack() as stack:
            with _writing(path), self._locked():
                self._parts.mkdir(exist_ok=True)
                file = stack.enter_context(path.open("a+b", buffering=0))
                if not _lock(file):
                    raise TranscriptError(
                        f"another process transcribes shard {shard[0]}/{shard[1]} of {self._source.label} under"
                        f" {shown(self._condition)}: it holds {path}. Wait for it, or share the work with --shard I/N."
                    )
                file.truncate(sum(map(len, _lines(path))))  # a kill may have left the start of a line

            def append(rows: Sequence[Row]) -> None:
                batch = [dict(zip(COLUMNS, (*key, *heard), strict=True)) for *key, heard in rows]
                with _writing(path):
                    _append(file, json.dumps(batch).encode() + b"\n")

            yield append

    def merge(self) -> None:
        """Join all journals to the file, also the whole lines of those still being written.

        Raises:
            StoreError: the file cannot be written, or something is damaged; nothing is lost.
        """
        if not self._journals():
            return
        self._describe()
        with _writing(self.path), self._locked(), contextlib.ExitStack() as stack:
            journals = self._journals()
            # Looked at before they are read: what its writer lets go of later may have lines that were not, and stays.
            # Opened for writing, without which a network file system gives no exclusive lock.
            ended = [journal for journal in journals if _lock(stack.enter_context(journal.open("r+b")))]
            before = list(self._batches())
            known = {key for batch in before for key in _keys(batch)}
            fresh = list(_unknown(_journaled(journals), known))
            if fresh:
                atomic_write(self.path, self._parquet([*before, *fresh]))
            for journal in ended:
                journal.unlink()

    def _batches(self) -> Iterator[Any]:
        """Give the file's rows as Arrow record batches; none where it is absent."""
        return _batches(self.path, self._source, self._condition)

    def _journals(self) -> list[Path]:
        return sorted(self._parts.glob("*.jsonl"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock; the system lets go of it if the process dies."""
        with self._lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _describe(self) -> None:
        """Write what the source is, unless it is there.

        Raises:
            TranscriptError: it is another one, whose digest starts with the same 6 digits.
        """
        path = self._folder / "source.json"
        try:
            there = Source.read(path.read_bytes())
        except (OSError, ValueError, TypeError, KeyError):  # absent, or damaged
            atomic_write(path, self._source.described())
            return
        if (there.model_sha256, there.options) != (self._source.model_sha256, self._source.options):
            raise TranscriptError(
                f"two transcript sources would be called {there.label}: {listed([there])} with the model"
                f" {there.model_sha256[:16]}, and {listed([self._source])} with the model"
                f" {self._source.model_sha256[:16]}. Give the second another name with --name NAME."
            )

    def _parquet(self, batches: Sequence[Any]) -> bytes:
        """Return the file's bytes, which do not depend on how its rows came together."""
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_batches(batches)
        places = {key: place for place, key in enumerate(_keys(table))}
        ordered = table.take([places[key] for key in sorted(places)]).combine_chunks()
        source = (self._folder / "source.json").read_text()
        metadata = {"ser_bench.source": source, "ser_bench.condition": self._condition}
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(ordered.replace_schema_metadata(metadata), buffer, compression="zstd")
        return buffer.getvalue()


def _schema() -> Any:
    import pyarrow

    number, whole, flag = pyarrow.float64(), pyarrow.int32(), pyarrow.bool_()
    types = {"language_probability": number, "avg_logprob": number, "no_speech_prob": number}
    types |= {"window_seconds": whole, "tokens": whole, "repeated": flag, "looping": flag}
    return pyarrow.schema([(column, types.get(column, pyarrow.string())) for column in COLUMNS])


def _batches(path: Path, source: Source, condition: str) -> Iterator[Any]:
    """Give a file's rows as Arrow record batches; none where it is absent. A file of other texts is refused."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_schema()):
                raise _damaged(path, f"it has the columns {', '.join(file.schema_arrow.names)}")
            of = {key.decode(): value.decode() for key, value in (file.metadata.metadata or {}).items()}
            made = Source.read(of["ser_bench.source"])
            if (made.digest, of["ser_bench.condition"]) != (source.digest, condition):
                raise _damaged(path, f"it holds the texts of {made.label}, {shown(of['ser_bench.condition'])}")
            yield from (batch.replace_schema_metadata(None) for batch in file.iter_batches(_BLOCK))
    except FileNotFoundError:
        return
    except PermissionError as cause:
        raise StoreError(f"cannot read {path} ({cause.strerror}). Make it readable.") from cause
    except (OSError, KeyError, TypeError, ValueError, pyarrow.ArrowException) as cause:
        raise _damaged(path, str(cause)) from cause


def _keys(table: Any) -> Iterator[tuple[str, str]]:
    return zip(*(table.column(key).to_pylist() for key in KEY), strict=True)


def _row(columns: dict[str, Any]) -> Row:
    return columns["utterance"], columns["audio_sha256"], Transcript(*(columns[name] for name in Transcript._fields))


def _lines(path: Path) -> Iterator[bytes]:
    """Give a journal's whole lines; what a kill left of the last one does not count."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _journaled(journals: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give the rows of all journals, each with the journal it is in."""
    for path in journals:
        try:
            for line in _lines(path):
                for row in json.loads(line):
                    if tuple(row) != COLUMNS:
                        raise ValueError(f"it has the columns {', '.join(row)}")
                    yield path, row
        except FileNotFoundError:  # joined to the file since it was listed
            continue
        except OSError as cause:
            raise StoreError(
                f"cannot read {path} ({cause.strerror}), a journal of texts being made. Make it readable, or wait for"
                " who writes it."
            ) from cause
        except (ValueError, TypeError) as cause:
            raise _damaged(path, str(cause)) from cause


def _unknown(rows: Iterable[tuple[Path, dict[str, Any]]], known: set[tuple[str, str]]) -> Iterator[Any]:
    """Give the rows whose key is not known, as Arrow record batches."""
    import pyarrow

    fresh = (row for row in rows if tuple(row[1][key] for key in KEY) not in known)
    while block := list(islice(fresh, _BLOCK)):
        try:
            yield pyarrow.RecordBatch.from_pylist([row for _, row in block], schema=_schema())
        except pyarrow.ArrowException as cause:
            raise _damaged(block[0][0], str(cause)) from cause


def _append(file: io.FileIO, data: bytes) -> None:
    """Put data at a file's end, on disk, or leave the file as it was."""
    end = file.seek(0, os.SEEK_END)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _lock(journal: Any) -> bool:
    """Lock an open journal until it is closed; return False where another process has it."""
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell what the system refuses as a ``StoreError``."""
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk is full while writing {path} ({shutil.disk_usage(path.parents[1]).free:,} bytes free). What"
                " was transcribed before is kept: free some space and give the same command again, or use --cache DIR."
            ) from cause
        if cause.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise StoreError(
                f"the file system of {path.parents[1]} has no file locks ({cause.strerror}), and without them processes"
                " would spoil each other's work. Name a folder on another one with --cache DIR."
            ) from cause
        if cause.errno == errno.EFBIG:
            raise StoreError(
                f"{path} would be larger than files may be here ({cause.strerror}). Raise the limit (`ulimit -f`), or"
                " use --cache DIR on another file system."
            ) from cause
        raise StoreError(
            f"cannot write {path} ({cause.strerror}). Make its folder writable, or use --cache DIR."
        ) from cause


def _damaged(path: Path, cause: str) -> StoreError:
    return StoreError(f"{path} is damaged ({cause}). Remove it; `ser-bench transcribe` makes again what it held.")
