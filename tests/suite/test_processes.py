"""Suites in real processes: on this machine, as jobs of a cluster, and interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from suite.made import Pretended, Spec, seeds, states

from ser_bench import records
from ser_bench.runs import listed
from ser_bench.suite import execute, plan, run_suite, work


def test_seeds_of_one_run_at_once_as_jobs_of_submitits_local_executor(spec: Spec, tmp_path: Path) -> None:
    specs = [spec("mean_only", seeds=(1, 2), changes={})]
    places = {"out": tmp_path / "runs", "cache": tmp_path / "cache"}
    outcomes = run_suite(specs, jobs=2, cluster="local", **places)
    assert states(outcomes) == [(1, "finished"), (2, "finished")]
    folder = outcomes[0].planned.folder
    assert [run["seed"] for run in records.read(folder / "record.json")["runs"]] == [1, 2]
    assert len(list((tmp_path / "runs" / "logs" / "jobs").glob("*_submitted.pkl"))) == 2
    assert [state.state for state in listed(tmp_path / "runs")] == ["finished"] * 2
    assert all(one.finished for one in plan(specs, **places))


def test_a_run_that_fails_says_why(spec: Spec, tmp_path: Path) -> None:
    failing = spec(changes={"epochs": 1, "batch_size": 1000})
    (failed,) = run_suite([failing], out=tmp_path / "runs", cache=tmp_path / "cache")
    assert failed.why == (
        "a batch takes 1000 utterances, and train has 24. Use a larger release or --set recipe.batch_size=24."
    )
    assert failed.log is not None
    log = failed.log.read_text()
    assert log.startswith("$ ser-bench run --plugin logmel --corpus ")
    assert f"error: {failed.why}\n" in log
    (state,) = listed(tmp_path / "runs")
    assert (state.system, state.state, state.why) == ("logmel", "failed", failed.why)


def test_an_interrupted_suite_lets_its_runs_save(release: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(
        f"""
        suite.out = "{tmp_path}/runs"
        [[runs]]
        plugin = "logmel"
        corpus = "{release}"
        device = "cpu"
        recipe = {{ epochs = 5000, patience = 5000, batch_size = 4 }}
        """
    )
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    start += "from ser_bench.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", start, "suite", str(tmp_path / "suite.toml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/seed-1/checkpoints/last.safetensors")):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (state,) = listed(tmp_path / "runs")
        assert state.state == "running"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (130, "")
    assert err.endswith(f"interrupted; `ser-bench suite {tmp_path}/suite.toml` goes on\n")
    (state,) = listed(tmp_path / "runs")
    assert state.state == "interrupted"
    assert "interrupted; `ser-bench run" in next(tmp_path.glob("runs/logs/*.log")).read_text()


WAIT = """
import signal, sys
from pathlib import Path
from ser_bench.suite.child import Call
call = Call(sys.argv[2:], Path(sys.argv[1]))
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7 if call.checkpoint() else 8))
call()
"""


def test_a_job_that_is_stopped_for_its_time_saves_and_goes_on(release: Path, tmp_path: Path) -> None:
    """submitit calls ``checkpoint`` in a signal's handler, while the call waits for its child."""
    changes = ["recipe.epochs=5000", "recipe.patience=5000", "recipe.batch_size=4"]
    words = ["run", "--plugin", "logmel", "--corpus", str(release), "--device", "cpu", "--out", str(tmp_path / "run")]
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", WAIT, str(log), *words, "--set", *changes]) as job:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "seed-1" / "checkpoints" / "last.safetensors").exists():
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR2)
        try:
            assert job.wait(60) == 7
        finally:
            job.kill()
    assert "--resume` goes on" in log.read_text()


def test_a_suite_in_the_background_outlives_its_terminal(
    spec: Spec, pretended: Callable[..., Pretended], tmp_path: Path
) -> None:
    pretended()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        told = lambda outcome: signal.raise_signal(signal.SIGHUP)  # noqa: E731
        outcomes = execute(seeds(spec, 2, tmp_path / "run"), out=tmp_path, told=told)
        assert states(outcomes) == [(1, "finished"), (2, "finished")]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def script(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_what_a_cluster_refuses_is_a_run_that_failed(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin", "srun", "exit 1")
    script(tmp_path / "bin", "sbatch", "echo 'sbatch: error: invalid partition specified: gpus' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    (outcome,) = execute(seeds(spec, 1, tmp_path / "run"), out=tmp_path, cluster="slurm")
    assert outcome.state == "failed"
    assert outcome.why is not None
    assert outcome.why.startswith("the cluster refused it: ")
    assert "invalid partition specified: gpus" in outcome.why


def test_a_job_of_slurm_is_interrupted_and_asked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ser_bench.suite.cluster import Job

    class Submitted:
        job_id = "17"
        asked: ClassVar[list[bool]] = []

        def done(self, *, force_check: bool) -> bool:
            self.asked.append(force_check)
            return False

    script(tmp_path / "bin", "scancel", f'echo "$@" >> {tmp_path}/said')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    job = Job(Submitted(), slurm=True)
    assert job.poll() is None
    job.stop()
    assert job.poll() is None
    assert job.poll() is None
    # One that waits is taken back; one that runs gets what Ctrl-C gives, and submitit looks soon, not in minutes.
    assert (tmp_path / "said").read_text() == "--state=PENDING 17\n--signal=INT 17\n"
    assert Submitted.asked == [False, True, False]


def end(running: subprocess.Popen[str], number: int) -> str:
    """Send a signal to a process in a session of its own, and return what it says."""
    running.send_signal(number)
    return running.communicate(timeout=120)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_a_call_ends_its_process_first(release: Path, tmp_path: Path, number: int) -> None:
    start = "import signal, sys; from pathlib import Path; from ser_bench.suite import work\n"
    # Tests may run in the background, where both are ignored from the start.
    start += "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    start += (
        "try:\n    print(work.call(sys.argv[2:], Path(sys.argv[1])))\nexcept KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    log, run = tmp_path / "log", tmp_path / "run"
    words = ["run", "--plugin", "logmel", "--corpus", str(release), "--device", "cpu", "--out", str(run)]
    words += ["--set", "recipe.epochs=5000", "recipe.patience=5000", "recipe.batch_size=4"]
    with subprocess.Popen(
        [sys.executable, "-c", start, str(log), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        deadline = time.monotonic() + 120
        # Once while the child imports, twice while it trains.
        wanted = log if number == signal.SIGINT else run / "seed-1" / "checkpoints" / "last.safetensors"
        while not wanted.exists():
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        end(running, number)
    assert running.returncode == 130
    if number != signal.SIGINT:
        (state,) = listed(tmp_path)
        assert state.state == "interrupted"  # nobody holds its folder any more
        assert "interrupted; `ser-bench run" in log.read_text()


def test_a_call_that_ends_well_all_the_same_is_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Ends:
        trouble: str | None = None
        stopped = 0

        def poll(self) -> int:
            if not self.stopped:
                signal.raise_signal(signal.SIGINT)
            return 0

        def stop(self) -> None:
            self.stopped += 1

    worker = Ends()
    monkeypatch.setattr(work, "Processes", type("Starter", (), {"start": lambda self, call: worker}))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            work.call(["score"], tmp_path / "log")
    finally:
        signal.signal(signal.SIGINT, before)
    assert worker.stopped == 1
