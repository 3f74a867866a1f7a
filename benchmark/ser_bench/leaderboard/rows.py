"""Rows from records and reported results: who stands with whom, and who is ranked.

Reads JSON and CSV only; never imports torch.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.board import RANKED
from ser_bench.scoring.compare import rank
from ser_bench.strict import text_fault

SIDES = (("test1", "seen"), ("test2", "unseen"), ("test3", "test3"))
COLUMNS = (*ATTRIBUTES, "mean")
_REPORTABLE = ("development", *(partition for partition, _ in SIDES))
_REPORTED = ("system", "modality", "transcripts", "release", "release_note", "parameters_m", "partition", "source")

Track = tuple[str, str, str, str]
"""Corpus as shown, label digest (8 hex, or empty for reported rows), condition, transcript source scored on."""

_STRATEGIES = {"finetune": "", "none": "as released"}
"""What stands behind a system's name; other strategies by their own."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    system: str
    modality: str
    parameters: str
    """Millions."""
    transcripts: str
    """The source scored on."""
    trained_on_text: str
    """The source trained on."""
    status: str
    """``reported``, ``self-reported`` or ``reproduced``."""
    source: str = ""
    """Where a reported row was published, and what is uncertain about it."""
    corpus: str
    identity: str
    """How far the claimed release is confirmed; empty for reported rows."""
    labels: str
    condition: str
    marks: tuple[str, ...] = ()
    """Why it is not ranked: random, tiny or local weights, a partial partition, weights that have seen the corpus."""
    notes: tuple[str, ...] = ()
    """What else a reader must know."""
    cells: Mapping[str, Mapping[str, Any]]
    """Partition -> attribute or mean -> ``{"mean", "std", "ci95"}``, or None."""
    blocks: Mapping[str, Sequence[Mapping[str, Any]]]
    """Partition -> of each seed's resampling block, what ranking needs (``_slim``); empty for reported rows."""
    seeds: int = 0
    strategy: str = ""
    ceiling: Mapping[str, Any] = field(default_factory=dict)
    """Partition -> how far raters agree on its labels (``scoring.ceiling``), or None."""
    created: str = ""
    """When the record was made, UTC, as it says; empty for reported rows."""
    stem: str = ""
    """Name of the record's file without its ending; empty for reported rows."""
    words: tuple[str, ...] = ()
    """What else the row may be searched by: encoders, head, distribution, repositories."""
    few: tuple[str, ...] = ()
    """For each side with under 20 clusters: their number, and the mean's interval over utterances."""

    @property
    def label(self) -> str:
        """The system's name, and how it was trained where that is not all of it at once."""
        told = _STRATEGIES.get(self.strategy, self.strategy)
        return f"{self.system}, {told}" if told else self.system

    @property
    def reads_text(self) -> bool:
        """Whether the transcript source is part of the row's track."""
        return "text" in self.modality


def from_record(record: Mapping[str, Any], *, stem: str = "") -> Row:
    """Return the row of a record; ``stem`` is its file's name without the ending."""
    system, corpus, texts = record["system"], record["corpus"], record["transcripts"]
    found = {part["weights"].partition("-")[0] for part in system["parts"]} & {"random", "tiny", "local"}
    marks = [f"{mark} weights" for mark in sorted(found)]
    if any(_is_msp_podcast(name) for part in system["parts"] for name in part["trained_on"]):
        marks.append("pre-trained on MSP-Podcast")
    partial = sum(partition["missing"] for partition in corpus["partitions"].values())
    if partial:
        marks.append(f"{partial:,} without audio")
    notes = []
    if "trained" in record:
        source = record["trained"]["corpus"]
        notes.append(f"trained on {_corpus_name(source)}")
        if source["labels_sha256"] != corpus["labels_sha256"]:
            marks.append("trained on another release")  # whose train may hold utterances of this one's tests
    if record.get("predictions") == "withheld":
        notes.append("not verifiable")
    return Row(
        system=system["name"],
        modality="+".join(system["reads"]) or "none",
        parameters=f"{system['parameters'] / 1e6:.3f}",
        transcripts=texts["test"],
        trained_on_text=texts["train"],
        status=record["status"],
        corpus=_corpus_name(corpus),
        identity=corpus["identity"],
        labels=corpus["labels_sha256"][:8],
        condition=corpus["condition"],
        marks=tuple(marks),
        notes=tuple(notes),
        cells={name: part["ccc"] for name, part in record["summary"].items()},
        blocks={
            name: [_slim(run["resampling"][name]) for run in record["runs"]]
            for name in record["summary"]
            if name in RANKED
        },
        seeds=len(record["runs"]),
        strategy=record["strategy"],
        ceiling=record.get("ceiling", {}),
        created=record["created"],
        stem=stem,
        words=_words(record),
        few=tuple(few_clusters(record)),
    )


def _slim(block: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a resampling block what ranking by the mean needs; of 500 records that is a fifth of the memory."""
    kept = {key: block[key] for key in ("metric", "digest", "sizes", "mean")}
    # An empty list says that the attribute was scored.
    scored: dict[str, Any] = {attribute: None if block[attribute] is None else [] for attribute in ATTRIBUTES}
    return {**kept, **scored, "full": {"mean": block["full"]["mean"]}}


def _words(record: Mapping[str, Any]) -> tuple[str, ...]:
    system = record["system"]
    found = [system["head"], system["distribution"]]
    for part in system["parts"]:
        found += [part["name"], part["repo"], part["weights"]]
    return tuple(dict.fromkeys(word for word in found if word))


def _corpus_name(corpus: Mapping[str, Any]) -> str:
    if corpus["name"] != "msp-podcast":  # a stand-in or demo release has no version of its own to speak of
        return str(corpus["name"])
    return f"MSP-Podcast {corpus['release'] or '(unknown release)'}"


def _is_msp_podcast(name: str) -> bool:
    return "msppodcast" in "".join(c for c in name.lower() if c.isalpha())


def read_reported(path: Path) -> list[Row]:
    """Read published results, which stand beside ours without a rank.

    Raises:
        RecordError: a column is missing, a value is not a CCC, a cell holds what a reader would not see or a page would
            run, or a partition is unknown or there twice; names the line.
    """
    if not path.exists():
        return []
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            absent = {*_REPORTED, *ATTRIBUTES}.difference(reader.fieldnames or ())
            if absent:
                raise ValueError(f"it has no column {', no column '.join(sorted(absent))}")
            for line in reader:
                if None in line or None in line.values():
                    raise ValueError("it has more or fewer cells than the first line")
                for column, cell in line.items():
                    if (fault := text_fault(cell)) is not None:
                        raise ValueError(f"{column} is {cell[:80]!r}, and {fault}")
                key = tuple(line[c].strip() for c in _REPORTED if c != "partition")
                cells = found.setdefault(key, {})
                if line["partition"] not in _REPORTABLE or line["partition"] in cells:
                    raise ValueError(f"partition {line['partition']!r} is unknown or there twice")
                cells[line["partition"]] = _reported_cells([float(line[a]) for a in ATTRIBUTES])
        except (ValueError, csv.Error) as error:
            raise RecordError(
                f"{path} line {reader.line_num} cannot be read: {error}; expected the columns "
                f"{', '.join((*_REPORTED, *ATTRIBUTES))}, a partition out of {', '.join(_REPORTABLE)}, and CCCs of "
                "-1..1. Correct the line."
            ) from error
    rows = []
    for (system, modality, transcripts, release, note, parameters, source), cells in found.items():
        rows.append(
            Row(
                system=system,
                modality=modality,
                parameters=parameters,
                transcripts=transcripts,
                trained_on_text=transcripts,
                status="reported",
                source=f"{source}{'; ' + note if note else ''}",
                corpus=f"MSP-Podcast {release}",
                identity="",
                labels="",
                condition="clean",
                cells=cells,
                blocks={},
            )
        )
    return rows


def _reported_cells(values: Sequence[float]) -> dict[str, Any]:
    if not all(-1 <= value <= 1 for value in values):  # also false for NaN
        raise ValueError(f"{values} are not CCCs")
    named = zip(COLUMNS, (*values, sum(values) / len(values)), strict=True)
    return {name: {"mean": value, "std": None, "ci95": None} for name, value in named}


def tracks(rows: Iterable[Row]) -> dict[Track, list[Row]]:
    """Sort rows into tracks; what may be ranked together stands together.

    An audio-only row stands in every text track of its corpus, or, where there is none, in one of its own. Reported
    rows, whose labels nobody has seen, join all labels of their release; where there are none, they stand alone.
    """
    rows = list(rows)
    sources: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        release = (row.corpus, row.condition)
        same = {r.labels for r in rows if r.labels and (r.corpus, r.condition) == release}
        for labels in {row.labels} if row.labels else same or {""}:
            texts = sources.setdefault((row.corpus, labels, row.condition), set())
            texts.update({row.transcripts} if row.reads_text else ())
    return {
        (corpus, labels, condition, source): [
            row
            for row in rows
            if (row.corpus, row.condition) == (corpus, condition)
            and row.labels in ("", labels)
            and (not row.reads_text or row.transcripts == source)
        ]
        for (corpus, labels, condition), texts in sorted(sources.items())
        for source in sorted(texts or {"none"})
    }


def ranks(rows: Sequence[Row], partition: str) -> list[int | None]:
    """Rank the rows that may be ranked, by the paired test on the mean CCC; None for the others.

    Rows can be paired that were scored on the same utterances in the same clusters by the same metric. Where a track
    holds several such sets (a corrected speaker list, a new metric), that with most systems is ranked, of equal ones
    that which holds the oldest record: one odd record, or many of one system, do not take everybody's rank away.
    """
    able = [i for i, row in enumerate(rows) if not row.marks and partition in row.blocks]
    sets: dict[tuple[str, str, str], list[Row]] = {}
    for i in able:
        sets.setdefault(_paired(rows[i], partition), []).append(rows[i])
    ranked = min(sets, key=lambda paired: (*_standing(sets[paired]), paired), default=None)
    able = [i for i in able if _paired(rows[i], partition) == ranked]
    found: list[int | None] = [None] * len(rows)
    for i, place in zip(able, rank([list(rows[i].blocks[partition]) for i in able]), strict=True):
        found[i] = place
    return found


def _standing(rows: Sequence[Row]) -> tuple[int, str]:
    """Return a key that puts the rows first that are ranked: of most systems, then with the oldest record."""
    return -len({row.system for row in rows}), min(row.created for row in rows)


def _paired(row: Row, partition: str) -> tuple[str, str, str]:
    """Return what two rows must share to be compared in pairs."""
    block = row.blocks[partition][0]
    return block["metric"], block["digest"], str(block["sizes"])


def few_clusters(record: Mapping[str, Any]) -> list[str]:
    """Return a note for each side with too few clusters for an interval over speakers, with that over utterances."""
    notes = []
    first = record["runs"][0]
    for name, word in SIDES:
        part = first["scores"].get(name)
        if part is not None and part["clusters"]["few"] and part["ccc"]["mean"] is not None:
            low, high = part["ccc"]["mean"].get("ci95_utterances") or (None, None)
            over = "" if low is None else f", over utterances [{low:.3f}, {high:.3f}]"
            notes.append(f"few clusters on {word} ({part['clusters']['count']}) for an interval over speakers{over}")
    return notes


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A row in a track: its place in the table, and its ranks."""

    row: Row
    ranks: Mapping[str, int | None]
    """Partition -> rank, for each side that is ranked."""


def sides(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return (partition, word) of the sides that a table of these rows has."""
    found = [(p, word) for p, word in SIDES if any(p in row.cells for row in rows)]
    if not any(p == "test1" for p, _ in found):  # the challenge packages, which come without test1
        found.insert(0, ("development", "development"))
    return found


def standings(rows: Sequence[Row]) -> list[Standing]:
    """Order the rows of one track: best mean on the first side first, rows without claim to a rank last."""
    shown = sides(rows)
    ordered = sorted(rows, key=lambda row: (bool(row.marks), -_mean(row, shown[0][0]), row.system, row.stem))
    places = {partition: ranks(ordered, partition) for partition, _ in shown if partition in RANKED}
    return [
        Standing(row=row, ranks={partition: place[number] for partition, place in places.items()})
        for number, row in enumerate(ordered)
    ]


_RATERS = {"one": "human rater", "simulated": "simulated rater"}


def references(rows: Sequence[Row]) -> list[Row]:
    """Return rows of what people reach on the labels of a track, to hold systems against; none where it is not known.

    Records of the same labels hold the same; each partition's is what most of the rows say that may be ranked, with
    nothing missing, so that no single record sets it.
    """
    known = {name: found for name in _REPORTABLE if (found := _agreed(rows, name)) is not None}
    made = []
    for word, name in _RATERS.items():
        cells = {
            partition: {
                c: {"mean": found[c][word], "std": None, "ci95": None}
                for c in COLUMNS
                if found[c] is not None and found[c][word] is not None
            }
            for partition, found in known.items()
        }
        if any(cells.values()):
            made.append(_reference(rows[0], name, cells))
    return made


def _agreed(rows: Sequence[Row], partition: str) -> Any:
    """Return what most unmarked rows say of the raters of a partition; of equally many, what knows most utterances.

    None where none of them says anything.
    """
    said = [found for row in rows if not row.marks and (found := row.ceiling.get(partition))]
    votes = Counter(json.dumps(found, sort_keys=True) for found in said)
    most = min(votes, key=lambda told: (-votes[told], -json.loads(told)["utterances"], told), default=None)
    return None if most is None else json.loads(most)


def _reference(like: Row, name: str, cells: Mapping[str, Any]) -> Row:
    return Row(
        system=name,
        modality="human",
        parameters="",
        transcripts=like.transcripts,
        trained_on_text=like.transcripts,
        status="reference",
        corpus=like.corpus,
        identity="",
        labels=like.labels,
        condition=like.condition,
        cells=cells,
        blocks={},
    )


def _mean(row: Row, partition: str) -> float:
    cell = row.cells.get(partition, {}).get("mean")
    return -2.0 if cell is None else float(cell["mean"])
