"""A run killed with SIGKILL and resumed gives the predictions of an undisturbed one, bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from ser_bench import runner, saved, testing
from ser_bench.errors import RecordError
from ser_bench.training import fit as fitting
from ser_bench.training import step

# 42 utterances in batches of 4: two are carried over from each epoch to the next, so the order has a memory.
COUNTS = {"train": 42, "development": 8, "test1": 6, "test2": 6}
CHANGES = {"batch_size": 4, "epochs": 4, "patience": 4, "learning_rate": 2e-3, "bucket_batches": 2}
KILL_EPOCH, KILL_STEP = 2, 6
NEVER = 1e9  # minutes: only the checkpoints at the ends of epochs are written

# Trains until it is told to die: at STEP it says so and waits. With checkpoints within the epoch, a pause before step 4
# makes that one late, so that the steps after it are lost with the process.
CHILD = """
import json, sys, time, torch
from ser_bench import run
torch.set_num_threads(1)
given = json.loads(sys.argv[1])
epoch, step, minutes = f"epoch {given.pop('epoch')}", given.pop("step"), given["checkpoint_minutes"]

def progress(what, done, total):
    if what.startswith(epoch) and done == 3:
        time.sleep(min(minutes * 60 + 0.1, 5))
    if what.startswith(epoch) and done == step:
        print("waiting", flush=True)
        time.sleep(600)

run(**given, progress=progress)
"""


@dataclass(frozen=True)
class Case:
    """A system, its undisturbed run, and a run that was killed."""

    plugin: str
    release: Path
    cache: Path
    undisturbed: Path
    killed: Path

    def resume(self, folder: Path) -> dict[str, Any]:
        shutil.copytree(self.killed, folder)
        runner.run(**arguments(self.plugin, self.release, self.cache, folder), resume=True)
        return columns(folder)


def arguments(plugin: str, release: Path, cache: Path, folder: Path, minutes: float = NEVER) -> dict[str, Any]:
    return {
        "plugin": plugin,
        "corpus": str(release),
        "weights": ["tiny"],
        "changes": CHANGES,
        "out": str(folder),
        "cache": str(cache),
        "device": "cpu",
        "checkpoint_minutes": minutes,
    }


def columns(folder: Path) -> dict[str, Any]:
    """Return the predictions' columns, numbers as bytes."""
    table = pq.read_table(folder / "seed-1" / "predictions.parquet")
    assert table.num_rows == sum(COUNTS.values()) - COUNTS["train"]
    assert all(table[name].null_count == 0 for name in table.column_names)
    plain = {name: table[name].to_numpy() for name in table.column_names}
    return {name: v.tobytes() if v.dtype.kind == "f" else v.tolist() for name, v in plain.items()}


def scores_of_epochs(folder: Path) -> list[str]:
    """Return log.jsonl without what depends on the clock."""
    return [line.partition('"seconds"')[0] for line in (folder / "seed-1" / "log.jsonl").read_text().splitlines()]


def position(folder: Path) -> dict[str, Any]:
    return saved.read(folder / "seed-1" / "checkpoints" / "last.safetensors")[1]["at"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_release(tmp_path_factory.mktemp("release"), utterances=COUNTS, seconds=(0.3, 1.2))


CASES = {
    "logmel_words-epoch": ("logmel_words", NEVER),
    "logmel_words-within": ("logmel_words", 0.5 / 60),
    "distilhubert_tinybert-within": ("distilhubert_tinybert", 0.5 / 60),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    plugin, minutes = CASES[request.param]
    folder = tmp_path_factory.mktemp("runs")
    cache, undisturbed, killed = folder / "cache", folder / "undisturbed", folder / "killed"
    runner.run(**arguments(plugin, release, cache, undisturbed))
    given = arguments(plugin, release, cache, killed, minutes) | {"epoch": KILL_EPOCH, "step": KILL_STEP}
    command = [sys.executable, "-c", CHILD, json.dumps(given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert (line, child.returncode) == ("waiting\n", -signal.SIGKILL)
    assert not (killed / "seed-1" / "predictions.parquet").exists()
    at = position(killed)
    assert at["epoch"] == KILL_EPOCH
    assert at["step"] == 0 if minutes == NEVER else 4 <= at["step"] <= KILL_STEP
    return Case(plugin, release, cache, undisturbed, killed)


def test_a_killed_run_continued_gives_the_same_predictions(case: Case, tmp_path: Path) -> None:
    assert case.resume(tmp_path / "resumed") == columns(case.undisturbed)
    assert scores_of_epochs(tmp_path / "resumed") == scores_of_epochs(case.undisturbed)
    assert len(scores_of_epochs(case.undisturbed)) == 1 + CHANGES["epochs"]


def _other_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    own = step.seed_dropout
    monkeypatch.setattr(step, "seed_dropout", lambda numbers: own([*numbers, 1]))


def _another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fitting.epoch_order
    monkeypatch.setattr(fitting, "epoch_order", lambda *given, seed, epoch: own(*given, seed=seed + 1, epoch=epoch))


def _epoch_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fitting.epoch_order
    monkeypatch.setattr(fitting, "epoch_order", lambda *given, seed, epoch: own(*given, seed=seed, epoch=epoch - 1))


def _no_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "restore_optimiser", lambda *given: None)


def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    own = saved.restore
    monkeypatch.setattr(
        saved, "restore", lambda *given, where: None if where.name == "last.safetensors" else own(*given, where=where)
    )


@pytest.mark.parametrize("case", ["logmel_words-epoch", "logmel_words-within"], indirect=True)
@pytest.mark.parametrize("broken", [_other_dropout, _another_order, _epoch_forgotten, _no_moments, _no_weights])
def test_the_comparison_notices(
    case: Case, broken: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert case.resume(tmp_path / "resumed") != columns(case.undisturbed)


def test_an_unfinished_seed_is_refused_without_resume(case: Case, tmp_path: Path) -> None:
    shutil.copytree(case.killed, tmp_path / "again")
    with pytest.raises(RecordError, match=r"unfinished seed 1\. Go on with it by adding --resume"):
        runner.run(**arguments(case.plugin, case.release, case.cache, tmp_path / "again"))
