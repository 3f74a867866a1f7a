"""A study before it is made: its steps, what they share, what they will take, and the commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from ser_bench.studies.estimate import Estimate, estimate
from ser_bench.studies.options import Options
from ser_bench.studies.steps import Steps, Study, steps
from ser_bench.suite.planned import Progress


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What ``--dry-run`` shows."""

    study: str
    steps: Steps
    estimate: Estimate
    cache: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
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
        commands += [run["command"] for run in told["runs"] if run["state"] == "to do" and run["command"]]
        commands += [one["command"] for one in told["scorings"] if one["state"] == "to do"]
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
                "command": shlex.join(["ser-bench", *one.spec.words(one.seed, str(one.folder), self.cache)]),
            }
            for one in self.steps.planned
        ]
        later = [cell for cell in self.steps.cells if cell.key not in self.steps.folders]
        return rows + [
            {
                "key": cell.key, "seed": seed, "run": None, "state": "after its transcription", "shares": cell.shares,
                "command": None,
            }
            for cell in later
            for seed in cell.spec.seeds
        ]  # fmt: skip


def preview(study: Study, options: Options, progress: Progress | None = None) -> Preview:
    """Look at a study without making it.

    Raises:
        StudyError, SuiteError: as ``steps``.
    """
    need = steps(study, options, progress)
    cache = None if options.cache is None else str(options.cache)
    return Preview(study=study.name, steps=need, estimate=estimate(need, options), cache=cache)
