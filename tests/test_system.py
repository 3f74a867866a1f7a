"""The one face of a system, whole, composed or frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training.toys import Encoder, Mean, composed

from ser_bench import system
from ser_bench.errors import PluginError
from ser_bench.host import Offer, Plan, host
from ser_bench.interface import AudioEncoderSpec, Encoded, FusionHeadSpec, Recipe
from ser_bench.pooling import pool
from ser_bench.training.batches import Inputs, load
from ser_bench.training.predict import predict

CPU = torch.device("cpu")
WAVES = [torch.randn(4 * t, generator=torch.Generator().manual_seed(t)) for t in (3, 9, 1, 5)]


def stored(module: Any) -> Inputs:
    frames = [module.audio_frontend(wave).numpy() for wave in WAVES]
    return Inputs(
        utterance=list("abcd"),
        duration=np.array([3.0, 9, 1, 5]),
        labels=np.zeros((4, 3), np.float32),
        audio=frames,  # type: ignore[arg-type]
        text=None,
    )


@pytest.mark.parametrize(
    ("pooling", "layers", "shape"),
    # What is kept of an utterance of 3 frames: [1, p], [L, p], [t, d], [t, L d].
    [("mean", False, (1, 4)), ("mean", True, (3, 4)), (None, False, (3, 4)), (None, True, (3, 12))],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_frozen_is_the_composition_in_eval_mode(
    pooling: str | None, layers: bool, shape: tuple[int, int], batch_size: int
) -> None:
    whole = composed(pooling=pooling, layers=layers, dropout=0.5).eval()
    expected = predict(whole, stored(whole), batch_size=batch_size, device=CPU)
    frozen = system.Frozen(composed(pooling=pooling, layers=layers, dropout=0.5))
    inputs = stored(frozen)
    assert inputs.audio is not None
    assert inputs.audio[0].shape == shape
    assert inputs.audio[0].dtype == np.float32
    found = predict(frozen, inputs, batch_size=batch_size, device=CPU)
    assert np.abs(found - expected).max() < 1e-6
    assert np.ptp(expected, axis=0).min() > 1e-2


@pytest.mark.parametrize("head", ["concat", "linear"])
@torch.no_grad()
def test_frozen_with_the_built_in_parts(head: str) -> None:
    plan = host().compose(audio="distilhubert", text="tinybert", head=head)
    torch.manual_seed(0)
    whole: Any = system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe).eval()
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) * 0.1 for n in (4000, 9000)]
    texts = ["", "well it was a long day"]

    def found(module: Any) -> torch.Tensor:
        frames: Any = [module.audio_frontend(wave).numpy() for wave in waves]
        tokens: Any = [module.text_frontend(text).ids.numpy() for text in texts]
        batch = load(
            Inputs(utterance=texts, duration=np.ones(2), labels=np.zeros((2, 3)), audio=frames, text=tokens),
            np.arange(2),
        )
        given: torch.Tensor = module(batch.audio, batch.audio_lengths, batch.text, batch.text_lengths)
        return given

    expected = found(whole)
    frozen = found(system.Frozen(whole).eval())
    assert float((frozen - expected).abs().max()) < 1e-6


def test_frozen_encoders_are_in_eval_mode_from_the_start() -> None:
    frozen = system.Frozen(composed(dropout=0.5))
    for _ in range(2):
        assert frozen.inner.head.training
        assert not any(module.training for module in frozen.inner.audio.modules())
        assert torch.equal(frozen.audio_frontend(WAVES[0]), frozen.audio_frontend(WAVES[0]))
        frozen.train()
    assert not frozen.eval().inner.head.training
    assert system.count(frozen) == (4 * 4 * 2 + 8 + 15, 15)


def test_frozen_states_depend_on_weights_pooling_and_layers() -> None:
    states = [
        system.digest(system.Frozen(composed(pooling=pooling, layers=layers, seed=seed)).frontend_state("audio"))
        for pooling, layers, seed in (("mean", False, 0), ("max", False, 0), ("mean", True, 0), ("mean", False, 1))
    ]
    assert len(set(states)) == 4
    again = system.Frozen(composed())
    torch.nn.init.zeros_(again.inner.head.layer.weight)  # the head is no part of what is stored
    assert system.digest(again.frontend_state("audio")) == states[0]


@torch.no_grad()
def test_composed_pools_what_the_head_asks_for() -> None:
    frames, lengths = torch.randn(2, 6, 4), torch.tensor([6, 2])
    one = composed(pooling="mean_max")
    hidden = one.audio(frames, lengths).hidden
    assert torch.equal(one.encode("audio", frames, lengths), pool("mean_max", hidden, lengths))
    every = composed(layers=True).encode("audio", frames, lengths)
    assert isinstance(every, torch.Tensor)
    assert every.shape == (2, 3, 4)
    assert torch.equal(every[:, 0], pool("mean", frames, lengths))
    assert isinstance(composed(pooling=None).encode("audio", frames, lengths), Encoded)


def test_a_modality_that_is_not_there() -> None:
    with pytest.raises(PluginError, match=r"this system reads no text, yet text was given to it\."):
        composed().text_frontend("hello")


def test_layers_that_are_not_given() -> None:
    one = composed(layers=True)
    one.audio.forward = lambda frames, lengths, *, layers: Encoded(frames, lengths, None)
    with pytest.raises(PluginError, match=r"the audio encoder gave no layers though its head reads them"):
        one.encode("audio", torch.randn(1, 2, 4), torch.tensor([2]))


def plan(build: Any) -> Plan:
    audio = Offer(AudioEncoderSpec(name="toy", summary="toy", dim=4, depth=2, build=build), "toys", "1.2")
    head = Offer(FusionHeadSpec(name="mean", summary="toy", pooling="mean_std", build=_head), "toys", "1.2")
    return Plan(
        name="toy", distribution="toys", version="1.2", recipe=Recipe(head_dropout=0.3), audio=audio, head=head, depth=1
    )


def _head(audio: int | None, text: int | None, *, dropout: float) -> torch.nn.Module:
    assert (audio, text, dropout) == (8, None, 0.3)  # mean and standard deviation of width 4
    return Mean(8)


def test_build_hands_over_depth_width_and_dropout() -> None:
    given: dict[str, Any] = {}

    def build(weights: Any, **rest: Any) -> torch.nn.Module:
        given.update(rest, weights=weights)
        return Encoder()

    recipe = Recipe(head_dropout=0.3)
    built = system.build(plan(build), {"audio": "tiny"}, recipe)
    assert given == {"weights": "tiny", "depth": 1, "regularisation": recipe.regularisation}
    assert isinstance(built, system.Composed)
    assert built(torch.randn(2, 5, 4), torch.tensor([5, 3]), None, None).shape == (2, 3)


def test_a_strangers_build_that_fails_is_named() -> None:
    def broken(weights: Any, **rest: Any) -> torch.nn.Module:
        raise KeyError("layer")

    with pytest.raises(PluginError, match=r"audio:toy \(toys 1\.2\) failed to build: KeyError: 'layer'"):
        system.build(plan(broken), {}, Recipe())
    with pytest.raises(PluginError, match=r"audio:toy \(toys 1\.2\): build gave a list, expected a torch\.nn\.Module"):
        system.build(plan(lambda *_, **__: []), {}, Recipe())


def test_digest_sees_values_shapes_types_and_names() -> None:
    value = torch.arange(6.0)
    states: list[dict[str, Any]] = [
        {"a": value},
        {"b": value},
        {"a": value.reshape(2, 3)},
        {"a": value.double()},
        {"a": value + torch.tensor([0, 0, 0, 0, 0, 1e-6])},
        {"a": value, "limit": 3},
        {"a": value, "limit": "3"},
        {"a": torch.zeros(0)},
    ]
    assert len({system.digest(state) for state in states}) == len(states)
    assert system.digest({"b": 1, "a": value}) == system.digest({"a": value.clone(), "b": 1})


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_runs_in_float32_under_autocast(frozen: bool) -> None:
    seen = []
    module: Any = composed()
    real = module.head.forward

    def forward(audio: Any, text: Any) -> torch.Tensor:
        seen.append((audio.dtype, torch.is_autocast_enabled("cpu")))
        return real(audio, text)

    module.head.forward = forward
    module = system.Frozen(module) if frozen else module
    inputs = stored(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predict(module, inputs, batch_size=4, device=CPU)
    assert set(seen) == {(torch.float32, False)}
    # A bfloat16 result would lie on a grid of 8 significant bits.
    as_bfloat16 = torch.from_numpy(found).bfloat16().double().numpy()
    assert not np.array_equal(found, as_bfloat16)
