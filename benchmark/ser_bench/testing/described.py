"""Contract checks of what a plugin says of itself."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from functools import cache
from typing import Any

from ser_bench import recipes, records
from ser_bench.errors import PluginError
from ser_bench.interface import PROJECT, FusionHeadSpec, Source, WholeSystemSpec
from ser_bench.system import without_storage
from ser_bench.testing.bench import QUIET, Bench
from ser_bench.testing.breach import BreachError, InapplicableError, require

HEAVY = ("torch", "torchaudio", "transformers", "datasets")

# Finds the plugin as a user's process would, alone, and tells what came with it.
_IMPORT = f"""
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from importlib.metadata import EntryPoint
from ser_bench.host import Host
found = Host.discover([EntryPoint("checked", sys.argv[2], {PROJECT!r})])
print(json.dumps([[str(one) for one in found.failures], [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def spec(bench: Bench) -> str:
    """What the spec says is well-formed, and agrees with the module at full size."""
    from ser_bench.testing.checks import NAMES

    said = bench.offer.spec
    require("\n" not in said.summary, f"the summary is {said.summary!r}", "one line")
    unknown = sorted(said.known_failures.keys() - set(NAMES[bench.kind]))
    require(not unknown, f"known_failures names {', '.join(unknown)}", f"checks: {', '.join(NAMES[bench.kind])}")
    if hasattr(said, "source"):
        _source(said.source)
    if hasattr(said, "recipe"):
        json.dumps(recipes.as_dict(said.recipe))
    if isinstance(said, FusionHeadSpec):
        fits = any(hasattr(subject.module, "fit") for subject in bench.resting)
        vectors = said.pooling is not None or said.layers
        require(vectors or not fits, "the head has a fit and names no pooling", "a pooling to fit on")
        return "well-formed"
    if bench.kind == "system":
        if isinstance(said, WholeSystemSpec):
            inner = bench.resting[0].module.inner
            absent = [f"{m}_frontend" for m in said.reads if not hasattr(inner, f"{m}_frontend")]
            require(not absent, f"it reads {', '.join(said.reads)} and has no {', '.join(absent)}", "one for each")
        return "well-formed"
    return _size(bench)


def _source(source: Any) -> None:
    """Check that a source can be written into a record, and that its revision is a commit."""
    require(isinstance(source, Source), f"the source is a {type(source).__name__}", "interface.Source")
    plain = dataclasses.asdict(source)
    seen = plain.pop("trained_on")
    odd = [name for name, value in plain.items() if value is not None and not (isinstance(value, str) and value)]
    require(not odd, f"the source's {', '.join(odd)} is no text", "text, or None")
    words = isinstance(seen, tuple) and all(isinstance(one, str) and one for one in seen)
    require(words, f"the source's trained_on is {seen!r}", "a tuple of names")
    revision = source.revision
    commit = revision is None or re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    require(commit, f"the source's revision is {revision!r}", "a commit of 40 hex digits, or None (unpinned)")
    from jsonschema import Draft202012Validator

    taken = records.schema()["$defs"]["part"]["properties"]
    for name, value in {**plain, "trained_on": list(seen)}.items():
        fault = next(Draft202012Validator(taken[name]).iter_errors(value), None)
        if fault is not None:  # a run would be refused for it
            limit = f"{fault.validator} {fault.validator_value}"
            raise BreachError(f"the source's {name} is {value!r}", f"what a record takes: {limit}")


def _size(bench: Bench) -> str:
    """Compare an encoder's dim and depth with what it builds at full size, and try to cut it."""
    said = bench.offer.spec

    def built(depth: int | None) -> Any:
        arguments = {"depth": depth, "regularisation": QUIET.regularisation}
        try:
            with without_storage():
                return said.build("random", **arguments)
        except PluginError:
            raise
        except Exception:  # some constructors must see numbers; then it takes as long and as much as it takes
            return said.build("random", **arguments)

    whole = built(None)
    for name in ("dim", "depth"):
        wanted, found = getattr(said, name), getattr(whole, name)
        require(wanted == found, f"the spec's {name} is {wanted} and the full-size module's {found}", "the same")
    if said.depth:
        cut = built(said.depth - 1).depth
        require(cut == said.depth - 1, f"depth={said.depth - 1} built {cut} layers", f"{said.depth - 1}")
    try:
        more = built(said.depth + 1).depth
    except PluginError:
        return f"well-formed; dim {said.dim} and depth {said.depth} are the module's"
    raise BreachError(f"depth={said.depth + 1} built {more} layers where the spec has {said.depth}", "a PluginError")


def light_import(bench: Bench) -> str:
    """Importing the entry point's module and calling its hooks brings in nothing heavy."""
    if not bench.offer.entry_point:
        raise InapplicableError("it did not come by an entry point")
    failures, heavy = _imported(bench.offer.entry_point, json.dumps(sys.path))
    require(not failures, f"in a fresh interpreter {'; '.join(failures)}", "that it imports")
    measured = f"importing {bench.offer.entry_point} and calling its hooks imports {', '.join(heavy)}"
    require(not heavy, measured, "none of it before build is called")
    return f"importing {bench.offer.entry_point} and calling its hooks imports none of {', '.join(HEAVY)}"


@cache
def _imported(entry_point: str, path: str) -> tuple[list[str], list[str]]:
    """Return what failed and what heavy package was imported, in a fresh interpreter; a plugin of many asks once."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, path, entry_point], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return [(done.stderr.strip().splitlines() or ["it exited"])[-1]], []
    failures, heavy = json.loads(done.stdout.splitlines()[-1])
    return failures, heavy
