"""What one run of a suite is: the options of ``ser-bench run``, as one frozen value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """The options of one run; each means what it means to ``ser_bench.run``, and its defaults are the same.

    ``resume`` is not among them: a suite always goes on with what is unfinished.
    """

    plugin: str | None = None
    corpus: str
    audio: str | None = None
    text: str | None = None
    head: str | None = None
    depth: int | None = None
    release: str | None = None
    transcripts: str | None = None
    seeds: tuple[int, ...] = (1,)
    strategy: str = "finetune"
    weights: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Recipe keys and values."""
    head_changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The same for the second stage of ``finetune-freeze``."""
    device: str | None = None
    frames: str = "store"
    frames_dtype: str = "float16"
    allow_missing: bool = False
    micro_batch: int | None = None
    tracker: str | None = None
    out: str | None = None
    """The run folder; None: ``<the suite's folder>/<system>-<settings digest>``."""

    def __str__(self) -> str:
        """Say what sets it apart, in a few words."""
        words = [self.plugin or "+".join(filter(None, (self.audio, self.text)))]
        for name in ("head", "depth", "transcripts", "release"):
            value = getattr(self, name)
            words += [f"{name} {value}"] if value is not None else []
        words += [self.strategy] if self.strategy != "finetune" else []
        return ", ".join([*words, *self._set()])

    def options(self) -> dict[str, Any]:
        """Return the options that tell which run it is, as ``task.resolve`` takes them."""
        apart = ("seeds", "tracker", "micro_batch")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in apart}

    def words(self, seed: int, out: str, cache: str | None) -> list[str]:
        """Return the words after ``ser-bench`` that train one of its seeds in a folder."""
        given = ["run"]
        apart = ("seeds", "changes", "head_changes", "allow_missing", "out")
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            given += [] if one.name in apart or value == one.default else _option(one.name, value)
        given += _option("set", self._set())
        given += ["--allow-missing"] if self.allow_missing else []
        return [*given, "--seed", str(seed), "--out", out, *_option("cache", cache), "--resume"]

    def _set(self) -> list[str]:
        both = (("recipe", self.changes), ("head_recipe", self.head_changes))
        return [f"{whose}.{key}={_spelled(value)}" for whose, changes in both for key, value in changes.items()]


def _option(name: str, value: Any) -> list[str]:
    if value is None or value == () or value == []:
        return []
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [f"--{name.replace('_', '-')}", *map(str, values)]


def _spelled(value: Any) -> str:
    """Spell a recipe's value as on a command line."""
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
