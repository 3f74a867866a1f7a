"""The named poolings: one vector per utterance from its states, blind to padding.

Letters: b utterances, t states, d width. Everything a fusion head may assume about a pooled vector is its name.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ser_bench.errors import PluginError
from ser_bench.interface import POOLINGS


def width(pooling: str, dim: int) -> int:
    """Return the width of a pooled vector: 2 ``dim`` for ``mean_std``, else ``dim``."""
    _check(pooling)
    return 2 * dim if pooling == "mean_std" else dim


def valid(lengths: Tensor, size: int) -> Tensor:
    """Return the mask [b, size] that is True where a state belongs to the utterance."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def pool(pooling: str, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Pool each utterance's own states.

    ``mean``; ``max``; ``mean_max``, the element-wise mean of the two (the paper's §2.1 as settled by its parameter
    counts); ``mean_std``, the mean and the population standard deviation side by side. Sums are taken in float32 or
    wider.

    Args:
        pooling: one of ``interface.POOLINGS``.
        hidden: [b, t, d], anything past ``lengths``.
        lengths: [b], 1..t.

    Returns:
        [b, width(pooling, d)], in the type of ``hidden`` (float32 at least).

    Raises:
        PluginError: the pooling has no such name.
    """
    _check(pooling)
    if hidden.dtype in (torch.float16, torch.bfloat16):
        hidden = hidden.float()
    mask = valid(lengths, hidden.shape[1])[:, :, None]  # [b, t, 1]
    if pooling == "max":
        return _max(hidden, mask)
    # Padding is selected away, not multiplied by 0: what stands there may be inf or NaN.
    kept = torch.where(mask, hidden, 0.0)
    count = lengths[:, None].to(hidden.dtype)
    mean = kept.sum(1) / count
    if pooling == "mean":
        return mean
    if pooling == "mean_max":
        return (mean + _max(hidden, mask)) / 2
    # Two passes: E[x^2] - E[x]^2 loses the variance of a large mean. The floor keeps the root's gradient finite.
    variance = torch.where(mask, hidden - mean[:, None], 0.0).square().sum(1) / count
    return torch.cat([mean, variance.clamp_min(1e-12).sqrt()], dim=1)


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, hidden, -torch.inf).amax(1)


def _check(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise PluginError(f"there is no pooling {pooling!r}; known are {', '.join(POOLINGS)}.")
