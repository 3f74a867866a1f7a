"""Suites: what is skipped, how runs share places, that one which fails stops no other; the command."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from suite.made import Pretended, Spec, seeds, states

from ser_bench import cli
from ser_bench.errors import SuiteError
from ser_bench.locks import hold
from ser_bench.suite import Outcome, Planned, RunSpec, execute, require_success, run_suite, work

REPOSITORY = Path(__file__).resolve().parent.parent.parent


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


# --- the command ------------------------------------------------------------------------------------------------------


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
