"""A small text encoder from scratch: embeddings over a vocabulary that is counted on the train rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ser_bench.errors import WeightsError
from ser_bench.interface import Encoded, Regularisation, Tokens, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.logmel import Block
from ser_bench_plugins.masking import mask_spans
from ser_bench_plugins.pretrained import kept_layers

START, UNKNOWN = 0, 1  # ids before the first word's
MOST_WORDS = 10_000
LIMIT = 512  # words read of one text
_WORD = re.compile(r"\[[^\]]*\]|([a-z0-9]+(?:'[a-z]+)?)")


def build(weights: Weights, *, depth: int | None = None, regularisation: Regularisation) -> Words:
    """Build the encoder; it has no pretrained weights, so ``pretrained`` and ``random`` are the same."""
    if not isinstance(weights, str):
        raise WeightsError(
            f"words is trained from scratch and takes no weights; {weights} was given. Leave out --weights."
        )
    return Words(16 if weights == "tiny" else 64, kept_layers(depth, 1, "words"), regularisation)


def split(text: str) -> list[str]:
    """Return the lower-case words; bracketed tags are no words."""
    return [match[1] for match in _WORD.finditer(text.lower()) if match[1]]


class Words(nn.Module):
    """One vector a word, and a residual convolution over three words where depth is 1."""

    def __init__(self, dim: int, depth: int, regularisation: Regularisation) -> None:
        super().__init__()
        self.dim, self.depth = dim, depth
        self.regularisation = regularisation
        self.words: dict[str, int] = {}
        self.embedding = nn.Embedding(2, dim)
        self.dropout = nn.Dropout(regularisation.dropout)
        self.blocks = nn.ModuleList([Block(dim, regularisation.dropout, kernel=3) for _ in range(depth)])

    def fit(self, texts: Sequence[str]) -> None:
        """Count the words that occur at least twice, most frequent first, ties by alphabet."""
        counts = Counter(word for text in texts for word in split(text))
        frequent = sorted((w for w, c in counts.items() if c > 1), key=lambda w: (-counts[w], w))
        self.set_extra_state(frequent[:MOST_WORDS])

    def get_extra_state(self) -> list[str]:
        """Return the vocabulary, which is kept with the weights."""
        return list(self.words)

    def set_extra_state(self, state: list[str]) -> None:
        """Take over a vocabulary and make room for it; the one it has already leaves the embedding as it is."""
        if state == list(self.words):  # an optimiser may hold the embedding, and a frozen one is not saved again
            return
        self.words = {word: number for number, word in enumerate(state, start=UNKNOWN + 1)}
        was = self.embedding.weight
        self.embedding = nn.Embedding(len(state) + 2, self.dim, device=was.device).requires_grad_(was.requires_grad)

    def frontend(self, text: str) -> Tokens:
        """Turn one string into a start mark and its words' ids."""
        found = split(text)
        ids = [START, *(self.words.get(word, UNKNOWN) for word in found[:LIMIT])]
        return Tokens(torch.tensor(ids, dtype=torch.int64), len(found) > LIMIT)

    def frontend_state(self) -> dict[str, Any]:
        """Give the vocabulary."""
        return {"family": "words", "vocabulary": list(self.words), "limit": LIMIT}

    def forward(self, ids: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t] into [b, t, d]."""
        own = valid(lengths, ids.shape[1])
        hidden = self.dropout(self.embedding(ids))
        if self.training:
            hidden = mask_spans(hidden, own, self.regularisation)
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden, own)
            states.append(hidden)
        return Encoded(hidden, lengths, tuple(states) if layers else None)
