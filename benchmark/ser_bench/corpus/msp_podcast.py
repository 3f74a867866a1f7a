"""MSP-Podcast as a Hugging Face dataset. Heavy: imports ``datasets`` (and with it pandas and pyarrow).

The wave is not a column: ``path`` is, for ``ser_bench.corpus.read_wave``. A ``datasets`` audio feature would need
torchcodec and FFmpeg, and decodes several times slower than soundfile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ser_bench.cache import cache_root
from ser_bench.corpus.index import Progress
from ser_bench.corpus.release import Release
from ser_bench.corpus.texts import texts_digest
from ser_bench.errors import CorpusError, StoreError
from ser_bench.interface import ATTRIBUTES, Rows
from ser_bench.transcripts import store

_TEXT = datasets.Value("string")
_NUMBER = datasets.Value("float64")
_TEXTS = ("utterance", "path", "emotion", "speaker", "gender", "podcast", "transcript")
_FEATURES = {
    "utterance": _TEXT,
    "path": _TEXT,
    "duration": _NUMBER,
    **dict.fromkeys(ATTRIBUTES, _NUMBER),
    **dict.fromkeys(_TEXTS[2:], _TEXT),
    "rater": datasets.List(_TEXT),
    **{f"rater_{attribute}": datasets.List(_NUMBER) for attribute in ATTRIBUTES},
    "rater_emotion": datasets.List(_TEXT),
}


@dataclass
class MspPodcastConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """What a built dataset depends on; ``datasets`` names its folder by a digest of these, so a change builds anew."""

    release: str | None = None
    """The claimed version."""
    transcripts: str = "human"
    """The transcript source: ``human``, ``none``, or an ASR system's with its digest."""
    condition: str = "clean"
    """The key of the condition that the ASR system heard the audio in."""
    labels_sha256: str = ""
    label_files_sha256: str = ""
    """Digest of names, sizes and times, which also notices an edited speaker, class or rating."""
    transcripts_sha256: str = ""
    audio_sha256: str = ""
    """Digest of paths and durations."""


class MspPodcast(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Build a release into Arrow: one split for each partition that it has, rows in sorted utterance order.

    Columns: ``utterance``, ``path``, ``duration`` (seconds, NaN without audio), ``arousal``, ``valence``,
    ``dominance`` (1..7, NaN where withheld), ``emotion``, ``speaker``, ``gender``, ``podcast``, ``transcript`` (null
    where there is none), and for each rater ``rater``, ``rater_arousal``, ``rater_valence``, ``rater_dominance``,
    ``rater_emotion``::

        builder = MspPodcast(data_dir="MSP-PODCAST-Publish-1.10", release="1.10")
        builder.download_and_prepare()
        test1 = builder.as_dataset()["test1"]

    Args:
        data_dir: the release's folder.
        release: the version that it is claimed to be; None: as the folder's name tells.
        transcripts: ``human``; ``none`` for rows without text (a release without transcripts needs this); or a source
            that ``ser-bench transcribe`` made: ``NAME@DIGEST``, or ``NAME`` alone where only one such source exists.
        condition: key of the condition (``Condition.key``) in which the ASR system heard the audio; ``path`` leads to
            the audio as it is on disk all the same.
        need_transcripts: refuse a release in which labelled utterances have no transcript; False gives null for them,
            for a system that reads none.
        allow_missing_audio: keep listed utterances without audio (NaN duration) instead of refusing the release.
        cache: root of the cache; None: ``cache_root()``.
        progress: called with (what, done, total) while many files are read.

    Raises:
        CorpusError: there is no release in the folder, or it has faults that would make a run wrong. All rows are
            checked here, so that building cannot meet a bad one.
        TranscriptError: there is no such transcript source, or it lacks utterances of this release.
    """

    VERSION = datasets.Version("1.0.0")
    """Raised when the same release gives other rows."""
    BUILDER_CONFIG_CLASS = MspPodcastConfig

    def __init__(
        self,
        data_dir: str | Path,
        *,
        release: str | None = None,
        transcripts: str = "human",
        condition: str = "clean",
        need_transcripts: bool = True,
        allow_missing_audio: bool = False,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.source = source = Release.open(Path(data_dir), version=release, cache=cache, progress=progress)
        human = transcripts == "human"
        source.require_sound(allow_missing_audio=allow_missing_audio, need_transcripts=human and need_transcripts)
        self.transcripts = transcripts
        """The source, by its full name."""
        self._texts: dict[str, str] | None = None if human else {}
        if transcripts not in ("human", "none"):
            root = cache_root(cache)
            self.transcripts = store.resolve(transcripts, root).label
            wanted = source.audio_digests
            partition = dict(zip(source.labels.utterance, source.labels.partition, strict=True))
            labelled = [u for u in wanted if partition[u] != "test3"] if need_transcripts else []
            found = store.texts(root, self.transcripts, condition, wanted, corpus=str(data_dir), required=labelled)
            self._texts = {utterance: transcript.text for utterance, transcript in found.items()}
        super().__init__(
            cache_dir=str(cache_root(cache) / "datasets"),
            data_dir=str(source.root),
            release=source.version,
            transcripts=self.transcripts,
            condition="clean" if transcripts in ("human", "none") else condition,
            labels_sha256=source.labels_sha256,
            label_files_sha256=source.label_files_sha256,
            transcripts_sha256=self.transcripts_sha256 or "",
            audio_sha256=source.audio_sha256,
        )

    @property
    def transcripts_sha256(self) -> str | None:
        """Digest of sorted (utterance, transcript) of the source; None for ``none``."""
        if self._texts is None:
            return self.source.transcripts_sha256
        return texts_digest(self._texts) if self._texts else None

    def download_and_prepare(self, *args: Any, **options: Any) -> None:
        """Write the Arrow files, as the base class does, unless they are there.

        Raises:
            StoreError: they cannot be written.
        """
        try:
            super().download_and_prepare(*args, **options)
        except (OSError, datasets.exceptions.DatasetGenerationError) as cause:
            raise StoreError(
                f"cannot build the dataset in {self.cache_dir} ({_first_cause(cause)})."
                " Free some space there, or name another folder with --cache DIR."
            ) from cause

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="MSP-Podcast: spontaneous speech from podcasts with ratings of arousal, valence and dominance.",
            features=datasets.Features(_FEATURES),
            homepage="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=name, gen_kwargs={"partition": name}) for name in self.source.partitions]

    def _generate_examples(self, partition: str) -> Iterator[tuple[int, dict[str, Any]]]:
        part = self.source.rows(partition, texts=self._texts)
        raters = self.source.raters
        for i, utterance in enumerate(part.utterance):
            said = raters[utterance]
            row: dict[str, Any] = {column: getattr(part, column)[i] for column in _TEXTS}
            row |= {"duration": part.duration[i], "rater": said.rater, "rater_emotion": said.emotion}
            row |= dict(zip(ATTRIBUTES, part.labels[i].tolist(), strict=True))
            row |= {f"rater_{name}": said.values[:, k].tolist() for k, name in enumerate(ATTRIBUTES)}
            yield i, row


def load(
    data_dir: str | Path,
    *,
    release: str | None = None,
    transcripts: str = "human",
    condition: str = "clean",
    allow_missing_audio: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> datasets.DatasetDict:
    """Return a release as a ``DatasetDict``, built the first time and whenever one of its files changed.

    Args:
        data_dir: this and the others as ``MspPodcast`` has them.

    Raises:
        CorpusError, TranscriptError: as ``MspPodcast``.
        StoreError: the cache cannot be written.
    """
    builder = MspPodcast(
        data_dir,
        release=release,
        transcripts=transcripts,
        condition=condition,
        allow_missing_audio=allow_missing_audio,
        cache=cache,
        progress=progress,
    )
    builder.download_and_prepare()
    return builder.as_dataset()


def _first_cause(fault: BaseException) -> BaseException:
    """Return what went wrong at first: ``datasets`` wraps it up to three times."""
    deeper = fault.__cause__ or fault.__context__
    return fault if deeper is None else _first_cause(deeper)


def rows(dataset: datasets.DatasetDict, partition: str) -> Rows:
    """Return one partition of a built dataset (which may have been filtered or reordered) as ``Rows``.

    Raises:
        CorpusError: the dataset does not have that partition.
    """
    if partition not in dataset:
        raise CorpusError(
            f"the dataset has no partition {partition!r}; it has {', '.join(dataset)}. Ask for one of these."
        )
    table = dataset[partition].with_format("arrow")[:]
    columns = {name: table.column(name).to_pylist() for name in _TEXTS}
    numbers = {name: table.column(name).to_numpy() for name in ("duration", *ATTRIBUTES)}
    return Rows(
        partition=partition,
        duration=np.asarray(numbers["duration"], dtype=np.float64),
        labels=np.stack([numbers[name] for name in ATTRIBUTES], axis=1).astype(np.float64),
        **columns,
    )
