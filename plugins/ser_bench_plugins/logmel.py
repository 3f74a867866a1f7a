"""A small audio encoder from scratch: log-mel spectrogram and two convolutional blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from ser_bench.errors import WeightsError
from ser_bench.interface import SAMPLE_RATE, Encoded, Regularisation, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.masking import mask_spans
from ser_bench_plugins.pretrained import kept_layers

WINDOW = 512  # samples, 32 ms
HOP = 320  # samples, 20 ms: 50 frames a second, as the speech models
MELS = 64
DEPTH = 2


def build(weights: Weights, *, depth: int | None = None, regularisation: Regularisation) -> LogMel:
    """Build the encoder; it has no pretrained weights, so ``pretrained`` and ``random`` are the same."""
    if not isinstance(weights, str):
        raise WeightsError(
            f"logmel is trained from scratch and takes no weights; {weights} was given. Leave out --weights."
        )
    return LogMel(32 if weights == "tiny" else 96, kept_layers(depth, DEPTH, "logmel"), regularisation)


class LogMel(nn.Module):
    """Log-mel frames, a projection, and residual blocks of a convolution over time."""

    filters: Tensor
    window: Tensor
    frontend_threads = True

    def __init__(self, dim: int, depth: int, regularisation: Regularisation) -> None:
        super().__init__()
        self.dim, self.depth = dim, depth
        self.regularisation = regularisation
        with torch.device("cpu"):  # torchaudio looks at the values, which the meta device has not
            filters = melscale_fbanks(WINDOW // 2 + 1, 50.0, SAMPLE_RATE / 2, MELS, SAMPLE_RATE)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.projection = nn.Linear(MELS, dim)
        self.blocks = nn.ModuleList([Block(dim, regularisation.dropout) for _ in range(depth)])

    @torch.no_grad()
    def frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into [t, 64]: natural log of mel power, shifted and scaled by constants.

        The level is kept (no normalisation by utterance): loudness is a cue of arousal.
        """
        if len(wave) <= WINDOW // 2:  # the spectrogram reflects half a window at both ends
            wave = nn.functional.pad(wave, (0, WINDOW // 2 + 1 - len(wave)))
        spectrum = torch.stft(wave, WINDOW, HOP, window=self.window, center=True, return_complex=True)
        power = spectrum.abs().square().T @ self.filters  # [t, mels]
        frames: Tensor = (torch.log(power + 1e-6) + 5.0) / 5.0  # silence -1.8, speech about -1..2
        return frames

    def frontend_state(self) -> dict[str, Any]:
        """Give the spectrogram's settings."""
        return {"family": "logmel", "window": WINDOW, "hop": HOP, "mels": MELS}

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t, 64] into [b, t, d]."""
        own = valid(lengths, frames.shape[1])
        if self.training:
            frames = mask_spans(frames, own, self.regularisation)
        hidden = self.projection(frames)
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden, own)
            states.append(hidden)
        return Encoded(hidden, lengths, tuple(states) if layers else None)


class Block(nn.Module):
    """A residual convolution over five frames (100 ms), blind to padding."""

    def __init__(self, dim: int, dropout: float, kernel: int = 5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.convolution = nn.Conv1d(dim, dim, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, own: Tensor) -> Tensor:
        """Give [b, t, d] for [b, t, d]."""
        kept = torch.where(own[:, :, None], self.norm(hidden), 0.0)
        mixed: Tensor = self.convolution(kept.transpose(1, 2)).transpose(1, 2)
        mixed = self.dropout(nn.functional.gelu(mixed))
        return hidden + mixed
