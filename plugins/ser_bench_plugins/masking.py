"""Masks: of padding for attention, and of an encoder's input while it is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from ser_bench.interface import Regularisation

SPAN = 10  # frames or channels, as wav2vec 2.0's fine-tuning (Baevski et al. 2020, appendix B)


def attention_mask(own: Tensor) -> Tensor:
    """Return [b, 1, t, t], True where a state may be attended to, as scaled-dot-product attention takes it.

    The library's own ``create_bidirectional_mask`` looks whether anything is padded, for which a GPU has to be waited.

    Args:
        own: [b, t], True where a state belongs to its utterance.
    """
    return own[:, None, None, :].expand(-1, 1, own.shape[1], -1)


def dropped(regularisation: Regularisation) -> bool:
    """Draw whether a transformer layer is skipped (LayerDrop); on the host, so that no GPU is waited for."""
    return regularisation.layerdrop > 0 and torch.rand([]).item() < regularisation.layerdrop


def mask_spans(hidden: Tensor, own: Tensor, regularisation: Regularisation, fill: Tensor | None = None) -> Tensor:
    """Replace random spans of frames by ``fill``, and set random spans of channels to zero.

    Args:
        hidden: [b, t, d].
        own: [b, t], True where a frame belongs to its utterance.
        regularisation: ``time_mask`` and ``feature_mask`` are the shares of positions that start a span.
        fill: [d], what a masked frame becomes: the checkpoint's learned vector where it has one, else zeros.

    Returns:
        [b, t, d].
    """
    if regularisation.time_mask:
        spans = _spans(own.shape, regularisation.time_mask, own.device)[:, :, None]
        hidden = hidden.masked_fill(spans, 0.0) if fill is None else torch.where(spans, fill.to(hidden.dtype), hidden)
    if regularisation.feature_mask:
        shape = torch.Size((hidden.shape[0], hidden.shape[2]))
        hidden = hidden.masked_fill(_spans(shape, regularisation.feature_mask, own.device)[:, None, :], 0.0)
    return hidden


def _spans(shape: torch.Size, share: float, device: torch.device) -> Tensor:
    """Return [b, size], True within ``SPAN`` positions after a random start."""
    starts = (torch.rand(shape, device=device) < share).float()
    reached = torch.nn.functional.max_pool1d(torch.nn.functional.pad(starts, (SPAN - 1, 0))[:, None], SPAN, stride=1)
    return reached[:, 0] > 0
