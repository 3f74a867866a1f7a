"""Made-up utterances with MSP-Podcast's lengths, to measure speed where there is no corpus. Letters: n utterances."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ser_bench.interface import SAMPLE_RATE, Rows
from ser_bench.prepare import Corpus

MEAN, SPREAD, SHORTEST, LONGEST = 5.69, 2.35, 1.91, 11.94
"""Seconds: mean, standard deviation, least and most of MSP-Podcast's utterances."""
WORDS_A_SECOND = 2.7  # about 160 a minute, as in conversation
_WORDS = """
the of and to a in that it is was i for on you he be with as by at have are this not but had his they from she
which or we an there her were one do been all their has would will what if can when so no said who more about up
them some could him into its then two out time like only my did other me your now over just may these new also
people any know very see first well after should than where back how get most way down our made got much think
work between go years many being those before right because through yeah good three make us such still year must
last even take own too off here come both does say oh used going use government day man might same under yes
however put world another want life again against never house thought really something always podcast
""".split()  # noqa: SIM905 - a list of 150 words is not easier to read


def durations(n: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return [n] seconds with the corpus' mean, standard deviation, least and most: a beta distribution's quantiles."""
    mean, variance = (MEAN - SHORTEST) / (LONGEST - SHORTEST), (SPREAD / (LONGEST - SHORTEST)) ** 2
    both = mean * (1 - mean) / variance - 1
    rng = np.random.default_rng([seed, n])
    drawn = np.random.default_rng(0).beta(mean * both, (1 - mean) * both, 200_000)
    quantiles = np.quantile(drawn, (np.arange(n) + 0.5) / n)
    return rng.permutation(SHORTEST + (LONGEST - SHORTEST) * quantiles)


def wave(seconds: float, number: int) -> NDArray[np.float32]:
    """Return noise, float32 [samples]: what a model computes does not depend on what is said."""
    drawn = np.random.default_rng(number).standard_normal(round(seconds * SAMPLE_RATE), dtype=np.float32)
    return drawn * np.float32(0.05)


def text(seconds: float, number: int) -> str:
    """Return as many common words as are said in the time."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(_WORDS, max(1, round(seconds * WORDS_A_SECOND))))


def corpus(sizes: Mapping[str, int]) -> Corpus:
    """Make up a corpus whose waves are made when they are read; nothing is on disk.

    Args:
        sizes: partition -> utterances.
    """
    rows, first = {}, 0
    for name, n in sizes.items():
        rows[name] = _rows(name, n, first)
        first += n
    lengths = {
        path: float(seconds) for part in rows.values() for path, seconds in zip(part.path, part.duration, strict=True)
    }

    def read(path: str) -> NDArray[np.float32]:
        return wave(lengths[path], int(path))

    return Corpus(rows=rows, block={}, transcripts="human", transcripts_sha256=None, made_up=read)


def _rows(partition: str, n: int, first: int) -> Rows:
    lengths = durations(n, seed=first)
    numbers = range(first, first + n)
    labels = np.random.default_rng([1, first]).uniform(1, 7, (n, 3))
    return Rows(
        partition=partition,
        utterance=[f"made-up-{number}.wav" for number in numbers],
        path=[str(number) for number in numbers],
        duration=lengths,
        labels=labels,
        emotion=["N"] * n,
        speaker=["Unknown"] * n,
        gender=["Unknown"] * n,
        podcast=["0001"] * n,
        transcript=[text(float(seconds), number) for number, seconds in zip(numbers, lengths, strict=True)],
    )
