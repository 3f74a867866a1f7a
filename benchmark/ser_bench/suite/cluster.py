"""Run the runs of a suite as jobs of a cluster, through submitit (an optional dependency)."""

from __future__ import annotations

import difflib
import importlib.util
import math
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_bench.errors import SuiteError
from ser_bench.suite.child import Call

KINDS = ("slurm", "local")
_SOON = 5.0  # seconds between questions to a cluster about a job that was asked to end
_RESTARTS = 1000  # how often a job may be stopped for its time or for others and go on: a training saves itself


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is asked of a cluster for each run; the table ``[cluster]`` of a suite's file."""

    minutes: int = 1440
    """A job that is stopped after these goes on in another, from its last checkpoint."""
    gpus: int = 1
    cpus: int = 8
    memory_gb: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    """Shell commands before each job, such as ``module load cuda``."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Other options of sbatch, by their long names."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> tuple[Cluster, list[str]]:
        """Return what a table says, and its faults."""
        kinds: dict[str, type] = dict.fromkeys(("minutes", "gpus", "cpus", "memory_gb"), int)
        kinds |= dict.fromkeys(("partition", "account", "qos", "constraint"), str) | {"setup": list, "extra": dict}
        faults = []
        for key, value in given.items():
            if key not in kinds:
                near = difflib.get_close_matches(key, kinds, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(kinds)}"
                faults.append(f"cluster.{key} is unknown ({hint})")
            elif type(value) is not kinds[key]:
                words = {int: "a whole number", str: "text", list: "a list of texts", dict: "a table"}
                faults.append(f"cluster.{key} is {value!r}, expected {words[kinds[key]]}")
        if faults:
            return cls(), faults
        values: dict[str, Any] = {k: tuple(map(str, v)) if k == "setup" else v for k, v in given.items()}
        return cls(**values), []

    def parameters(self, kind: str) -> dict[str, Any]:
        """Return what submitit's ``AutoExecutor`` is told."""
        common = {"name": "ser-bench", "timeout_min": self.minutes, "cpus_per_task": self.cpus}
        if kind == "local":  # whose GPUs the suite deals out
            return {**common, "gpus_per_node": 0}
        named = {"partition": self.partition, "account": self.account, "qos": self.qos, "constraint": self.constraint}
        own = {**named, "setup": list(self.setup) or None, "additional_parameters": dict(self.extra) or None}
        slurm = {f"slurm_{key}": value for key, value in own.items() if value is not None}
        return {**common, "gpus_per_node": self.gpus, "mem_gb": self.memory_gb, **slurm}


def require(kind: str) -> None:
    """Refuse a cluster that is unknown, or submitit's absence.

    Raises:
        SuiteError: which.
    """
    if kind not in KINDS:
        raise SuiteError(f"--cluster {kind} is unknown; give {' or '.join(KINDS)}, or leave it out for this machine.")
    if importlib.util.find_spec("submitit") is None:
        raise SuiteError(
            f"--cluster {kind} needs the package submitit, which is not installed. Install it with "
            "`pip install 'ser-bench[cluster]'`."
        )


class Jobs:
    """Starts calls as jobs; a job looks like a process to whoever waits for it."""

    def __init__(self, kind: str, options: Cluster, folder: Path) -> None:
        """Leave submitit's own files in ``folder``."""
        import submitit

        if kind == "slurm" and shutil.which("srun") is None:
            raise SuiteError(
                "--cluster slurm was given, and there is no srun here. Give it on a machine of the cluster."
            )
        restarts = {"slurm_max_num_timeout": _RESTARTS} if kind == "slurm" else {}
        self._executor = submitit.AutoExecutor(folder=folder, cluster=kind, **restarts)
        self._executor.update_parameters(**options.parameters(kind))
        self._slurm = kind == "slurm"

    def start(self, call: Call) -> Job | Refused:
        """Submit a call."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            return Job(self._executor.submit(call), slurm=self._slurm)
        except (FailedJobError, FailedSubmissionError) as error:
            # An unknown partition, too much of something: what sbatch says.
            return Refused(f"the cluster refused it: {' '.join(str(error).split())[:500]}")


class Refused:
    """A call that the cluster did not take."""

    def __init__(self, trouble: str) -> None:
        self.trouble: str | None = trouble

    def poll(self) -> int | None:
        """Return the exit status."""
        return 1

    def stop(self) -> None:
        """Do nothing."""

    kill = stop


class Job:
    """A submitted call."""

    def __init__(self, job: Any, *, slurm: bool) -> None:
        self._job, self._slurm, self._look = job, slurm, math.inf

    def poll(self) -> int | None:
        """Return the exit status; None while it is queued or runs."""
        ask = time.monotonic() >= self._look  # submitit itself asks a cluster every ten minutes
        if ask:
            self._look = time.monotonic() + _SOON
        if not self._job.done(force_check=ask):
            return None
        try:
            return int(self._job.result())
        except Exception as error:  # submitit's own, of a job that was cancelled or died: its text says which
            self.trouble = " ".join(str(error).split())[:500]
            return 1

    trouble: str | None = None
    """What befell the job itself, if anything did."""

    def stop(self) -> None:
        """Ask it to save and end."""
        if not self._slurm:
            self._job.cancel(check=False)  # an interruption
            return
        self._look = 0.0
        job = str(self._job.job_id)
        for words in (["--state=PENDING"], ["--signal=INT"]):  # what waits has nothing to save
            subprocess.run(["scancel", *words, job], check=False, capture_output=True)

    def kill(self) -> None:
        """End it."""
        self._job.cancel(check=False)
