"""Dropout for a CPU, alone and within attention: the same random zeros for less time.

On a CPU that is not Intel's, torch draws a mask's numbers one after the other, a whole one for each value, and its
attention with dropout computes in float32 whatever it is given. Here one number of 64 bits decides about four values,
and attention stays in the type of its input. On a GPU all is torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

ATTENTION = "ser_bench_sdpa"
_STEPS = 1 << 16  # a share is met to the nearest of these, and the scale is that of the share that is met


def quicken(model: PreTrainedModel) -> None:
    """Let a model's dropouts, and its attention's, be those of this file; names and weights are what they were."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
    model.config._attn_implementation = ATTENTION


class Dropout(nn.Dropout):
    """Dropout of a share p of the values, the rest scaled by 1 / (1 - p)."""

    def forward(self, given: Tensor) -> Tensor:
        """Return [...] for [...]; what is given itself where nothing is dropped."""
        if self.training and 0.0 < self.p < 1.0 and given.device.type == "cpu":
            kept: Tensor = _Dropped.apply(given, self.p)  # type: ignore[no-untyped-call]
            return kept
        return super().forward(given)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, dropout: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attend, as torch's ``scaled_dot_product_attention`` does.

    On a CPU with dropout, scores are of the queries' type; in bfloat16 they are rounded, as in transformers' "eager"
    attention.

    Args:
        query: [b, h, t, e], as key and value are.
        mask: [b or 1, h or 1, t, t]: True where attention may go, or what is added to the scores.
        dropout: share of the attention weights.
        scale: of the products; None: 1 / sqrt(e).

    Returns:
        [b, h, t, e].
    """
    if query.device.type != "cpu" or not 0.0 < dropout < 1.0:
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
        )
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    products = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    weights: Tensor = _Weights.apply(products + mask.to(query.dtype), dropout)  # type: ignore[no-untyped-call]
    return weights @ value


def _library_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' layers call it: [b, t, h, e], and no attention weights."""
    mixed = attend(query, key, value, attention_mask, dropout=dropout, scale=scaling)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _library_attention)


def _scales(like: Tensor, share: float) -> Tensor:
    """Draw what each value is multiplied by: 0, or 1 / (1 - share)."""
    dropped = round(share * _STEPS)
    numbers = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = numbers.view(torch.int16)[: like.numel()] >= dropped - _STEPS // 2
    return kept.view(like.shape).to(like.dtype).mul_(_STEPS / (_STEPS - dropped))


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, share: float) -> Tensor:
        scales = _scales(given, share)
        ctx.save_for_backward(scales)
        return given * scales

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scales,) = ctx.saved_tensors
        return gradient * scales, None


class _Weights(torch.autograd.Function):
    """Softmax and dropout in one, which keeps two tensors for the way back."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, share: float) -> Tensor:
        weights = torch.softmax(scores, -1)
        scales = _scales(weights, share)
        ctx.save_for_backward(weights, scales)
        return weights * scales

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weights, scales = ctx.saved_tensors
        return torch._softmax_backward_data(gradient * scales, weights, -1, weights.dtype), None
