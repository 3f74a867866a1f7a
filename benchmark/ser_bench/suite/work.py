"""Work off a plan: several runs at once, one to a GPU; one that fails does not stop the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ser_bench.errors import SuiteError
from ser_bench.locks import held
from ser_bench.suite import cluster as clusters
from ser_bench.suite.child import Call, Processes, reason
from ser_bench.suite.cluster import Cluster, Jobs
from ser_bench.suite.planned import Planned, Progress, plan
from ser_bench.suite.spec import RunSpec
from ser_bench.transcripts.asr import cores

POLL = 0.2  # seconds between looks at what runs
State = Literal["skipped", "finished", "failed", "elsewhere"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one seed of one run."""

    planned: Planned
    state: State
    """``skipped``: it was finished before; ``elsewhere``: another process works on it."""
    why: str | None = None
    """Why it failed."""
    log: Path | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "run": str(self.planned.folder),
            "system": self.planned.system,
            "seed": self.planned.seed,
            "state": self.state,
            "why": self.why,
            "log": None if self.log is None else str(self.log),
            "seconds": round(self.seconds, 1),
        }


class Worker(Protocol):
    """A call that runs somewhere."""

    trouble: str | None

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""

    def stop(self) -> None:
        """Ask it to save and end."""

    def kill(self) -> None:
        """End it."""


class Starter(Protocol):
    """Starts calls somewhere."""

    def start(self, call: Call) -> Worker:
        """Start a call."""


def run_suite(
    specs: Sequence[RunSpec],
    *,
    out: str | Path = "runs",
    jobs: int | None = None,
    cluster: str | None = None,
    options: Cluster | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    told: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Plan and work off; see ``plan`` and ``execute``, which a caller may also call one after the other.

    Raises:
        SuiteError: nothing could be begun. Runs that fail are in what is returned (``require_success``).
    """
    if cluster is not None:
        clusters.require(cluster)
    planned = plan(specs, out=out, cache=cache, progress=progress)
    return execute(
        planned, out=out, jobs=jobs, cluster=cluster, options=options, cache=cache, progress=progress, told=told
    )


def execute(
    planned: Sequence[Planned],
    *,
    out: str | Path = "runs",
    jobs: int | None = None,
    cluster: str | None = None,
    options: Cluster | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    told: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Train and score what is not finished.

    Runs share the cache: of two that want one frames store, one makes it and the other waits. Those with the strategy
    ``finetune-freeze`` begin when all others have ended, since they begin with what another run left behind.

    Args:
        planned: as ``plan`` gives it.
        out: takes ``logs/``, a log for each seed.
        jobs: at once; None: one a GPU, one where there is none, all at once on ``slurm``.
        cluster: ``slurm`` or ``local`` (submitit's); None: processes on this machine.
        options: what is asked of the cluster for each run.
        cache: root of the cache.
        progress: told of seeds that are done.
        told: called with each outcome as it comes.

    Returns:
        An outcome for each, in their order.

    Raises:
        SuiteError: more jobs than GPUs, or the cluster cannot be used.
        KeyboardInterrupt: after those that run have saved.
    """
    logs = Path(out) / "logs"
    places = _places(planned, jobs, cluster)
    starter: Starter = Processes()
    if cluster is not None:
        clusters.require(cluster)
        starter = Jobs(cluster, options or Cluster(), logs / "jobs")
    outcomes: dict[int, Outcome] = {}

    def end(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if told is not None:
            told(outcome)
        if progress is not None:
            progress("runs", len(outcomes), len(planned))

    waiting = deque(sorted(range(len(planned)), key=lambda number: _phase(planned[number])))
    running: dict[int, _Running] = {}
    with _stopping(lambda: [work.worker for work in running.values()]):
        while waiting or running:
            while waiting and places and all(_phase(planned[n]) == _phase(planned[waiting[0]]) for n in running):
                number = waiting.popleft()
                one = planned[number]
                if one.finished:
                    end(number, Outcome(planned=one, state="skipped"))
                elif held(one.folder / f"seed-{one.seed}"):
                    end(number, Outcome(planned=one, state="elsewhere"))
                else:
                    running[number] = _Running.start(one, places.popleft(), starter, logs, cache)
            for number, work in list(running.items()):
                outcome = work.ended()
                if outcome is not None:
                    places.append(running.pop(number).place)
                    end(number, outcome)
            if running:
                time.sleep(POLL)
    return [outcomes[number] for number in range(len(planned))]


def call(words: Sequence[str], log: Path) -> int:
    """Run ``ser-bench WORDS`` on this machine to its end, whatever ends this process; return the exit status.

    Raises:
        KeyboardInterrupt: after it has saved.
    """
    running: list[Worker] = []
    with _stopping(lambda: running):
        running.append(Processes().start(Call(list(words), log.absolute())))
        while (code := running[0].poll()) is None:
            time.sleep(POLL)
    return code


def require_success(outcomes: Sequence[Outcome], logs: Path, *, again: str = "the same command") -> None:
    """Fail if a run did.

    Args:
        outcomes: of all runs.
        logs: where theirs are.
        again: what goes on with the others.

    Raises:
        SuiteError: lists which failed and why, and which another process works on.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    elsewhere = [outcome for outcome in outcomes if outcome.state == "elsewhere"]
    parts = []
    if failed:
        each = " ".join(f"({n}) {outcome.planned}: {outcome.why}" for n, outcome in enumerate(failed, start=1))
        parts.append(
            f"{len(failed)} of {len(outcomes)} runs failed, and the others went on: {each} Logs are in {logs}; "
            f"{again} goes on with what is not finished."
        )
    if elsewhere:
        parts.append(
            f"{len(elsewhere)} of {len(outcomes)} runs are worked on by another process "
            f"({', '.join(str(outcome.planned) for outcome in elsewhere)}); give the same command when it has ended."
        )
    if parts:
        raise SuiteError(" ".join(parts))


@dataclass(frozen=True)
class _Running:
    """A seed that is being trained."""

    planned: Planned
    place: dict[str, str]
    worker: Worker
    log: Path
    log_start: int
    began: float

    @classmethod
    def start(
        cls, planned: Planned, place: dict[str, str], starter: Starter, logs: Path, cache: Path | None
    ) -> _Running:
        log = (logs / f"{planned.folder.name}-seed-{planned.seed}.log").absolute()
        start = log.stat().st_size if log.exists() else 0
        words = planned.spec.words(planned.seed, str(planned.folder), None if cache is None else str(cache))
        worker = starter.start(Call(words, log, place))
        return cls(planned, place, worker, log, start, time.monotonic())

    def ended(self) -> Outcome | None:
        """Return what came of it; None while it runs."""
        code = self.worker.poll()
        if code is None:
            return None
        done = code == 0 and (self.planned.folder / f"seed-{self.planned.seed}" / "result.json").exists()
        return Outcome(
            planned=self.planned,
            state="finished" if done else "failed",
            why=None if done else reason(code, self.log, self.log_start, self.worker.trouble),
            log=self.log,
            seconds=time.monotonic() - self.began,
        )


def _phase(planned: Planned) -> int:
    return int(planned.spec.strategy == "finetune-freeze")


def _places(planned: Sequence[Planned], jobs: int | None, cluster: str | None) -> deque[dict[str, str]]:
    """Return the variables that each of the places has in which a run may be at a time."""
    if jobs is not None and jobs < 1:
        raise SuiteError(f"--jobs {jobs} was given; expected 1 or more.")
    if cluster == "slurm":  # which gives each job its GPUs
        return deque({} for _ in range(jobs or max(1, len(planned))))
    gpus = [] if all(one.spec.device == "cpu" for one in planned) else _gpus()
    if gpus:
        if jobs is not None and jobs > len(gpus):
            raise SuiteError(f"--jobs {jobs} was given, and there are {len(gpus)} GPUs here; a GPU takes one run.")
        return deque({"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:jobs])
    count = jobs or 1
    # Processes that each take all cores are slower than ones that share them.
    threads = {} if count == 1 else {"OMP_NUM_THREADS": str(max(1, cores() // count))}
    return deque({**threads} for _ in range(count))


def _gpus() -> list[str]:
    """Return the GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


@contextmanager
def _stopping(running: Callable[[], Sequence[Worker]]) -> Iterator[None]:
    """Let what is running save and end if this process does, whatever ends it; a second interruption ends it at once.

    A cluster that takes its machine back (SIGTERM) and a terminal that is closed (SIGHUP) interrupt as Ctrl-C does: the
    runs are processes by themselves, and would go on.
    """
    signals = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    heard = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup sets it
    before = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    try:
        yield
    except BaseException:
        workers = running()
        for worker in workers:
            worker.stop()
        try:
            while any(worker.poll() is None for worker in workers):
                time.sleep(POLL)
        except KeyboardInterrupt:
            for worker in workers:
                worker.kill()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
