"""Differences of differences, and relative gains, against ``compare`` and arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ser_bench.errors import ScoreError
from ser_bench.scoring.compare import compare
from ser_bench.scoring.contrast import gap, relative

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
    # the delta method, with one seed: var(a / b) = var(a / b - a b / b^2)
    one, two = blocks(0.4, 1, seeds=1), blocks(0.2, 2, seeds=1)
    single = relative(one, two, column="valence")
    assert single is not None
    assert single.ci95 is not None
    linear = (np.array(one[0]["valence"]) - 0.4) / 0.2 - 0.4 * (np.array(two[0]["valence"]) - 0.2) / 0.2**2
    k = len(SIZES)
    error = np.sqrt((k - 1) / k * (linear**2).sum())
    assert 2.0 < (single.ci95[1] - single.ci95[0]) / 2 / error < 3.3


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
