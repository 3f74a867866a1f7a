"""FT => FRZ: a fine-tuned audio encoder, frozen, with a frozen text encoder and a new head; and released models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ser_bench import records, runner, trained
from ser_bench.corpus import read_wave
from ser_bench.errors import PluginError, TrainingError, WeightsError
from ser_bench.host import Host, Offer
from ser_bench.interface import WholeSystemSpec
from ser_bench.testing import write_release

COUNTS = {"train": 24, "development": 12, "test1": 12, "test2": 12}
CHANGES = {"epochs": 1, "batch_size": 8}
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("corpus"), utterances=COUNTS, seconds=(0.3, 0.5))


@pytest.fixture(scope="module")
def go(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    cache = tmp_path_factory.mktemp("cache")

    def start(plugin: str | None, out: Path, **options: Any) -> Path:
        given: dict[str, Any] = {"strategy": "finetune-freeze", "changes": CHANGES}
        if options.get("strategy", "finetune-freeze") == "finetune-freeze":
            given["head_changes"] = CHANGES | {"learning_rate": 1e-3}
        return runner.run(plugin, corpus=release, out=out, cache=cache, device="cpu", **{**given, **options})

    return start


@pytest.fixture(scope="module")
def place(go: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages, two seeds, of a system whose audio system is installed under a name; treat them as read-only."""
    folder = tmp_path_factory.mktemp("runs")
    go("distilhubert_tinybert", folder / "both", weights=["tiny"], seeds=(1, 2))
    return folder


@pytest.fixture
def first(place: Path) -> Path:
    (folder,) = [path for path in place.iterdir() if path.name != "both"]
    return folder


def tensors(run: Path, seed: int, prefix: str) -> dict[str, torch.Tensor]:
    found = load_file(run / f"seed-{seed}" / "model" / "model.safetensors")
    return {name.partition(prefix)[2]: value for name, value in found.items() if prefix in name}


def test_the_first_stage_is_the_audio_systems_own_run(place: Path, first: Path, go: Run) -> None:
    told, second = records.read(first / "record.json"), records.read(place / "both" / "record.json")
    assert (told["system"]["name"], told["strategy"]) == ("distilhubert", "finetune")
    assert told["transcripts"]["test"] == "none"
    assert first.name == f"distilhubert-{second['first_stage']['settings']}"
    assert second["first_stage"]["system"] == "distilhubert"
    assert [run["first_stage"] for run in second["runs"]] == [run["predictions_sha256"] for run in told["runs"]]
    assert second["recipe"] == told["recipe"] and second["head_recipe"]["learning_rate"] == 1e-3
    both = "+".join(records.digest(second[key], 6) for key in ("recipe", "head_recipe"))
    assert f"|strategy:finetune-freeze|recipe:{both}|" in second["signature"]
    assert go("distilhubert", first, weights=["tiny"], strategy="finetune", seeds=(1, 2)) == first  # the same settings


@pytest.mark.parametrize("seed", [1, 2])
def test_each_seed_keeps_the_encoder_of_its_own_seed(place: Path, first: Path, seed: int) -> None:
    before, after = tensors(first, seed, "audio."), tensors(place / "both", seed, "audio.")
    assert before.keys() == after.keys() and len(before) > 20
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    other = tensors(first, 3 - seed, "audio.")
    assert not all(torch.equal(value, after[name]) for name, value in other.items())


def test_only_the_head_is_trained(place: Path) -> None:
    system = records.read(place / "both" / "record.json")["system"]
    head = sum(value.numel() for value in tensors(place / "both", 1, "head.").values())
    assert system["trainable_parameters"] == head < system["parameters"]


def test_it_is_scored_again_as_it_was(place: Path, release: Path, tmp_path: Path) -> None:
    before = records.read(place / "both" / "record.json")
    again = runner.score(place / "both", corpus=release, out=tmp_path / "again", device="cpu")
    after = records.read(again / "record.json")
    assert after["summary"] == before["summary"] and after["first_stage"] == before["first_stage"]
    wav = next((release / "Audio").glob("*.wav"))
    assert trained.load(place / "both").predict(read_wave(wav), "well")["valence"] is not None


def test_a_given_first_stage(place: Path, first: Path, go: Run, tmp_path: Path) -> None:
    run = go("distilhubert_tinybert", tmp_path / "x" / "both", weights=[f"audio={first}", "text=tiny"], seeds=(2,))
    assert [path.name for path in run.parent.iterdir()] == ["both"]
    made, same = (records.read(folder / "record.json") for folder in (run, place / "both"))
    assert made["runs"][0] == same["runs"][1]
    assert made["signature"].replace("seeds:1", "seeds:2") == same["signature"]
    with pytest.raises(WeightsError, match=r"audio=.* has no finished seed 5, and seed N starts from its seed N"):
        go("distilhubert_tinybert", tmp_path / "y" / "both", weights=[f"audio={first}", "text=tiny"], seeds=(2, 5))
    assert not (tmp_path / "y").exists()


def test_an_audio_system_without_a_name_is_composed(go: Run, tmp_path: Path) -> None:
    go(None, tmp_path / "both", audio="distilhubert", text="words", head="gated", depth=1, weights=["audio=tiny"])
    (made,) = [path for path in tmp_path.iterdir() if path.name != "both"]
    assert records.read(made / "record.json")["system"]["name"] == "distilhubert[1]>gated"
    assert made.name.startswith("distilhubert-1-gated-")


def test_a_first_stage_is_looked_for_beside_the_second_alone(
    place: Path, first: Path, go: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ``out`` is given, a run in ./runs is nobody's business."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(first, tmp_path / "runs" / first.name)
    go("distilhubert_tinybert", tmp_path / "there" / "both", weights=["tiny"])
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["both", first.name]


def test_what_is_no_first_stage(place: Path, first: Path, go: Run, tmp_path: Path) -> None:
    weights = [f"audio={place / 'both'}", "text=tiny"]
    with pytest.raises(WeightsError) as caught:
        go("distilhubert_tinybert", tmp_path / "both", weights=weights)
    assert str(caught.value) == (
        f"--weights audio={place / 'both'} is no first stage for this run: its strategy is 'finetune-freeze', expected "
        "'finetune'; its parts are [('audio', 'distilhubert'), ('text', 'tinybert')], expected [('audio', "
        "'distilhubert')]. Give a finetune run of distilhubert on this release, or leave it out to have one found or "
        "made."
    )
    with pytest.raises(WeightsError, match=r"audio=.*both is a run folder, which is what --strategy finetune-freeze"):
        go("distilhubert_tinybert", tmp_path / "both", weights=weights, strategy="finetune")
    other = write_release(tmp_path / "other", utterances=COUNTS, seconds=(0.3, 0.4), seed=5)
    with pytest.raises(WeightsError, match=r"its labels are '[0-9a-f]{64}', expected '[0-9a-f]{64}'\. Give a finetune"):
        runner.run(
            "distilhubert_tinybert", corpus=other, strategy="finetune-freeze", weights=[f"audio={first}", "text=tiny"],
            out=tmp_path / "both", device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize(
    ("plugin", "options", "error", "message"),
    [
        ("distilhubert", {}, PluginError, r"distilhubert reads audio; finetune-freeze adds a frozen text encoder to a"),
        ("mean_only", {}, PluginError, r"mean_only does not come apart; finetune-freeze adds a frozen text encoder"),
        (
            "logmel_words",
            {"strategy": "frozen", "head_changes": {"epochs": 1}},
            TrainingError,
            r"--set head_recipe\.epochs was given; head_recipe is that of the second stage of --strategy finetune-free",
        ),
        (
            "distilhubert",
            {"strategy": "none"},
            TrainingError,
            r"distilhubert has a fusion head, head:concat, which only training gives values; --strategy none scores",
        ),
        ("mean_only", {"strategy": "none"}, TrainingError, r"mean_only takes what it knows from train rows \(it has"),
        ("mean_only", {"strategy": "none", "seeds": (1, 2)}, TrainingError, r"seeds \[1, 2\] were given with --strate"),
    ],
)
def test_what_a_strategy_refuses(
    go: Run, tmp_path: Path, plugin: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        go(plugin, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


class Released(nn.Module):
    """A made-up released model: the level of the wave, through parameters that nobody trains here."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([3.0, -2.0, 1.0]))

    def audio_frontend(self, wave: torch.Tensor) -> torch.Tensor:
        return wave.square().mean().sqrt()[None, None]

    def frontend_state(self, modality: str) -> dict[str, Any]:
        return {"family": "level"}

    def forward(self, audio: torch.Tensor, audio_lengths: Any, text: Any, text_lengths: Any) -> torch.Tensor:
        return audio[:, 0] * self.scale


def test_a_released_model_is_scored_as_it_is(
    release: Path, go: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Host.discover()
    spec = WholeSystemSpec(name="released", summary="x", reads=("audio",), build=lambda *_, **__: Released())
    found.offers["system", "released"] = [Offer(spec, "stranger", "1.0")]
    for module in ("ser_bench.task", "ser_bench.trained"):
        monkeypatch.setattr(f"{module}.host", lambda: found)
    run = go("released", tmp_path / "run", strategy="none")
    record = records.read(run / "record.json")
    assert (record["strategy"], record["transcripts"]["train"], record["runs"][0]["best_epoch"]) == ("none", "none", 0)
    assert not (run / "seed-1" / "checkpoints").exists() and not (run / "seed-1" / "log.jsonl").exists()
    scale = load_file(run / "seed-1" / "model" / "model.safetensors")
    assert [value.tolist() for value in scale.values()] == [[3.0, -2.0, 1.0]]
    again = runner.score(run, corpus=release, out=tmp_path / "again", device="cpu", condition="noise:white@0dB")
    noisy = records.read(again / "record.json")
    assert noisy["summary"]["test1"]["ccc"] != record["summary"]["test1"]["ccc"]
    assert json.loads((run / "settings.json").read_text())["strategy"] == "none"
