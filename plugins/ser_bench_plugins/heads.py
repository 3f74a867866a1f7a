"""Fusion heads on pooled vectors.

Letters: b utterances in a batch, n train rows, p width of a pooled vector, L states of an encoder (its depth + 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


class Gated(nn.Module):
    """A gated multimodal unit: for every dimension of a common space, a learned share of audio and the rest of text.

    h_a = tanh(W_a a), h_t = tanh(W_t t), z = sigmoid(W_z [a, t]), h = z h_a + (1 - z) h_t (Arevalo et al. 2017, Gated
    Multimodal Units, arXiv:1702.01992, bimodal case; the biases are ours, and so is the common width: the audio
    vector's, as in ``Concat``). One modality alone has no gate: h is its projection.
    """

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__()
        widths = {name: width for name, width in (("audio", audio), ("text", text)) if width is not None}
        common = next(iter(widths.values()))
        self.projections = nn.ModuleDict({name: nn.Linear(width, common) for name, width in widths.items()})
        self.gate = nn.Linear(sum(widths.values()), common) if len(widths) == 2 else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(common, 3)

    def forward(self, audio: Tensor | None, text: Tensor | None) -> Tensor:
        """Predict [b, 3] from [b, p] vectors."""
        vectors = {name: self.dropout(v) for name, v in (("audio", audio), ("text", text)) if v is not None}
        hidden = [torch.tanh(self.projections[name](vector)) for name, vector in vectors.items()]  # [b, common] each
        mixed = hidden[0]
        if self.gate is not None:
            share = torch.sigmoid(self.gate(_joined(vectors["audio"], vectors["text"])))
            mixed = share * hidden[0] + (1 - share) * hidden[1]
        predicted: Tensor = self.output(self.dropout(mixed))
        return predicted


GAIN = 30.0
"""How much faster than all else layer weights move. Adam moves each number by about the learning rate a step, so that a
rate which suits the regressor would leave them where they start on a small corpus (ours; docs/studies/README.md)."""


class LayerWeights(nn.Module):
    """What heads that weight all layers have in common: w = softmax(GAIN s), one s a state, and ``Concat`` after it.

    The weights are equal at the start; they are what the paper's Figure 2 plots (§4.2). Each state is standardised by
    the train rows, number by number: states differ in size by far more than in what they know, and the size would
    stand in the weights (ours; the paper does not say).
    """

    def __init__(self, audio: int | None, text: int | None, *, dropout: float, states: Mapping[str, int]) -> None:
        """Take, beside the widths, L of each modality that is read (``audio``, ``text``)."""
        super().__init__()
        self.scores = nn.ParameterDict({name: nn.Parameter(torch.zeros(count)) for name, count in states.items()})
        for name, dim in (("audio", audio), ("text", text)):
            if dim is not None:
                self.register_buffer(f"{name}_centre", torch.zeros(states[name], dim))
                self.register_buffer(f"{name}_scale", torch.ones(states[name], dim))
        self.regressor = Concat(audio, text, dropout=dropout)

    @torch.no_grad()
    def fit(self, audio: Tensor | None, text: Tensor | None, labels: Tensor) -> None:
        """Take mean and standard deviation of each state from the train rows, [n, L, p] of each modality."""
        for name, given in (("audio", audio), ("text", text)):
            if given is None:
                continue
            centre, scale = self.get_buffer(f"{name}_centre"), self.get_buffer(f"{name}_scale")
            for layer in range(given.shape[1]):  # one at a time: all in float64 are twice as large as what is given
                state = given[:, layer].double()
                centre[layer].copy_(state.mean(0))
                # What never varies says nothing: it is left small, not divided by nearly 0.
                scale[layer].copy_(state.std(0, correction=0).clamp_min(1e-3))

    def layer_weights(self) -> dict[str, list[float]]:
        """Return each modality's L weights, input of the first transformer layer first; they sum to 1."""
        return {name: torch.softmax(GAIN * score.detach().double(), 0).tolist() for name, score in self.scores.items()}

    def mixed(self, modality: str, states: Iterable[Tensor]) -> Tensor:
        """Return the weighted sum of L standardised states [..., p]."""
        weights = torch.softmax(GAIN * self.scores[modality], 0)  # [L]
        centre, scale = self.get_buffer(f"{modality}_centre"), self.get_buffer(f"{modality}_scale")  # [L, p]
        total: Tensor | None = None
        for weight, state, middle, width in zip(weights, states, centre, scale, strict=True):
            part = weight * ((state - middle) / width)
            total = part if total is None else total + part  # one at a time: L sequences at once are large
        if total is None:
            raise ValueError(f"{modality} has no states")
        return total


class WeightedLayers(LayerWeights):
    """A learned weighted sum of every layer's pooled vector for each modality, then ``Concat``.

    The paper sums the layers before it pools them (``sequence_heads.WeightedSequences``). Here each is pooled first,
    so that a frozen encoder leaves L vectors an utterance and not L sequences: the same thing for averages, another for
    the maxima in ``mean_max``.
    """

    def forward(self, audio: Tensor | None, text: Tensor | None) -> Tensor:
        """Predict [b, 3] from [b, L, p] vectors."""
        heard = None if audio is None else self.mixed("audio", audio.unbind(1))
        read = None if text is None else self.mixed("text", text.unbind(1))
        predicted: Tensor = self.regressor(heard, read)
        return predicted


def _joined(audio: Tensor | None, text: Tensor | None) -> Tensor:
    return torch.cat([vector for vector in (audio, text) if vector is not None], dim=-1)
