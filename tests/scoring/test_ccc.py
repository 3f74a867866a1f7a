from __future__ import annotations

import re
from fractions import Fraction

import audmetric
import numpy as np
import pytest

from ser_bench.errors import ScoreError
from ser_bench.scoring import concordance
from ser_bench.scoring.ccc import concordance_of_sums, moments


def test_hand_worked() -> None:
    # p = 1 2 3, t = 2 2 5: means 2 and 3, population variances 2/3 and 2, covariance 1: 2 / (2/3 + 2 + 1).
    assert concordance([1, 2, 3], [2, 2, 5]) == pytest.approx(6 / 11, abs=1e-15)


def shifted_and_scaled(offset: float, scale: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    target = offset + scale * rng.normal(size=500)
    return offset + scale * (shift + 0.6 * (target - offset) / scale + rng.normal(0, 0.5, 500)), target


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e4])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 250.0])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_agrees_with_audmetric(offset: float, scale: float, shift: float) -> None:
    prediction, target = shifted_and_scaled(offset, scale, shift)
    assert concordance(prediction, target) == pytest.approx(audmetric.concordance_cc(target, prediction), abs=1e-9)


def test_keeps_digits_where_means_are_rounded() -> None:
    # A million times a thousandth: audmetric, which subtracts two rounded means, is off by 4e-8 here.
    prediction, target = shifted_and_scaled(1e6, 1e-3, 0.7)
    p, t = ([Fraction(float(x)) for x in column] for column in (prediction, target))
    mean_p, mean_t = sum(p) / 500, sum(t) / 500
    top = 2 * sum((a - mean_p) * (b - mean_t) for a, b in zip(p, t, strict=True))
    bottom = (
        sum((a - mean_p) ** 2 + (b - mean_t) ** 2 for a, b in zip(p, t, strict=True)) + 500 * (mean_p - mean_t) ** 2
    )
    assert concordance(prediction, target) == pytest.approx(float(top / bottom), abs=1e-12)


def test_near_constant_prediction_agrees_with_audmetric() -> None:
    rng = np.random.default_rng(4)
    target = rng.uniform(1, 7, 300)
    prediction = 4 + 1e-9 * target
    expected = audmetric.concordance_cc(target, prediction)
    assert concordance(prediction, target) == pytest.approx(expected, abs=1e-9)
    assert concordance(prediction, target) > 0


def test_large_offset_keeps_its_digits() -> None:
    base = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 2.0, 3.0, 5.0])
    moved = base[0] + 2.0**40, base[1] + 2.0**40  # exact in float64
    assert concordance(*moved) == pytest.approx(concordance(*base), rel=1e-14)


def test_limits() -> None:
    values = np.array([1.1, 3.3, 6.7])
    assert concordance(values, values) == 1.0
    assert concordance(-values + 2 * values.mean(), values) == pytest.approx(-1.0)
    assert concordance(np.full(3, 0.1), values) == 0.0
    assert concordance(values, np.full(3, 0.1)) == 0.0


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([1, 2], [1, 2, 3], "predictions have shape [2] and labels [3]"),
        ([[1, 2]], [[1, 2]], "the CCC takes two columns of one length"),
        ([1], [1], "the CCC needs two values or more, 1 given"),
        ([1, np.nan, 2], [1, 2, 3], "1 prediction values are not finite (first: nan in row 1"),
        ([1, 2, 3], [1, 2, np.inf], "1 label values are not finite (first: inf in row 2"),
        ([0.1] * 7, [3.0] * 7, "predictions (0.1) and labels (3) of this column are both constant over 7 utterances"),
    ],
)
def test_refuses(prediction: list[float], target: list[float], message: str) -> None:
    with pytest.raises(ScoreError, match=re.escape(message)):
        concordance(prediction, target)


def test_sums_of_a_subset() -> None:
    rng = np.random.default_rng(5)
    target = 1e4 + rng.normal(size=(60, 2))
    prediction = 1e4 + 0.5 * rng.normal(size=(60, 2)) + 0.3 * (target - 1e4)
    rows = moments(prediction, target)
    found = concordance_of_sums(rows[:40].sum(0), whole=rows.sum(0))
    for column in range(2):
        expected = concordance(prediction[:40, column], target[:40, column])
        assert found[column] == pytest.approx(expected, abs=1e-12)


def test_sums_of_a_constant_subset_are_undefined() -> None:
    target = np.array([[1.0], [3.3], [3.3]])
    prediction = np.array([[2.0], [3.1], [3.1]])
    rows = moments(prediction, target)
    subset = rows.sum(0) - rows[0]
    assert concordance_of_sums(subset, whole=rows.sum(0))[0] == 0  # the gap 3.1 against 3.3 is a defined 0
    rows = moments(target, target)
    assert np.isnan(concordance_of_sums(rows.sum(0) - rows[0], whole=rows.sum(0))[0])
