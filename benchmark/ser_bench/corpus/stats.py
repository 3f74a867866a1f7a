"""Describe a release: partitions, people, labels, and what partitions share (``ser-bench corpus stats``)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from ser_bench.corpus.labels import UNKNOWN
from ser_bench.corpus.release import Release
from ser_bench.interface import ATTRIBUTES, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A bin for each point of the raters' scale: a mean of 4.4 counts as 4, one of 4.5 as 5.
_EDGES = np.array([1, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7])
_SHOWN = 8
"""Names shown of a list in the printed form; the JSON has all."""


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute in one partition, on 1..7, over the utterances that have a label."""

    mean: float
    std: float
    """Population standard deviation."""
    histogram: list[int]
    """Seven counts, for labels nearest to 1, 2, ... 7 (a half counts upwards)."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition."""

    utterances: int
    without_audio: int
    """Utterances whose duration is not known, and which are not in ``hours``."""
    hours: float
    speakers: int
    """Known ones."""
    unknown_speaker: int
    """Utterances without a known speaker."""
    podcasts: int
    genders: dict[str, int]
    emotions: dict[str, int]
    attributes: dict[str, Attribute]
    """Empty where labels are withheld."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What two partitions share."""

    pair: tuple[str, str]
    podcasts: dict[str, tuple[int, int]]
    """Podcast -> its utterances in either."""
    speakers: dict[str, tuple[int, int]]
    """Known speaker -> their utterances in either."""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """The description of one release."""

    partitions: dict[str, Partition]
    overlaps: list[Overlap]
    seen_podcasts: dict[str, dict[str, int]] | None
    """The test2 podcasts that occur elsewhere, though test2 is said to be unseen: podcast -> partition -> utterances;
    None where there is no test2."""

    def text(self) -> str:
        """Give the description as it is printed."""
        tables = [self._partition_table(), self._attribute_table(), self._emotion_table(), self._overlap_table()]
        return "\n\n".join([*tables, self._unseen()])

    def as_dict(self) -> dict[str, Any]:
        """Give the description as JSON has it."""
        return {
            "partitions": {
                name: {**vars(part), "attributes": {a: vars(values) for a, values in part.attributes.items()}}
                for name, part in self.partitions.items()
            },
            "overlaps": [
                {
                    "pair": list(overlap.pair),
                    "podcasts": {name: list(counts) for name, counts in overlap.podcasts.items()},
                    "speakers": {name: list(counts) for name, counts in overlap.speakers.items()},
                }
                for overlap in self.overlaps
            ],
            "seen_podcasts_of_test2": self.seen_podcasts,
        }

    def _partition_table(self) -> str:
        headers = ["partition", "utterances", "hours", "without audio", "speakers", "unknown speaker", "podcasts"]
        genders = sorted({gender for part in self.partitions.values() for gender in part.genders})
        rows = [
            [name, p.utterances, f"{p.hours:.2f}", p.without_audio, p.speakers, p.unknown_speaker, p.podcasts]
            + [p.genders.get(gender, 0) for gender in genders]
            for name, p in self.partitions.items()
        ]
        return tabulate(rows, headers=headers + genders, intfmt=",", disable_numparse=[2])

    def _attribute_table(self) -> str:
        rows = [
            [name, attribute, f"{a.mean:.2f}", f"{a.std:.2f}", *a.histogram]
            for name, part in self.partitions.items()
            for attribute, a in part.attributes.items()
        ]
        headers = ["partition", "attribute", "mean", "std", *(f"~{point}" for point in range(1, 8))]
        return tabulate(rows, headers=headers, intfmt=",", disable_numparse=[2, 3])

    def _emotion_table(self) -> str:
        emotions = sorted({emotion for part in self.partitions.values() for emotion in part.emotions})
        rows = [[name, *(part.emotions.get(e, 0) for e in emotions)] for name, part in self.partitions.items()]
        return tabulate(rows, headers=["partition", *(e or "withheld" for e in emotions)], intfmt=",")

    def _overlap_table(self) -> str:
        rows = [
            [" and ".join(o.pair), len(o.podcasts), _names(o.podcasts), len(o.speakers), _names(o.speakers)]
            for o in self.overlaps
        ]
        headers = ["shared by", "podcasts", "which", "speakers", "which"]
        return tabulate(rows, headers=headers, intfmt=",", disable_numparse=[2, 4])

    def _unseen(self) -> str:
        if self.seen_podcasts is None:
            return "There is no test2."
        if not self.seen_podcasts:
            return "test2 is unseen: none of its podcasts occurs in another partition."
        lines = [
            f"  {podcast}: " + ", ".join(f"{count:,} in {name}" for name, count in counts.items())
            for podcast, counts in self.seen_podcasts.items()
        ]
        head = f"test2 is not wholly unseen: {len(lines)} of its podcasts occur in other partitions (utterances)."
        return "\n".join([head, *lines])


def stats(release: Release) -> Stats:
    """Describe a release, and audit the claim that test2's podcasts occur nowhere else."""
    rows = {name: release.rows(name, texts={}) for name in release.partitions}
    podcasts = {name: Counter(p for p in part.podcast if p) for name, part in rows.items()}
    speakers = {name: Counter(s for s in part.speaker if s != UNKNOWN) for name, part in rows.items()}
    overlaps = [
        Overlap(
            pair=(a, b),
            podcasts={p: (podcasts[a][p], podcasts[b][p]) for p in sorted(podcasts[a].keys() & podcasts[b].keys())},
            speakers={s: (speakers[a][s], speakers[b][s]) for s in sorted(speakers[a].keys() & speakers[b].keys())},
        )
        for a, b in combinations(rows, 2)
    ]
    seen: dict[str, dict[str, int]] | None = None
    if "test2" in rows:
        counts = {p: {name: podcasts[name][p] for name in rows if podcasts[name][p]} for p in sorted(podcasts["test2"])}
        seen = {podcast: where for podcast, where in counts.items() if len(where) > 1}
    return Stats(
        partitions={name: _partition(part) for name, part in rows.items()}, overlaps=overlaps, seen_podcasts=seen
    )


def _partition(rows: Rows) -> Partition:
    known = np.isfinite(rows.duration)
    speakers = Counter(rows.speaker)
    columns = {name: rows.labels[:, i] for i, name in enumerate(ATTRIBUTES)}
    return Partition(
        utterances=len(rows),
        without_audio=int((~known).sum()),
        hours=round(float(rows.duration[known].sum()) / 3600, 6),
        speakers=len(speakers.keys() - {UNKNOWN}),
        unknown_speaker=speakers[UNKNOWN],
        podcasts=len(set(rows.podcast) - {""}),
        genders=dict(sorted(Counter(rows.gender).items())),
        emotions=dict(sorted(Counter(rows.emotion).items())),
        attributes={n: _attribute(v[np.isfinite(v)]) for n, v in columns.items() if np.isfinite(v).any()},
    )


def _attribute(values: NDArray[np.float64]) -> Attribute:
    histogram, _ = np.histogram(values, _EDGES)
    return Attribute(
        mean=round(float(values.mean()), 6), std=round(float(values.std()), 6), histogram=histogram.tolist()
    )


def _names(shared: dict[str, tuple[int, int]]) -> str:
    return ", ".join(list(shared)[:_SHOWN]) + (" ..." if len(shared) > _SHOWN else "")
