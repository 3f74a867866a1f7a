"""The fusion heads against hand computation and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plugins.parts import wave
from sklearn.linear_model import Ridge

from ser_bench import system
from ser_bench.host import Offer, Plan, host
from ser_bench.interface import Encoded, FusionHeadSpec, Recipe
from ser_bench.pooling import pool
from ser_bench.training.loss import ccc_loss, concordance_per_column
from ser_bench_plugins.heads import GAIN, Concat, Gated, Linear, WeightedLayers

Given = torch.Tensor | Encoded | None
PENALTIES = [10.0**power for power in range(-1, 7)]


@pytest.mark.parametrize(("audio", "text", "joined", "hidden"), [(6, 4, 10, 6), (6, None, 6, 6), (None, 4, 4, 4)])
@torch.no_grad()
def test_concat_is_two_linear_layers_with_tanh(audio: int | None, text: int | None, joined: int, hidden: int) -> None:
    head = Concat(audio, text, dropout=0.5).eval()
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert sorted(shapes.values()) == sorted([(hidden, joined), (hidden,), (3, hidden), (3,)])
    heard, read = (None if width is None else torch.randn(5, width) for width in (audio, text))
    found = head(heard, read).numpy()
    weights = [p.numpy().astype(np.float64) for p in head.parameters()]
    x = np.concatenate([v.numpy() for v in (heard, read) if v is not None], axis=1)
    expected = np.tanh(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
    assert np.abs(found - expected).max() < 1e-6


@torch.no_grad()
def test_concat_drops_at_both_places_in_training_alone() -> None:
    torch.manual_seed(0)
    head = Concat(64, None, dropout=0.5)
    x = torch.randn(1, 64).expand(200, 64)
    assert head.eval()(x, None).std(0).max() == 0
    assert head.train()(x, None).std(0).min() > 0
    assert [m.p for m in head.layers if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]


def problem(n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three attributes of which each wants another penalty: no noise, some, and noise alone."""
    rng = np.random.default_rng(4)
    audio, text = rng.normal(3, 5, (n, 20)), rng.normal(0, 0.1, (n, 5))
    clean = audio[:, 0] * 0.02 + text[:, 1]
    labels = np.stack([clean, clean + rng.normal(0, 0.1, n), rng.normal(0.5, 0.1, n)], axis=1)
    return tuple(torch.from_numpy(array.astype(np.float32)) for array in (audio, text, labels))  # type: ignore[return-value]


def left_out(z: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """Return the mean squared error of each row under a ridge on all the others."""
    errors = []
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        errors.append(float(Ridge(alpha=penalty).fit(z[others], y[others]).predict(z[[row]])[0] - y[row]) ** 2)
    return float(np.mean(errors))


@torch.no_grad()
def test_linear_starts_from_the_ridge_solution_that_leaves_one_out_best() -> None:
    audio, text, labels = problem()
    head = Linear(20, 5, dropout=0.1).eval()
    head.fit(audio, text, labels)
    x = np.concatenate([audio.numpy(), text.numpy()], axis=1).astype(np.float64)
    z = (x - x.mean(0)) / x.std(0)
    found = head(audio, text).numpy()
    chosen = []
    for column in range(3):
        y = labels[:, column].numpy().astype(np.float64)
        chosen.append(min(PENALTIES, key=lambda penalty: left_out(z, y, penalty)))
        assert np.abs(found[:, column] - Ridge(alpha=chosen[-1]).fit(z, y).predict(z)).max() < 1e-5
    assert len(set(chosen)) == 3  # one choice for all would not do


@torch.no_grad()
def test_linear_with_more_columns_than_rows() -> None:
    audio, text, labels = problem(n=12)
    head = Linear(20, 5, dropout=0.0).eval()
    head.fit(audio, text, labels)
    x = np.concatenate([audio.numpy(), text.numpy()], axis=1).astype(np.float64)
    z = (x - x.mean(0)) / x.std(0)
    y = labels[:, 1].numpy().astype(np.float64)
    best = min(PENALTIES, key=lambda penalty: left_out(z, y, penalty))
    assert np.abs(head(audio, text)[:, 1].numpy() - Ridge(alpha=best).fit(z, y).predict(z)).max() < 1e-5


@torch.no_grad()
def test_linear_leaves_an_attribute_without_labels_alone() -> None:
    audio, text, labels = problem()
    head = Linear(20, 5, dropout=0.0)
    weight, bias = head.layer.weight.clone(), head.layer.bias.clone()
    labels[:, 1] = torch.nan
    head.fit(audio, text, labels)
    assert torch.equal(head.layer.weight[1], weight[1])
    assert torch.equal(head.layer.bias[1], bias[1])
    assert not torch.equal(head.layer.weight[0], weight[0])
    assert head(audio, text).isfinite().all()


@torch.no_grad()
def test_linear_survives_a_constant_column_and_one_modality() -> None:
    audio, _, labels = problem()
    audio[:, 3] = 0.3
    head = Linear(20, None, dropout=0.0)
    head.fit(audio, None, labels)
    assert head(audio, None).isfinite().all()
    assert head.layer.weight[:, 3].abs().max() < 1e-6


def test_linear_keeps_its_standardisation_with_its_weights() -> None:
    audio, text, labels = problem()
    head, other = Linear(20, 5, dropout=0.0), Linear(20, 5, dropout=0.0)
    head.fit(audio, text, labels)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(audio, text), head(audio, text))
    assert {name for name, _ in head.named_parameters()} == {"layer.weight", "layer.bias"}


def plain_of(head: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().astype(np.float64) for name, p in head.named_parameters()}


def plain_concat(weights: dict[str, np.ndarray], x: np.ndarray, prefix: str = "regressor.") -> np.ndarray:
    """Return what ``Concat`` gives for one joined vector, in float64."""
    hidden = np.tanh(weights[f"{prefix}layers.1.weight"] @ x + weights[f"{prefix}layers.1.bias"])
    return weights[f"{prefix}layers.4.weight"] @ hidden + weights[f"{prefix}layers.4.bias"]


def plain_gated(weights: dict[str, np.ndarray], vectors: dict[str, np.ndarray]) -> np.ndarray:
    """Return the unit's output for one utterance, dimension by dimension."""
    hidden = {
        name: np.tanh(weights[f"projections.{name}.weight"] @ v + weights[f"projections.{name}.bias"])
        for name, v in vectors.items()
    }
    mixed = next(iter(hidden.values())).copy()
    if len(vectors) == 2:
        joined = np.concatenate([vectors["audio"], vectors["text"]])
        for i in range(len(mixed)):
            share = 1 / (1 + np.exp(-(weights["gate.weight"][i] @ joined + weights["gate.bias"][i])))
            mixed[i] = share * hidden["audio"][i] + (1 - share) * hidden["text"][i]
    return weights["output.weight"] @ mixed + weights["output.bias"]


@pytest.mark.parametrize(("audio", "text"), [(6, 4), (4, 6), (6, None), (None, 4)])
@torch.no_grad()
def test_gated_is_the_unit_of_the_paper(audio: int | None, text: int | None) -> None:
    torch.manual_seed(0)
    head = Gated(audio, text, dropout=0.5).eval()
    heard, read = (None if width is None else 2 * torch.randn(5, width) for width in (audio, text))
    found = head(heard, read).numpy()
    for row in range(5):
        vectors = {k: v[row].numpy().astype(np.float64) for k, v in (("audio", heard), ("text", read)) if v is not None}
        assert np.abs(found[row] - plain_gated(plain_of(head), vectors)).max() < 1e-6
    assert np.ptp(found, axis=0).min() > 1e-2


def test_parameters_of_the_pooled_heads() -> None:
    def count(head: torch.nn.Module, *fitted: str) -> int:
        assert set(head.state_dict()) == {name for name, _ in head.named_parameters()} | set(fitted)  # no other state
        assert all(p.dtype == torch.float32 for p in head.parameters())
        return sum(p.numel() for p in head.parameters())

    a, t = 768, 312
    assert count(Gated(a, t, dropout=0.1)) == (a + 1) * a + (t + 1) * a + (a + t + 1) * a + 3 * (a + 1)
    assert count(Gated(a, None, dropout=0.1)) == (a + 1) * a + 3 * (a + 1)
    assert count(Gated(None, t, dropout=0.1)) == (t + 1) * t + 3 * (t + 1)
    both = {"audio": 13, "text": 5}
    scales = ("audio_centre", "audio_scale", "text_centre", "text_scale")
    assert count(WeightedLayers(a, t, dropout=0.1, states=both), *scales) == 13 + 5 + (a + t + 1) * a + 3 * (a + 1)
    assert count(WeightedLayers(a, None, dropout=0.1, states={"audio": 13}), *scales[:2]) == 13 + (a + 1) * a + 3 * (
        a + 1
    )


def vector_heads(dropout: float) -> list[tuple[torch.nn.Module, torch.Tensor, torch.Tensor]]:
    """Return each head with what it reads of eight utterances."""
    torch.manual_seed(0)
    gated, layers = (
        Gated(32, 16, dropout=dropout),
        WeightedLayers(32, 16, dropout=dropout, states={"audio": 4, "text": 3}),
    )
    return [
        (gated, torch.randn(8, 32), torch.randn(8, 16)),
        (layers, torch.randn(8, 4, 32), torch.randn(8, 3, 16)),
    ]


@torch.no_grad()
def test_pooled_heads_drop_in_training_alone_and_take_utterances_one_by_one() -> None:
    for head, audio, text in vector_heads(dropout=0.5):
        assert not torch.equal(head(audio, text), head(audio, text))
        expected = head.eval()(audio, text)
        assert torch.equal(head(audio, text), expected)
        order = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
        assert (head(audio[order], text[order]) - expected[order]).abs().max() < 1e-6
        alone = torch.cat([head(audio[[n]], text[[n]]) for n in range(8)])
        assert (alone - expected).abs().max() < 1e-6
    for head, audio, text in vector_heads(dropout=0.0):
        assert torch.equal(head(audio, text), head(audio, text))


@torch.no_grad()
def test_gated_drops_inputs_once_for_projection_and_gate_and_the_mix_once_more() -> None:
    head = Gated(32, 16, dropout=0.5)
    dropped: list[torch.Tensor] = []
    gated: list[torch.Tensor] = []
    head.dropout.register_forward_hook(lambda module, given, made: dropped.append(made))
    head.gate.register_forward_pre_hook(lambda module, given: gated.append(given[0]))  # type: ignore[union-attr]
    head(torch.randn(8, 32), torch.randn(8, 16))
    assert [tuple(one.shape) for one in dropped] == [(8, 32), (8, 16), (8, 32)]
    assert torch.equal(gated[0], torch.cat(dropped[:2], dim=1))


def test_pooled_heads_give_every_parameter_a_gradient() -> None:
    for head, audio, text in vector_heads(dropout=0.1):
        ccc_loss(head(audio, text), torch.rand(8, 3)).backward()
        for parameter in head.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
            assert parameter.grad.abs().max() > 0


@torch.no_grad()
def test_weighted_layers_is_concat_on_the_softmax_weighted_sum() -> None:
    torch.manual_seed(0)
    head = WeightedLayers(6, 4, dropout=0.5, states={"audio": 3, "text": 2}).eval()
    assert head.layer_weights() == {"audio": [1 / 3] * 3, "text": [1 / 2] * 2}
    head.scores["audio"].copy_(torch.tensor([0.5, -1.0, 2.0]) / GAIN)
    head.scores["text"].copy_(torch.tensor([3.0, 1.0]) / GAIN)
    audio, text = torch.randn(5, 3, 6), torch.randn(5, 2, 4)
    found, weights = head(audio, text).numpy(), plain_of(head)
    for row in range(5):
        sums = []
        for name, given in (("audio", audio), ("text", text)):
            exponents = np.exp(GAIN * weights[f"scores.{name}"])
            shares = [e / sum(exponents) for e in exponents]
            assert np.allclose(head.layer_weights()[name], shares, rtol=0, atol=1e-12)
            states = given[row].numpy().astype(np.float64)
            sums.append(sum(share * state for share, state in zip(shares, states, strict=True)))
        assert np.abs(found[row] - plain_concat(weights, np.concatenate(sums))).max() < 1e-6
    alone = WeightedLayers(None, 4, dropout=0.5, states={"text": 2}).eval()
    assert alone.layer_weights() == {"text": [0.5, 0.5]}
    mean = plain_concat(plain_of(alone), text[0].numpy().astype(np.float64).mean(0))
    assert np.abs(alone(None, text)[0].numpy() - mean).max() < 1e-6


def test_weighted_layers_in_a_system_frozen_or_not() -> None:
    spec = FusionHeadSpec(name="layers", summary="under test", pooling="mean_max", layers=True, build=WeightedLayers)
    plan = Plan(
        name="system",
        distribution="ser-bench",
        version="0",
        recipe=Recipe(),
        audio=host().get("audio", "logmel"),
        text=host().get("text", "words"),
        head=Offer(spec, "ser-bench", "0"),
    )
    torch.manual_seed(0)
    whole: Any = system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe).eval()
    assert whole.head.layer_weights() == {"audio": [1 / 3] * 3, "text": [1 / 2] * 2}  # two blocks, one block
    waves, texts = [wave(0.4), wave(1.1, seed=1)], ["a word or two", ""]
    frames, ids = [whole.audio_frontend(one) for one in waves], [whole.text_frontend(one).ids for one in texts]
    heard, read = (torch.tensor([len(one) for one in parts]) for parts in (frames, ids))
    padded = [torch.nn.utils.rnn.pad_sequence(parts, batch_first=True) for parts in (frames, ids)]
    found = whole(padded[0], heard, padded[1], read)
    vectors = []
    for encoder, given, lengths in ((whole.audio, padded[0], heard), (whole.text, padded[1], read)):
        states = encoder(given, lengths, layers=True).layers
        vectors.append(sum(pool("mean_max", state, lengths) for state in states) / len(states))
    assert (found - whole.head.regressor(*vectors)).abs().max() < 1e-6
    assert (found[0] - found[1]).abs().min() > 1e-4
    found.sum().backward()
    assert all(score.grad.abs().max() > 0 for score in whole.head.scores.values())
    frozen: Any = system.Frozen(whole).eval()
    stored = torch.stack([frozen.audio_frontend(one) for one in waves])
    tokens = torch.stack([frozen.text_frontend(one).ids for one in texts])
    again = frozen(stored, torch.tensor([3, 3]), tokens, torch.tensor([2, 2]))
    assert (again - found).abs().max() < 1e-6


def rows_of(given: Given, index: torch.Tensor) -> Given:
    return Encoded(given.hidden[index], given.lengths[index]) if isinstance(given, Encoded) else given[index]  # type: ignore[index]


def learned(head: torch.nn.Module, task: Any, *, rate: float = 1e-2, steps: int = 120) -> float:
    """Train on a thousand utterances of a task, and return the least CCC of an attribute on five hundred new ones.

    ``task(n, seed)`` gives what the head reads and labels [n, 3] on 0..1.
    """
    audio, text, labels = task(1000, 1)
    optimiser = torch.optim.Adam(head.parameters(), rate)
    draws = torch.Generator().manual_seed(0)
    head.train()
    for _ in range(steps):
        index = torch.randint(0, 1000, (32,), generator=draws)
        given = (None if one is None else rows_of(one, index) for one in (audio, text))
        optimiser.zero_grad()
        ccc_loss(head(*given), labels[index]).backward()
        optimiser.step()
    audio, text, labels = task(500, 2)
    with torch.no_grad():
        return float(concordance_per_column(head.eval()(audio, text), labels).min())


def either(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Label in the audio of half of the utterances, in the text of the others; a fourth value of audio says where."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.rand(n, 3, generator=draws)
    audio, text = torch.randn(n, 4, generator=draws), torch.randn(n, 3, generator=draws)
    heard = torch.rand(n, generator=draws) < 0.5
    audio[heard, :3], text[~heard] = 4 * labels[heard] - 2, 4 * labels[~heard] - 2
    audio[:, 3] = torch.where(heard, 1.0, -1.0)
    return audio, text, labels


def test_gated_learns_which_modality_to_believe() -> None:
    torch.manual_seed(0)
    assert learned(Gated(4, 3, dropout=0.0), either, rate=2e-2) > 0.9
    linear = Linear(4, 3, dropout=0.0)  # believes both, always
    audio, text, labels = either(1000, 1)
    linear.fit(audio, text, labels)
    audio, text, labels = either(500, 2)
    assert concordance_per_column(linear(audio, text), labels).max() < 0.8


def one_layer(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Arousal and valence in state 4 of 6 of audio, dominance in state 1 of 3 of text; all else is noise."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.rand(n, 3, generator=draws)
    audio, text = torch.randn(n, 6, 4, generator=draws), torch.randn(n, 3, 4, generator=draws)
    audio[:, 4, :2], text[:, 1, 0] = 2 * labels[:, :2] - 1, 2 * labels[:, 2] - 1
    return audio, text, labels


def test_weighted_layers_finds_the_layer_that_knows() -> None:
    torch.manual_seed(0)
    head = WeightedLayers(4, 4, dropout=0.0, states={"audio": 6, "text": 3})
    assert learned(head, one_layer, rate=2e-2) > 0.9
    found = head.layer_weights()
    assert found["audio"][4] > 0.6
    assert found["text"][1] > 0.6
    assert [round(sum(shares), 9) for shares in found.values()] == [1, 1]

    def last_alone(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        audio, text, labels = one_layer(n, seed)
        return audio[:, -1], text[:, -1], labels

    assert learned(Concat(4, 4, dropout=0.0), last_alone) < 0.3


def test_layers_are_standardised_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of all of them in float64 would be 5 GB for 63,076 utterances and 13 layers of 768 numbers."""
    given = torch.randn(20, 3, 4) * torch.tensor([1.0, 10.0, 0.0])[:, None] + 5
    copied: list[int] = []
    usual = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda x: (copied.append(x.numel()), usual(x))[1])
    head = WeightedLayers(4, None, dropout=0.0, states={"audio": 3})
    head.fit(given, None, torch.zeros(20, 3))
    assert max(copied) == 80
    monkeypatch.undo()
    assert torch.allclose(head.get_buffer("audio_centre"), given.double().mean(0).float())
    assert torch.allclose(head.get_buffer("audio_scale"), given.std(0, correction=0).clamp_min(1e-3))
