"""Training settings, and how they are changed by key and value, as ``--set recipe.KEY=VALUE`` does.

A plugin has them from ``ser_bench.interface``.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ser_bench.errors import TrainingError

ATTRIBUTES = ("arousal", "valence", "dominance")
_INNER = "regularisation"


@dataclass(frozen=True, kw_only=True)
class Regularisation:
    """What an encoder does to itself while it is trained, and at no other time."""

    dropout: float = 0.1
    """Probability, everywhere the encoder has a dropout (paper §3.2: 0.1 throughout)."""
    layerdrop: float = 0.0
    """Probability of skipping a transformer layer (off: the paper names dropout and early stopping alone)."""
    time_mask: float = 0.0
    """Share of frames that start a masked span of 10, as wav2vec 2.0 does (SpecAugment; off, as above)."""
    feature_mask: float = 0.0
    """Share of channels that start a masked span of 10."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training settings. The defaults are the paper's §3.2 where it speaks; the rest is ours and says so."""

    attributes: tuple[str, ...] = ATTRIBUTES
    """What is trained, selected on and scored; the other attributes' scores are null."""
    optimiser: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-5
    head_learning_rate: float | None = None
    """Learning rate of the fusion head; None: the same as the encoders' (the paper's)."""
    weight_decay: float = 0.0
    batch_size: int = 16
    """Utterances to an optimiser step, over all processes."""
    epochs: int = 50
    """At most; the paper gives none (ours)."""
    patience: int = 5
    """Epochs without a better development mean CCC before training stops (the paper stops early, patience is ours)."""
    head_dropout: float = 0.1
    regularisation: Regularisation = field(default_factory=Regularisation)
    bucket_batches: int = 8
    """Batches whose utterances are sorted by length together (ours; the paper says buckets sorted by length)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What encoders compute in; ``auto`` is bfloat16 on a GPU, float32 on the CPU. Heads and loss stay in float32."""
    frontend_precision: Literal["float32", "bfloat16"] = "float32"
    """What audio front ends compute in; another one makes another store (ours: float32 is exact)."""

    def __post_init__(self) -> None:
        """Refuse a recipe that cannot be trained, telling all faults at once."""
        faults = []
        unknown = [a for a in self.attributes if a not in ATTRIBUTES]
        if unknown or not self.attributes or len(set(self.attributes)) != len(self.attributes):
            faults.append(f"attributes is {list(self.attributes)}, expected different names out of {list(ATTRIBUTES)}")
        if self.optimiser not in ("adam", "adamw"):
            faults.append(f"optimiser is {self.optimiser!r}, expected 'adam' or 'adamw'")
        for name, kinds in (
            ("precision", ("auto", "float32", "bfloat16")),
            ("frontend_precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in kinds:
                faults.append(f"{name} is {getattr(self, name)!r}, expected {' or '.join(map(repr, kinds))}")
        for name, low in (("batch_size", 2), ("epochs", 1), ("patience", 1), ("bucket_batches", 1)):
            if getattr(self, name) < low:
                faults.append(f"{name} is {getattr(self, name)}, expected {low} or more")
        rates = [("learning_rate", self.learning_rate), ("head_learning_rate", self.head_learning_rate)]
        for name, rate in rates:
            if rate is not None and not 0 < rate < 1:
                faults.append(f"{name} is {rate}, expected between 0 and 1")
        if not 0 <= self.weight_decay < 1:
            faults.append(f"weight_decay is {self.weight_decay}, expected 0 or more and less than 1")
        shares = {"head_dropout": self.head_dropout}
        shares |= {
            f"regularisation.{f.name}": getattr(self.regularisation, f.name) for f in dataclasses.fields(Regularisation)
        }
        faults += [
            f"{name} is {share}, expected 0 or more and less than 1"
            for name, share in shares.items()
            if not 0 <= share < 1
        ]
        if faults:
            raise TrainingError(
                "the recipe cannot be trained: " + "; ".join(faults) + ". Correct it with --set recipe.KEY=VALUE."
            )


def keys() -> list[str]:
    """Return every key a recipe has; those inside regularisation are dotted."""
    outer = [f.name for f in dataclasses.fields(Recipe) if f.name != _INNER]
    return outer + [f"{_INNER}.{f.name}" for f in dataclasses.fields(Regularisation)]


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the named fields replaced.

    Args:
        recipe: what to start from.
        changes: key -> value, the key without ``recipe.``; a value may be a string as typed on a command line.

    Raises:
        TrainingError: a key is unknown, a value has the wrong type, or the result cannot be trained; all at once.
    """
    known = keys()
    outer: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    faults = []
    for key, value in changes.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean recipe.{near[0]}?" if near else f"known are {', '.join(known)}"
            faults.append(f"recipe.{key} is unknown ({hint})")
            continue
        owner, target = (Regularisation, inner) if "." in key else (Recipe, outer)
        leaf = key.rpartition(".")[2]
        wanted = typing.get_type_hints(owner)[leaf]
        try:
            target[leaf] = _converted(value, wanted)
        except (TypeError, ValueError):
            faults.append(f"recipe.{key} was given {value!r}, expected {_words(wanted)}")
    try:
        regularisation = dataclasses.replace(recipe.regularisation, **inner)
        result = dataclasses.replace(recipe, regularisation=regularisation, **outer)
    except TrainingError as error:
        if not faults:
            raise
        faults.append(str(error).removesuffix("."))
    if faults:
        raise TrainingError("the recipe cannot be changed so: " + "; ".join(faults) + ".")
    return result


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as JSON-able values, tuples as lists."""
    plain = dataclasses.asdict(recipe)
    plain["attributes"] = list(recipe.attributes)
    return plain


def from_dict(plain: Mapping[str, Any]) -> Recipe:
    """Return the recipe that ``as_dict`` wrote."""
    flat = {k: v for k, v in plain.items() if k != _INNER}
    flat |= {f"{_INNER}.{k}": v for k, v in plain[_INNER].items()}
    return changed(Recipe(), flat)


def _converted(value: Any, wanted: Any) -> Any:
    """Turn a value, or its spelling on a command line, into the wanted type; ValueError where it does not fit."""
    if isinstance(wanted, types.UnionType):  # number or none
        return None if value is None or value == "none" else _converted(value, wanted.__args__[0])
    if typing.get_origin(wanted) is tuple:
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(str(part).strip() for part in parts)
    if typing.get_origin(wanted) is typing.Literal:
        return str(value)  # which of them, Recipe itself checks
    if isinstance(value, bool) or (wanted is int and isinstance(value, float)):
        raise ValueError
    return wanted(value)


def _words(wanted: Any) -> str:
    if isinstance(wanted, types.UnionType):
        return f"{_words(wanted.__args__[0])} or none"
    return {int: "a whole number", float: "a number"}.get(wanted, "names joined by commas")
