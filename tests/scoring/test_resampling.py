from __future__ import annotations

import re

import audmetric
import numpy as np
import pytest

from ser_bench.errors import ScoreError
from ser_bench.scoring import cluster_ids, concordance, interval, leave_one_out
from ser_bench.scoring.resampling import coarsen, digest, grain, jackknife, join_small, on_z, t_quantile


def data(n: int, *, seed: int = 0, k: int = 3):
    rng = np.random.default_rng(seed)
    target = rng.normal(4, 1, (n, k))
    return 0.5 * target + 2 + rng.normal(0, 0.5, (n, k)), target


def test_cluster_ids() -> None:
    assert cluster_ids(["12", "Unknown", ""], ["0001", "0003", "0004"]) == [
        "speaker:12",
        "podcast:0003",
        "podcast:0004",
    ]


def test_join_small() -> None:
    sizes = {"b": 4, "a": 5, "c": 3, "big": 30, "d": 9, "e": 2, "z": 10}
    # sorted small ones: a5 b4 c3 | d9 e2
    assert join_small(sizes) == {
        "b": "joined:a", "a": "joined:a", "c": "joined:a", "big": "big", "d": "joined:d", "e": "joined:d", "z": "z"
    }  # fmt: skip


def test_join_small_left_over_goes_to_the_last_group_else_to_the_smallest() -> None:
    assert join_small({"a": 9, "b": 1, "c": 2, "x": 10}) == {
        "a": "joined:a", "b": "joined:a", "c": "joined:a", "x": "x"
    }  # fmt: skip
    assert join_small({"p": 9, "x": 40, "y": 20, "w": 20}) == {"p": "joined:p", "x": "x", "y": "y", "w": "joined:p"}
    assert set(join_small({"a": 1, "b": 2}).values()) == {"joined:a"}


@pytest.mark.parametrize("seed", range(5))
def test_join_small_leaves_none_small_and_does_not_depend_on_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {f"speaker:{k}": int(size) for k, size in enumerate(rng.integers(1, 25, 60))}
    joined = join_small(sizes)
    totals: dict[str, int] = {}
    for name, size in sizes.items():
        totals[joined[name]] = totals.get(joined[name], 0) + size
    assert min(totals.values()) >= 10
    assert all(joined[name] == name for name, size in sizes.items() if size >= 10) or len(totals) < 2
    assert join_small(dict(sorted(sizes.items(), reverse=True))) == joined


def test_digest_tells_clusters_apart_and_not_the_order() -> None:
    one = digest(["u1.wav", "u2.wav"], ["a", "b"])
    assert one == digest(["u2.wav", "u1.wav"], ["b", "a"]) != digest(["u1.wav", "u2.wav"], ["a", "a"])


def test_leave_one_out_against_brute_force() -> None:
    prediction, target = data(400)
    speaker = np.random.default_rng(1).integers(0, 25, 400).astype(str)
    loo = leave_one_out(prediction, target, speaker.tolist())
    assert list(loo.names) == sorted(set(speaker))
    assert [concordance(prediction[:, c], target[:, c]) for c in range(3)] == pytest.approx(loo.value, abs=1e-12)
    for i, name in enumerate(loo.names):
        kept = speaker != name
        assert loo.sizes[i] == (~kept).sum()
        expected = [audmetric.concordance_cc(target[kept, c], prediction[kept, c]) for c in range(3)]
        assert loo.left_out[i] == pytest.approx(expected, abs=1e-12)


def test_leave_one_out_of_a_constant_prediction_is_exactly_zero() -> None:
    _, target = data(50)
    loo = leave_one_out(np.full((50, 3), 0.1), target, list("abcde") * 10)
    assert (loo.left_out == 0).all()
    assert (loo.value == 0).all()
    assert interval(0.0, loo.left_out[:, 0], loo.sizes) == (0.0, 0.0)


def test_one_cluster_leaves_nothing() -> None:
    prediction, target = data(20)
    loo = leave_one_out(prediction, target, ["a"] * 20)
    assert loo.left_out.shape == (0, 3)
    assert interval(loo.value[0], loo.left_out[:, 0], loo.sizes) is None


def test_leave_one_out_refuses() -> None:
    prediction, target = data(4)
    with pytest.raises(ScoreError, match=re.escape("labels [4, 3], and 2 clusters are named; expected [n, k],")):
        leave_one_out(prediction, target, ["a", "b"])
    values = np.array([[1.0], [2.0], [3.3], [3.3]])
    with pytest.raises(ScoreError, match="without cluster a, predictions and labels of column 0 are both constant"):
        leave_one_out(values, values, ["a", "a", "b", "b"])


def test_interval_hand_worked() -> None:
    # Four equal clusters: freedom by size 3; by influence min(3 * 10^2 / 34 - 1, 3) = 3. t(0.975, 3) = 3.182446.
    z, d = 0.5, np.array([0.02, -0.01, 0.01, -0.02])
    low, high = interval(np.tanh(z), np.tanh(z + d), np.full(4, 25))
    reach = 3.182446305284263 * np.sqrt(3 / 4 * (2 * 0.02**2 + 2 * 0.01**2))
    assert (low, high) == pytest.approx((np.tanh(z - reach), np.tanh(z + reach)), abs=1e-12)


def test_freedom_falls_with_unevenness() -> None:
    d = np.random.default_rng(0).normal(0, 0.01, 40)
    even = jackknife(np.float64(0), d, np.full(40, 50))
    uneven = jackknife(np.float64(0), d, np.array([1500] + [20] * 39))
    assert uneven[0] == pytest.approx(even[0])
    assert uneven[1] < even[1] <= 39
    one_sided = d.copy()
    one_sided[0] = 0.2
    assert jackknife(np.float64(0), one_sided, np.full(40, 50))[1] < even[1] / 2


def test_perfect_score_has_a_point_for_an_interval() -> None:
    assert interval(1.0, np.ones(5), np.full(5, 10)) == (1.0, 1.0)


def test_coarsen() -> None:
    assert coarsen(np.array([0.013, -0.029, 0.0]), 100) == pytest.approx([0.02, -0.02, 0.0])


@pytest.mark.parametrize(("clusters", "sigma"), [(40, 1.5), (12, 1.0)])
def test_coverage(clusters: int, sigma: float) -> None:
    """The full table is in docs/statistics.md; 400 draws have a standard error of 1.1 %."""
    rng = np.random.default_rng(clusters)
    truth = 2 * 0.6 / (0.6**2 + 0.12 + 0.25 + 1)
    held, draws = 0, 400
    for _ in range(draws):
        sizes = np.maximum(10, rng.lognormal(np.log(60) - sigma**2 / 2, sigma, clusters).astype(int))
        of = np.repeat(np.arange(clusters), sizes)
        label = rng.normal(0, np.sqrt(0.3), clusters)[of] + rng.normal(0, np.sqrt(0.7), len(of))
        shift = rng.normal(0, np.sqrt(0.12), clusters)
        prediction = 0.6 * label + shift[of] + rng.normal(0, 0.5, len(of))
        loo = leave_one_out(prediction[:, None], label[:, None], of.astype(str).tolist())
        low, high = interval(float(loo.value[0]), loo.left_out[:, 0], loo.sizes)
        held += low <= truth <= high
    assert 0.92 <= held / draws <= 0.98


def test_distances_that_were_rounded_away_do_not_make_a_point_of_an_interval() -> None:
    sizes = np.full(12, 10)
    variance, _ = jackknife(np.float64(-0.003), np.full(12, -0.003), sizes, step=2 / 120)
    assert variance == pytest.approx(11 / 12 * 12 * (2 / 120) ** 2 / 12)
    low, high = interval(-0.003, np.full(12, -0.003), sizes, step=grain(-0.003, sizes))
    assert low < -0.02
    assert high > 0.014
    assert interval(0.0, np.zeros(12), sizes, step=grain(0.0, sizes)) == (0.0, 0.0), (
        "a constant prediction's CCC is 0 whoever is left out"
    )


@pytest.mark.parametrize("value", [0.3, -0.6, 0.9])
def test_a_rounding_is_as_wide_on_the_scale_that_distances_are_taken_on(value: float) -> None:
    """Near a perfect score a step of the CCC is a long way on Fisher's z, and the interval is no narrower for it."""
    sizes, same = np.full(12, 30), np.full(12, value)
    step = grain(value, sizes)
    near = (np.arctanh(value + step / 2) - np.arctanh(value - step / 2)) ** 2 / 12
    low, high = interval(value, same, sizes, step=step)
    reach = t_quantile(np.float64(11), 0.95) * np.sqrt(11 * near)
    assert (np.arctanh(high) - np.arctanh(low)) / 2 == pytest.approx(float(reach), rel=0.01)


def test_a_rounding_beside_the_edge_of_the_scale_is_finite() -> None:
    sizes = np.full(12, 10)
    low, high = interval(0.999999, np.full(12, 0.999999), sizes, step=grain(0.999999, sizes))
    assert 0.9999 < low < high <= 1
    assert on_z(0.0, 1.0) == 0.0
