"""A run in two processes, from the release to the record; and one that goes on with another number of them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from training.together import launch

from ser_bench import records, runner, saved, testing

COUNTS = {"train": 42, "development": 8, "test1": 6, "test2": 6}
CHANGES = {
    "batch_size": 6,
    "epochs": 3,
    "patience": 3,
    "learning_rate": 2e-3,
    "bucket_batches": 2,
    "regularisation.dropout": 0.0,
    "head_dropout": 0.0,
}
# Only the main process is interrupted: the other has to learn of it.
INTERRUPTED = """
import os, signal
from ser_bench import cli, runner
own = runner.run

def run(*words, **options):
    def progress(what, done, total):
        if what.startswith("epoch 2") and done == 3:
            os.kill(os.getpid(), signal.SIGINT)
    return own(*words, **{**options, "progress": progress})

runner.run = run
code = cli.main(given["words"])
assert code == 130, code
open(f"{given['folder']}/ended-{os.environ['RANK']}", "w").close()
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_release(tmp_path_factory.mktemp("release"), utterances=COUNTS, seconds=(0.3, 1.2))


@pytest.fixture(scope="module")
def alone(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    runner.run(**options(release, folder))
    return folder


def options(release: Path, folder: Path) -> dict[str, Any]:
    return {
        "plugin": "logmel_words",
        "corpus": str(release),
        "weights": ["tiny"],
        "changes": CHANGES,
        "out": str(folder),
        "cache": release.parent / "cache",
        "device": "cpu",
    }


def words(release: Path, folder: Path, *more: str) -> list[str]:
    changes = [f"recipe.{key}={value}" for key, value in CHANGES.items()]
    cache = str(release.parent / "cache")
    given = ["--plugin", "logmel_words", "--corpus", str(release), "--weights", "tiny", "--out", str(folder)]
    return ["run", *given, "--cache", cache, "--device", "cpu", "--set", *changes, *more]


def predictions(folder: Path) -> np.ndarray:
    table = pq.read_table(folder / "seed-1" / "predictions.parquet")
    return np.stack([table[name].to_numpy() for name in ("arousal", "valence", "dominance")])


def test_two_processes_under_a_launcher_go_on_with_what_one_began(release: Path, alone: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("epoch 1") and done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        runner.run(**options(release, tmp_path / "run"), progress=interrupt)
    # --cpu would start one process, whatever the number: accelerate leaves several on CPUs to MPI and to torchrun.
    started = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    settled = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [
            *started,
            *settled,
            "-m",
            "ser_bench",
            *words(release, tmp_path / "run", "--json", "--resume", "--micro-batch", "2"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"run", "signature", "summary"}  # one object, from one process
    record, expected = records.read(tmp_path / "run" / "record.json"), records.read(alone / "record.json")
    assert record["signature"] == expected["signature"]
    assert record["runs"][0]["best_epoch"] == expected["runs"][0]["best_epoch"]
    assert np.abs(predictions(tmp_path / "run") - predictions(alone)).max() < 1e-4
    files = [sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) for folder in (tmp_path / "run", alone)]
    assert files[0] == files[1]
    logs = [(folder / "seed-1" / "log.jsonl").read_text().splitlines() for folder in (tmp_path / "run", alone)]
    assert len(logs[0]) == len(logs[1]) == 1 + CHANGES["epochs"]
    assert record["environment"]["processes"] == "2"
    assert "processes" not in expected["environment"]


def test_interrupted_in_two_processes_and_resumed_in_one(
    release: Path, alone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"folder": str(tmp_path), "words": words(release, tmp_path / "run")}
    told = launch(INTERRUPTED, given, 2)
    assert sorted(path.name for path in tmp_path.glob("ended-*")) == ["ended-0", "ended-1"]
    again = f"interrupted; `ser-bench run --plugin logmel_words --corpus {release}"
    assert [text.count(again) for text in told] == [1, 0]
    assert "--resume` goes on" in told[0]
    at = saved.read(tmp_path / "run" / "seed-1" / "checkpoints" / "last.safetensors")[1]["at"]
    assert (at["epoch"], at["step"], at["processes"]) == (2, 4, 2)  # the step that was being taken is finished
    with caplog.at_level(logging.WARNING):
        runner.run(**options(release, tmp_path / "run"), resume=True)
    assert "processes: 1, after 2 before: dropout draws other masks" in caplog.text
    assert np.abs(predictions(tmp_path / "run") - predictions(alone)).max() < 1e-4
