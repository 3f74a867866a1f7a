"""The gradient of a batch is the same, however the batch is divided over processes and parts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training.together import launch
from training.toys import Wide, inputs, steps_of

from ser_bench.training import step
from ser_bench.training.batches import batches
from ser_bench.training.loss import ccc_loss
from ser_bench.training.ranks import Ranks
from ser_bench.training.step import backward, divide, seed_dropout

CPU, DATA = torch.device("cpu"), inputs(64, seed=1)
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
DIVISIONS = {
    "1 x 16": (1, None),
    "2 x 8": (2, None),
    "16 in 4 parts": (1, 4),
    "16 in 3 parts": (1, 6),
    "2 x 2 of 4": (2, 4),
    "6, 5 and 5": (3, None),
    "3 and 3, 5 and 5": (3, 5),
}

RUN = """
import torch
from accelerate import Accelerator
from training.toys import steps_of
from ser_bench.training.ranks import Ranks
torch.set_num_threads(1)
ranks = Ranks(Accelerator(cpu=True))
found = {
    f"{kind} {parts} {name}": value
    for kind in ("float64", "float32")
    for parts in given["parts"]
    for name, value in steps_of(kind, ranks=ranks, micro_batch=parts).items()
}
torch.save(found, f"{given['folder']}/{ranks.index}.pt")
"""


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, torch.Tensor]]]:
    """What each of two processes finds, and of three."""
    found = {}
    for count in (2, 3):
        folder = tmp_path_factory.mktemp("several")
        launch(RUN, {"folder": str(folder), "parts": [None, 4 if count == 2 else 5]}, count)
        found[count] = [torch.load(folder / f"{n}.pt", weights_only=True) for n in range(count)]
    return found


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("division", list(DIVISIONS)[1:])
def test_loss_gradient_and_50_steps_do_not_depend_on_the_division(
    division: str, kind: str, several: dict[int, list[dict[str, torch.Tensor]]]
) -> None:
    whole = steps_of(kind)
    processes, parts = DIVISIONS[division]
    if processes == 1:
        found = [steps_of(kind, micro_batch=parts)]
    else:
        found = [{name: one[f"{kind} {parts} {name}"] for name in whole} for one in several[processes]]
        for other in found[1:]:
            assert all(torch.equal(found[0][name], other[name]) for name in whole)  # all hold the same system
    assert set(whole) == {"loss", "gradient", "losses", "weights"}
    for name, expected in whole.items():
        assert expected.dtype == getattr(torch, kind)
        worst = float((found[0][name] - expected).abs().max())
        assert worst <= TOLERANCE[kind], f"{name} differs by {worst}"
    assert float(whole["losses"][0] - whole["losses"][-1]) > 0.1  # something was learnt on the way


def test_the_reference_is_the_plain_gradient() -> None:
    """What is compared above is what anybody would write: forward, loss, backward, on the whole batch."""
    found = steps_of("float64")
    system, data = Wide("float64"), inputs(64, seed=1)
    index = np.arange(16)
    (batch,) = batches(data, [index], CPU)
    loss = ccc_loss(system(batch.audio, batch.audio_lengths, None, None), torch.from_numpy(data.labels[index]).double())
    loss.backward()
    assert loss.item() == pytest.approx(float(found["loss"]), abs=1e-12)
    gradient = torch.cat([p.grad.flatten() for p in system.parameters() if p.grad is not None])
    assert float((gradient - found["gradient"]).abs().max()) < 1e-12


def test_the_comparison_notices_a_ccc_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: CCCs of parts, averaged."""
    whole, own = steps_of("float64", steps=1), step.ccc_loss

    def averaged(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        pairs = zip(prediction.split(4), target.split(4), strict=True)
        return torch.stack([own(p, t) for p, t in pairs]).mean()

    monkeypatch.setattr(step, "ccc_loss", averaged)
    found = steps_of("float64", micro_batch=4, steps=1)
    assert float((found["gradient"] - whole["gradient"]).abs().max()) > 1e-3


def gradients(
    dropout: float, micro_batch: int | None, seed: int, watch: Callable[..., Any] | None = None
) -> torch.Tensor:
    """Return the gradient of one batch in training mode."""
    system, data = Wide("float64", dropout=dropout), DATA
    if watch is not None:
        system.inner.audio.dropout.register_forward_hook(watch)
    index, ranks = np.arange(16), Ranks()
    backward(
        system.train(),
        list(batches(data, divide(index, ranks, micro_batch), CPU)),
        torch.from_numpy(data.labels[index]).double(),
        torch.arange(3),
        seed=(seed, 1, 0),
        ranks=ranks,
        autocast=nullcontext,
    )
    return torch.cat([p.grad.flatten() for p in system.parameters() if p.grad is not None])


def test_the_two_passes_of_a_part_share_their_dropout_masks() -> None:
    masks: list[torch.Tensor] = []
    gradients(0.5, 4, 0, lambda module, given, found: masks.append((found == 0).clone()))
    layers = 2
    first, second = masks[: 4 * layers], masks[4 * layers :]
    assert len(first) == len(second) == 4 * layers
    for once, again in zip(first, second, strict=True):
        assert torch.equal(once, again)
        assert 0.3 < once.double().mean() < 0.7
    for part in range(1, 4):  # the parts' own masks differ
        size = min(first[0].numel(), first[part * layers].numel())
        assert not torch.equal(first[0].flatten()[:size], first[part * layers].flatten()[:size])


def test_with_dropout_the_mean_gradient_over_draws_agrees() -> None:
    draws = 200
    whole = torch.stack([gradients(0.3, None, seed) for seed in range(draws)])
    parts = torch.stack([gradients(0.3, 4, seed) for seed in range(draws, 2 * draws)])
    error = ((whole.var(0) + parts.var(0)) / draws).sqrt()
    # Squared differences in units of their standard error average 1 over all weights.
    assert 0.3 < float(((whole.mean(0) - parts.mean(0)) / error).square().mean()) < 2.0
    # Without dropout the gradient is another: the comparison would notice.
    assert float(((whole.mean(0) - gradients(0.0, None, 0)) / error).square().mean()) > 3.0


def test_dropout_is_a_function_of_its_numbers() -> None:
    def drawn(*numbers: int) -> list[float]:
        seed_dropout(numbers)
        found: list[float] = torch.rand(4).tolist()
        return found

    first = drawn(1, 2, 3, 0, 0)
    torch.rand(7)
    assert drawn(1, 2, 3, 0, 0) == first
    others = [drawn(*n) for n in ((2, 2, 3, 0, 0), (1, 3, 3, 0, 0), (1, 2, 4, 0, 0), (1, 2, 3, 1, 0), (1, 2, 3, 0, 1))]
    assert len({tuple(o) for o in [first, *others]}) == 6


def test_what_a_forward_counts_is_counted_once_for_each_part() -> None:
    system, data = Wide("float64"), inputs(64, seed=1)
    index, ranks = np.arange(16), Ranks()
    parts = list(batches(data, divide(index, ranks, 4), CPU))
    labels = torch.from_numpy(data.labels[index]).double()
    backward(system.train(), parts, labels, torch.arange(3), seed=(0,), ranks=ranks, autocast=nullcontext)
    assert int(system.inner.audio.steps) == 4


@pytest.mark.parametrize(
    ("size", "micro_batch", "sizes"),
    [(16, None, [16]), (16, 16, [16]), (16, 4, [4] * 4), (16, 6, [6, 5, 5]), (3, 2, [2, 1]), (16, 99, [16])],
)
def test_parts_hold_every_utterance_once(size: int, micro_batch: int | None, sizes: list[int]) -> None:
    index = np.arange(100, 100 + size)
    found = divide(index, Ranks(), micro_batch)
    assert [len(part) for part in found] == sizes
    assert np.concatenate(found).tolist() == index.tolist()


def test_processes_hold_every_utterance_once(tmp_path: Path) -> None:
    index = np.arange(16)
    ranks = [Ranks() for _ in range(3)]
    for number, one in enumerate(ranks):
        one.index, one.count = number, 3
    own = [np.concatenate(divide(index, one, 2)).tolist() for one in ranks]
    assert [len(part) for part in own] == [6, 5, 5]
    assert sorted(n for part in own for n in part) == index.tolist()


def test_where_another_process_ends_the_rest_say_so(tmp_path: Path) -> None:
    code = """
from accelerate import Accelerator
from ser_bench.errors import OtherProcessError
from ser_bench.training.ranks import Ranks
ranks = Ranks(Accelerator(cpu=True))
ranks.wait()
if ranks.index == 1:
    os._exit(0)
for exchange in (lambda: ranks.agreed([True]), lambda: ranks.from_main(1), lambda: ranks.sum_(torch.ones(3))):
    try:
        exchange()
    except OtherProcessError as error:
        assert str(error).startswith("another process of this run has ended, or cannot be reached;"), error
    else:
        raise AssertionError(exchange)
"""
    launch(f"import os, torch{code}", {}, 2)


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    code = """
import time
from accelerate import Accelerator
from pathlib import Path
from ser_bench.training.ranks import Ranks
ranks, file = Ranks(Accelerator(cpu=True)), Path(given["file"])
if ranks.main:
    time.sleep(1)
    file.touch()
ranks.wait()
assert file.exists()
"""
    launch(code, {"file": str(tmp_path / "made")}, 2)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads threads from /proc")
def test_no_thread_of_the_connection_outlives_the_program() -> None:
    """One that does aborts, now and then, a run that is finished."""
    code = """
import atexit, os, sys
from pathlib import Path
from accelerate import Accelerator

def threads():
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]

def check():
    if "pt_gloo_runloop" in threads():
        print("threads are left:", threads(), file=sys.stderr, flush=True)
        os._exit(1)

atexit.register(check)  # called after what is registered later
from ser_bench.training.ranks import Ranks
ranks = Ranks(Accelerator(cpu=True))
ranks.wait()
assert "pt_gloo_runloop" in threads()
"""
    launch(code, {}, 2)
