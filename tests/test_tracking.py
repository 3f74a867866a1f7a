"""Trackers: what a training sends to them, and what is said where one cannot be used."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import ser_bench
from ser_bench import tracking
from ser_bench.errors import TrainingError
from ser_bench.testing import write_release


def test_accelerate_knows_all_of_them() -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert tracking.TRACKERS.keys() == LOGGER_TYPE_TO_CLASS.keys()


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    release = write_release(tmp_path / "release", utterances=40, seconds=(0.1, 0.2))
    changes = {"epochs": 2, "batch_size": 4}
    options = {"corpus": release, "cache": tmp_path / "cache", "device": "cpu", "changes": changes, "seeds": (1, 2)}
    run = ser_bench.run("logmel", **options, out=tmp_path / "run", tracker="tensorboard")
    for seed in (1, 2):
        own = run / f"seed-{seed}"
        lines = [json.loads(line) for line in (own / "log.jsonl").read_text().splitlines()]
        (folder,) = {path.parent for path in own.glob("tracker/ser-bench/events.*")}
        events = EventAccumulator(str(folder)).Reload()
        found = [(event.step, event.value) for event in events.Scalars("development")]
        assert [step for step, _ in found] == [0, 1, 2]
        assert [value for _, value in found] == pytest.approx([line["development"] for line in lines], abs=1e-6)
        assert [event.step for event in events.Scalars("loss")] == [1, 2]
        told = next(own.glob("tracker/ser-bench/*/hparams.yml")).read_text()
        assert f"seed: {seed}\n" in told
        assert "recipe.epochs: 2\n" in told
        assert "system.name: logmel\n" in told
    other = ser_bench.run("logmel", **options | {"seeds": (1,)}, out=tmp_path / "other")
    assert not (other / "seed-1" / "tracker").exists()
    assert (other / "seed-1" / "predictions.parquet").read_bytes() == (
        run / "seed-1" / "predictions.parquet"
    ).read_bytes()  # following a training does not change it


def test_an_unknown_tracker_has_a_near_match() -> None:
    with pytest.raises(
        TrainingError, match=r"tracker 'wanb' is unknown\. Did you mean 'wandb'\? Known are aim, clearml,"
    ):
        ser_bench.run("mean_only", corpus="demo", tracker="wanb")


def test_a_missing_package_is_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(TrainingError) as told:
        ser_bench.run("mean_only", corpus=tmp_path / "nowhere", out=tmp_path / "run", tracker="wandb")
    assert str(told.value) == (
        "--tracker wandb needs the package wandb, which is not installed. Install it with `pip install wandb`, or "
        "leave --tracker out: log.jsonl is always written."
    )
    assert not (tmp_path / "run").exists()
