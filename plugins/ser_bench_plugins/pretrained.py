"""Make transformers models in the sizes a plugin promises, and fill them from the hub or a folder, checked.

A configuration that ships beside this file says what a named encoder is, so parameters are counted and speed is
measured without a download, and weights of another architecture are refused instead of bent. An encoder that is not
named takes the configuration of its checkpoint. Code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel, Wav2Vec2FeatureExtractor
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from ser_bench.errors import WeightsError
from ser_bench.interface import Regularisation, Source, Weights
from ser_bench_plugins.dropout import quicken

log = logging.getLogger(__name__)

# How a model is initialised, which a filled one no longer shows.
_INITIALISATION = ("initializer_range", "init_std")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One type of transformers models: what sets it apart from the others of its kind, as values."""

    model: type[PreTrainedModel]
    module: Callable[..., Any]
    """Our encoder, which is made around it."""
    stack: str
    """Where its transformer layers stand in the model, with dots."""
    depth: str = "num_hidden_layers"
    """The configuration's field for how many there are."""
    tiny: Mapping[str, Any]
    """What the ``tiny`` size changes in a configuration."""
    dropouts: tuple[str, ...]
    """The configuration's fields that the recipe's dropout goes into."""
    heads: tuple[str, ...]
    """Starts of the keys of what may stand on or beside the encoder in a checkpoint, and is left there."""
    optional: str | None = None
    """A parameter that a checkpoint may lack: it then starts from zeros."""
    always: Mapping[str, Any] = field(default_factory=dict)
    """Configuration fields with one value here, whatever a checkpoint says."""
    key_mapping: Mapping[str, str] = field(default_factory=dict)
    """Pattern -> what it becomes in a checkpoint's keys, where they are not the model's own."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """For the model's constructor."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where weights are read from."""

    place: str
    """A folder, or a repository on the hub."""
    local: bool
    revision: str | None = None
    expected: str
    """Of what a checkpoint should be there, for messages."""
    folder: str = "--weights PART=DIR"
    """How to name a folder, for messages."""
    otherwise: str = ""
    """What else may be done without it, for messages."""

    def configuration(self) -> dict[str, Any]:
        """Return config.json as it is.

        Raises:
            WeightsError: it is not there or not JSON, or the hub cannot be reached.
        """
        if self.local and not (Path(self.place) / "config.json").is_file():
            there = Path(self.place).is_dir()
            what = f"the folder {self.place} has no config.json" if there else f"there is no folder {self.place}"
            raise WeightsError(f"{what}; expected a checkpoint of {self.expected}. Name its folder with {self.folder}.")
        try:
            given: dict[str, Any] = PreTrainedConfig.get_config_dict(self.place, revision=self.revision)[0]
        except OSError as error:
            if self.local:
                raise WeightsError(
                    f"{self.place}/config.json is no configuration; expected that of {self.expected}. Fetch it again."
                ) from error
            raise WeightsError(
                f"{self.place} could not be fetched from the hub. Download it elsewhere and name its folder with "
                f"{self.folder}{self.otherwise}."
            ) from error
        return given

    def file(self, name: str) -> Path | None:
        """Return one file of it, or None where it has none of that name."""
        try:
            found = cached_file(self.place, name, revision=self.revision, _raise_exceptions_for_missing_entries=False)
        except OSError:
            return None
        return Path(found) if found else None

    def normalises(self) -> bool | None:
        """Say whether its waves are brought to zero mean and unit variance first; None where it does not say."""
        try:
            said = Wav2Vec2FeatureExtractor.get_feature_extractor_dict(self.place, revision=self.revision)[0]
        except OSError:
            return None
        return bool(said.get("do_normalize", True))  # the library's own default


def located(weights: Weights, source: Source) -> Checkpoint | None:
    """Return where a named encoder's weights are, or None for ``random`` and ``tiny``."""
    repo = str(source.repo)
    if isinstance(weights, Path):
        return Checkpoint(place=str(weights), local=True, expected=repo)
    if weights == "pretrained":
        otherwise = ", or use --weights random to try the system without its weights"
        return Checkpoint(place=repo, local=False, revision=source.revision, expected=repo, otherwise=otherwise)
    return None


def shipped(configuration: str) -> dict[str, Any]:
    """Return the configuration of that name.

    Two fields are ours: ``normalise`` (whether the wave is brought to zero mean and unit variance) and ``kept_layers``
    (where a named encoder is less deep than its checkpoint).
    """
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
    family: Family,
    settings: Mapping[str, Any],
    weights: Weights,
    checkpoint: Checkpoint | None,
    *,
    name: str,
    depth: int | None,
    regularisation: Regularisation,
) -> Any:
    """Make the model of a configuration, cut to its first layers, and fill it.

    Args:
        family: the type of model.
        settings: the full configuration; weights that differ from it are refused.
        weights: ``tiny`` makes it small; otherwise it is full size.
        checkpoint: what fills it; None leaves it as initialised. Layers beyond ``depth`` are not read.
        name: of the encoder, for messages.
        depth: layers to keep; None: all, or the configuration's ``kept_layers``.
        regularisation: for the dropout.

    Raises:
        WeightsError: weights not there, of another architecture, with keys missing or left over; more depth than
            there is.
    """
    wanted = {k: v for k, v in settings.items() if k not in ("normalise", "kept_layers")}
    sized = wanted | (dict(family.tiny) if weights == "tiny" else {})
    there = sized[family.depth]
    layers = kept_layers(depth, min(there, settings.get("kept_layers", there)), name)
    dropouts = dict.fromkeys(family.dropouts, regularisation.dropout)
    config = family.model.config_class.from_dict(sized | {family.depth: layers} | dropouts | dict(family.always))
    if checkpoint is None:
        model = family.model(config, **family.arguments)
    else:
        _require(wanted, checkpoint)
        model = _filled(family, config, checkpoint)
    quicken(model)
    return model.eval()


def _filled(family: Family, config: PreTrainedConfig, checkpoint: Checkpoint) -> Any:
    place = checkpoint.place
    try:
        with _quiet():
            model, report = family.model.from_pretrained(
                place,
                revision=checkpoint.revision or "main",
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                key_mapping=dict(family.key_mapping),
                **family.arguments,
            )
    except (OSError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise WeightsError(
            f"the weights in {place} cannot be loaded: {first}. Expected model.safetensors (or pytorch_model.bin) of "
            f"{checkpoint.expected}; fetch it again."
        ) from error
    missing = set(report["missing_keys"])
    if family.optional in missing:
        torch.nn.init.zeros_(model.get_parameter(family.optional))
    kept = getattr(config, family.depth)
    absent = sorted(missing - {family.optional})
    extra = sorted(key for key in report["unexpected_keys"] if not _unused(key, family, kept))
    reshaped = sorted(
        f"{key} is {list(given)}, expected {list(wanted)}" for key, given, wanted in report["mismatched_keys"]
    )
    if absent or extra or reshaped:
        raise WeightsError(
            f"the weights in {place} do not fit: {len(absent)} keys are missing, {len(extra)} are left over, "
            f"{len(reshaped)} have another shape (first: {(absent + extra + reshaped)[0]}). "
            f"Expected a checkpoint of {checkpoint.expected}; name its folder."
        )
    return model


def _unused(key: str, family: Family, kept: int) -> bool:
    """Say whether a checkpoint's key belongs to a layer that is cut off, or to a head."""
    own = key.removeprefix(f"{family.model.base_model_prefix}.")
    layer = re.match(rf"{re.escape(family.stack)}\.(\d+)\.", own)
    return int(layer[1]) >= kept if layer else own.startswith(family.heads)


def _require(wanted: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Compare the given weights' configuration with what the plugin is."""
    given = checkpoint.configuration()
    fields = ["model_type", *(k for k in wanted if k not in ("model_type", *_INITIALISATION))]
    differing = [f"{k} is {given[k]!r}, expected {wanted[k]!r}" for k in fields if given.get(k, wanted[k]) != wanted[k]]
    if differing:
        other = given.get("model_type", wanted["model_type"]) != wanted["model_type"]
        raise WeightsError(
            f"the weights in {checkpoint.place} are of another architecture: "
            f"{differing[0] if other else '; '.join(differing)}. Expected a checkpoint of "
            f"{checkpoint.expected}; name its folder."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what transformers would report while it loads: it is checked afterwards."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
