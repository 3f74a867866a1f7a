"""Whisper's encoder against transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugins.parts import alone, padding_error, part, same, wave
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers import WhisperForConditionalGeneration as FullWhisper
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ser_bench.errors import PluginError
from ser_bench_plugins.pretrained import shipped


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> tuple[WhisperEncoder, Path]:
    """Whisper base's encoder of random weights, on disk under a full model with a decoder, as the hub's."""
    torch.manual_seed(2)
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    decoder = {"decoder_layers": 1, "decoder_ffn_dim": 8, "decoder_attention_heads": 8, "vocab_size": 50}
    model = FullWhisper(WhisperConfig(**shipped("whisper_base"), **decoder, **special)).eval()
    torch.nn.init.normal_(model.model.encoder.layer_norm.weight, 1.0, 0.1)
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    return model.model.encoder, folder


@torch.no_grad()
def sliced(reference: WhisperEncoder, samples: torch.Tensor) -> list[torch.Tensor]:
    """Compute the library's layers on the utterance's own frames, without the final norm."""
    mel = WhisperFeatureExtractor(feature_size=80)(
        samples.numpy(), sampling_rate=16_000, padding=False, truncation=False, return_tensors="pt"
    ).input_features
    hidden = torch.nn.functional.gelu(reference.conv1(mel))
    hidden = torch.nn.functional.gelu(reference.conv2(hidden)).transpose(1, 2)
    states = [hidden + reference.embed_positions.weight[: hidden.shape[1]]]
    for layer in reference.layers:
        given = layer(states[-1], None)
        states.append(given[0] if isinstance(given, tuple) else given)
    return [state[0] for state in states]


@torch.no_grad()
def check_on_30_seconds(reference: WhisperEncoder, ours: Any) -> None:
    """Compare with the library's encoder where its padding to 30 s pads nothing."""
    clip = wave(30)
    mel = WhisperFeatureExtractor(feature_size=80)(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
    expected = reference(mel.input_features, output_hidden_states=True)
    states = alone(ours, ours.frontend(clip))
    assert len(states) == len(expected.hidden_states) == 7
    assert len(states[0]) == 1500
    for state, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        same(state, theirs[0])
    same(states[-1], expected.last_hidden_state[0])


def check_on_a_shorter_clip(reference: WhisperEncoder, build: Callable[[int | None], Any]) -> None:
    """Compare with the library's layers on sliced positions, whole and cut to two layers, which has no final norm."""
    expected = sliced(reference, wave(2.345))
    for depth in (None, 2, 0):
        ours = build(depth)
        states = alone(ours, ours.frontend(wave(2.345)))
        kept = 6 if depth is None else depth
        assert len(ours.layers) == kept
        assert len(states) == kept + 1
        last = reference.layer_norm(expected[kept]) if depth is None else expected[kept]
        for state, theirs in zip(states, [*expected[:kept], last], strict=True):
            same(state, theirs)


def test_whisper_states_are_the_librarys(whisper: tuple[WhisperEncoder, Path]) -> None:
    reference, folder = whisper
    check_on_30_seconds(reference, part("audio", "whisper_base", folder))


def test_whisper_on_a_shorter_clip(whisper: tuple[WhisperEncoder, Path]) -> None:
    reference, folder = whisper
    check_on_a_shorter_clip(reference, lambda depth: part("audio", "whisper_base", folder, depth=depth))


@pytest.mark.slow
def test_an_utterance_has_the_states_it_has_alone(whisper: tuple[WhisperEncoder, Path]) -> None:
    ours = part("audio", "whisper_base", whisper[1])
    frames = [ours.frontend(wave(s, seed=n)) for n, s in enumerate([12.0, 0.4, 2.2])]
    assert padding_error(ours, frames, garbage=np.nan) <= 1e-5


def test_every_trainable_parameter_is_reached_and_no_other() -> None:
    ours = part("audio", "whisper_base", "tiny").train()
    frames = ours.frontend(wave(1.0))
    (ours(frames[None], torch.tensor([50])).hidden * torch.randn(50, 32)).sum().backward()
    for name, parameter in ours.named_parameters():
        frozen = name.startswith(("convolutions.", "positions."))
        assert parameter.requires_grad is not frozen
        assert (parameter.grad is None) is frozen, name


@pytest.mark.shared
def test_whisper_with_its_real_weights(shared: Path) -> None:
    folder = shared / "models" / "whisper-base-encoder"
    reference = WhisperEncoder.from_pretrained(folder, dtype=torch.float32).eval()
    # The real states reach 20 and more, so 1e-5 is asked of the share, not of the difference.
    ours = part("audio", "whisper_base", folder)
    clip = wave(4.2, seed=3)
    expected = sliced(reference, clip)
    states = alone(ours, ours.frontend(clip))
    for state, theirs in zip(states[:-1], expected[:-1], strict=True):
        same(state / theirs.abs().max(), theirs / theirs.abs().max())
    with torch.no_grad():
        same(states[-1], reference.layer_norm(expected[-1]), limit=1e-4)


def test_whisper_refuses_more_than_30_seconds() -> None:
    encoder = part("audio", "whisper_base", "tiny")
    assert len(encoder.frontend(wave(30))) == 1500
    message = r"Whisper reads at most 30 s, and this utterance has 35\.0 s\. Cut it, or use an encoder without fixed"
    with pytest.raises(PluginError, match=message):
        encoder.frontend(wave(35))
    with pytest.raises(PluginError, match="reads at most 30 s"):
        encoder.frontend(torch.zeros(480_001))
