"""What a system costs: arithmetic against what can be counted by hand, padding, and that looking changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ser_bench import cost, system
from ser_bench.host import host
from ser_bench.interface import Recipe
from ser_bench.training.batches import Batch, Inputs

CPU = torch.device("cpu")


class Net(nn.Module):
    """Two linear layers over frames with attention between them, then the mean: all of it can be counted by hand."""

    def __init__(self, attends: bool) -> None:
        super().__init__()
        self.first, self.second, self.attends = nn.Linear(4, 8), nn.Linear(8, 3), attends
        self.dropout = nn.Dropout(0.5)

    def forward(self, audio: Tensor, lengths: Tensor, text: Any, text_lengths: Any) -> Tensor:
        hidden = self.first(self.dropout(audio))
        if self.attends:
            split = hidden[:, None]  # one head
            hidden = nn.functional.scaled_dot_product_attention(split, split, split)[:, 0]
        given: Tensor = self.second(hidden).mean(1)
        return given


def batch(b: int, t: int) -> Batch:
    return Batch(np.arange(b), torch.randn(b, t, 4), torch.full((b,), t), None, None)


@pytest.mark.parametrize("b", [1, 3])
def test_products_are_counted_forward_and_backward(b: int) -> None:
    found = cost.arithmetic(Net(attends=False), batch(b, 10))
    first, second = 2 * b * 10 * 4 * 8, 2 * b * 10 * 8 * 3
    assert found.flops == 2 * first + 3 * second  # nothing goes back through the first layer to the frames
    assert found.products == {(b * 10, 4, 8): 1, (b * 10, 8, 3): 1}


@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions_in_groups_are_counted(groups: int) -> None:
    convolution, given = nn.Conv1d(8, 16, 5, groups=groups), torch.randn(2, 8, 14, requires_grad=True)
    way = 2 * 2 * 10 * 16 * (8 // groups) * 5
    for leaf, times in ((given, 3), (given.detach(), 2)):
        with cost._counted() as counter:
            convolution(leaf).sum().backward()
        assert counter.get_total_flops() == times * way


def test_attention_is_counted() -> None:
    """Torch's counter does not know the kernel that a CPU takes."""
    t = 10
    plain, attending = (cost.arithmetic(Net(attends=attends), batch(1, t)).flops for attends in (False, True))
    pair = 2 * t * t * 8
    assert attending - plain == 2 * pair + 4 * pair  # each product twice on the way back


def test_a_frozen_layer_has_no_gradient_to_compute() -> None:
    net = Net(attends=False)
    net.first.requires_grad_(False)
    assert cost.arithmetic(net, batch(1, 10)).flops == 2 * 10 * 4 * 8 + 2 * (2 * 10 * 8 * 3)
    net.requires_grad_(False)
    assert cost.arithmetic(net, batch(1, 10)).flops == 2 * 10 * 4 * 8 + 2 * 10 * 8 * 3


def test_looking_changes_nothing() -> None:
    net = Net(attends=True).train()
    net.first.weight.grad = torch.ones_like(net.first.weight)
    torch.manual_seed(1)
    before, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    given = batch(2, 5)
    torch.set_rng_state(random)
    cost.arithmetic(net, given)
    assert torch.equal(torch.get_rng_state(), random)  # no dropout is drawn
    assert net.training
    assert torch.equal(net.first.weight.grad, torch.ones_like(net.first.weight))
    assert net.second.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.first._forward_pre_hooks


def test_the_rate_of_products_is_of_the_largest_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def take(work: Any, device: torch.device, *, queued: bool) -> float:
        assert queued
        left, right = work.args
        seen.append((*left.shape, right.shape[1]))
        return 2 * left.shape[0] * left.shape[1] * right.shape[1] / 5e9  # a device of 5 GFLOP/s

    monkeypatch.setattr(cost, "least_seconds", take)
    products = {(10, 4, 8): 1, (10, 8, 16): 2, (10, 1, 1): 1, (10, 16, 4): 1}
    assert cost.matrix_rate(products, CPU, torch.float32, scale=3) == pytest.approx(5e9)
    assert seen == [(30, 8, 16), (30, 16, 4), (30, 4, 8)]
    assert cost.matrix_rate({}, CPU, torch.float32) is None


def test_a_share_is_what_was_computed_over_what_could_be(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(attends=False)
    frames = [np.zeros((50 * n, 4), np.float32) for n in (1, 2, 9)]
    labels = np.zeros((3, 3), np.float32)
    inputs = Inputs(
        utterance=["a", "b", "c"], duration=np.array([1.0, 2.0, 9.0]), labels=labels, audio=Held(frames), text=None
    )
    monkeypatch.setattr(cost, "matrix_rate", lambda products, device, dtype, scale: 1e9)
    share = cost.arithmetic_share(net, inputs, Recipe(), 40.0, device=CPU, precision="float32", padding=0.2)
    a_second = cost.arithmetic(net, batch(1, 100)).flops / 2  # the middle one: 100 frames in 2 s
    assert share == pytest.approx(a_second * 40 / 0.8 / 1e9)


class Held(list[Any]):
    def truncated(self, number: int) -> bool:
        return False


def test_padding_is_the_share_beyond_the_utterances_ends() -> None:
    duration = np.array([1.0, 2.0, 3.0, 3.0])
    assert cost.padding_share(duration, [np.array([0, 1]), np.array([2, 3])]) == pytest.approx(1 / 10)
    assert cost.padding_share(duration, [np.array([2, 3])]) == 0
    same = cost.training_padding(np.full(64, 2.0), Recipe(), seed=1)
    assert same == 0
    mixed = np.random.default_rng(0).uniform(1, 9, 640)
    bucketed, random = (cost.training_padding(mixed, Recipe(bucket_batches=n), seed=1) for n in (8, 1))
    assert bucketed < random / 2


def test_the_least_of_a_few_times_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([9.0, 0.3, 0.1, 0.2, 0.4, 0.5, 0.6])
    monkeypatch.setattr(cost, "_timed", lambda work, device, repeats: next(taken) * repeats)
    assert cost.least_seconds(lambda: None, CPU) == 0.1  # the first warms up


def test_inference_counts_front_end_and_forward() -> None:
    plan = host().plan("distilhubert_tinybert")
    module = system.build(plan, {"audio": "tiny", "text": "tiny"}, plan.recipe).train()
    found = cost.inference(module, plan)
    assert module.training
    assert found.latency_seconds > 0
    assert found.real_time_factor == pytest.approx(found.latency_seconds / 5.69)
    # The first convolution alone: 16 channels of 10 samples each, 3,200 times a second.
    assert 16 * 10 * 3200 < found.multiply_adds_per_audio_second < 1e9
    audio = cost.inference(system.build(plan := host().plan("distilhubert"), {"audio": "tiny"}, plan.recipe), plan)
    assert 0 < audio.multiply_adds_per_audio_second < found.multiply_adds_per_audio_second


def test_a_measurement_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert cost.perhaps(lambda: 3) == 3
    assert cost.perhaps(lambda: 1 / 0) is None
    assert "speed is not told in full: ZeroDivisionError: division by zero" in caplog.text
