"""A convolution through Fourier transforms is torch's own: values, gradients, arithmetic; and it changes no name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ser_bench import cost
from ser_bench_plugins.long_convolution import convolve, quicken


def pair(**options: object) -> tuple[nn.Conv1d, nn.Conv1d]:
    torch.manual_seed(0)
    given: dict[str, object] = {"kernel_size": 128, "padding": 64, "groups": 4} | options
    plain = nn.Conv1d(16, 16, **given)  # type: ignore[arg-type]
    quick = copy.deepcopy(plain)
    quicken(quick)
    return plain, quick


def results(convolution: nn.Module, given: Tensor) -> list[Tensor]:
    own = given.clone().requires_grad_()
    convolution.zero_grad()
    found = convolution(own)
    found.square().sum().backward()
    return [found.detach(), own.grad, *(p.grad for p in convolution.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("length", [1, 2, 37, 284, 1000])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 33, "padding": 0, "groups": 1}, {"bias": False}])
def test_values_and_gradients_are_torchs(length: int, options: dict[str, object]) -> None:
    plain, quick = pair(**options)
    given = torch.randn(3, 16, length + int(options.get("kernel_size", 0)))  # type: ignore[call-overload]
    for expected, found in zip(results(plain, given), results(quick, given), strict=True):
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= 2e-6 * float(expected.abs().max())
    wide = [results(one.double(), given.double()) for one in (plain, quick)]
    for expected, found in zip(*wide, strict=True):
        assert float((found - expected).abs().max()) <= 1e-13 * float(expected.abs().max())


def test_the_gradient_is_that_of_the_function() -> None:
    given = torch.randn(2, 6, 9, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: convolve(x, w, 2, 2), (given, weight))
    torch.library.opcheck(convolve, (given, weight, 2, 2))


def test_under_autocast_it_stays_in_float32_inside() -> None:
    plain, quick = pair()
    given = torch.randn(2, 16, 50).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quick(given).detach()
    assert found.dtype == torch.bfloat16
    assert float((found.float() - plain(given.float()).detach()).abs().max()) < 5e-3  # what rounding the result takes


def test_a_parametrised_weight_is_trained_and_names_stay() -> None:
    plain = weight_norm(nn.Conv1d(8, 8, 64, padding=32, groups=2), dim=2)
    quick = copy.deepcopy(plain)
    quicken(quick)
    assert list(quick.state_dict()) == list(plain.state_dict())
    given = torch.randn(2, 8, 40)
    for expected, found in zip(results(plain, given), results(quick, given), strict=True):
        assert float((found - expected).abs().max()) <= 5e-6 * float(expected.abs().max())
    again = copy.deepcopy(quick)  # a copy computes with its own weights
    nn.init.zeros_(again.parametrizations.weight.original0)
    assert again(given).detach().abs().max() <= again.bias.abs().max()
    assert not torch.equal(quick(given), again(given))


def test_the_arithmetic_counted_is_the_models() -> None:
    counts = []
    for convolution in pair():
        with cost._counted() as counter:
            results(convolution, torch.randn(3, 16, 100))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * 3 * 101 * 16 * 4 * 128


@pytest.mark.parametrize("options", [{"kernel_size": 16}, {"stride": 2}, {"dilation": 2}, {"padding_mode": "circular"}])
def test_others_are_left_as_they_are(options: dict[str, object]) -> None:
    assert "forward" not in vars(pair(**options)[1])
    quicken(nn.Linear(2, 2))
    quicken(None)
