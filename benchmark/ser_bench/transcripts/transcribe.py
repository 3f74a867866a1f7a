"""Transcribe a release: what is missing, batch by batch, each safely on disk before the next is finished."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ser_bench.cache import cache_root
from ser_bench.conditions import CLEAN, Condition
from ser_bench.corpus.release import Release
from ser_bench.corpus.wavs import read_wave
from ser_bench.errors import TranscriptError
from ser_bench.transcripts import store
from ser_bench.transcripts.asr import FULL_SECONDS, cores
from ser_bench.transcripts.rows import Append, Row, Rows, Transcript
from ser_bench.transcripts.source import Source


class Progress(Protocol):
    """Told (what is done, whole seconds of audio done, seconds to do)."""

    def __call__(self, what: str, done: int, total: int, *, unit: str) -> None:
        """Show it; ``unit`` is ``audio``."""


class Recogniser(Protocol):
    """What turns waves into transcripts: ``asr.Recogniser``."""

    source: Source
    batch: int

    def window(self, seconds: float) -> int:
        """Return the seconds that the encoder is given for an utterance of ``seconds``."""

    def prepare(self, wave: Any) -> Any:
        """Return a wave [n] ready to be transcribed; called by several threads."""

    def transcribe(self, utterances: Sequence[Any]) -> list[Transcript]:
        """Return what is said in prepared utterances."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a call found and did; counts are of the shard's utterances in the partitions asked for, of all calls."""

    source: str
    """The full name."""
    condition: str
    shard: tuple[int, int]
    listed: int
    """Utterances of the release's label tables, and of its ``test3``, as far as they were asked for."""
    without_audio: int
    done_before: int
    transcribed: int
    """By this call."""
    missing: int
    """Not transcribed yet (only after a merge without transcribing)."""
    repeated: int
    """Decoded again in the full window, since the first text looped."""
    looping: int
    """That still look like a loop."""
    empty: int
    """Texts without a word."""
    languages: dict[str, int]
    """How often each was detected; texts are English whatever was."""
    audio_seconds: float
    """That this call transcribed."""
    seconds: float
    """That it took, loading the model included."""
    file: Path
    complete: bool
    """Whether every utterance with audio is in the file."""

    @property
    def speed(self) -> float:
        """Seconds of audio transcribed in a second; 0 where nothing was to do."""
        return self.audio_seconds / self.seconds if self.audio_seconds else 0.0

    def text(self) -> str:
        """Return it for people."""
        if self.transcribed:
            did = (
                f"transcribed {self.transcribed:,} utterances, {self.audio_seconds / 3600:.2f} h of audio, in"
                f" {self.seconds:,.0f} s ({self.speed:.1f} x real time); {self.done_before:,} were done before"
            )
        else:
            done, missing = self.done_before, self.missing
            did = f"nothing was transcribed: {done:,} utterances were done before, {missing:,} are missing"
        alone = self.shard == (1, 1)
        part = "" if alone else f", shard {self.shard[0]}/{self.shard[1]}"
        languages = ", ".join(f"{name} {count:,}" for name, count in self.languages.items()) or "none"
        lines = [
            f"{self.source}, {self.condition}{part}: {self.listed:,} utterances, {self.without_audio:,} without audio",
            did,
            f"looped and decoded again: {self.repeated:,}; still looping: {self.looping:,}; empty: {self.empty:,}",
            f"languages detected: {languages}; all were decoded as English",
            f"in {self.file}" if alone else f"will be joined to {self.file} by --merge, or the next reader",
        ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        fields = dataclasses.asdict(self)
        return {**fields, "shard": "/".join(map(str, self.shard)), "file": str(self.file), "speed": self.speed}


class _Utterance(NamedTuple):
    name: str
    digest: str
    path: str
    seconds: float


def transcribe(
    release: Release,
    recogniser: Recogniser | Source,
    *,
    condition: Condition = CLEAN,
    shard: tuple[int, int] = (1, 1),
    merge_only: bool = False,
    partitions: Sequence[str] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Transcribe what has no text yet of this source under this condition.

    Utterances without audio are counted and left out. A kill at any moment costs at most one batch. A shard's texts
    stay in its journal until a merge, which any reader does by itself.

    Args:
        release: its files tell what is done: a changed one is done again.
        recogniser: loads its model when it first has something to do; a source alone is only merged.
        condition: applied to each wave.
        shard: (I, N): do only the utterances of the I-th of N parts, which other processes or machines that see the
            cache do not do.
        merge_only: join what the shards made and transcribe nothing.
        partitions: do only these; None: all, ``test3`` included.
        cache: root of the cache; None: ``cache_root()``.
        progress: told after each batch.

    Raises:
        CorpusError: the release has faults other than missing audio, or a wav cannot be read.
        TranscriptError: the shard is none or is being done by another process, an utterance is longer than 30 s, or
            decoding fails; or the release has no such partition.
        StoreError: the disk is full, or the cache is damaged or cannot be written. What was done is kept.
    """
    if not 1 <= shard[0] <= shard[1]:
        raise TranscriptError(f"shard is {shard[0]}/{shard[1]}, expected I/N with I from 1 to N. Correct --shard.")
    started = time.monotonic()
    listed, utterances = _utterances(release, shard, release.partitions if partitions is None else partitions)
    source = recogniser if isinstance(recogniser, Source) else recogniser.source
    rows = store.rows(cache_root(cache), source, condition.key)
    todo: list[_Utterance] = []
    if not merge_only and not isinstance(recogniser, Source):
        todo = _without(utterances, rows)
        if todo:
            with rows.journal(shard) as append:
                todo = _without(todo, rows)  # whoever held the journal until now may have done some
                before = sum(one.seconds for one in utterances) - sum(one.seconds for one in todo)
                _transcribe(todo, recogniser, condition, append, progress, before)
    if merge_only or isinstance(recogniser, Source) or shard == (1, 1):
        rows.merge()
    counts = _count(utterances, rows)
    return Report(
        source=source.label,
        condition=condition.label,
        shard=shard,
        listed=listed,
        without_audio=listed - len(utterances),
        done_before=counts.found - len(todo),
        transcribed=len(todo),
        missing=len(utterances) - counts.found,
        repeated=counts.repeated,
        looping=counts.looping,
        empty=counts.empty,
        languages=dict(sorted(counts.languages.items())),
        audio_seconds=sum((one.seconds for one in todo), start=0.0),
        seconds=time.monotonic() - started,
        file=rows.path,
        complete=shard == (1, 1) and partitions is None and counts.found == len(utterances),
    )


def _without(utterances: Sequence[_Utterance], rows: Rows) -> list[_Utterance]:
    """Return the utterances that have no row of their audio."""
    done = rows.keys()
    return [one for one in utterances if (one.name, one.digest) not in done]


def in_shard(utterance: str, shard: tuple[int, int]) -> bool:
    """Return whether an utterance belongs to shard I of N: by its name alone, the same on every machine."""
    number = int.from_bytes(hashlib.sha256(utterance.encode()).digest()[:8], "big")
    return number % shard[1] == shard[0] - 1


def _utterances(release: Release, shard: tuple[int, int], partitions: Sequence[str]) -> tuple[int, list[_Utterance]]:
    """Return how many utterances a shard of some partitions lists, and those that have audio, the longest first.

    Sorted, since what is decoded together takes as long as its longest; the longest first, so that a machine too small
    for them says so at once.
    """
    release.require_sound(allow_missing_audio=True)
    unknown = [name for name in partitions if name not in release.partitions]
    if unknown or not partitions:
        raise TranscriptError(
            f"--partitions {' '.join(unknown or partitions)} was given; {release.root} has "
            f"{', '.join(release.partitions)}. Name some of these, or leave it out for all."
        )
    listed, found = 0, []
    for partition in dict.fromkeys(partitions):
        rows = release.rows(partition, texts={})
        for name, path, seconds in zip(rows.utterance, rows.path, rows.duration.tolist(), strict=True):
            if in_shard(name, shard):
                listed += 1
                if name in release.audio_digests:
                    found.append(_Utterance(name, release.audio_digests[name], path, seconds))
    long = sorted(one.name for one in found if one.seconds > FULL_SECONDS)
    if long:
        raise TranscriptError(
            f"{len(long):,} utterances of {release.root} are longer than the {FULL_SECONDS} s that Whisper takes"
            f" (first: {long[0]}). Cut them to that, or take them out of the label table."
        )
    return listed, sorted(found, key=lambda one: (-one.seconds, one.name))


def _transcribe(
    utterances: Sequence[_Utterance],
    recogniser: Recogniser,
    condition: Condition,
    append: Append,
    progress: Progress | None,
    before: float = 0.0,
) -> None:
    """Transcribe utterances, the longest first, and put each batch on disk before the next is decoded.

    ``before`` is the seconds of audio that were done by earlier calls, for the progress.
    """
    batches: list[Sequence[_Utterance]] = []
    for _, alike in groupby(utterances, key=lambda one: recogniser.window(one.seconds)):
        group = list(alike)
        batches += [group[first : first + recogniser.batch] for first in range(0, len(group), recogniser.batch)]

    def prepare(one: _Utterance) -> Any:
        try:
            return recogniser.prepare(condition(read_wave(one.path), one.name))
        except TranscriptError as error:
            raise TranscriptError(f"{one.name}: {error}") from error

    total = before + sum(one.seconds for one in utterances)
    done = before
    if progress is not None and before:
        progress("transcribing", round(done), round(total), unit="audio")

    def tell() -> None:
        if progress is not None:
            progress("transcribing", round(done), round(total), unit="audio")

    tell()  # the start, from which the speed is taken
    for batch, prepared in _ahead(batches, prepare):
        heard = recogniser.transcribe(prepared)
        append([(one.name, one.digest, made) for one, made in zip(batch, heard, strict=True)])
        done += sum(one.seconds for one in batch)
        tell()


def _ahead(
    batches: Iterable[Sequence[_Utterance]], prepare: Callable[[_Utterance], Any]
) -> Iterator[tuple[Sequence[_Utterance], list[Any]]]:
    """Give each batch with what ``prepare`` returns for it, while the next one is being prepared."""
    waiting: deque[tuple[Sequence[_Utterance], list[Future[Any]]]] = deque()
    pool = ThreadPoolExecutor(cores())
    try:
        for batch in batches:
            waiting.append((batch, [pool.submit(prepare, one) for one in batch]))
            if len(waiting) == 2:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        for last, futures in waiting:
            yield last, [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Counts:
    found: int = 0
    repeated: int = 0
    looping: int = 0
    empty: int = 0
    languages: Counter[str] = field(default_factory=Counter)


def _count(utterances: Sequence[_Utterance], rows: Iterable[Row]) -> _Counts:
    """Count what is on disk of some utterances."""
    wanted = {one.name: one.digest for one in utterances}
    counts = _Counts()
    for name, digest, heard in rows:
        if wanted.get(name) == digest:
            del wanted[name]  # a row that is being joined may come twice
            counts.found += 1
            counts.repeated += heard.repeated
            counts.looping += heard.looping
            counts.empty += not heard.text
            counts.languages[heard.language] += 1
    return counts
