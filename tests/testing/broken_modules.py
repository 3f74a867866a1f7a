"""The modules of the stranger's plugins: small, sound ones, and each fault as a change to one of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ser_bench.errors import PluginError
from ser_bench.interface import Encoded, Tokens
from ser_bench.pooling import pool, valid

HOP = 320


class Encoder(nn.Module):
    """States [t, 16]: a projection, and at most one residual layer over three states."""

    def __init__(self, weights: Any = "tiny", *, depth: int | None = None, regularisation: Any = None) -> None:
        super().__init__()
        if depth is not None and depth > 1:
            raise PluginError(f"depth {depth} was asked of one layer.")
        self.dim, self.depth = 16, 1 if depth is None else depth
        self.norm = nn.LayerNorm(16) if self.depth else None
        self.layers = nn.ModuleList([nn.Conv1d(16, 16, 3, padding=1) for _ in range(self.depth)])

    def states(self, hidden: Tensor, lengths: Tensor, layers: bool) -> Encoded:
        own = valid(lengths, hidden.shape[1])[:, :, None]
        states = [hidden]
        for layer in self.layers:
            kept = torch.where(own, self.norm(hidden), 0.0)
            hidden = hidden + torch.tanh(layer(kept.transpose(1, 2)).transpose(1, 2))
            states.append(hidden)
        return Encoded(hidden, lengths, tuple(states) if layers else None)


class Audio(Encoder):
    """Frames [t, 8]: log power in eight bands of 20 ms."""

    floor = 1e-6

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.projection = nn.Linear(8, 16)

    @torch.no_grad()
    def frontend(self, wave: Tensor) -> Tensor:
        wave = nn.functional.pad(wave, (0, -len(wave) % HOP))
        power = torch.fft.rfft(wave.reshape(-1, HOP)).abs().square()[:, 1:]
        bands: Tensor = torch.log(power.reshape(len(power), 8, -1).mean(-1) + self.floor) / 5
        return bands

    def frontend_state(self) -> dict[str, Any]:
        return {"hop": HOP}

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        return self.states(self.projection(frames), lengths, layers)


class AnyDepth(Audio):
    def __init__(self, weights: Any, *, depth: int | None = None, regularisation: Any) -> None:
        super().__init__(weights, depth=None if depth is None else min(depth, 1), regularisation=regularisation)
        self.depth = 1 if depth is None else depth


class HiddenIsNotLast(Audio):
    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        found = super().forward(frames, lengths, layers=layers)
        return found._replace(hidden=found.hidden * 2)


class Float64Frames(Audio):
    def frontend(self, wave: Tensor) -> Tensor:
        return super().frontend(wave).double()

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        return super().forward(frames.float(), lengths, layers=layers)


class FailsOnOneSample(Audio):
    def frontend(self, wave: Tensor) -> Tensor:
        return super().frontend(wave) + 0 * (wave[1] - wave[0])


class RefusesOneSample(Audio):
    def frontend(self, wave: Tensor) -> Tensor:
        if len(wave) < HOP:
            raise PluginError(f"{len(wave)} samples are too few; this encoder reads {HOP} or more.")
        return super().frontend(wave)


class ReadsPadding(Audio):
    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        hidden = self.projection(frames)
        return self.states(hidden - torch.nan_to_num(hidden).mean(1, keepdim=True), lengths, layers)


class ReadsNan(Audio):
    """Blind to zeros and large values, but what is multiplied by 0 to be left out may be NaN."""

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        own = valid(lengths, frames.shape[1])[:, :, None]
        mean = (self.projection(frames) * own).sum(1, keepdim=True) / lengths[:, None, None]
        return self.states(self.projection(frames) - 0.3 * mean, lengths, layers)


class ForgetsOrder(Audio):
    """Turns a batch that begins with its longest utterance round, and not back."""

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        found = super().forward(frames, lengths, layers=layers)
        if len(lengths) == 1 or lengths[0] <= lengths[-1]:
            return found
        # Of the same shapes, so that only the values tell.
        mixed = tuple(state + 0.1 * state.mean(1, keepdim=True).flip(0) for state in found.layers or ())
        return Encoded(mixed[-1] if mixed else found.hidden, lengths, mixed or None)


class Dithers(Audio):
    def frontend(self, wave: Tensor) -> Tensor:
        return super().frontend(wave + 1e-3 * torch.randn(len(wave), device=wave.device))


class Drifts(Audio):
    """Every other call outside training gives a little more, by less than what padding may do."""

    calls = 0

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        self.calls += not self.training
        found = super().forward(frames, lengths, layers=True)
        states = tuple(state * (1 + 2e-6 * (self.calls % 2)) for state in found.layers or ())
        return Encoded(states[-1], lengths, states if layers else None)


class LogOfSilence(Audio):
    floor = 0.0


class WantsFloat32(Audio):
    """Takes a detour through numpy, which has no bfloat16."""

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        hidden = self.projection(frames)
        return self.states(hidden + torch.from_numpy(hidden.detach().numpy()), lengths, layers)


class LeftOnTheCpu(Audio):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offset = torch.ones(16)  # no buffer

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        return self.states(self.projection(frames) + self.offset, lengths, layers)


class UnusedParameter(Audio):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spare = nn.Linear(3, 3)


class TrainsItsFrontEnd(Audio):
    """Uses one and the same parameter before and after the cut."""

    def frontend(self, wave: Tensor) -> Tensor:
        return super().frontend(wave) + self.projection.weight.mean().detach()


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, *gradient: Tensor) -> Tensor:
        return -gradient[0]


class Climbs(Audio):
    """Its gradient points the wrong way."""

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        found = super().forward(frames, lengths, layers=True)
        states = tuple(_Backwards.apply(state) for state in found.layers or ())
        return Encoded(states[-1], lengths, states if layers else None)


class Text(Encoder):
    """Words by their letters; a vocabulary of those that ``fit`` saw."""

    limit = 50

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.words: list[str] = []
        self.embedding = nn.Embedding(500, 16)

    def fit(self, texts: Any) -> None:
        self.words = sorted({word for text in texts for word in text.lower().split()})[:400]

    def get_extra_state(self) -> list[str]:
        return self.words

    def set_extra_state(self, state: list[str]) -> None:
        self.words = state

    def frontend(self, text: str) -> Tokens:
        found = text.lower().split()
        ids = [0, *(2 + self.words.index(word) if word in self.words else 1 for word in found[: self.limit])]
        return Tokens(torch.tensor(ids), len(found) > self.limit)

    def frontend_state(self) -> dict[str, Any]:
        return {"words": self.words, "limit": self.limit}

    def forward(self, ids: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        return self.states(self.embedding(ids), lengths, layers)


class ChokesOnNothing(Text):
    def frontend(self, text: str) -> Tokens:
        text.split()[0]
        return super().frontend(text)


class CutsInSilence(Text):
    def frontend(self, text: str) -> Tokens:
        return super().frontend(text)._replace(truncated=False)


class ForgetsItsWords(Text):
    get_extra_state, set_extra_state = nn.Module.get_extra_state, nn.Module.set_extra_state


class ReadsNoWords(Text):
    """Every word is the same to it."""

    def frontend(self, text: str) -> Tokens:
        return Tokens(torch.tensor([0, 1, 1]), super().frontend(text).truncated)


class Head(nn.Module):
    """One linear layer on what there is."""

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Linear((audio or 0) + (text or 0), 3)

    def forward(self, audio: Any, text: Any) -> Tensor:
        found: Tensor = self.layer(torch.cat([vector for vector in (audio, text) if vector is not None], dim=-1))
        return found


class BothAlone(Head):
    """Sound: takes both modalities or none."""

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        if audio is None or text is None:
            raise PluginError("this head joins audio and text; give it both.")
        super().__init__(audio, text, dropout=dropout)


class DividesByZero(Head):
    """Normalises each vector to length 1."""

    def forward(self, audio: Any, text: Any) -> Tensor:
        return super().forward(*(v if v is None else v / v.norm(dim=-1, keepdim=True) for v in (audio, text)))


class IgnoresText(Head):
    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__(audio, None if audio else text, dropout=dropout)

    def forward(self, audio: Any, text: Any) -> Tensor:
        return super().forward(audio, None if audio is not None else text)


class FitWithoutPooling(Head):
    def forward(self, audio: Any, text: Any) -> Tensor:
        given = (None if e is None else pool("mean", e.hidden, e.lengths) for e in (audio, text))
        return super().forward(*given)

    def fit(self, audio: Any, text: Any, labels: Tensor) -> None:
        raise AssertionError("a head on sequences is never fitted")


class ForgetsFit(Head):
    """Its offset is found by ``fit`` and kept nowhere."""

    offset: Any = 0.0

    def fit(self, audio: Any, text: Any, labels: Tensor) -> None:
        self.offset = labels.mean(0)

    def forward(self, audio: Any, text: Any) -> Tensor:
        return super().forward(audio, text) + self.offset


class WholeSystem(nn.Module):
    """The audio and the text encoder above and a linear layer, in one piece."""

    def __init__(self, weights: Any, *, regularisation: Any, dropout: float) -> None:
        super().__init__()
        self.audio, self.text = Audio(depth=0), Text(depth=0)
        self.head = Head(16, 16, dropout=dropout)

    def fit(self, rows: Any) -> None:
        self.text.fit([text or "" for text in rows.transcript])

    def audio_frontend(self, wave: Tensor) -> Tensor:
        return self.audio.frontend(wave)

    def text_frontend(self, text: str) -> Tokens:
        return self.text.frontend(text)

    def frontend_state(self, modality: str) -> dict[str, Any]:
        return {"audio": self.audio, "text": self.text}[modality].frontend_state()  # type: ignore[no-any-return, operator]

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Tensor:
        heard = pool("mean", self.audio(audio, audio_lengths).hidden, audio_lengths)
        read = pool("mean", self.text(text, text_lengths).hidden, text_lengths)
        predicted: Tensor = self.head(heard, read)
        return predicted


class WholeIgnoresText(WholeSystem):
    def __init__(self, weights: Any, **kwargs: Any) -> None:
        super().__init__(weights, **kwargs)
        self.text.embedding.requires_grad_(False)
        self.head = Head(16, None, dropout=0.0)

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Tensor:
        heard = pool("mean", self.audio(audio, audio_lengths).hidden, audio_lengths)
        predicted: Tensor = self.head(heard, None)
        return predicted


class WholePeeks(WholeIgnoresText):
    """Says that it reads audio alone, and takes the text if it gets hold of it."""

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Tensor:
        predicted = super().forward(audio, audio_lengths, text, text_lengths)
        return predicted if text is None else predicted + text.float().mean()


class WholePeeksAtAudio(WholeSystem):
    """Says that it reads text alone, and takes the audio if it gets hold of it."""

    def __init__(self, weights: Any, **kwargs: Any) -> None:
        super().__init__(weights, **kwargs)
        self.audio.requires_grad_(False)
        self.head = Head(None, 16, dropout=0.0)

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Tensor:
        predicted: Tensor = self.head(None, pool("mean", self.text(text, text_lengths).hidden, text_lengths))
        return predicted if audio is None else predicted + audio.float().mean()


class WholeWithoutFrontend(WholeIgnoresText):
    def __getattribute__(self, name: str) -> Any:
        if name == "text_frontend":
            raise AttributeError(name)
        return super().__getattribute__(name)
