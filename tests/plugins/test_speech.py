"""The speech encoders against transformers' own models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins.parts import alone, part, same, wave
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertForCTC, HubertModel, WhisperConfig, WhisperFeatureExtractor
from transformers import WhisperForConditionalGeneration as FullWhisper
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ser_bench.errors import PluginError
from ser_bench.host import host
from ser_bench_plugins.pretrained import shipped

AUDIO = [offer.spec.name for offer in host().usable("audio")]


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> tuple[HubertModel, Path]:
    """A full-size DistilHuBERT of random weights, on disk as the hub's: old names of the weight norm, a head on top."""
    torch.manual_seed(1)
    model = HubertForCTC(HubertConfig(**shipped("distilhubert"))).eval()
    torch.nn.init.normal_(model.hubert.feature_extractor.conv_layers[0].layer_norm.weight, 1.0, 0.1)
    folder = tmp_path_factory.mktemp("distilhubert")
    model.save_pretrained(folder)
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = load_file(folder / "model.safetensors")
    for new, old in names.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return model.hubert, folder


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


@pytest.mark.parametrize("depth", [None, 1])
@pytest.mark.parametrize("seconds", [0.4, 3.17])
@torch.no_grad()
def test_hubert_states_are_the_librarys(hubert: tuple[HubertModel, Path], seconds: float, depth: int | None) -> None:
    reference, folder = hubert
    ours = part("audio", "distilhubert", folder, depth=depth)
    expected = reference(wave(seconds)[None], output_hidden_states=True)
    states = alone(ours, ours.frontend(wave(seconds)))
    assert len(states) == ours.depth + 1 == (depth or 2) + 1
    for state, theirs in zip(states, expected.hidden_states, strict=depth is None):
        same(state, theirs[0])
    if depth is None:
        same(states[-1], expected.last_hidden_state[0])


@torch.no_grad()
def test_hubert_pads_what_is_shorter_than_a_frame(hubert: tuple[HubertModel, Path]) -> None:
    reference, folder = hubert
    short = wave(0.02)
    assert len(short) == 320
    ours = part("audio", "distilhubert", folder)
    expected = reference(torch.nn.functional.pad(short, (0, 80))[None]).last_hidden_state[0]
    same(alone(ours, ours.frontend(short))[-1], expected)


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


def test_layers_beyond_the_depth_are_absent(hubert: tuple[HubertModel, Path]) -> None:
    cut, whole = (part("audio", "distilhubert", hubert[1], depth=depth) for depth in (1, None))
    assert {name.split(".")[2] for name in cut.state_dict() if name.startswith("context.layers.")} == {"0"}
    layer = sum(p.numel() for p in whole.context.layers[1].parameters())
    assert sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in cut.parameters()) == layer > 7e6


@pytest.mark.parametrize("name", AUDIO)
def test_front_end_reads_the_exact_wave_and_nothing_else(name: str) -> None:
    encoder = part("audio", name, "random", depth=0)
    other = wave(1.0, seed=5)
    for seconds in (1 / 16_000, 0.02, 0.025, 0.4, 2.0):
        samples = wave(seconds)
        first = encoder.frontend(samples)
        assert first.ndim == 2
        assert len(first) >= 1
        assert first.dtype == torch.float32
        assert first.isfinite().all()
        encoder.frontend(other)
        torch.manual_seed(99)
        again = encoder.train().frontend(samples.clone())
        encoder.eval()
        assert torch.equal(first, again)
        assert not first.requires_grad
        assert torch.equal(samples, wave(seconds))  # left as it was
    # Every sample counts, the last ones as well, and a wave is not seen as one padded with zeros.
    changed = wave(0.4)
    changed[-400:] += 0.5
    assert not torch.equal(encoder.frontend(changed), encoder.frontend(wave(0.4)))
    assert len(encoder.frontend(wave(0.8))) > len(encoder.frontend(wave(0.4)))


@pytest.mark.parametrize("name", AUDIO)
def test_silence_gives_finite_frames(name: str) -> None:
    encoder = part("audio", name, "random", depth=0)
    assert encoder.frontend(torch.zeros(8000)).isfinite().all()


@pytest.mark.parametrize("name", [name for name in AUDIO if name != "whisper_base"])
def test_35_seconds(name: str) -> None:
    encoder = part("audio", name, "tiny", depth=0)
    assert abs(len(encoder.frontend(wave(35))) - 35 * 50) <= 2


def test_whisper_refuses_more_than_30_seconds() -> None:
    encoder = part("audio", "whisper_base", "tiny")
    assert len(encoder.frontend(wave(30))) == 1500
    message = r"Whisper reads at most 30 s, and this utterance has 35\.0 s\. Cut it, or use an encoder without fixed"
    with pytest.raises(PluginError, match=message):
        encoder.frontend(wave(35))
    with pytest.raises(PluginError, match="reads at most 30 s"):
        encoder.frontend(torch.zeros(480_001))
