"""What people reach: how far one rater agrees with the others, as a reference beside the systems' scores.

Computed while ratings are at hand, and published as coarsely as slices are. docs/statistics.md has the definitions.

Letters: n utterances, k ratings of one of them, m ratings in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_bench.errors import ScoreError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.ccc import concordance
from ser_bench.scoring.slices import LEAST_UTTERANCES, coarse_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 20
"""Simulated raters; the score is their mean, and over 10,000 utterances one differs from it by about 0.003."""
_SEED = 1
_DECIMALS = 3


def ceiling(ratings: Sequence[NDArray[np.float64]], labels: NDArray[np.float64]) -> dict[str, Any] | None:
    """Score raters as if they were systems.

    - ``one``: the CCC of every rating with the mean of the other ratings of its utterance, over all ratings of
      utterances with two or more: each rater against the mean of the others (the CCC of several observers goes back to
      Barnhart, Haber and Song 2002, Biometrics 58(4), 1020).
    - ``simulated``: the CCC with the label of a rater who knows the label and rates with the noise of real ones: the
      label plus normal noise of their pooled variance within utterances, rounded to a whole number on 1..7; the mean of
      ``DRAWS`` such raters, seeded.

    Args:
        ratings: n arrays [k, 3] arousal, valence, dominance on 1..7; [0, 3] where nobody is known.
        labels: [n, 3], the consensus.

    Returns:
        ``{"utterances", "ratings", attribute or "mean": {"one", "simulated"} or None}``, of the utterances with two
        ratings or more; None with fewer than 10 of them.
    """
    rated = [i for i, values in enumerate(ratings) if len(values) > 1]
    if len(rated) < LEAST_UTTERANCES:
        return None
    values = np.concatenate([ratings[i] for i in rated])  # [m, 3]
    counts = np.array([len(ratings[i]) for i in rated])
    of = np.repeat(np.arange(len(rated)), counts)
    sums = np.add.reduceat(values, np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    others = (sums[of] - values) / (counts[of] - 1)[:, None]
    within = ((values - (sums / counts[:, None])[of]) ** 2).sum(axis=0) / (len(values) - len(rated))
    truth = np.asarray(labels, dtype=np.float64)[rated]
    drawn = np.random.default_rng(_SEED).normal(size=(DRAWS, len(rated)))
    found: dict[str, Any] = {"utterances": len(rated), "ratings": len(values)}
    for number, name in enumerate(ATTRIBUTES):
        simulated = np.clip(np.rint(truth[:, number] + np.sqrt(within[number]) * drawn), 1, 7)
        scores = [_score(one, truth[:, number]) for one in simulated]
        found[name] = {
            "one": coarse_score(_score(values[:, number], others[:, number]), len(rated)),
            "simulated": coarse_score(_mean_score(scores), len(rated)),
        }
    found["mean"] = {word: mean_of([found[name][word] for name in ATTRIBUTES]) for word in ("one", "simulated")}
    return found


def _score(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    try:
        return concordance(a, b)
    except ScoreError:  # both constant
        return None


def _mean_score(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the attributes' scores as it is published; None if one has none."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), _DECIMALS) if len(known) == len(values) else None
