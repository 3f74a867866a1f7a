"""Keep module states on disk: safetensors for tensors, JSON for the rest, never a pickle, never half a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError

_EXTRA = "_extra_state"  # torch's name for what a module keeps beside tensors, such as a vocabulary


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and JSON values as one safetensors file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    atomic_write(path, safetensors.torch.save(plain, metadata={"about": json.dumps(about, sort_keys=True)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write`` wrote.

    Raises:
        RecordError: the file is missing or is not such a file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (not a dict)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read as a saved state ({type(error).__name__}: {error}). Restore it, or train that seed "
            "anew."
        ) from error


def state(module: nn.Module, *, trained_only: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a module's tensors and its extra (JSON) states.

    Args:
        module: any.
        trained_only: leave out parameters that are not trained; they are rebuilt as they were.
    """
    skipped = {name for name, p in module.named_parameters() if trained_only and not p.requires_grad}
    whole = {name: value for name, value in module.state_dict().items() if name not in skipped}
    extra = {name: value for name, value in whole.items() if name.rpartition(".")[2] == _EXTRA}
    return {name: value for name, value in whole.items() if name not in extra}, extra


def restore(module: nn.Module, tensors: Mapping[str, Tensor], extra: Mapping[str, Any], *, where: Path) -> None:
    """Load what ``state`` gave; with states of trained parameters only, the others stay.

    Raises:
        RecordError: names or shapes do not fit the module.
    """
    kept = {name for name, _ in module.named_parameters()} - tensors.keys()
    try:
        found = module.load_state_dict({**tensors, **extra}, strict=False)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise RecordError(
            f"{where} does not fit the system it was saved from: {first}. Use the same plugin version."
        ) from error
    missing = [name for name in found.missing_keys if name not in kept or module.get_parameter(name).requires_grad]
    if missing or found.unexpected_keys:
        raise RecordError(
            f"{where} does not fit the system it was saved from: {len(missing)} keys are missing and "
            f"{len(found.unexpected_keys)} are unknown (first: {(missing + found.unexpected_keys)[0]}). "
            "Use the same plugin version."
        )


def optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors and JSON values."""
    whole = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for number, values in whole["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else scalars)[f"{number}.{key}"] = value
    return tensors, {"scalars": scalars, "groups": whole["param_groups"]}


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Load what ``optimiser_state`` gave."""
    entries: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **about["scalars"]}.items():
        number, _, key = name.partition(".")
        entries.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": entries, "param_groups": about["groups"]})
