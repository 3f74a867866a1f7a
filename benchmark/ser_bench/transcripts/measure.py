"""The word error rate of a transcript source on a release: what ``ser-bench wer`` tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_bench.cache import cache_root
from ser_bench.conditions import CLEAN, Condition, parse
from ser_bench.corpus.release import Release, with_audio
from ser_bench.errors import ConditionError, TranscriptError
from ser_bench.transcripts import store
from ser_bench.transcripts.wer import PartitionWer, partition_wer, wer_tables, write_utterances


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One source against a release's human transcripts."""

    source: str
    """By its full name."""
    condition: str
    partitions: dict[str, PartitionWer]
    utterances: Path
    """The Parquet file with the counts of each utterance."""

    def text(self) -> str:
        """Return tables for people."""
        return f"{self.source}, {self.condition}\n\n{wer_tables(self.partitions)}\nper utterance: {self.utterances}"

    def as_dict(self) -> dict[str, Any]:
        """Return what the tables hold, as JSON types."""
        return {
            "source": self.source,
            "condition": self.condition,
            "partitions": {name: part.as_dict() for name, part in self.partitions.items()},
            "utterances": str(self.utterances),
        }


def measure(
    release: Release, source: str, *, condition: Condition = CLEAN, corpus: str, cache: Path | None = None
) -> Measured:
    """Compare a source's texts with the human ones, in every partition that has human ones.

    The counts of each utterance are written beside the source's texts.

    Args:
        release: the release.
        source: ``NAME@DIGEST``, or ``NAME`` where only one such source exists.
        condition: in which the audio was heard.
        corpus: the release as the user named it, for messages.
        cache: root of the cache.

    Raises:
        TranscriptError: the release has no human transcripts, there is no such source, or it lacks utterances.
    """
    human = release.transcripts
    if not human:
        raise TranscriptError(
            f"{corpus} has no human transcripts, so there is nothing to compare {source} with. A run on ASR text goes"
            " on without; its word error rate is null."
        )
    release.require_sound(allow_missing_audio=True)
    root = cache_root(cache)
    label = store.resolve(source, root).label
    found = store.require(root, label, condition.key, release.audio_digests, corpus=corpus)
    texts = {utterance: transcript.text for utterance, transcript in found.items()}
    parts = {}
    for name in release.partitions:
        rows = with_audio(release.rows(name, texts=texts))
        said = [human.get(utterance) for utterance in rows.utterance]
        if any(text is not None for text in said):
            parts[name] = partition_wer(rows, said, rows.transcript)
    if not parts:
        raise TranscriptError(f"no utterance of {corpus} has both audio and a human transcript. Restore either.")
    path = store.beside(root, label, condition.key, f"wer-{release.labels_sha256[:8]}")
    write_utterances(path, parts)
    return Measured(source=label, condition=condition.label, partitions=parts, utterances=path)


def sources_of(
    release: Release,
    *,
    condition: Condition = CLEAN,
    cache: Path | None = None,
    partitions: Collection[str] | None = None,
) -> list[str]:
    """Return the full names of all sources that hold a text of each of the release's utterances, sorted.

    Args:
        release: the release.
        condition: in which the audio was heard.
        cache: root of the cache.
        partitions: whose utterances are meant; None: all.
    """
    root, wanted = cache_root(cache), release.audio_digests
    if partitions is not None:
        names = {utterance for name in partitions for utterance in release.rows(name, texts={}).utterance}
        wanted = {utterance: digest for utterance, digest in wanted.items() if utterance in names}
    held = {source.label: store.held(root, source, condition.key) for source in store.sources(root)}
    return sorted(label for label, keys in held.items() if wanted and keys.issuperset(wanted.items()))


def heard_by(release: Release, *, cache: Path | None = None) -> Callable[[str, str], Mapping[str, str] | None]:
    """Return what finds the texts of a source (by its full name) under a condition (by its label).

    It gives text by utterance, and None where the cache has no such source or the condition is not known here.
    """

    def find(source: str, condition: str) -> Mapping[str, str] | None:
        try:
            key = parse(condition, cache=cache).key
            found = store.texts(cache_root(cache), source, key, release.audio_digests, corpus=str(release.root))
        except (TranscriptError, ConditionError):
            return None
        return {utterance: transcript.text for utterance, transcript in found.items()}

    return find
