"""A claim of the paper, put to the test: true, false or undecided, by what the runs' records publish.

A claim is taken apart into tests, each of one difference on one partition. It is true if every test supports it (each
at 5 %: to claim all of several things needs no correction), false if one refutes it (corrected by Holm for their
number), else undecided, also where a test could not be made; it is not tested where none could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Whether it contradicts the claim without a p-value: a count."""
    tested: bool = True
    """False: there are no runs, scores or partition for it here."""


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


def claim(name: str, says: str, tests: Iterable[Test], *, paper: str = "", how: str) -> Claim:
    """Judge a claim by its tests."""
    made = tuple(tests)
    made = made if any(test.tested for test in made) else ()
    return Claim(name=name, says=says, paper=paper, how=how, verdict=_verdict(made), tests=made)


def refuting(tests: Sequence[Test]) -> list[bool]:
    """Say which tests refute their claim: by a count, or by a p-value after Holm's correction for their number."""
    p_values = iter(holm([test.against for test in tests if test.tested]))
    corrected = [next(p_values) if test.tested else 1.0 for test in tests]
    return [test.refutes or p_value < LEVEL for test, p_value in zip(tests, corrected, strict=True)]


def _verdict(tests: Sequence[Test]) -> Verdict:
    if not tests:
        return "not tested"
    if any(refuting(tests)):
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

    def rises(self, a: str, b: str, partition: str, column: str, *, what: str) -> Test:
        """Test that a is above b: supported by the paired test; refuted by it, or if the two are on par."""
        return self._made((a, b), partition, column, what, _is_above)

    def stays(self, a: str, b: str, partition: str, column: str, *, what: str) -> Test:
        """Test that a is no lower than b by more than the margin, or above; refuted if it is below."""
        return self._made((a, b), partition, column, what, _is_not_lower)

    def same(self, a: str, b: str, partition: str, column: str, *, what: str) -> Test:
        """Test that a and b are on par, either way, by the equivalence test; refuted if the paired test parts them."""
        return self._made((a, b), partition, column, what, _is_the_same)

    def more(self, gain: tuple[str, str], other: tuple[str, str], partition: str, column: str, *, what: str) -> Test:
        """Test that one gain (a over b) is larger than another: as ``rises``, on the difference of differences."""
        a, b, c, d = (self.blocks(key, partition) for key in (*gain, *other))
        if a is None or b is None or c is None or d is None:
            return untested(what, partition, column)
        found = gap((a, b), (c, d), column=column, margin=self.margin)
        if found is None:
            return untested(what, partition, column)
        gains = [_signed(self._gain(pair, partition, column)) for pair in (gain, other)]
        supports, against = _is_above(found)
        said = f"{gains[0]} against {gains[1]}: {described(found)}"
        return Test(what=_where(what, partition, column), found=said, supports=supports, against=against)

    def _made(
        self,
        pair: tuple[str, str],
        partition: str,
        column: str,
        what: str,
        judge: Callable[[Difference], tuple[bool, float]],
    ) -> Test:
        ours, theirs = (self.blocks(key, partition) for key in pair)
        if ours is None or theirs is None:
            return untested(what, partition, column)
        found = compare(ours, theirs, margin=self.margin)[column]
        if found is None:
            return untested(what, partition, column)
        supports, against = judge(found)
        means = [_three(self.mean(key, partition, column)) for key in pair]
        said = f"{means[0]} against {means[1]}: {described(found)}"
        return Test(what=_where(what, partition, column), found=said, supports=supports, against=against)

    def _gain(self, pair: tuple[str, str], partition: str, column: str) -> float:
        a, b = (self.mean(key, partition, column) for key in pair)
        return (a or 0.0) - (b or 0.0)


def untested(what: str, partition: str, column: str) -> Test:
    """Stand for a test that could not be made."""
    found = "not tested, for want of a run or of its score here"
    return Test(what=_where(what, partition, column), found=found, supports=False, against=1.0, tested=False)


# Whether a difference supports a claim, and the p-value of what contradicts it.


def _is_above(found: Difference) -> tuple[bool, float]:
    above = found.verdict == "better"
    # Either of the two shows that nothing above the margin is gained, and neither is below the p-value of that alone,
    # so the smaller one needs no correction.
    return above, min(_below(found), 1.0 if above else found.p_equivalent)


def _is_not_lower(found: Difference) -> tuple[bool, float]:
    return found.not_lower, 1.0 if found.not_lower else _below(found)


def _is_the_same(found: Difference) -> tuple[bool, float]:
    return found.negligible, 1.0 if found.negligible else found.p_value


def _below(found: Difference) -> float:
    return found.p_value if found.value < 0 else 1.0


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
