"""Made-up records for verdicts: only what a comparison reads, with any score and any spread over clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ser_bench.interface import ATTRIBUTES
from ser_bench.studies import paper

CLUSTERS, SIZE = 24, 50
APART = 0.002
"""Between the scores of two seeds, in other order from system to system."""
SURE, UNSURE = 0.0002, 0.1
"""Spread of a system's leave-one-out scores: an interval of the difference of two far inside, and far outside, 0.01."""


def block(scores: Mapping[str, float], spread: float, seed: int, clusters: int = CLUSTERS) -> dict[str, Any]:
    """Make a resampling block with these CCCs."""
    draws = np.random.default_rng(seed)
    made: dict[str, Any] = {
        "clusters": clusters, "sizes": [SIZE] * clusters, "digest": "d", "metric": "ccc-1", "full": dict(scores),
    }  # fmt: skip
    for attribute in ATTRIBUTES:
        off = draws.choice([-1.0, 1.0], clusters) * spread
        made[attribute] = (scores[attribute] + off - off.mean()).tolist()
    made["full"]["mean"] = float(np.mean([scores[a] for a in ATTRIBUTES]))
    made["mean"] = np.mean([made[a] for a in ATTRIBUTES], axis=0).tolist()
    return made


def record(
    scores: Mapping[str, tuple[float, float, float]],
    *,
    spread: float = SURE,
    seeds: int = 2,
    name: str = "x",
    apart: float = APART,
    clusters: int = CLUSTERS,
) -> dict[str, Any]:
    """Make what the judge reads of a record: partition -> arousal, valence, dominance, the mean over its seeds."""
    number = sum(map(ord, name))
    runs = []
    for seed in range(seeds):
        off = (-1) ** number * apart * (seed - (seeds - 1) / 2)
        blocks = {
            side: block(
                {a: value + off for a, value in zip(ATTRIBUTES, values, strict=True)},
                spread,
                1000 * number + 10 * seed + place,
                clusters,
            )
            for place, (side, values) in enumerate(scores.items())
        }
        runs.append({"seed": seed + 1, "resampling": blocks})
    return {"runs": runs}


def both(arousal: float, valence: float, dominance: float) -> dict[str, tuple[float, float, float]]:
    """Give the same scores to seen and unseen."""
    return dict.fromkeys(paper.SIDES, (arousal, valence, dominance))
