"""A claim of the paper, put to the test: true, false or undecided, by what the runs' records publish.

A claim is taken apart into tests, each of one difference on one partition. It is true if every test supports it (each
at 5 %: to claim all of several things needs no correction), false if one refutes it (corrected by Holm for their
number), else undecided; it is not tested where the runs for it are not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ser_bench.records import Json
from ser_bench.scoring.compare import Difference, compare, holm
from ser_bench.scoring.contrast import gap
from ser_bench.scoring.resampling import t_quantile
from ser_bench.studies.paper import SIDES

Verdict = Literal["true", "false", "undecided", "not tested"]
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Test:
    """One thing that has to hold for a claim."""

    what: str
    found: str
    """The numbers, in words."""
    supports: bool
    against: float
    """p-value of what contradicts it; 1 where nothing does."""
    refutes: bool = False
    """Whether it contradicts the claim without a p-value: an equivalence test, or a count."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper says, and what comes of it here."""

    name: str
    says: str
    """The claim, in a sentence."""
    paper: str
    """The paper's own numbers for it."""
    how: str
    """What decides."""
    verdict: Verdict
    tests: tuple[Test, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "tests": [asdict(test) for test in self.tests]}


def claim(name: str, says: str, tests: Iterable[Test | None], *, paper: str = "", how: str) -> Claim:
    """Judge a claim by its tests; those that could not be made are None."""
    made = tuple(test for test in tests if test is not None)
    return Claim(name=name, says=says, paper=paper, how=how, verdict=_verdict(made), tests=made)


def _verdict(tests: Sequence[Test]) -> Verdict:
    if not tests:
        return "not tested"
    if any(test.refutes for test in tests) or min(holm([test.against for test in tests])) < LEVEL:
        return "false"
    return "true" if all(test.supports for test in tests) else "undecided"


class Judge:
    """Makes tests from records."""

    def __init__(self, records: Mapping[str, Json], margin: float) -> None:
        self._records, self.margin = records, margin

    def blocks(self, key: str, partition: str) -> list[Json] | None:
        """Return a run's resampling blocks of a partition, one a seed; None where it has none."""
        record = self._records.get(key)
        found = [] if record is None else [run["resampling"].get(partition) for run in record["runs"]]
        return found if found and all(found) else None

    def mean(self, key: str, partition: str, column: str) -> float | None:
        """Return a run's mean CCC over its seeds."""
        blocks = self.blocks(key, partition)
        if blocks is None or any(block["full"][column] is None for block in blocks):
            return None
        return float(np.mean([block["full"][column] for block in blocks]))

    def rises(self, a: str, b: str, partition: str, column: str, *, what: str) -> Test | None:
        """Test that a is above b: supported by the paired test; refuted by it, or if the two are on par."""
        found = self._difference(a, b, partition, column)
        if found is None:
            return None
        return Test(
            what=_where(what, partition, column),
            found=self._said(a, b, partition, column, found),
            supports=found.verdict == "better",
            against=found.p_value if found.value < 0 else 1.0,
            refutes=found.negligible and found.verdict != "better",
        )

    def stays(self, a: str, b: str, partition: str, column: str, *, what: str) -> Test | None:
        """Test that a is no lower than b: on par by the equivalence test, or above; refuted if it is below."""
        found = self._difference(a, b, partition, column)
        if found is None:
            return None
        return Test(
            what=_where(what, partition, column),
            found=self._said(a, b, partition, column, found),
            supports=found.negligible or found.verdict == "better",
            against=found.p_value if found.value < 0 and not found.negligible else 1.0,
        )

    def more(
        self, gain: tuple[str, str], other: tuple[str, str], partition: str, column: str, *, what: str
    ) -> Test | None:
        """Test that one gain (a over b) is larger than another: as ``rises``, on the difference of differences."""
        four = [self.blocks(key, partition) for key in (*gain, *other)]
        a, b, c, d = four
        if a is None or b is None or c is None or d is None:
            return None
        found = gap((a, b), (c, d), column=column, margin=self.margin)
        if found is None:
            return None
        gains = [_signed(self._gain(pair, partition, column)) for pair in (gain, other)]
        return Test(
            what=_where(what, partition, column),
            found=f"{gains[0]} against {gains[1]}: {described(found)}",
            supports=found.verdict == "better",
            against=found.p_value if found.value < 0 else 1.0,
            refutes=found.negligible and found.verdict != "better",
        )

    def _gain(self, pair: tuple[str, str], partition: str, column: str) -> float:
        a, b = (self.mean(key, partition, column) for key in pair)
        return (a or 0.0) - (b or 0.0)

    def _difference(self, a: str, b: str, partition: str, column: str) -> Difference | None:
        ours, theirs = self.blocks(a, partition), self.blocks(b, partition)
        if ours is None or theirs is None:
            return None
        return compare(ours, theirs, margin=self.margin)[column]

    def _said(self, a: str, b: str, partition: str, column: str, found: Difference) -> str:
        values = [self.mean(key, partition, column) for key in (a, b)]
        return f"{_three(values[0])} against {_three(values[1])}: {described(found)}"


def over_seeds(values: Sequence[float] | NDArray[np.float64], *, what: str, unit: str = "") -> Test:
    """Test that something is above 0 in what would be trained again: Student's t over seeds, two-sided at 5 %.

    With one seed nothing is decided.
    """
    given = np.asarray(values, dtype=np.float64)
    mean = float(given.mean())
    if len(given) < 2:
        return Test(what=what, found=f"{mean:+.3f}{unit} with one seed", supports=False, against=1.0)
    from scipy.special import stdtr  # heavy for what only plans a study

    error, freedom = float(given.std(ddof=1) / np.sqrt(len(given))), len(given) - 1.0
    reach = float(t_quantile(np.asarray(freedom), 0.95)) * error
    said = f"{mean:+.3f}{unit} [{mean - reach:+.3f}, {mean + reach:+.3f}] over {len(given)} seeds"
    against = float(2 * stdtr(freedom, mean / error)) if mean < 0 and error > 0 else float(mean >= 0)
    return Test(what=what, found=said, supports=mean - reach > 0, against=against)


def described(found: Difference) -> str:
    """Return a difference in words."""
    between = "" if found.ci95 is None else f" [{found.ci95[0]:+.3f}, {found.ci95[1]:+.3f}]"
    small = ", within the margin" if found.negligible and found.verdict in ("better", "worse") else ""
    return f"{_signed(found.value)}{between}, {found.verdict}{small}"


def _where(what: str, partition: str, column: str) -> str:
    return f"{what}: {column}, {SIDES.get(partition, partition)}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
