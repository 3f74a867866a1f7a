"""Two questions that ``compare`` does not answer: how far two differences differ, and how many per cent a gain is.

Both from what records publish, as there. Letters: S seeds, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_bench.scoring.compare import Block, Difference, check_paired, columns_of, judged, with_seeds
from ser_bench.scoring.resampling import grain, jackknife, t_quantile
from ser_bench.scoring.seeds import over_seeds

_LEAST = 0.02
"""CCC that something must reach for a ratio to it to mean anything."""


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
        return Difference(value=value, ci95=None, p_value=1.0, verdict="undecided", negligible=False)
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
    """None with fewer than two clusters, or where what is divided by may be 0: then nothing bounds the ratio (Fieller
    1954, Journal of the Royal Statistical Society B 16(2), 175)."""


def relative(a: Sequence[Block], b: Sequence[Block], *, column: str) -> Relative | None:
    """Tell by what share a system's mean CCC is above another's.

    Over clusters the ratio itself is jackknifed; how far seeds lie apart comes in through its first derivatives.

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
    (full_a, out_a), (full_b, out_b) = columns_of(a, column), columns_of(b, column)
    over, under = float(full_a.mean()), float(full_b.mean())
    if under < _LEAST:
        return None
    value, sizes = over / under - 1, np.array(a[0]["sizes"])
    divisor = over_seeds(b, column)
    if divisor is None or divisor[0] <= 0:
        return Relative(value=value, ci95=None)
    ratios: NDArray[np.float64] = out_a.mean(axis=0) / out_b.mean(axis=0) - 1
    variance, freedom = jackknife(
        np.float64(value), ratios, sizes, step=grain(under, sizes) * (1 + over / under) / under
    )
    slopes = (1 / under, over / under**2)
    scaled = [slope * values for slope, values in zip(slopes, (full_a, full_b), strict=True)]
    scaled_out = [slope * values for slope, values in zip(slopes, (out_a, out_b), strict=True)]
    variance, freedom = with_seeds(variance, freedom, scaled, scaled_out, sizes)
    reach = float(t_quantile(freedom, 0.95) * np.sqrt(variance))
    return Relative(value=value, ci95=(value - reach, value + reach))
