"""Low-rank bilinear pooling: the product of audio's and text's projections, as in Kim et al. 2017, arXiv:1610.04325.

Letters: b utterances in a batch, n train rows, p width of a pooled vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RANK = 64


class Bilinear(nn.Module):
    """y = W (tanh(U a) * tanh(V t)) + what each says alone; vectors are standardised by the train rows'."""

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__()
        self.widths = {m: w for m, w in (("audio", audio), ("text", text)) if w is not None}
        for m, width in self.widths.items():
            self.register_buffer(f"{m}_mean", torch.zeros(width))
            self.register_buffer(f"{m}_scale", torch.ones(width))
        self.projections = nn.ModuleDict({m: nn.Linear(width, RANK) for m, width in self.widths.items()})
        self.dropout = nn.Dropout(dropout)
        parts = len(self.widths)
        self.output = nn.Linear(RANK * (parts + (parts == 2)), 3)

    def fit(self, audio: Tensor | None, text: Tensor | None, labels: Tensor) -> None:
        """Take mean and standard deviation of the train vectors [n, p]."""
        for m, vectors in (("audio", audio), ("text", text)):
            if vectors is not None:
                self.get_buffer(f"{m}_mean").copy_(vectors.mean(0))
                self.get_buffer(f"{m}_scale").copy_(vectors.std(0) + 1e-5)

    def forward(self, audio: Tensor | None, text: Tensor | None) -> Tensor:
        """Predict [b, 3]."""
        given = {"audio": audio, "text": text}
        parts = []
        for m, projection in self.projections.items():
            standard = (given[m] - self.get_buffer(f"{m}_mean")) / self.get_buffer(f"{m}_scale")
            parts.append(torch.tanh(projection(self.dropout(standard))))
        if len(parts) == 2:
            parts.append(parts[0] * parts[1])
        predicted: Tensor = self.output(torch.cat(parts, dim=-1))
        return predicted
