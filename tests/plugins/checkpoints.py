"""Small checkpoints of random weights, as transformers saves them and the hub keeps them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from plugins.parts import library
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Wav2Vec2FeatureExtractor

from ser_bench_plugins.hub import FAMILIES

Kind = Literal["audio", "text"]
# Gives transformers' own encoder of a type, and the folder it is saved in.
Saved = Callable[[Kind, str], tuple[Any, Path]]
FORMS = ("full", "pickled state dict", "encoder alone")

# Type -> a class of transformers' that has something on or beside the encoder.
AUDIO = {
    "wav2vec2": "Wav2Vec2ForPreTraining",
    "hubert": "HubertForSequenceClassification",
    "wavlm": "WavLMForXVector",
    "data2vec-audio": "Data2VecAudioForCTC",
    "whisper": "WhisperForAudioClassification",
}
TEXT = {
    "bert": "BertForPreTraining",
    "distilbert": "DistilBertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "xlm-roberta": "XLMRobertaForSequenceClassification",
}


def tokenizer(type_: str) -> Tokenizer:
    """Make a small tokenizer of the kind that such models have, with a padding and a limit of its own."""
    corpus = ["I really don't know what you're talking about. So it goes, and so it went.", "café naïve jazz quartz"]
    if type_ in ("bert", "distilbert"):
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        made.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=180, special_tokens=special))
        ends = [(token, made.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
        made.post_processor = processors.BertProcessing(*ends)
    else:
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=letters)
        made.train_from_iterator(corpus, trainer)
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    made.enable_padding(length=12)
    made.enable_truncation(max_length=8)
    return made


def settings(type_: str) -> dict[str, Any]:
    """Return a small configuration that is not the ``tiny`` size."""
    if type_ == "whisper":
        decoder = {"decoder_layers": 1, "decoder_ffn_dim": 8, "decoder_attention_heads": 2, "vocab_size": 50}
        special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
        return {"d_model": 48, "encoder_layers": 3, "classifier_proj_size": 8, **decoder, **special}
    if type_ in AUDIO:
        heads = {"classifier_proj_size": 8, "tdnn_dim": [8] * 5, "xvector_output_dim": 8, "codevector_dim": 16}
        return {"hidden_size": 48, "num_hidden_layers": 3, "proj_codevector_dim": 16, **heads}
    if type_ == "distilbert":
        return {"dim": 48, "n_layers": 3, "vocab_size": 200, "max_position_embeddings": 40}
    return {"hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 320, "max_position_embeddings": 40}


def save(kind: Kind, type_: str, folder: Path, *, normalise: bool = True) -> tuple[Any, Path]:
    """Save a full checkpoint; return transformers' encoder in it, and the folder."""
    family = FAMILIES[kind][type_]
    reference = library(family, **settings(type_))
    whole = getattr(transformers, (AUDIO | TEXT)[type_])(reference.config).eval()
    inner = whole.encoder if type_ == "whisper" else whole.base_model
    inner.load_state_dict(reference.state_dict(), strict=type_ not in TEXT)  # a pooler may stand beside the encoder
    whole.save_pretrained(folder)
    if kind == "text":
        tokenizer(type_).save(str(folder / "tokenizer.json"))
    elif type_ != "whisper":
        Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return inner, folder


def copied(saved: Saved, kind: Kind, type_: str, folder: Path) -> Path:
    return shutil.copytree(saved(kind, type_)[1], folder / "copy")


def configured(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    kept = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if v is not None}
    path.write_text(json.dumps(kept))
    return folder


def reformed(folder: Path, form: str, encoder: Any) -> Path:
    """Save the weights in another of the ``FORMS`` that checkpoints come in."""
    if form == "pickled state dict":  # as older ones have it
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    if form == "encoder alone":  # keys without the encoder's name before them
        encoder.save_pretrained(folder)
    return folder
