"""The interval of a CCC as if utterances were independent: a bootstrap of utterances, all its resamples at once.

Too narrow wherever utterances of a speaker resemble each other, which they do; it stands beside the interval over
clusters to show how much that matters, and where clusters are few.

What is needed of a resample are sums of moments, weighted by how often each utterance is drawn. If v holds these counts
of one resample, every cyclic shift of v holds those of another, and the sums of all shifts are a circular correlation,
which fast Fourier transforms give in n log n steps instead of n^2. Shifts of one v are uncorrelated but for 1 / n on
average, provided that neighbours in the data are strangers; so the utterances are put in random order first, and no
more than a tenth of the shifts of one v is used. docs/statistics.md has what that costs and gains.

Letters: n utterances, k attributes, R resamples, B vectors of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ser_bench.scoring.ccc import concordance_of_sums, moments
from ser_bench.scoring.resampling import with_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 10_000
_SHARE = 10
"""One in so many shifts of a vector of counts is used."""
_AT_ONCE = 4_000_000
"""Numbers held at a time."""


def resample(
    prediction: NDArray[np.float64], target: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return the CCCs of bootstrap resamples of utterances: [R, k]; NaN where a resample is one number throughout.

    The same seed and n give the same resamples, whoever is scored.

    Args:
        prediction: [n, k].
        target: [n, k], the same unit.
        resamples: R.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    rows = moments(np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64))
    n, k, m = rows.shape
    shape = np.fft.rfft(rows[rng.permutation(n)].reshape(n, k * m), axis=0).T  # [k m, n // 2 + 1]
    shifts = min(max(1, n // _SHARE), resamples)
    sums = np.empty((0, k, m))
    found = [sums]
    left = -(-resamples // shifts)
    while left:
        some = min(left, max(1, _AT_ONCE // (n * k * m)))
        counts = np.bincount(
            (rng.integers(0, n, (some, n)) + np.arange(some)[:, None] * n).ravel(), minlength=some * n
        ).reshape(some, 1, n)
        moved = np.fft.irfft(np.conj(np.fft.rfft(counts)) * shape, n)[..., :shifts]  # [B, k m, shifts]
        found.append(moved.transpose(0, 2, 1).reshape(-1, k, m))
        left -= some
    return concordance_of_sums(np.concatenate(found)[:resamples], whole=rows.sum(axis=0))


def utterance_interval(
    prediction: NDArray[np.float64],
    target: NDArray[np.float64],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[tuple[float, float] | None]:
    """Return the percentile interval of each column's CCC, and last of their mean, over resamples of utterances.

    Args:
        prediction: [n, k].
        target: [n, k], the same unit.
        level: coverage, were utterances independent.
        resamples: how many.
        seed: of the draws.

    Returns:
        k + 1 pairs (low, high); None where a resample leaves no CCC.
    """
    drawn = with_mean(resample(prediction, target, resamples=resamples, seed=seed))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)  # NaN where one is
    return [None if np.isnan(a) else (float(a), float(b)) for a, b in zip(low, high, strict=True)]


def coarse_limits(limits: Sequence[float] | None, count: int) -> list[float] | None:
    """Round limits over ``count`` utterances as they are published: to multiples of ``grain``, in three decimals.

    They hang on every label, most on the outlying ones; with more digits they are one more equation for each.
    """
    if limits is None:
        return None
    step = grain(count)
    coarse = np.clip(np.rint(np.array(limits) / step) * step, -1, 1)
    return [round(float(limit), 3) + 0.0 for limit in coarse]


def grain(count: int) -> float:
    """Return what published limits are multiples of: about a tenth of what such an interval spans."""
    return float(0.25 / np.sqrt(count))
