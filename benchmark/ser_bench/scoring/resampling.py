"""Leave one cluster out, and the 95 % interval that follows from it.

A cluster is a speaker where known, else a podcast. What is published (the full value, the leave-one-out values, the
cluster sizes) is all that an interval or a paired comparison needs; docs/statistics.md says how the formula was chosen.

Letters: n utterances, k attributes, K clusters.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ser_bench.errors import ScoreError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.ccc import check_columns, concordance_of_sums, moments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LEAST = 10
"""Utterances a cluster needs to be left out by itself: the leave-one-out values of smaller ones give labels away."""
FEW = 20
"""Under this number of clusters a result is flagged and has the utterance interval beside it."""
SCHEME = "leave-one-cluster-out"


def cluster_ids(speaker: Sequence[str], podcast: Sequence[str]) -> list[str]:
    """Name each utterance's cluster: ``speaker:12`` where the speaker is known, else ``podcast:0003``.

    Args:
        speaker: [n], ``Unknown`` (or empty) where not known.
        podcast: [n].
    """
    return [
        f"podcast:{where}" if who in ("", "Unknown") else f"speaker:{who}"
        for who, where in zip(speaker, podcast, strict=True)
    ]


def join_small(sizes: Mapping[str, int], *, least: int = LEAST) -> dict[str, str]:
    """Say into what each cluster goes: itself, or a group if it has fewer than ``least`` utterances.

    The small ones are taken in sorted order and put together until a group has ``least`` utterances, then the next
    group begins. What is left at the end goes to the last group; without any group, to the smallest other cluster
    (the first in sorted order of several). A group is called ``joined:`` and its first member. Names and sizes alone
    decide, so that the groups are the same for every system and say nothing about a label.

    Args:
        sizes: utterances of each cluster.
        least: utterances.
    """
    groups: list[list[str]] = []
    pending: list[str] = []
    for name in sorted(name for name, size in sizes.items() if size < least):
        pending.append(name)
        if sum(sizes[member] for member in pending) >= least:
            groups.append(pending)
            pending = []
    if pending and groups:
        groups[-1] += pending
    elif pending:
        others = sorted(sizes.keys() - set(pending), key=lambda name: (sizes[name], name))
        groups.append(pending + others[:1])
    joined = {member: f"joined:{min(group)}" for group in groups if len(group) > 1 for member in group}
    return {name: joined.get(name, name) for name in sizes}


def coarsen(values: NDArray[np.float64], count: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Round what is published about ``count`` utterances to multiples of 2 / ``count``.

    One label moves a CCC or a mean over n utterances by about 1 / n. Finer digits say nothing that an interval could
    use, but each system's are one more equation in the labels: with six decimals, nine systems give nearly all labels
    of 30 clusters of ten back (docs/statistics.md).
    """
    coarse: NDArray[np.float64] = np.rint(values * (count / 2)) / (count / 2)
    return coarse


def digest(utterances: Sequence[str], clusters: Sequence[str]) -> str:
    """Return the SHA-256 of which utterance is in which (joined) cluster, whatever the order of the rows."""
    lines = sorted(f"{name}\t{cluster}\n" for name, cluster in zip(utterances, clusters, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """CCCs of all utterances and of all but one cluster's."""

    names: tuple[str, ...]
    """K, sorted."""
    sizes: NDArray[np.int64]
    """[K] utterances."""
    value: NDArray[np.float64]
    """[k] over all utterances."""
    left_out: NDArray[np.float64]
    """[K, k] without cluster i; [0, k] if there is but one cluster, which leaves nothing."""


def leave_one_out(prediction: NDArray[np.float64], target: NDArray[np.float64], clusters: Sequence[str]) -> LeaveOneOut:
    """Score all utterances, and all but one cluster's, for each cluster in sorted order.

    Args:
        prediction: [n, k].
        target: [n, k], the same unit.
        clusters: [n] names; join small ones first (``join_small``) if the result is to be published.

    Raises:
        ScoreError: as ``concordance``; or the lengths differ; or without one cluster, prediction and label are both
            constant.
    """
    prediction, target = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if prediction.ndim != 2 or prediction.shape != target.shape or len(clusters) != len(prediction):
        raise ScoreError(
            f"predictions have shape {list(prediction.shape)}, labels {list(target.shape)}, and {len(clusters)}"
            " clusters are named; expected [n, k], [n, k] and n. Match them by utterance first."
        )
    check_columns(prediction, target, names=_column_names(prediction.shape[1]))
    names, which = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    order = np.argsort(which, kind="stable")
    sizes = np.bincount(which)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    by_cluster = np.add.reduceat(moments(prediction, target)[order], starts, axis=0)  # [K, k, 7]
    whole = by_cluster.sum(axis=0)
    left_out = concordance_of_sums(whole - by_cluster, whole=whole)
    if len(names) == 1:
        left_out = left_out[:0]
    if np.isnan(left_out).any():
        cluster, column = np.argwhere(np.isnan(left_out))[0]
        raise ScoreError(
            f"without cluster {names[cluster]}, predictions and labels of"
            f" {_column_names(prediction.shape[1])[column]} are both constant over the other"
            f" {len(prediction) - sizes[cluster]} utterances; no CCC is defined there. Score a larger set."
        )
    return LeaveOneOut(
        names=tuple(names.tolist()), sizes=sizes, value=concordance_of_sums(whole, whole=whole), left_out=left_out
    )


def interval(
    value: float, left_out: NDArray[np.float64], sizes: NDArray[np.int64], *, level: float = 0.95, step: float = 0.0
) -> tuple[float, float] | None:
    """Return the confidence interval of a CCC (or a mean of CCCs): a jackknife-t on Fisher's z.

    Args:
        value: over all utterances, -1..1.
        left_out: [K] without cluster i.
        sizes: [K] utterances of cluster i.
        level: coverage.
        step: what the values were rounded to multiples of; ``grain`` for values as published.

    Returns:
        (low, high), or None with fewer than two clusters.
    """
    if len(left_out) < 2:
        return None
    # A perfect score has an infinite z; a billionth below is as good, and all differences stay finite.
    z, z_out = (np.arctanh(np.clip(v, -1 + 1e-9, 1 - 1e-9)) for v in (np.float64(value), np.asarray(left_out)))
    variance, freedom = jackknife(z, z_out, sizes, step=on_z(step, float(value)))
    reach = float(t_quantile(freedom, level) * np.sqrt(variance))
    if reach == 0:
        return float(value), float(value)
    return float(np.tanh(z - reach)), float(np.tanh(z + reach))


def grain(value: float, sizes: NDArray[np.int64]) -> float:
    """Return what published values are multiples of (``coarsen``); 0 for a value that no cluster can move.

    A constant prediction has a CCC of 0 whoever is left out, and a perfect one 1.
    """
    return 0.0 if value in (-1.0, 0.0, 1.0) else 2 / int(np.sum(sizes))


def on_z(step: float, value: float) -> float:
    """Return how far apart two CCCs are on Fisher's z that are ``step`` apart at ``value``: step / (1 - value^2).

    Within one step of a perfect score, where the rounding ends at the edge of the scale, as one step away from it.
    """
    return step / (1 - min(abs(value), 1 - step) ** 2) if step else 0.0


def jackknife(
    value: NDArray[np.float64] | np.float64,
    left_out: NDArray[np.float64],
    sizes: NDArray[np.int64],
    *,
    step: float | NDArray[np.float64] = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the delete-one-cluster jackknife's variance and its degrees of freedom.

    With d_i = left_out_i - value and the shares w_i = sizes_i / n, the variance is (K - 1) / K sum d_i^2 (Efron and
    Stein 1981, Annals of Statistics 9(3), 586; taken about the full value). Uneven clusters leave it fewer degrees of
    freedom than K - 1. Two counts of them are combined by their geometric mean, which simulation chose
    (docs/statistics.md):

    - by size, 1 / sum w_i^2 - 1 (Kish's effective number of clusters, less one), right if all cluster means vary alike;
    - by influence, 3 (sum d_i^2)^2 / sum d_i^4 - 1, at most K - 1 (Satterthwaite 1946, Biometrics Bulletin 2(6), 110,
      with the variances seen; 3 is the kurtosis of a normal d_i, which makes it K - 1 for equal ones).

    Args:
        value: [...], on any scale.
        left_out: [..., K].
        sizes: [..., K] utterances; 0 for a place that holds no cluster (its ``left_out`` equal to ``value``).
        step: what the values were rounded to multiples of (``grain``); no distance counts less than a rounding error,
            step / sqrt(12).

    Returns:
        Variance and degrees of freedom, [...] each.
    """
    square = (left_out - np.asarray(value)[..., None]) ** 2
    # A distance that was rounded away still has the variance of rounding.
    square = np.where(sizes > 0, np.maximum(square, np.asarray(step)[..., None] ** 2 / 12), square)
    share = sizes / np.sum(sizes, axis=-1, keepdims=True)
    count = np.sum(sizes > 0, axis=-1)
    total = square.sum(axis=-1)
    # Relative to the largest, so that the fourth powers of small numbers do not vanish.
    relative = square / np.maximum(square.max(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    by_influence = 3 * relative.sum(axis=-1) ** 2 / np.maximum((relative**2).sum(axis=-1), 1) - 1
    by_size = 1 / (share**2).sum(axis=-1) - 1
    freedom = np.sqrt(np.clip(by_influence, 1, count - 1) * by_size)
    return (count - 1) / count * total, freedom


def t_quantile(freedom: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Return Student's t that holds ``level`` between its two signs."""
    from scipy.special import stdtrit  # heavy for what only imports this module

    # Freedom close to 0 (one cluster holds nearly everything) has a quantile beyond any number; half is wide enough.
    result: NDArray[np.float64] = stdtrit(np.maximum(freedom, 0.5), (1 + level) / 2)
    return result


def with_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the mean over the attributes behind them: [..., k] -> [..., k + 1]."""
    return np.concatenate([values, values.mean(axis=-1, keepdims=True)], axis=-1)


def _column_names(count: int) -> tuple[str, ...]:
    return ATTRIBUTES if count == len(ATTRIBUTES) else tuple(f"column {i}" for i in range(count))
