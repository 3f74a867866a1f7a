from __future__ import annotations

import numpy as np
import pytest
import torch

from ser_bench.errors import PluginError
from ser_bench.interface import POOLINGS
from ser_bench.pooling import pool, valid, width

GARBAGE = (float("nan"), float("inf"), -float("inf"), 1e30)


def plain(pooling: str, states: np.ndarray) -> np.ndarray:
    """Pool one utterance [t, d] by the definition, in numpy."""
    mean, greatest = states.mean(axis=0), states.max(axis=0)
    return {
        "mean": mean,
        "max": greatest,
        "mean_max": 0.5 * mean + 0.5 * greatest,
        "mean_std": np.concatenate([mean, states.std(axis=0)]),
    }[pooling]


def batch(lengths: list[int], dim: int = 5, *, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(offset, 1.0, (len(lengths), max(lengths), dim)))


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_utterance_is_pooled_as_if_alone_whatever_stands_in_the_padding(pooling: str, garbage: float) -> None:
    lengths = [7, 1, 4, 12]
    hidden = batch(lengths)
    expected = np.stack([plain(pooling, row[:n].numpy()) for row, n in zip(hidden, lengths, strict=True)])
    for row, n in zip(hidden, lengths, strict=True):
        row[n:] = garbage
    found = pool(pooling, hidden, torch.tensor(lengths))
    assert found.dtype == torch.float64
    # the one state of the second utterance has a deviation of 0, which the floor lifts to 1e-6
    np.testing.assert_allclose(found.numpy(), expected, atol=1.1e-6, rtol=0)
    if pooling != "mean_std":
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12, rtol=0)
    assert found.shape == (4, width(pooling, 5))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_negative_states_do_not_lose_to_padding_zeros(pooling: str) -> None:
    hidden = torch.zeros(1, 6, 2)
    hidden[0, :3] = torch.tensor([[-5.0, -4.0], [-3.0, -8.0], [-1.0, -6.0]])
    found = pool(pooling, hidden, torch.tensor([3]))[0].numpy()
    np.testing.assert_allclose(found, plain(pooling, hidden[0, :3].numpy()), atol=1e-6)
    assert (found[:2] < 0).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_half_precision_is_summed_in_float32(pooling: str, kind: torch.dtype) -> None:
    """3,000 states around 50: a float16 sum would overflow at 65,504, and a bfloat16 one stall at 3 digits."""
    hidden = batch([3000, 2500], dim=3, offset=50.0).to(kind)
    found = pool(pooling, hidden, torch.tensor([3000, 2500]))
    assert found.dtype == torch.float32
    exact = [plain(pooling, row[:n].double().numpy()) for row, n in zip(hidden, (3000, 2500), strict=True)]
    np.testing.assert_allclose(found.numpy(), np.stack(exact), rtol=1e-5)


def test_the_deviation_of_a_large_mean_is_not_lost() -> None:
    """E[x^2] - E[x]^2 gives 0 or worse here in float32."""
    hidden = torch.tensor([[[4096.0], [4097.0], [4098.0], [4099.0]]])
    found = pool("mean_std", hidden, torch.tensor([4]))[0]
    np.testing.assert_allclose(found.numpy(), [4097.5, 1.25**0.5], rtol=1e-6)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_are_right_inside_and_zero_in_the_padding(pooling: str, garbage: float) -> None:
    lengths = torch.tensor([4, 1, 6])
    hidden = batch([4, 1, 6])
    own = valid(lengths, 6)
    hidden[~own] = garbage
    hidden[2, :] = 0.3  # constant over time: the root of a variance of 0
    hidden.requires_grad_()
    weight = torch.linspace(1.0, 2.0, width(pooling, 5), dtype=torch.float64)
    (pool(pooling, hidden, lengths) * weight).sum().backward()
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()
    assert (hidden.grad[~own] == 0).all()

    alone = hidden.detach()[:1, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda states: pool(pooling, states, torch.tensor([4])), alone)
    (pool(pooling, alone, torch.tensor([4])) * weight).sum().backward()
    torch.testing.assert_close(hidden.grad[:1, :4], alone.grad)


def test_valid_marks_the_utterances_own_states() -> None:
    assert valid(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_width_doubles_for_mean_std_alone() -> None:
    assert {pooling: width(pooling, 7) for pooling in POOLINGS} == {"mean": 7, "max": 7, "mean_max": 7, "mean_std": 14}


def test_an_unknown_pooling_is_refused() -> None:
    told = r"^there is no pooling 'median'; known are mean, max, mean_max, mean_std\.$"
    with pytest.raises(PluginError, match=told):
        pool("median", torch.zeros(1, 1, 1), torch.tensor([1]))
    with pytest.raises(PluginError, match=told):
        width("median", 4)
