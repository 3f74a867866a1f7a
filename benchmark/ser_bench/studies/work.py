"""Make a study: transcribe what is missing, train, score elsewhere, report. Each step that is done is skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_bench.errors import StudyError
from ser_bench.studies import report
from ser_bench.studies.figure2 import Figure2
from ser_bench.studies.figure3 import Figure3
from ser_bench.studies.options import Options
from ser_bench.studies.steps import Study, record_of, steps
from ser_bench.studies.table1 import Table1
from ser_bench.studies.table2 import Table2
from ser_bench.suite import Outcome, execute, require_success
from ser_bench.suite import work as suites
from ser_bench.suite.child import reason
from ser_bench.suite.planned import Progress

STUDIES: dict[str, Study] = {study.name: study for study in (Table1(), Table2(), Figure2(), Figure3())}
_AGAIN = "the same command with --resume"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A study that is complete."""

    report: report.Report
    files: tuple[Path, ...]
    outcomes: tuple[Outcome, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "study": self.report.study,
            "files": [str(path) for path in self.files],
            "claims": {one.name: one.verdict for one in self.report.claims},
            "runs": [outcome.as_dict() for outcome in self.outcomes],
        }


def make(
    name: str,
    options: Options,
    *,
    out: Path,
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    told: Callable[[Outcome], None] | None = None,
) -> Made:
    """Make a study and write its report.

    Args:
        name: of ``STUDIES``.
        options: what may be chosen.
        out: takes the report.
        resume: go on with seeds that were begun; finished ones are left as they are in any case.
        jobs: runs at once (``suite.execute``).
        progress: told of everything that takes long.
        told: called with each run's outcome.

    Raises:
        StudyError: what is asked for makes no sense, a step failed, or what is there does not belong together.
        SuiteError: runs that cannot be made, or failed.
        KeyboardInterrupt: after those that run have saved.
    """
    study, logs = STUDIES[name], options.runs / "logs"
    need = steps(study, options, progress)
    need.require_resumable(resume)
    for step in need.transcriptions:
        _call(list(step.words), logs / f"transcribe-{step.asr}.log", f"transcribing with {step.asr} ({step.condition})")
    if need.transcriptions:
        need = steps(study, options, progress)
        need.require_resumable(resume)
    outcomes = execute(need.planned, out=options.runs, jobs=jobs, cache=options.cache, progress=progress, told=told)
    require_success(outcomes, logs, again=_AGAIN)
    need.require_current()  # what was trained just now, too
    to_score = [one for one in need.scores if not one.done]
    for number, one in enumerate(to_score, start=1):
        _call(list(one.words), logs / f"{one.folder.name}.log", f"scoring '{one.scoring.key}'")
        if progress is not None:
            progress("scored elsewhere", number, len(to_score))
    seeds = range(1, options.seeds + 1)
    places = {**need.folders, **{one.scoring.key: one.folder for one in need.scores}}
    found = {key: record_of(folder, seeds) for key, folder in places.items()}
    made = study.report(found, options)
    files = report.write(made, out, found, options.margin)
    return Made(report=made, files=tuple(files), outcomes=tuple(outcomes))


def _call(words: list[str], log: Path, doing: str) -> None:
    """Run ``ser-bench WORDS`` to its end.

    Raises:
        StudyError: it failed.
        KeyboardInterrupt: it, or this process, was interrupted.
    """
    start = log.stat().st_size if log.exists() else 0
    code = suites.call(words, log)
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        raise StudyError(f"{doing} failed: {reason(code, log, start, None)} The log is {log}; {_AGAIN} goes on.")
