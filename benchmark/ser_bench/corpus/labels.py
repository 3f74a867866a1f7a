"""Parse a release's label table, from CSV, JSON or ``labels.txt``, and check it against what lies beside it.

Columns are addressed by name, never by place: the CSV has Act, Val, Dom and the JSON Act, Dom, Val.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ser_bench.corpus.faults import Faults
from ser_bench.corpus.layout import Layout
from ser_bench.corpus.texts import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = re.compile(r"MSP-PODCAST_(\d{4})_(\d{4})(?:_(\d{4}))?\.wav")
"""First group: the podcast (number names of three parts are common; the third is a piece of a longer segment)."""
LINE = re.compile(r"\s*([^;]+?)\s*;(.*);\s*A:\s*([^;]*?)\s*;\s*V:\s*([^;]*?)\s*;\s*D:\s*([^;]*?)\s*;?\s*", re.DOTALL)
"""A line of ``labels.txt``: name or rater from the left, A/V/D from the right; free text between may hold anything."""
_PARTITIONS = {
    "train": "train",
    "validation": "development",
    "development": "development",
    "test": "test1",  # v1.6 has one test set, whose podcasts occur in train: what was later called test1
    "test1": "test1",
    "test2": "test2",
    "test3": "test3",
}
_EMOTIONS = frozenset("ASHUFDCNOX")
_GENDERS = {"male": "Male", "female": "Female", "unknown": "Unknown", "": "Unknown"}
_FOUR_DECIMALS = 5e-5
"""Means are written with up to six decimals; two files agree when they differ by no more than this."""
_ATTRIBUTE_COLUMNS = ("EmoAct", "EmoVal", "EmoDom")
UNKNOWN = "Unknown"


class _Cells(NamedTuple):
    """One row as text, whatever file it is from."""

    FileName: str
    EmoClass: str
    EmoAct: str
    EmoVal: str
    EmoDom: str
    SpkrID: str
    Gender: str
    Split_Set: str


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A label table column by column, in sorted utterance order; n rows."""

    utterance: list[str]
    partition: list[str]
    values: NDArray[np.float64]
    """[n, 3] arousal, valence, dominance on 1..7; NaN where withheld or not a number in the file."""
    emotion: list[str]
    speaker: list[str]
    gender: list[str]

    def with_audio_only(self, names: Iterable[str]) -> Labels:
        """Add utterances of ``test3``, whose labels are withheld."""
        names = sorted(set(names).difference(self.utterance))
        columns = [self.partition, self.emotion, self.speaker, self.gender]
        fill = ["test3", "", UNKNOWN, UNKNOWN]
        longer = [column + [value] * len(names) for column, value in zip(columns, fill, strict=True)]
        values = np.concatenate([self.values, np.full((len(names), 3), np.nan)])
        return _in_order(self.utterance + names, values, *longer)


def podcast(utterance: str) -> str:
    """Return the four digits of an utterance's podcast, or an empty string where its name does not tell (test3)."""
    match = NAME.fullmatch(utterance)
    return match[1] if match else ""


def cluster(utterance: str, speaker: str) -> str:
    """Name the cluster that an utterance is resampled with: its speaker where known, else its podcast."""
    return f"speaker:{speaker}" if speaker != UNKNOWN else f"podcast:{podcast(utterance)}"


def labels_digest(labels: Labels) -> str:
    """Digest sorted (utterance, partition, A, V, D to four decimals), so that CSV and JSON of one release agree."""
    rows = zip(labels.utterance, labels.partition, labels.values.tolist(), strict=True)
    return _digest(f"{u},{p},{a:.4f},{v:.4f},{d:.4f}" for u, p, (a, v, d) in rows if p != "test3")


def clusters_digest(labels: Labels) -> str:
    """Digest sorted (utterance, cluster) of what has labels."""
    rows = zip(labels.utterance, labels.partition, labels.speaker, strict=True)
    return _digest(f"{u},{cluster(u, s)}" for u, p, s in rows if p != "test3")


def read_labels(layout: Layout, faults: Faults) -> Labels:
    """Parse the label table: CSV if there, else JSON, else ``labels.txt``; what is wrong is collected in ``faults``."""
    partitions = _read_partition_list(layout, faults)
    speakers = _read_speaker_list(layout, faults)
    source = layout.consensus_csv or layout.consensus_json or layout.labels_txt or layout.labels
    if source == layout.consensus_csv:
        rows = _csv_rows(layout, source, partitions, faults)
    elif source == layout.consensus_json:
        rows = _json_rows(layout, source, faults)
    else:
        rows = _txt_rows(layout, source, partitions, speakers, faults)
    table = _clean(rows, layout.where(source), faults)
    if source == layout.consensus_csv and layout.consensus_json is not None:
        # Only where it differs counts: what is wrong with both is already told of the CSV.
        other = _json_rows(layout, layout.consensus_json, faults)
        _compare(table, _clean(other, layout.where(layout.consensus_json), Faults()), faults)
    _compare_lists(table, partitions, {name: speaker for name, (speaker, _) in speakers.items()}, layout, faults)
    return table


def read_table(path: Path, layout: Layout, faults: Faults) -> str:
    """Read a label file as text; one that cannot be read is a fault and gives an empty string."""
    try:
        text, latin1 = decode(path.read_bytes())
    except OSError as cause:
        faults.add("table-unreadable", f"{layout.where(path)}: {cause.strerror}")
        return ""
    if latin1:
        faults.add("table-encoding", layout.where(path))
    return text


def csv_records(path: Path, layout: Layout, faults: Faults) -> Iterator[list[str]]:
    """Yield a CSV file's rows, header first, cells stripped, empty rows left out; each row as long as the header."""
    reader = csv.reader(io.StringIO(read_table(path, layout, faults), newline=""))
    width = 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if width and len(cells) != width:
                faults.add("table-row", f"line {reader.line_num}: {len(cells)} of {width}", layout.where(path))
                continue
            width = width or len(cells)
            yield cells
    except csv.Error as cause:
        faults.add("table-unreadable", f"{layout.where(path)}, line {reader.line_num}: {cause}")


def _csv_rows(layout: Layout, path: Path, partitions: dict[str, str], faults: Faults) -> Iterator[_Cells]:
    records = csv_records(path, layout, faults)
    header = next(records, [])
    missing = [c for c in _Cells._fields if c not in header and not (c == "Split_Set" and partitions)]
    for column in missing:
        faults.add("table-columns", column, f"{layout.where(path)}, which has {','.join(header) or 'nothing'}")
    if missing:
        return
    places = [header.index(c) for c in _Cells._fields if c in header]
    for cells in records:
        picked = [cells[place] for place in places]
        yield _Cells._make(picked if "Split_Set" in header else [*picked, partitions.get(picked[0], "")])


def _json_rows(layout: Layout, path: Path, faults: Faults) -> Iterator[_Cells]:
    where = layout.where(path)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        entries = dict(pairs)
        if len(entries) != len(pairs):  # the parser itself keeps the last of two equal names in silence
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    faults.add("utterance-twice", name, where)
                seen.add(name)
        return entries

    try:
        table = json.loads(read_table(path, layout, faults) or "{}", object_pairs_hook=unique)
    except ValueError as cause:
        faults.add("table-unreadable", f"{where}: {cause}")
        return
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        faults.add("table-unreadable", f"{where}: expected an object of objects, one for each utterance")
        return
    missing = {c for entry in table.values() for c in _Cells._fields[1:] if c not in entry}
    for column in sorted(missing):
        faults.add("table-columns", column, where)
    if not missing:
        for name, entry in table.items():
            yield _Cells._make([name.strip(), *(str(entry[c]).strip() for c in _Cells._fields[1:])])


def _txt_rows(
    layout: Layout, path: Path, partitions: dict[str, str], speakers: dict[str, tuple[str, str]], faults: Faults
) -> Iterator[_Cells]:
    if not partitions:
        faults.add("table-columns", "Split_Set", f"{layout.where(path)}, and there is no Partitions.txt")
        return
    for line in read_table(path, layout, faults).splitlines():
        match = LINE.fullmatch(line)
        if match and match[1].endswith(".wav"):
            name, emotion, *attributes = (group.strip() for group in match.groups())
            speaker = speakers.get(name, (UNKNOWN, UNKNOWN))
            yield _Cells._make([name, emotion, *attributes, *speaker, partitions.get(name, "")])


def _clean(rows: Iterator[_Cells], where: str, faults: Faults) -> Labels:
    """Check each row and turn it into values; rows of unknown partition and second rows of an utterance fall out."""
    kept: dict[str, tuple[str, str, str, str]] = {}
    values: list[tuple[float, float, float]] = []
    share: dict[str, str] = {}  # one string object for each speaker, not one for each row
    for row in rows:
        name, word = row.FileName, row.Split_Set
        partition = _PARTITIONS.get(word.lower())
        if partition is None:
            faults.add("partition-word", f"{word!r} of {name}", where)
            continue
        if name in kept:
            faults.add("utterance-twice", name, where)
            continue
        if word.lower() == "test":
            faults.add("partition-test", name, where)
        if partition != "test3" and not NAME.fullmatch(name):
            faults.add("utterance-name", name, where)
        if row.EmoClass not in _EMOTIONS and partition != "test3":
            faults.add("emotion-word", f"{row.EmoClass!r} of {name}", where)
        gender = _GENDERS.get(row.Gender.lower())
        if gender is None:
            faults.add("gender-word", f"{row.Gender!r} of {name}", where)
        speaker = UNKNOWN if row.SpkrID.lower() in ("", "unknown") else row.SpkrID
        a, v, d = numbers = _number(row.EmoAct), _number(row.EmoVal), _number(row.EmoDom)
        if not (1 <= a <= 7 and 1 <= v <= 7 and 1 <= d <= 7):
            for column, cell, number in zip(_ATTRIBUTE_COLUMNS, row[2:5], numbers, strict=True):
                if not 1 <= number <= 7 and (cell or partition != "test3"):
                    faults.add("label-value", f"{column} {cell!r} of {name}", where)
        values.append(numbers)
        kept[name] = (partition, row.EmoClass, share.setdefault(speaker, speaker), gender or UNKNOWN)
    columns = [list(column) for column in zip(*kept.values(), strict=True)] or [[], [], [], []]
    return _in_order(list(kept), np.array(values, dtype=np.float64).reshape(-1, 3), *columns)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _in_order(
    utterance: list[str],
    values: NDArray[np.float64],
    partition: list[str],
    emotion: list[str],
    speaker: list[str],
    gender: list[str],
) -> Labels:
    order = sorted(range(len(utterance)), key=utterance.__getitem__)
    return Labels(
        utterance=[utterance[i] for i in order],
        partition=[partition[i] for i in order],
        values=values[order],
        emotion=[emotion[i] for i in order],
        speaker=[speaker[i] for i in order],
        gender=[gender[i] for i in order],
    )


def _compare(table: Labels, other: Labels, faults: Faults) -> None:
    """Report where two tables of one release differ; attributes to four decimals."""
    columns = {c: (getattr(table, c), getattr(other, c)) for c in ("partition", "emotion", "speaker", "gender")}
    same = table.utterance == other.utterance and all(mine == its for mine, its in columns.values())
    if same and np.allclose(table.values, other.values, rtol=0, atol=_FOUR_DECIMALS, equal_nan=True):
        return
    place = {name: i for i, name in enumerate(other.utterance)}
    for name in sorted(place.keys() ^ set(table.utterance)):
        faults.add("csv-json", f"{name} is only in the {'JSON' if name in place else 'CSV'}")
    ours, theirs = table.values.tolist(), other.values.tolist()
    for i, name in enumerate(table.utterance):
        j = place.get(name)
        if j is None:
            continue
        for column, (mine, its) in columns.items():
            if mine[i] != its[j]:
                faults.add("csv-json", f"{name} {column} {mine[i]} in the CSV, {its[j]} in the JSON")
        for column, a, b in zip(_ATTRIBUTE_COLUMNS, ours[i], theirs[j], strict=True):
            if not (abs(a - b) <= _FOUR_DECIMALS or (a != a and b != b)):
                faults.add("csv-json", f"{name} {column} {a} in the CSV, {b} in the JSON")


def _compare_lists(
    table: Labels, partitions: dict[str, str], speakers: dict[str, str], layout: Layout, faults: Faults
) -> None:
    if layout.partition_list is not None and partitions:
        where = layout.where(layout.partition_list)
        listed = {name: _PARTITIONS.get(word.lower(), word) for name, word in partitions.items()}
        tabled = dict(zip(table.utterance, table.partition, strict=True))
        for name in sorted(listed.keys() | tabled.keys()) if listed != tabled else ():
            mine, its = tabled.get(name, "absent"), listed.get(name, "absent")
            if mine != its and not (mine == "absent" and its == "test3"):  # test3 has no rows in the table
                faults.add("partition-list", f"{name} is {its} in the list and {mine} in the table", where)
    if layout.speaker_list is not None:
        where = layout.where(layout.speaker_list)
        for name, speaker in zip(table.utterance, table.speaker, strict=True):
            if name in speakers and speakers[name] != speaker:
                faults.add("speaker-list", f"{name} is {speakers[name]} in the list and {speaker} in the table", where)


def _read_partition_list(layout: Layout, faults: Faults) -> dict[str, str]:
    """Map utterances to partition words: lines ``<partition>; <name>.wav``."""
    partitions: dict[str, str] = {}
    if layout.partition_list is None:
        return partitions
    for line in filter(None, map(str.strip, read_table(layout.partition_list, layout, faults).splitlines())):
        word, separator, name = (part.strip() for part in line.partition(";"))
        if separator and name.endswith(".wav"):
            partitions[name] = word
        else:
            faults.add("partition-line", repr(line[:60]), layout.where(layout.partition_list))
    return partitions


def _read_speaker_list(layout: Layout, faults: Faults) -> dict[str, tuple[str, str]]:
    """Map utterances to (speaker, gender): lines ``<name>.wav;<id>`` and ``Speaker_<id>; <gender>``."""
    if layout.speaker_list is None:
        return {}
    speaker: dict[str, str] = {}
    gender: dict[str, str] = {}
    for line in read_table(layout.speaker_list, layout, faults).splitlines():
        left, _, right = (part.strip() for part in line.partition(";"))
        if left.endswith(".wav"):
            speaker[left] = UNKNOWN if right.lower() in ("", "unknown") else right.removeprefix("Speaker_")
        elif left.startswith("Speaker_"):
            gender[left.removeprefix("Speaker_")] = right
    return {name: (identity, gender.get(identity, UNKNOWN)) for name, identity in speaker.items()}


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
