"""One system over several seeds: mean, spread, and an interval that holds the seeds' variance too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_bench.scoring.compare import with_seeds
from ser_bench.scoring.resampling import grain, jackknife, on_z, t_quantile

_EDGE = 1 - 1e-9  # a perfect score has an infinite z; a billionth below is as good


def over_seeds(blocks: Sequence[Mapping[str, Any]], column: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a system's mean CCC over its seeds.

    A jackknife-t over clusters on Fisher's z of the seeds' mean, as for one seed (``resampling.interval``), with what
    the seeds vary beyond the clusters added (``compare.with_seeds``). With one seed it is that seed's own interval.

    Args:
        blocks: the resampling block of each seed, of one partition.
        column: an attribute or ``mean``.

    Returns:
        (low, high) on the CCC scale, or None with fewer than two clusters.
    """
    sizes = np.array(blocks[0]["sizes"])
    if len(sizes) < 2:
        return None
    full = np.arctanh(np.clip([block["full"][column] for block in blocks], -_EDGE, _EDGE))  # [S]
    out = np.arctanh(np.clip([block[column] for block in blocks], -_EDGE, _EDGE))  # [S, K]
    centre = np.float64(full.mean())
    # Each seed's values were rounded at its own place on the scale; one that nothing can move was not.
    steps = [on_z(grain(value, sizes), value) for value in (block["full"][column] for block in blocks)]
    variance, freedom = jackknife(centre, out.mean(axis=0), sizes, step=float(np.mean(steps)))
    variance, freedom = with_seeds(variance, freedom, [full], [out], sizes)
    reach = float(t_quantile(freedom, 0.95) * np.sqrt(variance))
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))
