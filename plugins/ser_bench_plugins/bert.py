"""BERT-type text encoders over BERT's uncased vocabulary, which ships with the plugin."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.masking_utils import create_bidirectional_mask

from ser_bench.errors import WeightsError
from ser_bench.interface import Encoded, Regularisation, Source, Tokens, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.masking import mask_spans
from ser_bench_plugins.pretrained import kept_layers, make, shipped

VOCABULARY = "bert-base-uncased-vocab.txt"  # 30,522 entries, from google-research/bert, Apache-2.0

_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def build(
    weights: Weights, *, depth: int | None = None, regularisation: Regularisation, configuration: str, source: Source
) -> Bert:
    """Build the encoder of a shipped configuration, without the pooler, which nothing here reads."""
    settings = shipped(configuration)
    full = dict(settings)
    if weights == "tiny":
        settings |= _TINY
    layers = kept_layers(depth, settings["num_hidden_layers"], configuration)
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), regularisation.dropout)
    config = BertConfig(**(settings | {"num_hidden_layers": layers} | dropouts))
    if isinstance(weights, Path):
        _require_vocabulary(weights)
    model = make(
        BertModel,
        config,
        weights,
        source=source,
        must_match={
            k: full[k]
            for k in (
                "model_type",
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "vocab_size",
            )
        },
        unused=(
            "pooler.",
            "bert.pooler.",
            "cls.",
            "encoder.layer.",
            "bert.encoder.layer.",
            "fit_dense",
            "embeddings.position_ids",
        ),
        add_pooling_layer=False,
    )
    return Bert(model, regularisation)


class Bert(nn.Module):
    """A transformers BERT and its tokenizer."""

    def __init__(self, model: BertModel, regularisation: Regularisation) -> None:
        super().__init__()
        self.model = model
        self.regularisation = regularisation
        self.dim: int = model.config.hidden_size
        self.depth: int = model.config.num_hidden_layers
        self.limit: int = model.config.max_position_embeddings
        with as_file(files("ser_bench_plugins") / "data" / VOCABULARY) as path:
            self.tokenizer = BertWordPieceTokenizer(str(path), lowercase=True)

    def frontend(self, text: str) -> Tokens:
        """Turn one string into [CLS] words [SEP]; words beyond the model's positions are cut."""
        ids = self.tokenizer.encode(text).ids
        truncated = len(ids) > self.limit
        if truncated:
            ids = [*ids[: self.limit - 1], ids[-1]]
        return Tokens(torch.tensor(ids, dtype=torch.int64), truncated)

    def frontend_state(self) -> dict[str, Any]:
        """Give the vocabulary's digest and the limit."""
        return {"family": "bert-wordpiece-uncased", "vocabulary": _digest(), "limit": self.limit}

    def forward(self, ids: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t] into [b, t, d]; follows transformers' ``BertModel.forward``."""
        own = valid(lengths, ids.shape[1])
        embedded = self.model.embeddings.word_embeddings(ids)
        if self.training:
            embedded = mask_spans(embedded, own, self.regularisation)
        hidden = self.model.embeddings(inputs_embeds=embedded)
        mask = create_bidirectional_mask(config=self.model.config, inputs_embeds=hidden, attention_mask=own)
        states = [hidden]
        for layer in self.model.encoder.layer:
            skipped = self.training and bool(torch.rand([]) < self.regularisation.layerdrop)
            hidden = hidden if skipped else layer(hidden, mask)
            states.append(hidden)
        return Encoded(hidden, lengths, tuple(states) if layers else None)


def _digest() -> str:
    return hashlib.sha256((files("ser_bench_plugins") / "data" / VOCABULARY).read_bytes()).hexdigest()


def _require_vocabulary(folder: Path) -> None:
    """Refuse a checkpoint over another vocabulary: its embedding rows would stand for other words."""
    path = folder / "vocab.txt"
    if path.exists() and path.read_text(encoding="utf-8").split() != _words():
        raise WeightsError(
            f"{path} is not BERT's uncased vocabulary, which this encoder reads. Expected its 30,522 entries."
        )


def _words() -> list[str]:
    return (files("ser_bench_plugins") / "data" / VOCABULARY).read_text(encoding="utf-8").split()
