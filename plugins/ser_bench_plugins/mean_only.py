"""The floor: predict the train partition's mean labels for everybody."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ser_bench.interface import Regularisation, Rows, Weights


def build(weights: Weights, *, regularisation: Regularisation, dropout: float) -> MeanOnly:
    """Build it; there is nothing to load or to regularise."""
    return MeanOnly()


class MeanOnly(nn.Module):
    """Three numbers found by ``fit``; no parameters."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3), torch.nan))

    def fit(self, rows: Rows) -> None:
        """Take the mean of the labels, on 0..1."""
        self.mean.copy_(torch.from_numpy((rows.labels.mean(axis=0) - 1) / 6)[None])

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Tensor:
        """Give [1, 3], which holds for every utterance."""
        return self.mean
