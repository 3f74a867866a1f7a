"""Count the errors of machine text against human text, utterance by utterance.

Errors are counted by jiwer on normalised text (``ser_bench.transcripts.normalise``). A reference that is empty once
normalised has no rate: its utterance is counted apart, and so are the words that were recognised in it.

Letters: n utterances, m pairs of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_bench.transcripts.normalise import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = (
    "words",
    "hits",
    "substitutions",
    "deletions",
    "insertions",
    "words_on_empty",
    "characters",
    "character_errors",
)
"""The counts of an utterance, in the order of the file that ``write_utterances`` makes."""
_CHUNK = 1000  # pairs aligned at a time: jiwer keeps every alignment until it returns
_KINDS = ("equal", "substitute", "delete", "insert")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """What was found in each of n utterances. All counts are 0 where there is no reference, or an empty one."""

    referenced: NDArray[np.bool_]
    """[n] whether there is a reference, be it empty."""
    words: NDArray[np.int64]
    """[n] of the reference: hits + substitutions + deletions."""
    hits: NDArray[np.int64]
    substitutions: NDArray[np.int64]
    deletions: NDArray[np.int64]
    insertions: NDArray[np.int64]
    words_on_empty: NDArray[np.int64]
    """[n] words recognised where the reference is empty; they are part of no rate, hence of no other count."""
    characters: NDArray[np.int64]
    """[n] of the reference, spaces between words included."""
    character_errors: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.words)

    @property
    def errors(self) -> NDArray[np.int64]:
        """[n] substitutions + deletions + insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> NDArray[np.float64]:
        """[n] errors / words, 0 or more; NaN where the reference is empty or absent."""
        rate = np.full(len(self), np.nan)
        np.divide(self.errors, self.words, out=rate, where=self.words > 0)
        return rate


def count_errors(reference: Sequence[str | None], hypothesis: Sequence[str]) -> Counts:
    """Normalise and align each pair of texts.

    Args:
        reference: [n] human text; None where there is none.
        hypothesis: [n] machine text.
    """
    import jiwer  # heavy for what only reads rates

    pairs = [
        ("", "") if human is None else (normalise(human), normalise(machine))
        for human, machine in zip(reference, hypothesis, strict=True)
    ]
    # jiwer's ratio would have the insertions of an empty reference in it, so it never sees one.
    spoken = np.array([bool(human) for human, _ in pairs], dtype=bool)
    seen = [pair for pair in pairs if pair[0]]
    words = np.zeros((len(pairs), len(_KINDS)), dtype=np.int64)
    characters = np.zeros_like(words)
    words[spoken] = _align(jiwer.process_words, seen)
    characters[spoken] = _align(jiwer.process_characters, seen)
    return Counts(
        referenced=np.array([human is not None for human in reference], dtype=bool),
        words=words[:, :3].sum(axis=1),
        hits=words[:, 0],
        substitutions=words[:, 1],
        deletions=words[:, 2],
        insertions=words[:, 3],
        words_on_empty=np.array([0 if human else len(machine.split()) for human, machine in pairs], dtype=np.int64),
        characters=characters[:, :3].sum(axis=1),
        character_errors=characters[:, 1:].sum(axis=1),
    )


def _align(process: Callable[..., Any], pairs: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
    """Return hits, substitutions, deletions and insertions of each pair, [m, 4]."""
    found: list[list[int]] = []
    for start in range(0, len(pairs), _CHUNK):
        references, hypotheses = zip(*pairs[start : start + _CHUNK], strict=True)
        for alignment in process(list(references), list(hypotheses)).alignments:
            counts = dict.fromkeys(_KINDS, 0)
            for part in alignment:
                # Only an insertion has no length in the reference.
                counts[part.type] += (part.ref_end_idx - part.ref_start_idx) or (part.hyp_end_idx - part.hyp_start_idx)
            found.append(list(counts.values()))
    return np.array(found, dtype=np.int64).reshape(-1, len(_KINDS))
