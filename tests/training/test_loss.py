from __future__ import annotations

import numpy as np
import pytest
import torch

from ser_bench.errors import TrainingError
from ser_bench.scoring import concordance
from ser_bench.training.loss import ccc_loss, concordance_per_column


def columns(seed: int = 0, rows: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(rows, 3, generator=generator, dtype=torch.float64)
    return 0.5 * target + 0.3 * torch.rand(rows, 3, generator=generator, dtype=torch.float64), target


def test_agrees_with_numpy_to_1e9() -> None:
    prediction, target = columns(rows=400)
    expected = [concordance(p, t) for p, t in zip(prediction.T.numpy(), target.T.numpy(), strict=True)]
    assert concordance_per_column(prediction, target).numpy() == pytest.approx(expected, abs=1e-9)
    assert ccc_loss(prediction, target).item() == pytest.approx(1 - np.mean(expected), abs=1e-9)


def test_gradient() -> None:
    prediction, target = columns()
    assert torch.autograd.gradcheck(ccc_loss, (prediction.requires_grad_(), target))


def test_gradient_at_a_large_offset() -> None:
    prediction, target = columns()
    moved = prediction.clone().requires_grad_()
    prediction.requires_grad_()
    ccc_loss(prediction, target).backward()
    ccc_loss(moved + 2.0**20, target + 2.0**20).backward()
    assert torch.allclose(moved.grad, prediction.grad, atol=1e-8)


def test_dead_column_counts_as_zero_and_moves_nothing() -> None:
    prediction, target = columns(rows=11)
    prediction[:, 1] = target[:, 1] = 0.3  # both constant, and equal: 0/0 (the mean of eleven 0.3 is not quite 0.3)
    prediction.requires_grad_()
    per_column = concordance_per_column(prediction, target)
    assert per_column[1] == 0
    ccc_loss(prediction, target).backward()
    assert torch.equal(prediction.grad[:, 1], torch.zeros(11, dtype=torch.float64))
    assert prediction.grad[:, [0, 2]].abs().min() > 0
    assert prediction.grad.isfinite().all()


def test_two_different_constants_count_as_zero() -> None:
    prediction = torch.full((4, 1), 0.3, requires_grad=True)
    loss = ccc_loss(prediction, torch.full((4, 1), 0.1))
    loss.backward()
    assert loss.item() == 1
    assert torch.equal(prediction.grad, torch.zeros(4, 1))


def test_constant_prediction_gets_a_gradient_that_moves_it() -> None:
    _, target = columns()
    prediction = torch.full((16, 3), 0.1, dtype=torch.float64, requires_grad=True)
    ccc_loss(prediction, target).backward()
    assert prediction.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_float_type(dtype: torch.dtype) -> None:
    prediction, target = (x.to(dtype) for x in columns(rows=64))
    loss = ccc_loss(prediction.requires_grad_(), target)
    exact = ccc_loss(prediction.double(), target.double())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
    loss.backward()
    assert prediction.grad.dtype == dtype


@pytest.mark.parametrize(("left", "right"), [((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_refuses_shapes(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(
        TrainingError, match=r"the CCC loss was given predictions \[.*\] and labels \[.*same shape \[b, k\]"
    ):
        ccc_loss(torch.rand(left), torch.rand(right))
