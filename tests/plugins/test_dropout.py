"""Dropout and attention for a CPU, against torch's own and against what they are by definition."""

from __future__ import annotations

import math

import pytest
import torch
from plugins.parts import part, wave
from torch import Tensor, nn

from ser_bench.host import host
from ser_bench.interface import Kind
from ser_bench_plugins.dropout import Dropout, attend

OWN = ("logmel", "words")  # from scratch, not of the library
ENCODERS = [(kind, o.spec.name) for kind in ("audio", "text") for o in host().usable(kind) if o.spec.name not in OWN]
SIZE = 400_003  # no multiple of four


def keys(b: int, t: int) -> Tensor:
    """Return a mask as encoders give it: utterances of unequal length."""
    lengths = torch.arange(t, t - b, -1)
    return (torch.arange(t) < lengths[:, None])[:, None, None, :].expand(-1, 1, t, -1)


def weights(scores: Tensor, share: float, seed: int) -> Tensor:
    """Return the attention weights [b, h, t, t] of scores, seen through values that are the unit vectors."""
    t = scores.shape[-1]
    unit = torch.eye(t, dtype=scores.dtype).expand(*scores.shape[:2], t, t)
    torch.manual_seed(seed)
    return attend(scores, unit, unit, torch.zeros(1, 1, t, t), dropout=share, scale=1.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_is_dropped_and_the_rest_scaled(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    given = torch.ones(SIZE, dtype=dtype, requires_grad=True)
    found = Dropout(share)(given)
    assert found.dtype == dtype
    dropped = float((found == 0).float().mean())
    assert dropped == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / SIZE))
    assert found[found != 0].unique().tolist() == pytest.approx(
        [1 / (1 - share)], rel=0.004 if dtype.itemsize == 2 else 2e-4
    )
    found.float().sum().backward()
    assert given.grad is not None
    assert torch.equal(given.grad, found)  # the same are dropped on the way back


def test_neighbours_are_dropped_independently() -> None:
    """Four values share one random number, a quarter of its bits each."""
    torch.manual_seed(2)
    kept = (Dropout(0.3)(torch.ones(SIZE)) != 0).double()
    kept = (kept - kept.mean()) / kept.std()
    for lag in (1, 2, 3, 4, 5, 8):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 5 / math.sqrt(SIZE), lag


def test_masks_are_a_function_of_the_seed() -> None:
    given, layer = torch.ones(1000), Dropout(0.5)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        found: Tensor = layer(given)
        return found

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_or_everything_is_dropped(share: float) -> None:
    given = torch.ones(8)
    assert torch.equal(Dropout(share)(given), given * (1 - share))
    assert torch.equal(Dropout(0.5).eval()(given), given)
    assert torch.equal(weights(torch.zeros(1, 1, 4, 4), share, 1), torch.full((1, 1, 4, 4), 0.25 * (1 - share)))


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_without_dropout_is_torchs(scale: float | None) -> None:
    torch.manual_seed(3)
    query, key, value = torch.randn(3, 4, 2, 9, 8)
    mask = keys(4, 9)
    theirs = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    assert torch.equal(attend(query, key, value, mask, scale=scale), theirs)
    # A share that is hardly ever met takes the other way.
    found = attend(query, key, value, mask, dropout=1e-5, scale=scale)
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-6)


def test_dropped_attention_is_weights_times_a_mask() -> None:
    torch.manual_seed(4)
    scores = torch.randn(2, 3, 64, 64)
    found, whole = weights(scores, 0.2, 5), scores.softmax(-1)
    kept = found != 0
    assert float(kept.float().mean()) == pytest.approx(0.8, abs=5 * math.sqrt(0.16 / kept.numel()))
    torch.testing.assert_close(found, whole * kept / 0.8, rtol=1e-4, atol=1e-7)


def test_masked_places_get_nothing_and_give_nothing() -> None:
    torch.manual_seed(6)
    query, key, value = (torch.randn(4, 2, 9, 8, requires_grad=True) for _ in range(3))
    mask = keys(4, 9)
    own = mask[:, :, :1].transpose(-1, -2)  # [b, 1, t, 1]
    torch.manual_seed(7)
    one = attend(query, key, value, mask, dropout=0.3)
    torch.manual_seed(7)
    assert torch.equal(attend(query, key, torch.where(own, value, 1e6), mask, dropout=0.3), one)
    one.square().sum().backward()
    for given in (key, value):
        assert given.grad is not None
        assert not given.grad[~own.expand_as(given)].any()
        assert given.grad[own.expand_as(given)].all()


def test_gradients_of_attention() -> None:
    torch.manual_seed(8)
    given = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64).requires_grad_()
    bias = torch.randn(1, 2, 5, 5, dtype=torch.float64).requires_grad_()

    def seeded(given: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(9)
        return attend(*given, bias, dropout=0.3)

    assert torch.autograd.gradcheck(seeded, (given, bias))


def test_attention_in_bfloat16_draws_the_same_masks() -> None:
    torch.manual_seed(10)
    scores = torch.randn(2, 3, 64, 64)
    wide, narrow = weights(scores, 0.2, 11), weights(scores.bfloat16(), 0.2, 11)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow != 0, wide != 0)
    torch.testing.assert_close(narrow.float(), wide, rtol=0.03, atol=1e-4)


def test_attention_under_autocast_stays_narrow() -> None:
    """In float32 it would take three times as long, and the next product's result would not show it."""
    query = torch.randn(1, 1, 4, 4).bfloat16().requires_grad_()
    kept: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    )
    with torch.autocast("cpu", dtype=torch.bfloat16), hooks:
        attend(query, query, query, torch.zeros(1, 1, 4, 4), dropout=0.5)
    assert {tensor.dtype for tensor in kept} == {torch.bfloat16}


@pytest.mark.parametrize(("kind", "name"), ENCODERS)
def test_library_models_use_them(kind: Kind, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dropout, or an attention, that stays torch's would be slow and nothing would tell."""
    encoder = part(kind, name, "tiny", dropout=0.5).train()
    assert not [key for key, module in encoder.named_modules() if type(module) is nn.Dropout]
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", None)  # called, it would fail
    given = encoder.frontend(wave(1.0) if kind == "audio" else "well it was a long day")
    batch = given[None] if kind == "audio" else given.ids[None]
    assert encoder(batch, torch.tensor([batch.shape[1]])).hidden.isfinite().all()
