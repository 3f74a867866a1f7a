"""What raters reach: by hand, and on ratings whose agreement is known."""

from __future__ import annotations

import numpy as np
import pytest

from ser_bench.scoring import concordance
from ser_bench.scoring.ceiling import ceiling


def ratings(n: int, k: int, noise: float, *, seed: int = 0):
    """Make n utterances' ratings [k, 3] around a true value, and their means."""
    rng = np.random.default_rng(seed)
    said = [rng.normal(4, 1, 3) + rng.normal(0, noise, (k, 3)) for _ in range(n)]
    return said, np.array([values.mean(axis=0) for values in said])


def test_each_rating_against_the_mean_of_the_others_by_hand() -> None:
    said, labels = ratings(12, 3, 0.5)
    said[3] = said[3][:2]  # another number of raters
    said[4] = said[4][:1]  # nobody to compare with
    found = ceiling(said, labels)
    pairs = [
        (values[j, 1], np.delete(values[:, 1], j).mean())
        for values in said
        if len(values) > 1
        for j in range(len(values))
    ]
    expected = concordance(*np.array(pairs).T)
    assert (found["utterances"], found["ratings"]) == (11, 32)
    step = 2 / 11
    assert found["valence"]["one"] == pytest.approx(round(expected / step) * step, abs=1e-3)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_known_agreement(noise: float) -> None:
    """One rating has variance 1 + s^2, the mean of the four others 1 + s^2 / 4, and they share 1."""
    said, labels = ratings(20_000, 5, noise)
    found = ceiling(said, labels)
    one = 2 / (2 + noise**2 + noise**2 / 4)
    assert found["arousal"]["one"] == pytest.approx(one, abs=0.01)
    # The label's variance is 1 + s^2 / 5; rounding to whole numbers adds 1 / 12, clipping to 1..7 takes a little.
    label = 1 + noise**2 / 5
    simulated = 2 * label / (2 * label + noise**2 + 1 / 12)
    assert found["arousal"]["simulated"] == pytest.approx(simulated, abs=0.012)
    means = [np.mean([found[a][word] for a in ("arousal", "valence", "dominance")]) for word in ("one", "simulated")]
    assert [found["mean"]["one"], found["mean"]["simulated"]] == pytest.approx(means, abs=1e-3)


def test_perfect_raters_reach_one() -> None:
    whole = np.random.default_rng(0).integers(1, 8, (40, 1, 3)).astype(float)
    found = ceiling([np.repeat(values, 3, axis=0) for values in whole], whole[:, 0])
    assert found["arousal"] == {"one": 1.0, "simulated": 1.0}


def test_few_or_no_ratings_give_none() -> None:
    said, labels = ratings(9, 3, 0.5)
    assert ceiling(said, labels) is None
    assert ceiling([np.empty((0, 3))] * 40, np.full((40, 3), 4.0)) is None


def test_it_is_the_same_each_time_and_coarse() -> None:
    said, labels = ratings(50, 4, 0.7)
    found = ceiling(said, labels)
    assert found == ceiling(said, labels)
    steps = np.array([found[a]["one"] for a in ("arousal", "valence", "dominance")]) * 25
    assert steps == pytest.approx(np.rint(steps), abs=0.03)


def test_ratings_without_any_spread_have_no_score() -> None:
    found = ceiling([np.full((3, 3), 4.0)] * 20, np.full((20, 3), 4.0))
    assert found["valence"] == {"one": None, "simulated": None}
    assert found["mean"] == {"one": None, "simulated": None}
