"""A distribution that is none of ours: built, installed into a fresh environment, listed, checked, run, predicted with.

It wraps a speech model that is not of transformers, and a head of its own; nothing in this repository names either.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import Fresh

from ser_bench.testing import write_wav

HERE = Path(__file__).resolve().parent
OFFERED = {("audio", "ta_hubert_base"), ("head", "bilinear"), ("system", "ta_hubert_base_words")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution's source in it."""
    folder = tmp_path_factory.mktemp("foreign")
    shutil.copytree(HERE / "foreign/foreign-speech", folder / "foreign-speech")  # building leaves things behind
    return folder


@pytest.fixture(scope="module")
def fresh(place: Path) -> Fresh:
    """An environment into which the distribution was installed from its wheel."""
    made = Fresh(place / "environment", cache=place / "cache")
    made.run(["pip", "wheel", "--no-deps", "--wheel-dir", "wheels", "./foreign-speech"], folder=place)
    (wheel,) = (place / "wheels").glob("*.whl")
    made.run(["pip", "install", str(wheel)], folder=place)
    shutil.rmtree(place / "foreign-speech/src")  # what is used from here on is what was installed
    return made


def test_nothing_of_ours_names_it() -> None:
    names = ("foreign_speech", "foreign-speech", *(name for _, name in OFFERED))
    for folder in ("benchmark", "plugins"):
        for path in (HERE.parent / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not [name for name in names if name in text], path


def test_it_is_listed(fresh: Fresh, place: Path) -> None:
    done = fresh.run(["ser-bench", "plugins", "list", "--no-count"], folder=place)
    rows = [line.split() for line in done.stdout.splitlines() if " foreign-speech 2.3.0 " in line]
    assert {(row[0], row[1]) for row in rows} == OFFERED
    assert {row[-1] for row in rows} == {"ok"}
    (encoder,) = [row for row in rows if row[0] == "audio"]
    assert encoder[2:5] == ["audio", "MIT", "unpinned"]
    assert done.stderr == ""


def test_it_is_checked(fresh: Fresh, place: Path) -> None:
    done = fresh.run(["ser-bench", "plugins", "check", "head:bilinear", "--json"], folder=place)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["plugin"] == "head:bilinear (foreign-speech 2.3.0)"
    assert told["passed"] is True
    statuses = {one["check"]: one["status"] for one in told["checks"]}
    assert {status for name, status in statuses.items() if name != "devices"} == {"passed"}


def test_its_own_tests_pass(fresh: Fresh, place: Path) -> None:
    """Among them: the same states as torchaudio's own model, and all that it offers keeps the contract."""
    done = fresh.run(["pytest", "-q", "-p", "no:cacheprovider", "foreign-speech"], folder=place)
    assert "8 passed" in done.stdout


def test_it_runs_and_predicts(fresh: Fresh, place: Path) -> None:
    words = ["ser-bench", "run", "--plugin", "ta_hubert_base_words", "--corpus", "demo", "--weights", "tiny"]
    fresh.run([*words, "--set", "recipe.epochs=1", "--out", "run"], folder=place)
    record: dict[str, Any] = json.loads((place / "run/record.json").read_text())
    assert (record["system"]["distribution"], record["system"]["version"]) == ("foreign-speech", "2.3.0")
    assert record["system"]["head"] == "bilinear"
    parts = {part["kind"]: part for part in record["system"]["parts"]}
    assert (parts["audio"]["name"], parts["audio"]["licence"]) == ("ta_hubert_base", "MIT")
    assert parts["text"]["name"] == "words"
    assert record["corpus"]["partitions"]["test1"]["scored"] == record["corpus"]["partitions"]["test1"]["listed"] > 0
    write_wav(place / "said.wav", np.random.default_rng(0).normal(0, 0.1, 16_000))
    predict = ["ser-bench", "predict", "--run", "run", "said.wav", "--text", "what a day", "--json"]
    (predicted,) = json.loads(fresh.run(predict, folder=place).stdout)["predictions"]
    assert all(np.isfinite(predicted[attribute]) for attribute in ("arousal", "valence", "dominance"))
