"""Recompute what records say from their predictions and a release's labels: agree, differ, or cannot be checked.

Whoever holds the corpus can do this for every published row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tabulate import tabulate

from ser_bench import records, tables
from ser_bench.consistency import trained_attributes
from ser_bench.errors import RecordError, ScoreError
from ser_bench.interface import ATTRIBUTES, Rows
from ser_bench.leaderboard.board import find, predictions_file, record_files
from ser_bench.leaderboard.submission import check_predictions, names_by_partition
from ser_bench.scoring.ceiling import ceiling
from ser_bench.scoring.partition import match, score_partition
from ser_bench.scoring.utterances import grain

if TYPE_CHECKING:
    from ser_bench.corpus import Release

Result = Literal["agree", "differ", "cannot be checked"]
Texts = Callable[[str, str], Mapping[str, str] | None]
"""(transcript source, condition) -> text by utterance, or None where this machine has none."""
_TOLERANCE = 2e-6  # another machine may round the last of six decimals the other way
_THOUSANDTH = 1.1e-3  # limits over utterances are drawn, and then rounded twice
_WITHOUT_CLUSTERS = ("intervals", "clusters", "resampling", "slices: speakers")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that a record says, and whether it is so."""

    record: str
    seed: int | None
    """None for what is about all seeds."""
    partition: str | None
    what: str
    result: Result
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All lines, and how to show them."""

    lines: tuple[Line, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing differs."""
        return not any(line.result == "differ" for line in self.lines)

    def text(self) -> str:
        """Return one row for each record, seed and partition, then what does not agree and why."""
        rows: dict[tuple[str, ...], dict[str, int]] = {}
        for line in self.lines:
            key = (line.record, "all" if line.seed is None else str(line.seed), line.partition or "-")
            counts = rows.setdefault(key, dict.fromkeys(("agree", "differ", "cannot be checked"), 0))
            counts[line.result] += 1
        heads = ["record", "seed", "partition", "agree", "differ", "cannot be checked"]
        shown = [[*key, *(str(count or "-") for count in counts.values())] for key, counts in rows.items()]
        parts = [tabulate(shown, headers=heads, disable_numparse=True)]
        rest = [line for line in self.lines if line.result != "agree"]
        if rest:
            parts.append(tabulate([_cells(line) for line in rest], headers=_HEADS, disable_numparse=True))
        totals = {word: sum(line.result == word for line in self.lines) for word in ("agree", "differ")}
        unknown = len(rest) - totals["differ"]
        parts.append(f"{totals['agree']:,} agree, {totals['differ']:,} differ, {unknown:,} cannot be checked")
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return every line as JSON types."""
        return {"sound": self.sound, "lines": [dataclasses.asdict(line) for line in self.lines]}


_HEADS = ["record", "seed", "partition", "what", "result", "why"]


def _cells(line: Line) -> list[str]:
    seed = "all" if line.seed is None else str(line.seed)
    return [line.record, seed, line.partition or "-", line.what, line.result, line.why]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A record to verify, and where its predictions lie."""

    name: str
    record: records.Json
    predictions: dict[int, Path]
    """By seed; none where they are withheld."""


def targets(leaderboard: Path, given: Sequence[str] = ()) -> list[Target]:
    """Find the records to verify.

    Args:
        leaderboard: its folder.
        given: run folders, record files, or names of records on the leaderboard; none: all records of it.

    Raises:
        RecordError: one is not there or malformed, or there is none.
    """
    found = [_target(word, leaderboard) for word in given] or [_published(path) for path in record_files(leaderboard)]
    if not found:
        raise RecordError(
            f"{leaderboard} holds no record to verify. Name a run folder, a record, or a leaderboard by --leaderboard."
        )
    return found


def _target(word: str, leaderboard: Path) -> Target:
    path, record = find(word, leaderboard)
    if path.name != "record.json":
        return _published(path)
    files = {one["seed"]: path.with_name(f"seed-{one['seed']}") / "predictions.parquet" for one in record["runs"]}
    return Target(name=path.parent.name, record=record, predictions=files)


def _published(path: Path) -> Target:
    record = records.read(path)
    files = {}
    if record.get("predictions") != "withheld":
        folder, seeds = path.parent.parent, [one["seed"] for one in record["runs"]]
        files = {seed: predictions_file(folder, path.stem, seed) for seed in seeds}
    return Target(name=path.stem, record=record, predictions=files)


def verify(
    release: Release,
    found: Sequence[Target],
    *,
    texts: Texts = lambda source, condition: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Recompute what records say.

    Args:
        release: with labels; audio adds the slices by duration, its per-rater table the ceiling.
        found: see ``targets``.
        texts: finds the texts of an ASR system, for word error rates and the slices by it.
        progress: told after each record.
    """
    lines: list[Line] = []
    for number, target in enumerate(found, start=1):
        lines += _Verifier(release, target, texts).lines()
        if progress is not None:
            progress("records", number, len(found))
    return Report(lines=tuple(lines))


class _Verifier:
    """One record against one release."""

    def __init__(self, release: Release, target: Target, texts: Texts) -> None:
        self._release, self._target, self._record = release, target, target.record
        self._texts = texts
        self._found: list[Line] = []

    def lines(self) -> list[Line]:
        """Return all lines of the record."""
        corpus = self._record["corpus"]
        if corpus["labels_sha256"] != self._release.labels_sha256:
            mine, its = self._release.labels_sha256[:8], corpus["labels_sha256"][:8]
            self._say("labels", "cannot be checked", f"the record is of labels {its}, and this release has {mine}")
            return self._found
        self._say("labels", "agree")
        self._clusters = corpus["clusters_sha256"] == self._release.clusters_sha256
        self._say("clusters", *(("agree",) if self._clusters else _other_clusters(corpus, self._release)))
        has = self._release.partitions
        self._rows = {name: self._release.rows(name) for name in corpus["partitions"] if name in has}
        self._columns = {one["seed"]: self._read(one) for one in self._record["runs"]}
        found = [columns for columns in self._columns.values() if isinstance(columns, dict)]
        self._predicted = names_by_partition(found[0]) if found else {}
        self._counts()
        self._wer = self._word_errors()
        self._ceiling()
        for one in self._record["runs"]:
            self._seed(one)
        self._compare("summary", self._record["summary"], records.summary(self._record["runs"]))
        return self._found

    def _say(
        self, what: str, result: Result, why: str = "", *, seed: int | None = None, partition: str | None = None
    ) -> None:
        line = Line(record=self._target.name, seed=seed, partition=partition, what=what, result=result, why=why)
        self._found.append(line)

    def _compare(
        self,
        what: str,
        stands: Any,
        made: Any,
        *,
        seed: int | None = None,
        partition: str | None = None,
        tolerance: float = _TOLERANCE,
    ) -> None:
        words = ("in the record", "recomputed")
        apart = records.differences(stands, made, what, words=words, tolerance=tolerance)
        more = f" (and {len(apart) - 1} more)" if len(apart) > 1 else ""
        why = apart[0][:200] + more if apart else ""
        self._say(what, "differ" if apart else "agree", why, seed=seed, partition=partition)

    def _counts(self) -> None:
        for name, stated in self._record["corpus"]["partitions"].items():
            listed = self._release.counts.get(name, 0)
            left = 0 if name == "test3" and stated["scored"] == 0 else listed - stated["missing"]
            said = {"listed": stated["listed"], "scored": stated["scored"]}
            self._compare("counts", said, {"listed": listed, "scored": left}, partition=name)

    def _word_errors(self) -> dict[str, Any]:
        """Compare word error rates; return each utterance's, by partition, where this machine has the texts."""
        from ser_bench.transcripts.wer import partition_wer

        stated = self._record["transcripts"]["wer"]
        if stated is None:
            return {}
        source, condition = self._record["transcripts"]["test"], self._record["corpus"]["condition"]
        heard, human = self._texts(source, condition), self._release.transcripts
        found = {}
        for name, block in stated.items():
            rows = self._scored(name) if name in self._rows else None
            if rows is None or heard is None or not human or not heard.keys() >= set(rows.utterance):
                lacking = "human transcripts" if not human else f"texts of {source} under {condition}"
                self._say("wer", "cannot be checked", f"there are no {lacking} here", partition=name)
                continue
            said, text = ([of.get(u) for u in rows.utterance] for of in (human, heard))
            made = partition_wer(rows, said, [line or "" for line in text])
            found[name] = dict(zip(rows.utterance, made.counts.wer.tolist(), strict=True))
            self._compare("wer", block, made.as_record(), partition=name)
        return found

    def _ceiling(self) -> None:
        for name, stated in self._record.get("ceiling", {}).items():
            rows = self._scored(name) if name in self._rows else None
            if rows is None:
                self._say("ceiling", "cannot be checked", "which utterances were scored is not known", partition=name)
                continue
            said = [self._release.raters[u].values for u in rows.utterance]
            if stated is not None and not any(len(values) for values in said):
                self._say("ceiling", "cannot be checked", "this release has no per-rater table", partition=name)
                continue
            made = ceiling(said, rows.labels)
            if stated is None and made is not None:
                self._say("ceiling", "cannot be checked", "it was made without a per-rater table", partition=name)
                continue
            self._compare("ceiling", stated, made, partition=name)

    def _scored(self, name: str) -> Rows | None:
        """Return the rows that were scored; None where that cannot be told."""
        rows, stated = self._rows[name], self._record["corpus"]["partitions"][name]
        if stated["missing"] == 0:
            return rows
        known = self._predicted.get(name, set())
        kept = np.array([i for i, utterance in enumerate(rows.utterance) if utterance in known], dtype=np.int64)
        return _only(rows, kept) if len(kept) == stated["scored"] else None

    def _seed(self, one: Mapping[str, Any]) -> None:
        seed, columns = one["seed"], self._columns[one["seed"]]
        if columns is None:
            self._say("all scores", "cannot be checked", "the predictions are withheld", seed=seed)
            return
        if isinstance(columns, RecordError):
            self._say("predictions", "differ", str(columns), seed=seed)
            return
        self._say("predictions", "agree", seed=seed)
        partitions = np.array(columns["partition"])
        for name, scores in one["scores"].items():
            if name not in self._rows:
                self._say("all scores", "cannot be checked", f"this release has no {name}", seed=seed, partition=name)
                continue
            here = np.flatnonzero(partitions == name).tolist()
            given = {column: [columns[column][i] for i in here] for column in tables.COLUMNS}
            self._partition(one, name, scores, given)

    def _read(self, one: Mapping[str, Any]) -> tables.Columns | RecordError | None:
        """Return a seed's predictions, or why they are not the record's; None where they are withheld."""
        path = self._target.predictions.get(one["seed"])
        if path is None:
            return None
        try:
            columns = tables.read_predictions(path)
            check_predictions(self._record, one, columns, where=path.name)
        except RecordError as error:
            return error
        return columns

    def _partition(
        self, one: Mapping[str, Any], name: str, scores: Mapping[str, Any], given: Mapping[str, list[Any]]
    ) -> None:
        seed = one["seed"]
        rows = self._scored(name)
        if rows is None:
            rows = self._rows[name]  # which says what is missing and unknown
        try:
            order = match(rows.utterance, given["utterance"])
            values = np.array([[np.nan if v is None else v for v in given[a]] for a in ATTRIBUTES]).T[order]
            wer = self._wer.get(name)
            made = score_partition(
                values,
                rows.labels,
                rows=rows,
                attributes=trained_attributes(self._record),
                wer=None if wer is None else np.array([wer[u] for u in rows.utterance]),
            )
        except ScoreError as error:
            self._say("utterances", "differ", str(error), seed=seed, partition=name)
            return
        self._say("utterances", "agree", seed=seed, partition=name)
        silent = bool(np.isnan(rows.duration).any())
        pairs = _pairs(scores, made.as_dict()) | {"resampling": (one["resampling"][name], made.resampling)}
        for what, (stands, recomputed) in pairs.items():
            place: dict[str, Any] = {"seed": seed, "partition": name}
            if what in _WITHOUT_CLUSTERS and not self._clusters:
                self._say(what, "cannot be checked", "the clusters are others", **place)
            elif what == "slices: duration" and silent:
                self._say(what, "cannot be checked", "this copy of the release lacks audio", **place)
            elif what == "slices: wer" and wer is None:
                self._say(what, "cannot be checked", "there are no texts to count errors in", **place)
            else:
                tolerance = grain(len(rows)) + _THOUSANDTH if what == "utterance intervals" else _TOLERANCE
                self._compare(what, stands, recomputed, tolerance=tolerance, **place)


def _pairs(stands: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what is compared of one partition: by name, (in the record, recomputed)."""
    found: dict[str, tuple[Any, Any]] = {}
    for column in (*ATTRIBUTES, "mean"):
        found[f"CCC: {column}"] = _both(stands["ccc"][column], made["ccc"][column], "value")
    cells = (("intervals", "ci95"), ("utterance intervals", "ci95_utterances"))
    for what, key in cells:
        both = {c: _both(stands["ccc"][c], made["ccc"][c], key) for c in (*ATTRIBUTES, "mean")}
        found[what] = ({c: pair[0] for c, pair in both.items()}, {c: pair[1] for c, pair in both.items()})
    for kind in sorted(stands["slices"].keys() | made["slices"].keys()):
        found[f"slices: {kind}"] = (stands["slices"].get(kind), made["slices"].get(kind))
    for key in ("clusters", "calibration", "outside_range"):
        found[key] = (stands[key], made[key])
    return found


def _both(stands: Mapping[str, Any] | None, made: Mapping[str, Any] | None, key: str) -> tuple[Any, Any]:
    return (None if stands is None else stands.get(key)), (None if made is None else made.get(key))


def _other_clusters(corpus: Mapping[str, Any], release: Release) -> tuple[Result, str]:
    its, mine = corpus["clusters_sha256"][:8], release.clusters_sha256[:8]
    return "cannot be checked", f"the record is of clusters {its}, and this release has {mine}"


def _only(rows: Rows, kept: Any) -> Rows:
    """Return some of the rows."""
    if len(kept) == len(rows):
        return rows
    columns = {name: value for name, value in vars(rows).items() if name != "partition"}
    chosen: dict[str, Any] = {
        name: value[kept] if isinstance(value, np.ndarray) else [value[i] for i in kept.tolist()]
        for name, value in columns.items()
    }
    return Rows(partition=rows.partition, **chosen)
