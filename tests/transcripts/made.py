"""Made-up ASR texts for a release, written through the store as ``transcribe`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ser_bench.corpus import Release
from ser_bench.transcripts import store
from ser_bench.transcripts.rows import Transcript
from ser_bench.transcripts.source import Source


def source(name: str = "whisper-made", *, beam: int = 5) -> Source:
    options = {"window": 8, "beam": beam, "compute_type": "int8", "device": "cpu"}
    return Source(name=name, asr=name, folder=False, model_sha256="0" * 64, options=options)


def heard(text: str) -> Transcript:
    return Transcript(
        text=text,
        language="en",
        language_probability=None,
        avg_logprob=-0.5,
        no_speech_prob=0.01,
        window_seconds=12,
        repeated=False,
        looping=False,
        tokens=len(text.split()),
        made_with="made up",
    )


def misheard(text: str) -> str:
    """Drop the first word and say the last one twice: one deletion and one insertion in a text of two words or more."""
    words = text.split()
    return " ".join([*words[1:], words[-1]]) if len(words) > 1 else text


def write(
    release: Path,
    cache: Path,
    *,
    made: Source | None = None,
    condition: str = "clean",
    hear: Callable[[str], str] = misheard,
    without: tuple[str, ...] = (),
) -> str:
    """Write texts of every utterance with audio, except of the partitions ``without``; return the source's label."""
    made = made or source()
    opened = Release.open(release, cache=cache)
    partition = dict(zip(opened.labels.utterance, opened.labels.partition, strict=True))
    rows = [
        (utterance, digest, heard(hear(opened.transcripts.get(utterance, "nothing known"))))
        for utterance, digest in opened.audio_digests.items()
        if partition[utterance] not in without
    ]
    with store.rows(cache, made, condition).journal((1, 1)) as append:
        append(rows)
    return made.label
