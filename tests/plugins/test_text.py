"""The text encoders: tokens, states, vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plugins.parts import alone, part, same
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForPreTraining, BertModel

from ser_bench_plugins.pretrained import shipped
from ser_bench_plugins.words import Words, split

TEXTS = [
    "",
    "   \n\t ",
    "I really don't know what you're talking about.",
    "Café crème, naïve coöperation: Zürich, ŁÓDŹ; İstanbul!",
    "日本語 and emoji 😀 ½ ﬁ…",
    "[laughter] well -- [MASK] is [SEP] not [CLS] a word [UNK]",
    "don\u2019t\u00a0stop\u200b now\x00\ufffd",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis " + "x" * 150,
    "word " * 509 + "end",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[BertModel, Path]:
    """A full-size TinyBERT of random weights, on disk as the hub's: a pickled state dict with heads and fit_denses."""
    torch.manual_seed(3)
    model = BertForPreTraining(BertConfig(**shipped("tinybert"))).eval()
    folder = tmp_path_factory.mktemp("tinybert")
    model.config.save_pretrained(folder)
    extra = {f"fit_denses.{n}.{kind}": torch.zeros(2) for n in range(5) for kind in ("weight", "bias")}
    torch.save(model.state_dict() | extra, folder / "pytorch_model.bin")
    return model.bert, folder


@pytest.mark.parametrize("text", TEXTS[:-1])
@torch.no_grad()
def test_bert_states_are_the_librarys(bert: tuple[BertModel, Path], text: str) -> None:
    reference, folder = bert
    ours = part("text", "tinybert", folder)
    ids = ours.frontend(text).ids
    expected = reference(input_ids=ids[None], output_hidden_states=True)
    states = alone(ours, ids)
    for state, theirs in zip(states, expected.hidden_states, strict=True):
        same(state, theirs[0])
    same(states[-1], expected.last_hidden_state[0])


@pytest.mark.shared
@torch.no_grad()
def test_minilm_with_its_real_weights(shared: Path) -> None:
    folder = shared / "models" / "all-MiniLM-L6-v2"
    reference = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ours = part("text", "minilm", folder)
    for text in TEXTS:
        ids = ours.frontend(text).ids
        expected = reference(input_ids=ids[None], output_hidden_states=True)
        for state, theirs in zip(alone(ours, ids), expected.hidden_states, strict=True):
            same(state, theirs[0])


@pytest.mark.shared
def test_tokens_are_the_librarys(shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "all-MiniLM-L6-v2")
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    ours = part("text", "minilm", "tiny")
    for text in TEXTS:
        expected = tokenizer.backend_tokenizer.encode(text).ids
        found = ours.frontend(text)
        assert found.ids.dtype == torch.int64
        assert (found.ids.tolist(), found.truncated) == (expected, False), text
    long = "so it goes " * 300
    expected = tokenizer(long, truncation=True, max_length=512, padding=False)["input_ids"]
    found = ours.frontend(long)
    assert (found.ids.tolist(), found.truncated) == (expected, True)


def test_text_that_is_cut_and_text_that_just_fits() -> None:
    encoder = part("text", "tinybert", "tiny")
    start, stop = encoder.frontend("").ids.tolist()
    assert (start, stop) == (101, 102)
    for words, cut in ((510, False), (511, True)):
        ids, truncated = encoder.frontend("word " * words)
        assert (len(ids), truncated) == (512, cut)
        assert (int(ids[0]), int(ids[-1])) == (start, stop)
        assert alone(encoder, ids)[-1].isfinite().all()


def test_tokens_of_the_uncased_vocabulary() -> None:
    encoder = part("text", "minilm", "tiny")
    # [CLS] hello , world ! [SEP], as in every introduction to BERT; accents go with the capitals.
    assert encoder.frontend("Hello, WORLD!").ids.tolist() == [101, 7592, 1010, 2088, 999, 102]
    assert encoder.frontend("Café").ids.tolist() == encoder.frontend("cafe").ids.tolist()


def test_split_finds_words_and_no_tags() -> None:
    assert split("Well, [laughter] I'M in [NOISE]room 101 -- aren't I?") == [
        "well",
        "i'm",
        "in",
        "room",
        "101",
        "aren't",
        "i",
    ]
    assert split("[unfinished tag") == ["unfinished", "tag"]
    assert split("") == []


@pytest.fixture
def words() -> Words:
    encoder: Words = part("text", "words", "tiny")
    encoder.fit(["a good day", "a bad day", "once", "good good grief"])
    return encoder


def test_vocabulary_is_counted_most_frequent_first(words: Words) -> None:
    assert words.get_extra_state() == ["good", "a", "day"]  # 3, then 2 and 2 by alphabet; once is not enough
    assert words.frontend("A good BAD day").ids.tolist() == [0, 3, 2, 1, 4]
    assert words.frontend("").ids.tolist() == [0]
    assert words.embedding.num_embeddings == 5
    assert words.frontend_state()["vocabulary"] == ["good", "a", "day"]


def test_words_beyond_the_limit_are_cut(words: Words) -> None:
    for count, cut in ((512, False), (513, True)):
        ids, truncated = words.frontend("day " * count)
        assert (len(ids), truncated) == (513, cut)


def test_vocabulary_travels_with_the_weights(words: Words) -> None:
    other: Words = part("text", "words", "tiny")
    assert other.frontend("good day").ids.tolist() == [0, 1, 1]
    other.load_state_dict(words.state_dict())
    ids = words.frontend("a good day").ids
    assert torch.equal(other.frontend("a good day").ids, ids)
    same(alone(other, ids)[-1], alone(words, ids)[-1], limit=0.0)


def test_the_same_vocabulary_again_keeps_the_parameters(words: Words) -> None:
    before = words.embedding.weight
    words.set_extra_state(words.get_extra_state())
    assert words.embedding.weight is before  # an optimiser holds it
