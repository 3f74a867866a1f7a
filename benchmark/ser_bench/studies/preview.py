"""A study before it is made: its steps, what they share, what they will take, and the commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from ser_bench.records import safe_name
from ser_bench.studies.estimate import Estimate, estimate
from ser_bench.studies.options import Options
from ser_bench.studies.steps import Steps, Study, score_words, steps
from ser_bench.suite import RunSpec
from ser_bench.suite.planned import Progress

_LATER = "after its transcription"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What ``--dry-run`` shows."""

    study: str
    steps: Steps
    estimate: Estimate
    options: Options

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        specs = {cell.key: cell.spec for cell in self.steps.cells}
        return {
            "study": self.study,
            "runs": self._runs(),
            "transcriptions": [shlex.join(["ser-bench", *step.words]) for step in self.steps.transcriptions],
            "scorings": [
                {
                    "key": one.scoring.key,
                    "folder": str(one.folder),
                    "state": "finished" if one.done else "to do",
                    "command": shlex.join(["ser-bench", *one.words]),
                }
                for one in self.steps.scores
            ]
            + [
                {
                    "key": one.key,
                    "folder": None,
                    "state": _LATER,
                    "command": shlex.join(["ser-bench", *score_words(one, self._later(specs[one.of]), self.options)]),
                }
                for one in self.steps.later
            ],
            "left_out": [scoring.key for scoring in self.steps.left_out],
            "estimate": self.estimate.as_dict(),
        }

    def text(self) -> str:
        """Return it for people."""
        told = self.as_dict()
        rows = [[run[key] for key in ("key", "seed", "run", "state", "shares")] for run in told["runs"]]
        parts = [tabulate(rows, headers=["what", "seed", "run", "state", "shares"], disable_numparse=True)]
        if told["scorings"]:
            lines = [[one["key"], one["folder"], one["state"]] for one in told["scorings"]]
            parts.append(tabulate(lines, headers=["scored again, without training", "folder", "state"]))
        parts += [f"left out, for want of transcripts: {key}" for key in told["left_out"]]
        parts.append(self.estimate.text())
        commands = [*told["transcriptions"]]
        commands += [one["command"] for one in (*told["runs"], *told["scorings"]) if one["state"] != "finished"]
        parts.append("\n".join(["what it comes down to:", *commands]) if commands else "all is done")
        return "\n\n".join(parts)

    def _runs(self) -> list[dict[str, Any]]:
        shares = {cell.key: cell.shares for cell in self.steps.cells}
        keys = {id(cell.spec): cell.key for cell in self.steps.cells}
        rows = [
            {
                "key": keys.get(id(one.spec), "first stage"),
                "seed": one.seed,
                "run": str(one.folder),
                "state": "finished" if one.finished else "to do",
                "shares": shares.get(keys.get(id(one.spec), ""), ""),
                "command": self._command(one.spec, one.seed, str(one.folder)),
            }
            for one in self.steps.planned
        ]
        return rows + [
            {
                "key": cell.key, "seed": seed, "run": None, "state": _LATER, "shares": cell.shares,
                "command": self._command(cell.spec, seed, self._later(cell.spec)),
            }
            for cell in self.steps.waiting
            for seed in cell.spec.seeds
        ]  # fmt: skip

    def _command(self, spec: RunSpec, seed: int, folder: str) -> str:
        cache = None if self.options.cache is None else str(self.options.cache)
        return shlex.join(["ser-bench", *spec.words(seed, folder, cache)])

    def _later(self, spec: RunSpec) -> str:
        """Return a run folder as far as it is known before its texts are, whose digest is in its name."""
        return str(self.options.runs / f"{safe_name(spec.plugin or 'run')}-...")


def preview(study: Study, options: Options, progress: Progress | None = None) -> Preview:
    """Look at a study without making it.

    Raises:
        StudyError, SuiteError: as ``steps``.
    """
    need = steps(study, options, progress)
    return Preview(study=study.name, steps=need, estimate=estimate(need, options), options=options)
