"""BERT-type text encoders, over BERT's uncased vocabulary, which ships with the plugin, or a checkpoint's own."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BertModel, DistilBertModel, PreTrainedModel, RobertaModel, XLMRobertaModel

from ser_bench.errors import WeightsError
from ser_bench.interface import Encoded, Regularisation, Source, Tokens, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.masking import attention_mask, dropped, mask_spans
from ser_bench_plugins.pretrained import Checkpoint, Family, located, make, shipped

VOCABULARY = "bert-base-uncased-vocab.txt"  # 30,522 entries, from google-research/bert, Apache-2.0


class Words(NamedTuple):
    """A tokenizer and what names it."""

    tokenizer: Any
    """``tokenizers``' own, without padding and without a limit."""
    family: str
    digest: str
    """SHA-256 of the file it was made of."""


def build(
    weights: Weights, *, depth: int | None = None, regularisation: Regularisation, configuration: str, source: Source
) -> Bert:
    """Build the encoder of a shipped configuration, over the shipped vocabulary."""
    settings, checkpoint = shipped(configuration), located(weights, source)
    if isinstance(weights, Path):
        _require_vocabulary(weights)
    with as_file(files("ser_bench_plugins") / "data" / VOCABULARY) as path:
        words = Words(BertWordPieceTokenizer(str(path), lowercase=True), "bert-wordpiece-uncased", _digest(path))
    return assemble(
        settings, weights, checkpoint, words, name=configuration, depth=depth, regularisation=regularisation
    )


def assemble(
    settings: dict[str, Any],
    weights: Weights,
    checkpoint: Checkpoint | None,
    words: Words,
    *,
    name: str,
    depth: int | None,
    regularisation: Regularisation,
) -> Bert:
    """Build the encoder of a full configuration, without the pooler, which nothing here reads."""
    family = FAMILIES[settings["model_type"]]
    model = make(family, settings, weights, checkpoint, name=name, depth=depth, regularisation=regularisation)
    built: Bert = family.module(model, regularisation, words, stack=family.stack)
    return built


def own_words(checkpoint: Checkpoint, entries: int) -> Words:
    """Return the checkpoint's tokenizer; the padding and the limit that it may carry are switched off.

    Raises:
        WeightsError: it has none in tokenizer.json, one that cannot be read, knows more tokens than the model's
            ``entries``, or makes nothing of an empty text.
    """
    place, path = checkpoint.place, checkpoint.file("tokenizer.json")
    if path is None:
        raise WeightsError(
            f"{place} has no tokenizer.json, which holds the words of a text encoder. Make one where its other "
            "tokenizer files are: transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise WeightsError(f"{place}/tokenizer.json cannot be read: {error}. Fetch it again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if tokenizer.get_vocab_size() > entries:
        raise WeightsError(
            f"{place}/tokenizer.json knows {tokenizer.get_vocab_size():,} tokens and the model {entries:,}. Expected "
            "the two of one checkpoint; fetch both again."
        )
    if not tokenizer.encode("").ids:
        raise WeightsError(
            f"{place}/tokenizer.json makes no token of an empty text, and a text encoder needs one. Expected a "
            "tokenizer that marks start and end, as BERT's and RoBERTa's do."
        )
    return Words(tokenizer, "tokenizer.json", _digest(path))


class Bert(nn.Module):
    """A transformers BERT, or its like, and its tokenizer."""

    def __init__(self, model: PreTrainedModel, regularisation: Regularisation, words: Words, *, stack: str) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.stack = stack
        self.regularisation = regularisation
        self.dim: int = self.config.hidden_size
        self.depth: int = self.config.num_hidden_layers
        self.limit = self.positions()
        self.words = words
        self.words.tokenizer.enable_truncation(self.limit)  # keeps the special tokens, and says what it cut

    def positions(self) -> int:
        """Return how many tokens the model has places for."""
        return int(self.config.max_position_embeddings)

    def frontend(self, text: str) -> Tokens:
        """Turn one string into its tokens between the special ones; those beyond the model's positions are cut."""
        found = self.words.tokenizer.encode(text)
        return Tokens(torch.tensor(found.ids, dtype=torch.int64), bool(found.overflowing))

    def frontend_state(self) -> dict[str, Any]:
        """Give the vocabulary's digest and the limit."""
        return {"family": self.words.family, "vocabulary": self.words.digest, "limit": self.limit}

    def forward(self, ids: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t] into [b, t, d]; follows transformers' ``BertModel.forward`` and its like."""
        own = valid(lengths, ids.shape[1])
        embedded = self.model.embeddings.word_embeddings(ids)
        if self.training:
            embedded = mask_spans(embedded, own, self.regularisation)
        hidden = self.model.embeddings(input_ids=None, inputs_embeds=embedded)
        mask = attention_mask(own)
        states = [hidden]
        for layer in self.model.get_submodule(self.stack):
            skipped = self.training and dropped(self.regularisation)
            hidden = hidden if skipped else layer(hidden, mask)
            states.append(hidden)
        return Encoded(hidden, lengths, tuple(states) if layers else None)


class Roberta(Bert):
    """RoBERTa, which counts positions from the one after the padding's number."""

    def positions(self) -> int:
        """Return how many tokens the model has places for."""
        return super().positions() - int(self.config.pad_token_id) - 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_vocabulary(folder: Path) -> None:
    """Refuse a checkpoint over another vocabulary: its embedding rows would stand for other words."""
    path = folder / "vocab.txt"
    ours = (files("ser_bench_plugins") / "data" / VOCABULARY).read_text(encoding="utf-8")
    if path.exists() and path.read_text(encoding="utf-8").split() != ours.split():
        raise WeightsError(
            f"{path} is not BERT's uncased vocabulary, which this encoder reads. Expected its 30,522 entries."
        )


_HEADS = (
    "pooler.",
    "cls.",
    "lm_head.",
    "classifier.",
    "pre_classifier.",
    "qa_outputs.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "fit_dense",
    "embeddings.position_ids",
)
_BERT: dict[str, Any] = {
    "stack": "encoder.layer",
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "dropouts": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "heads": _HEADS,
    "arguments": {"add_pooling_layer": False},
}
FAMILIES = {
    "bert": Family(model=BertModel, module=Bert, **_BERT),
    "roberta": Family(model=RobertaModel, module=Roberta, **_BERT),
    "xlm-roberta": Family(model=XLMRobertaModel, module=Roberta, **_BERT),
    "distilbert": Family(
        model=DistilBertModel,
        module=Bert,
        stack="transformer.layer",
        depth="n_layers",
        tiny={"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        dropouts=("dropout", "attention_dropout"),
        heads=_HEADS,
    ),
}
