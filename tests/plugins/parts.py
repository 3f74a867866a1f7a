"""What the tests of the built-in plugins share: building parts, and waves to feed them with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ser_bench.host import host
from ser_bench.interface import SAMPLE_RATE, Kind, Regularisation, Weights
from ser_bench_plugins.pretrained import Family


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
def library(family: Family, **changes: Any) -> Any:
    """Make transformers' own model, tiny or as changed, without dropout and with no parameter left at 0 or 1."""
    torch.manual_seed(7)
    settings = dict(family.tiny) | dict(family.always) | dict.fromkeys(family.dropouts, 0.0)
    config = family.model.config_class.from_dict(settings | changes)
    model = family.model(config, **family.arguments).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name or name.endswith("gru_rel_pos_const"):
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return model


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


@torch.no_grad()
def padding_error(encoder: Any, inputs: Sequence[torch.Tensor], *, garbage: float) -> float:
    """Return the largest difference between a state alone and in a batch, over the largest state alone.

    ``garbage`` stands past the end of the shorter inputs.
    """
    lengths = torch.tensor([len(one) for one in inputs])
    batch = torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True, padding_value=garbage)
    together = encoder(batch, lengths, layers=True).layers
    errors = []
    for number, one in enumerate(inputs):
        for state, expected in zip(together, alone(encoder, one), strict=True):
            difference = (state[number, : len(one)] - expected).abs().max()
            errors.append(float(difference / expected.abs().max()))
    assert all(np.isfinite(errors))
    return max(errors)


def saved_without(folder: Path, *names: str, extra: dict[str, torch.Tensor] | None = None) -> None:
    """Take tensors away from a checkpoint, or add some."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items() if name not in names}
    save_file(tensors | (extra or {}), path, metadata={"format": "pt"})
