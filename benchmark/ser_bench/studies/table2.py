"""Table 2: human and machine transcripts; and what the paper leaves out: across the two, and in noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ser_bench.errors import StudyError
from ser_bench.host import host
from ser_bench.interface import ATTRIBUTES
from ser_bench.records import Json
from ser_bench.studies import paper, systems
from ser_bench.studies.cells import COLUMNS, against, cells, shown
from ser_bench.studies.claims import Claim, Judge, Test, claim
from ser_bench.studies.draw import table2 as draw
from ser_bench.studies.options import Cell, Options, Scoring
from ser_bench.studies.report import Report, number, table

SOURCES = ("human", "whisper-base", "whisper-tiny")
NOISE = ("noise:babble@10dB",)
"""What trained systems are scored under too (ours: the paper expects noise to cost, and does not measure it)."""
_INTRO = (
    "One audio-text system, fine-tuned on human or machine transcripts and scored on the same kind (the paper's "
    "Table 2); scored on the other kind without training again; and scored in noise, where machine transcripts are of "
    "the noisy audio too. CCC, the mean over seeds, with its 95 % interval over speakers and seeds."
)


class Table2:
    """The study."""

    name = "table2"
    title = "Table 2: transcripts by people and by machines"
    takes = frozenset({"systems", "transcripts", "conditions"})

    def cells(self, options: Options) -> list[Cell]:
        """Return one fine-tuning for each transcript source."""
        name = _system(options)
        return [
            Cell(
                key=trained_key(source),
                spec=options.spec(name, transcripts=source, weights=systems.weights_for(options.weights, name)),
                shares="one audio store for all transcripts",
            )
            for source in _sources(options)
        ]

    def scorings(self, options: Options) -> list[Scoring]:
        """Return human on machine, machine on human, and all in noise."""
        sources = _sources(options)
        by_human = [("human", source) for source in sources if source != "human" and "human" in sources]
        crossed = by_human + [(b, a) for a, b in by_human]
        found = [Scoring(key=scored_key(a, b), of=trained_key(a), transcripts=b) for a, b in crossed]
        for condition in options.conditions or NOISE:
            if condition == "none":
                continue
            pairs = [(source, source) for source in sources] + by_human
            found += [
                Scoring(key=scored_key(a, b, condition), of=trained_key(a), transcripts=b, condition=condition)
                for a, b in pairs
            ]
        return found

    def report(self, found: Mapping[str, Json], options: Options) -> Report:
        """Make the report."""
        sources = _sources(options)
        name = _system(options)
        trained = {trained_key(source) for source in sources}
        rows = [row for key, record in found.items() for row in _rows(name, key, record, key in trained)]
        left_out = [one.key for one in self.scorings(options) if one.key not in found]
        seen = [row for row in rows if row["partition"] == paper.SEEN]
        return Report(
            study=self.name,
            title=self.title,
            intro=f"{_INTRO} The system is {systems.label(name)}.",
            tables=tuple(_table(rows, partition) for partition in paper.SIDES),
            columns=("run", "trained", "transcripts", "condition", "wer_percent", "paper_wer_percent", *COLUMNS),
            rows=tuple(rows),
            claims=tuple(claims(sources, found, options.margin)),
            drawing=draw(seen or rows),
            varies=frozenset({"transcripts"}),
            notes=(
                "Word error rates are of the partition that the row is of, against its human transcripts.",
                *(f"Not there, for want of transcripts heard under that condition: {key}." for key in left_out),
            ),
            extra={"system": name, "left_out": left_out},
        )


def trained_key(source: str) -> str:
    """Return what a fine-tuning on a source is known by."""
    return f"trained on {source}"


def scored_key(trained: str, scored: str, condition: str = "clean") -> str:
    """Return what such a run scored elsewhere is known by."""
    return f"trained on {trained}, scored on {scored}{'' if condition == 'clean' else f', {condition}'}"


def claims(sources: list[str], found: Mapping[str, Json], margin: float) -> Iterator[Claim]:
    """Judge what the paper says in its section 4.4, and the same of what it leaves out."""
    judge = Judge(found, margin)
    machines = [source for source in sources if source != "human"]

    def kept(
        test: Callable[..., Test], pairs: list[tuple[str, str]], sides: Mapping[str, str] = paper.SIDES
    ) -> list[Test]:
        return [
            test(a, b, side, attribute, what=f"{a} against {b}")
            for a, b in pairs
            for side in sides
            for attribute in ATTRIBUTES
        ]

    how = "Not lower by more than the margin: the 90 % interval is above -margin."
    seen = {paper.SEEN: "seen"}
    human = trained_key("human")
    yield claim(
        "machine transcripts cost nothing",
        "Performance is maintained with machine transcripts (seen podcasts)",
        kept(judge.stays, [(trained_key(source), human) for source in machines] if "human" in sources else [], seen),
        paper="valence 0.519 with human, 0.521 and 0.524 with machine transcripts",
        how=how,
    )
    yield claim(
        "whatever the recogniser",
        "Performance is maintained across recognisers, irrespective of their size (seen podcasts)",
        kept(judge.same, [(trained_key(b), trained_key(a)) for a, b in itertools.combinations(machines, 2)], seen),
        paper="valence 0.521 with whisper-base, 0.524 with whisper-tiny",
        how="On par by the equivalence test within the margin, each with each.",
    )
    yield claim(
        "crossed",
        "A system trained on human transcripts keeps its performance on machine transcripts",
        kept(judge.stays, [(scored_key("human", source), human) for source in machines]),
        how=f"{how} The paper does not test it.",
    )


def _system(options: Options) -> str:
    if len(options.systems) > 1:
        raise StudyError(f"--systems {' '.join(options.systems)} was given; table2 is of one system. Give one.")
    name = options.systems[0] if options.systems else paper.DISTILLED
    if "text" not in host().plan(name).reads:
        raise StudyError(f"{name} reads no text, and table2 is about transcripts. Give an audio-text system.")
    return name


def _sources(options: Options) -> list[str]:
    """Return the transcript sources, ``human`` first."""
    given = list(dict.fromkeys(options.transcripts or SOURCES))
    return sorted(given, key=lambda source: source != "human")


def _rows(name: str, key: str, record: Json, trained: bool) -> Iterator[dict[str, Any]]:
    texts, condition = record["transcripts"], record["corpus"]["condition"]
    source = texts["test"].partition("@")[0]
    stated = paper.TABLE2.get(source, {}) if trained and name == paper.DISTILLED else {}
    for partition in paper.SIDES:
        wer = None if texts["wer"] is None else texts["wer"].get(partition, {}).get("value")
        about = {
            "run": key,
            "trained": trained,
            "transcripts": texts["test"],
            "condition": condition,
            "wer_percent": None if wer is None else round(100 * wer, 4),
            "paper_wer_percent": paper.WER.get(source) if trained and partition == paper.SEEN else None,
        }
        said = stated if partition == paper.SEEN else {}
        for row in cells(record, partition, {attribute: said.get(attribute) for attribute in ATTRIBUTES}):
            yield about | row


def _table(rows: list[dict[str, Any]], partition: str) -> str:
    lines = []
    for key in dict.fromkeys(row["run"] for row in rows if row["partition"] == partition):
        own = {row["attribute"]: row for row in rows if (row["run"], row["partition"]) == (key, partition)}
        first = next(iter(own.values()))
        wer = number(first["wer_percent"], 1)
        wer += "" if first["paper_wer_percent"] is None else f" ({first['paper_wer_percent']:.1f})"
        told = [text for a in ATTRIBUTES for text in ((against(own[a]), shown(own[a])) if a in own else ("-", "-"))]
        lines.append([key, wer, *told])
    heads = ["run", "WER, % (paper)", *(f"{a}, {what}" for a in ATTRIBUTES for what in ("paper", "ours"))]
    title = f"## {paper.SIDES[partition].capitalize()} podcasts ({partition})"
    return f"{title}\n\n{table(heads, lines)}" if lines else f"{title}\n\nThis release has no {partition}."
