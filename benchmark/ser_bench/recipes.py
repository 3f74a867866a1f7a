"""Change a recipe by key and value, as ``--set recipe.KEY=VALUE`` does, telling all faults at once."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from ser_bench.errors import TrainingError
from ser_bench.interface import Recipe, Regularisation

_INNER = "regularisation"


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
