"""Tables from records and reported results: seen and unseen side by side, rows of one track together.

Reads JSON and CSV only; never imports torch.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ser_bench import records
from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError, ScoreError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.compare import rank

SIDES = (("test1", "seen"), ("test2", "unseen"), ("test3", "test3"))
COLUMNS = (*ATTRIBUTES, "mean")
_LETTERS = {"arousal": "A", "valence": "V", "dominance": "D", "mean": "mean"}
_REPORTED = ("system", "modality", "transcripts", "release", "release_note", "parameters_m", "partition", "source")

Track = tuple[str, str, str, str]
"""Corpus as shown, label digest (8 hex, or empty for reported rows), condition, transcript source scored on."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    system: str
    modality: str
    parameters: str
    """Millions."""
    transcripts: str
    status: str
    corpus: str
    labels: str
    condition: str
    marks: tuple[str, ...] = ()
    """Why a row is not ranked: random, tiny or local weights, a partial partition."""
    cells: Mapping[str, Mapping[str, Any]]
    """Partition -> attribute or mean -> ``{"mean", "std", "ci95"}``, or None."""
    blocks: Mapping[str, Sequence[Mapping[str, Any]]]
    """Partition -> the resampling block of each seed; empty for reported rows."""
    seeds: int = 0

    @property
    def reads_text(self) -> bool:
        """Whether the transcript source is part of the row's track."""
        return "text" in self.modality


def from_record(record: Mapping[str, Any]) -> Row:
    """Return the row of a record."""
    system, corpus = record["system"], record["corpus"]
    # A stand-in or demo release has no version of its own to speak of.
    shown = (
        f"MSP-Podcast {corpus['release'] or '(unknown release)'}" if corpus["name"] == "msp-podcast" else corpus["name"]
    )
    marks = {part["weights"].partition("-")[0] for part in system["parts"]} & {"random", "tiny", "local"}
    partial = sum(partition["missing"] for partition in corpus["partitions"].values())
    return Row(
        system=system["name"],
        modality="+".join(system["reads"]) or "none",
        parameters=f"{system['parameters'] / 1e6:.3f}",
        transcripts=record["transcripts"]["test"],
        status=record["status"],
        corpus=shown,
        labels=corpus["labels_sha256"][:8],
        condition=corpus["condition"],
        marks=tuple(sorted(f"{mark} weights" for mark in marks)) + ((f"{partial} without audio",) if partial else ()),
        cells={name: part["ccc"] for name, part in record["summary"].items()},
        blocks={name: [run["resampling"][name] for run in record["runs"]] for name in record["summary"]},
        seeds=len(record["runs"]),
    )


def read_reported(path: Path) -> list[Row]:
    """Read published results, which stand beside ours without a rank.

    Raises:
        RecordError: a column is missing or a value is not a CCC.
    """
    if not path.exists():
        return []
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                key = tuple(line[c] for c in _REPORTED if c != "partition")
                values = {a: {"mean": float(line[a]), "std": None, "ci95": None} for a in ATTRIBUTES}
            except (KeyError, TypeError, ValueError) as error:
                raise RecordError(
                    f"{path} line {number} cannot be read ({error!r}); expected {', '.join((*_REPORTED, *ATTRIBUTES))}."
                ) from error
            mean = sum(v["mean"] for v in values.values()) / len(values)
            found.setdefault(key, {})[line["partition"]] = {**values, "mean": {"mean": mean, "std": None, "ci95": None}}
    rows = []
    for (system, modality, transcripts, release, note, parameters, source), cells in found.items():
        rows.append(
            Row(
                system=system,
                modality=modality,
                parameters=parameters,
                transcripts=transcripts,
                status=f"reported ({source}{'; ' + note if note else ''})",
                corpus=f"MSP-Podcast {release}",
                labels="",
                condition="clean",
                cells=cells,
                blocks={},
            )
        )
    return rows


def tracks(rows: Iterable[Row]) -> dict[Track, list[Row]]:
    """Sort rows into tracks; what may be ranked together stands together.

    An audio-only row stands in every text track of its corpus, or, where there is none, in one of its own. Reported
    rows join the tracks of their release with the same kind of text; a track without records holds them alone.
    """
    rows = list(rows)
    ours = [row for row in rows if row.blocks]
    reported = [row for row in rows if not row.blocks]
    found: dict[Track, list[Row]] = {}
    for row in ours:
        same = {r.transcripts for r in ours if r.reads_text and _corpus(r) == _corpus(row)}
        for source in sorted({row.transcripts} if row.reads_text else same or {"none"}):
            found.setdefault((*_corpus(row), source), []).append(row)
    releases = {track[0] for track in found}
    for row in reported:
        if row.corpus not in releases:
            same = {r.transcripts for r in reported if r.reads_text and r.corpus == row.corpus}
            for source in sorted({row.transcripts} if row.reads_text else same or {"none"}):
                found.setdefault((row.corpus, "", row.condition, source), []).append(row)
            continue
        for track, members in found.items():
            fits = not row.reads_text or row.transcripts == track[3]
            if track[0] == row.corpus and track[2] == row.condition and fits:
                members.append(row)
    return dict(sorted(found.items()))


def ranks(rows: Sequence[Row], partition: str) -> list[int | None]:
    """Rank the rows that may be ranked, by the paired test on the mean CCC; None for the others."""
    able = [i for i, row in enumerate(rows) if not row.marks and partition in row.blocks]
    found: list[int | None] = [None] * len(rows)
    try:
        for i, place in zip(able, rank([list(rows[i].blocks[partition]) for i in able]) if able else [], strict=True):
            found[i] = place
    except ScoreError as error:
        raise RecordError(f"rows of one track cannot be ranked together: {error}") from error
    return found


def table(rows: Sequence[Row], *, style: str = "github") -> str:
    """Return the table of one track, best mean on the seen partition first."""
    sides = [(p, word) for p, word in SIDES if any(p in row.cells for row in rows)]
    if not any(p == "test1" for p, _ in sides):  # the challenge packages, which come without test1
        sides.insert(0, ("development", "development"))
    first = sides[0][0]
    ordered = sorted(rows, key=lambda row: (bool(row.marks), -_mean(row, first), row.system))
    places = {partition: ranks(ordered, partition) for partition, _ in sides}
    lines = []
    for number, row in enumerate(ordered):
        line = {"system": row.system, "modality": row.modality, "params (M)": row.parameters or "-"}
        for partition, word in sides:
            place = places[partition][number]
            line[f"{word} rank"] = "-" if place is None else str(place)
            line |= {f"{word} {_LETTERS[c]}": _shown(row, partition, c) for c in COLUMNS}
        line["seeds"] = str(row.seeds or "-")
        line["status"] = ", ".join((row.status, *row.marks))
        lines.append(line)
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


def run_table(record: Mapping[str, Any]) -> str:
    """Return the scores of one record, by partition."""
    lines = []
    for partition, part in record["summary"].items():
        for column in COLUMNS:
            cell = part["ccc"][column]
            if cell is not None:
                low, high = cell["ci95"] or (None, None)
                spread = "-" if cell["std"] is None else f"{cell['std']:.3f}"
                interval = "-" if low is None else f"{low:.3f} .. {high:.3f}"
                lines.append([partition, column, f"{cell['mean']:.3f}", spread, interval])
    heads = ["partition", "attribute", "CCC", "std over seeds", "95 % interval"]
    return tabulate(lines, headers=heads, disable_numparse=True)


def render(leaderboard: Path, out: Path | None = None) -> tuple[Path, str]:
    """Write README.md from ``records/*.json`` and ``reported.csv``; return its path and text.

    Raises:
        RecordError: there is nothing to show, or a record is malformed.
    """
    rows = [from_record(records.read(path)) for path in sorted((leaderboard / "records").glob("*.json"))]
    rows += read_reported(leaderboard / "reported.csv")
    if not rows:
        raise RecordError(
            f"{leaderboard} holds no record; expected {leaderboard / 'records'}/*.json or reported.csv. Put a run there "
            "with `ser-bench leaderboard add RUN`."
        )
    parts = ["# Leaderboard", "", _EXPLAINED, ""]
    for (corpus, labels, condition, transcripts), members in tracks(rows).items():
        named = [corpus, f"labels {labels}" if labels else "", "" if condition == "clean" else condition]
        text = {"human": "human transcripts", "none": "no transcripts"}.get(transcripts, f"transcripts {transcripts}")
        parts += [f"## {', '.join(filter(None, [*named, text]))}", "", table(members), ""]
    written = (out or leaderboard) / "README.md"
    atomic_write(written, "\n".join(parts))
    return written, "\n".join(parts)


_EXPLAINED = (
    "CCC (concordance correlation coefficient, -1..1) over the whole partition for arousal (A), valence (V) and dominance"
    " (D), and their mean with its 95 % interval, which resamples speakers. *Seen* is test1 (its podcasts also occur in"
    " train or development), *unseen* is test2. A rank is 1 + the number of rows of the same table that a paired test"
    " (Holm-corrected) calls better; rows that no test tells apart share it. Reported rows and rows with random, tiny or"
    " local weights have no rank. Written by `ser-bench leaderboard render`; not edited by hand."
)


def _corpus(row: Row) -> tuple[str, str, str]:
    return row.corpus, row.labels, row.condition


def _mean(row: Row, partition: str) -> float:
    cell = row.cells.get(partition, {}).get("mean")
    return -2.0 if cell is None else float(cell["mean"])


def _shown(row: Row, partition: str, column: str) -> str:
    cell = row.cells.get(partition, {}).get(column)
    if cell is None:
        return "-"
    if column != "mean" or cell["ci95"] is None:
        return f"{cell['mean']:.3f}"
    low, high = cell["ci95"]
    return f"{cell['mean']:.3f} [{low:.3f}, {high:.3f}]"
