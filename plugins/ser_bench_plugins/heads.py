"""Fusion heads on pooled vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """The paper's head: concatenation, a hidden layer as wide as the audio vector, tanh, three outputs (§2.1, §2.2)."""

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__()
        joined, hidden = (audio or 0) + (text or 0), audio or text or 0
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(joined, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 3)
        )

    def forward(self, audio: Tensor | None, text: Tensor | None) -> Tensor:
        """Predict [b, 3] from [b, p] vectors."""
        predicted: Tensor = self.layers(_joined(audio, text))
        return predicted


class Linear(nn.Module):
    """One linear layer on standardised vectors, started from ridge regression on the train rows."""

    mean: Tensor
    scale: Tensor

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__()
        joined = (audio or 0) + (text or 0)
        self.register_buffer("mean", torch.zeros(joined))
        self.register_buffer("scale", torch.ones(joined))
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(joined, 3)

    @torch.no_grad()
    def fit(self, audio: Tensor | None, text: Tensor | None, labels: Tensor) -> None:
        """Start from the ridge solution.

        The penalty is chosen for each attribute by the error of leaving one row out, in closed form (Allen's PRESS;
        Golub, Heath & Wahba 1979, Technometrics 21(2), 215), among powers of ten.

        Args:
            audio, text: [n, p] pooled train vectors, or None.
            labels: [n, 3] on 0..1; a column of NaN is left as it is.
        """
        x = _joined(audio, text).double()
        self.mean.copy_(x.mean(0))
        self.scale.copy_(x.std(0, correction=0) + 1e-8)
        z = (x - self.mean.double()) / self.scale.double()
        u, s, vt = torch.linalg.svd(z, full_matrices=False)  # z = u diag(s) vt
        for column in range(3):
            y = labels[:, column].double()
            if torch.isnan(y).any():
                continue
            offset = y.mean()
            uy = u.T @ (y - offset)
            penalties = [10.0**power for power in range(-1, 7)]
            errors = []
            for penalty in penalties:
                shrink = s.square() / (s.square() + penalty)
                residual = (y - offset) - u @ (shrink * uy)
                leverage = (u.square() @ shrink) + 1 / len(y)
                errors.append(float((residual / (1 - leverage).clamp_min(1e-6)).square().mean()))
            best = penalties[errors.index(min(errors))]
            self.layer.weight[column] = vt.T @ (s / (s.square() + best) * uy)
            self.layer.bias[column] = offset

    def forward(self, audio: Tensor | None, text: Tensor | None) -> Tensor:
        """Predict [b, 3] from [b, p] vectors."""
        standard = (_joined(audio, text) - self.mean) / self.scale
        predicted: Tensor = self.layer(self.dropout(standard))
        return predicted


def _joined(audio: Tensor | None, text: Tensor | None) -> Tensor:
    return torch.cat([vector for vector in (audio, text) if vector is not None], dim=-1)
