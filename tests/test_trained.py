"""A trained system, saved and opened again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

import ser_bench
from ser_bench import runner, runs, testing
from ser_bench.corpus import read_wave
from ser_bench.errors import PluginError, RecordError, TranscriptError
from ser_bench.interface import ATTRIBUTES

COUNTS = {"train": 16, "development": 4, "test1": 4, "test2": 4}
CHANGES = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-3}
WAVE = np.random.default_rng(0).normal(0, 0.05, 8000).astype(np.float32)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_release(tmp_path_factory.mktemp("release"), utterances=COUNTS, seconds=(0.3, 1.2))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def go(release: Path, cache: Path, out: Path, plugin: str | None = None, **given: Any) -> Path:
    settings: dict[str, Any] = {"weights": ["tiny"], "changes": CHANGES, "frames_dtype": "float32", "device": "cpu"}
    return runner.run(plugin, corpus=release, cache=cache, out=out, **(settings | given))


@pytest.fixture(scope="module")
def run(release: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a small system that reads both."""
    return go(release, cache, tmp_path_factory.mktemp("runs") / "run", "logmel_words", seeds=(1, 3))


def written(run: Path, seed: int = 1) -> dict[str, dict[str, float | None]]:
    rows = pq.read_table(run / f"seed-{seed}" / "predictions.parquet").to_pylist()
    assert len(rows) == 12
    return {row["utterance"]: {name: row[name] for name in ATTRIBUTES} for row in rows}


def check(run: Path, release: Path, *, reads_text: bool, seed: int = 1) -> None:
    """Predict every utterance again from its wav and text, one at a time, and compare with what the run wrote."""
    model = ser_bench.load(run, seed=seed)
    for name, expected in written(run, seed).items():
        text = (release / "Transcripts" / name.replace(".wav", ".txt")).read_text().strip() if reads_text else None
        found = model.predict(read_wave(release / "Audio" / name), text)
        assert list(found) == list(ATTRIBUTES)
        for attribute in ATTRIBUTES:
            assert found[attribute] == pytest.approx(expected[attribute], abs=6e-5), name


@pytest.mark.parametrize("seed", [1, 3])
def test_predicts_what_the_run_wrote(run: Path, release: Path, seed: int) -> None:
    check(run, release, reads_text=True, seed=seed)
    assert written(run, 1) != written(run, 3)


@pytest.mark.parametrize(
    ("given", "reads_text"),
    [
        ({"plugin": "logmel_words", "strategy": "frozen"}, True),
        ({"plugin": "whisper_base_minilm"}, True),
        ({"plugin": "whisper_base_minilm", "strategy": "frozen", "depth": 1}, True),
        ({"audio": "distilhubert", "depth": 1, "head": "linear"}, False),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_every_strategy_and_depth(
    release: Path, cache: Path, tmp_path: Path, given: dict[str, Any], reads_text: bool
) -> None:
    check(go(release, cache, tmp_path / "run", **given), release, reads_text=reads_text)


def test_the_first_finished_seed_is_the_default(run: Path, tmp_path: Path) -> None:
    assert runs.finished(run) == [1, 3]
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "seed-1" / "result.json").unlink()
    by_default, by_name = ser_bench.load(copied), ser_bench.load(run, seed=3)
    assert by_default.predict(WAVE, "a good day") == by_name.predict(WAVE, "a good day")
    with pytest.raises(RecordError, match=r"has no finished seed 1; it has 3\."):
        ser_bench.load(copied, seed=1)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        ser_bench.load(tmp_path)
    assert str(caught.value) == (f"{tmp_path} holds no finished seed; expected a folder that `ser-bench run` made.")


def test_text_is_asked_for_and_refused(run: Path, release: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TranscriptError, match=r"logmel_words reads text: give what is said \(--text\), or what hears it \(--asr\)"
    ):
        ser_bench.load(run).predict(WAVE)
    assert ser_bench.load(run).predict(WAVE, "") is not None
    deaf = go(release, cache, tmp_path / "run", "logmel")
    with pytest.raises(TranscriptError, match=r"logmel reads no text: leave it out \(--text, --asr\)"):
        ser_bench.load(deaf).predict(WAVE, "hello")


@pytest.mark.parametrize(
    ("wave", "given"),
    [
        (None, "no wave"),
        (np.zeros((100, 2), np.float32), r"a wave \[100, 2\] of float32"),
        (np.zeros(0, np.float32), r"a wave \[0\] of float32"),
        (np.full(100, np.nan, np.float32), r"a wave \[100\] of float32"),
        (np.zeros(100, np.int16), r"a wave \[100\] of int16"),  # -32768..32767: another scale
    ],
)
def test_what_is_no_wave(run: Path, wave: Any, given: str) -> None:
    with pytest.raises(PluginError, match=rf"{given} was given; expected finite float32 \[n\] in -1\.\.1, mono"):
        ser_bench.load(run).predict(wave, "hello")


def test_a_text_system_needs_no_wave(release: Path, cache: Path, tmp_path: Path) -> None:
    model = ser_bench.load(go(release, cache, tmp_path / "run", text="words"))
    assert model.predict(None, "a good day") == model.predict(WAVE, "a good day")


def test_the_floor_gives_the_training_mean(release: Path, cache: Path, tmp_path: Path) -> None:
    folder = go(release, cache, tmp_path / "run", "mean_only", weights=[])
    found = ser_bench.load(folder).predict(WAVE)
    labels = np.genfromtxt(release / "Labels" / "labels_consensus.csv", delimiter=",", dtype=str, skip_header=1)
    mean = labels[labels[:, 7] == "Train"][:, [2, 3, 4]].astype(float).mean(axis=0)
    assert [found[name] for name in ATTRIBUTES] == pytest.approx(mean.tolist(), abs=1e-5)
    assert all(row == pytest.approx(found) for row in written(folder).values())


def test_an_attribute_that_was_not_trained_is_none(release: Path, cache: Path, tmp_path: Path) -> None:
    folder = go(release, cache, tmp_path / "run", "logmel", changes={**CHANGES, "attributes": "valence"})
    found = ser_bench.load(folder).predict(WAVE)
    assert found["arousal"] is None
    assert found["dominance"] is None
    assert isinstance(found["valence"], float)
    assert all(row["arousal"] is None and row["valence"] is not None for row in written(folder).values())


def test_vocabulary_is_kept_and_nothing_is_pickled(run: Path) -> None:
    model = run / "seed-1" / "model"
    assert sorted(path.name for path in model.iterdir()) == ["config.json", "model.safetensors"]
    words = ser_bench.load(run).module.text.get_extra_state()
    assert {"well", "day", "of", "us"} <= set(words)
    assert load_file(model / "model.safetensors")["text.embedding.weight"].shape == (len(words) + 2, 16)


def test_what_does_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    path = copied / "seed-1" / "model" / "config.json"
    config = json.loads(path.read_text())
    config["composition"]["depth"] = 1
    path.write_text(json.dumps(config))
    with pytest.raises(RecordError, match=r"model\.safetensors does not fit the system it was saved from: 0 keys are"):
        ser_bench.load(copied)
    config["composition"] |= {"depth": None, "text": None}
    del config["sizes"]["text"]
    path.write_text(json.dumps(config))
    with pytest.raises(RecordError, match=r"does not fit the system it was saved from"):
        ser_bench.load(copied)
    config["composition"]["audio"] = "logmell"
    path.write_text(json.dumps(config))
    with pytest.raises(PluginError, match=r"'logmell' is not installed\. Did you mean 'logmel'"):
        ser_bench.load(copied)


def test_a_damaged_model_is_refused(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    path = copied / "seed-1" / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordError, match=r"model\.safetensors cannot be read as a saved state .*train that seed anew"):
        ser_bench.load(copied)
