"""The sequence heads against loops over utterances, heads and states in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plugins.parts import wave
from plugins.test_heads import learned, plain_concat, plain_of

from ser_bench import system
from ser_bench.host import Offer, Plan, host
from ser_bench.interface import Encoded, FusionHeadSpec, Recipe
from ser_bench.pooling import pool
from ser_bench.training.loss import ccc_loss
from ser_bench_plugins.heads import Concat, WeightedLayers
from ser_bench_plugins.sequence_heads import AttentivePool, CrossAttention, WeightedSequences

GARBAGE = (float("nan"), float("inf"), -float("inf"), 1e30)
AUDIO, TEXT = [7, 1, 12, 4, 3], [2, 6, 1, 1, 5]  # lengths; the last utterance's batch mates are longer in both
WIDTHS = [(6, 5), (6, None), (None, 5)]
Weights = dict[str, np.ndarray]
States = dict[str, np.ndarray]


def attentive(audio: int | None, text: int | None, dropout: float = 0.0) -> torch.nn.Module:
    return AttentivePool(audio, text, dropout=dropout)


def crossing(audio: int | None, text: int | None, dropout: float = 0.0) -> torch.nn.Module:
    return CrossAttention(audio, text, dropout=dropout, width=8, heads=2)


def batch(lengths: list[int], dim: int, seed: int, garbage: float | None = None) -> Encoded:
    draws = torch.Generator().manual_seed(seed)
    hidden = 2 * torch.randn(len(lengths), max(lengths) + 2, dim, generator=draws)  # two more than anybody has
    for row, length in enumerate(lengths):
        hidden[row, length:] = 0.0 if garbage is None else garbage
    return Encoded(hidden, torch.tensor(lengths))


def both(audio: int | None, text: int | None, garbage: float | None = None) -> tuple[Encoded | None, Encoded | None]:
    return (
        None if audio is None else batch(AUDIO, audio, 1, garbage),
        None if text is None else batch(TEXT, text, 2, garbage),
    )


def taken(given: Encoded | None, index: list[int]) -> Encoded | None:
    return None if given is None else Encoded(given.hidden[index], given.lengths[index])


def own_states(row: int, **given: Encoded | None) -> States:
    """Return one utterance's states [t, d] of each modality, in float64."""
    return {
        name: one.hidden[row, : int(one.lengths[row])].detach().numpy().astype(np.float64)
        for name, one in given.items()
        if one is not None
    }


def plain_attentive(weights: Weights, states: States) -> np.ndarray:
    joined = []
    for name, x in states.items():
        first, bias, second = (weights[f"attention.{name}.{key}"] for key in ("0.weight", "0.bias", "2.weight"))
        exponents = [float(np.exp(second @ np.tanh(first @ state + bias))[0]) for state in x]
        shares = [e / sum(exponents) for e in exponents]
        mean = sum(share * state for share, state in zip(shares, x, strict=True))
        square = sum(share * (state - mean) ** 2 for share, state in zip(shares, x, strict=True))
        joined += [mean, np.sqrt(square)]
    return plain_concat(weights, np.concatenate(joined))


def normalised(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def plain_crossing(weights: Weights, states: States, heads: int = 2) -> np.ndarray:
    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        return normalised(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    streams = {
        name: [norm(f"projections.{name}.1", linear(f"projections.{name}.0", state)) for state in x]
        for name, x in states.items()
    }
    joined = []
    for name, asking in streams.items():
        asked = streams[{"audio": "text", "text": "audio"}[name] if len(streams) == 2 else name]
        results = []
        for state in asking:
            found = []
            for head in range(heads):
                part = slice(head * len(state) // heads, (head + 1) * len(state) // heads)
                query = linear(f"attention.{name}.query", state)[part]
                keys = [linear(f"attention.{name}.key", other)[part] for other in asked]
                exponents = [np.exp(query @ key / np.sqrt(len(query))) for key in keys]
                values = [linear(f"attention.{name}.value", other)[part] for other in asked]
                found.append(sum(e / sum(exponents) * v for e, v in zip(exponents, values, strict=True)))
            mixed = linear(f"attention.{name}.output", np.concatenate(found))
            results.append(norm(f"norms.{name}", state + mixed))
        joined.append((np.mean(results, axis=0) + np.max(results, axis=0)) / 2)
    return plain_concat(weights, np.concatenate(joined))


Plain = Callable[[Weights, States], np.ndarray]
Make = Callable[..., torch.nn.Module]
HEADS: list[tuple[Make, Plain]] = [(attentive, plain_attentive), (crossing, plain_crossing)]
of_each_head = pytest.mark.parametrize(("make", "plain"), HEADS, ids=["attentive_pool", "cross_attention"])
in_each_way = pytest.mark.parametrize(("audio", "text"), WIDTHS)


def shaken(head: torch.nn.Module) -> torch.nn.Module:
    """Move every parameter off its start: a norm starts as 1 and 0, which hides one that is left out."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head.eval()


@of_each_head
@in_each_way
@pytest.mark.parametrize("garbage", GARBAGE)
@torch.no_grad()
def test_each_utterance_is_read_as_if_alone_whatever_stands_in_the_padding(
    make: Make, plain: Plain, audio: int | None, text: int | None, garbage: float
) -> None:
    head = shaken(make(audio, text))
    heard, read = both(audio, text, garbage)
    found = head(heard, read).numpy()
    assert found.shape == (5, 3)
    assert found.dtype == np.float32
    for row in range(5):
        expected = plain(plain_of(head), own_states(row, audio=heard, text=read))
        assert np.abs(found[row] - expected).max() < 1e-5
    assert np.ptp(found, axis=0).min() > 1e-2
    order = [3, 0, 4, 1, 2]
    assert np.abs(head(taken(heard, order), taken(read, order)).numpy() - found[order]).max() < 1e-6
    assert torch.equal(head(heard, read), head(heard, read))


@of_each_head
@in_each_way
@pytest.mark.parametrize("garbage", GARBAGE)
def test_gradients_are_finite_and_do_not_come_from_padding(
    make: Make, plain: Plain, audio: int | None, text: int | None, garbage: float
) -> None:
    head = shaken(make(audio, text))
    labels = torch.rand(5, 3)
    gradients = []
    for filling in (garbage, None):
        head.zero_grad()
        heard, read = both(audio, text, filling)
        given = [one for one in (heard, read) if one is not None]
        for one in given:
            one.hidden.requires_grad_()
        ccc_loss(head(heard, read), labels).backward()
        for one in given:
            assert one.hidden.grad is not None
            assert one.hidden.grad.isfinite().all()
            for row, length in enumerate(one.lengths.tolist()):
                assert (one.hidden.grad[row, length:] == 0).all()
                assert one.hidden.grad[row, :length].abs().max() > 0
        gradients.append({name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None})
    assert set(gradients[0]) == {name for name, _ in head.named_parameters()}
    for name, gradient in gradients[0].items():
        assert gradient.isfinite().all()
        assert (gradient - gradients[1][name]).abs().max() < 1e-6
        # A key's bias shifts all scores of a query alike, which the softmax does not see: its gradient is 0.
        assert gradient.abs().max() > 1e-6 or name.endswith("key.bias")


@of_each_head
@in_each_way
def test_utterances_of_one_state(make: Make, plain: Plain, audio: int | None, text: int | None) -> None:
    head = shaken(make(audio, text))
    heard, read = (None if dim is None else batch([1, 1, 1], dim, dim) for dim in (audio, text))
    found = head(heard, read)
    for row in range(3):
        expected = plain(plain_of(head), own_states(row, audio=heard, text=read))
        assert np.abs(found[row].detach().numpy() - expected).max() < 1e-5  # the floored deviation is 1e-6, not 0
    ccc_loss(found, torch.rand(3, 3)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_parameters_by_formula() -> None:
    def count(head: torch.nn.Module) -> int:
        assert set(head.state_dict()) == {name for name, _ in head.named_parameters()}  # no other state
        assert all(p.dtype == torch.float32 for p in head.parameters())
        return sum(p.numel() for p in head.parameters())

    def linear(given: int, made: int) -> int:
        return (given + 1) * made

    a, t, u, w = 768, 312, 128, 256
    pooled = sum(linear(dim, u) + u for dim in (a, t))
    assert count(attentive(a, t)) == pooled + linear(2 * a + 2 * t, 2 * a) + linear(2 * a, 3)
    assert count(attentive(a, None)) == linear(a, u) + u + linear(2 * a, 2 * a) + linear(2 * a, 3)
    assert count(attentive(None, t)) == linear(t, u) + u + linear(2 * t, 2 * t) + linear(2 * t, 3)

    def stream(dim: int) -> int:
        return linear(dim, w) + 2 * w + 4 * linear(w, w) + 2 * w

    out = linear(w, 3)
    assert count(CrossAttention(a, t, dropout=0.1)) == stream(a) + stream(t) + linear(2 * w, w) + out
    assert count(CrossAttention(a, None, dropout=0.1)) == stream(a) + linear(w, w) + out
    assert count(CrossAttention(None, t, dropout=0.1)) == stream(t) + linear(w, w) + out


@of_each_head
@torch.no_grad()
def test_dropout_in_training_alone(make: Make, plain: Plain) -> None:
    heard, read = both(6, 5)
    head = make(6, 5, 0.5)
    assert not torch.equal(head(heard, read), head(heard, read))
    head.eval()
    expected = head(heard, read)
    assert torch.equal(head(heard, read), expected)
    for module in head.modules():  # and each place on its own
        if isinstance(getattr(module, "dropout", None), float) or isinstance(module, torch.nn.Dropout):
            module.train()
            assert not torch.equal(head(heard, read), expected)
            module.eval()
    still = make(6, 5, 0.0)
    assert torch.equal(still(heard, read), still(heard, read))


@of_each_head
@torch.no_grad()
def test_half_precision_states_are_read_in_float32(make: Make, plain: Plain) -> None:
    head = shaken(make(6, 5))
    whole = system.Composed(None, None, head, pooling=None, layers=False)
    rounded = [Encoded(one.hidden.bfloat16(), one.lengths) for one in both(6, 5, float("nan")) if one is not None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = whole.predict(*rounded)
    assert found.dtype == torch.float32
    heard, read = (Encoded(one.hidden.float(), one.lengths) for one in rounded)
    for row in range(5):
        expected = plain(plain_of(head), own_states(row, audio=heard, text=read))
        assert np.abs(found[row].numpy() - expected).max() < 1e-5


def padded(parts: list[torch.Tensor] | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return what is read of each utterance as one batch, and its lengths."""
    if parts is None:
        return None, None
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), torch.tensor([len(one) for one in parts])


@pytest.mark.parametrize("build", [AttentivePool, CrossAttention])
@pytest.mark.parametrize(("audio", "text"), [("logmel", "words"), ("logmel", None), (None, "words")])
@torch.no_grad()
def test_in_a_system_frozen_or_not(build: Any, audio: str | None, text: str | None) -> None:
    head = Offer(FusionHeadSpec(name="sequence", summary="under test", build=build), "ser-bench", "0")
    plan = Plan(
        name="system",
        distribution="ser-bench",
        version="0",
        recipe=Recipe(),
        audio=host().get("audio", audio) if audio else None,
        text=host().get("text", text) if text else None,
        head=head,
    )
    torch.manual_seed(0)
    whole: Any = system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe).eval()
    waves, texts = [wave(0.4), wave(1.1, seed=1)], ["a word or two", ""]
    found = []
    for module in (whole, system.Frozen(whole).eval()):
        heard = [module.audio_frontend(one) for one in waves] if audio else None
        read = [module.text_frontend(one).ids for one in texts] if text else None
        found.append(module(*padded(heard), *padded(read)))
        for row in range(2):
            own = (None if parts is None else parts[row : row + 1] for parts in (heard, read))
            assert (module(*(one for parts in own for one in padded(parts))) - found[-1][row]).abs().max() < 1e-6
    assert found[0].shape == (2, 3)
    assert (found[1] - found[0]).abs().max() < 1e-6
    assert (found[0][0] - found[0][1]).abs().min() > 1e-4


class Averaged(torch.nn.Module):
    """``concat`` as it stands: what it knows of a sequence is its average and its maximum."""

    def __init__(self, audio: int | None, text: int | None) -> None:
        super().__init__()
        self.regressor = Concat(audio, text, dropout=0.0)

    def forward(self, *given: Encoded | None) -> torch.Tensor:
        pooled = (None if one is None else pool("mean_max", one.hidden, one.lengths) for one in given)
        predicted: torch.Tensor = self.regressor(*pooled)
        return predicted


def marked(n: int, seed: int) -> tuple[Encoded, None, torch.Tensor]:
    """The label stands at one marked state among 7 to 15 of noise."""
    draws = torch.Generator().manual_seed(seed)
    lengths, labels = torch.randint(8, 17, (n,), generator=draws), torch.rand(n, 3, generator=draws)
    hidden = torch.randn(n, 16, 4, generator=draws)
    row, at = torch.arange(n), (torch.rand(n, generator=draws) * lengths).long()
    hidden[:, :, 3] = 0.0
    hidden[row, at] = torch.cat([2 * labels - 1, torch.full((n, 1), 3.0)], dim=1)
    return Encoded(hidden, lengths), None, labels


def test_attentive_pool_finds_the_marked_state() -> None:
    torch.manual_seed(0)
    assert learned(AttentivePool(4, None, dropout=0.0), marked) > 0.9
    assert learned(Averaged(4, None), marked) < 0.3


def told(n: int, seed: int) -> tuple[Encoded, Encoded, torch.Tensor]:
    """Four named states of audio in any order, each with three values; one of two tokens names the one that counts."""
    draws = torch.Generator().manual_seed(seed)
    names = torch.stack([torch.randperm(4, generator=draws) for _ in range(n)])  # [n, 4]
    values, asked = torch.rand(n, 4, 3, generator=draws), torch.randint(0, 4, (n,), generator=draws)
    one_hot = torch.nn.functional.one_hot
    audio = torch.cat([2.0 * one_hot(names, 4), 2 * values - 1], dim=2)  # [n, 4, 7]
    text = torch.stack([2.0 * one_hot(asked, 4), torch.zeros(n, 4)], dim=1)  # [n, 2, 4]
    labels = values[names == asked[:, None]]
    return Encoded(audio, torch.full((n,), 4)), Encoded(text, torch.full((n,), 2)), labels


def test_cross_attention_finds_the_state_that_the_text_names() -> None:
    torch.manual_seed(0)
    assert learned(CrossAttention(7, 4, dropout=0.0, width=32, heads=4), told) > 0.9
    assert learned(Averaged(7, 4), told) < 0.6


def test_weighted_sequences_on_one_layer_is_that_layer_pooled_first() -> None:
    """With all weight on one state the two orders are one; else the maximum of a sum is less than the sum of maxima."""
    torch.manual_seed(0)
    lengths = torch.tensor([5, 3, 4, 2])
    layers = tuple(torch.randn(4, 5, 6) * 10**place + 3 for place in range(3))
    given = Encoded(layers[-1], lengths, layers)
    pooled = torch.stack([pool("mean_max", state, lengths) for state in layers], dim=1)
    summed = WeightedSequences(6, None, dropout=0.0, states={"audio": 3}).eval()
    first = WeightedLayers(6, None, dropout=0.0, states={"audio": 3}).eval()
    for head in (summed, first):
        head.fit(pooled, None, torch.rand(4, 3))
    first.load_state_dict(summed.state_dict())
    with torch.no_grad():
        assert summed.layer_weights() == {"audio": [1 / 3] * 3}
        assert (summed(given, None) - first(pooled, None)).abs().max() > 1e-3
        for head in (summed, first):
            head.scores["audio"].copy_(torch.tensor([-9.0, 9.0, -9.0]))
        assert (summed(given, None) - first(pooled, None)).abs().max() < 1e-5
        longer = Encoded(layers[-1], lengths, tuple(torch.cat([s, torch.full((4, 2, 6), 1e30)], 1) for s in layers))
        assert (summed(longer, None) - summed(given, None)).abs().max() < 1e-6
