"""Read a suite's file: TOML in which a list is a choice, so that one table stands for many runs (docs/suites.md)."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_bench import recipes
from ser_bench.errors import SuiteError
from ser_bench.suite.cluster import Cluster
from ser_bench.suite.spec import RunSpec

_WORDS: dict[str, tuple[type, ...]] = {
    "plugin": (str,),
    "audio": (str,),
    "text": (str,),
    "head": (str,),
    "depth": (int,),
    "corpus": (str,),
    "release": (str,),
    "transcripts": (str,),
    "seed": (int,),
    "strategy": (str,),
    "weights": (str, dict),
    "device": (str,),
    "frames": (str,),
    "frames_dtype": (str,),
    "allow_missing": (bool,),
    "micro_batch": (int,),
    "tracker": (str,),
}
"""Key of a run -> what its value, or each of its choices, may be."""
_RECIPES = {"recipe": "changes", "head_recipe": "head_changes"}
"""Key of a run that is a table of recipe keys -> the spec's field."""
_KINDS = {str: "text", int: "a whole number", bool: "true or false", dict: "a table", float: "a number"}
_SUITE: dict[str, tuple[type, ...]] = {"out": (str,), "jobs": (int,)}


@dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """What a suite's file says."""

    specs: tuple[RunSpec, ...]
    out: Path = Path("runs")
    jobs: int | None = None
    cluster: Cluster


def read(path: Path) -> SuiteFile:
    """Read a suite's file.

    Raises:
        SuiteError: it is missing or no TOML, or has unknown keys or values of the wrong kind; all faults at once.
    """
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise SuiteError(
            f"{path} cannot be read ({error.strerror}). Name a suite's file; docs/suites.md has one."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} is not TOML: {error}. docs/suites.md has an example.") from error
    faults: list[str] = []
    faults += _unknown(given, ("suite", "common", "runs", "cluster"), "")
    tables = {name: _table(given, name, faults) for name in ("suite", "common", "cluster")}
    faults += _unknown(tables["suite"], _SUITE, "suite.") + _misfits(tables["suite"], _SUITE, "suite.")
    if isinstance(tables["suite"].get("jobs"), int) and tables["suite"]["jobs"] < 1:
        faults.append(f"suite.jobs is {tables['suite']['jobs']}, expected 1 or more")
    cluster, wrong = Cluster.parse(tables["cluster"])
    faults += wrong
    runs = given.get("runs", [])
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        faults.append("there is no [[runs]] table, each of which stands for one run or, with choices, for several")
        runs = []
    _check(tables["common"], "common.", faults)
    for number, run in enumerate(runs, start=1):
        _check(run, f"runs {number}: ", faults)
        if "corpus" not in {**tables["common"], **run}:
            faults.append(f"runs {number}: corpus is missing; give it there or in [common]")
    if faults:
        raise SuiteError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}: {'; '.join(faults)}.")
    suite = tables["suite"]
    specs = [spec for run in runs for spec in _crossed(_merged(tables["common"], run))]
    return SuiteFile(specs=tuple(specs), out=Path(suite.get("out", "runs")), jobs=suite.get("jobs"), cluster=cluster)


def _table(given: Mapping[str, Any], name: str, faults: list[str]) -> dict[str, Any]:
    found = given.get(name, {})
    if isinstance(found, dict):
        return found
    faults.append(f"{name} is {found!r}, expected a table [{name}]")
    return {}


def _check(run: Mapping[str, Any], where: str, faults: list[str]) -> None:
    """Find the faults of one table of runs."""
    plain = {key: value for key, value in run.items() if key not in _RECIPES}
    faults += _unknown(plain, (*_WORDS, *_RECIPES), where) + _misfits(plain, _WORDS, where)
    for word in _choices(plain.get("weights")):
        if isinstance(word, dict):
            faults += _misfits(word, dict.fromkeys(word, (str,)), f"{where}weights.")
    for name in _RECIPES:
        recipe = run.get(name, {})
        if not isinstance(recipe, dict):
            faults.append(f"{where}{name} is {recipe!r}, expected a table such as {name}.epochs = 3")
            continue
        flat = _flat(recipe)
        faults += _unknown(flat, recipes.keys(), f"{where}{name}.")
        faults += _misfits(flat, dict.fromkeys(flat, (str, int, float, bool)), f"{where}{name}.")


def _unknown(given: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """Tell the keys that are unknown, each with a near match or all that are known."""
    found = []
    for key in given:
        if key not in (known := list(known)):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            found.append(f"{where}{key} is unknown ({hint})")
    return found


def _misfits(given: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], where: str) -> list[str]:
    """Tell the values, or choices, of known keys that are of the wrong kind."""
    found = []
    for key, value in given.items():
        if key not in kinds:
            continue
        choices = _choices(value)
        wanted = " or ".join(_KINDS[kind] for kind in kinds[key])
        if not choices:
            found.append(f"{where}{key} is an empty list, expected {wanted}, or a list of these to choose from")
        # bool is an int to Python, and 1.5 no depth
        found += [
            f"{where}{key} is {choice!r}, expected {wanted}" for choice in choices if type(choice) not in kinds[key]
        ]
    return found


def _choices(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a recipe's table with the keys inside regularisation dotted, as on a command line."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


_SYSTEM = ("plugin", "audio", "text", "head", "depth")


def _merged(common: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a run's table over the common one; a run that names a system takes nothing of a common one."""
    named = any(key in run for key in ("plugin", "audio", "text"))
    below = {key: value for key, value in common.items() if not (named and key in _SYSTEM)}
    together = {name: _flat(common.get(name, {})) | _flat(run.get(name, {})) for name in _RECIPES}
    return {**below, **run, **together}


def _crossed(merged: Mapping[str, Any]) -> Iterator[RunSpec]:
    """Yield a run for every combination of choices; the seeds of one run stay together."""
    axes = {("", key): _choices(value) for key, value in merged.items() if key not in (*_RECIPES, "seed")}
    axes |= {(name, key): _choices(value) for name in _RECIPES for key, value in merged[name].items()}
    for chosen in itertools.product(*axes.values()):
        values: dict[str, dict[str, Any]] = {name: {} for name in ("", *_RECIPES)}
        for (name, key), value in zip(axes, chosen, strict=True):
            values[name][key] = value
        weights = values[""].pop("weights", ())
        parts = [f"{part}={word}" for part, word in weights.items()] if isinstance(weights, dict) else [weights]
        options = values[""] | {field: values[name] for name, field in _RECIPES.items()}
        seeds = tuple(dict.fromkeys(_choices(merged.get("seed", 1))))
        yield RunSpec(seeds=seeds, weights=tuple(parts) if weights else (), **options)
