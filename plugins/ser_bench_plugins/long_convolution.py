"""A convolution with a long kernel, through Fourier transforms: the same sums for a fraction of the arithmetic.

The positional convolution of wav2vec 2.0 and its kin has a kernel of 128, and takes a quarter of the time of training
DistilHuBERT on a CPU. A product of transforms takes the place of 128 products a value. Letters: b utterances, g groups,
c channels in and d out of a group, t frames in and u out, k taps, n points of a transform, f = n // 2 + 1 frequencies.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

LONG = 32  # taps; shorter kernels gain nothing


def quicken(convolution: nn.Module | None) -> None:
    """Let a convolution go through transforms on a CPU, if it is of a kind that gains by it; elsewhere it stays."""
    if (
        isinstance(convolution, nn.Conv1d)
        and convolution.kernel_size[0] >= LONG
        and (convolution.stride, convolution.dilation, convolution.padding_mode) == ((1,), (1,), "zeros")
        and not isinstance(convolution.padding, str)
    ):
        # Not a module: names and weights are what they were.
        convolution.forward = _Forward(convolution)  # type: ignore[method-assign, assignment]


class _Forward:
    """The forward of one convolution."""

    def __init__(self, convolution: Any) -> None:
        self.convolution = convolution

    def __call__(self, given: Tensor) -> Tensor:
        """Convolve [b, g c, t] to [b, g d, u], in the type of what is given."""
        own = self.convolution
        if given.device.type != "cpu":
            return cast(Tensor, type(own).forward(own, given))
        wide = torch.promote_types(
            given.dtype, torch.float32
        )  # under autocast too: there are no transforms in bfloat16
        found = convolve(given.to(wide), own.weight.to(wide), own.padding[0], own.groups)
        shifted: Tensor = found if own.bias is None else found + own.bias[:, None]
        return shifted.to(given.dtype)


@torch.library.custom_op("ser_bench::long_convolution", mutates_args=())
def convolve(given: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    """Return ``torch.nn.functional.conv1d(given, weight, padding=padding, groups=groups)``.

    Args:
        given: [b, g c, t] float32 or float64.
        weight: [g d, c, k], alike.
        padding: zeros on either side.
        groups: g.

    Returns:
        [b, g d, u], u = t + 2 padding - k + 1; within rounding: in float32 about 1e-6 of the largest value.
    """
    out = given.shape[2] + 2 * padding - weight.shape[2] + 1
    size = _points(given.shape[2] + 2 * padding)
    spectrum = _by_frequency(_padded(given, padding), groups, size)  # [f, g, b, c]
    kernel = _kernel(weight, groups, size)  # [f, g, d, c]
    return _in_time(spectrum @ kernel.mH, size, out)


@torch.library.custom_op("ser_bench::long_convolution_backward", mutates_args=())
def convolve_backward(
    gradient: Tensor, given: Tensor, weight: Tensor, padding: int, groups: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients at what is given and at the weight, from that at the result, [b, g d, u]."""
    reach = given.shape[2] + 2 * padding
    size = _points(reach)
    back = _by_frequency(gradient, groups, size)  # [f, g, b, d]
    to_given = _in_time(back @ _kernel(weight, groups, size), size, reach)
    spectrum = _by_frequency(_padded(given, padding), groups, size)
    summed = back.mH @ spectrum  # [f, g, d, c], over the utterances
    to_weight = torch.fft.irfft(summed.permute(1, 2, 3, 0).flatten(0, 1), n=size)[..., : weight.shape[2]]
    return to_given[..., padding : padding + given.shape[2]].contiguous(), to_weight.contiguous()


def _points(reach: int) -> int:
    """Return how many points hold the padded frames; what goes round falls on results that are not used."""
    step = 1 << max(0, reach.bit_length() - 4)  # at most an eighth more, and a number that transforms like
    return -(-reach // step) * step


def _padded(given: Tensor, padding: int) -> Tensor:
    return nn.functional.pad(given, (padding, padding))


def _by_frequency(given: Tensor, groups: int, size: int) -> Tensor:
    """Transform [b, g c, t] to [f, g, b, c]."""
    spectrum: Tensor = torch.fft.rfft(given, n=size)
    b, channels, f = spectrum.shape
    return spectrum.view(b, groups, channels // groups, f).permute(3, 1, 0, 2).contiguous()


def _kernel(weight: Tensor, groups: int, size: int) -> Tensor:
    """Transform [g d, c, k] to [f, g, d, c]."""
    spectrum: Tensor = torch.fft.rfft(weight, n=size)
    d, c, f = spectrum.shape
    return spectrum.view(groups, d // groups, c, f).permute(3, 0, 1, 2).contiguous()


def _in_time(spectrum: Tensor, size: int, length: int) -> Tensor:
    """Transform [f, g, b, c] back to the first frames of [b, g c, t]."""
    ordered = spectrum.permute(2, 1, 3, 0).flatten(1, 2)
    frames: Tensor = torch.fft.irfft(ordered, n=size)[..., :length]
    return frames.contiguous()


@convolve.register_fake
def _shape(given: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    return given.new_empty(given.shape[0], weight.shape[0], given.shape[2] + 2 * padding - weight.shape[2] + 1)


@convolve_backward.register_fake
def _shapes(gradient: Tensor, given: Tensor, weight: Tensor, padding: int, groups: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(given), torch.empty_like(weight)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
    given, weight, *ctx.shape = inputs
    ctx.save_for_backward(given, weight)


def _backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    to_given, to_weight = convolve_backward(gradient, *context.saved_tensors, *context.shape)
    return to_given, to_weight, None, None


convolve.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.ser_bench.long_convolution)
def _flops(given: Any, weight: Any, padding: int, groups: int, *, out_shape: Any = None, **_: Any) -> int:
    """Count what the sums would take one by one: the model's arithmetic, however it is done."""
    return int(2 * out_shape[0] * out_shape[1] * out_shape[2] * weight[1] * weight[2])


@register_flop_formula(torch.ops.ser_bench.long_convolution_backward)
def _backward_flops(gradient: Any, given: Any, weight: Any, padding: int, groups: int, **_: Any) -> int:
    return int(4 * gradient[0] * gradient[1] * gradient[2] * weight[1] * weight[2])
