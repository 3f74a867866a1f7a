"""What a suite comes down to: which seed of which run goes where, and what is finished, found without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

from ser_bench import records, tracking
from ser_bench.errors import RecordError, SerBenchError, SuiteError
from ser_bench.suite.spec import RunSpec

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One seed of one run."""

    spec: RunSpec
    seed: int
    system: str
    """The system's full name."""
    folder: Path
    """The run's."""
    finished: bool

    def __str__(self) -> str:
        """Name it as a user finds it."""
        return f"{self.folder.name} seed {self.seed}"


def plan(
    specs: Sequence[RunSpec],
    *,
    out: str | Path = "runs",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Planned]:
    """Resolve every run, and tell which of its seeds are finished; nothing is trained or written.

    Runs that come to the same (settings and seed) are one.

    Args:
        specs: the runs.
        out: where run folders go, each named by its system and settings.
        cache: root of the cache.
        progress: told of runs looked at.

    Raises:
        SuiteError: runs that cannot be made, or that would meet in one folder; all at once.
    """
    from ser_bench import prepare, task

    @remembered  # many runs read one corpus
    def opening(*place: Any, progress: Any, **options: Any) -> Any:
        return prepare.open_corpus(*place, **options, progress=progress)

    planned: dict[tuple[Path, int], Planned] = {}
    settings: dict[Path, dict[str, Any]] = {}
    faults: list[str] = []
    for done, spec in enumerate(specs, start=1):
        try:
            _require(spec)
            # The name is not known yet, yet a first stage is looked for beside it.
            place = {} if spec.out is not None else {"out": Path(out) / "unnamed"}
            found = task.resolve(**spec.options() | place, cache=cache, opening=opening)
            folder = found.folder if spec.out is not None else Path(out) / found.name
            _require_room(folder, found.settings, settings, free_precision=spec.device is None)
        except SerBenchError as error:
            faults.append(f"{spec}: {error}")
            continue
        stages = [(spec, found.plan.name, folder)]
        first = None if found.first is None else _first_stage(spec, found.first, cache, opening)
        if found.first is not None and first is not None:  # made once, for all that begin with it
            stages.insert(0, (first, found.first.plan.name, found.first.folder))
        for own, system, at in stages:
            for seed in spec.seeds:
                finished = (at / f"seed-{seed}" / "result.json").exists()
                planned[at, seed] = Planned(spec=own, seed=seed, system=system, folder=at, finished=finished)
        if progress is not None:
            progress("planning", done, len(specs))
    if faults:
        shown = " ".join(f"({number}) {fault}" for number, fault in enumerate(faults, start=1))
        raise SuiteError(f"{len(faults)} of {len(specs)} runs of the suite cannot be made: {shown}")
    return list(planned.values())


def _first_stage(spec: RunSpec, first: Any, cache: Path | None, opening: Callable[..., Any]) -> RunSpec | None:
    """Return the run that a ``finetune-freeze`` begins with (``first``, a ``task.Task``).

    None where it is somebody's, or one that no command makes by itself: then the run makes it on its way.
    """
    from ser_bench import host, task

    if first.given:
        return None
    plan = first.plan
    composed = {"plugin": None, "audio": plan.audio.spec.name, "head": plan.head.spec.name, "depth": plan.depth}
    named = {"plugin": plan.name, "audio": None, "head": None, "depth": None}
    own = dataclasses.replace(
        spec,
        **(named if ("system", plan.name) in host.host().offers else composed),
        text=None,
        transcripts=None,
        strategy="finetune",
        weights=tuple(word.removeprefix("audio=") for word in spec.weights if not word.startswith("text=")),
        head_changes={},
        out=str(first.folder),
    )
    return own if task.resolve(**own.options(), cache=cache, opening=opening).settings == first.settings else None


def _require(spec: RunSpec) -> None:
    """Refuse what only a suite cannot do, or what would show late."""
    if len(set(spec.seeds)) != len(spec.seeds) or not spec.seeds or min(spec.seeds) < 0:
        raise SuiteError(f"seeds {list(spec.seeds)} were given; expected different whole numbers from 0 on.")
    if spec.device is not None and spec.device not in ("cpu", "cuda"):
        raise SuiteError(f"device {spec.device} was given; expected cpu or cuda: a suite deals out the GPUs itself.")
    if spec.tracker is not None:
        tracking.require(spec.tracker)


def _require_room(
    folder: Path, own: dict[str, Any], settings: dict[Path, dict[str, Any]], *, free_precision: bool
) -> None:
    """Refuse a folder that holds, or was promised to, a run with other settings.

    Args:
        own: this run's settings.
        settings: those of the runs before it, by folder; taken note of there.
        free_precision: the machine that trains chooses, which need not be this one.
    """
    if settings.setdefault(folder, own) != own:
        raise RecordError(f"{folder} is the folder of another run of the suite too. Give each another out.")
    path = folder / "settings.json"
    if path.exists():
        kept = records.read_json(path)["precision"] if free_precision else own["precision"]
        records.agree(folder, {**own, "precision": kept})
