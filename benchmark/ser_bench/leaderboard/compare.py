"""Compare two systems from their records alone: paired differences, with interval and verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from ser_bench.errors import RecordError, ScoreError
from ser_bench.interface import ATTRIBUTES, PARTITIONS
from ser_bench.scoring.compare import DECIDABLE, MARGIN, Difference, compare

COLUMNS = (*ATTRIBUTES, "mean")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far system a is ahead of system b, by partition and attribute."""

    names: tuple[str, str]
    signatures: tuple[str, str]
    seeds: tuple[int, int]
    margin: float
    """CCC; differences inside it are on par if the data can tell."""
    scores: Mapping[str, Mapping[str, tuple[float, float]]]
    """Partition -> attribute or mean -> CCC of a and of b, each the mean over its seeds."""
    differences: Mapping[str, Mapping[str, Difference | None]]
    """The same of a less b; None where one of the systems has no such score."""
    clusters: Mapping[str, int]
    """Partition -> clusters that the interval rests on."""
    apart: Mapping[str, str]
    """Partitions that cannot be paired, and why."""

    def text(self) -> str:
        """Return the table for people."""
        lines = []
        for partition, found in self.differences.items():
            for column, one in found.items():
                if one is None:
                    lines.append([partition, column, *["-"] * 6])
                    continue
                between = "-" if one.ci95 is None else f"{one.ci95[0]:+.3f} .. {one.ci95[1]:+.3f}"
                small = one.negligible and one.verdict in ("better", "worse")
                verdict = f"{one.verdict}, within the margin" if small else one.verdict
                scores = [f"{score:.3f}" for score in self.scores[partition][column]]
                lines.append([partition, column, *scores, f"{one.value:+.3f}", between, f"{one.p_value:.3g}", verdict])
        heads = ["partition", "attribute", "A", "B", "A - B", "95 % interval", "p", f"A is (margin {self.margin:g})"]
        both = zip("AB", self.names, self.seeds, self.signatures, strict=True)
        parts = [f"{letter}: {name}, seeds: {count}\n   {signature}" for letter, name, count, signature in both]
        return "\n\n".join(["\n".join(parts), tabulate(lines, headers=heads, disable_numparse=True), *self._remarks()])

    def _remarks(self) -> list[str]:
        told = [f"{name}: not compared; {why}" for name, why in self.apart.items()]
        told += [
            f"{name}: {count} clusters, under {DECIDABLE} nothing is decided."
            for name, count in self.clusters.items()
            if count < DECIDABLE
        ]
        if self.seeds == (1, 1):
            told.append("With one seed each this is about two trained models, not about what would be trained again.")
        elif 1 in self.seeds:
            told.append("One of the systems has one seed: how far its seeds lie apart is taken from the other's.")
        return ["\n".join(told)] if told else []

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON types."""
        return {
            "a": {"name": self.names[0], "signature": self.signatures[0], "seeds": self.seeds[0]},
            "b": {"name": self.names[1], "signature": self.signatures[1], "seeds": self.seeds[1]},
            "margin": self.margin,
            "partitions": {
                partition: {
                    "clusters": self.clusters[partition],
                    **{column: self._cell(partition, column, one) for column, one in found.items()},
                }
                for partition, found in self.differences.items()
            },
            "not_compared": dict(self.apart),
        }

    def _cell(self, partition: str, column: str, one: Difference | None) -> dict[str, Any] | None:
        if one is None:
            return None
        a, b = self.scores[partition][column]
        return {"a": a, "b": b, **dataclasses.asdict(one)}


def compare_records(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    names: tuple[str, str] = ("A", "B"),
    margin: float = MARGIN,
    partitions: Sequence[str] = (),
) -> Comparison:
    """Compare two records.

    Args:
        a: a record.
        b: another.
        names: what they are called.
        margin: CCC, more than 0.
        partitions: which; none: all that both have.

    Raises:
        ScoreError: the margin is not above 0.
        RecordError: a partition was asked for that one of them has not, or none can be paired.
    """
    if not margin > 0:
        raise ScoreError(f"the margin is {margin}, expected a CCC above 0, such as {MARGIN}. Correct it with --margin.")
    shared = [p for p in PARTITIONS if p in a["summary"] and p in b["summary"]]
    absent = [p for p in partitions if p not in shared]
    if absent or not shared:
        raise RecordError(
            f"{' and '.join(names)} have no scores in common of {', '.join(absent) or 'any partition'}; both have "
            f"{', '.join(shared) or 'none'}. Give --partition one of these."
        )
    differences, scores, clusters, apart = {}, {}, {}, {}
    for partition in partitions or shared:
        blocks = [[run["resampling"][partition] for run in record["runs"]] for record in (a, b)]
        try:
            differences[partition] = compare(*blocks, margin=margin)
        except ScoreError as error:
            apart[partition] = str(error)
            continue
        clusters[partition] = len(blocks[0][0]["sizes"])
        both = (a["summary"][partition]["ccc"], b["summary"][partition]["ccc"])
        trained = [c for c in COLUMNS if both[0][c] is not None and both[1][c] is not None]
        scores[partition] = {column: (both[0][column]["mean"], both[1][column]["mean"]) for column in trained}
    if not differences:
        raise RecordError(next(iter(apart.values())))
    return Comparison(
        names=names,
        signatures=(a["signature"], b["signature"]),
        seeds=(len(a["runs"]), len(b["runs"])),
        margin=margin,
        scores=scores,
        differences=differences,
        clusters=clusters,
        apart=apart,
    )
