"""An utterance's prediction is its own: alone, among others, in any order, whatever stands past its end."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from plugins.parts import wave

from ser_bench import system
from ser_bench.host import host
from ser_bench.interface import Rows
from ser_bench.training.batches import Batch, Inputs, load
from ser_bench.training.predict import forward, predict

SYSTEMS = [offer.spec.name for offer in host().usable("system")]
SECONDS = [0.4, 12.0, 0.9, 1.3, 5.2, 0.5, 2.2, 0.7, 3.1, 1.7, 0.4, 1.1, 0.6, 2.6, 0.8, 4.0]
TEXTS = ["", "_tinybert"]
SAID = ["", "Yes.", "I really do not know about that one, and I never will.", "oh [laughter] well " * 30]


# The larger encoders are checked at full size one by one, in test_speech.py and test_whisper.py.
AT_FULL_SIZE = ["mean_only", "logmel", "logmel_words", "whisper_base_minilm", "distilhubert_tinybert"]


def test_there_is_something_to_check() -> None:
    papers = {f"{audio}{text}" for audio in ("distilhubert", "hubert_base", "w2v2_l_robust_p") for text in TEXTS}
    assert {*AT_FULL_SIZE, *papers, "whisper_base"} <= set(SYSTEMS)


def built(name: str, weights: dict[str, Any]) -> tuple[torch.nn.Module, Inputs]:
    """Build a system in eval mode and run its front ends on sixteen utterances of 0.4 to 12 s."""
    torch.manual_seed(0)
    plan = host().plan(name)
    module = system.build(plan, weights or dict.fromkeys(plan.parts, "random"), plan.recipe).eval()
    texts = [SAID[n % len(SAID)] for n in range(len(SECONDS))]
    names = [f"{n}.wav" for n in range(len(SECONDS))]
    labels = np.random.default_rng(0).uniform(1, 7, (len(SECONDS), 3))
    column = [""] * len(SECONDS)
    rows = Rows(
        partition="train",
        utterance=names,
        path=names,
        duration=np.array(SECONDS),
        labels=labels,
        emotion=column,
        speaker=column,
        gender=column,
        podcast=column,
        transcript=texts,
    )
    system.fit_texts(module, texts)
    if plan.whole is not None and hasattr(module, "fit"):
        module.fit(rows)
    face: Any = module
    heard = [face.audio_frontend(wave(s, seed=n)) for n, s in enumerate(SECONDS)] if "audio" in plan.reads else None
    read = [face.text_frontend(text).ids for text in texts] if "text" in plan.reads else None
    as_frames: Any = [None if part is None else [one.numpy() for one in part] for part in (heard, read)]
    inputs = Inputs(
        utterance=names,
        duration=np.array(SECONDS),
        labels=((labels - 1) / 6).astype(np.float32),
        audio=as_frames[0],
        text=as_frames[1],
    )
    return module, inputs


def spoilt(batch: Batch) -> Batch:
    """Write NaN past the end of the audio and other tokens past the end of the text."""
    audio, text = (None if tensor is None else tensor.clone() for tensor in (batch.audio, batch.text))
    for tensor, lengths, garbage in ((audio, batch.audio_lengths, torch.nan), (text, batch.text_lengths, 3)):
        if tensor is not None and lengths is not None:
            for row, length in enumerate(lengths.tolist()):
                tensor[row, length:] = garbage
    return dataclasses.replace(batch, audio=audio, text=text)


@torch.no_grad()
def check(module: torch.nn.Module, inputs: Inputs) -> None:
    everybody = np.arange(len(inputs))
    alone = torch.cat([forward(module, load(inputs, everybody[[n]])) for n in everybody])
    assert alone.shape == (16, 3)
    order = np.random.default_rng(1).permutation(len(inputs))
    shuffled = torch.empty(16, 3)
    shuffled[torch.from_numpy(order)] = forward(module, load(inputs, order))
    garbled = forward(module, spoilt(load(inputs, everybody)))
    by_length = torch.from_numpy(predict(module, inputs, batch_size=5, device=torch.device("cpu"))).float()
    for other in (shuffled, garbled, by_length):
        assert float((other - alone).abs().max()) <= 1e-5
    if inputs.audio is not None or inputs.text is not None:
        assert alone.std(0).min() > 1e-3  # they could be told apart


@pytest.mark.parametrize("name", SYSTEMS)
def test_small(name: str) -> None:
    check(*built(name, dict.fromkeys(host().plan(name).parts, "tiny")))


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_FULL_SIZE)
def test_at_full_size_with_random_weights(name: str) -> None:
    check(*built(name, {}))


@pytest.mark.shared
@pytest.mark.slow
def test_with_real_weights(shared: Any) -> None:
    folders = {
        "audio": shared / "models" / "whisper-base-encoder",
        "text": shared / "models" / "all-MiniLM-L6-v2",
    }
    check(*built("whisper_base_minilm", folders))


def test_the_check_notices_a_system_that_reads_its_neighbours() -> None:
    module, inputs = built("logmel", {"audio": "tiny"})

    class Leaky(torch.nn.Module):
        def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> torch.Tensor:
            predicted: torch.Tensor = module(audio, audio_lengths, text, text_lengths)
            return predicted + 1e-3 * audio.shape[1] / 600  # padding

    with pytest.raises(AssertionError):
        check(Leaky(), inputs)
