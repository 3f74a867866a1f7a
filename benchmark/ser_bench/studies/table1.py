"""Table 1: audio systems and audio-text systems, on seen and unseen podcasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ser_bench.interface import ATTRIBUTES
from ser_bench.records import Json
from ser_bench.studies import paper, systems
from ser_bench.studies.cells import COLUMNS, against, cells, shown
from ser_bench.studies.claims import Claim, Judge, Test, claim
from ser_bench.studies.draw import table1 as draw
from ser_bench.studies.options import Cell, Options, Scoring
from ser_bench.studies.report import Report, number, table
from ser_bench.studies.systems import Pair, label

_INTRO = (
    "Each audio system, and the same with text, fine-tuned (the paper's six: three speech encoders, each without and "
    "with TinyBERT on the transcript). CCC, the mean over seeds, with its 95 % interval over speakers and seeds; seen "
    "is test1, unseen test2. The paper's number stands first, with ours less the paper's in brackets."
)
_NO_LOWER = "Not lower by more than the margin: the 90 % interval is above -margin."
_FALLS = (paper.LARGE, "dominance")
"""What the paper excepts from what stays."""


class Table1:
    """The study."""

    name = "table1"
    title = "Table 1: what text adds"
    takes = frozenset({"systems", "transcripts"})

    def cells(self, options: Options) -> list[Cell]:
        """Return one fine-tuning for each system; the two of a pair share the audio front end's store."""
        found: dict[str, Cell] = {}
        for pair in systems.pairs_of(options.systems):
            heard = options.spec(pair.audio, weights=systems.weights_for(options.weights, pair.audio))
            read = options.spec(
                pair.both, weights=systems.weights_for(options.weights, pair.both), transcripts=options.only_transcripts
            )
            for cell in (
                Cell(key=pair.audio, spec=heard, shares=f"audio frames with {pair.both}"),
                Cell(key=pair.both, spec=read, shares=f"audio frames with {pair.audio}"),
            ):
                found.setdefault(cell.key, cell)  # several may add text to one audio system
        return list(found.values())

    def scorings(self, options: Options) -> list[Scoring]:
        """Return none."""
        return []

    def report(self, found: Mapping[str, Json], options: Options) -> Report:
        """Make the report."""
        pairs = systems.by_size(systems.pairs_of(options.systems))
        names = [*dict.fromkeys(pair.audio for pair in reversed(pairs)), *(pair.both for pair in reversed(pairs))]
        rows = [row for name in names for row in _rows(name, found[name])]
        return Report(
            study=self.name,
            title=self.title,
            intro=_INTRO,
            tables=(_table(names, rows, paper.SEEN), _table(names, rows, paper.UNSEEN)),
            columns=("system", "modality", "parameters", "trainable_parameters", "paper_parameters_m", *COLUMNS),
            rows=tuple(rows),
            claims=tuple(claims(pairs, found, options.margin)),
            drawing=draw(pairs, rows),
            notes=(
                "Parameters are counted at full size; trainable ones leave out the frozen convolutional encoders.",
                "The paper scores one training; its differences hold no interval.",
            ),
        )


def claims(pairs: list[Pair], found: Mapping[str, Json], margin: float) -> Iterator[Claim]:
    """Judge the paper's claims.

    Args:
        pairs: smallest first; the smallest plays the distilled system's part, the largest the large one's.
        found: system -> record.
        margin: CCC.
    """
    judge = Judge(found, margin)
    small, large = pairs[0], pairs[-1]
    yield claim(
        "text raises valence",
        "Text raises valence in every system, on seen and unseen podcasts",
        [judge.rises(p.both, p.audio, side, "valence", what=label(p.both)) for p in pairs for side in paper.SIDES],
        paper=_valences(pairs),
        how="The paired test of each audio-text system against its audio system.",
    )
    others = [p for p in pairs if p is not small]
    if others:
        yield claim(
            "most for the distilled",
            f"Text raises valence most for {label(small.audio)}",
            [
                judge.more(
                    (small.both, small.audio), (p.both, p.audio), side, "valence", what=f"against {label(p.audio)}"
                )
                for p in others
                for side in paper.SIDES
            ],
            paper="0.328 to 0.519 seen, 0.169 to 0.333 unseen" if small.both == paper.DISTILLED else "",
            how="The paired test of the difference of two gains.",
        )
    kept = [(p, a) for p in pairs for a in ("arousal", "dominance") if (p.both, a) != _FALLS]
    own = len(kept) < 2 * len(pairs)
    yield claim(
        "arousal and dominance stay",
        "Arousal and dominance stay with text (or improve)"
        + (", but for dominance of the large system" if own else ""),
        [test for p, a in kept for test in _staying(judge, (p.both, p.audio), (a,))],
        paper="either improved or remained at the same level",
        how=_NO_LOWER,
    )
    for pair in [p for p in pairs if p.both == paper.LARGE]:
        yield claim(
            "dominance of the large falls",
            "Dominance of the large system falls with text",
            [judge.rises(pair.audio, pair.both, s, "dominance", what="audio over audio-text") for s in paper.SIDES],
            paper="0.521 to 0.484 seen, 0.390 to 0.353 unseen",
            how="The paired test.",
        )
    if others:
        yield from _distilled(judge, small, large)


def _distilled(judge: Judge, small: Pair, large: Pair) -> Iterator[Claim]:
    """Judge what is said of the smallest system against the largest."""
    own = small.both == paper.DISTILLED and large.both == paper.LARGE
    yield claim(
        "on par with the large",
        f"{label(small.both)} is on par with {label(large.both)} (or better) in all three attributes",
        _staying(judge, (small.both, large.both), ATTRIBUTES),
        paper="0.614 / 0.519 / 0.509 against 0.619 / 0.560 / 0.484 seen, 0.475 / 0.333 / 0.392 against 0.469 / 0.347 / "
        "0.353 unseen: valence is 0.041 and 0.014 lower, which no margin of 0.01 would call on par"
        if own
        else "",
        how=_NO_LOWER,
    )
    yield claim(
        "a fifth of the parameters",
        f"{label(small.both)} has about 20 % of the trainable parameters of {label(large.both)}",
        [_share(small.both, large.both)],
        paper="~20 % (34.377 / 175.699 M = 19.6 %; of all parameters 21.4 %)" if own else "",
        how="Counted at full size; about 20 % is 17.5 to 22.5 %.",
    )
    if small.audio == large.audio:  # text alone sets them apart
        return
    yield claim(
        "distilled audio matches the large",
        f"{label(small.audio)} alone matches {label(large.audio)} in arousal and dominance",
        _staying(judge, (small.audio, large.audio), ("arousal", "dominance")),
        paper="0.622 and 0.513 against 0.627 and 0.521 seen, 0.470 and 0.395 against 0.462 and 0.390 unseen"
        if own
        else "",
        how=_NO_LOWER,
    )
    yield claim(
        "distilled audio lacks valence",
        f"{label(small.audio)} alone falls behind {label(large.audio)} in valence",
        [
            judge.rises(large.audio, small.audio, s, "valence", what=f"{label(large.audio)} over {label(small.audio)}")
            for s in paper.SIDES
        ],
        paper="0.328 against 0.470 seen, 0.169 against 0.263 unseen" if own else "",
        how="The paired test.",
    )


def _staying(judge: Judge, of: tuple[str, str], attributes: tuple[str, ...]) -> list[Test]:
    a, b = of
    return [
        judge.stays(a, b, side, attribute, what=f"{label(a)} against {label(b)}")
        for side in paper.SIDES
        for attribute in attributes
    ]


def _share(small: str, large: str) -> Test:
    """Test that a system has about a fifth of another's trainable parameters."""
    (total, trained), (all_of, trained_of) = systems.sizes(small), systems.sizes(large)
    share = trained / trained_of
    near = abs(share - paper.SHARE) <= 0.025
    return Test(
        what="trainable parameters",
        found=f"{trained / 1e6:.3f} of {trained_of / 1e6:.3f} M = {share:.1%}; of all {total / all_of:.1%}",
        supports=near,
        against=1.0,
        refutes=not near,
    )


def _valences(pairs: list[Pair]) -> str:
    told = []
    for pair in pairs:
        scores = [paper.score(name, paper.SEEN, "valence") for name in (pair.audio, pair.both)]
        if None not in scores:
            told.append(f"{label(pair.audio)} {number(scores[0])} to {number(scores[1])}")
    return f"seen: {', '.join(told)}" if told else ""


def _rows(name: str, record: Json) -> Iterator[dict[str, Any]]:
    total, trainable = systems.sizes(name)
    stated = paper.TABLE1.get(name)
    about = {
        "system": name,
        "modality": "+".join(record["system"]["reads"]),
        "parameters": total,
        "trainable_parameters": trainable,
        "paper_parameters_m": None if stated is None else stated.millions,
    }
    for partition in paper.SIDES:
        for row in cells(record, partition, {a: paper.score(name, partition, a) for a in ATTRIBUTES}):
            yield about | row


def _table(names: list[str], rows: list[dict[str, Any]], partition: str) -> str:
    lines = []
    for name in names:
        own = {row["attribute"]: row for row in rows if row["system"] == name and row["partition"] == partition}
        if not own:
            continue
        first = next(iter(own.values()))
        sizes = f"{first['parameters'] / 1e6:.3f}"
        sizes += "" if first["paper_parameters_m"] is None else f" ({first['paper_parameters_m']})"
        lines.append(
            [label(name), first["modality"], sizes]
            + [text for a in ATTRIBUTES for text in ((against(own[a]), shown(own[a])) if a in own else ("-", "-"))]
        )
    heads = ["system", "modality", "parameters, M (paper)"]
    heads += [f"{a}, {what}" for a in ATTRIBUTES for what in ("paper", "ours")]
    title = f"## {paper.SIDES[partition].capitalize()} podcasts ({partition})"
    return f"{title}\n\n{table(heads, lines)}" if lines else f"{title}\n\nThis release has no {partition}."
