from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from ser_bench import saved
from ser_bench.errors import RecordError, StoreError


class Vocabulary(nn.Module):
    """A module that keeps something beside tensors, and has a buffer and a frozen parameter."""

    counts: torch.Tensor

    def __init__(self, words: list[str], width: int = 4) -> None:
        super().__init__()
        self.words = words
        self.embedding = nn.Embedding(3, width)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.register_buffer("counts", torch.arange(3))

    def get_extra_state(self) -> list[str]:
        return self.words

    def set_extra_state(self, state: list[str]) -> None:
        self.words = state


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and (torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y) for (a, x), (b, y) in pairs)


def test_a_module_survives_the_disk_whole(tmp_path: Path) -> None:
    module, other = nn.Sequential(Vocabulary(["é", "b"])), nn.Sequential(Vocabulary([]))
    assert not equal(module, other)
    tensors, extra = saved.state(module)
    saved.write(tmp_path / "model.safetensors", tensors, {"extra": extra})
    found, about = saved.read(tmp_path / "model.safetensors")
    assert about == {"extra": {"0._extra_state": ["é", "b"]}}
    saved.restore(other, found, about["extra"], where=tmp_path)
    assert equal(module, other)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = {
        "a": torch.randn(3, 5).to(kind),
        "empty": torch.zeros(0, 2, dtype=kind),
        "one": torch.ones((), dtype=kind),
    }
    saved.write(tmp_path / "x", tensors, {"number": 0.1, "none": None, "list": [1, "é"]})
    found, about = saved.read(tmp_path / "x")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == kind
        assert torch.equal(found[name], tensor)
    assert about == {"number": 0.1, "none": None, "list": [1, "é"]}


def test_views_and_shared_tensors_are_written_as_they_look(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    saved.write(tmp_path / "x", {"turned": whole.T, "column": whole[:, 1], "same": whole[:, 1]}, {})
    found, _ = saved.read(tmp_path / "x")
    assert torch.equal(found["turned"], whole.detach().T)
    assert torch.equal(found["column"], whole.detach()[:, 1])
    assert torch.equal(found["same"], whole.detach()[:, 1])


def test_the_file_is_plain_safetensors_and_no_pickle(tmp_path: Path) -> None:
    saved.write(tmp_path / "x", {"a": torch.ones(2)}, {"b": 1})
    assert torch.equal(safetensors.torch.load_file(tmp_path / "x")["a"], torch.ones(2))
    raw = (tmp_path / "x").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"] == {"about": '{"b": 1}'}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved.write(tmp_path / "x", {"a": torch.ones(2)}, {})

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreError, match="Input/output error"):
        saved.write(tmp_path / "x", {"a": torch.zeros(2)}, {})
    assert torch.equal(saved.read(tmp_path / "x")[0]["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_that_is_missing_cut_or_foreign_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"

    def told(kind: str) -> None:
        expected = (
            rf"^{re.escape(str(path))} cannot be read as a saved state \({kind}: .*\)\. Restore it, or train that seed"
        )
        with pytest.raises(RecordError, match=expected):
            saved.read(path)

    told("FileNotFoundError")
    saved.write(path, {"a": torch.ones(100)}, {})
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-1]):
        path.write_bytes(content)
        told("SafetensorError")
    safetensors.torch.save_file({"a": torch.ones(1)}, path)  # safetensors, but not ours
    told("KeyError")


def test_trained_only_leaves_out_what_is_not_trained(tmp_path: Path) -> None:
    module = Vocabulary(["a"])
    tensors, extra = saved.state(module, trained_only=True)
    assert set(tensors) == {"embedding.weight", "counts"}  # buffers change in training, too
    assert set(extra) == {"_extra_state"}
    assert set(saved.state(module)[0]) == {"embedding.weight", "counts", "frozen.weight", "frozen.bias"}
    other = Vocabulary([])
    kept = other.frozen.weight.clone()
    saved.restore(other, tensors, extra, where=tmp_path)
    assert torch.equal(other.embedding.weight, module.embedding.weight)
    assert torch.equal(other.frozen.weight, kept)
    assert other.words == ["a"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"embedding.weight": None}, "1 keys are missing and 0 are unknown (first: embedding.weight)"),
        ({"counts": None}, "1 keys are missing and 0 are unknown (first: counts)"),
        ({"_extra_state": None}, "1 keys are missing and 0 are unknown (first: _extra_state)"),
        ({"surplus": torch.ones(1)}, "0 keys are missing and 1 are unknown (first: surplus)"),
        ({"embedding.weight": torch.ones(5, 4)}, "size mismatch for embedding.weight"),
    ],
)
def test_a_state_that_does_not_fit_is_told(tmp_path: Path, damage: dict[str, Any], told: str) -> None:
    tensors, extra = saved.state(Vocabulary(["a"]))
    whole = {**tensors, **extra, **damage}
    present = {name: value for name, value in whole.items() if value is not None}
    where = tmp_path / "model.safetensors"
    with pytest.raises(RecordError) as error:
        saved.restore(
            Vocabulary([]),
            {name: value for name, value in present.items() if name != "_extra_state"},
            {name: value for name, value in present.items() if name == "_extra_state"},
            where=where,
        )
    assert str(error.value).startswith(f"{where} does not fit the system it was saved from: {told}")
    assert str(error.value).endswith("Use the same plugin version.")


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_an_optimiser_goes_on_bit_for_bit(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    """Five steps in a row equal two, the disk, and three; the moments and the step count matter."""

    def system() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        groups = [{"params": module[0].parameters(), "lr": 0.1}, {"params": module[2].parameters(), "lr": 0.01}]
        return module, kind(groups, weight_decay=0.01)  # type: ignore[call-arg]

    def step(module: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
        torch.manual_seed(number)
        optimiser.zero_grad()
        module(torch.randn(6, 4)).square().mean().backward()
        optimiser.step()

    straight, optimiser = system()
    for number in range(5):
        step(straight, optimiser, number)

    first, optimiser = system()
    for number in range(2):
        step(first, optimiser, number)
    tensors, about = saved.optimiser_state(optimiser)
    weights, _ = saved.state(first)
    saved.write(
        tmp_path / "last", {f"o.{k}": v for k, v in tensors.items()} | {f"m.{k}": v for k, v in weights.items()}, about
    )

    read, about = saved.read(tmp_path / "last")
    second, optimiser = system()
    for group in optimiser.param_groups:
        group["lr"] = 123.0  # the rate comes back, too
    saved.restore(second, {k[2:]: v for k, v in read.items() if k[0] == "m"}, {}, where=tmp_path)
    saved.restore_optimiser(optimiser, {k[2:]: v for k, v in read.items() if k[0] == "o"}, about)
    assert [group["lr"] for group in optimiser.param_groups] == [0.1, 0.01]
    for number in range(2, 5):
        step(second, optimiser, number)
    assert equal(straight, second)
