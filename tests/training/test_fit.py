from __future__ import annotations

import contextlib
import copy
import errno
import gc
import json
import logging
import os
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training.toys import accelerator, composed, inputs

from ser_bench import saved
from ser_bench.errors import StoreError, TrainingError
from ser_bench.host import host
from ser_bench.interface import Recipe
from ser_bench.prepare import audio_array
from ser_bench.scoring.ccc import concordance
from ser_bench.system import Composed, Frozen, build, fit_texts
from ser_bench.training import fit as fitting
from ser_bench.training.batches import Batch, Inputs
from ser_bench.training.device import accelerator_for, precision
from ser_bench.training.fit import Position, fit
from ser_bench.training.predict import predict
from ser_bench.training.ranks import Ranks
from ser_bench.training.step import backward

RECIPE = Recipe(batch_size=8, learning_rate=1e-2, epochs=12, patience=12)
TRAIN, DEVELOPMENT = inputs(60, seed=1), inputs(24, seed=2, name="development")


def train(
    system: torch.nn.Module, folder: Path, recipe: Recipe = RECIPE, *, data: Inputs = TRAIN, **given: Any
) -> Position:
    torch.manual_seed(0)
    return fit(system, data, DEVELOPMENT, recipe, seed=1, folder=folder, accelerator=accelerator(), **given)


def development_ccc(system: torch.nn.Module, columns: tuple[int, ...] = (0, 1, 2)) -> float:
    found = predict(system, DEVELOPMENT, batch_size=8, device=torch.device("cpu"))
    return float(np.mean([concordance(found[:, c], DEVELOPMENT.labels[:, c].astype(float)) for c in columns]))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let development score as told, epoch by epoch from 0."""
    told = iter(scores)
    monkeypatch.setattr(fitting, "_development", lambda *given: next(told))


def test_learns_and_gives_back_what_it_selected(tmp_path: Path) -> None:
    system = composed()
    start = development_ccc(system)
    at = train(system, tmp_path, replace(RECIPE, learning_rate=3e-2, epochs=30, patience=30))
    assert start < 0.5
    assert at.best_ccc > 0.9
    assert development_ccc(system) == pytest.approx(at.best_ccc, abs=1e-12)


def test_log_tells_every_epoch_and_the_start(tmp_path: Path) -> None:
    system = composed()
    start = development_ccc(system)
    at = train(system, tmp_path, replace(RECIPE, epochs=3))
    log = lines(tmp_path)
    assert [line["epoch"] for line in log] == [0, 1, 2, 3]
    assert log[0]["development"] == pytest.approx(start, abs=1e-12)
    assert log[0]["loss"] is None
    assert all(set(line) == {"development", "epoch", "loss", "seconds"} for line in log)
    assert log[1]["loss"] > log[2]["loss"] > log[3]["loss"] > 0
    assert max(line["development"] for line in log) == at.best_ccc
    seconds = [line["seconds"] for line in log]
    assert seconds == sorted(seconds)
    assert at.trained_audio_seconds == pytest.approx(
        sum(
            float(TRAIN.duration[b].sum())
            for e in range(3)
            for b in fitting.epoch_order(TRAIN.duration, 8, 8, seed=1, epoch=e)
        )
    )


def test_the_same_seed_gives_the_same_system_and_another_another(tmp_path: Path) -> None:
    systems = [composed(dropout=0.2) for _ in range(3)]
    for number, (system, seed) in enumerate(zip(systems, (1, 1, 2), strict=True)):
        torch.manual_seed(0)
        folder = tmp_path / str(number)
        fit(system, TRAIN, DEVELOPMENT, RECIPE, seed=seed, folder=folder, accelerator=accelerator())
    found = [predict(s, DEVELOPMENT, batch_size=8, device=torch.device("cpu")).tobytes() for s in systems]
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("scores", "patience", "best", "epochs"),
    [
        ([0.1, 0.2, 0.5, 0.4, 0.5, 0.3, 0.9], 3, 2, 5),  # 0.5 again is not better
        ([0.3, 0.2, 0.1, 0.9], 2, 0, 2),  # the start itself may be the best
        ([0.1, 0.2, 0.3, 0.4], 1, 3, 3),  # stopped by the number of epochs
    ],
)
def test_stops_early_and_restores_the_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], patience: int, best: int, epochs: int
) -> None:
    given = copy.copy(scores)
    scripted(monkeypatch, given)
    limit = 3 if patience == 1 else 50
    system = composed()
    at = train(system, tmp_path, replace(RECIPE, epochs=limit, patience=patience))
    assert (at.best_epoch, at.best_ccc, lines(tmp_path)[-1]["epoch"]) == (best, scores[best], epochs)
    # A training that simply ends at that epoch leaves the same weights; one epoch later it does not.
    for last, equal in ((best, True), (best + 1, False)):
        other = composed()
        if last:
            scripted(monkeypatch, [0.1 * n for n in range(last + 1)])
            train(other, tmp_path / f"until-{last}", replace(RECIPE, epochs=last, patience=50))
        same = all(torch.equal(a, b) for a, b in zip(system.parameters(), other.parameters(), strict=True))
        assert same is equal
    # Buffers belong to the best epoch as well: the encoder counts its training batches.
    batches = sum(len(fitting.epoch_order(TRAIN.duration, 8, 8, seed=1, epoch=e)) for e in range(best))
    assert int(system.audio.steps) == batches
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        f"best-{best}.safetensors",
        "last.safetensors",
    ]


def test_nothing_to_train(tmp_path: Path) -> None:
    system = composed().requires_grad_(False)
    before = copy.deepcopy(system.state_dict())
    for _ in range(2):  # again, as after a kill between training and scores
        at = train(system, tmp_path, resume=True)
    assert at.finished
    assert (at.best_epoch, at.trained_seconds) == (0, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    assert lines(tmp_path) == [
        {"development": at.best_ccc, "epoch": 0, "note": "nothing to train", "seconds": 0.0},
    ]


def test_only_the_recipes_attributes_count(tmp_path: Path) -> None:
    recipe = replace(RECIPE, attributes=("valence",), epochs=4)
    spoilt = replace(TRAIN, labels=TRAIN.labels.copy())
    spoilt.labels[:, [0, 2]] = np.nan
    systems = [composed(), composed()]
    found = [
        train(s, tmp_path / str(n), recipe, data=d)
        for n, (s, d) in enumerate(zip(systems, (TRAIN, spoilt), strict=True))
    ]
    start = composed()
    assert torch.equal(systems[0].head.layer.weight[[0, 2]], start.head.layer.weight[[0, 2]])
    assert not torch.equal(systems[0].head.layer.weight[1], start.head.layer.weight[1])
    assert torch.equal(systems[0].head.layer.weight, systems[1].head.layer.weight)
    assert found[0].best_ccc == pytest.approx(development_ccc(systems[0], (1,)), abs=1e-12)
    assert abs(found[0].best_ccc - development_ccc(systems[0])) > 0.05


def test_the_head_may_have_a_rate_of_its_own(tmp_path: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1e-3, head_learning_rate=1e-2, epochs=1, batch_size=60)
    system, start = composed(), composed()
    train(system, tmp_path, recipe)
    # The first step of Adam moves every weight by its rate.
    moved = {
        n: (p - q).abs().max().item() for (n, p), q in zip(system.named_parameters(), start.parameters(), strict=True)
    }
    assert set(moved) == {
        "audio.layers.0.weight",
        "audio.layers.0.bias",
        "audio.layers.1.weight",
        "audio.layers.1.bias",
        "head.layer.weight",
        "head.layer.bias",
    }
    for name, distance in moved.items():
        assert distance == pytest.approx(1e-2 if name.startswith("head") else 1e-3, rel=0.01)


@pytest.mark.parametrize(("optimiser", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_recipes_optimiser(optimiser: Any, kind: type) -> None:
    made = fitting._optimiser(composed(), replace(RECIPE, optimiser=optimiser, weight_decay=0.25))
    assert type(made) is kind
    assert {group["weight_decay"] for group in made.param_groups} == {0.25}
    assert [group["lr"] for group in made.param_groups] == [1e-2, 1e-2]


def test_too_few_utterances(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"a batch takes 8 utterances, and train has 5\. .*recipe\.batch_size=5"):
        train(composed(), tmp_path, data=inputs(5, seed=0))


class Failing(torch.nn.Module):
    """A system whose forward or backward fails at a step."""

    def __init__(self, system: Composed, fault: Callable[[torch.Tensor], torch.Tensor], step: int) -> None:
        super().__init__()
        self.system, self.fault, self.step, self.steps = system, fault, step, 0

    def forward(self, *given: Any) -> torch.Tensor:
        found: torch.Tensor = self.system(*given)
        self.steps += self.training
        return self.fault(found) if self.training and self.steps == self.step else found


def batch_names(step: int) -> str:
    """Return the names in the message for the batch of that step of the first epoch."""
    index = fitting.epoch_order(TRAIN.duration, 8, 8, seed=1, epoch=0)[step - 1]
    return ", ".join(TRAIN.utterance[int(n)] for n in index[:3])


def test_a_loss_that_is_no_number_names_its_batch(tmp_path: Path) -> None:
    system = Failing(composed(), lambda found: found * torch.nan, step=4)
    with pytest.raises(TrainingError) as caught:
        train(system, tmp_path, checkpoint_minutes=1e9)
    assert str(caught.value) == (
        f"the loss became nan on the batch with {batch_names(4)} and 5 more. Lower it with --set "
        "recipe.learning_rate=RATE, or look for the fault in the plugin's forward."
    )
    # What is on disk is the start, whole and finite, and nothing half-written beside it.
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["best-0.safetensors", "last.safetensors"]
    tensors, about = saved.read(tmp_path / "checkpoints" / "last.safetensors")
    assert (about["at"]["epoch"], about["at"]["step"]) == (1, 0)
    assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


def test_no_checkpoint_is_written_after_a_loss_that_is_no_number(tmp_path: Path) -> None:
    system = Failing(composed(), lambda found: found * torch.nan, step=4)
    with pytest.raises(TrainingError, match="the loss became nan"):
        train(system, tmp_path, checkpoint_minutes=0)
    tensors, about = saved.read(tmp_path / "checkpoints" / "last.safetensors")
    assert (about["at"]["epoch"], about["at"]["step"]) == (1, 3)
    assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


class _NoMemory(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _full(found: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("fault", [_full, _NoMemory.apply], ids=["forward", "backward"])
def test_out_of_memory_names_its_batch(tmp_path: Path, fault: Callable[[torch.Tensor], torch.Tensor]) -> None:
    index = fitting.epoch_order(TRAIN.duration, 8, 8, seed=1, epoch=0)[1]
    with pytest.raises(TrainingError) as caught:
        train(Failing(composed(), fault, step=2), tmp_path)
    assert str(caught.value) == (
        f"out of memory on a batch of 8 utterances, 8 at once (longest {TRAIN.duration[index].max():.1f} s; first: "
        f"{batch_names(2)}). Use --micro-batch 4 (the same gradient), a smaller depth, or a larger device."
    )


def test_out_of_memory_on_the_cpu_is_told_alike(tmp_path: Path) -> None:
    def full(found: torch.Tensor) -> torch.Tensor:
        return found + torch.empty(1 << 62, dtype=torch.uint8)

    with pytest.raises(TrainingError, match=r"out of memory on a batch of 8 utterances, 2 at once .* --micro-batch 1 "):
        train(Failing(composed(), full, step=1), tmp_path, micro_batch=2)
    with pytest.raises(
        TrainingError, match=r"out of memory .*, 1 at once .*\. Use a smaller depth, or a larger device\."
    ):
        train(Failing(composed(), full, step=1), tmp_path, micro_batch=1)


@pytest.mark.parametrize("written", ["last.safetensors", "best-1.safetensors", "log.jsonl"])
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """The disk fills up while the first epoch is being written down."""
    systems = composed(dropout=0.2), composed(dropout=0.2), composed(dropout=0.2)
    train(systems[0], tmp_path / "undisturbed")
    folder = tmp_path / "full"
    synced, full = os.fsync, []

    def fsync(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if written in name and (folder / "checkpoints" / "last.safetensors").exists() and not full:
            full.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(TrainingError) as caught:
        train(systems[1], folder, checkpoint_minutes=1e9)
    said = str(caught.value)
    assert re.match(
        rf"training stopped at epoch \d, step \d+: .*{re.escape(written)} cannot be written \(No space left", said
    )
    assert said.endswith(
        f"Make room or correct the folder; {folder / 'checkpoints' / 'last.safetensors'} is whole: add --resume."
    )
    expected = {"best-0.safetensors", "last.safetensors"} | ({"best-1.safetensors"} if written[:4] == "last" else set())
    assert {p.name for p in (folder / "checkpoints").iterdir()} == expected  # nothing half-written
    train(systems[2], folder, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(systems[0].parameters(), systems[2].parameters(), strict=True))
    assert [line["epoch"] for line in lines(folder)] == [line["epoch"] for line in lines(tmp_path / "undisturbed")]


def test_a_store_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    class Damaged(list):  # type: ignore[type-arg]
        def __getitem__(self, number: Any) -> Any:
            if number == 7:
                raise StoreError("the frames store x is damaged: the checksum of train_7.wav differs.")
            return super().__getitem__(number)

    assert TRAIN.audio is not None
    with pytest.raises(StoreError, match=r"checksum of train_7\.wav differs"):
        train(composed(), tmp_path, data=replace(TRAIN, audio=Damaged(TRAIN.audio)))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["best-0.safetensors", "last.safetensors"]


class _Looks(TorchDispatchMode):
    """Counts what would make the host wait for a GPU: values brought over, and sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.seen.append(str(function))
        return function(*given, **(options or {}))


@pytest.mark.parametrize(
    ("audio", "text", "head"),
    [
        ("distilhubert", "tinybert", "concat"),
        ("whisper_base", "minilm", "gated"),
        ("logmel", "words", "linear"),
        ("hubert_base", "bert_base", "cross_attention"),
        ("w2v2_l_robust_p", None, "attentive_pool"),
        ("wavlm_base_plus", None, "weighted_layers"),
    ],
)
def test_a_step_never_looks_at_a_value(audio: str, text: str | None, head: str) -> None:
    plan = host().compose(audio=audio, text=text, head=head)
    system = build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe).train()
    fit_texts(system, ["a b"])
    width = audio_array(system, np.zeros(16_000, np.float32), torch.device("cpu")).shape[1]
    lengths, frames = torch.tensor([31, 20, 9, 31]), torch.randn(4, 31, width)
    ids = None if text is None else torch.ones(4, 7, dtype=torch.int64)
    batch = Batch(np.arange(4), frames, lengths, ids, None if text is None else torch.tensor([7, 3, 1, 5]))
    given = {"seed": (1, 1, 0), "ranks": Ranks(), "autocast": contextlib.nullcontext}
    optimiser = fitting._optimiser(system, plan.recipe)
    for parts in ([batch], [batch, batch]):
        labels = torch.rand(4 * len(parts), 3)
        with _Looks() as looks:
            backward(system, parts, labels, torch.arange(3), **given)  # type: ignore[arg-type]
            optimiser.step()
        assert looks.seen == []
    with _Looks() as looks:
        float(frames.sum())
    assert looks.seen  # the watch is awake


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_an_epoch_on_a_gpu_waits_for_nothing(tmp_path: Path, micro_batch: int | None) -> None:
    device = torch.device("cuda")
    steps = fitting._Steps.take
    took: list[int] = []

    def take(self: Any, at: Position, *given: Any, **options: Any) -> None:
        if at.epoch > 1:  # the first makes what the optimiser keeps
            torch.cuda.set_sync_debug_mode("error")
        try:
            steps(self, at, *given, **options)
            took.append(at.epoch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Steps, "take", take)
        patch.setattr(fitting, "_finite", lambda losses, done, train: [0.0] * len(losses))  # once an epoch, it does
        recipe = replace(RECIPE, epochs=2)
        fit(composed(), TRAIN, DEVELOPMENT, recipe, seed=1, folder=tmp_path, accelerator=accelerator_for(device),
            micro_batch=micro_batch)  # fmt: skip
    assert took == [1, 2]


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_in_bfloat16(tmp_path: Path, micro_batch: int | None) -> None:
    """Encoders compute in bfloat16, weights and heads stay in float32, and it learns the same."""
    kinds = set()
    system = composed()
    system.audio.layers[1].register_forward_hook(lambda module, given, found: kinds.add(found.dtype))
    system.head.register_forward_hook(lambda module, given, found: kinds.add((found.dtype, "head")))
    torch.manual_seed(0)
    recipe = replace(RECIPE, learning_rate=3e-2, epochs=20, patience=20)
    with_bfloat16 = accelerator_for(torch.device("cpu"), "bfloat16")
    assert precision(with_bfloat16) == "bfloat16"
    given = {"seed": 1, "folder": tmp_path, "accelerator": with_bfloat16, "micro_batch": micro_batch}
    at = fit(system, TRAIN, DEVELOPMENT, recipe, **given)  # type: ignore[arg-type]
    assert kinds == {torch.bfloat16, (torch.float32, "head")}
    assert {p.dtype for p in system.parameters()} == {torch.float32}
    assert at.best_ccc > 0.9


def test_another_shape(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the system gave \[8, 2\], expected \[8, 3\]"):
        train(Failing(composed(), lambda found: found[:, :2], step=1), tmp_path)


@pytest.mark.parametrize(
    ("processes", "micro_batch", "said"),
    [
        (
            9,
            None,
            "9 processes cannot share a batch of 8, which is the recipe's. Start at most 8, or use --set recipe.b",
        ),
        (1, 0, "--micro-batch 0 was given; expected utterances that go through at once, 1 up."),
    ],
)
def test_a_batch_that_cannot_be_divided_so(processes: int, micro_batch: int | None, said: str) -> None:
    with pytest.raises(TrainingError) as caught:
        fitting.check_division(RECIPE, processes, micro_batch)
    assert str(caught.value).startswith(said)


def test_frozen_trains_the_head_alone(tmp_path: Path) -> None:
    system = Frozen(composed(dropout=0.5))
    stored = [
        replace(data, audio=[system.audio_frontend(torch.from_numpy(x).flatten()).numpy() for x in data.audio])
        for data in (TRAIN, DEVELOPMENT)
    ]
    before = copy.deepcopy(system.state_dict())
    modes = []
    system.inner.head.register_forward_hook(lambda head, *_: modes.append((head.training, system.inner.audio.training)))
    torch.manual_seed(0)
    at = fit(system, *stored, RECIPE, seed=1, folder=tmp_path, accelerator=accelerator())
    assert at.best_epoch > 0
    assert set(modes) == {(True, False), (False, False)}
    for name, value in system.state_dict().items():
        assert torch.equal(value, before[name]) is name.startswith("inner.audio."), name
    # Checkpoints leave out what is rebuilt as it was.
    saved_names = saved.read(tmp_path / "checkpoints" / "last.safetensors")[0].keys()
    assert not [name for name in saved_names if name.startswith("model.inner.audio.layers")]


def test_resuming_a_finished_training_gives_its_best_back(tmp_path: Path) -> None:
    system, other = composed(), composed(seed=7)
    first = train(system, tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    again = train(other, tmp_path, resume=True)
    assert (again.best_epoch, again.best_ccc) == (first.best_epoch, first.best_ccc)
    assert all(torch.equal(a, b) for a, b in zip(system.parameters(), other.parameters(), strict=True))
    assert (tmp_path / "log.jsonl").read_text() == log


def test_resuming_with_other_threads_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(composed(), tmp_path, replace(RECIPE, epochs=1))
    path = tmp_path / "checkpoints" / "last.safetensors"
    tensors, about = saved.read(path)
    about["at"]["threads"] = 77
    saved.write(path, tensors, about)
    with caplog.at_level(logging.WARNING):
        train(composed(), tmp_path, replace(RECIPE, epochs=1), resume=True)
    assert f"resuming with {torch.get_num_threads()} threads after 77" in caplog.text


def test_without_resume_it_starts_anew(tmp_path: Path) -> None:
    systems = composed(), composed()
    for system in systems:
        train(system, tmp_path, replace(RECIPE, epochs=2))
    assert [line["epoch"] for line in lines(tmp_path)] == [0, 1, 2]
    assert all(torch.equal(a, b) for a, b in zip(systems[0].parameters(), systems[1].parameters(), strict=True))


class Remade(torch.nn.Module):
    """A module that makes its parameters anew when its extra state is set, as a vocabulary does."""

    def __init__(self) -> None:
        super().__init__()
        self.system = composed()

    def get_extra_state(self) -> list[int]:
        return [1]

    def set_extra_state(self, state: list[int]) -> None:
        self.system.head.layer = torch.nn.Linear(4, 3)

    def forward(self, *given: Any) -> torch.Tensor:
        found: torch.Tensor = self.system(*given)
        return found


def test_what_is_resumed_goes_on_being_trained(tmp_path: Path) -> None:
    systems = Remade(), Remade()
    train(systems[0], tmp_path / "whole", replace(RECIPE, epochs=4))
    train(systems[1], tmp_path / "halves", replace(RECIPE, epochs=2))
    path = tmp_path / "halves" / "checkpoints" / "last.safetensors"
    tensors, about = saved.read(path)
    about["at"]["finished"] = False
    saved.write(path, tensors, about)
    resumed = Remade()
    train(resumed, tmp_path / "halves", replace(RECIPE, epochs=4), resume=True)
    assert all(torch.equal(a, b) for a, b in zip(systems[0].parameters(), resumed.parameters(), strict=True))


def test_progress_is_told_after_each_step(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    train(composed(), tmp_path, replace(RECIPE, epochs=2), progress=lambda *given: told.append(given))
    assert [(done, total) for _, done, total in told] == [(n, 7) for n in range(1, 8)] + [(n, 8) for n in range(1, 9)]
    assert [what.split(" (")[0] for what, _, _ in told] == ["epoch 1"] * 7 + ["epoch 2"] * 8


def test_a_trained_system_is_let_go(tmp_path: Path) -> None:
    """Several seeds are trained with one accelerator, which must not keep them all."""
    one = accelerator()
    system = composed()
    fit(system, TRAIN, DEVELOPMENT, replace(RECIPE, epochs=1), seed=1, folder=tmp_path, accelerator=one)
    reference = weakref.ref(system)
    del system
    gc.collect()
    assert reference() is None
