"""Intervals over seeds: one seed's own, no narrower for copies, wider for seeds that differ, and 95 % of them right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ser_bench.scoring import interval
from ser_bench.scoring.resampling import grain
from ser_bench.scoring.seeds import over_seeds

CLUSTERS, OF_EACH = 20, 40


def block(value: float, left_out: np.ndarray, size: int = OF_EACH) -> dict[str, Any]:
    columns = ("arousal", "valence", "dominance", "mean")
    made: dict[str, Any] = {"sizes": [size] * len(left_out), "full": dict.fromkeys(columns, value)}
    return made | dict.fromkeys(columns, left_out.tolist())


def made_up(seed: int = 0, *, away: float = 0.0) -> dict[str, Any]:
    """Make a block around 0.5, ``away`` from it by the seed's own doing."""
    effects = np.random.default_rng(seed).normal(0, 0.15, CLUSTERS)
    value = 0.5 + effects.mean() + away
    return block(float(value), value + (effects.mean() - effects) / (CLUSTERS - 1))


@pytest.mark.parametrize("column", ["arousal", "mean"])
def test_one_seed_has_its_own_interval(column: str) -> None:
    one = made_up()
    sizes, value = np.array(one["sizes"]), one["full"][column]
    own = interval(value, np.array(one[column]), sizes, step=grain(value, sizes))
    assert over_seeds([one], column) == pytest.approx(own, abs=1e-12)


def test_seeds_that_give_the_same_change_nothing() -> None:
    one = made_up()
    assert over_seeds([one, one, one], "mean") == pytest.approx(over_seeds([one], "mean"), abs=1e-12)


def test_a_floor_has_a_point_for_an_interval() -> None:
    assert over_seeds([block(0.0, np.zeros(CLUSTERS))] * 2, "mean") == (0.0, 0.0)


def test_a_perfect_score_stays_on_the_scale() -> None:
    low, high = over_seeds([block(1.0, np.ones(CLUSTERS))] * 2, "mean") or (0, 0)
    assert (low, high) == pytest.approx((1, 1), abs=1e-6)
    assert high <= 1


def test_seeds_that_differ_widen_the_interval() -> None:
    def width(spread: float) -> float:
        low, high = over_seeds([made_up(away=away) for away in (-spread, 0.0, spread)], "mean") or (0, 0)
        assert (low + high) / 2 == pytest.approx(over_seeds_centre, abs=0.02)
        return high - low

    over_seeds_centre = sum(over_seeds([made_up()], "mean") or ()) / 2
    widths = [width(spread) for spread in (0.0, 0.02, 0.05, 0.1)]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


def test_one_cluster_has_no_interval() -> None:
    assert over_seeds([block(0.5, np.array([]))] * 2, "mean") is None
    assert over_seeds([{"sizes": [30], "full": {"mean": 0.5}, "mean": []}], "mean") is None


def test_only_the_named_column_counts() -> None:
    one, other = made_up(), made_up(1)
    assert over_seeds([one | {"valence": other["valence"], "full": one["full"] | {"valence": 0.1}}], "mean") == (
        over_seeds([one], "mean")
    )


def _covered(seeds: int, spread: float, *, held: bool, trials: int = 1500) -> float:
    """Return how often the interval holds the true value, of systems whose seeds and clusters both vary.

    With ``held``, each seed's own interval takes part instead (what forgetting the seeds would give).
    """
    rng, hits = np.random.default_rng(3), 0
    for _ in range(trials):
        effects = rng.normal(0, 0.15, CLUSTERS)
        mean = 0.4 + effects.mean()
        off = (effects.mean() - effects) / (CLUSTERS - 1)
        blocks = [block(mean + away, mean + away + off) for away in rng.normal(0, spread, seeds)]
        low, high = over_seeds(blocks[:1] if held else blocks, "mean") or (0, 0)
        hits += low <= 0.4 <= high
    return hits / trials


def test_coverage() -> None:
    """1,500 trials: the standard error of a coverage of 0.95 is 0.006."""
    assert 0.93 < _covered(3, 0.0, held=False) < 0.97
    assert 0.93 < _covered(3, 0.06, held=False) < 0.985
    assert 0.93 < _covered(5, 0.06, held=False) < 0.98
    assert _covered(3, 0.06, held=True) < 0.85


def test_a_seed_that_nothing_can_move_takes_nobodys_floor() -> None:
    """One seed predicts a constant; the other's distances were rounded away: which comes first says nothing."""
    still, moved = block(0.0, np.zeros(CLUSTERS)), block(0.4, np.full(CLUSTERS, 0.4))
    assert over_seeds([still, moved], "mean") == pytest.approx(over_seeds([moved, still], "mean"), abs=1e-9)
