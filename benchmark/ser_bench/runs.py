"""What folders of runs hold: which seeds are finished, running, interrupted or failed, how far each is, their record.

Reads settings, logs, results and the heads of checkpoints; never imports torch. Whoever trains a seed holds its folder
(``locks.hold``), so that a process which died is told from one that works.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ser_bench import records, tables
from ser_bench.cache import atomic_write
from ser_bench.errors import OtherProcessError, RecordError, SerBenchError
from ser_bench.locks import LOCK, begun, held, hold, turn

State = Literal["finished", "running", "interrupted", "failed"]
FAILURE = "failure.json"
_LEFT_BEHIND = ("checkpoints", FAILURE, LOCK, "result.json")
"""Of a finished seed's folder: what another folder does not need; the result, which comes last."""
_LONGEST_HEAD = 100 << 20  # bytes; a checkpoint's head is some KB, and more than this is no checkpoint


@dataclass(frozen=True, kw_only=True)
class SeedState:
    """One seed of a run."""

    run: str
    """The run's folder."""
    system: str
    seed: int
    state: State
    epoch: int | None
    """Epochs that are done; None before the start was scored."""
    epochs: int
    """Epochs at most, as the recipe says."""
    best_epoch: int | None
    best_development_ccc: float | None
    seconds_left: tuple[float, float] | None
    """Least (development gets no better) and most (it does to the last epoch), of training alone; None where nothing is
    left or nothing is known."""
    why: str | None
    """Of a failed one, what it said."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)


def finished(run: Path) -> list[int]:
    """Return the finished seeds of a run folder.

    Raises:
        RecordError: there is none.
    """
    names = [path.parent.name for path in run.glob("seed-*/result.json")]
    found = sorted(int(name.removeprefix("seed-")) for name in names if re.fullmatch(r"seed-\d+", name))
    if not found:
        raise RecordError(f"{run} holds no finished seed; expected a folder that `ser-bench run` made.")
    return found


def write_record(run: Path) -> dict[str, Any]:
    """Make ``record.json`` of a run folder's settings and finished seeds."""
    with turn(run / "settings.json"):  # whoever comes last has seen all seeds
        results = [records.read_json(run / f"seed-{seed}" / "result.json") for seed in finished(run)]
        record = records.assemble(records.read_json(run / "settings.json"), results, created=records.now())
        atomic_write(run / "record.json", records.canonical(record))
    return record


def merge(sources: Sequence[Path], out: Path) -> dict[str, Any]:
    """Join the seeds of one run that were trained apart, on machines that share no disk, and make their record.

    Taken are the finished seeds, without their checkpoints. All is checked before anything is written; called again
    after an interruption, it goes on.

    Args:
        sources: run folders; they may differ in nothing but the seeds.
        out: a folder; one that holds seeds of this run takes the others in.

    Raises:
        RecordError: a folder is no run or another one, a seed is there twice, or predictions are not those that were
            scored; or another process works in ``out``.
        StoreError: the disk is full.
    """
    took: dict[int, Path] = {}
    digests: dict[Path, str] = {}
    settings = records.read_json(sources[0] / "settings.json")
    for run in sources:
        differing = records.differences(settings, records.read_json(run / "settings.json"), words=("in it", "here"))
        if differing:
            raise RecordError(
                f"{run} is not of the same run as {sources[0]}: {differing[0]}. Join folders that differ in the seed "
                "alone."
            )
        for seed in finished(run):
            own = run / f"seed-{seed}"
            digests[own] = _predictions(own)
            other = took.setdefault(seed, own)
            if digests[other] != digests[own]:
                raise RecordError(
                    f"{other} and {own} are the same seed with different predictions. Leave out one of the folders."
                )
    with hold(out):
        records.settle(out, settings)
        for seed, own in sorted(took.items()):
            place = out / f"seed-{seed}"
            if (place / "result.json").exists():
                if _predictions(place) != digests[own]:
                    raise RecordError(
                        f"{place} has other predictions than {own}. Name another --out, or leave out a folder."
                    )
            elif (place / "checkpoints").exists():
                raise RecordError(
                    f"{place} holds an unfinished training. Name another --out, or remove it to take {own} instead."
                )
        for seed, own in sorted(took.items()):
            if not (out / f"seed-{seed}" / "result.json").exists():
                _copy_seed(own, out / f"seed-{seed}")
        return write_record(out)


def _predictions(seed: Path) -> str:
    """Return the digest of a finished seed's predictions, which must be those that were scored."""
    path = seed / "predictions.parquet"
    scored = records.read_json(seed / "result.json")["run"]["predictions_sha256"]
    if tables.digest(tables.read_predictions(path)) != scored:
        raise RecordError(f"{path} is not what {seed / 'result.json'} was made of. Restore it, or train the seed anew.")
    return str(scored)


def _copy_seed(own: Path, place: Path) -> None:
    files = [path for path in own.rglob("*") if path.is_file() and path.relative_to(own).parts[0] not in _LEFT_BEHIND]
    for path in [*files, own / "result.json"]:  # which says that the seed is finished
        atomic_write(place / path.relative_to(own), path.read_bytes())


@contextmanager
def noting_failure(folder: Path) -> Iterator[None]:
    """Leave in a seed's folder why its training failed, if it does; a failure of before is forgotten.

    Nothing is left in a folder in which nothing was begun.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        yield
    except OtherProcessError:  # that process knows why
        raise
    except Exception as error:
        if begun(folder):
            said = str(error) if isinstance(error, SerBenchError) else f"{type(error).__name__}: {error}"
            with suppress(SerBenchError):  # on a full disk the error itself says enough
                atomic_write(folder / FAILURE, records.canonical({"error": said, "time": records.now()}))
        raise


def listed(place: Path) -> list[SeedState]:
    """Return the state of every seed of the runs in a folder, or of the run that the folder is.

    Raises:
        RecordError: there is no such folder, or a run's settings cannot be read.
    """
    if not place.is_dir():
        raise RecordError(f"there is no folder {place}; expected one that holds runs. Name it: `ser-bench runs DIR`.")
    paths = [place / "settings.json"] if (place / "settings.json").exists() else sorted(place.glob("*/settings.json"))
    return [state for path in paths for state in _seeds(path.parent)]


def _seeds(run: Path) -> list[SeedState]:
    settings = records.read_json(run / "settings.json")
    named = [(path.name.removeprefix("seed-"), path) for path in run.glob("seed-*") if path.is_dir()]
    folders = sorted((int(number), path) for number, path in named if number.isdecimal())
    return [_seed(run, seed, folder, settings) for seed, folder in folders]


def _seed(run: Path, seed: int, folder: Path, settings: dict[str, Any]) -> SeedState:
    state: State = "interrupted"
    if (folder / "result.json").exists():
        state = "finished"
    elif held(folder) or held(run):
        state = "running"
    elif (folder / FAILURE).exists():
        state = "failed"
    lines = _log(folder / "log.jsonl")
    best = max(lines, key=lambda line: (line["development"], -line["epoch"]), default=None)
    return SeedState(
        run=str(run),
        system=settings["system"]["name"],
        seed=seed,
        state=state,
        epoch=lines[-1]["epoch"] if lines else None,
        epochs=settings.get("head_recipe", settings["recipe"])["epochs"],
        best_epoch=best["epoch"] if best else None,
        best_development_ccc=best["development"] if best else None,
        seconds_left=None if state == "finished" else _left(folder, settings, running=state == "running"),
        why=_why(folder) if state == "failed" else None,
    )


def _log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; the last may be half written, or about to be written again."""
    lines = []
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if isinstance(entry.get("development"), int | float):
                lines.append(entry)
    return lines


def _left(folder: Path, settings: dict[str, Any], *, running: bool) -> tuple[float, float] | None:
    """Estimate the seconds of training that are left, from the last checkpoint."""
    path = folder / "checkpoints" / "last.safetensors"
    at, recipe = _position(path), settings.get("head_recipe", settings["recipe"])
    if at is None:
        return None
    steps = max(1, settings["corpus"]["partitions"]["train"]["scored"] // recipe["batch_size"])
    done = max(0, at["epoch"] - 1) + at["step"] / steps
    if not done:
        return None
    pace = at["trained_seconds"] / done
    since = max(0.0, time.time() - path.stat().st_mtime) if running else 0.0
    soonest = min(recipe["epochs"], max(0, at["best_epoch"]) + recipe["patience"])
    least, most = (max(0.0, (last - done) * pace - since) for last in (soonest, recipe["epochs"]))
    return round(least, 1), round(most, 1)


def _position(path: Path) -> dict[str, Any] | None:
    """Read where a training is out of a checkpoint's head, which is JSON: length (8 bytes), then names and notes."""
    with suppress(OSError, ValueError, KeyError), path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size < _LONGEST_HEAD:
            at: dict[str, Any] = json.loads(json.loads(file.read(size))["__metadata__"]["about"])["at"]
            return at
    return None


def _why(folder: Path) -> str | None:
    with suppress(RecordError):
        return str(records.read_json(folder / FAILURE)["error"])
    return None
