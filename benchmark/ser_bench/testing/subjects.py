"""What is checked, with one face: an encoder, a head or a system, utterance by utterance.

Letters: b utterances, t frames or tokens, c channels, d width, p pooled width, L states, n samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ser_bench.foreign import (
    calling,
    checked_encoded,
    checked_frames,
    checked_prediction,
    checked_state,
    checked_tokens,
)
from ser_bench.interface import Encoded, Tokens
from ser_bench.modules import in_float32
from ser_bench.testing.material import SECONDS, TEXTS, wave
from ser_bench.training.batches import Batch

Sample = Mapping[str, Tensor]
"""What ``forward`` gets of one utterance, by modality, without padding: frames [t, c], token ids [t]; for a head, a
pooled vector [p] ([L, p] with layers) or states [L, t, d]."""

WIDTHS = {"audio": 24, "text": 16}  # of the made-up encoders that a head is built for
DEPTHS = {"audio": 2, "text": 3}
GARBAGE = (0.0, torch.nan, 1e4)
"""What may stand past an utterance's end; token ids are some other utterance's there."""


class Subject:
    """A built plugin between what it is fed and what it gives, utterance by utterance."""

    module: Any

    def __init__(self, module: nn.Module, reads: Sequence[str], whose: str) -> None:
        self.module, self.reads, self.whose = module, tuple(reads), whose
        self.device = torch.device("cpu")

    @property
    def on(self) -> str:
        """On which modalities a head, which takes several, is tried; goes before what was measured."""
        return ""

    def to(self, device: torch.device) -> Subject:
        """Move it there; so are all samples from then on."""
        self.device = device
        self.module.to(device)
        return self

    def sample(self, heard: Tensor, said: str) -> Sample:
        """Run the front ends on one utterance."""
        return {m: self.frames(heard) if m == "audio" else self.tokens(said).ids for m in self.reads}

    def samples(self, seconds: Sequence[float] = SECONDS, *, seed: int = 0) -> list[Sample]:
        """Run the front ends on utterances of these lengths; another seed says other things."""
        return [self.sample(wave(length, seed + n), TEXTS[(seed + n) % len(TEXTS)]) for n, length in enumerate(seconds)]

    def frames(self, heard: Tensor) -> Tensor:
        """Run the audio front end on a wave [n], as a run does; returns [t, c]."""
        raise NotImplementedError

    def tokens(self, said: str) -> Tokens:
        """Run the text front end on a string."""
        raise NotImplementedError

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Return what a front end depends on; nothing where there is no front end."""
        raise NotImplementedError

    def outputs(self, samples: Sequence[Sample], beyond: float = 0.0) -> list[Tensor]:
        """Return what comes out for each sample of one batch, with ``beyond`` past the ends of what goes in."""
        raise NotImplementedError

    def predictions(self, samples: Sequence[Sample]) -> Tensor:
        """Return [b, 3], something that training could lower a loss of."""
        return torch.stack(self.outputs(samples))

    @torch.no_grad()
    def alone(self, samples: Sequence[Sample]) -> list[Tensor]:
        """Return what comes out for each sample, one at a time."""
        return [self.outputs([one])[0] for one in samples]

    @torch.no_grad()
    def together(self, samples: Sequence[Sample], beyond: float = 0.0) -> list[Tensor]:
        """Return what comes out for each sample, in one batch."""
        return self.outputs(samples, beyond)


class EncoderSubject(Subject):
    """An encoder alone: what comes out of an utterance is all its states, [L, t, d]."""

    def frames(self, heard: Tensor) -> Tensor:
        """Run its front end on a wave [n]."""
        with calling(self.whose, "in its front end"):
            return checked_frames(self.module.frontend(heard.to(self.device)), self.whose)

    def tokens(self, said: str) -> Tokens:
        """Run its front end on a string."""
        with calling(self.whose, "in its front end"):
            return checked_tokens(self.module.frontend(said), self.whose)

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Return what its front end depends on."""
        with calling(self.whose, "in frontend_state"):
            return checked_state(self.module.frontend_state(), self.whose)

    def encoded(self, samples: Sequence[Sample], beyond: float = 0.0, *, layers: bool = True) -> Encoded:
        """Return what ``forward`` gives for one batch."""
        (modality,) = self.reads
        inputs, lengths = padded([one[modality] for one in samples], beyond, self.device)
        with calling(self.whose, "in forward"):
            found = self.module(inputs, lengths, layers=layers)
        return checked_encoded(found, inputs, self.module.dim, self.module.depth, layers, self.whose)

    def outputs(self, samples: Sequence[Sample], beyond: float = 0.0) -> list[Tensor]:
        """Return each utterance's own states, [L, t, d]."""
        found = self.encoded(samples, beyond)
        states = torch.stack(cast("tuple[Tensor, ...]", found.layers))  # [L, b, t, d]
        return [states[:, row, :length] for row, length in enumerate(found.lengths.tolist())]

    def predictions(self, samples: Sequence[Sample]) -> Tensor:
        """Return a fixed projection of each utterance's mean last state: what falls is the encoder's own doing."""
        generator = torch.Generator().manual_seed(3)
        probe = torch.randn(self.module.dim, 3, generator=generator).to(self.device) / self.module.dim**0.5
        means = torch.stack([states[-1].float().mean(0) for states in self.outputs(samples)])  # [b, d]
        projected: Tensor = means @ probe
        return projected


class HeadSubject(Subject):
    """A fusion head between made-up vectors, or states where its spec names no pooling."""

    def __init__(self, module: nn.Module, reads: Sequence[str], whose: str, *, pooled: bool, layers: bool) -> None:
        super().__init__(module, reads, whose)
        self.pooled, self.layers = pooled, layers

    @property
    def on(self) -> str:
        """Name the modalities that it is tried on."""
        return f"on {' and '.join(self.reads)}: "

    def sample(self, heard: Tensor, said: str) -> Sample:
        """Make up what encoders would give: of as many states as the wave and the text are long."""
        drawn_from = {"audio": heard.numpy().tobytes(), "text": said.encode()}
        lengths = {"audio": max(1, len(heard) // 320), "text": 1 + len(said.split())}
        found = {}
        for m in self.reads:
            draw = torch.Generator().manual_seed(zlib.crc32(drawn_from[m]))
            states = torch.randn(DEPTHS[m] + 1, lengths[m], WIDTHS[m], generator=draw)
            states = states if self.layers else states[-1:]
            made = states if not self.pooled else (states[:, 0] if self.layers else states[0, 0])
            found[m] = made.to(self.device)
        return found

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Return nothing: a head has no front end."""
        return {}

    def outputs(self, samples: Sequence[Sample], beyond: float = 0.0) -> list[Tensor]:
        """Return the predictions [3]."""
        heard, read = (self._given(m, samples, beyond) for m in ("audio", "text"))
        with calling(self.whose, "in forward"):
            found = in_float32(self.module, heard, read)
        return list(checked_prediction(found, (len(samples),), self.whose))

    def _given(self, modality: str, samples: Sequence[Sample], beyond: float) -> Tensor | Encoded | None:
        if modality not in self.reads:
            return None
        items = [one[modality].to(self.device) for one in samples]
        if self.pooled:
            return torch.stack(items)
        states, lengths = padded([item.transpose(0, 1) for item in items], beyond, self.device)  # [b, t, L, d]
        every = tuple(states[:, :, number] for number in range(states.shape[2]))
        return Encoded(every[-1], lengths, every if self.layers else None)


class SystemSubject(Subject):
    """A system as it is run: what comes out of an utterance is its prediction, [3]."""

    def frames(self, heard: Tensor) -> Tensor:
        """Run its front end on a wave [n]."""
        return cast(Tensor, self.module.audio_frontend(heard.to(self.device)))

    def tokens(self, said: str) -> Tokens:
        """Run its front end on a string."""
        return cast(Tokens, self.module.text_frontend(said))

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Return what its front end depends on."""
        return cast("dict[str, Any]", self.module.frontend_state(modality))

    def outputs(self, samples: Sequence[Sample], beyond: float = 0.0) -> list[Tensor]:
        """Return the predictions [3]."""
        batch = self.batch(samples, beyond)
        found = self.module(batch.audio, batch.audio_lengths, batch.text, batch.text_lengths)
        return list(found.expand(len(samples), 3))

    def batch(self, samples: Sequence[Sample], beyond: float = 0.0) -> Batch:
        """Pad the samples to a batch."""
        pairs = [
            padded([one[m] for one in samples], beyond, self.device) if m in samples[0] else (None, None)
            for m in ("audio", "text")
        ]
        return Batch(np.arange(len(samples)), *pairs[0], *pairs[1])


def padded(items: Sequence[Tensor], beyond: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Put items [t, ...] into one tensor [b, t, ...]; returns it and their lengths [b].

    Past an item's end stands ``beyond``; where the items are token ids and it is not 0, ids of the longest item.
    """
    lengths = torch.tensor([len(item) for item in items])
    longest = max(items, key=len)
    rows = []
    for item in items:
        rest = longest[len(item) :]
        if rest.is_floating_point() or not beyond:
            rest = torch.full_like(rest, beyond if rest.is_floating_point() else 0)
        rows.append(torch.cat([item, rest]))
    return torch.stack(rows).to(device), lengths.to(device)
