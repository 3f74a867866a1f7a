"""The sentences of the demo release: a small hand-written grammar, filled from ``demo_sentences.txt``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")
GRADED = ("adjective", "feeling", "character", "outcome")


@dataclass(frozen=True)
class Sentence:
    """What is said, and how positive its words are (-3..3)."""

    text: str
    spoken: str
    strength: float


def pick(generator: np.random.Generator, choices: Sequence[T]) -> T:
    """Draw one, all as likely."""
    return choices[int(generator.integers(len(choices)))]


class Grammar:
    """Sentences that are all different, from the word material beside this file."""

    def __init__(self, path: Path, generator: np.random.Generator) -> None:
        self.generator = generator
        self.used: set[str] = set()
        self.plain: dict[str, list[str]] = {}
        self.graded: dict[str, list[tuple[float, str]]] = {}
        name = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                continue
            if line.startswith("["):
                name = line.strip("[]")
            elif "|" in line:
                strength, text = line.split(" | ")
                self.graded.setdefault(name, []).append((float(strength), text))
            elif line:
                self.plain.setdefault(name, []).append(line)
        self.names = {line.split()[0] for line in self.plain["person"] if line[0].isupper()}

    def sentence(self, target: float, *, unseen: bool) -> tuple[str, float]:
        """Make a sentence near ``target`` (-3..3) that was not made before; give it and its strength."""
        while True:
            text, strength = self._draw(target, unseen=unseen)
            key = " ".join(re.findall(r"[a-z0-9]+", text.lower()))
            if key not in self.used and 42 <= len(text) <= 78:
                self.used.add(key)
                return text, strength

    def _draw(self, target: float, *, unseen: bool) -> tuple[str, float]:
        # Only what is strong is denied: "not normal" says little about how it was.
        negated = abs(target) > 1 and self.generator.random() < 0.1
        frame = pick(self.generator, self.plain["negated" if negated else "frames"])
        section = next(name for name in GRADED if "{" + name + "}" in frame)
        strength, word = self._graded(section, -target if negated else target, unseen=unseen)
        if negated:
            strength *= -0.6
        fillers = {name: pick(self.generator, lines) for name, lines in self.plain.items()} | {section: word}
        if unseen:
            fillers["thing"] = pick(self.generator, self.plain["thing"] + 2 * self.plain["thing_test2"])
        if self.generator.random() < 0.5:
            fillers["open"] = ""
        if "{degree}" in frame:
            factor, fillers["degree"] = self._degree(strength)
            strength *= factor
        text = frame.format(**fillers).strip()
        end = "?" if text.startswith("are you") else "!" if text.startswith("how ") else "."
        if section != "outcome" and end == "." and len(text.split()) < 11 and self.generator.random() < 0.27:
            more, outcome = self._graded("outcome", target, unseen=unseen)
            text += f", and {outcome}"
            strength = 0.7 * (strength + more)
        text = re.sub(r"\b(a) (?=[aeiou]|honest)", "an ", text)
        return text[0].upper() + text[1:] + end, max(-3.0, min(3.0, strength))

    def _graded(self, section: str, target: float, *, unseen: bool) -> tuple[float, str]:
        choices = [(s, t.lstrip("*")) for s, t in self.graded[section] if unseen or not t.startswith("*")]
        likely = np.array([math.exp(-((s - target) ** 2) / (2 * 0.5**2)) for s, _ in choices])
        return choices[int(self.generator.choice(len(choices), p=likely / likely.sum()))]

    def _degree(self, strength: float) -> tuple[float, str]:
        # "Very horrible", "absolutely fine" and "a bit wonderful" are not English; "a bit boring" is.
        low = 1.1 if abs(strength) > 2.4 else 0.5 if -2 < strength < 0 else 0.7
        high = 1.1 if abs(strength) < 1 else 2
        degrees = [(f, t) for f, t in self.graded["degree"] if low < f < high]
        return pick(self.generator, degrees)


def say(grammar: Grammar, target: float, *, unseen: bool) -> Sentence:
    """Make what one utterance says: one sentence, now and then two, some with the marks of a transcriber."""
    draw = grammar.generator.random
    text, strength = grammar.sentence(target, unseen=unseen)
    if draw() < 0.05:
        more, second = grammar.sentence(target, unseen=unseen)
        text, strength = f"{text} {more}", max(-3.0, min(3.0, 0.7 * (strength + second)))
    spoken = text
    words = text.split()
    if draw() < 0.03:
        # A word is lost: the transcriber marks where, the voice makes a pause there.
        at = int(grammar.generator.integers(2, len(words) - 1))
        spoken = " ".join([*words[:at], ",", *words[at:]])
        text = " ".join([*words[:at], f"[inaudible 00:00:0{1 + at // 4}]", *words[at:]])
    if draw() < 0.05:
        text = "..." + (text if words[0] in ("I", *grammar.names) else text[0].lower() + text[1:])
    return Sentence(text, spoken, strength)
