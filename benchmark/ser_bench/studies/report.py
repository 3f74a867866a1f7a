"""What a study leaves behind: Markdown, a picture, CSV and JSON, all from one ``Report``."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_bench import recipes, records
from ser_bench.cache import atomic_write
from ser_bench.host import host
from ser_bench.interface import Recipe
from ser_bench.leaderboard.svg import Drawing
from ser_bench.scoring.compare import DECIDABLE
from ser_bench.studies.claims import Claim, refuting
from ser_bench.studies.paper import LAYERS_OF, RELEASE, SIDES, TABLE1

_WORDS = {"true": "**true**", "false": "**false**", "undecided": "undecided", "not tested": "not tested"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """A study's outcome."""

    study: str
    title: str
    intro: str
    tables: tuple[str, ...]
    """Markdown."""
    columns: tuple[str, ...]
    """Of the CSV."""
    rows: tuple[Mapping[str, Any], ...]
    """Every number of it, one a row."""
    claims: tuple[Claim, ...]
    drawing: Drawing
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else goes into the JSON."""
    varies: frozenset[str] = frozenset()
    """In what its runs differ from the paper's defaults by design: keys of the recipe, or ``transcripts``."""
    departs: tuple[str, ...] = ()
    """In what else the study itself departs from the paper."""
    compares: bool = True
    """Whether its claims rest on comparisons of scores, with the margin."""

    def departures(self, found: Mapping[str, records.Json]) -> list[str]:
        """Say in what the study and its runs differ from the paper's: its numbers are no measure for these then."""
        return [*departures(found.values(), self.varies), *self.departs]


def write(report: Report, folder: Path, found: Mapping[str, records.Json], margin: float) -> list[Path]:
    """Write ``<study>.md``, ``.svg``, ``.png``, ``.csv`` and ``.json`` and return their paths.

    Args:
        report: the outcome.
        folder: made if absent.
        found: the records behind it, by what the study calls them.
        margin: as used for the verdicts.
    """
    signatures = {key: record["signature"] for key, record in found.items()}
    told = {
        "study": report.study,
        "title": report.title,
        "margin": margin,
        "comparable_with_the_paper": not report.departures(found),
        "departures": report.departures(found),
        "claims": [one.as_dict() for one in report.claims],
        "rows": [dict(row) for row in report.rows],
        "signatures": signatures,
        "notes": _notes(report, found),
        **report.extra,
    }
    contents: dict[str, str | bytes] = {
        "md": markdown(report, found, margin),
        "svg": report.drawing.alone(),
        "png": report.drawing.png(),
        "csv": _csv(report),
        "json": records.canonical(told),
    }
    paths = []
    for kind, content in contents.items():
        path = folder / f"{report.study}.{kind}"
        atomic_write(path, content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    return paths


def markdown(report: Report, found: Mapping[str, records.Json], margin: float) -> str:
    """Return the report for people."""
    parts = [f"# {report.title}", report.intro]
    apart = report.departures(found)
    if apart:
        parts.append(
            f"> **Not the paper's setting**: {'; '.join(apart)}. The paper's numbers, where they stand here, are no "
            "measure for these."
        )
    parts.append(f"![{report.title}]({report.study}.svg)")
    parts += report.tables
    parts += ["## Claims", _claims(report, margin)]
    notes = _notes(report, found)
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    lines = [f"- {key}: `{record['signature']}`" for key, record in found.items()]
    parts += ["## Runs", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _claims(report: Report, margin: float) -> str:
    lines = ["| claim | the paper | verdict |", "|---|---|---|"]
    lines += [f"| {one.says} | {one.paper or '-'} | {_WORDS[one.verdict]} |" for one in report.claims]
    parts = ["\n".join(lines)]
    said = (
        "A claim is true if every test below supports it, false if one refutes it, else undecided, also where a test "
    )
    said += (
        "could not be made. What refutes is corrected by Holm for the number of the claim's tests. Intervals are 95 %"
    )
    if report.compares:
        said = f"Differences within {margin:g} CCC are of no importance (the margin). {said}, over speakers and seeds"
    parts.append(f"{said}.")
    for one in report.claims:
        told = [
            f"- {test.what}: {test.found}{'; supports it' if test.supports else '; refutes it' if refutes else ''}"
            for test, refutes in zip(one.tests, refuting(one.tests), strict=True)
        ]
        told = told or ["- no runs for it here"]
        parts.append("\n".join([f"**{one.says}** {one.verdict}. {one.how}", "", *told]))
    return "\n\n".join(parts)


def _notes(report: Report, found: Mapping[str, records.Json]) -> list[str]:
    return [*report.notes, *(_too_few(found.values()) if report.compares else [])]


def _too_few(found: Iterable[records.Json]) -> list[str]:
    """Say on which sides there are too few clusters for any comparison to be decided."""
    counts = {
        SIDES[side]: block["clusters"]
        for record in found
        for run in record["runs"]
        for side, block in run["resampling"].items()
        if side in SIDES
    }
    return [
        f"There are {count} clusters of {side} speakers; under {DECIDABLE} the paired test decides nothing."
        for side, count in counts.items()
        if count < DECIDABLE
    ]


def departures(found: Iterable[records.Json], varies: Collection[str] = ()) -> list[str]:
    """Say in what runs differ from the paper's.

    Args:
        found: their records.
        varies: what a study changes by design (``Report.varies``).
    """
    told: dict[str, None] = {}
    for record in found:
        corpus, system = record["corpus"], record["system"]
        if corpus["name"] != "msp-podcast":
            told[f"the corpus is {corpus['name']}"] = None
        elif corpus["release"] != RELEASE:
            told[f"the release is {corpus['release'] or 'not named'}, not {RELEASE}"] = None
        elif corpus["identity"] == "unconfirmed":
            told[f"that the release is {RELEASE} is unconfirmed"] = None
        texts = record["transcripts"]["train"]
        if texts not in ("human", "none") and "transcripts" not in varies:
            told[f"the text is {texts}'s, not human"] = None
        if system["name"] not in TABLE1 and not system["name"].startswith(f"{LAYERS_OF}>"):
            told[f"{system['name']} is not the paper's"] = None
        words = [part["weights"] for part in system["parts"] if part["weights"] not in ("pretrained", "scratch")]
        if words:
            told[f"weights are {', '.join(dict.fromkeys(words))}"] = None
        missing = sum(partition["missing"] for partition in corpus["partitions"].values())
        if missing:
            told[f"{missing:,} utterances are missing"] = None
        for key in [key for key in ("recipe", "head_recipe") if key in record]:
            by_first = key == "recipe" and "first_stage" in record
            usual = recipes.as_dict(_usual_recipe(record["first_stage"]["system"] if by_first else system["name"]))
            known, own = ({k: v for k, v in recipe.items() if k not in varies} for recipe in (usual, record[key]))
            for line in records.differences(known, own, key, words=("by default", "here")):
                told[line] = None
    return list(told)


def _usual_recipe(system: str) -> Recipe:
    """Return what a system is trained by where nobody says otherwise: its own recipe, else the paper's."""
    return host().plan(system).recipe if ("system", system) in host().offers else Recipe()


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [" | ".join(row) for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def _csv(report: Report) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, report.columns, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        writer.writerow({key: "" if row.get(key) is None else row[key] for key in report.columns})
    return out.getvalue()
