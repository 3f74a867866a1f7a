"""What a study comes down to: transcriptions, runs, and runs scored again; which of them are done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ser_bench import conditions, records
from ser_bench.cache import cache_root
from ser_bench.corpus import Release
from ser_bench.corpus.demo import cached_demo
from ser_bench.errors import StudyError
from ser_bench.locks import held
from ser_bench.records import Json
from ser_bench.studies.options import Cell, Options, Scoring
from ser_bench.studies.report import Report
from ser_bench.suite import Planned, plan
from ser_bench.suite.planned import Progress
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
    folder: Path
    done: bool
    words: tuple[str, ...]


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

    @cached_property
    def folders(self) -> dict[str, Path]:
        """By cell that is planned, its run folder."""
        return {cell.key: one.folder for cell in self.cells for one in self.planned if one.spec is cell.spec}

    def require_resumable(self, resume: bool) -> None:
        """Refuse to go on with what was begun, unless asked.

        Raises:
            StudyError: a seed was begun, is not finished, and nobody works on it.
        """
        begun = [one for one in self.planned if not one.finished and (one.folder / f"seed-{one.seed}").exists()]
        idle = [one for one in begun if not held(one.folder / f"seed-{one.seed}")]
        if idle and not resume:
            raise StudyError(
                f"{len(idle)} of {len(self.planned)} trainings were begun and are not finished (first: {idle[0]}). "
                "Go on with them by adding --resume."
            )


def check(study: Study, options: Options) -> None:
    """Refuse options that the study does not take.

    Raises:
        StudyError: one was given, or there are no seeds.
    """
    if options.seeds < 1:
        raise StudyError(f"--seeds {options.seeds} was given; expected how many, 1 or more.")
    for name in _OWN:
        if name not in study.takes and getattr(options, name) != getattr(DEFAULTS, name):
            flag = "--set head_recipe" if name == "head_changes" else f"--{name}"
            words = ", ".join(sorted(study.takes))
            raise StudyError(f"{flag} was given; {study.name} has no use for it (it takes {words}). Leave it out.")


def steps(study: Study, options: Options, progress: Progress | None = None) -> Steps:
    """Find what a study needs, and what of it is done; nothing is trained or written.

    Raises:
        StudyError: as ``check``, or two of its runs are the same one.
        SuiteError: runs that cannot be made; all at once.
    """
    check(study, options)
    cells, scorings = study.cells(options), study.scorings(options)
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
    scores = [_score(s, own.folders[s.of], options) for s in scorings if s.of in own.folders and s not in own.left_out]
    return dataclasses.replace(own, scores=tuple(scores))


def record_of(folder: Path, seeds: Sequence[int]) -> Json:
    """Return the record of some seeds of a run folder, which may hold more.

    Raises:
        RecordError: one is not finished.
    """
    results = [records.read_json(folder / f"seed-{seed}" / "result.json") for seed in seeds]
    return records.assemble(records.read_json(folder / "settings.json"), results, created=records.now())


def _score(scoring: Scoring, run: Path, options: Options) -> Score:
    name = records.safe_name(f"{run.name}-on-{scoring.transcripts}-{scoring.condition}")
    folder = options.runs / "scored" / name
    words = ["score", "--run", str(run), "--corpus", options.corpus, "--transcripts", scoring.transcripts]
    words += ["--condition", scoring.condition] if scoring.condition != "clean" else []
    given = {"release": options.release, "device": options.device, "cache": options.cache}
    words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    words += ["--frames", options.frames] if options.frames != "store" else []
    seeds = range(1, options.seeds + 1)
    done = all((folder / f"seed-{seed}" / "result.json").exists() for seed in seeds)
    return Score(scoring=scoring, folder=folder, done=done, words=(*words, "--out", str(folder)))


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
            heard = conditions.parse(condition, cache=self.options.cache)
            self._found[condition] = sources_of(
                self._release, condition=heard, corpus=self.options.corpus, cache=cache_root(self.options.cache)
            )
        return any(source in (label, label.partition("@")[0]) for label in self._found[condition])

    def transcription(self, source: str | None, condition: str) -> Transcription | None:
        """Return what makes a source's texts; None where it is not a model known by name."""
        if source is None or source not in known_names():
            return None
        words = ["transcribe", "--corpus", self.options.corpus, "--asr", source]
        given: dict[str, Any] = {"condition": None if condition == "clean" else condition}
        given |= {"release": self.options.release, "device": self.options.device, "cache": self.options.cache}
        words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
        return Transcription(asr=source, condition=condition, words=tuple(words))
