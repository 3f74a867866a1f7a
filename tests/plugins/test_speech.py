"""The encoders of the wav2vec 2.0 kind against transformers' own models, and what all audio front ends keep to."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugins.parts import alone, library, padding_error, part, same, wave
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertForCTC, HubertModel, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

from ser_bench.host import host
from ser_bench.interface import Regularisation
from ser_bench_plugins import speech
from ser_bench_plugins.pretrained import shipped

AUDIO = [offer.spec.name for offer in host().usable("audio")]
SPEECH = ["distilhubert", "hubert_base", "w2v2_l_robust_p", "wavlm_base_plus"]

NORM_FIRST = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec 2.0 base": ("wav2vec2", {}),
    "wav2vec 2.0 large": ("wav2vec2", NORM_FIRST),
    "HuBERT base": ("hubert", {}),
    "HuBERT large": ("hubert", NORM_FIRST),
    "DistilHuBERT": ("hubert", {"feat_proj_layer_norm": False}),
    "mHuBERT": ("hubert", {"conv_pos_batch_norm": True}),
    "WavLM base": ("wavlm", {}),
    "WavLM large": ("wavlm", NORM_FIRST),
    "data2vec-audio": ("data2vec-audio", {}),
}
# Full size, each as its configuration ships, or as the library's default where none does.
FULL = {
    "wav2vec 2.0 large robust, pruned": ("wav2vec2", shipped("w2v2_l_robust_p") | {"num_hidden_layers": 12}),
    "HuBERT base": ("hubert", shipped("hubert_base")),
    "WavLM base+": ("wavlm", shipped("wavlm_base_plus")),
    "data2vec-audio base": (
        "data2vec-audio",
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "conv_dim": [512] * 7,
            "num_conv_pos_embedding_groups": 16,
            "num_conv_pos_embeddings": 5,
            "conv_pos_kernel_size": 19,
        },
    ),
}


def wrapped(reference: Any, **regularisation: float) -> Any:
    """Make our encoder of the library's model; they share their parameters."""
    family = speech.FAMILIES[reference.config.model_type]
    settings = Regularisation(**{"dropout": 0.0, **regularisation})
    return family.module(reference, settings, normalise=False).eval()


@torch.no_grad()
def check_states(reference: Any, ours: Any, samples: torch.Tensor) -> None:
    """Compare all states with the library's; its last layer's come after the final norm where that stands there."""
    expected = reference(samples[None], output_hidden_states=True)
    states = alone(ours, ours.frontend(samples))
    assert len(states) == ours.depth + 1 == len(expected.hidden_states)
    for state, theirs in zip(states, [*expected.hidden_states[:-1], expected.last_hidden_state], strict=True):
        same(state, theirs[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.4, 3.17])
def test_states_are_the_librarys(kind: str, seconds: float) -> None:
    type_, changes = KINDS[kind]
    reference = library(speech.FAMILIES[type_], **changes)
    check_states(reference, wrapped(reference), wave(seconds))


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_has_the_states_it_has_alone(kind: str) -> None:
    type_, changes = KINDS[kind]
    ours = wrapped(library(speech.FAMILIES[type_], **changes))
    frames = [ours.frontend(wave(s, seed=n)) for n, s in enumerate([0.4, 12.0, 3.1, 0.05, 7.3])]
    for garbage in (0.0, 1e4, np.nan):
        assert padding_error(ours, frames, garbage=garbage) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", FULL)
def test_both_at_full_size(kind: str) -> None:
    type_, settings = FULL[kind]
    reference = library(speech.FAMILIES[type_], **settings)
    assert sum(p.numel() for p in reference.parameters()) > 9e7
    ours = wrapped(reference)
    check_states(reference, ours, wave(1.3))
    frames = [ours.frontend(wave(s, seed=n)) for n, s in enumerate([12.0, 0.4, 2.2])]
    assert padding_error(ours, frames, garbage=np.nan) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_trainable_parameter_is_reached_and_no_other(kind: str) -> None:
    type_, changes = KINDS[kind]
    ours = wrapped(library(speech.FAMILIES[type_], **changes), time_mask=0.1).train()
    frames = [ours.frontend(wave(s)) for s in (2.0, 1.0)]
    torch.manual_seed(0)
    hidden = ours(torch.nn.utils.rnn.pad_sequence(frames, batch_first=True), torch.tensor([99, 49])).hidden
    (hidden[0, :99] * torch.randn(99, 32)).sum().backward()
    for name, parameter in ours.named_parameters():
        if name.startswith("convolutions."):
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            # A shift of all keys changes no attention weight, so its gradient is 0 but for rounding.
            assert name.endswith("k_proj.bias") or float(parameter.grad.abs().max()) > 1e-5, name
            assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_training_differs_by_each_dropout_and_by_nothing_else(kind: str) -> None:
    family, changes = speech.FAMILIES[KINDS[kind][0]], KINDS[kind][1]
    ours = wrapped(library(family, **changes))
    kept = {name: value.clone() for name, value in ours.state_dict().items()}
    frames = [ours.frontend(wave(s)) for s in (1.0, 0.5)]
    calm = alone(ours, frames[1])[-1]
    together = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    same(ours.train()(together, torch.tensor([49, 24])).hidden[1, :24], calm)
    assert all(torch.equal(value, kept[name]) for name, value in ours.state_dict().items())
    for dropout in family.dropouts:
        ours = wrapped(library(family, **changes, **{dropout: 0.5}))
        same(alone(ours, frames[1])[-1], calm)
        assert float((alone(ours.train(), frames[1])[-1] - calm).abs().max()) > 1e-3, dropout


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_dropped_layer_is_passed_by(kind: str) -> None:
    type_, changes = KINDS[kind]
    ours = wrapped(library(speech.FAMILIES[type_], **changes), layerdrop=1.0)
    frames = ours.frontend(wave(1.0))
    first, *_ = alone(ours, frames)
    dropped = alone(ours.train(), frames)
    assert torch.equal(dropped[1], first)
    last = ours.context.layer_norm(first) if ours.norm_first else first
    assert torch.equal(dropped[2], last)
    assert not torch.equal(alone(ours.eval(), frames)[2], last)


@pytest.mark.parametrize("name", SPEECH)
@torch.no_grad()
def test_the_wave_is_scaled_as_the_checkpoints_feature_extractor_does(name: str) -> None:
    normalised = {"distilhubert": False, "hubert_base": True, "w2v2_l_robust_p": True, "wavlm_base_plus": False}[name]
    ours = part("audio", name, "tiny")
    samples = 0.2 * wave(1.7) + 0.05
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalised)
    given = extractor(samples.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    assert (float((given[0] - samples).abs().max()) > 1) is normalised
    same(ours.frontend(samples), ours.convolutions(given)[0].T)
    assert ours.frontend(torch.full((8000,), 0.1)).isfinite().all()
    assert ours.frontend_state()["normalise"] is ours.normalise is normalised


@torch.no_grad()
def test_the_shortest_wave_depends_on_the_convolutions() -> None:
    kernels, strides = [10, 3, 3, 2], [5, 2, 2, 2]
    reference = library(speech.FAMILIES["hubert"], conv_dim=[16] * 4, conv_kernel=kernels, conv_stride=strides)
    ours = wrapped(reference)
    samples = 10 + (3 - 1) * 5 + (3 - 1) * 10 + (2 - 1) * 20
    assert len(ours.frontend(wave(1.0)[:samples])) == 1
    assert len(ours.frontend(wave(1.0)[: samples - 1])) == 1  # padded
    assert len(ours.frontend(wave(1.0)[: samples + 40])) == 2
    assert part("audio", "hubert_base", "tiny").frontend(wave(1.0)[:719]).shape[0] == 1
    assert part("audio", "hubert_base", "tiny").frontend(wave(1.0)[:720]).shape[0] == 2


def held_bytes() -> int:
    """Return the bytes of all tensors alive, counting what several share once."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@pytest.mark.parametrize("stored", ["safetensors", "pickled state dict"])
def test_a_pruned_encoder_keeps_nothing_of_the_other_layers(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256, "conv_dim": [16] * 7}
    settings = shipped("w2v2_l_robust_p") | small
    reference = library(speech.FAMILIES["wav2vec2"], **settings)
    whole = Wav2Vec2ForPreTraining(reference.config)
    whole.wav2vec2.load_state_dict(reference.state_dict())
    whole.config.save_pretrained(tmp_path)
    if stored == "safetensors":
        whole.save_pretrained(tmp_path)
    else:
        torch.save(whole.state_dict(), tmp_path / "pytorch_model.bin")
    # The library's own way to prune, as the paper's reference [9]: fewer layers, and the norm after the last one.
    pruned = library(speech.FAMILIES["wav2vec2"], **(settings | {"num_hidden_layers": 12}))
    pruned.load_state_dict({k: v for k, v in reference.state_dict().items() if k in pruned.state_dict()})
    monkeypatch.setattr(speech, "shipped", lambda name: dict(settings))
    before = held_bytes()
    ours = part("audio", "w2v2_l_robust_p", tmp_path)
    own = sum(p.numel() * 4 for p in ours.parameters())
    layer = sum(p.numel() * 4 for p in ours.context.layers[0].parameters())
    assert own <= held_bytes() - before < own + layer
    assert ours.depth == len(ours.context.layers) == 12
    ours.normalise = False
    check_states(pruned, ours, wave(0.7))
    shallow = part("audio", "w2v2_l_robust_p", tmp_path, depth=3)
    assert shallow.depth == len(shallow.context.layers) == 3


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


def test_layers_beyond_the_depth_are_absent(hubert: tuple[HubertModel, Path]) -> None:
    cut, whole = (part("audio", "distilhubert", hubert[1], depth=depth) for depth in (1, None))
    assert {name.split(".")[2] for name in cut.state_dict() if name.startswith("context.layers.")} == {"0"}
    layer = sum(p.numel() for p in whole.context.layers[1].parameters())
    assert sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in cut.parameters()) == layer > 7e6


@pytest.mark.parametrize("name", AUDIO)
def test_front_end_reads_the_exact_wave_and_nothing_else(name: str) -> None:
    encoder = part("audio", name, "random", depth=0)
    other = wave(1.0, seed=5)
    for seconds in (1 / 16_000, 0.02, 0.025, 0.4, 1.3):
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
