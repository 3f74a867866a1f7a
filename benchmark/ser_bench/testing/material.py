"""Made-up speech, text, labels and rows, the same each time.

Letters: n samples or utterances.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ser_bench.interface import SAMPLE_RATE, Rows
from ser_bench.testing.releases import write_wav

SECONDS = (0.4, 3.0, 12.0, 1.0)
SHORT = (0.4, 0.7, 0.5, 0.8, 0.6, 0.45, 0.55, 0.9)
"""Seconds, where it is about training."""
TEXTS = (
    "Yes.",
    "I really do not know about that one, and I never will.",
    "well it was a long day and a very good one for all of us, I would say",
    "no way",
    "She said it was wonderful, wonderful, and then she said nothing at all.",
    "what a day, what a very long day",
    "That is not what I said at all.",
    "it was good",
)


def wave(seconds: float, seed: int = 0) -> Tensor:
    """Return something like speech, float32 [n]: a gliding tone that comes and goes, in noise."""
    return _drawn(seconds, seed).clone()


@lru_cache(maxsize=64)
def _drawn(seconds: float, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    time = np.arange(max(1, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    pitch = 120 + 20 * (seed % 8) + 30 * np.sin(3 * time)
    tone = np.sin(2 * np.pi * pitch * time) * (1 + np.sin(12 * time + seed)) / 8
    return torch.from_numpy((tone + rng.normal(0, 0.01, len(time))).astype(np.float32))


def labels(n: int) -> Tensor:
    """Return [n, 3] on 0..1."""
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(7)) * 0.8 + 0.1


def rows(lengths: Sequence[float], folder: Path) -> Rows:
    """Make up train rows whose wav files are there."""
    n = len(lengths)
    names = [f"MSP-PODCAST_0001_{number:04d}.wav" for number in range(n)]
    for number, name in enumerate(names):
        if not (folder / name).exists():
            write_wav(folder / name, wave(lengths[number], number).double().numpy())
    return Rows(
        partition="train",
        utterance=names,
        path=[str(folder / name) for name in names],
        duration=np.array(lengths),
        labels=labels(n).double().numpy() * 6 + 1,
        emotion=["N"] * n,
        speaker=[str(number % 4) for number in range(n)],
        gender=["Female", "Male"] * (n // 2),
        podcast=["0001"] * n,
        transcript=[TEXTS[number % len(TEXTS)] for number in range(n)],
    )
