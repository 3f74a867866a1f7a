"""Small systems and inputs for the tests of training: quick to train, with an answer that is known."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ser_bench.interface import Encoded, Recipe
from ser_bench.pooling import valid
from ser_bench.system import Composed
from ser_bench.training.batches import Inputs, batches
from ser_bench.training.device import accelerator_for
from ser_bench.training.fit import _optimiser
from ser_bench.training.ranks import Ranks
from ser_bench.training.step import backward, divide


class Encoder(nn.Module):
    """Frames [t, 4] to states [t, 4], two layers with dropout; wave and text are turned into frames alike."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.depth = 4, 2
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("steps", torch.zeros(()))

    def frontend(self, wave: Tensor) -> Tensor:
        return wave[: len(wave) // 4 * 4].reshape(-1, 4)

    def frontend_state(self) -> dict[str, Any]:
        return {"family": "toy"}

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        if self.training:
            self.steps += 1
        states = [frames]
        for layer in self.layers:
            states.append(states[-1] + self.dropout(torch.tanh(layer(states[-1]))))
        return Encoded(states[-1], lengths, tuple(states) if layers else None)


class Mean(nn.Module):
    """A head that takes a pooled vector, or averages states (of every layer, weighted) by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 3)

    def forward(self, audio: Any, text: Any) -> Tensor:
        if isinstance(audio, Encoded):
            own = valid(audio.lengths, audio.hidden.shape[1])[:, :, None]
            states = audio.layers or (audio.hidden,)
            # Each layer counts differently, so that states cut in the wrong places give something else.
            means = [
                n * torch.where(own, s, 0.0).sum(1) / audio.lengths[:, None] for n, s in enumerate(states, start=1)
            ]
            audio = torch.cat(means, dim=1)
        found: Tensor = self.layer(audio.flatten(1))
        return found


def composed(*, pooling: str | None = "mean", layers: bool = False, dropout: float = 0.0, seed: int = 0) -> Composed:
    """Return the toy encoder under the toy head."""
    torch.manual_seed(seed)
    return Composed(Encoder(dropout), None, Mean(4 * (3 if layers else 1)), pooling=pooling, layers=layers)


def inputs(n: int, *, seed: int, name: str = "train", columns: tuple[float, float, float] = (1, 1, 1)) -> Inputs:
    """Return utterances of 2 to 9 frames whose labels are linear in the frames' mean, up to noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 10, n)
    audio = [rng.normal(0, 1, (t, 4)).astype(np.float32) + rng.normal(0, 1, 4).astype(np.float32) for t in lengths]
    means = np.stack([frames.mean(0) for frames in audio])
    labels = 0.5 + 0.15 * means[:, :3] * np.array(columns) + rng.normal(0, 0.01, (n, 3))
    return Inputs(
        utterance=[f"{name}_{i}.wav" for i in range(n)],
        duration=lengths / 50,
        labels=labels.astype(np.float32),
        audio=audio,  # type: ignore[arg-type]
        text=None,
    )


def accelerator() -> Accelerator:
    """Return the CPU in float32, whatever an earlier test trained in."""
    return accelerator_for(torch.device("cpu"), "float32")


class Wide(nn.Module):
    """The toy system in another type of number, with a parameter that nothing uses."""

    def __init__(self, kind: str, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.kind = getattr(torch, kind)
        self.inner = composed(dropout=dropout).to(self.kind)
        self.inner.audio.unused = nn.Parameter(torch.ones(3, dtype=self.kind))

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Tensor:
        encoded = self.inner.audio(audio.to(self.kind), audio_lengths)
        own = valid(audio_lengths, encoded.hidden.shape[1])[:, :, None]
        pooled = torch.where(own, encoded.hidden, 0.0).sum(1) / audio_lengths[:, None]
        found: Tensor = self.inner.head(pooled, None)
        return found


def steps_of(
    kind: str, *, ranks: Ranks | None = None, micro_batch: int | None = None, steps: int = 50
) -> dict[str, Tensor]:
    """Return loss and gradient of the first batch of 16, and losses and weights of steps of the recipe's optimiser."""
    system, data, ranks = Wide(kind).train(), inputs(64, seed=1), ranks or Ranks()
    recipe = Recipe(learning_rate=1e-2, weight_decay=1e-2)
    optimiser = _optimiser(system, recipe)
    losses, gradient = [], torch.zeros(0)
    for step in range(steps):
        index = np.arange(16) + 16 * (step % 4)
        loss = backward(
            system,
            list(batches(data, divide(index, ranks, micro_batch), torch.device("cpu"))),
            torch.from_numpy(data.labels[index]).to(system.kind),
            torch.arange(3),
            seed=(1, 1, step),
            ranks=ranks,
            autocast=nullcontext,
        )
        if not losses:
            gradient = torch.cat([p.grad.flatten() for p in system.parameters() if p.grad is not None])
        losses.append(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    weights = torch.cat([p.detach().flatten() for p in system.parameters()])
    return {"loss": losses[0], "gradient": gradient, "losses": torch.stack(losses), "weights": weights}
