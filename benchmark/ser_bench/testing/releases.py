"""Synthetic releases for tests and load: any size, any layout from v1.6 to v2.0, from tones and noise.

Nothing here is speech. What can be learned is planted: the level of the tone follows arousal, its pitch dominance, and
the words of the transcript valence.
"""

from __future__ import annotations

import csv
import io
import json
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser_bench.errors import CorpusError
from ser_bench.interface import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
_WORDS = (
    ("awful", "horrible", "terrible"),
    ("sad", "bad", "wrong"),
    ("plain", "usual", "same"),
    ("fine", "good", "nice"),
    ("great", "wonderful", "lovely"),
)
_EMOTIONS = {"A": "Angry", "S": "Sad", "N": "Neutral", "H": "Happy", "U": "Surprise"}
_PER_PODCAST, _PER_SPEAKER = 25, 20


@dataclass(frozen=True)
class _Shape:
    """How one release spells its parts; as public readers of the corpus reveal them."""

    audio: str
    labels: str
    old_words: bool = False
    """``labels_concensus`` and ``Validation`` (up to v1.9)."""
    test1: str = "Test1"
    rater_column: str | None = None
    """None: one ``EmoDetail`` cell for each rater (v1.7 to v1.12)."""
    partition_list: str = "Partitions.txt"
    speaker_list: bool = False
    transcripts: bool = True
    per_podcast_folders: bool = False

    @property
    def consensus(self) -> str:
        return "labels_concensus" if self.old_words else "labels_consensus"

    @property
    def development(self) -> str:
        return "Validation" if self.old_words else "Development"


_SHAPES = {
    "1.6": _Shape("Audio", "label", old_words=True, test1="Test", rater_column="Workers", transcripts=False),
    "1.7": _Shape("Audios", "Labels", old_words=True, transcripts=False),
    "1.8": _Shape("Audios", "Labels", old_words=True, transcripts=False),
    "1.9": _Shape("Audio", "labels", old_words=True, transcripts=False, per_podcast_folders=True),
    "1.10": _Shape("Audio", "Labels"),
    "1.11": _Shape("Audios", "Labels", speaker_list=True),
    "1.12": _Shape("Audios", "Labels", partition_list="Partition.txt", speaker_list=True),
    "2.0": _Shape("Audios/Audios", "Labels/Labels", rater_column="WorkerID", speaker_list=True),
}


@dataclass(frozen=True)
class _Row:
    name: str
    partition: str
    podcast: str
    speaker: str
    gender: str
    emotion: str
    ratings: NDArray[np.float64]
    """[raters, 3] whole numbers 1..7."""

    @property
    def means(self) -> list[float]:
        """At most six decimals, as in the release."""
        return [round(float(value), 6) for value in self.ratings.mean(axis=0)]


def write_release(
    folder: Path,
    *,
    version: str = "1.10",
    utterances: Mapping[str, int] | int = 60,
    seconds: tuple[float, float] = (2.0, 6.0),
    raters: int = 5,
    seed: int = 0,
    audio: bool = True,
    transcripts: bool | None = None,
    tables: Sequence[str] = ("csv", "json", "txt"),
) -> Path:
    """Write a synthetic release and return its folder, ``MSP-PODCAST-Publish-<version>`` under ``folder``.

    Train, development and test1 share podcasts and no speaker; test2 has its own podcasts; some train speakers are
    ``Unknown``; a fifth of the names has three numbers. The same arguments give the same bytes.

    Args:
        folder: made if absent.
        version: which release's layout, spellings and columns: 1.6 to 1.12, or 2.0.
        utterances: partition -> how many, or a total that is shared out 60:15:15:10 (v1.6 has no test2: it goes to
            train). ``test3`` gets audio alone.
        seconds: durations are drawn evenly from this range.
        raters: for each utterance.
        seed: of all that is drawn.
        audio: whether to write wav files (16 kHz mono PCM16).
        transcripts: whether to write them; None: if that release had any.
        tables: which label tables to write.

    Raises:
        CorpusError: an unknown version or partition.
    """
    if version not in _SHAPES:
        raise CorpusError(f"cannot write version {version!r}; known are {', '.join(_SHAPES)}. Give one of these.")
    shape = _SHAPES[version]
    counts = _counts(utterances, version)
    root = folder / f"MSP-PODCAST-Publish-{version}"
    rng = np.random.default_rng(seed)
    rows = list(_rows(counts, raters, rng))
    (root / shape.labels).mkdir(parents=True, exist_ok=True)
    _write_labels(root, shape, rows, tables)
    _write_lists(root, shape, rows)
    if shape.transcripts if transcripts is None else transcripts:
        (root / "Transcripts").mkdir(exist_ok=True)
        for row in rows:
            (root / "Transcripts" / f"{row.name[:-4]}.txt").write_text(_text(row, rng) + "\n")
    if audio:
        for row in rows:
            arousal, _, dominance = row.means
            place = root / shape.audio / (row.podcast if shape.per_podcast_folders else "")
            _write_wav(place / row.name, rng.uniform(*seconds), arousal, dominance, rng)
        for i in range(counts.get("test3", 0)):
            name = f"MSP-PODCAST_test3_{i + 1:04d}.wav"
            _write_wav(root / shape.audio / name, rng.uniform(*seconds), rng.uniform(1, 7), rng.uniform(1, 7), rng)
    return root


def write_wav(path: Path, samples: NDArray[np.float64], *, rate: int = SAMPLE_RATE) -> None:
    """Write PCM16: [n] mono or [n, channels], -1..1 (louder is clipped); makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def _counts(utterances: Mapping[str, int] | int, version: str) -> dict[str, int]:
    if isinstance(utterances, int):
        development, test1, test2 = utterances * 15 // 100, utterances * 15 // 100, utterances * 10 // 100
        test2 = 0 if version == "1.6" else test2
        train = utterances - development - test1 - test2
        return {"train": train, "development": development, "test1": test1, "test2": test2}
    unknown = set(utterances) - {"train", "development", "test1", "test2", "test3"}
    if unknown or (version == "1.6" and "test2" in utterances):
        raise CorpusError(f"release {version} has no partition {', '.join(sorted(unknown)) or 'test2'}. Leave it out.")
    return dict(utterances)


def _rows(counts: dict[str, int], raters: int, rng: np.random.Generator) -> Iterator[_Row]:
    labelled = {name: count for name, count in counts.items() if name != "test3"}
    shared = -(-sum(count for name, count in labelled.items() if name != "test2") // _PER_PODCAST)
    speaker, segments = 100, dict.fromkeys(range(shared + labelled.get("test2", 0) + 1), 0)
    for partition, count in labelled.items():
        podcasts = -(-count // _PER_PODCAST) if partition == "test2" else shared
        first = shared if partition == "test2" else 0
        people = max(2, -(-count // _PER_SPEAKER))
        for i in range(count):
            podcast = 1 + first + i % podcasts
            segments[podcast] += 1
            name = f"MSP-PODCAST_{podcast:04d}_{segments[podcast]:04d}" + (f"_{1 + i % 3:04d}" if i % 5 == 4 else "")
            who = speaker + i % people
            unknown = partition == "train" and i % 10 == 7
            ratings = np.clip(np.rint(rng.uniform(1.5, 6.5, 3) + rng.normal(0, 0.7, (raters, 3))), 1, 7)
            emotion = "X" if i % 6 == 5 else "ASNHU"[min(4, int(ratings[:, 1].mean() * 5 / 7.01))]
            yield _Row(
                name=f"{name}.wav",
                partition=partition,
                podcast=f"{podcast:04d}",
                speaker="Unknown" if unknown else str(who),
                gender="Unknown" if unknown else ("Male", "Female")[who % 2],
                emotion=emotion,
                ratings=ratings,
            )
        speaker += people


def _write_labels(root: Path, shape: _Shape, rows: Sequence[_Row], tables: Sequence[str]) -> None:
    folder, split = root / shape.labels, _split_words(shape)
    if "csv" in tables:
        cells = [[r.name, r.emotion, *map(str, r.means), r.speaker, r.gender, split[r.partition]] for r in rows]
        (folder / f"{shape.consensus}.csv").write_text(_csv([_HEADER, *cells]))
        (folder / "labels_detailed.csv").write_text(_csv(_detailed(shape, rows)))
    if "json" in tables:
        order = ("EmoClass", "EmoAct", "EmoDom", "EmoVal", "SpkrID", "Gender", "Split_Set")  # Dom before Val here
        values = {r.name: (r.emotion, r.means[0], r.means[2], r.means[1], r.speaker, r.gender) for r in rows}
        consensus = {r.name: dict(zip(order, (*values[r.name], split[r.partition]), strict=True)) for r in rows}
        (folder / f"{shape.consensus}.json").write_text(json.dumps(consensus))
        keys = ("EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoDom", "EmoVal")
        detailed = {
            r.name: {w: dict(zip(keys, (e, e, a, d, v), strict=True)) for w, e, a, v, d in _said(r)} for r in rows
        }
        (folder / "labels_detailed.json").write_text(json.dumps(detailed))
    if "txt" in tables:
        blocks = []
        for r in rows:
            a, v, d = r.means
            lines = [f"{r.name}; {r.emotion}; A:{a:.6f}; V:{v:.6f}; D:{d:.6f};", *(_detail(said) for said in _said(r))]
            blocks.append("\n".join(lines) + "\n")
        (folder / "labels.txt").write_text("\n".join(blocks))


def _write_lists(root: Path, shape: _Shape, rows: Sequence[_Row]) -> None:
    split = _split_words(shape)
    (root / shape.partition_list).write_text("".join(f"{split[r.partition]}; {r.name}\n" for r in rows))
    if shape.speaker_list:
        people = sorted({(r.speaker, r.gender) for r in rows if r.speaker != "Unknown"})
        lines = [f"Speaker_{who}; {gender}" for who, gender in people] + [f"{r.name};{r.speaker}" for r in rows]
        (root / "Speaker_ids.txt").write_text("\n".join(lines) + "\n")


def _split_words(shape: _Shape) -> dict[str, str]:
    return {"train": "Train", "development": shape.development, "test1": shape.test1, "test2": "Test2"}


def _said(row: _Row) -> list[tuple[str, str, float, float, float]]:
    """Give (rater, primary emotion, arousal, valence, dominance) for each rater of an utterance."""
    word = _EMOTIONS.get(row.emotion, "Neutral")
    return [
        (f"WORKER{10_000 + (int(row.podcast) + k) % 50:08d}", word if k else "Other-tired; a bit", a, v, d)
        for k, (a, v, d) in enumerate(row.ratings.tolist())
    ]


def _detail(said: tuple[str, str, float, float, float]) -> str:
    worker, emotion, arousal, valence, dominance = said
    return f"{worker}; {emotion}; Neutral,Concerned; A:{arousal:.6f}; V:{valence:.6f}; D:{dominance:.6f};"


def _detailed(shape: _Shape, rows: Sequence[_Row]) -> Iterator[Sequence[str]]:
    if shape.rater_column is None:
        yield ("FileName", "EmoDetail")
        yield from ((row.name, _detail(said)) for row in rows for said in _said(row))
    else:
        yield ("FileName", shape.rater_column, "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")
        for row in rows:
            for worker, emotion, *values in _said(row):
                yield (row.name, worker, emotion, "Neutral,Concerned", *map(str, values))


def _csv(rows: Sequence[Sequence[str]] | Iterator[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _text(row: _Row, rng: np.random.Generator) -> str:
    words = _WORDS[min(4, int((row.means[1] - 1) * 5 / 6))]
    first, second = rng.choice(len(words), 2)
    return (
        f"Well, it was a {words[first]} day in {1990 + int(rng.integers(30))}, and a {words[second]} one for all of us."
    )


def _write_wav(path: Path, seconds: float, arousal: float, dominance: float, rng: np.random.Generator) -> None:
    """Write a tone of -36 dB (arousal 1) to -12 dB (7) and 400 Hz (dominance 1) to 100 Hz (7) in noise of -60 dB."""
    samples = int(seconds * SAMPLE_RATE)
    time = np.arange(samples) / SAMPLE_RATE
    level = 10 ** ((-40 + 4 * arousal) / 20)
    tone = level * np.sin(2 * np.pi * (450 - 50 * dominance) * time)
    write_wav(path, tone + rng.normal(0, 1e-3, samples))
