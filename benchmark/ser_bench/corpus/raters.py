"""Parse what each rater said, in the three forms that releases have had, from JSON, or from ``labels.txt``."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ser_bench.corpus.faults import Faults
from ser_bench.corpus.labels import LINE, csv_records, read_table
from ser_bench.corpus.layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIMARY = frozenset(("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral", "Other"))
_SECONDARY = _PRIMARY | {
    *("Amused", "Frustrated", "Depressed", "Concerned", "Disappointed", "Excited", "Confused", "Annoyed"),
    "Dissapointed",  # so spelled in the release
}


class _Line(NamedTuple):
    utterance: str
    rater: str
    emotion: str
    arousal: str
    valence: str
    dominance: str


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """What the k raters of one utterance said."""

    rater: list[str]
    values: NDArray[np.float64]
    """[k, 3] arousal, valence, dominance on 1..7."""
    emotion: list[str]
    """The primary emotion: one of eight words, or ``Other-<free text>``."""


@dataclass(frozen=True, kw_only=True)
class Raters:
    """The ratings of a whole release: m ratings of n utterances, flat so that millions stay small."""

    place: dict[str, int]
    """Utterance -> its place in ``offsets``."""
    offsets: NDArray[np.int64]
    """[n + 1]; ratings ``offsets[i]`` to ``offsets[i + 1]`` are those of utterance i."""
    rater: list[str]
    values: NDArray[np.float64]
    """[m, 3]."""
    emotion: list[str]

    def __getitem__(self, utterance: str) -> Ratings:
        """Return one utterance's ratings, sorted by rater; none where the release has none."""
        place = self.place.get(utterance)
        start, stop = (0, 0) if place is None else (int(self.offsets[place]), int(self.offsets[place + 1]))
        return Ratings(rater=self.rater[start:stop], values=self.values[start:stop], emotion=self.emotion[start:stop])

    def __len__(self) -> int:
        return len(self.rater)


def read_raters(layout: Layout, utterances: list[str], faults: Faults) -> Raters:
    """Parse the per-rater table for the listed utterances: CSV if there, else JSON, else ``labels.txt``.

    A rater who judged one utterance twice counts once, with the mean of the values and the first emotion.
    """
    place = {name: i for i, name in enumerate(utterances)}
    share: dict[str, str] = {}  # one string object for each rater and word, not one for each rating
    places: list[int] = []
    raters: list[str] = []
    emotions: list[str] = []
    numbers = array("d")
    where, lines = _lines(layout, faults)
    for line in lines:
        try:
            a, v, d = float(line.arousal), float(line.valence), float(line.dominance)
        except ValueError:
            a = v = d = 0.0
        if not (line.rater and 1 <= a <= 7 and 1 <= v <= 7 and 1 <= d <= 7):
            faults.add("rater-line", f"{line.rater!r} of {line.utterance}", where)
        elif line.utterance not in place:
            faults.add("rater-unlisted", line.utterance, where)
        else:
            places.append(place[line.utterance])
            raters.append(share.setdefault(line.rater, line.rater))
            emotions.append(share.setdefault(line.emotion, line.emotion))
            numbers.extend((a, v, d))
    order = sorted(range(len(places)), key=lambda k: (places[k], raters[k]))
    starts: list[int] = []  # places in ``order`` at which another utterance or rater begins
    before: tuple[int, str] | None = None
    for n, k in enumerate(order):
        if (places[k], raters[k]) == before:
            faults.add("rater-twice", f"{raters[k]} of {utterances[places[k]]}", where)
        else:
            starts.append(n)
            before = (places[k], raters[k])
    first = [order[n] for n in starts]
    values = np.frombuffer(numbers, dtype=np.float64).reshape(-1, 3)[order]
    counts = np.diff([*starts, len(order)])
    return Raters(
        place=place,
        offsets=np.searchsorted([places[k] for k in first], np.arange(len(utterances) + 1)).astype(np.int64),
        rater=[raters[k] for k in first],
        values=np.add.reduceat(values, starts) / counts[:, None] if first else values,
        emotion=[emotions[k] for k in first],
    )


def primary_emotion(middle: str) -> str:
    """Return the primary emotion out of ``Primary`` or ``Primary; Sec1,Sec2``, whose free text may hold semicolons."""
    parts = [part.strip() for part in middle.split(";")]
    if parts[0] in _PRIMARY or len(parts) == 1:
        return parts[0]
    secondary = {word.strip() for word in parts[-1].split(",")} - {""}
    return "; ".join(parts[:-1] if secondary <= _SECONDARY else parts).strip("; ")


def _lines(layout: Layout, faults: Faults) -> tuple[str, Iterator[_Line]]:
    if layout.detailed_csv is not None:
        return layout.where(layout.detailed_csv), _csv_lines(layout, layout.detailed_csv, faults)
    if layout.detailed_json is not None:
        return layout.where(layout.detailed_json), _json_lines(layout, layout.detailed_json, faults)
    if layout.labels_txt is not None:
        return layout.where(layout.labels_txt), _txt_lines(layout, layout.labels_txt, faults)
    return "", iter(())


def _csv_lines(layout: Layout, path: Path, faults: Faults) -> Iterator[_Line]:
    """Yield lines of ``FileName,EmoDetail`` (v1.7 to v1.12), or of a column each: Workers (v1.6), WorkerID (v2.0)."""
    records = csv_records(path, layout, faults)
    header = next(records, [])
    rater = next((column for column in ("WorkerID", "Workers") if column in header), None)
    if "FileName" in header and "EmoDetail" in header:
        name, detail = header.index("FileName"), header.index("EmoDetail")
        for cells in records:
            yield _detail(cells[name], cells[detail])
        return
    columns = ("FileName", rater or "WorkerID", "EmoClass_Major", "EmoAct", "EmoVal", "EmoDom")
    missing = [column for column in columns if column not in header]
    for column in missing:
        faults.add("table-columns", column, f"{layout.where(path)}, which has {','.join(header) or 'nothing'}")
    if not missing:
        places = [header.index(column) for column in columns]
        for cells in records:
            yield _Line._make(cells[place] for place in places)


def _json_lines(layout: Layout, path: Path, faults: Faults) -> Iterator[_Line]:
    try:
        table = json.loads(read_table(path, layout, faults) or "{}")
        for name, raters in table.items():
            for rater, said in raters.items():
                values = (str(said.get(column, "")) for column in ("EmoAct", "EmoVal", "EmoDom"))
                yield _Line(name, rater.strip(), str(said.get("EmoClass_Major", "")), *values)
    except (ValueError, AttributeError) as cause:
        faults.add("table-unreadable", f"{layout.where(path)}: {cause}")


def _txt_lines(layout: Layout, path: Path, faults: Faults) -> Iterator[_Line]:
    name = ""
    for line in read_table(path, layout, faults).splitlines():
        first = line.partition(";")[0].strip()
        if first.endswith(".wav"):
            name = first
        elif name and LINE.fullmatch(line):  # other lines may occur, and are none of ours
            yield _detail(name, line)


def _detail(name: str, detail: str) -> _Line:
    """Split ``WORKER00001234; Neutral; Neutral,Concerned; A:4.000000; V:4.000000; D:4.000000;``."""
    match = LINE.fullmatch(detail)
    if match is None:
        return _Line(name, "", detail[:40], "", "", "")
    return _Line(name, match[1], primary_emotion(match[2]), match[3], match[4], match[5])
