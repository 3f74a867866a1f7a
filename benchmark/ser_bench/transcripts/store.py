"""Transcript sources under the cache, by name: ``<cache>/transcripts/<label>/`` (``rows`` says what lies in there)."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from ser_bench.errors import TranscriptError
from ser_bench.transcripts.rows import Rows, Transcript
from ser_bench.transcripts.source import RESERVED, Source, listed, shown

logger = logging.getLogger(__name__)


def sources(cache: Path) -> list[Source]:
    """Return all transcript sources under the cache that have made something, by label."""
    found = []
    for path in sorted((cache / "transcripts").glob("*/source.json")):
        try:
            if _has_made(path.parent):
                found.append(Source.read(path.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, TranscriptError) as cause:
            logger.warning("cannot read %s (%s); its transcripts are left out", path, cause)
    return found


def _has_made(folder: Path) -> bool:
    try:
        started = any(journal.stat().st_size for journal in folder.glob("*.parts/*.jsonl"))
    except FileNotFoundError:  # joined to its file since it was listed
        started = True
    return started or any(folder.glob("*.parquet"))


def resolve(name: str, cache: Path) -> Source:
    """Return the transcript source of that label, or of that bare name where there is exactly one.

    Raises:
        TranscriptError: there is none, or several.
    """
    known = sources(cache)
    found = [source for source in known if name in (source.label, source.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TranscriptError(
            f"{len(found)} transcript sources are called '{name}': {listed(found)}. Give one of these full names."
        )
    near = difflib.get_close_matches(name, [*RESERVED, *(s.name for s in known), *(s.label for s in known)], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise TranscriptError(
        f"there are no transcripts called '{name}' in {cache / 'transcripts'}; it has {listed(known) or 'none'}.{hint}"
        " Give one of these, human or none, or make some with `ser-bench transcribe` (--asr names the recogniser)."
    )


def rows(cache: Path, source: Source, condition: str = "clean") -> Rows:
    """Return the rows of a source; ``condition`` is a condition's key."""
    return Rows(cache / "transcripts" / source.label, source, condition)


def held(cache: Path, source: Source, condition: str) -> set[tuple[str, str]]:
    """Return (utterance, digest of its audio) of every text of a source.

    Raises:
        StoreError: a file is damaged.
    """
    return rows(cache, source, condition).keys()


def beside(cache: Path, label: str, condition: str, what: str) -> Path:
    """Return where something derived of a source's texts belongs: a Parquet file next to theirs."""
    path = rows(cache, resolve(label, cache), condition).path
    return path.with_name(f"{path.stem}.{what}.parquet")


def texts(
    cache: Path,
    name: str,
    condition: str,
    digests: Mapping[str, str],
    *,
    corpus: str,
    required: Collection[str] = (),
) -> dict[str, Transcript]:
    """Return the transcripts that exist of some utterances, joining first what was made meanwhile.

    Args:
        cache: root of the cache.
        name: a source's label, or its bare name.
        condition: the condition's key.
        digests: utterance -> digest of its audio (``Release.audio_digests``); a row must have both.
        corpus: the release's folder, for messages.
        required: utterances that must be among them.

    Raises:
        TranscriptError: there is no such source, all its rows of these utterances are of other audio, or some that are
            required are missing.
        StoreError: its files are damaged, or cannot be joined.
    """
    source = resolve(name, cache)
    held = rows(cache, source, condition)
    held.merge()
    found: dict[str, Transcript] = {}
    others: set[str] = set()
    for utterance, digest, heard in held:
        if digests.get(utterance) == digest:
            found[utterance] = heard
        elif utterance in digests:
            others.add(utterance)
    if others and not found:
        raise TranscriptError(
            f"{source.label} has transcripts of {len(others):,} of these utterances, and all are of other audio (first:"
            f" {min(others)}): of another release, or from before the files changed."
            f" {source.remedy(corpus, condition, cache)}."
        )
    missing = set(required).difference(found)
    if missing:
        under = "" if condition == "clean" else f" under {shown(condition)}"
        raise TranscriptError(
            f"{len(missing):,} of {len(required):,} utterances of {corpus} have no transcript of {source.label}{under}"
            f" (first: {min(missing)}). {source.remedy(corpus, condition, cache)}."
        )
    return found


def require(
    cache: Path, name: str, condition: str, digests: Mapping[str, str], *, corpus: str
) -> dict[str, Transcript]:
    """Return the transcripts of some utterances as ``texts`` does, and accept no gap.

    Raises:
        TranscriptError: some are missing; or as ``texts``.
        StoreError: as ``texts``.
    """
    return texts(cache, name, condition, digests, corpus=corpus, required=digests)
