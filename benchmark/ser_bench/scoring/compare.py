"""Compare two systems from what their records publish: no labels, no predictions.

A *block* is the resampling block of one seed and partition (``PartitionScore.resampling``). Blocks of two systems are
paired: the same utterances, in the same clusters, scored by the same metric. docs/statistics.md has the formulas.

Letters: S seeds, K clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ser_bench.errors import ScoreError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.resampling import grain, jackknife, t_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

Block = Mapping[str, Any]
Verdict = Literal["better", "worse", "on par", "undecided"]

MARGIN = 0.01
"""Differences of CCC under this are of no importance (ours: the spread over seeds of one system is about as large)."""
DECIDABLE = 5
"""Clusters that a verdict needs; with fewer it is always ``undecided``."""
_COLUMNS = (*ATTRIBUTES, "mean")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far system a is ahead of system b on one attribute, or on the mean over attributes."""

    value: float
    """CCC of a less CCC of b, each the mean over its seeds."""
    ci95: tuple[float, float] | None
    """None with fewer than two clusters."""
    p_value: float
    """Two-sided, of the hypothesis that the difference is 0; 1 with fewer than ``DECIDABLE`` clusters."""
    verdict: Verdict
    """About a. ``better`` or ``worse``: the 95 % interval excludes 0. Else ``on par``: the 90 % interval lies inside
    the margin on both sides (two one-sided tests at 5 %). Else ``undecided``."""
    negligible: bool
    """Whether the 90 % interval lies inside the margin; a difference can be both real and negligible."""
    not_lower: bool
    """Whether the 90 % interval lies above -margin: a is not lower by anything that matters (one-sided, 5 %)."""
    p_equivalent: float
    """Of the hypothesis that the difference is not inside the margin: the larger of two one-sided tests' (Schuirmann
    1987, Journal of Pharmacokinetics and Biopharmaceutics 15(6), 657); 1 with fewer than ``DECIDABLE`` clusters."""


def compare(
    a: Block | Sequence[Block], b: Block | Sequence[Block], *, margin: float = MARGIN
) -> dict[str, Difference | None]:
    """Compare two systems on one partition, by attribute and on the mean.

    Args:
        a: one block, or one for each seed.
        b: the same for the other system; the number of seeds may differ.
        margin: CCC, more than 0; differences inside it are ``on par`` if the data can tell.

    Returns:
        ``arousal``, ``valence``, ``dominance``, ``mean``; None where one of the systems has no such score, and for the
        mean also where the two are means over different attributes.

    Raises:
        ScoreError: the blocks are of different utterances, clusters or metrics, there are none, or the margin is not
            above 0.
    """
    if not margin > 0:
        raise ScoreError(f"the margin is {margin}, expected a CCC above 0, such as {MARGIN}. Correct it with --margin.")
    blocks_a, blocks_b = _as_blocks(a), _as_blocks(b)
    check_paired([*blocks_a, *blocks_b])
    return {column: _difference(blocks_a, blocks_b, column, margin) for column in _COLUMNS}


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6(2), 65)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return [float(x) for x in corrected]


def rank(rows: Sequence[Block | Sequence[Block]], *, attribute: str = "mean", level: float = 0.05) -> list[int | None]:
    """Rank the rows of one track and partition: 1 + the number of rows that the corrected paired test calls better.

    All pairs are tested, and their p-values corrected together by ``holm``. Rows that no test tells apart share a rank.

    Args:
        rows: each row's block, or its seeds' blocks.
        attribute: ``mean`` or an attribute.
        level: of the tests together.

    Returns:
        One rank per row; None for a row without that score, or whose mean is not over all attributes.

    Raises:
        ScoreError: as ``compare``.
    """
    seeds = [_as_blocks(row) for row in rows]
    needed = ATTRIBUTES if attribute == "mean" else (attribute,)
    able = [i for i, blocks in enumerate(seeds) if all(block[a] is not None for block in blocks for a in needed)]
    check_paired([block for i in able for block in seeds[i]])
    better_than = dict.fromkeys(able, 0)
    first, second, value, p_values = _all_pairs([seeds[i] for i in able], attribute)
    apart = np.flatnonzero(np.asarray(holm(p_values)) < level)
    for i, j, ahead in zip(first[apart], second[apart], value[apart] > 0, strict=True):
        better_than[able[j if ahead else i]] += 1
    return [1 + better_than[i] if i in better_than else None for i in range(len(seeds))]


def columns_of(blocks: Sequence[Block], column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return full values [S] and leave-one-out values [S, K]."""
    return (
        np.array([block["full"][column] for block in blocks], dtype=np.float64),
        np.array([block[column] for block in blocks], dtype=np.float64),
    )


def _as_blocks(given: Block | Sequence[Block]) -> list[Block]:
    blocks = [given] if isinstance(given, Mapping) else list(given)
    if not blocks:
        raise ScoreError("a system without any seed's resampling block was given; a comparison needs one or more.")
    return blocks


def check_paired(blocks: Sequence[Block]) -> None:
    """Check that blocks are of the same utterances in the same clusters, scored by the same metric.

    Raises:
        ScoreError: they are not.
    """
    for key, word in (("metric", "metric"), ("digest", "clusters digest"), ("sizes", "cluster sizes")):
        for block in blocks[1:]:
            if block[key] != blocks[0][key]:
                given, other = (str(x[key])[:40] for x in (blocks[0], block))
                raise ScoreError(
                    f"the two scores cannot be paired: {word} {given} and {other}. Both must be of the same release,"
                    " partition, utterances and metric version; score one of the runs again."
                )


def _difference(a: Sequence[Block], b: Sequence[Block], column: str, margin: float) -> Difference | None:
    both = (*a, *b)
    if any(block[column] is None for block in both) or (column == "mean" and len({_trained(x) for x in both}) > 1):
        return None
    (full_a, out_a), (full_b, out_b) = columns_of(a, column), columns_of(b, column)
    value = float(full_a.mean() - full_b.mean())
    sizes = np.array(a[0]["sizes"])
    if len(sizes) < 2:
        return undecidable(value)
    apart = out_a.mean(axis=0) - out_b.mean(axis=0)
    step = grain(value, sizes) if apart.any() else 0.0
    by_cluster, freedom = jackknife(np.float64(value), apart, sizes, step=step)
    variance, freedom = with_seeds(by_cluster, freedom, [full_a, full_b], [out_a, out_b], sizes)
    return judged(value, variance, freedom, clusters=len(sizes), margin=margin, most=2.0)


def judged(
    value: float,
    variance: NDArray[np.float64],
    freedom: NDArray[np.float64],
    *,
    clusters: int,
    margin: float,
    most: float,
) -> Difference:
    """Return a difference with its interval and verdict.

    Args:
        value: the difference.
        variance: its own, with the seeds'.
        freedom: degrees of freedom of the variance.
        clusters: that the variance was found from.
        margin: as ``compare``.
        most: how large a difference can be; the interval ends there.
    """
    error = float(np.sqrt(variance))
    reach = float(t_quantile(freedom, 0.95)) * error
    low, high = max(value - reach, -most), min(value + reach, most)
    reach90 = float(t_quantile(freedom, 0.90)) * error
    decidable = clusters >= DECIDABLE
    negligible = decidable and abs(value) + reach90 < margin
    verdict: Verdict = "on par" if negligible else "undecided"
    if decidable and (low > 0 or high < 0):
        verdict = "better" if low > 0 else "worse"
    return Difference(
        value=value,
        ci95=(low, high),
        p_value=float(_p_value(value, error, freedom)) if decidable else 1.0,
        verdict=verdict,
        negligible=negligible,
        not_lower=decidable and value - reach90 > -margin,
        p_equivalent=_within(margin - abs(value), error, freedom) if decidable else 1.0,
    )


def undecidable(value: float) -> Difference:
    """Return a difference of which fewer than two clusters say nothing."""
    return Difference(
        value=value, ci95=None, p_value=1.0, verdict="undecided", negligible=False, not_lower=False, p_equivalent=1.0
    )


def with_seeds(
    by_cluster: NDArray[np.float64],
    freedom: NDArray[np.float64],
    full: Sequence[NDArray[np.float64]],
    left_out: Sequence[NDArray[np.float64]],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add the variance that comes from the seeds to that of the clusters.

    For the mean over seeds of one system, or the difference of two such means. s^2, the variance of the full values
    around their system's mean, pooled over the systems, holds two things: how far the seeds' models differ, and how
    differently they do on these very clusters. The second is in ``by_cluster`` already; its share of s^2 is the
    jackknife variance of each seed's distance to its system's mean, and is taken off. What is left (0 or more) counts
    1 / S_a + 1 / S_b times, with S_a + S_b - 2 degrees of freedom (1 / S and S - 1 for one system), joined to the
    clusters' by Welch and Satterthwaite. With one seed of each there is no s^2: the result then is about these trained
    models, not about what would be trained again.

    Args:
        by_cluster: [...] variance of the difference of the systems' means.
        freedom: [...] its degrees of freedom.
        full: [..., S] of each system.
        left_out: [..., S, K] of each system.
        sizes: [..., K] utterances.

    Returns:
        Variance and degrees of freedom, [...] each.
    """
    counts = [values.shape[-1] for values in full]
    seed_freedom = sum(counts) - len(counts)
    if seed_freedom == 0:
        return by_cluster, freedom
    spread = sum(_spread(values, out, sizes) for values, out in zip(full, left_out, strict=True))
    by_seed = np.maximum(spread, 0) / seed_freedom * sum(1 / count for count in counts)
    return _joined(by_cluster, freedom, by_seed, np.float64(seed_freedom))


def _spread(full: NDArray[np.float64], left_out: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a system's sum of squares over its seeds, less what these very clusters give to it.

    Args:
        full: [..., S].
        left_out: [..., S, K].
        sizes: [..., K] utterances.
    """
    off = full - full.mean(axis=-1, keepdims=True)
    off_out = left_out - left_out.mean(axis=-2, keepdims=True)
    shared, _ = jackknife(off, off_out, np.broadcast_to(sizes[..., None, :], off_out.shape))
    total: NDArray[np.float64] = (off**2 - shared).sum(axis=-1)
    return total


def _joined(
    by_cluster: NDArray[np.float64],
    freedom: NDArray[np.float64],
    by_seed: NDArray[np.float64],
    seed_freedom: NDArray[np.float64] | np.float64,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Join two variances and their degrees of freedom (Welch and Satterthwaite)."""
    variance = by_cluster + by_seed
    # Nothing varies: any freedom will do, the interval is a point.
    safe = np.where(variance > 0, variance, 1)
    inverse = (by_cluster / safe) ** 2 / freedom + (by_seed / safe) ** 2 / seed_freedom
    return variance, np.where(variance > 0, 1 / np.where(inverse > 0, inverse, 1), freedom)


def _all_pairs(
    systems: Sequence[Sequence[Block]], column: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Test every pair of systems, as ``_difference`` does one: 500 of them are 125,000 pairs.

    Args:
        systems: each system's blocks, all paired and all with that score.
        column: an attribute or ``mean``.

    Returns:
        Places of the first and the second of each pair, first less second, and p-values.
    """
    first, second = np.triu_indices(len(systems), k=1)
    if not len(first):
        return first, second, np.empty(0), np.empty(0)
    columns = [columns_of(blocks, column) for blocks in systems]
    sizes = np.array(systems[0][0]["sizes"])
    full = np.array([values.mean() for values, _ in columns])
    value = full[first] - full[second]
    if len(sizes) < DECIDABLE:
        return first, second, value, np.ones(len(first))
    out = np.array([values.mean(axis=0) for _, values in columns])  # [R, K]
    counts = np.array([len(values) for values, _ in columns])
    spread = np.array([float(_spread(*found, sizes)) for found in columns])
    p_values = np.empty(len(first))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        i, j = first[part], second[part]
        apart = out[i] - out[j]
        moved = apart.any(axis=1) & ~np.isin(value[part], (-1.0, 0.0, 1.0))
        by_cluster, freedom = jackknife(
            value[part], apart, np.broadcast_to(sizes, apart.shape), step=np.where(moved, 2 / sizes.sum(), 0.0)
        )
        seed_freedom = (counts[i] + counts[j] - 2).astype(np.float64)
        several = np.maximum(seed_freedom, 1)
        by_seed = np.maximum(spread[i] + spread[j], 0) / several * (1 / counts[i] + 1 / counts[j])
        joined = _joined(by_cluster, freedom, by_seed, several)
        variance = np.where(seed_freedom > 0, joined[0], by_cluster)
        p_values[part] = _p_value(value[part], np.sqrt(variance), np.where(seed_freedom > 0, joined[1], freedom))
    return first, second, value, p_values


_PAIRS_AT_ONCE = 2048


def _p_value(
    value: NDArray[np.float64] | float, error: NDArray[np.float64] | float, freedom: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy.special import stdtr  # heavy for what only imports this module

    value, error = np.asarray(value), np.asarray(error)
    t = np.abs(value) / np.where(error > 0, error, 1)
    found: NDArray[np.float64] = np.where(error > 0, 2 * stdtr(np.maximum(freedom, 0.5), -t), value == 0)
    return found


def _within(distance: float, error: float, freedom: NDArray[np.float64]) -> float:
    """Return the one-sided p-value of a value that lies ``distance`` inside a limit (below 0: outside of it)."""
    from scipy.special import stdtr  # as above

    return float(stdtr(np.maximum(freedom, 0.5), -distance / error)) if error > 0 else float(distance <= 0)


def _trained(block: Block) -> tuple[str, ...]:
    return tuple(a for a in ATTRIBUTES if block[a] is not None)
