"""The opponents that our speed is measured against train the same thing, as well as they can."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speed import opponents

from ser_bench import synthetic, system
from ser_bench.host import host
from ser_bench.prepare import audio_array, text_array
from ser_bench.testing import write_wav
from ser_bench.training.batches import Inputs, load
from ser_bench.training.predict import forward

CPU = torch.device("cpu")


def built(name: str = "distilhubert_tinybert") -> tuple[Any, Any]:
    plan = host().plan(name)
    torch.manual_seed(0)
    return plan, system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe).eval()


class Held(list[Any]):
    def truncated(self, number: int) -> bool:
        return False


@pytest.mark.parametrize("name", ["distilhubert_tinybert", "distilhubert", "w2v2_l_robust_p"])
@pytest.mark.parametrize("python_pooling", [False, True])
def test_waves_of_one_length_give_what_stored_frames_give(name: str, python_pooling: bool) -> None:
    plan, module = built(name)
    waves = [synthetic.wave(0.5, number) for number in range(4)]
    texts = [synthetic.text(2.0 + number, number) for number in range(4)] if "text" in plan.reads else []
    ids = [text_array(module, text)[0] for text in texts]
    inputs = Inputs(
        utterance=["a"] * 4,
        duration=np.full(4, 0.5),
        labels=np.zeros((4, 3), np.float32),
        audio=Held([audio_array(module, wave, CPU) for wave in waves]),
        text=Held(ids) if texts else None,
    )
    batch: list[dict[str, Any]] = [{"wave": wave, "labels": np.zeros(3, np.float32)} for wave in waves]
    for one, tokens in zip(batch, ids, strict=False):
        one["ids"] = tokens.astype(np.int64)
    model = opponents.FromWaves(module, python_pooling=python_pooling)
    with torch.no_grad():
        ours = forward(module, load(inputs, np.arange(4)).to(CPU))
        theirs = model(**{k: v for k, v in opponents.collated(batch).items() if k != "labels"})["logits"]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_valid_frames_are_those_that_are_stored() -> None:
    _, module = built("distilhubert")
    waves = [synthetic.wave(seconds, number) for number, seconds in enumerate((0.3, 0.71, 1.234))]
    lengths: list[int] = []
    forward = module.audio.forward
    module.audio.forward = lambda frames, own, **options: (
        lengths.extend(own.tolist()) or forward(frames, own, **options)
    )
    batch = [{"wave": wave, "labels": np.zeros(3, np.float32)} for wave in waves]
    opponents.FromWaves(module)(**opponents.collated(batch))
    assert lengths == [len(audio_array(module, wave, CPU)) for wave in waves]


@pytest.fixture
def data(tmp_path: Path) -> opponents.Waves:
    paths = [tmp_path / f"{number}.wav" for number in range(40)]
    for number, path in enumerate(paths):
        write_wav(path, synthetic.wave(0.1 + 0.01 * number, number).astype(np.float64))
    return opponents.Waves(paths, None, np.random.default_rng(0).uniform(0, 1, (40, 3)).astype(np.float32))


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_baseline_steps_after_so_many_batches(data: opponents.Waves, accumulation: int) -> None:
    _, module = built("distilhubert")
    before = [p.clone() for p in module.head.parameters()]
    seen: list[str] = []
    opponents.baseline(
        opponents.FromWaves(module, python_pooling=True), data, epochs=2, batch_size=4, accumulation=accumulation,
        learning_rate=1e-3, cuda=False, on_epoch=lambda: seen.append("epoch"), on_step=lambda: seen.append("step"),
    )  # fmt: skip
    assert seen == ["epoch", *["step"] * (10 // accumulation)] * 2
    assert not torch.equal(before[0], next(module.head.parameters()))


def test_a_trainer_takes_batches_of_like_lengths(data: opponents.Waves, tmp_path: Path) -> None:
    _, module = built("distilhubert")
    spans: dict[bool, list[int]] = {False: [], True: []}
    for grouped, spread in spans.items():
        model = opponents.FromWaves(module)
        model.register_forward_pre_hook(
            lambda module, given, named, spread=spread: spread.append(np.ptp(named["attention_mask"].sum(1).numpy())),
            with_kwargs=True,
        )
        opponents.trainer(
            model, data, [float(n) for n in range(40)], epochs=1, batch_size=2, learning_rate=1e-3, grouped=grouped,
            workers=0, cuda=False, folder=tmp_path / "out", on_epoch=lambda: None, on_step=lambda: None,
        )  # fmt: skip
        assert len(spread) == 20
    assert np.mean(spans[True]) < np.mean(spans[False]) / 2


@pytest.mark.slow
def test_the_command_prints_a_table(tmp_path: Path) -> None:
    script = Path(__file__).parent / "speed" / "training.py"
    words = [
        "--systems",
        "distilhubert",
        "--utterances",
        "16",
        "--weights",
        "tiny",
        "--json",
        str(tmp_path / "found.json"),
    ]
    sides = ["ours", "baseline, accumulating 1"]
    done = subprocess.run(
        [sys.executable, str(script), *words, "--sides", *sides], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "distilhubert: audio seconds per second, and how many times as fast we are" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())["systems"]["distilhubert"]
    assert list(found) == sides
    assert all(one["later"] > 0 for one in found.values())
    assert found["ours"]["first"] > 0 and found["ours"]["store_seconds"] > 0
    assert found["baseline, accumulating 1"]["first"] is None  # it only warms up
