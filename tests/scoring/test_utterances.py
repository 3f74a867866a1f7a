"""The bootstrap of utterances: its law, its limits against scipy's, resamples as good as independent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from ser_bench.scoring import concordance, resample, utterance_interval
from ser_bench.scoring.utterances import coarse_limits


def data(n: int, *, seed: int = 0, k: int = 3):
    rng = np.random.default_rng(seed)
    target = rng.normal(4, 1, (n, k))
    return 0.5 * target + 2 + rng.normal(0, 0.5, (n, k)), target


def test_the_law_of_a_resample_is_the_bootstraps() -> None:
    """All 256 equally likely resamples of four utterances, against 20,000 drawn ones."""
    prediction, target = data(4, k=1)
    draws = [list(draw) for draw in itertools.product(range(4), repeat=4)]
    # One utterance four times has no covariance and, its prediction being off, a denominator.
    exact = [concordance(prediction[d, 0], target[d, 0]) if len(set(d)) > 1 else 0.0 for d in draws]
    drawn = resample(prediction, target, resamples=20_000)[:, 0]
    found, counts = np.unique(drawn.round(9), return_counts=True)
    values, ways = np.unique(np.round(exact, 9), return_counts=True)
    assert found == pytest.approx(values, abs=1e-8)
    assert stats.chisquare(counts, ways / ways.sum() * counts.sum()).pvalue > 0.01


@pytest.mark.parametrize("n", [60, 400])
def test_the_interval_is_scipys(n: int) -> None:
    """The same statistic on the same data: the limits agree within what 10,000 resamples leave open."""
    prediction, target = data(n, seed=n)

    def mean_ccc(index: np.ndarray, axis: int = -1) -> np.ndarray:
        p, t = prediction[index], target[index]  # [..., n, 3]
        gap = p.mean(-2) - t.mean(-2)
        covariance = (p * t).mean(-2) - p.mean(-2) * t.mean(-2)
        return (2 * covariance / (p.var(-2) + t.var(-2) + gap**2)).mean(-1)

    theirs = stats.bootstrap(
        (np.arange(n),), mean_ccc, n_resamples=10_000, batch=500, method="percentile", rng=np.random.default_rng(0)
    )
    ours = utterance_interval(prediction, target)[-1]
    # One limit of 10,000 resamples has a standard deviation of 2.7 % of the standard error; two differ by root 2 of it.
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=4 * 0.038 * theirs.standard_error)
    assert resample(prediction, target).mean(axis=1).std() == pytest.approx(theirs.standard_error, rel=0.04)


def test_sorted_data_are_resampled_as_shuffled_ones() -> None:
    """Neighbours that resemble each other would make the shifts of one draw resemble each other."""
    prediction, target = data(400)
    order = np.argsort(target[:, 0])
    limits = [
        [utterance_interval(p, t, resamples=2_000, seed=seed)[0] for seed in range(40)]
        for p, t in ((prediction, target), (prediction[order], target[order]))
    ]
    error = resample(prediction, target)[:, 0].std()
    expected = np.sqrt(0.025 * 0.975 / 2_000) / stats.norm.pdf(1.96)  # of a 2.5 % limit, in standard errors
    for spread in np.std(limits, axis=1) / error:
        assert spread == pytest.approx([expected, expected], rel=0.5)


def test_the_seed_and_the_number_of_utterances_decide() -> None:
    prediction, target = data(50)
    assert np.array_equal(resample(prediction, target, seed=3), resample(prediction, target, seed=3))
    assert not np.array_equal(resample(prediction, target, seed=3), resample(prediction, target, seed=4))
    # Another system's resamples are of the same utterances.
    both = resample(np.concatenate([prediction, -prediction], axis=1), np.concatenate([target, target], axis=1))
    assert both[:, :3] == pytest.approx(resample(prediction, target), abs=1e-9)


def test_an_offset_costs_no_digits() -> None:
    prediction, target = data(100)
    assert resample(prediction + 1e4, target + 1e4) == pytest.approx(resample(prediction, target), abs=1e-7)


def test_a_constant_prediction_is_exactly_zero() -> None:
    _, target = data(50)
    assert (resample(np.full((50, 3), 0.1), target) == 0).all()
    assert utterance_interval(np.full((50, 3), 0.1), target) == [(0.0, 0.0)] * 4


def test_where_a_resample_leaves_no_score_there_is_no_interval() -> None:
    target = np.array([[1.0], [2.0], [2.0]])
    assert utterance_interval(target, target) == [None, None]


def test_any_number_of_resamples() -> None:
    prediction, target = data(100)
    assert [len(resample(prediction, target, resamples=r)) for r in (1, 7, 10, 11, 999)] == [1, 7, 10, 11, 999]


def test_published_limits_are_coarse() -> None:
    assert coarse_limits((0.6127, 0.6983), 100) == [0.625, 0.7]
    assert coarse_limits((0.61273, 0.69831), 10_000) == [0.613, 0.698]  # multiples of 0.0025, in three decimals
    assert coarse_limits((-0.004, 0.999), 16) == [0.0, 1.0]
    assert coarse_limits(None, 100) is None
