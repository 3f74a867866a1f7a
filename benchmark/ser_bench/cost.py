"""What a system costs: arithmetic counted by code, the device's rate at the model's own shapes, padding, inference.

Everything here is measured after the fact and changes nothing. Letters: b utterances in a batch, t frames.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ser_bench import synthetic
from ser_bench.frames import Store, whole
from ser_bench.host import Plan
from ser_bench.interface import Recipe
from ser_bench.prepare import audio_array, resting
from ser_bench.trained import Trained
from ser_bench.training.batches import Batch, Inputs, epoch_order, load
from ser_bench.training.predict import forward

log = logging.getLogger(__name__)

SHAPES = 3  # products that the device's rate is measured with: those with most of the arithmetic
QUEUED = 50  # products in a row on a GPU
ENOUGH = 1.0  # seconds; a measurement that took so long is not repeated
T = TypeVar("T")


@dataclass(frozen=True)
class Arithmetic:
    """What one step on a batch computes."""

    flops: int
    """Forward and backward, an addition and a multiplication counted as two; products, convolutions, attention."""
    products: Mapping[tuple[int, int, int], int]
    """(rows, inputs, outputs) of the forward's linear layers -> how many."""


def arithmetic(module: nn.Module, batch: Batch) -> Arithmetic:
    """Count what a training step on a batch computes; gradients of the module are not touched."""
    products: Counter[tuple[int, int, int]] = Counter()

    def note(layer: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and isinstance(layer, nn.Linear):
            products[given[0].numel() // layer.in_features, layer.in_features, layer.out_features] += 1

    handles = [m.register_forward_pre_hook(note) for m in module.modules() if isinstance(m, nn.Linear)]
    gradients = {p: p.grad for p in module.parameters()}
    module.zero_grad(set_to_none=True)  # or they would be added to, in place
    try:
        with resting(module), _counted() as counter:
            predicted = forward(module, batch)
            if predicted.requires_grad:
                torch.autograd.backward(predicted.sum())
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for handle in handles:
            handle.remove()
    return Arithmetic(counter.get_total_flops(), products)


def matrix_rate(
    products: Mapping[tuple[int, int, int], int], device: torch.device, dtype: torch.dtype, *, scale: int = 1
) -> float | None:
    """Return floating-point operations a second of matrix products at a model's own shapes; None without any.

    Args:
        products: as ``arithmetic`` notes them; the largest ``SHAPES`` are measured, weighed by what they compute.
        device: what computes.
        dtype: what in.
        scale: rows are multiplied by it, where a smaller batch than the one in use was looked at.
    """
    sizes = {shape: 2 * shape[0] * shape[1] * shape[2] * scale * count for shape, count in products.items()}
    chosen = sorted(sizes, key=lambda shape: -sizes[shape])[:SHAPES]
    spent = 0.0
    for rows, inputs, outputs in chosen:
        left = torch.randn(rows * scale, inputs, device=device, dtype=dtype)
        right = torch.randn(inputs, outputs, device=device, dtype=dtype)
        spent += (
            least_seconds(partial(torch.matmul, left, right), device, queued=True) * products[rows, inputs, outputs]
        )
    return sum(sizes[shape] for shape in chosen) / spent if spent else None


def least_seconds(work: Callable[[], Any], device: torch.device, *, times: int = 5, queued: bool = False) -> float:
    """Return how long work takes when nothing disturbs it: the least of a few times, after one to warm up.

    ``queued``: on a GPU, many in a row, so that what it takes to start one and to wait for it does not count.
    """
    repeats = QUEUED if queued and device.type == "cuda" else 1
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) <= times and (len(taken) < 2 or time.perf_counter() - began < ENOUGH):
        taken.append(_timed(work, device, repeats))
    return min(taken[1:])


def padding_share(duration: NDArray[np.float64], order: Sequence[NDArray[np.int64]]) -> float:
    """Return which share of the batches' seconds is padding."""
    padded = sum(len(index) * float(duration[index].max()) for index in order)
    return 1 - sum(float(duration[index].sum()) for index in order) / padded


def training_padding(duration: NDArray[np.float64], recipe: Recipe, *, seed: int) -> float:
    """Return the share of padding in a training's first epoch."""
    return padding_share(duration, epoch_order(duration, recipe.batch_size, recipe.bucket_batches, seed=seed, epoch=0))


def arithmetic_share(
    module: nn.Module,
    inputs: Inputs,
    recipe: Recipe,
    rate: float,
    *,
    device: torch.device,
    precision: str,
    padding: float,
) -> float | None:
    """Return which share of the device's arithmetic rate a training reached; None for a module without products.

    The rate is of a matrix product at the model's own shapes, measured here and now. Padding counts as computed, since
    it is: how much there was, ``padding`` tells.

    Args:
        module: trained.
        inputs: any utterances; one of middle length is looked at.
        recipe: for the batch size.
        rate: audio seconds a second that were trained on.
        device: what computed.
        precision: ``float32`` or ``bfloat16``.
        padding: share of it in the batches.
    """
    middle = np.argsort(inputs.duration)[len(inputs) // 2]
    found = arithmetic(module, load(inputs, np.array([middle])).to(device))
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    at_best = matrix_rate(found.products, device, kind, scale=recipe.batch_size)
    if at_best is None:
        return None
    computed = found.flops / float(inputs.duration[middle]) * rate / (1 - padding)
    return computed / at_best


def front_end_rate(module: nn.Module, recipe: Recipe, device: torch.device) -> float:
    """Return audio seconds a second of a system's audio front end, one utterance of mean length at a time."""
    wave = synthetic.wave(synthetic.MEAN, 0)
    taken = least_seconds(lambda: audio_array(module, wave, device, recipe.frontend_precision), device)
    return synthetic.MEAN / taken


def stored_bytes(inputs: Mapping[str, Inputs]) -> int | None:
    """Return the bytes of the stores that partitions are read from; None where nothing is stored."""
    kept = [whole(frames) for part in inputs.values() for frames in (part.audio, part.text)]
    found = {id(store): store.nbytes for store in kept if isinstance(store, Store)}
    return sum(found.values()) or None


@dataclass(frozen=True)
class Inference:
    """What a prediction costs a user: one utterance at a time, on the CPU, from wave and text to three numbers."""

    latency_seconds: float
    """For an utterance of ``synthetic.MEAN`` seconds: the middle of a few times."""
    real_time_factor: float
    """The same for a second of audio."""
    multiply_adds_per_audio_second: float


def inference(module: nn.Module, plan: Plan) -> Inference:
    """Measure and count predictions on the CPU; the module is left where it is found."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    cpu = torch.device("cpu")
    system = Trained(plan, module.to(cpu), cpu)
    wave = synthetic.wave(synthetic.MEAN, 0)
    text = synthetic.text(synthetic.MEAN, 0) if "text" in plan.reads else None
    try:
        with resting(module):
            with _counted() as counter:  # warms up, too
                system.predict(wave, text)
            taken: list[float] = []
            while len(taken) < 3 and sum(taken) < ENOUGH:
                taken.append(_timed(lambda: system.predict(wave, text), cpu))
    finally:
        module.to(device)
    latency = statistics.median(taken)
    flops = counter.get_total_flops()
    return Inference(latency, latency / synthetic.MEAN, flops / 2 / synthetic.MEAN)


def perhaps(measure: Callable[[], T]) -> T | None:
    """Return a measurement, or None where it fails: no training is lost over its speed."""
    try:
        return measure()
    except Exception as error:  # a stranger's code, looked at in ways that it need not foresee
        log.warning("speed is not told in full: %s: %s", type(error).__name__, error)
        return None


def _timed(work: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / repeats


@contextmanager
def _counted() -> Iterator[FlopCounterMode]:
    """Count floating-point operations; attention in its plain form, which torch counts on every device."""
    formulas = {torch.ops.aten.convolution_backward: _convolution_backward}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        yield counter


def _convolution_backward(
    gradient: Sequence[int],
    given: Sequence[int],
    weight: Sequence[int],
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *rest: Any,
    **options: Any,
) -> int:
    """Count a convolution's way back: each gradient asked for takes what the way there took.

    Torch's own formula counts the weight's as if every channel met every other, whatever the groups.
    """
    *_, wanted = rest  # of what is given, of the weight, of the bias
    frames = given if transposed else gradient
    return sum(map(bool, wanted[:2])) * 2 * frames[0] * math.prod(frames[2:]) * math.prod(weight)
