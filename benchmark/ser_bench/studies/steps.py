"""What a study comes down to: transcriptions, runs, and runs scored again; which of them are done."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ser_bench import conditions, records
from ser_bench.cache import cache_root
from ser_bench.corpus import Release
from ser_bench.corpus.demo import cached_demo
from ser_bench.corpus.texts import texts_digest
from ser_bench.errors import StudyError
from ser_bench.host import host
from ser_bench.locks import begun, held
from ser_bench.records import Json
from ser_bench.studies.options import Cell, Options, Scoring
from ser_bench.studies.report import Report
from ser_bench.suite import Planned, RunSpec, plan
from ser_bench.suite.planned import Progress
from ser_bench.transcripts import store
from ser_bench.transcripts.measure import sources_of
from ser_bench.transcripts.models import known_names
from ser_bench.transcripts.source import RESERVED

DEFAULTS = Options(corpus="")
_OWN = ("systems", "audio", "exact", "transcripts", "conditions", "head_changes")
"""Options that not every study takes."""


class Study(Protocol):
    """One table or figure of the paper."""

    name: str
    title: str
    takes: frozenset[str]
    """Which of the options that not every study takes."""

    def cells(self, options: Options) -> list[Cell]:
        """Return the runs it needs."""

    def scorings(self, options: Options) -> list[Scoring]:
        """Return which of them are to be scored elsewhere."""

    def report(self, found: Mapping[str, Json], options: Options) -> Report:
        """Make the report from the records of runs and scorings, by key."""


@dataclass(frozen=True, kw_only=True)
class Transcription:
    """Texts that are not there yet and that a Whisper model known by name can make."""

    asr: str
    condition: str
    words: tuple[str, ...]
    """After ``ser-bench``."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A scoring, and where it goes."""

    scoring: Scoring
    run: Path
    """The folder of the run that is scored."""
    folder: Path
    seeds: tuple[int, ...]
    words: tuple[str, ...]
    texts_sha256: str | None
    """Digest of the machine texts that are to be read; None for others."""

    @property
    def done(self) -> bool:
        """Whether all seeds are scored."""
        return all(_result(self.folder, seed).exists() for seed in self.seeds)

    def stale(self) -> str | None:
        """Say what is scored of another training, or on other texts, than would be scored now."""
        scored = [seed for seed in self.seeds if _result(self.folder, seed).exists()]
        for seed in scored:
            trained = _predictions(self.run, seed)
            if trained is not None and records.read_json(_result(self.folder, seed)).get("source") != trained:
                return f"{self.folder / f'seed-{seed}'} was scored with an earlier training of {self.run}"
        if scored and self.texts_sha256 is not None:
            read = records.read_json(self.folder / "settings.json")["made_of"]["transcripts_sha256"]
            if read != self.texts_sha256:
                return f"{self.folder} was scored on other texts of {self.scoring.transcripts} than there are now"
        return None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """A study's steps, in order."""

    transcriptions: tuple[Transcription, ...]
    cells: tuple[Cell, ...]
    """All runs; those that want transcriptions first are not in ``planned``."""
    planned: tuple[Planned, ...]
    scores: tuple[Score, ...]
    left_out: tuple[Scoring, ...]
    """Scorings for which nobody can make the transcripts by name."""
    later: tuple[Scoring, ...] = ()
    """Scorings of runs that are not in ``planned``."""

    @cached_property
    def folders(self) -> dict[str, Path]:
        """By cell that is planned, its run folder."""
        return {cell.key: one.folder for cell in self.cells for one in self.planned if one.spec is cell.spec}

    @property
    def waiting(self) -> list[Cell]:
        """Runs that want transcriptions first."""
        return [cell for cell in self.cells if cell.key not in self.folders]

    def require_current(self) -> None:
        """Refuse to report on what was made of an earlier training, or of other texts, than there are now.

        Raises:
            StudyError: names the first such folder. Nothing is removed here: it may be all that is left of a training.
        """
        found = [told for told in (*(score.stale() for score in self.scores), self._stale_second_stage()) if told]
        if found:
            raise StudyError(f"{found[0]}. Remove that folder; the same command with --resume makes it again.")

    def _stale_second_stage(self) -> str | None:
        """Say which seed of an FT=>FRZ run keeps an encoder that its first stage no longer has."""
        written = {one.folder: one.folder / "settings.json" for one in self.planned}
        settings = {folder: records.read_json(path) for folder, path in written.items() if path.exists()}
        firsts = {records.digest(found, 8): folder for folder, found in settings.items()}
        for one in self.planned:
            run = settings.get(one.folder, {}).get("first_stage")
            first = None if run is None else firsts.get(run["settings"])
            if first is None or _predictions(first, one.seed) is None or _predictions(one.folder, one.seed) is None:
                continue
            kept = records.read_json(_result(one.folder, one.seed))["run"]["first_stage"]
            if kept != _predictions(first, one.seed):
                return f"{one.folder / f'seed-{one.seed}'} begins with an earlier training of {first}"
        return None

    def require_resumable(self, resume: bool) -> None:
        """Refuse to go on with what was begun, unless asked.

        Raises:
            StudyError: a seed was begun, is not finished, and nobody works on it.
        """
        left = [one for one in self.planned if not one.finished and begun(one.folder / f"seed-{one.seed}")]
        idle = [one for one in left if not held(one.folder / f"seed-{one.seed}")]
        if idle and not resume:
            raise StudyError(
                f"{len(idle)} of {len(self.planned)} trainings were begun and are not finished (first: {idle[0]}). "
                "Go on with them by adding --resume."
            )


def check(study: Study, options: Options) -> None:
    """Refuse options that the study does not take.

    Raises:
        StudyError: one was given, there are no seeds, or the margin is none.
        ConditionError: there is no such condition.
    """
    if options.seeds < 1:
        raise StudyError(f"--seeds {options.seeds} was given; expected how many, 1 or more.")
    if not 0 < options.margin < math.inf:
        raise StudyError(f"--margin {options.margin:g} was given; expected a CCC above 0, such as 0.01.")
    for condition in options.conditions:
        if condition != "none":
            conditions.parse(condition, cache=options.cache)
    for name in _OWN:
        if name not in study.takes and getattr(options, name) != getattr(DEFAULTS, name):
            flag = "--set head_recipe" if name == "head_changes" else f"--{name}"
            words = ", ".join(sorted(study.takes))
            raise StudyError(f"{flag} was given; {study.name} has no use for it (it takes {words}). Leave it out.")


def steps(study: Study, options: Options, progress: Progress | None = None) -> Steps:
    """Find what a study needs, and what of it is done; nothing is trained or written.

    Raises:
        StudyError: as ``check``, two of its runs are the same one, or what is there does not belong together
            (``Steps.require_current``).
        ConditionError: as ``check``.
        SuiteError: runs that cannot be made; all at once.
    """
    check(study, options)
    cells, scorings = study.cells(options), study.scorings(options)
    _require_parts(options.weights, [cell.spec for cell in cells])
    texts = _Texts(options)
    wanted = [(cell.spec.transcripts, "clean") for cell in cells] + [(s.transcripts, s.condition) for s in scorings]
    missing = dict.fromkeys(pair for pair in wanted if not texts.there(*pair))
    makeable = {pair: texts.transcription(*pair) for pair in missing}
    ready = [cell for cell in cells if makeable.get((cell.spec.transcripts, "clean")) is None]
    # A suite adds the first stage of FT=>FRZ by itself; the study's own, which is the same run, comes after and stays.
    order = sorted(ready, key=lambda cell: cell.spec.strategy != "finetune-freeze")
    planned = plan([cell.spec for cell in order], out=options.runs, cache=options.cache, progress=progress)
    places = {id(cell.spec): place for place, cell in enumerate(cells)}
    planned.sort(key=lambda one: places.get(id(one.spec), len(cells)))
    own = Steps(
        transcriptions=tuple(step for step in makeable.values() if step is not None),
        cells=tuple(cells),
        planned=tuple(planned),
        scores=(),
        left_out=tuple(s for s in scorings if makeable.get((s.transcripts, s.condition), "there") is None),
    )
    lost = [cell.key for cell in ready if cell.key not in own.folders]
    if lost:
        raise StudyError(f"'{lost[0]}' is the same run as another of this study. Name each system and source once.")
    possible = [scoring for scoring in scorings if scoring not in own.left_out]
    there = [s for s in possible if s.of in own.folders]
    need = dataclasses.replace(
        own,
        scores=tuple(_score(s, own.folders[s.of], options, texts) for s in there),
        later=tuple(s for s in possible if s not in there),
    )
    need.require_current()
    return need


def _require_parts(weights: Sequence[str], specs: Sequence[RunSpec]) -> None:
    """Refuse weights of a part that no system has; audio and text are known, whether a study reads both or not."""
    parts = dict.fromkeys(part for spec in specs for part in (host().plan(spec.plugin).parts if spec.plugin else ()))
    for word in weights:
        part, equals, _ = word.partition("=")
        if equals and part not in (*parts, "audio", "text"):
            has = ", ".join(parts or ("audio",))
            raise StudyError(f"--weights {word} names the part '{part}'; the systems of this study have {has}.")


def record_of(folder: Path, seeds: Sequence[int]) -> Json:
    """Return the record of some seeds of a run folder, which may hold more.

    Raises:
        RecordError: one is not finished.
    """
    results = [records.read_json(folder / f"seed-{seed}" / "result.json") for seed in seeds]
    return records.assemble(records.read_json(folder / "settings.json"), results, created=records.now())


def _result(run: Path, seed: int) -> Path:
    return run / f"seed-{seed}" / "result.json"


def _predictions(run: Path, seed: int) -> str | None:
    """Return the digest of a seed's predictions; None where it is not finished."""
    path = _result(run, seed)
    return str(records.read_json(path)["run"]["predictions_sha256"]) if path.exists() else None


def score_words(scoring: Scoring, run: str, options: Options) -> list[str]:
    """Return the words after ``ser-bench`` that score a run elsewhere, but for where that goes."""
    words = ["score", "--run", run, "--corpus", options.corpus, "--transcripts", scoring.transcripts]
    words += ["--condition", scoring.condition] if scoring.condition != "clean" else []
    given = {"release": options.release, "device": options.device, "cache": options.cache}
    words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    return words + (["--frames", options.frames] if options.frames != "store" else [])


def _score(scoring: Scoring, run: Path, options: Options, texts: _Texts) -> Score:
    name = records.safe_name(f"{run.name}-on-{scoring.transcripts}-{scoring.condition}")
    folder = options.runs / "scored" / name
    return Score(
        scoring=scoring,
        run=run,
        folder=folder,
        seeds=tuple(range(1, options.seeds + 1)),
        words=(*score_words(scoring, str(run), options), "--out", str(folder)),
        texts_sha256=texts.digest(scoring.transcripts, scoring.condition),
    )


@dataclass
class _Texts:
    """Which machine transcripts are there."""

    options: Options
    _found: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def _release(self) -> Release:
        place = cached_demo(self.options.cache) if self.options.corpus == "demo" else Path(self.options.corpus)
        return Release.open(place, version=self.options.release, cache=self.options.cache)

    def there(self, source: str | None, condition: str) -> bool:
        """Say whether a source holds all texts under a condition."""
        if source is None or source in RESERVED:
            return True
        if condition not in self._found:
            self._found[condition] = sources_of(
                self._release,
                condition=conditions.parse(condition, cache=self.options.cache),
                cache=self.options.cache,
                partitions=self._partitions(condition),
            )
        return any(source in (label, label.partition("@")[0]) for label in self._found[condition])

    def _partitions(self, condition: str) -> list[str]:
        """Return the partitions that must have texts: under noise nothing is trained."""
        return [name for name in self._release.partitions if condition == "clean" or name not in ("train", "test3")]

    def digest(self, source: str, condition: str) -> str | None:
        """Return the digest of a machine's texts as ``score`` has it; None for others, and where they are not there."""
        if source in RESERVED or not self.there(source, condition):
            return None
        key, root = conditions.parse(condition, cache=self.options.cache).key, cache_root(self.options.cache)
        found = store.texts(root, source, key, self._release.audio_digests, corpus=self.options.corpus)
        names = [name for name in self._release.partitions if condition == "clean" or name != "train"]
        read = {u for name in names for u in self._release.rows(name, texts={}).utterance}
        return texts_digest({utterance: heard.text for utterance, heard in found.items() if utterance in read})

    def transcription(self, source: str | None, condition: str) -> Transcription | None:
        """Return what makes a source's texts; None where it is not a model known by name."""
        if source is None or source not in known_names():
            return None
        words = ["transcribe", "--corpus", self.options.corpus, "--asr", source]
        words += [] if condition == "clean" else ["--partitions", *self._partitions(condition)]
        given: dict[str, Any] = {"condition": None if condition == "clean" else condition}
        given |= {"release": self.options.release, "device": self.options.device, "cache": self.options.cache}
        words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
        return Transcription(asr=source, condition=condition, words=tuple(words))
