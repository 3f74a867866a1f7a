"""Build a plan into one torch module with one face, whether it comes apart or not.

Training, stores and scores know only this face: ``audio_frontend``, ``text_frontend``, ``frontend_state``, ``forward``.
Letters: b utterances, t frames or tokens, c channels, d width, p pooled width, L states, n utterances.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from ser_bench.errors import PluginError, SerBenchError, WeightsError
from ser_bench.host import Offer, Plan
from ser_bench.interface import Encoded, Recipe, Tokens, Weights
from ser_bench.pooling import pool, width


class Composed(nn.Module):
    """An audio and/or a text encoder and a fusion head, as one system."""

    # Modules of a stranger's making: what they may be asked is in ``interface``.
    audio: Any
    text: Any
    head: Any

    def __init__(
        self, audio: nn.Module | None, text: nn.Module | None, head: nn.Module, *, pooling: str | None, layers: bool
    ) -> None:
        super().__init__()
        self.audio, self.text, self.head = audio, text, head
        self.pooling, self.layers = pooling, layers

    def audio_frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into frames [t, c]."""
        return cast(Tensor, self._encoder("audio").frontend(wave))

    def text_frontend(self, text: str) -> Tokens:
        """Turn one string into token ids [t]."""
        return cast(Tokens, self._encoder("text").frontend(text))

    def frontend_state(self, modality: str) -> dict[str, Any]:
        """Give what the modality's front end depends on."""
        return dict(self._encoder(modality).frontend_state())

    def encode(self, modality: str, inputs: Tensor, lengths: Tensor) -> Tensor | Encoded:
        """Encode and, where the head names a pooling, pool: [b, p] ([b, L, p] with layers), else ``Encoded``."""
        encoded: Encoded = self._encoder(modality)(inputs, lengths, layers=self.layers)
        if self.pooling is None:
            return encoded
        if not self.layers:
            return pool(self.pooling, encoded.hidden, encoded.lengths)
        if encoded.layers is None:
            raise PluginError(
                f"the {modality} encoder gave no layers though its head reads them; return Encoded.layers."
            )
        return torch.stack([pool(self.pooling, state, encoded.lengths) for state in encoded.layers], dim=1)

    def forward(
        self, audio: Tensor | None, audio_lengths: Tensor | None, text: Tensor | None, text_lengths: Tensor | None
    ) -> Tensor:
        """Predict [b, 3] on 0..1 from padded frames [b, t, c] and token ids [b, t]."""
        heard = None if audio is None or audio_lengths is None else self.encode("audio", audio, audio_lengths)
        read = None if text is None or text_lengths is None else self.encode("text", text, text_lengths)
        return in_float32(self.head, heard, read)

    def _encoder(self, modality: str) -> Any:
        encoder = self.audio if modality == "audio" else self.text
        if encoder is None:
            raise PluginError(f"this system reads no {modality}, yet {modality} was given to it.")
        return encoder


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
        return in_float32(self.inner.head, heard, read)

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


def build(plan: Plan, weights: Mapping[str, Weights], recipe: Recipe) -> nn.Module:
    """Build the plan's module.

    Args:
        plan: the resolved system.
        weights: part (``audio``, ``text``, ``system``) -> weights; a part that is not named is ``pretrained``.
        recipe: for dropout and the other regularisers.

    Raises:
        WeightsError: weights are given for a part the system does not have, or do not fit.
        PluginError: a part's ``build`` fails; names the plugin and its distribution.
    """
    unknown = sorted(weights.keys() - plan.parts.keys())
    if unknown:
        raise WeightsError(
            f"weights were given for {', '.join(unknown)}, but {plan.name} has "
            f"{', '.join(plan.parts) or 'no part that takes weights'}. Correct --weights PART=DIR."
        )
    given = {part: weights.get(part, "pretrained") for part in plan.parts}
    if plan.whole is not None:
        arguments = {"regularisation": recipe.regularisation, "dropout": recipe.head_dropout}
        return _called(plan.whole, partial(plan.whole.spec.build, given["system"], **arguments))
    encoders: dict[str, Any] = {}
    for part, offer in plan.parts.items():
        depth = {"depth": plan.depth} if part == "audio" else {}
        make = offer.spec.build
        encoders[part] = _called(
            offer,
            partial(make, given[part], **depth, regularisation=recipe.regularisation),
        )
    if plan.head is None:
        raise PluginError(f"{plan.name} was resolved without a fusion head.")
    spec = plan.head.spec
    widths = {part: width(spec.pooling, e.dim) if spec.pooling else int(e.dim) for part, e in encoders.items()}
    head = _called(plan.head, lambda: spec.build(widths.get("audio"), widths.get("text"), dropout=recipe.head_dropout))
    return Composed(encoders.get("audio"), encoders.get("text"), head, pooling=spec.pooling, layers=spec.layers)


def fit_head(system: nn.Module) -> Callable[[Tensor | None, Tensor | None, Tensor], None] | None:
    """Return the head's ``fit``, or None where there is none."""
    return getattr(head_of(system), "fit", None)


def pooled(system: nn.Module, batch: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return the pooled vectors [b, p] that the head would read of a batch, audio and text.

    Raises:
        PluginError: the head names no pooling, so there is no vector to fit on.
    """
    inner = system.inner if isinstance(system, Frozen) else system
    if not isinstance(inner, Composed) or inner.pooling is None:
        raise PluginError("a head with a fit needs a pooling in its spec: it is fitted on pooled vectors.")
    if isinstance(system, Frozen):
        pairs = ((batch.audio, batch.audio_lengths), (batch.text, batch.text_lengths))
        heard, read = (system._unpacked(m, *pair) for m, pair in zip(("audio", "text"), pairs, strict=True))
        return cast("tuple[Tensor | None, Tensor | None]", (heard, read))
    heard = None if batch.audio is None else inner.encode("audio", batch.audio, batch.audio_lengths)
    read = None if batch.text is None else inner.encode("text", batch.text, batch.text_lengths)
    return cast("tuple[Tensor | None, Tensor | None]", (heard, read))


def head_of(system: nn.Module) -> nn.Module | None:
    """Return the fusion head; None for a system that does not come apart."""
    inner = system.inner if isinstance(system, Frozen) else system
    return inner.head if isinstance(inner, Composed) else None


def fit_texts(system: nn.Module, texts: Sequence[str]) -> None:
    """Let the text encoder count what it counts (a vocabulary) in the train rows' texts."""
    inner = system.inner if isinstance(system, Frozen) else system
    if isinstance(inner, Composed) and inner.text is not None and hasattr(inner.text, "fit"):
        inner.text.fit(texts)


def digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of tensors (values, shape, type), numbers and strings under their names."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            total.update(f"{name}:{plain.dtype}:{tuple(plain.shape)}:".encode())
            total.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        else:
            total.update(f"{name}={json.dumps(value, sort_keys=True)};".encode())
    return total.hexdigest()


def count(system: nn.Module) -> tuple[int, int]:
    """Return the numbers of all and of trainable parameters."""
    parameters = list(system.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _called(offer: Offer, make: Callable[[], Any]) -> nn.Module:
    try:
        module = make()
    except SerBenchError:
        raise
    except Exception as error:  # a stranger's code: say whose
        _blame(offer, "failed to build", error)
    if not isinstance(module, nn.Module):
        raise PluginError(f"{offer}: build gave a {type(module).__name__}, expected a torch.nn.Module.")
    return module


def _blame(offer: Offer, what: str, error: Exception) -> NoReturn:
    first = (str(error).strip().splitlines() or [""])[0]
    raise PluginError(f"{offer} {what}: {type(error).__name__}: {first}") from error


def parse_weights(given: Sequence[str], plan: Plan) -> dict[str, Weights]:
    """Turn ``--weights`` words into part -> weights.

    Each word is ``pretrained``, ``random``, ``tiny`` or a folder, for all parts (a folder: for a system of one part),
    or ``PART=`` one of these.

    Raises:
        WeightsError: a folder for a system of several parts, an unknown part, or a folder that is not there.
    """
    parts = list(plan.parts)
    chosen: dict[str, Weights] = dict.fromkeys(parts, "pretrained")
    for word in given:
        part, equals, value = word.partition("=")
        if not equals:
            part, value = "", word
        if part and part not in parts:
            raise WeightsError(
                f"--weights {word} names the part '{part}'; {plan.name} has {', '.join(parts) or 'none'}."
            )
        weights: Weights
        if value in ("pretrained", "random", "tiny"):
            weights = cast(Weights, value)
        else:
            weights = Path(value)
            if not weights.is_dir():
                raise WeightsError(
                    f"--weights {word}: there is no folder {value}; give a folder, pretrained, random or tiny."
                )
            if not part and len(parts) > 1:
                raise WeightsError(
                    f"--weights {word} names one folder, but {plan.name} has the parts {' and '.join(parts)}; "
                    f"say which: {' '.join(f'{p}=DIR' for p in parts)}."
                )
        chosen |= dict.fromkeys([part] if part else parts, weights)
    return chosen
