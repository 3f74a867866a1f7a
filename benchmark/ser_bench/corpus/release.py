"""A release: one MSP-Podcast version as unpacked on disk, found, parsed, and told apart from others."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ser_bench.cache import cache_root
from ser_bench.corpus import known
from ser_bench.corpus import labels as label_tables
from ser_bench.corpus.faults import LONG_TEXT, NEEDS_TRANSCRIPTS, Fault, Faults, joined
from ser_bench.corpus.index import Progress, refresh
from ser_bench.corpus.labels import Labels
from ser_bench.corpus.layout import Files, Layout, find_layout, list_files
from ser_bench.corpus.raters import Raters, read_raters
from ser_bench.corpus.texts import Transcript, read_transcript, texts_digest
from ser_bench.corpus.wavs import Header, read_header
from ser_bench.errors import CorpusError
from ser_bench.interface import PARTITIONS, SAMPLE_RATE, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Identity = Literal["digest known", "counts match", "unconfirmed"]


class Release:
    """One release on disk, opened with ``Release.open``.

    Labels are parsed when it is opened; wav headers, transcripts and raters when they are first asked for. Nothing is
    ever written to the release; what takes long to read is kept in the cache.
    """

    root: Path
    """The folder that holds its parts (not always the one that was given)."""
    version: str | None
    """What the caller or the folder's name claims; None: unknown."""
    labels: Labels
    """All utterances with their labels, in sorted order; those of ``test3`` have none."""

    def __init__(
        self, layout: Layout, labels: Labels, wavs: Files, faults: Faults, *, cache: Path, progress: Progress | None
    ) -> None:
        self.root, self.version, self.labels = layout.root, layout.version, labels
        self._layout, self._wavs, self._label_faults = layout, wavs, faults
        self._progress = progress
        # The label folder, not the root: a later release and an earlier one kept in its tree list different files.
        key = hashlib.sha256(str(layout.labels.resolve()).encode()).hexdigest()[:16]
        self._store = cache / "corpus" / key

    @classmethod
    def open(
        cls, root: Path, *, version: str | None = None, cache: Path | None = None, progress: Progress | None = None
    ) -> Release:
        """Find and parse a release in any layout from v1.6 to v2.0; collect its faults, raise none of them.

        Args:
            root: its folder, or the folder around that.
            version: the release that it is claimed to be, such as ``1.10``; else the folder's name tells. Where a later
                release keeps the labels of the asked one, those are read.
            cache: root of the cache; None: ``cache_root()``.
            progress: called with (what, done, total) while many files are read.

        Raises:
            CorpusError: there is no release in the folder, or several.
        """
        faults = Faults()
        layout = find_layout(Path(root), version, faults)
        labels = label_tables.read_labels(layout, faults)
        wavs = list_files(layout.audio, ".wav", layout, faults)
        if layout.removed_audio is not None:
            wavs = list_files([layout.removed_audio], ".wav", layout, faults) | wavs
        if not layout.previous:
            unlisted = sorted(wavs.keys() - set(labels.utterance))
            test3 = [name for name in unlisted if "test3" in name.lower()]
            for name in sorted(set(unlisted).difference(test3)):
                faults.add("audio-unlisted", name)
            labels = labels.with_audio_only(test3)
        return cls(layout, labels, wavs, faults, cache=cache_root(cache), progress=progress)

    @cached_property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that it has, in their fixed order."""
        return tuple(name for name in PARTITIONS if name in self.counts)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Listed utterances of each partition that it has."""
        return dict(Counter(self.labels.partition))

    @cached_property
    def labels_sha256(self) -> str:
        """Digest of sorted (utterance, partition, A, V, D to four decimals); ``test3`` has none."""
        return label_tables.labels_digest(self.labels)

    @cached_property
    def clusters_sha256(self) -> str:
        """Digest of sorted (utterance, cluster); a cluster is the speaker where known, else the podcast."""
        return label_tables.clusters_digest(self.labels)

    @cached_property
    def corpus_name(self) -> str:
        """``demo`` or ``stand-in`` by digest, else ``msp-podcast``."""
        return known.DIGESTS.get(self.labels_sha256, "msp-podcast")

    @cached_property
    def identity(self) -> Identity:
        """How far the claimed version is confirmed."""
        if self.labels_sha256 in known.DIGESTS:
            return "digest known"
        counts = {name: count for name, count in self.counts.items() if name != "test3"}
        return "counts match" if counts and counts == known.labelled(self.version) else "unconfirmed"

    @cached_property
    def headers(self) -> dict[str, Header]:
        """Wav headers of the listed utterances that have audio, by utterance; from the cache where unchanged."""
        files = {name: self._wavs[name] for name in self.labels.utterance if name in self._wavs}
        store = self._store.with_suffix(".wavs-1.json")
        found, causes = refresh(store, files, read_header, what="wav headers", progress=self._progress)
        headers = {name: Header(*values) for name, values in found.items()}
        return headers | {name: Header(0, 0, 0, "audio-unreadable", cause) for name, cause in causes.items()}

    @cached_property
    def audio_sha256(self) -> str:
        """Digest of sorted (utterance, place, duration): notices audio that came, went, moved or changed its length."""
        durations = self._durations(self.labels.utterance).tolist()
        lines = (f"{self._path(u)}\t{seconds}\n" for u, seconds in zip(self.labels.utterance, durations, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @cached_property
    def audio_digests(self) -> dict[str, str]:
        """First 32 hex digits of the SHA-256 of each wav file's bytes, by utterance; from the cache where unchanged.

        Utterances without audio are left out.

        Raises:
            CorpusError: a file cannot be read.
        """
        files = {name: self._wavs[name] for name in self.labels.utterance if name in self._wavs}
        store = self._store.with_suffix(".audio-1.json")
        found, causes = refresh(store, files, _digest, what="audio digests", progress=self._progress)
        if causes:
            first = min(causes)
            raise CorpusError(
                f"{len(causes):,} of {len(files):,} wav files of {self.root} cannot be read (first: {first},"
                f" {causes[first]}). Restore them from the release."
            )
        return {name: str(digest) for name, (digest,) in found.items()}

    @cached_property
    def transcripts(self) -> dict[str, str]:
        """Human transcripts by utterance, each in one line; from the cache where unchanged."""
        return {name: transcript.text for name, transcript in self._transcripts[0].items()}

    @cached_property
    def transcripts_sha256(self) -> str:
        """Digest of sorted (utterance, transcript)."""
        return texts_digest(self.transcripts)

    @cached_property
    def label_files_sha256(self) -> str:
        """Digest of the label files' names, sizes and times: another one means that they are to be read again."""
        stamps = [(f.name, (status := f.stat()).st_size, status.st_mtime_ns) for f in self._layout.label_files]
        return hashlib.sha256(repr(stamps).encode()).hexdigest()

    @cached_property
    def raters(self) -> Raters:
        """What each rater said; none in a release without a per-rater table."""
        return read_raters(self._layout, self.labels.utterance, self._rater_faults)

    def rows(self, partition: str, *, texts: Mapping[str, str] | None = None) -> Rows:
        """Return one partition, in sorted utterance order.

        An utterance without sound audio has the duration NaN, and the path at which it should be.

        Args:
            partition: one that it has.
            texts: transcripts by utterance; None: the human ones.

        Raises:
            CorpusError: the release does not have that partition.
        """
        if partition not in self.partitions:
            has = ", ".join(self.partitions) or "none"
            raise CorpusError(f"{self.root} has no partition {partition!r}; it has {has}. Ask for one of these.")
        table = self.labels
        chosen = [i for i, name in enumerate(table.partition) if name == partition]
        names = [table.utterance[i] for i in chosen]
        texts = self.transcripts if texts is None else texts
        return Rows(
            partition=partition,
            utterance=names,
            path=[self._path(name) for name in names],
            duration=self._durations(names),
            labels=table.values[chosen],
            emotion=[table.emotion[i] for i in chosen],
            speaker=[table.speaker[i] for i in chosen],
            gender=[table.gender[i] for i in chosen],
            podcast=[label_tables.podcast(name) for name in names],
            transcript=[texts.get(name) for name in names],
        )

    def faults(self, *, audio: bool = True, transcripts: bool = True, raters: bool = False) -> tuple[Fault, ...]:
        """Return all that is wrong with labels, and with the parts asked for; errors first."""
        found: list[Faults] = [self._label_faults]
        if audio:
            found.append(self._audio_faults)
        if transcripts:
            found.append(self._transcript_faults)
        if raters:
            len(self.raters)  # parsed now if it was not before, which fills the faults
            found.append(self._rater_faults)
        return joined(*found)

    def require_sound(self, *, allow_missing_audio: bool = False, need_transcripts: bool = False) -> None:
        """Refuse a release whose faults would make a run wrong.

        Raises:
            CorpusError: it has such faults; lists all of them, one to a line after the first.
        """
        blocking = [
            fault
            for fault in self.faults(transcripts=need_transcripts)
            if (fault.severity == "error" or fault.kind in NEEDS_TRANSCRIPTS)
            and not (fault.kind == "audio-missing" and allow_missing_audio)
        ]
        if not self.labels.utterance and not blocking:
            raise CorpusError(f"{self.root} lists no utterance. Take the label table from the release again.")
        if blocking:
            lines = "\n".join(f"  {fault.message}" for fault in blocking)
            raise CorpusError(
                f"{self.root} cannot be used as it is; `ser-bench corpus check DIR` gives the full report.\n{lines}"
            )

    @cached_property
    def _transcripts(self) -> tuple[dict[str, Transcript], dict[str, str]]:
        """What was read, and why what is there was not."""
        folder = self._layout.transcripts
        files = list_files([folder], ".txt", self._layout, self._label_faults) if folder is not None else {}
        stems = {name: f"{name.removesuffix('.wav')}.txt" for name in self.labels.utterance}
        wanted = {name: files[stem] for name, stem in stems.items() if stem in files}
        store = self._store.with_suffix(".texts-1.json")
        found, causes = refresh(store, wanted, read_transcript, what="transcripts", progress=self._progress)
        return {name: Transcript(*values) for name, values in found.items()}, causes

    @cached_property
    def _rater_faults(self) -> Faults:
        return Faults()

    @cached_property
    def _audio_faults(self) -> Faults:
        faults = Faults()
        where = ", ".join(self._layout.where(folder) + "/" for folder in self._layout.audio)
        for name, partition in zip(self.labels.utterance, self.labels.partition, strict=True):
            header = self.headers.get(name)
            if header is None:
                faults.add("audio-missing", f"{name} of {partition}", where)
            elif header.fault:
                faults.add(header.fault, f"{name}: {header.detail}", where)
            elif (header.rate, header.channels) != (SAMPLE_RATE, 1):
                faults.add("audio-format", f"{name}: {header.rate:,} Hz, {header.channels} channels", where)
        return faults

    @cached_property
    def _transcript_faults(self) -> Faults:
        faults = Faults()
        folder = self._layout.transcripts
        if folder is None:
            faults.add("transcripts-absent")
            return faults
        where = self._layout.where(folder) + "/"
        transcripts, causes = self._transcripts
        for name, partition in zip(self.labels.utterance, self.labels.partition, strict=True):
            transcript = transcripts.get(name)
            if transcript is None:
                if name in causes:
                    faults.add("transcript-unreadable", f"{name}: {causes[name]}", where)
                elif partition != "test3":
                    faults.add("transcript-missing", f"{name} of {partition}", where)
                continue
            kinds = {
                "transcript-encoding": transcript.latin1,
                "transcript-lines": transcript.lines > 1,
                "transcript-empty": not transcript.text,
                "transcript-long": len(transcript.text) > LONG_TEXT,
            }
            for kind in (kind for kind, found in kinds.items() if found):
                faults.add(kind, name, where)
        return faults

    def _path(self, name: str) -> str:
        entry = self._wavs.get(name)
        folder = self._layout.audio[0] if self._layout.audio else self.root / "Audio"
        return entry.path if entry is not None else str(folder / name)

    def _durations(self, names: list[str]) -> NDArray[np.float64]:
        absent = Header(0, 0, 0, "audio-missing")
        return np.array([self.headers.get(name, absent).seconds for name in names], dtype=np.float64)


def with_audio(rows: Rows) -> Rows:
    """Return the utterances that have sound audio.

    Raises:
        CorpusError: none has.
    """
    kept = np.flatnonzero(~np.isnan(rows.duration))
    if len(kept) == len(rows):
        return rows
    if not len(kept):
        raise CorpusError(f"no utterance of {rows.partition} has audio. Restore the wav files.")

    def only(column: Any) -> Any:
        return column[kept] if isinstance(column, np.ndarray) else [column[int(n)] for n in kept]

    return Rows(
        partition=rows.partition, **{name: only(value) for name, value in vars(rows).items() if name != "partition"}
    )


def _digest(path: str) -> tuple[str]:
    with open(path, "rb") as file:  # noqa: PTH123 - as for headers
        return (hashlib.file_digest(file, "sha256").hexdigest()[:32],)
