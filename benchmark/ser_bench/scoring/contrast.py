"""Two questions that ``compare`` does not answer: how far two differences differ, and how many per cent a gain is.

Both from what records publish, as there. Letters: S seeds, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_bench.scoring.compare import Block, Difference, check_paired, columns_of, judged, undecidable, with_seeds
from ser_bench.scoring.resampling import grain, jackknife, t_quantile

_LEAST = 0.02
"""CCC that something must reach for a ratio to it to mean anything."""
_FARTHEST = 1e4
"""Distance of two ratios beyond which a limit is none: no ratio to a CCC of ``_LEAST`` or more comes near it."""


def gap(
    gain: tuple[Sequence[Block], Sequence[Block]],
    other: tuple[Sequence[Block], Sequence[Block]],
    *,
    column: str,
    margin: float,
) -> Difference | None:
    """Tell how much larger one gain is than another: (a - b) - (c - d), each the mean CCC over a system's seeds.

    Args:
        gain: the blocks of a and of b.
        other: those of c and of d.
        column: an attribute.
        margin: as ``compare``.

    Returns:
        The difference of the two gains; None where one of the four has no such score.

    Raises:
        ScoreError: the blocks cannot be paired.
    """
    systems = [*gain, *other]
    check_paired([block for blocks in systems for block in blocks])
    if any(block[column] is None for blocks in systems for block in blocks):
        return None
    signs = (1, -1, -1, 1)
    full, out = zip(*(columns_of(blocks, column) for blocks in systems), strict=True)  # [S], [S, K] each
    sizes = np.array(systems[0][0]["sizes"])
    value = float(sum(sign * values.mean() for sign, values in zip(signs, full, strict=True)))
    if len(sizes) < 2:
        return undecidable(value)
    apart = sum(sign * values.mean(axis=0) for sign, values in zip(signs, out, strict=True))
    step = grain(value, sizes) if np.any(apart) else 0.0
    variance, freedom = jackknife(np.float64(value), np.asarray(apart), sizes, step=step)
    variance, freedom = with_seeds(variance, freedom, full, out, sizes)
    return judged(value, variance, freedom, clusters=len(sizes), margin=margin, most=4.0)


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A gain as a share of what it is gained over: (a - b) / b."""

    value: float
    """1 for a doubling."""
    ci95: tuple[float, float] | None
    """None with fewer than two clusters, or where what is divided by is not clearly above 0: then nothing bounds the
    ratio."""


def relative(a: Sequence[Block], b: Sequence[Block], *, column: str) -> Relative | None:
    """Tell by what share a system's mean CCC is above another's.

    The interval is Fieller's (1954, Journal of the Royal Statistical Society B 16(2), 175): all ratios r at which the
    difference a - r b is not told apart from 0, so that it says what ``against_ratio`` says. It is no more symmetric
    than the ratio is.

    Args:
        a: a block for each seed.
        b: the same for the system that it is compared with.
        column: an attribute.

    Returns:
        None where one of them has no such score, or b's CCC is too close to 0 (under 0.02) to be divided by.

    Raises:
        ScoreError: the blocks cannot be paired.
    """
    check_paired([*a, *b])
    if any(block[column] is None for block in (*a, *b)):
        return None
    over, under = (float(columns_of(blocks, column)[0].mean()) for blocks in (a, b))
    if under < _LEAST:
        return None
    ratio = over / under
    if len(a[0]["sizes"]) < 2:
        return Relative(value=ratio - 1, ci95=None)

    def rejected(at: float) -> bool:
        value, variance, freedom = _less(a, b, column, at)
        return abs(value) > float(t_quantile(freedom, 0.95) * np.sqrt(variance))

    limits = [_edge(rejected, ratio, direction) for direction in (-1, 1)]
    low, high = (None if limit is None else limit - 1 for limit in limits)
    return Relative(value=ratio - 1, ci95=None if low is None or high is None else (low, high))


def against_ratio(
    a: Sequence[Block], b: Sequence[Block], *, column: str, ratio: float, margin: float
) -> Difference | None:
    """Tell whether a system's mean CCC is more, or less, than ``ratio`` times another's: a - ratio b, as a difference.

    Args:
        a, b, column: as ``relative``.
        ratio: 2 for a doubling.
        margin: as ``compare``.

    Returns:
        None where one of them has no such score.

    Raises:
        ScoreError: the blocks cannot be paired.
    """
    check_paired([*a, *b])
    if any(block[column] is None for block in (*a, *b)):
        return None
    clusters = len(a[0]["sizes"])
    if clusters < 2:
        means = [float(columns_of(blocks, column)[0].mean()) for blocks in (a, b)]
        return undecidable(means[0] - ratio * means[1])
    value, variance, freedom = _less(a, b, column, ratio)
    return judged(value, variance, freedom, clusters=clusters, margin=margin, most=1 + abs(ratio))


def _less(
    a: Sequence[Block], b: Sequence[Block], column: str, ratio: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return mean a - ratio mean b, its variance over clusters and seeds, and the degrees of freedom."""
    (full_a, out_a), (full_b, out_b) = columns_of(a, column), columns_of(b, column)  # [S], [S, K] each
    full, out, sizes = (full_a, ratio * full_b), (out_a, ratio * out_b), np.array(a[0]["sizes"])
    value = float(full[0].mean() - full[1].mean())
    apart = out[0].mean(axis=0) - out[1].mean(axis=0)
    step = grain(value, sizes) * max(1.0, abs(ratio)) if np.any(apart) else 0.0
    variance, freedom = jackknife(np.float64(value), apart, sizes, step=step)
    return value, *with_seeds(variance, freedom, full, out, sizes)


def _edge(rejected: Callable[[float], bool], start: float, direction: int) -> float | None:
    """Return where a set that holds ``start`` ends, to nine digits or so; None where it has no end."""
    inside, step = start, 0.01
    while not rejected(outside := start + direction * step):
        if step > _FARTHEST:
            return None
        inside, step = outside, 2 * step
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
    return inside
