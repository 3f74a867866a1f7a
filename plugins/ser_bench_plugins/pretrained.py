"""Make transformers models in the sizes a plugin promises, and fill them from the hub or a folder, checked.

A configuration that ships beside this file says what a named encoder is, so parameters are counted and speed is
measured without a download, and weights of another architecture are refused instead of bent.
"""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ser_bench.errors import WeightsError
from ser_bench.interface import Source, Weights

log = logging.getLogger(__name__)


def shipped(configuration: str) -> dict[str, Any]:
    """Return the configuration of that name."""
    text = (files("ser_bench_plugins") / "data" / f"{configuration}.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    return settings


def kept_layers(wanted: int | None, layers: int, what: str) -> int:
    """Return how many layers to keep.

    Raises:
        WeightsError: more than there are.
    """
    if wanted is not None and not 0 <= wanted <= layers:
        raise WeightsError(f"depth {wanted} was asked of {what}, which has {layers} layers. Give 0 to {layers}.")
    return layers if wanted is None else wanted


def make(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Weights,
    *,
    source: Source,
    must_match: Mapping[str, Any],
    unused: tuple[str, ...],
    key_mapping: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Any:
    """Make the model of ``config`` and fill it.

    Args:
        kind: the transformers class.
        config: the wanted size; layers beyond it are not loaded.
        weights: ``random`` and ``tiny`` leave it as initialised, ``pretrained`` reads ``source``, a folder is read.
        source: repository and revision on the hub.
        must_match: configuration fields in which given weights must agree with what the plugin is.
        unused: starts of checkpoint keys that the model has no use for (other heads, layers cut off).
        key_mapping: pattern -> what it becomes in the checkpoint's keys, where they are not the model's own.
        arguments: for the model's constructor.

    Raises:
        WeightsError: not there, another architecture, keys missing or left over, or the hub cannot be reached.
    """
    if not isinstance(weights, Path) and weights != "pretrained":
        return kind(config, **arguments).eval()
    repo = str(source.repo)
    place = str(weights) if isinstance(weights, Path) else repo
    pinned = {"revision": source.revision} if weights == "pretrained" and source.revision else {}
    _require(kind, place, repo, must_match, pinned)
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what it would report is checked below
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = kind.from_pretrained(
                place,
                **pinned,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                key_mapping=dict(key_mapping or {}),
                **arguments,
            )
    except (OSError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise WeightsError(
            f"the weights in {place} cannot be loaded: {first}. Expected model.safetensors (or pytorch_model.bin) of "
            f"{repo}; fetch it again."
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
    missing = sorted(report["missing_keys"])
    extra = sorted(k for k in report["unexpected_keys"] if not k.startswith(unused))
    reshaped = [str(key) for key in report["mismatched_keys"]]
    if missing or extra or reshaped:
        raise WeightsError(
            f"the weights in {place} do not fit: {len(missing)} keys are missing, {len(extra)} are left over, "
            f"{len(reshaped)} have another shape (first: {(missing + extra + reshaped)[0]}). "
            f"Expected a checkpoint of {repo}; name its folder."
        )
    return model.eval()


def _require(
    kind: type[PreTrainedModel], place: str, repo: str, must_match: Mapping[str, Any], pinned: Mapping[str, str]
) -> None:
    """Compare the given weights' configuration with what the plugin is."""
    if place != repo and not (Path(place) / "config.json").is_file():
        what = f"the folder {place} has no config.json" if Path(place).is_dir() else f"there is no folder {place}"
        raise WeightsError(f"{what}; expected a checkpoint of {repo}. Name its folder with --weights PART=DIR.")
    try:
        given = kind.config_class.get_config_dict(place, **pinned)[0]
    except OSError as error:
        if place != repo:
            raise WeightsError(
                f"{place}/config.json is no configuration; expected that of {repo}. Fetch it again."
            ) from error
        raise WeightsError(
            f"{repo} could not be fetched from the hub. Download it elsewhere and name its folder with --weights DIR "
            "(or PART=DIR), or use --weights random to try the system without its weights."
        ) from error
    differing = [f"{k} is {given.get(k)!r}, expected {v!r}" for k, v in must_match.items() if given.get(k, v) != v]
    if differing:
        raise WeightsError(
            f"the weights in {place} are of another architecture: {'; '.join(differing)}. "
            f"Expected a checkpoint of {repo}; name its folder."
        )
