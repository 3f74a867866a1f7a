"""Bring human and machine text to one spelling before words are compared.

A word error rate means nothing without its normaliser, so this one has a name with versions (``normaliser``) that goes
wherever a rate goes. It is Whisper's English normaliser (Radford et al. 2022, arXiv 2212.04356, appendix C) as the
package whisper-normalizer has it, which knows four more contractions ("kinda", "sorta", "dunno", "cause"), behind a few
steps of our own for what MSP-Podcast's transcripts and recognisers write.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.metadata import version

PACKAGE = "whisper-normalizer"
RULES = "msp-1"
"""Version of our own steps; raise it whenever one of them changes what comes out."""

# Whisper's contraction rules know the ASCII apostrophe alone: "I'm" with a curly one would become "i m", not "i am".
# In this order: right, left and reversed quotation mark, modifier letter, acute and grave accent, prime, full width.
_APOSTROPHE = re.compile("[\u2019\u2018\u201b\u02bc\u00b4\u0060\u2032\uff07]")
# Soft hyphen, zero-width characters and byte order mark (a reader of the corpus expects one): seen by no reader, but
# they would make another word of the one they stand in.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# Third-party copies of the corpus' text (facts §2) have tags such as "[inaudible 00:01:02]", and guessed words with a
# time in the same brackets. Whisper writes "[BLANK_AUDIO]", "(laughs)", "<|nospeech|>". The package drops all three
# kinds of brackets too, but glues together what stood on both sides, and leaves the outer half of nested ones.
_BRACKETED = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|<[^<>]*>")
# A tag that lost its closing bracket ends at its clock time. Without one nobody can tell where it ends: its words stay.
_UNCLOSED = re.compile(r"\[[^\[\]]*?\b\d{1,2}:\d\d:\d\d")
# Cut sentences begin with "..." or end in "-" (facts §2), and recognisers write dots for a pause. The package turns
# dashes into spaces, but leaves dots behind as words of their own: "well..." would become "well .", "...20" ".20".
_DOTS = re.compile(r"\.\.+|\u2026")
_DIGIT = re.compile(r"\d")


def normaliser() -> str:
    """Return the name of what ``normalise`` does, with the versions of the package and of our own rules."""
    return f"{PACKAGE}-{version(PACKAGE)}+{RULES}"


def normalise(text: str) -> str:
    """Return the words of a transcript as they are compared: lower case, single spaces, maybe none at all.

    The same function for human and machine text. Beside case, punctuation, numbers, contractions, titles and British
    spelling (the package's rules, which also drop "uh", "um" and the like, and what stands in parentheses) it drops
    bracketed tags and cut marks. **Guessed words in brackets go with the tags**: the transcriber was not sure of them,
    so a recogniser that hears them is charged an insertion, as it is for words where the tag says inaudible. The word
    before a cut mark stays as far as it was written.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    text = _APOSTROPHE.sub("'", text)
    count = 1
    while count:  # from the inside out
        text, count = _BRACKETED.subn(" ", text)
    text = _UNCLOSED.sub(" ", text)
    text = _DOTS.sub(" ", text)
    return _english()(text).strip()


@cache
def _english() -> Callable[[str], str]:
    """Return the package's normaliser, without the work that changes nothing in the text at hand.

    Two thirds of its time go into 65 substitutions, of which a text needs few or none, and into a search for numbers
    in texts that have none. A test holds this equal to the package's own.
    """
    from whisper_normalizer.english import EnglishTextNormalizer

    package = EnglishTextNormalizer()
    numbers = package.standardize_numbers
    numeric = numbers.words - {"and"}  # which joins numbers, and is a word like any other without them

    def standardize_numbers(text: str) -> str:
        words = text.split()
        # "and a half" is rewritten with or without a number before it.
        if numeric.isdisjoint(words) and "half" not in text and not _DIGIT.search(text):
            return " ".join(words)
        return str(numbers(text))

    package.standardize_numbers = standardize_numbers
    replacers = [(pattern.replace(r"\b", ""), pattern, put) for pattern, put in package.replacers.items()]
    # What may join two halves of a word before the substitutions: what stands in a stray pair of brackets, "uh" and the
    # like, and spaces before an apostrophe are dropped.
    joining = re.compile(rf"[\[(<]|(?<!\w)'|{package.ignore_patterns}")

    def english(text: str) -> str:
        lower = text.lower()
        every = joining.search(lower) is not None
        own = copy.copy(package)
        own.replacers = {pattern: put for word, pattern, put in replacers if every or word in lower}
        return str(own(text))

    return english
