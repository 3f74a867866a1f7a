"""Differences of differences, and relative gains, against ``compare`` and arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ser_bench.errors import ScoreError
from ser_bench.scoring.compare import compare
from ser_bench.scoring.contrast import against_ratio, gap, relative

SIZES = [40, 60, 50, 45, 55, 50, 48, 52, 41, 59]


def blocks(value: float, seed: int, seeds: int = 2, spread: float = 0.004) -> list[dict[str, Any]]:
    draws = np.random.default_rng(seed)
    made = []
    for number in range(seeds):
        full = value + 0.003 * (number - (seeds - 1) / 2)
        out = full + spread * draws.normal(size=len(SIZES))
        made.append(
            {
                "sizes": SIZES, "digest": "d", "metric": "ccc-1", "full": {"valence": full}, "valence": out.tolist(),
                "arousal": None,
            }
        )  # fmt: skip
        made[-1]["full"]["arousal"] = None
    return made


def as_compare(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Any:
    def whole(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**x, "dominance": None, "mean": None, "full": x["full"] | {"dominance": None, "mean": None}} for x in given
        ]

    return compare(whole(a), whole(b))["valence"]


def test_a_gap_over_a_gain_of_nothing_is_the_gain() -> None:
    a, b, same = blocks(0.5, 1), blocks(0.4, 2), blocks(0.3, 3, seeds=1)
    found = gap((a, b), (same, same), column="valence", margin=0.01)
    plain = as_compare(a, b)
    assert found is not None
    assert found.value == pytest.approx(plain.value) == pytest.approx(0.1)
    # two systems more, of one seed each: the same clusters' variance, and the seeds' counts for four
    assert found.ci95 is not None
    assert found.ci95[1] - found.ci95[0] >= plain.ci95[1] - plain.ci95[0]
    assert found.verdict == "better"


def test_a_gap_by_hand() -> None:
    four = [blocks(value, seed, seeds=1) for value, seed in ((0.5, 1), (0.3, 2), (0.45, 3), (0.4, 4))]
    found = gap((four[0], four[1]), (four[2], four[3]), column="valence", margin=0.01)
    assert found is not None
    assert found.value == pytest.approx(0.15)
    apart = sum(sign * np.array(one[0]["valence"]) for sign, one in zip((1, -1, -1, 1), four, strict=True))
    k = len(SIZES)
    error = np.sqrt((k - 1) / k * ((apart - 0.15) ** 2).sum())
    assert found.ci95 is not None
    low, high = found.ci95
    assert (low + high) / 2 == pytest.approx(0.15)
    assert 2.0 < (high - low) / 2 / error < 3.2  # t at 95 % with 5 to 9 degrees of freedom, a little more for rounding


def test_relative_gain() -> None:
    a, b = blocks(0.4, 1), blocks(0.2, 2)
    found = relative(a, b, column="valence")
    assert found is not None
    assert found.value == pytest.approx(1.0)
    assert found.ci95 is not None
    assert found.ci95[0] < 1 < found.ci95[1]
    narrow = relative(blocks(0.4, 1, spread=0.0004), blocks(0.2, 2, spread=0.0004), column="valence")
    assert narrow is not None
    assert narrow.ci95 is not None
    assert narrow.ci95[1] - narrow.ci95[0] < found.ci95[1] - found.ci95[0]


def test_a_ratios_interval_is_fiellers() -> None:
    """With one seed and equal freedom at every r the limits are the roots of a quadratic (Fieller 1954)."""
    k, t = 10, 2.2622  # Student's t with 9 degrees of freedom at 95 %
    a, b = blocks(0.4, 1, seeds=1), blocks(0.2, 2, seeds=1)
    moved = np.where(np.arange(k) % 2, 0.01, -0.01)
    for one, off in ((a, moved), (b, np.where(np.arange(k) < 5, moved, -moved))):
        one[0]["sizes"] = [50] * k
        one[0]["valence"] = (one[0]["full"]["valence"] + off).tolist()
    found = relative(a, b, column="valence")
    assert found is not None
    assert found.ci95 is not None
    apart = [np.array(one[0]["valence"]) - one[0]["full"]["valence"] for one in (a, b)]
    aa, bb, ab = ((k - 1) / k * float(x @ y) for x, y in ((apart[0],) * 2, (apart[1],) * 2, apart))
    # (0.4 - r 0.2)^2 = t^2 (aa - 2 r ab + r^2 bb)
    roots = np.roots([0.2**2 - t**2 * bb, 2 * (t**2 * ab - 0.4 * 0.2), 0.4**2 - t**2 * aa])
    assert found.ci95 == pytest.approx(tuple(sorted(roots - 1)), rel=1e-4)
    low, high = found.ci95
    assert high - found.value > 1.1 * (found.value - low)  # it is not symmetric


def test_a_verdict_on_a_ratio_agrees_with_its_interval() -> None:
    a, b = blocks(0.4, 1, spread=0.006), blocks(0.2, 2, spread=0.006)
    found = relative(a, b, column="valence")
    assert found is not None
    assert found.ci95 is not None
    low, high = found.ci95
    for share, verdict in (
        (low - 1e-6, "better"),
        (low + 1e-6, "undecided"),
        (high - 1e-6, "undecided"),
        (high + 1e-6, "worse"),
    ):
        told = against_ratio(a, b, column="valence", ratio=1 + share, margin=1e-9)
        assert told is not None
        assert told.verdict == verdict
        assert (told.p_value < 0.05) == (verdict != "undecided")
    plain, at_one = as_compare(a, b), against_ratio(a, b, column="valence", ratio=1, margin=0.01)
    assert plain == at_one
    assert against_ratio(a, b, column="arousal", ratio=2, margin=0.01) is None


def test_under_five_clusters_no_ratio_is_decided() -> None:
    few = [
        [{**x, "sizes": SIZES[:4], "valence": x["valence"][:4]} for x in one]
        for one in (blocks(0.6, 1), blocks(0.2, 2))
    ]
    found = against_ratio(few[0], few[1], column="valence", ratio=1.9, margin=0.01)
    assert found is not None
    assert (found.verdict, found.p_value) == ("undecided", 1.0)
    assert found.value == pytest.approx(0.22)


def test_what_cannot_be_divided_by() -> None:
    assert relative(blocks(0.4, 1), blocks(0.01, 2), column="valence") is None
    unbounded = relative(blocks(0.4, 1), blocks(0.03, 2, spread=0.05), column="valence")
    assert unbounded is not None
    assert unbounded.ci95 is None
    assert relative(blocks(0.4, 1), blocks(0.2, 2), column="arousal") is None
    assert gap((blocks(0.4, 1),) * 2, (blocks(0.2, 2),) * 2, column="arousal", margin=0.01) is None


def test_blocks_that_cannot_be_paired() -> None:
    other = [{**block, "digest": "e"} for block in blocks(0.2, 2)]
    with pytest.raises(ScoreError, match="the two scores cannot be paired"):
        relative(blocks(0.4, 1), other, column="valence")
    with pytest.raises(ScoreError, match="the two scores cannot be paired"):
        gap((blocks(0.4, 1), other), (other, other), column="valence", margin=0.01)
