"""Tables from records and reported results: seen and unseen side by side, rows of one track together.

Reads JSON and CSV only; never imports torch.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.board import RANKED, read_board
from ser_bench.scoring.compare import rank

SIDES = (("test1", "seen"), ("test2", "unseen"), ("test3", "test3"))
COLUMNS = (*ATTRIBUTES, "mean")
_LETTERS = {"arousal": "A", "valence": "V", "dominance": "D", "mean": "mean"}
_REPORTABLE = ("development", *(partition for partition, _ in SIDES))
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
    """The source scored on."""
    trained_on_text: str
    """The source trained on."""
    status: str
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
    """Partition -> the resampling block of each seed; empty for reported rows."""
    seeds: int = 0
    few: tuple[str, ...] = ()
    """For each side with under 20 clusters: their number, and the mean's interval over utterances."""

    @property
    def reads_text(self) -> bool:
        """Whether the transcript source is part of the row's track."""
        return "text" in self.modality


def from_record(record: Mapping[str, Any]) -> Row:
    """Return the row of a record."""
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
        blocks={name: [run["resampling"][name] for run in record["runs"]] for name in record["summary"]},
        seeds=len(record["runs"]),
        few=tuple(_few_clusters(record)),
    )


def _corpus_name(corpus: Mapping[str, Any]) -> str:
    if corpus["name"] != "msp-podcast":  # a stand-in or demo release has no version of its own to speak of
        return str(corpus["name"])
    return f"MSP-Podcast {corpus['release'] or '(unknown release)'}"


def _is_msp_podcast(name: str) -> bool:
    return "msppodcast" in "".join(c for c in name.lower() if c.isalpha())


def read_reported(path: Path) -> list[Row]:
    """Read published results, which stand beside ours without a rank.

    Raises:
        RecordError: a column is missing, a value is not a CCC, or a partition is unknown or there twice; names the
            line.
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
                status=f"reported ({source}{'; ' + note if note else ''})",
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
    holds several such sets (a corrected speaker list, a new metric), the largest is ranked: one odd record does not
    take everybody's rank away.
    """
    able = [i for i, row in enumerate(rows) if not row.marks and partition in row.blocks]
    sets = Counter(_paired(rows[i], partition) for i in able)
    largest = max(sorted(sets), key=lambda paired: sets[paired], default=None)
    able = [i for i in able if _paired(rows[i], partition) == largest]
    found: list[int | None] = [None] * len(rows)
    for i, place in zip(able, rank([list(rows[i].blocks[partition]) for i in able]), strict=True):
        found[i] = place
    return found


def _paired(row: Row, partition: str) -> tuple[str, str, str]:
    """Return what two rows must share to be compared in pairs."""
    block = row.blocks[partition][0]
    return block["metric"], block["digest"], str(block["sizes"])


def table(rows: Sequence[Row], *, style: str = "github") -> str:
    """Return the table of one track, best mean on the seen partition first, rows without claim to a rank last."""
    sides = [(p, word) for p, word in SIDES if any(p in row.cells for row in rows)]
    if not any(p == "test1" for p, _ in sides):  # the challenge packages, which come without test1
        sides.insert(0, ("development", "development"))
    first = sides[0][0]
    ordered = sorted(rows, key=lambda row: (bool(row.marks), -_mean(row, first), row.system))
    places = {partition: ranks(ordered, partition) for partition, _ in sides if partition in RANKED}
    lines = []
    for number, row in enumerate(ordered):
        line = {"system": row.system, "modality": row.modality, "transcripts": _texts(row)}
        line["params (M)"] = row.parameters or "-"
        for partition, word in sides:
            if partition in RANKED:
                line[f"{word} rank"] = str(places[partition][number] or "-")
            line |= {f"{word} {_LETTERS[c]}": _shown(row, partition, c) for c in COLUMNS}
        line["seeds"] = str(row.seeds or "-")
        line["status"] = ", ".join((row.status, *row.notes, *row.marks))
        lines.append({head: cell.replace("|", "\\|") for head, cell in line.items()})
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
    return "\n".join([tabulate(lines, headers=heads, disable_numparse=True), *_remarks(record)])


def _footnotes(rows: Iterable[Row]) -> list[str]:
    """Return what stands under a table: the rows with few clusters, one paragraph each."""
    return [line for row in rows if row.few for line in (f"{row.system}: {'; '.join(row.few)}.", "")]


def _few_clusters(record: Mapping[str, Any]) -> list[str]:
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


def _remarks(record: Mapping[str, Any]) -> list[str]:
    """Return what a reader of one record's scores should know beside them."""
    remarks = [f"{note} (seed {record['runs'][0]['seed']})." for note in _few_clusters(record)]
    outside = {name: part["outside_range"] for name, part in record["corpus"]["partitions"].items()}
    told = ", ".join(f"{count:,} on {name}" for name, count in outside.items() if count)
    return [*remarks, f"Predictions outside 1..7, over all seeds: {told}."] if told else remarks


def render_files(leaderboard: Path) -> dict[Path, bytes]:
    """Return all files that rendering writes, by their path under the leaderboard's folder; writes nothing.

    Raises:
        RecordError: there is nothing to show, or a record is malformed.
    """
    rows = [from_record(record) for record in read_board(leaderboard).rows().values()]
    rows += read_reported(leaderboard / "reported.csv")
    if not rows:
        raise RecordError(
            f"{leaderboard} holds no record; expected {leaderboard / 'records'}/*.json or reported.csv. Put a run "
            "there with `ser-bench leaderboard add RUN`."
        )
    parts = ["# Leaderboard", "", _EXPLAINED, ""]
    for (corpus, labels, condition, transcripts), members in tracks(rows).items():
        confirmed = ", ".join(sorted({row.identity for row in members} - {""}))
        known = f"labels {labels} ({confirmed})" if labels else ""
        named = [corpus, known, "" if condition == "clean" else condition]
        text = {"human": "human transcripts", "none": "no transcripts"}.get(transcripts, f"transcripts {transcripts}")
        parts += [f"## {', '.join(filter(None, [*named, text]))}", "", table(members), "", *_footnotes(members)]
    return {Path("README.md"): "\n".join(parts).encode()}


def render(leaderboard: Path, out: Path | None = None) -> tuple[Path, str]:
    """Write README.md from ``records/*.json`` and ``reported.csv``; return its path and text.

    Raises:
        RecordError: as ``render_files``.
    """
    (name, content), *_ = render_files(leaderboard).items()
    written = (out or leaderboard) / name
    atomic_write(written, content)
    return written, content.decode()


_EXPLAINED = """\
CCC (concordance correlation coefficient, -1..1) over the whole partition for arousal (A), valence (V) and dominance
(D), and their mean with its 95 % interval, which resamples speakers. *Seen* is test1 (its podcasts also occur in
train or development), *unseen* is test2. A rank is 1 + the number of rows of the same table that a paired test
(Holm-corrected) calls better; rows that no test tells apart share it. Without a rank stand reported rows, rows with
random, tiny or local weights, rows without some of the audio, and systems pre-trained on MSP-Podcast. *Not
verifiable* is a row whose predictions are withheld. A release's version is what the run claimed; beside the labels'
digest stands how far the content confirms it. Written by `ser-bench leaderboard render`; not edited by hand."""


def _texts(row: Row) -> str:
    if not row.reads_text:
        return "-"
    both = (row.trained_on_text, row.transcripts)
    return row.transcripts if len(set(both)) == 1 else "{}, scored on {}".format(*both)


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
