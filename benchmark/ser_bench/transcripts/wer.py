"""Word error rates of machine text against human text: counts, rates with intervals, tables, one row an utterance.

A rate is always a ratio of summed counts (``ser_bench.transcripts.counts``), never a mean of rates.

Letters: n utterances, K clusters.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from ser_bench.cache import atomic_write
from ser_bench.errors import TranscriptError
from ser_bench.scoring.resampling import FEW, cluster_ids, jackknife, join_small, t_quantile
from ser_bench.transcripts.counts import COLUMNS, Counts, count_errors
from ser_bench.transcripts.normalise import normaliser

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ser_bench.interface import Rows

WITHHELD = "withheld"
"""The emotion class of utterances whose class the release does not tell."""
_MOST_REACH = 10.0  # e^10 times the rate is as good as no bound, and still a number that JSON holds
_DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class Group:
    """The utterances of one gender or emotion class."""

    utterances: int
    """All of them, also those without a reference."""
    words: int
    errors: int

    @property
    def value(self) -> float | None:
        """Word error rate; None without words."""
        return _ratio(self.errors, self.words)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts and the rate (JSON types)."""
        return asdict(self) | {"value": _round(self.value)}


@dataclass(frozen=True, kw_only=True, eq=False)
class PartitionWer:
    """The word error rate of one partition. Every sum is over the utterances whose reference has words."""

    partition: str
    utterance: tuple[str, ...]
    """n names."""
    counts: Counts
    """Of each utterance."""
    value: float | None
    """Word error rate, errors / words, 0 or more (insertions take it over 1); None without words."""
    ci95: tuple[float, float] | None
    """Interval of ``value`` over clusters; None with fewer than two of them, or without any error."""
    clusters: int
    """K, after joining small ones; the interval rests on few under 20."""
    words: int
    errors: int
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    characters: int
    character_errors: int
    cer: float | None
    """Character error rate, character_errors / characters; None without words."""
    empty_references: int
    """Utterances whose reference has no words once normalised."""
    words_on_empty: int
    """Words recognised in those; in no rate."""
    without_reference: int
    """Utterances that have no human transcript."""
    empty_hypotheses: int
    """Utterances whose reference has words and whose machine text has none: all deletions."""
    gender: dict[str, Group]
    emotion: dict[str, Group]
    """By class letter, or ``withheld``."""
    normaliser: str

    def as_record(self) -> dict[str, Any]:
        """Return the block that stands under ``transcripts.wer`` in a record (JSON types)."""
        return {
            "value": _round(self.value),
            "ci95": None if self.ci95 is None else [_round(limit) for limit in self.ci95],
            "errors": self.errors,
            "words": self.words,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "empty_references": self.empty_references,
            "without_reference": self.without_reference,
            "cer": _round(self.cer),
            "normaliser": self.normaliser,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the record's block and all else that is known of the partition as a whole (JSON types)."""
        return self.as_record() | {
            "utterances": len(self.utterance),
            "clusters": self.clusters,
            "characters": self.characters,
            "character_errors": self.character_errors,
            "words_on_empty": self.words_on_empty,
            "empty_hypotheses": self.empty_hypotheses,
            "gender": {name: group.as_dict() for name, group in self.gender.items()},
            "emotion": {name: group.as_dict() for name, group in self.emotion.items()},
        }


def partition_wer(rows: Rows, human: Sequence[str | None], text: Sequence[str | None]) -> PartitionWer:
    """Compare the machine text of a partition with its human text.

    Args:
        rows: the n utterances, for names, clusters and groups.
        human: [n] references; None where the release has no transcript.
        text: [n] machine text; an empty string where nothing was recognised.

    Raises:
        TranscriptError: an utterance has no machine text (None), or the lengths differ.
    """
    if not len(rows) == len(human) == len(text):
        raise TranscriptError(
            f"{rows.partition} has {len(rows):,} utterances, and {len(human):,} human and {len(text):,} machine"
            " transcripts were given; expected one of each for every utterance, in the order of the rows."
        )
    missing = [name for name, hypothesis in zip(rows.utterance, text, strict=True) if hypothesis is None]
    if missing:
        raise TranscriptError(
            f"{len(missing):,} of {len(rows):,} {rows.partition} utterances have no machine transcript (first:"
            f" {missing[0]}); a word error rate needs one for each, empty where nothing was recognised. Make the"
            " missing ones with `ser-bench transcribe --corpus DIR --asr NAME`."
        )
    counts = count_errors(human, [hypothesis or "" for hypothesis in text])
    sums: dict[str, Any] = {name: int(getattr(counts, name).sum()) for name in ("errors", *COLUMNS)}
    by_cluster = _by_cluster(cluster_ids(rows.speaker, rows.podcast), counts.words, counts.errors)
    spoken = counts.words > 0
    return PartitionWer(
        partition=rows.partition,
        utterance=tuple(rows.utterance),
        counts=counts,
        value=_ratio(sums["errors"], sums["words"]),
        ci95=interval(*by_cluster),
        clusters=len(by_cluster[0]),
        **sums,
        cer=_ratio(sums["character_errors"], sums["characters"]),
        empty_references=int((counts.referenced & ~spoken).sum()),
        without_reference=int((~counts.referenced).sum()),
        empty_hypotheses=int((spoken & (counts.hits + counts.substitutions + counts.insertions == 0)).sum()),
        gender=_groups(counts, rows.gender),
        emotion=_groups(counts, [name or WITHHELD for name in rows.emotion]),
        normaliser=normaliser(),
    )


def interval(words: NDArray[np.int64], errors: NDArray[np.int64]) -> tuple[float, float] | None:
    """Return the 95 % interval of summed errors / summed words: a jackknife-t over clusters on the log.

    A cluster's share is its share of the words. Of the two counts of freedom that ``jackknife`` joins the lesser is
    taken; docs/statistics.md says why, and how often the interval holds.

    Args:
        words: [K], each more than 0.
        errors: [K].

    Returns:
        (low, high), or None with fewer than two clusters or without errors, whose spread then cannot be seen.
    """
    total = errors.sum()
    if len(words) < 2 or total == 0:
        return None
    # Where one cluster has all errors, half an error stands for the none that are left, so that the log is finite.
    left_out = np.maximum(total - errors, 0.5) / (words.sum() - words)
    value = total / words.sum()
    variance, freedom = jackknife(np.log(value), np.log(left_out), words)
    by_size = words.sum() ** 2 / (words.astype(np.float64) ** 2).sum() - 1
    lesser = np.minimum(by_size, freedom**2 / by_size)  # ``freedom`` is the geometric mean of the two
    factor = np.exp(min(float(t_quantile(lesser, 0.95) * np.sqrt(variance)), _MOST_REACH))
    return float(value / factor), float(value * factor)


def paired_difference(
    a: Counts, b: Counts, clusters: Sequence[str], *, level: float = 0.95
) -> tuple[float, tuple[float, float] | None]:
    """Return how much higher the word error rate of a is than that of b on the same utterances, with its interval.

    A jackknife-t over clusters on the difference itself (docs/statistics.md has its coverage).

    Args:
        a: counts of one source.
        b: counts of another, against the same references.
        clusters: [n] names (``scoring.cluster_ids``); small ones are joined.
        level: coverage.

    Returns:
        The difference, and (low, high), or None with fewer than two clusters.

    Raises:
        TranscriptError: the two are not of the same references, or these have no words.
    """
    if not np.array_equal(a.words, b.words) or not len(a) == len(clusters):
        raise TranscriptError(
            f"the two word error rates cannot be paired: {len(a):,} utterances with {a.words.sum():,} reference words,"
            f" {len(b):,} with {b.words.sum():,}, and {len(clusters):,} clusters are named. Both must be of the same"
            " utterances in the same order, against the same human text."
        )
    words, errors = _by_cluster(clusters, a.words, a.errors - b.errors)
    if not len(words):
        raise TranscriptError(
            f"none of the {len(a):,} utterances has a reference with words, so there are no word error rates to"
            " compare. Give utterances with human text."
        )
    value = errors.sum() / words.sum()
    if len(words) < 2:
        return float(value), None
    left_out = (errors.sum() - errors) / (words.sum() - words)
    variance, freedom = jackknife(value, left_out, words)
    reach = float(t_quantile(freedom, level) * np.sqrt(variance))
    return float(value), (float(value) - reach, float(value) + reach)


def wer_tables(parts: Mapping[str, PartitionWer]) -> str:
    """Return the rates by partition, gender and emotion class, to be read by people."""
    heads = ["partition", "utterances", "words", "WER %", "95 % interval", "ins", "del", "sub", "CER %"]
    lines = []
    for name, part in parts.items():
        sums = (part.insertions, part.deletions, part.substitutions)
        counted = [f"{count:,}" for count in (len(part.utterance), part.words)]
        between = "-" if part.ci95 is None else " .. ".join(map(_percent, part.ci95))
        lines.append([name, *counted, _percent(part.value), between, *(f"{count:,}" for count in sums)])
        lines[-1] += [_percent(part.cer), f"{part.empty_references:,}", f"{part.without_reference:,}"]
    tables = [_table([*heads, "empty references", "without reference"], lines)]
    for by in ("gender", "emotion"):
        lines = [
            [name, key, f"{g.utterances:,}", f"{g.words:,}", f"{g.errors:,}", _percent(g.value)]
            for name, part in parts.items()
            for key, g in getattr(part, by).items()
        ]
        tables.append(_table(["partition", by, "utterances", "words", "errors", "WER %"], lines))
    return "\n\n".join([*tables, "\n".join(_remarks(parts))])


def write_utterances(path: Path, parts: Mapping[str, PartitionWer]) -> None:
    """Write one row an utterance to a Parquet file: its counts, and its rate, null where its reference has no words.

    Rows are sorted by utterance and partition, and the same counts give the same bytes. The columns of counts sum to
    the partition's counts.

    Raises:
        StoreError: the file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    names = [(name, key) for key, part in parts.items() for name in part.utterance]
    order = sorted(range(len(names)), key=names.__getitem__)
    columns: dict[str, Any] = {head: [names[i][n] for i in order] for n, head in enumerate(("utterance", "partition"))}
    for column in ("referenced", *COLUMNS, "wer"):
        values = np.concatenate([getattr(part.counts, column) for part in parts.values()])
        columns[column] = pyarrow.array(values[order], from_pandas=True)  # NaN becomes null
    table = pyarrow.table(columns).replace_schema_metadata({"normaliser": normaliser()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    atomic_write(path, buffer.getvalue())


def _by_cluster(
    clusters: Sequence[str], words: NDArray[np.int64], errors: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return words [K] and errors [K] of each cluster, over the utterances whose reference has words."""
    spoken = np.flatnonzero(words)
    named = [clusters[i] for i in spoken.tolist()]
    joined = join_small(Counter(named))
    names, which = np.unique(np.array([joined[name] for name in named], dtype=str), return_inverse=True)
    sums = np.zeros((2, len(names)), dtype=np.int64)
    np.add.at(sums[0], which, words[spoken])
    np.add.at(sums[1], which, errors[spoken])
    return sums[0], sums[1]


def _groups(counts: Counts, keys: Sequence[str]) -> dict[str, Group]:
    of = np.array(keys, dtype=str)
    errors = counts.errors
    return {
        key: Group(
            utterances=int((of == key).sum()),
            words=int(counts.words[of == key].sum()),
            errors=int(errors[of == key].sum()),
        )
        for key in sorted(set(keys))
    }


def _remarks(parts: Mapping[str, PartitionWer]) -> list[str]:
    """Return what stands under the tables."""
    remarks = [f"Normaliser: {', '.join(sorted({part.normaliser for part in parts.values()}))}."]
    few = {name: f"{part.clusters}" for name, part in parts.items() if part.words and part.clusters < FEW}
    told = {
        "Few clusters (speakers, else podcasts) for an interval": few,
        "Words recognised on empty references (in no rate)": _counted(parts, "words_on_empty"),
        "Utterances with a reference and no recognised word": _counted(parts, "empty_hypotheses"),
    }
    for what, counts in told.items():
        if counts:
            remarks.append(f"{what}: {', '.join(f'{name} {count}' for name, count in counts.items())}.")
    return remarks


def _counted(parts: Mapping[str, PartitionWer], what: str) -> dict[str, str]:
    return {name: f"{getattr(part, what):,}" for name, part in parts.items() if getattr(part, what)}


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    align = ["left" if head in ("partition", "gender", "emotion") else "right" for head in heads]
    return tabulate(lines, headers=heads, colalign=align if lines else None, disable_numparse=True)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}"


def _ratio(errors: int, of: int) -> float | None:
    return errors / of if of else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
