"""Fusion heads on sequences: they read every state of an utterance, and nothing past its length.

Letters: b utterances in a batch, t states (q of the asking modality, k of the asked one), d width of an encoder,
w common width, h attention heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ser_bench.interface import Encoded
from ser_bench.pooling import pool, valid
from ser_bench_plugins.heads import Concat, LayerWeights

ATTENTION = 128  # hidden units of the attention that weights states (ours)
WIDTH, HEADS = 256, 4  # of cross-attention (ours; 64 dimensions a head, as in BERT and HuBERT)


class WeightedSequences(LayerWeights):
    """A learned weighted sum of every layer's sequence for each modality, pooled (``mean_max``), then ``Concat``.

    The paper's order (§4.2): layers are summed, then pooled. ``heads.WeightedLayers`` pools first. Sequences are
    standardised by what the train rows' pooled vectors are, so that with all weight on one layer the two are the same.
    """

    def forward(self, audio: Encoded | None, text: Encoded | None) -> Tensor:
        """Predict [b, 3] from all layers' states, L of [b, t, d], and their lengths."""
        predicted: Tensor = self.regressor(self._pooled("audio", audio), self._pooled("text", text))
        return predicted

    def _pooled(self, modality: str, encoded: Encoded | None) -> Tensor | None:
        """Return the pooled weighted sum, [b, d]."""
        if encoded is None or encoded.layers is None:
            return None
        return pool("mean_max", self.mixed(modality, encoded.layers), encoded.lengths)


class AttentivePool(nn.Module):
    """Attentive statistics pooling for each modality, then ``Concat``.

    e_t = v' tanh(W x_t + c), alpha = softmax(e), mean = sum alpha_t x_t, deviation = sqrt(sum alpha_t (x_t - mean)^2)
    (Okabe, Koshinaka & Shinoda 2018, Attentive Statistics Pooling, arXiv:1803.10963). The paper's constant k, added
    to every e_t, is left out: the softmax does not see it.
    """

    def __init__(self, audio: int | None, text: int | None, *, dropout: float) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(dim, ATTENTION), nn.Tanh(), nn.Linear(ATTENTION, 1, bias=False))
                for name, dim in (("audio", audio), ("text", text))
                if dim is not None
            }
        )
        # Mean and deviation side by side: twice the width.
        pooled = (None if dim is None else 2 * dim for dim in (audio, text))
        self.regressor = Concat(*pooled, dropout=dropout)

    def forward(self, audio: Encoded | None, text: Encoded | None) -> Tensor:
        """Predict [b, 3] from states [b, t, d] and their lengths."""
        predicted: Tensor = self.regressor(self._statistics("audio", audio), self._statistics("text", text))
        return predicted

    def _statistics(self, modality: str, encoded: Encoded | None) -> Tensor | None:
        """Return weighted mean and deviation, [b, 2 d]."""
        if encoded is None:
            return None
        states, own = _own(encoded)
        scores = self.attention[modality](states)[:, :, 0]  # [b, t]
        weights = torch.softmax(scores.masked_fill(~own, -torch.inf), dim=1)[:, :, None]
        mean = (weights * states).sum(1)
        variance = (weights * (states - mean[:, None]).square()).sum(1)
        # The floor (as in pooling.py) keeps the root's gradient finite where one state has all the weight.
        return torch.cat([mean, variance.clamp_min(1e-12).sqrt()], dim=1)


class CrossAttention(nn.Module):
    """Audio attends to text and text to audio; both are pooled (``mean_max``), then ``Concat``.

    Each modality is projected to the common width and normalised, x; then y = norm(x + attention(x, other)), multi-head
    scaled dot products (Tsai et al. 2019, MulT, arXiv:1906.00295: one layer of its crossmodal attention, without
    feed-forward part and positions, which the encoders' states carry already; norm after the sum as Vaswani et al.
    2017). One modality alone attends to itself.
    """

    def __init__(
        self, audio: int | None, text: int | None, *, dropout: float, width: int = WIDTH, heads: int = HEADS
    ) -> None:
        super().__init__()
        dims = {name: dim for name, dim in (("audio", audio), ("text", text)) if dim is not None}
        self.projections = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width)) for name, dim in dims.items()}
        )
        self.attention = nn.ModuleDict({name: Attention(width, heads, dropout) for name in dims})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in dims})
        self.dropout = nn.Dropout(dropout)
        pooled = (None if dim is None else width for dim in (audio, text))
        self.regressor = Concat(*pooled, dropout=dropout)

    def forward(self, audio: Encoded | None, text: Encoded | None) -> Tensor:
        """Predict [b, 3] from states [b, t, d] and their lengths."""
        given = {name: encoded for name, encoded in (("audio", audio), ("text", text)) if encoded is not None}
        streams = {}
        for name, encoded in given.items():
            states, own = _own(encoded)
            streams[name] = self.projections[name](states), own  # [b, t, w], [b, t]
        pooled: dict[str, Tensor] = {}
        for name, encoded in given.items():
            asking, _ = streams[name]
            asked, own = next((stream for other, stream in streams.items() if other != name), streams[name])
            found = self.dropout(self.attention[name](asking, asked, own))
            pooled[name] = pool("mean_max", self.norms[name](asking + found), encoded.lengths)
        predicted: Tensor = self.regressor(pooled.get("audio"), pooled.get("text"))
        return predicted


class Attention(nn.Module):
    """Multi-head attention of one sequence to another (Vaswani et al. 2017, arXiv:1706.03762, §3.2)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, asking: Tensor, asked: Tensor, own: Tensor) -> Tensor:
        """Give [b, q, w] for [b, q, w] and [b, k, w]; ``own`` [b, k] is True where a state may be attended to."""
        query, key, value = (
            layer(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [b, h, q or k, w / h]
            for layer, states in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        # False in the mask stands for -inf before the softmax.
        found = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=own[:, None, None, :], dropout_p=self.dropout if self.training else 0.0
        )
        mixed: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return mixed


def _own(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Return the states [b, t, d], zero past each length, and the mask [b, t] of an utterance's own.

    Padding is selected away, not multiplied by 0: what stands there may be inf or NaN.
    """
    own = valid(encoded.lengths, encoded.hidden.shape[1])
    return torch.where(own[:, :, None], encoded.hidden, 0.0), own
