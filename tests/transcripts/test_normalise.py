from __future__ import annotations

import importlib.metadata
import json
import random
import re
from importlib.resources import files

import pytest
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer as Transformers
from whisper_normalizer.english import EnglishTextNormalizer as Package

from ser_bench.transcripts.normalise import RULES, normalise, normaliser


def test_the_name_holds_both_versions() -> None:
    name = normaliser()
    assert name == f"whisper-normalizer-{importlib.metadata.version('whisper-normalizer')}+{RULES}"
    assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,100}", name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # What the package does, as a reminder of what is compared.
        ("He can't come, she WON'T.", "he can not come she will not"),
        ("Twenty-three dollars; 1,200 people.", "$23 1200 people"),
        ("Um, the colour of Dr. Smith's, uh, car", "the color of doctor smith is car"),
        ("", ""),
        # Apostrophes.
        ("I\u2019m sure they\u2018re here, it\u02bcs late", "i am sure they are here it is late"),
        ("don`t, don\u00b4t, don\u2032t, don\uff07t, don\u201bt", " ".join(["do not"] * 5)),
        ("\u201cSure,\u201d he said, \u2018so what?\u2019", "sure he said so what"),
        # Unicode.
        ("sen\u0303or cafe\u0301", "senor cafe"),  # decomposed: "sen" by itself would become "senator"
        ("\ufeffhello wo\u00adrld\u200b there\u00a0now", "hello world there now"),
        # Tags, with and without a clock time, nested, glued, unclosed; guessed words.
        ("I went [inaudible 00:01:02] home", "i went home"),
        ("I went [maybe to the 00:01:02] home", "i went home"),
        ("[laughter] so[crosstalk]what", "so what"),
        ("so [crosstalk [inaudible 00:01:02] 00:01:05] what", "so what"),
        ("so[laughs [both] loudly]what", "so what"),
        ("so [inaudible 0:01:02 what", "so what"),
        ("so [we met at 10:30, and", "so we met at 10 30 and"),
        ("so] what", "so what"),
        ("[inaudible 00:01:02]", ""),
        (" [laughter 00:00:01]\n[crosstalk] ", ""),
        # What recognisers write.
        ("[BLANK_AUDIO]", ""),
        ("(laughs)well(sighs)yes", "well yes"),
        ("<|nospeech|>hello", "hello"),
        ("\u266a la la \u266a", "la la"),
        # Cut marks and pauses.
        ("...and then we", "and then we"),
        ("\u2026and then we\u2026", "and then we"),
        ("...20 people... or 30...", "20 people or 30"),
        ("well...yes", "well yes"),
        ("I was going to th-", "i was going to th"),
        ("I was -- going \u2014 to the -", "i was going to the"),
        ("...", ""),
        ("-", ""),
        # One dot is a decimal point.
        ("about 3.5 of them.", "about 3.5 of them"),
    ],
)
def test_rules(text: str, words: str) -> None:
    assert normalise(text) == words


def sentences(count: int, *, seed: int, pieces: list[str], gaps: list[str]) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice(pieces) + rng.choice(gaps) for _ in range(rng.randint(1, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def package() -> Package:
    return Package()


def words_of(package: Package) -> list[str]:
    """Give all words that the package treats in a special way, and some that it does not."""
    contractions = [pattern.replace(r"\b", "") for pattern in package.replacers]
    assert all(re.fullmatch(r"[a-z' ]+", word) for word in contractions), "a pattern is more than a bounded word"
    special = ["and a half", "half", "uh", "um", "hmm", "5", "1", "1,200", "3.5", "$", "%", "colour", "John"]
    return [*contractions, *sorted(package.standardize_numbers.words), *special, "there", "we", "a", "I'm", "can 't"]


def test_agrees_with_transformers_where_we_have_no_rule_of_our_own(package: Package) -> None:
    mapping = json.loads(files("whisper_normalizer").joinpath("normalizers/english.json").read_text())
    theirs = Transformers(mapping)
    texts = sentences(3000, seed=1, pieces=words_of(package), gaps=[" ", " ", " ", ", ", ". ", "? ", "-", "'s "])
    # The package knows four more contractions than Whisper's own; they are part of what its version names.
    more = package.replacers.keys() - theirs.replacers.keys()
    assert more == {rf"\b{word}\b" for word in ("kinda", "sorta", "dunno", "cause")}
    texts = [text for text in texts if ".." not in text and not re.search("|".join(more), text)]
    assert len(texts) > 2000
    for text in texts:
        assert normalise(text) == theirs(text).strip(), text


def test_agrees_with_the_package_whatever_is_skipped(package: Package) -> None:
    """Half words, stray brackets and symbols as well: what is left out must change nothing at all."""
    from ser_bench.transcripts.normalise import _english

    quick = _english()
    odd = [
        "wan",
        "na",
        "n't",
        "gen",
        "'",
        "' s",
        "[",
        "]",
        "(",
        "<",
        ">",
        ".",
        "\u00bd",
        "tw\u00e9nty",
        "\u00b2",
        "\u0663",
    ]
    gaps = [" ", " ", "", "", "'", "-"]
    joined = ["wan<x]na", "ki(x)nda a", "twe<x>nty", "won 't", "won um't", "and a half$", "\u0663 gonna"]
    for text in [*joined, *sentences(4000, seed=2, pieces=words_of(package) + odd, gaps=gaps)]:
        assert quick(text) == package(text), text
