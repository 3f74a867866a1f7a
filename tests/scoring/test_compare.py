from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from ser_bench.errors import ScoreError
from ser_bench.scoring import compare, holm, rank, score_partition
from ser_bench.scoring.compare import with_seeds
from ser_bench.scoring.resampling import jackknife

SIZES = [40] * 30


def made_up(full: float, d: np.ndarray, **changes) -> dict:
    """Make a block whose three attributes and mean are ``full``, and ``full + d`` without each cluster."""
    out = (full + d).tolist()
    columns = ("arousal", "valence", "dominance", "mean")
    block = {"scheme": "leave-one-cluster-out", "metric": "ccc-1", "digest": "aa", "clusters": len(d)}
    block |= {"sizes": [20] * len(d), "full": dict.fromkeys(columns, full)} | dict.fromkeys(columns, out)
    return block | changes


def wobble(k: int, size: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, k)


@pytest.fixture
def blocks(make_rows, make_scored):
    """Blocks of a good system, one as good with other noise, one a little worse, one far worse."""
    labels, predictions, speaker = make_scored(SIZES, [0.2, 0.2, 0.35, 1.0])
    rows = make_rows(labels, speaker)
    return [score_partition(p, labels, rows=rows).resampling for p in predictions]


def test_verdicts_on_data(blocks) -> None:
    good, _, _, bad = blocks
    found = compare(good, bad)["mean"]
    assert found.verdict == "better"
    assert found.p_value < 1e-6
    assert 0 < found.ci95[0] < found.value < found.ci95[1]
    mirrored = compare(bad, good)["mean"]
    assert mirrored.verdict == "worse"
    assert mirrored.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))
    assert found.value == pytest.approx(good["full"]["mean"] - bad["full"]["mean"])


def test_a_system_is_on_par_with_itself(blocks) -> None:
    for found in compare(blocks[0], blocks[0], margin=1e-6).values():
        assert (found.value, found.ci95, found.p_value, found.verdict) == (0, (0, 0), 1.0, "on par")


def test_margin_decides_between_on_par_and_undecided() -> None:
    a, b = made_up(0.6, wobble(30, 0.001)), made_up(0.599, wobble(30, 0.001, seed=1))
    close = compare(a, b, margin=0.03)["arousal"]
    assert (close.verdict, close.negligible) == ("on par", True)
    strict = compare(a, b, margin=0.002)["arousal"]
    assert (strict.verdict, strict.negligible) == ("undecided", False)
    # Two one-sided tests at 5 %: the margin that just decides is the end of the 90 % interval.
    variance, freedom = jackknife(
        np.float64(0.001), np.array(a["arousal"]) - np.array(b["arousal"]), np.full(30, 20), step=2 / 600
    )
    end = 0.001 + stats.t.ppf(0.95, freedom) * np.sqrt(variance)
    assert compare(a, b, margin=end * 1.001)["arousal"].verdict == "on par"
    assert compare(a, b, margin=end * 0.999)["arousal"].verdict == "undecided"


def test_p_value_and_interval_agree_with_scipy() -> None:
    a, b = made_up(0.6, wobble(12, 0.004)), made_up(0.57, wobble(12, 0.004, seed=3))
    found = compare(a, b)["valence"]
    variance, freedom = jackknife(
        np.float64(0.03), np.array(a["valence"]) - np.array(b["valence"]), np.full(12, 20), step=2 / 240
    )
    law = stats.t(freedom, loc=0.03, scale=np.sqrt(variance))
    assert found.ci95 == pytest.approx(law.interval(0.95), abs=1e-12)
    assert found.p_value == pytest.approx(2 * law.cdf(0), rel=1e-9)
    assert (found.p_value < 0.05) == (found.ci95[0] > 0)


def test_real_and_negligible_at_once() -> None:
    many = {"sizes": [2000] * 40}  # so many utterances that the published rounding is below the difference
    found = compare(made_up(0.605, wobble(40, 1e-5), **many), made_up(0.6, wobble(40, 1e-5, seed=1), **many))["mean"]
    assert (found.verdict, found.negligible) == ("better", True)


@pytest.mark.parametrize("clusters", [1, 4])
def test_under_five_clusters_nothing_is_decided(clusters: int) -> None:
    d = wobble(clusters, 1e-6)
    if clusters == 1:
        d = d[:0]
    far = compare(made_up(0.9, d), made_up(0.1, d))["mean"]
    same = compare(made_up(0.9, d), made_up(0.9, d))["mean"]
    assert (far.verdict, far.p_value, same.verdict) == ("undecided", 1.0, "undecided")
    assert rank([made_up(0.9, d), made_up(0.1, d)]) == [1, 1]
    five = wobble(5, 1e-6)
    assert compare(made_up(0.9, five), made_up(0.1, five))["mean"].verdict == "better"


def test_missing_attributes() -> None:
    d = wobble(10, 0.001)
    partly = made_up(0.5, d, valence=None)
    found = compare(partly, made_up(0.4, d))
    assert found["valence"] is None
    assert found["mean"] is None  # means over different attributes
    assert found["arousal"].verdict == "better"
    assert compare(partly, partly)["mean"].verdict == "on par"


def test_refuses() -> None:
    d = wobble(10, 0.001)
    block = made_up(0.5, d)
    message = "the two scores cannot be paired: clusters digest aa and bb. Both must be of the same release"
    with pytest.raises(ScoreError, match=re.escape(message)):
        compare(block, block | {"digest": "bb"})
    with pytest.raises(ScoreError, match="metric ccc-1 and ccc-2"):
        compare([block, block | {"metric": "ccc-2"}], block)
    with pytest.raises(ScoreError, match="without any seed's resampling block"):
        compare([], block)
    for margin in (0, -0.1, float("nan")):
        with pytest.raises(ScoreError, match=re.escape(f"the margin is {margin}, expected a CCC above 0")):
            compare(block, block, margin=margin)


def test_seeds_by_hand() -> None:
    # Leave-one-out values move alike over seeds: nothing of s^2 is taken off.
    d = wobble(20, 0.001)
    a = [made_up(x, d) for x in (0.60, 0.62, 0.64)]
    b = [made_up(x, d + wobble(20, 0.0005, seed=2)) for x in (0.50, 0.54)]
    found = compare(a, b)["mean"]
    by_cluster, freedom = jackknife(np.float64(0), -wobble(20, 0.0005, seed=2), np.full(20, 20), step=2 / 400)
    pooled = (2 * 0.02**2 + 2 * 0.02**2) / 3
    by_seed = pooled * (1 / 3 + 1 / 2)
    total = by_cluster + by_seed
    welch = total**2 / (by_cluster**2 / freedom + by_seed**2 / 3)
    assert found.value == pytest.approx(0.10)
    assert found.ci95 == pytest.approx(stats.t(welch, loc=0.10, scale=np.sqrt(total)).interval(0.95), abs=1e-12)


def test_seed_variance_that_the_clusters_explain_counts_once() -> None:
    # The seeds differ as much as their own jackknife says they would on other clusters.
    rng = np.random.default_rng(0)
    out = rng.normal(0, 0.002, (2, 30))
    off = out - out.mean(0)
    share, _ = jackknife(np.zeros(2), off, np.full((2, 30), 20))
    full = np.sqrt(share) * [1, -1]
    variance, freedom = with_seeds(np.float64(1e-4), np.float64(20), [full], [full[:, None] + out], np.full(30, 20))
    assert variance == pytest.approx(1e-4, rel=1e-9)
    assert freedom == pytest.approx(20, rel=1e-6)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_on_data(blocks) -> None:
    good, twin, less, bad = blocks
    assert rank([bad, good, less, twin]) == [4, 1, 3, 1]
    assert rank([[bad], [good], [less], [twin]], attribute="valence")[0] == 4


def test_rank_corrects_for_the_number_of_tests() -> None:
    d, e = wobble(30, 0.0027), wobble(30, 0.0027, seed=1)
    a, b = made_up(0.62, d), made_up(0.57, e)
    p_value = compare(a, b)["mean"].p_value
    assert 0.05 / 45 < p_value < 0.05
    assert rank([a, b]) == [1, 2]
    assert rank([a, b, *[made_up(0.6, wobble(30, 0.05, seed=s)) for s in range(2, 10)]])[1] == 1


def test_rank_leaves_out_rows_without_the_score() -> None:
    d = wobble(10, 0.0001)
    assert rank([made_up(0.5, d), made_up(0.6, d, valence=None), made_up(0.4, d)]) == [1, None, 2]
    assert rank([]) == []


def test_equal_systems_are_called_different_in_about_one_of_twenty() -> None:
    rng = np.random.default_rng(11)
    alarms, draws = 0, 400
    for _ in range(draws):
        sizes = np.maximum(10, rng.lognormal(3.5, 1.0, 30).astype(int))
        # Influence of a cluster's own difference, all of one variance: d_i = -w_i r_i / (1 - w_i).
        share = sizes / sizes.sum()
        r = rng.normal(0, 0.05, 30)
        value = float(share @ r)
        block_a = made_up(0.6 + value, -share * (r - value) / (1 - share), sizes=sizes.tolist())
        alarms += compare(block_a, made_up(0.6, np.zeros(30), sizes=sizes.tolist()))["mean"].p_value < 0.05
    assert 0.02 <= alarms / draws <= 0.08


def test_all_pairs_at_once_are_as_each_alone(blocks) -> None:
    """Ranking tests all pairs together; what it finds is what the comparison of each two says."""
    from ser_bench.scoring.compare import _all_pairs

    rng = np.random.default_rng(5)
    sizes = rng.integers(10, 90, 25).tolist()

    def seeds(count: int, level: float, spread: float) -> list[dict]:
        values = level + spread * rng.normal(size=count)
        return [made_up(float(v), rng.normal(0, 0.01, 25), sizes=sizes) for v in values]

    systems = [
        seeds(count, 0.5 + 0.01 * count, spread) for count, spread in [(1, 0), (1, 0.01), (2, 0), (3, 0.02), (5, 0.001)]
    ]
    systems += [systems[0], [made_up(0.0, np.zeros(25), sizes=sizes)], [made_up(1.0, np.zeros(25), sizes=sizes)]]
    first, second, value, p_values = _all_pairs(systems, "mean")
    assert len(first) == 28
    for i, j, ahead, p_value in zip(first, second, value, p_values, strict=True):
        alone = compare(systems[i], systems[j])["mean"]
        assert (ahead, p_value) == pytest.approx((alone.value, alone.p_value), abs=1e-14)
    assert p_values[first.tolist().index(0) + 4] == 1  # a system against itself
    few = [[made_up(0.5 + 0.1 * i, wobble(4, 0.001, i))] for i in range(3)]
    assert rank(few) == [1, 1, 1]


def test_no_lower_and_equivalent_have_one_sided_tests(blocks) -> None:
    """Their p-values say what the 90 % interval says, at whatever margin."""
    a, b = blocks[0], blocks[2]
    wide = compare(a, b, margin=1e-3)["mean"]
    reach90 = (wide.ci95[1] - wide.ci95[0]) / 2 * 0.8  # a little less than the 95 % one's
    for margin in (abs(wide.value) * factor + reach90 * share for factor in (0, 1) for share in (0.1, 0.5, 1, 2)):
        found = compare(a, b, margin=margin)["mean"]
        assert found.negligible == (found.p_equivalent < 0.05)
        assert found.not_lower or not found.negligible
        other = compare(b, a, margin=margin)["mean"]
        assert other.p_equivalent == pytest.approx(found.p_equivalent)
        assert (found.not_lower and other.not_lower) == found.negligible
    ahead, behind = (compare(*pair, margin=1e-4)["mean"] for pair in ((a, blocks[3]), (blocks[3], a)))
    assert (ahead.verdict, ahead.not_lower) == ("better", True)
    assert (behind.verdict, behind.not_lower, behind.p_equivalent > 0.5) == ("worse", False, True)
