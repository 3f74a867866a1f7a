"""The command that a record gives comes to the run that the record is of."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import settings

from ser_bench import recipes, records, runner, task
from ser_bench.cli import main
from ser_bench.interface import Recipe
from ser_bench.leaderboard.reproduce import commands
from ser_bench.testing import write_release

COUNTS = {"train": 20, "development": 12, "test1": 12, "test2": 12}
CHANGES = {"epochs": 1, "batch_size": 8, "regularisation.layerdrop": 0.1, "head_learning_rate": 1e-3}
RUNS: dict[str, dict[str, Any]] = {
    "finetune": {"changes": CHANGES | {"attributes": "valence"}, "frames": "off", "seeds": (3, 4)},
    "frozen": {"changes": CHANGES, "frames_dtype": "float32", "depth": 1},
    "finetune-freeze": {"changes": CHANGES, "head_changes": {"epochs": 2, "batch_size": 10}},
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("corpus"), utterances=COUNTS, seconds=(0.2, 0.4))


@pytest.mark.parametrize("strategy", RUNS)
def test_the_command_comes_to_the_same_settings(
    strategy: str, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner.run(
        "logmel_words", corpus=release, strategy=strategy, out=tmp_path / "run", device="cpu", weights=["tiny"],
        **RUNS[strategy],
    )  # fmt: skip
    (command,) = commands(records.read(run / "record.json"))
    asked: dict[str, Any] = {}

    def remembered(plugin: str | None, **options: Any) -> Path:
        asked.update(options, plugin=plugin)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", remembered)
    words = shlex.split(command.replace("\\\n", " ").replace("DIR", str(release)))
    assert words[0] == "ser-bench" and main(words[1:]) == 130
    seeds = asked.pop("seeds")
    kept = {key: asked[key] for key in asked.keys() & task.resolve.__annotations__.keys() - {"out", "device"}}
    again = task.resolve(**kept, device="cpu", out=tmp_path / "again")
    assert records.canonical(again.settings) == (run / "settings.json").read_text()
    assert tuple(seeds) == RUNS[strategy].get("seeds", (1,))


@pytest.fixture
def described() -> Callable[..., dict[str, Any]]:
    def make(**part: Any) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(json.dumps(settings()))
        made["recipe"] = recipes.as_dict(Recipe())
        made["system"]["parts"][0].update(part)
        made["system"]["name"] = f"{part['name']}>concat"
        return {**made, "runs": [{"seed": 1}]}

    return make


def test_a_described_encoder_is_asked_for_by_its_commit(described: Callable[..., dict[str, Any]]) -> None:
    hub = described(name="hf:own/er@aaaaaaaa", repo="own/er", revision="a" * 40, weights="pretrained")
    assert f"--audio hf:own/er@{'a' * 40} --text words" in commands(hub)[0] and "--weights" not in commands(hub)[0]
    folder = described(name="hf:mine", repo=None, weights="local-01234567")
    assert "--audio hf:DIR --text words" in commands(folder)[0] and "--weights" not in commands(folder)[0]


def test_a_model_that_is_scored_as_it_is_reads_the_texts_it_is_scored_on() -> None:
    made = json.loads(json.dumps(settings(strategy="none", system__reads=["audio", "text"])))
    made["transcripts"] = {"train": "none", "test": "whisper-tiny@abcdef"}
    (command,) = commands({**made, "recipe": recipes.as_dict(Recipe()), "runs": [{"seed": 1}]})
    assert "--transcripts whisper-tiny@abcdef" in command and "--strategy none" in command
