"""The torch modules that systems are: composed of parts, whole, or frozen, with one face.

Training, stores and scores know only this face: ``audio_frontend``, ``text_frontend``, ``frontend_state``, ``forward``.
Letters: b utterances, t frames or tokens, c channels, d width, p pooled width, L states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ser_bench.errors import PluginError
from ser_bench.foreign import (
    calling,
    checked_encoded,
    checked_frames,
    checked_prediction,
    checked_state,
    checked_tokens,
)
from ser_bench.interface import Encoded, Rows, Tokens
from ser_bench.pooling import pool


class Composed(nn.Module):
    """An audio and/or a text encoder and a fusion head, as one system."""

    # Modules of a stranger's making: what they may be asked is in ``interface``.
    audio: Any
    text: Any
    head: Any

    def __init__(
        self,
        audio: nn.Module | None,
        text: nn.Module | None,
        head: nn.Module,
        *,
        pooling: str | None,
        layers: bool,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Take the parts, how the head reads, and what ``audio``, ``text`` and ``head`` are called in errors."""
        super().__init__()
        self.audio, self.text, self.head = audio, text, head
        self.pooling, self.layers = pooling, layers
        parts = {"audio": "the audio encoder", "text": "the text encoder", "head": "the fusion head"}
        self.names = parts if names is None else dict(names)

    def audio_frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into frames [t, c]."""
        encoder, whose = self._encoder("audio")
        with calling(whose, "in its front end"):
            return checked_frames(encoder.frontend(wave), whose)

    def text_frontend(self, text: str) -> Tokens:
        """Turn one string into token ids [t]."""
        encoder, whose = self._encoder("text")
        with calling(whose, "in its front end"):
            return checked_tokens(encoder.frontend(text), whose)

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Give what the modality's front end depends on."""
        encoder, whose = self._encoder(modality)
        with calling(whose, "in frontend_state"):
            return checked_state(encoder.frontend_state(), whose)

    @property
    def frontend_threads(self) -> bool:
        """Whether the audio front end says that several threads may call it."""
        return getattr(self.audio, "frontend_threads", False) is True

    def encode(self, modality: str, inputs: Tensor, lengths: Tensor) -> Tensor | Encoded:
        """Encode and, where the head names a pooling, pool: [b, p] ([b, L, p] with layers), else ``Encoded``."""
        encoder, whose = self._encoder(modality)
        with calling(whose, "in forward"):
            found = encoder(inputs, lengths, layers=self.layers)
        encoded = checked_encoded(found, inputs, encoder.dim, encoder.depth, self.layers, whose)
        if self.pooling is None:
            return encoded
        if encoded.layers is None or not self.layers:
            return pool(self.pooling, encoded.hidden, encoded.lengths)
        return torch.stack([pool(self.pooling, state, encoded.lengths) for state in encoded.layers], dim=1)

    def forward(
        self, audio: Tensor | None, audio_lengths: Tensor | None, text: Tensor | None, text_lengths: Tensor | None
    ) -> Tensor:
        """Predict [b, 3] on 0..1 from padded frames [b, t, c] and token ids [b, t]."""
        heard = None if audio is None or audio_lengths is None else self.encode("audio", audio, audio_lengths)
        read = None if text is None or text_lengths is None else self.encode("text", text, text_lengths)
        return self.predict(heard, read)

    def predict(self, audio: Tensor | Encoded | None, text: Tensor | Encoded | None) -> Tensor:
        """Predict [b, 3] from what ``encode`` gives of each modality."""
        whose = self.names["head"]
        with calling(whose, "in forward"):
            predicted = in_float32(self.head, audio, text)
        given = next(states for states in (audio, text) if states is not None)
        return checked_prediction(predicted, (len(given.hidden if isinstance(given, Encoded) else given),), whose)

    def _encoder(self, modality: str) -> tuple[Any, str]:
        encoder = self.audio if modality == "audio" else self.text
        if encoder is None:
            raise PluginError(f"this system reads no {modality}, yet {modality} was given to it.")
        return encoder, self.names[modality]


class Whole(nn.Module):
    """A system that does not come apart, behind the same face."""

    inner: Any

    def __init__(self, inner: nn.Module, *, reads: Sequence[str], name: str) -> None:
        super().__init__()
        self.inner, self.reads, self.name = inner, tuple(reads), name

    def audio_frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into frames [t, c]."""
        self._require("audio")
        with calling(self.name, "in audio_frontend"):
            return checked_frames(self.inner.audio_frontend(wave), self.name)

    def text_frontend(self, text: str) -> Tokens:
        """Turn one string into token ids [t]."""
        self._require("text")
        with calling(self.name, "in text_frontend"):
            return checked_tokens(self.inner.text_frontend(text), self.name)

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Give what the modality's front end depends on."""
        self._require(modality)
        with calling(self.name, "in frontend_state"):
            return checked_state(self.inner.frontend_state(modality), self.name)

    @property
    def frontend_threads(self) -> bool:
        """Whether the audio front end says that several threads may call it."""
        return getattr(self.inner, "frontend_threads", False) is True

    def fit(self, rows: Rows) -> None:
        """Let it count or solve what it does on the train rows, if it does."""
        if hasattr(self.inner, "fit"):
            with calling(self.name, "in fit"):
                self.inner.fit(rows)

    def forward(
        self, audio: Tensor | None, audio_lengths: Tensor | None, text: Tensor | None, text_lengths: Tensor | None
    ) -> Tensor:
        """Predict [b, 3] on 0..1 ([1, 3] if nothing is read) from padded frames [b, t, c] and token ids [b, t]."""
        with calling(self.name, "in forward"):
            predicted = self.inner(audio, audio_lengths, text, text_lengths)
        given = audio if audio is not None else text
        return checked_prediction(predicted, (1,) if given is None or not self.reads else (len(given),), self.name)

    def _require(self, modality: str) -> None:
        if modality not in self.reads:
            raise PluginError(f"{self.name} reads no {modality}, yet {modality} was given to it.")


def in_float32(head: Any, audio: Tensor | Encoded | None, text: Tensor | Encoded | None) -> Tensor:
    """Run a head outside autocast: bfloat16 has steps of 0.004 between 0.5 and 1, which a CCC sees.

    Pooled vectors are float32 already; encoders, where the work is, stay in the accelerator's precision.
    """

    def widened(given: Tensor | Encoded | None) -> Tensor | Encoded | None:
        if given is None or isinstance(given, Tensor):
            return None if given is None else given.float()
        states = None if given.layers is None else tuple(state.float() for state in given.layers)
        return Encoded(given.hidden.float(), given.lengths, states)

    device = next((p.device for p in head.parameters()), torch.device("cpu"))
    with torch.autocast(device.type, enabled=False):
        return cast(Tensor, head(widened(audio), widened(text)))


class Frozen(nn.Module):
    """A composed system whose encoders are frozen: encoder and pooling become part of the front end.

    So what they give is stored like frames, and only the head is trained. The stored array of an utterance is [1, p]
    for a pooling head, [L, p] with layers, [t, d] for a sequence head, [t, L d] for one that reads layers.
    """

    store_dtype = "float32"  # a few vectors an utterance: nothing to save, and a ridge start wants the digits

    def __init__(self, inner: Composed) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.inner.head.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Frozen:
        """Train the head alone: a frozen encoder has no dropout."""
        super().train(mode)
        for encoder in (self.inner.audio, self.inner.text):
            if encoder is not None:
                encoder.eval()
        return self

    @property
    def frontend_threads(self) -> bool:
        """Whether several threads may call the audio front end, which an encoder's forward is a part of here."""
        return self.inner.frontend_threads

    @torch.no_grad()
    def audio_frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance into what the head reads."""
        return self._states("audio", self.inner.audio_frontend(wave))

    @torch.no_grad()
    def text_frontend(self, text: str) -> Tokens:
        """Turn one string into what the head reads (float states in the place of token ids)."""
        tokens = self.inner.text_frontend(text)
        device = next(self.inner.parameters()).device
        return Tokens(self._states("text", tokens.ids.to(device)), tokens.truncated)

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Give the inner front end's state, all encoder weights, and how they are pooled."""
        encoder = self.inner.audio if modality == "audio" else self.inner.text
        weights = {f"encoder.{k}": v for k, v in encoder.state_dict().items()} if encoder is not None else {}
        pooling = {"pooling": str(self.inner.pooling), "layers": self.inner.layers}
        return self.inner.frontend_state(modality) | weights | pooling

    def forward(
        self, audio: Tensor | None, audio_lengths: Tensor | None, text: Tensor | None, text_lengths: Tensor | None
    ) -> Tensor:
        """Predict [b, 3] on 0..1 from stored states."""
        heard = self._unpacked("audio", audio, audio_lengths)
        read = self._unpacked("text", text, text_lengths)
        return self.inner.predict(heard, read)

    def _states(self, modality: str, inputs: Tensor) -> Tensor:
        lengths = torch.tensor([len(inputs)], device=inputs.device)
        encoded = self.inner.encode(modality, inputs[None], lengths)
        if isinstance(encoded, Tensor):
            return encoded if encoded.ndim == 2 else encoded[0]  # [1, p] or [L, p]
        states = encoded.hidden if encoded.layers is None else torch.cat(encoded.layers, dim=-1)
        return states[0, : int(encoded.lengths[0])]

    def _unpacked(self, modality: str, stored: Tensor | None, lengths: Tensor | None) -> Tensor | Encoded | None:
        if stored is None or lengths is None:
            return None
        if self.inner.pooling is not None:
            return stored if self.inner.layers else stored[:, 0]
        if not self.inner.layers:
            return Encoded(stored, lengths)
        states = stored.chunk(getattr(self.inner, modality).depth + 1, dim=-1)
        return Encoded(states[-1], lengths, states)
