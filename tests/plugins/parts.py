"""What the tests of the built-in plugins share: building parts, and waves to feed them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ser_bench.host import host
from ser_bench.interface import SAMPLE_RATE, Kind, Regularisation, Weights


def part(kind: Kind, name: str, weights: Weights, *, depth: int | None = None, **regularisation: float) -> Any:
    """Build an encoder, deterministic and in eval mode; without dropout unless asked for."""
    torch.manual_seed(0)
    built = (
        host()
        .get(kind, name)
        .spec.build(weights, depth=depth, regularisation=Regularisation(**{"dropout": 0.0, **regularisation}))
    )
    return built.eval()


def wave(seconds: float, seed: int = 0) -> torch.Tensor:
    """Return something like speech: a gliding tone that comes and goes, in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * (120 + 20 * seed + 30 * np.sin(3 * time)) * time) * (1 + np.sin(12 * time)) / 8
    return torch.from_numpy((tone + rng.normal(0, 0.01, len(time))).astype(np.float32))


@torch.no_grad()
def alone(encoder: Any, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return all states of one utterance, each [t, d]."""
    encoded = encoder(frames[None], torch.tensor([len(frames)]), layers=True)
    assert torch.equal(encoded.hidden, encoded.layers[-1])
    assert encoded.hidden.shape == (1, len(frames), encoder.dim)
    return tuple(state[0] for state in encoded.layers)


def same(left: torch.Tensor, right: torch.Tensor, limit: float = 1e-5) -> None:
    """Check shape and maximum difference, which NaN does not pass."""
    assert left.shape == right.shape
    assert float((left - right).detach().abs().max()) <= limit


def saved_without(folder: Path, *names: str, extra: dict[str, torch.Tensor] | None = None) -> None:
    """Take tensors away from a checkpoint, or add some."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items() if name not in names}
    save_file(tensors | (extra or {}), path, metadata={"format": "pt"})
