"""Suites: what is planned, what is skipped, how runs share places, and that one which fails stops no other."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ser_bench
from ser_bench import cli, records
from ser_bench.errors import SuiteError
from ser_bench.locks import hold
from ser_bench.runs import listed
from ser_bench.suite import Outcome, Planned, RunSpec, execute, plan, require_success, run_suite, work
from ser_bench.suite.child import Call
from ser_bench.testing import write_release

REPOSITORY = Path(__file__).resolve().parent.parent.parent
QUICK = {"epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), utterances=40, seconds=(0.2, 0.4))


@pytest.fixture
def spec(release: Path) -> Callable[..., RunSpec]:
    def make(plugin: str = "logmel", **options: Any) -> RunSpec:
        given = {"corpus": str(release), "device": "cpu", "changes": QUICK}
        return RunSpec(plugin=plugin, **given | options)

    return make


Spec = Callable[..., RunSpec]


class Pretended:
    """A starter whose calls end when they are told to; each is known by its seed's folder."""

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.fails, self.calls, self.at_once, self.running = fails, [], 0, 0
        self.places: list[dict[str, str]] = []

    def start(self, call: Call) -> Pretended.Worker:
        self.calls.append(call)
        self.places.append(dict(call.environment))
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        return Pretended.Worker(self, call)

    class Worker:
        trouble: str | None = None

        def __init__(self, owner: Pretended, call: Call) -> None:
            self.owner, self.looks = owner, 0
            words = call.words
            self.seed = int(words[words.index("--seed") + 1])
            self.folder = Path(words[words.index("--out") + 1]) / f"seed-{self.seed}"

        def poll(self) -> int | None:
            self.looks += 1
            if self.looks < 3:
                return None
            self.owner.running -= 1
            if self.seed in self.owner.fails:
                return 1
            self.folder.mkdir(parents=True)
            (self.folder / "result.json").write_text("{}")
            return 0

        def stop(self) -> None:
            raise AssertionError

        kill = stop


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pretended]:
    def make(**options: Any) -> Pretended:
        starter = Pretended(**options)
        monkeypatch.setattr(work, "Processes", lambda: starter)
        monkeypatch.setattr(work, "POLL", 0.0)
        return starter

    return make


def states(outcomes: list[Outcome]) -> list[tuple[int, str]]:
    return [(outcome.planned.seed, outcome.state) for outcome in outcomes]


# --- planning --------------------------------------------------------------------------------------------------------


def test_a_plan_names_the_folders_that_run_would_take(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan([spec("mean_only", seeds=(1, 2)), spec(), spec(strategy="frozen")])
    assert [(one.system, one.seed) for one in planned] == [
        ("mean_only", 1),
        ("mean_only", 2),
        ("logmel", 1),
        ("logmel", 1),
    ]
    assert len({one.folder for one in planned}) == 3
    assert not any(one.finished for one in planned)
    assert not (tmp_path / "runs").exists()
    one = planned[0]
    made = ser_bench.run("mean_only", corpus=one.spec.corpus, seeds=(2,), changes=QUICK, device="cpu")
    assert made == one.folder
    assert [one.finished for one in plan([spec("mean_only", seeds=(1, 2)), spec()])] == [False, True, False]


def test_runs_that_come_to_the_same_are_one(spec: Spec) -> None:
    planned = plan([spec(), spec(seeds=(1, 2)), spec(changes={"epochs": "1", "batch_size": 4})])
    assert [one.seed for one in planned] == [1, 2]


def test_all_that_cannot_be_run_is_told_before_anything_begins(spec: Spec, tmp_path: Path) -> None:
    bad = [
        spec("logmal"),
        spec(transcripts="human"),
        spec(seeds=(1, 1)),
        spec(device="cuda:1"),
        spec(tracker="tensorbored"),
        spec(changes={"epoch": 1}),
        spec(strategy="guess"),
        spec(corpus=str(tmp_path / "nowhere")),
    ]
    with pytest.raises(SuiteError) as told:
        plan([spec(), *bad], out=tmp_path / "runs")
    said = str(told.value)
    assert said.startswith(
        "8 of 9 runs of the suite cannot be made: (1) logmal, recipe.epochs=1, recipe.batch_size=4: "
    )
    for fault in (
        "Did you mean 'logmel'?",
        "(2) logmel, transcripts human, recipe.epochs=1, recipe.batch_size=4: logmel reads no text",
        "(3) logmel, recipe.epochs=1, recipe.batch_size=4: seeds [1, 1] were given; expected different whole numbers",
        "device cuda:1 was given; expected cpu or cuda: a suite deals out the GPUs itself.",
        "tracker 'tensorbored' is unknown. Did you mean 'tensorboard'?",
        "recipe.epoch is unknown (did you mean recipe.epochs?)",
        "strategy 'guess' is unknown",
        "(8) ",
    ):
        assert fault in said
    assert not (tmp_path / "runs").exists()


def test_two_runs_in_one_folder_are_refused(spec: Spec, tmp_path: Path) -> None:
    out = str(tmp_path / "one")
    with pytest.raises(
        SuiteError, match=r"one is the folder of another run of the suite too\. Give each another out\."
    ):
        plan([spec(out=out), spec(out=out, strategy="frozen")])


def test_a_folder_with_another_run_is_refused(spec: Spec, tmp_path: Path) -> None:
    (planned,) = plan([spec(out=str(tmp_path / "one"))])
    from ser_bench import task

    settings = task.resolve(**planned.spec.options()).settings
    records.settle(planned.folder, {**settings, "strategy": "frozen"})
    with pytest.raises(
        SuiteError, match='holds a run with other settings: strategy is "frozen" there and "finetune" here'
    ):
        plan([planned.spec])
    (planned.folder / "settings.json").unlink()
    # Another machine may have trained it with its own precision, if none was asked for.
    records.settle(planned.folder, {**settings, "precision": "bfloat16"})
    with pytest.raises(SuiteError, match='precision is "bfloat16" there'):
        plan([planned.spec])
    assert plan([spec(out=str(tmp_path / "one"), device=None)])


def test_what_a_run_begins_with_is_planned_once_before_it(spec: Spec, tmp_path: Path) -> None:
    tiny = {"strategy": "finetune-freeze", "weights": ("tiny",), "head_changes": {"epochs": 2}}
    both = [
        spec("distilhubert_tinybert", seeds=(1, 2), **tiny),
        spec("distilhubert_tinybert", **{**tiny, "head_changes": {}}),
    ]
    planned = plan(both, out=tmp_path / "runs")
    assert [(one.system, one.seed, one.spec.strategy) for one in planned] == [
        ("distilhubert", 1, "finetune"), ("distilhubert", 2, "finetune"),
        ("distilhubert_tinybert", 1, "finetune-freeze"), ("distilhubert_tinybert", 2, "finetune-freeze"),
        ("distilhubert_tinybert", 1, "finetune-freeze"),
    ]  # fmt: skip
    first = planned[0].spec
    assert (first.plugin, first.changes, first.weights, first.head_changes) == ("distilhubert", QUICK, ("tiny",), {})
    alone = plan([spec("distilhubert", weights=("tiny",), seeds=(1, 2))], out=tmp_path / "runs")
    assert [one.folder for one in alone] == [one.folder for one in planned[:2]]  # it is that system's own run
    assert {one.folder.parent for one in planned} == {tmp_path / "runs"}


# --- working off -----------------------------------------------------------------------------------------------------


def seeds(spec: Spec, count: int, folder: Path, **options: Any) -> list[Planned]:
    given = spec(**options)
    return [
        Planned(spec=given, seed=seed, system="logmel", folder=folder, finished=False) for seed in range(1, count + 1)
    ]


def test_a_failed_run_stops_no_other(spec: Spec, pretended: Callable[..., Pretended], tmp_path: Path) -> None:
    starter, told = pretended(fails=(2, 4)), []
    planned = seeds(spec, 5, tmp_path / "run")
    planned[2] = Planned(**{**vars(planned[2]), "finished": True})
    progress: list[tuple[str, int, int]] = []
    outcomes = execute(planned, out=tmp_path, jobs=2, told=told.append, progress=lambda *given: progress.append(given))
    expected = [(1, "finished"), (2, "failed"), (3, "skipped"), (4, "failed"), (5, "finished")]
    assert states(outcomes) == expected
    assert sorted(states(told)) == expected
    assert progress == [("runs", done, 5) for done in range(1, 6)]
    assert starter.at_once == 2
    assert len(starter.calls) == 4
    with pytest.raises(SuiteError) as raised:
        require_success(outcomes, tmp_path / "logs")
    assert str(raised.value) == (
        "2 of 5 runs failed, and the others went on: (1) run seed 2: it ended with 1: nothing was said. (2) run seed "
        f"4: it ended with 1: nothing was said. Logs are in {tmp_path / 'logs'}; the same command goes on with what is "
        "not finished."
    )
    require_success([outcome for outcome in outcomes if outcome.state != "failed"], tmp_path)


def test_a_seed_that_another_process_trains_is_left_to_it(
    spec: Spec, pretended: Callable[..., Pretended], tmp_path: Path
) -> None:
    starter = pretended()
    with hold(tmp_path / "run" / "seed-1"):
        outcomes = execute(seeds(spec, 2, tmp_path / "run"), out=tmp_path)
    assert states(outcomes) == [(1, "elsewhere"), (2, "finished")]
    assert len(starter.calls) == 1
    with pytest.raises(
        SuiteError, match=r"^1 of 2 runs are worked on by another process \(run seed 1\); give the same"
    ):
        require_success(outcomes, tmp_path)


@pytest.mark.parametrize(
    ("visible", "count", "jobs", "device", "expected"),
    [
        (None, 2, None, None, ["0", "1"]),
        ("3,5,7", 3, 2, "cuda", ["3", "5"]),
        (None, 2, 4, "cpu", [None] * 4),
        (None, 0, None, None, [None]),
    ],
)
def test_each_run_has_a_gpu_of_its_own(
    spec: Spec,
    pretended: Callable[..., Pretended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    count: int,
    jobs: int | None,
    device: str | None,
    expected: list[str | None],
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(work, "cores", lambda: 8)
    starter = pretended()
    execute(seeds(spec, 6, tmp_path / "run", device=device), out=tmp_path, jobs=jobs)
    assert starter.at_once == len(expected)
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in starter.places[: len(expected)]] == expected
    assert {place.get("CUDA_VISIBLE_DEVICES") for place in starter.places} == set(expected)
    threads = {place.get("OMP_NUM_THREADS") for place in starter.places}
    assert threads == ({"2"} if len(expected) == 4 else {None})  # processes on one CPU share its cores


def test_more_jobs_than_gpus_or_none(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_gpus", lambda: ["0", "1"])
    planned = seeds(spec, 2, tmp_path / "run", device=None)
    with pytest.raises(SuiteError, match=r"--jobs 3 was given, and there are 2 GPUs here; a GPU takes one run\."):
        execute(planned, jobs=3)
    with pytest.raises(SuiteError, match=r"--jobs 0 was given; expected 1 or more\."):
        execute(planned, jobs=0)


def test_what_begins_with_another_run_comes_after_it(
    spec: Spec, pretended: Callable[..., Pretended], tmp_path: Path
) -> None:
    starter = pretended()
    late = seeds(spec, 1, tmp_path / "late", strategy="finetune-freeze")
    outcomes = execute([*late, *seeds(spec, 3, tmp_path / "run")], out=tmp_path, jobs=2)
    assert [outcome.planned.folder.name for outcome in outcomes] == ["late", "run", "run", "run"]
    assert "finetune-freeze" in starter.calls[-1].words
    assert not any("finetune-freeze" in call.words for call in starter.calls[:-1])


def test_whatever_ends_a_suite_ends_its_runs(
    spec: Spec, pretended: Callable[..., Pretended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended()
    stopped: list[int] = []
    monkeypatch.setattr(Pretended.Worker, "stop", lambda worker: stopped.append(worker.seed))
    before = signal.getsignal(signal.SIGTERM)

    def told(outcome: Outcome) -> None:
        if outcome.planned.seed == 1:
            signal.raise_signal(signal.SIGTERM)  # as a cluster does before it takes its machine back

    with pytest.raises(KeyboardInterrupt):
        execute(seeds(spec, 5, tmp_path / "run"), out=tmp_path, jobs=3, told=told)
    assert stopped == [2, 3]
    assert signal.getsignal(signal.SIGTERM) is before


# --- real processes --------------------------------------------------------------------------------------------------


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


# --- the command -----------------------------------------------------------------------------------------------------


def documented() -> list[str]:
    text = (REPOSITORY / "docs" / "suites.md").read_text(encoding="utf-8")
    return re.findall(r"^```toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_documented_examples_are_read(tmp_path: Path) -> None:
    from ser_bench.suite import read

    assert len(documented()) >= 2
    for example in documented():
        (tmp_path / "suite.toml").write_text(example)
        assert read(tmp_path / "suite.toml").specs


def test_the_documented_demo_suite_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.toml").write_text(documented()[0])
    assert cli.main(["suite", "suite.toml", "--jobs", "0"]) == 1
    assert "error: --jobs 0 was given; expected 1 or more." in capfd.readouterr().err
    assert cli.main(["suite", "suite.toml", "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert shown.count("to do") == 2
    assert shown.count("\nser-bench run ") == 2
    assert not (tmp_path / "runs").exists()
    assert cli.main(["suite", "suite.toml", "--json"]) == 0
    shown = capfd.readouterr()
    found = json.loads(shown.out)["runs"]
    assert [one["state"] for one in found] == ["finished"] * 2
    assert "runs: 2/2" in shown.err
    assert cli.main(["suite", "suite.toml"]) == 0
    assert capfd.readouterr().out.count("skipped") == 2


def test_a_suite_with_a_failed_run_exits_with_1(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = Outcome(planned=Planned(spec=RunSpec(corpus=""), seed=1, system="x", folder=Path("x"), finished=False),
                     state="failed", why="it broke.")  # fmt: skip
    monkeypatch.setattr("ser_bench.suite.execute", lambda *given, **options: [failed])
    (tmp_path / "suite.toml").write_text(f'[[runs]]\nplugin = "mean_only"\ncorpus = "{release}"\ndevice = "cpu"\n')
    assert cli.main(["suite", "suite.toml"]) == 1
    shown = capfd.readouterr()
    assert "failed" in shown.out
    assert (
        "error: 1 of 1 runs failed, and the others went on: (1) x seed 1: it broke. Logs are in runs/logs;" in shown.err
    )


def test_a_cluster_that_cannot_be_used(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SuiteError, match=r"--cluster cloud is unknown; give slurm or local"):
        run_suite([spec()], cluster="cloud")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SuiteError, match=r"--cluster slurm was given, and there is no srun here\."):
        execute([], cluster="slurm")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SuiteError, match=r"--cluster slurm needs the package submitit.*pip install 'ser-bench\[cluster\]'"
    ):
        run_suite([spec()], cluster="slurm")
