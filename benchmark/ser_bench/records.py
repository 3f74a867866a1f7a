"""What a run leaves behind: settings, signature, record. Reads and writes JSON; never imports torch.

A run folder holds ``settings.json`` (all but the seeds; what may be added to the folder must agree with it),
``seed-N/result.json`` for each finished seed, and ``record.json``, which is made of these.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.ccc import METRIC
from ser_bench.scoring.seeds import over_seeds
from ser_bench.version import VERSION

SCHEMA = 1
COLUMNS = (*ATTRIBUTES, "mean")
Json = dict[str, Any]


def canonical(value: Mapping[str, Any]) -> str:
    """Return the one spelling of a JSON object: sorted keys, one space of indent, newline at the end.

    Raises:
        RecordError: it holds NaN or an infinity, which JSON has not.
    """
    try:
        return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise RecordError(
            f"a record cannot hold NaN or an infinity ({error}); a score that is not a number is null."
        ) from error


def digest(value: Mapping[str, Any], length: int = 64) -> str:
    """Return the first hex digits of the SHA-256 of the canonical spelling."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(record: Mapping[str, Any]) -> str:
    """Return the line that a score is quoted with: all that it depends on, made from the record's content alone."""
    system, corpus, transcripts = record["system"], record["corpus"], record["transcripts"]
    partial = sum(partition["missing"] for partition in corpus["partitions"].values())
    parts = {
        "corpus": f"{corpus['name']}-{corpus['release'] or 'unknown'}",
        "labels": corpus["labels_sha256"][:8],
        "train": transcripts["train"],
        "test": f"{transcripts['test']}+{corpus['condition']}",
        "system": f"{system['name']}@{system['version']}",
        "head": system["head"] or "none",
        "depth": "all" if system["depth"] is None else system["depth"],
        "weights": system["weights"],
        "strategy": record["strategy"],
        "recipe": digest(record["recipe"], 6),
        "frames": record["frames"],
        "partial": partial,
        "seeds": len(record["runs"]),
        "metric": METRIC,
        "v": record["environment"]["ser_bench"],
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())


def assemble(settings: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, created: str) -> Json:
    """Make the record of a run from its settings and its seeds' results.

    Args:
        settings: as in ``settings.json``.
        results: one for each finished seed, as in ``result.json``.
        created: UTC, ISO 8601.
    """
    ordered = sorted(results, key=lambda result: result["run"]["seed"])
    first = ordered[0]
    partitions = {
        name: {
            **counts,
            "outside_range": sum(r["run"]["scores"].get(name, {}).get("outside_range", 0) for r in ordered),
        }
        for name, counts in settings["corpus"]["partitions"].items()
    }
    record: Json = {
        "schema": SCHEMA,
        "status": "self-reported",
        "system": {**settings["system"], **first["size"]},
        "corpus": {**settings["corpus"], "partitions": partitions},
        "transcripts": {**settings["transcripts"], **first["transcripts"]},
        "strategy": settings["strategy"],
        "frames": settings["frames"],
        "recipe": settings["recipe"],
        "runs": [result["run"] for result in ordered],
        "summary": summary([result["run"] for result in ordered]),
        "speed": first["speed"],
        "environment": first["environment"],
        "created": created,
    }
    record["signature"] = signature(record)
    validate(record)
    return record


def summary(runs: Sequence[Mapping[str, Any]]) -> Json:
    """Return mean, standard deviation and 95 % interval over seeds, by partition and attribute.

    The standard deviation is the sample's (n - 1), null with one seed; the interval holds the seeds' variance too
    (``scoring.compare.over_seeds``).
    """
    found: Json = {}
    for partition in runs[0]["scores"]:
        ccc: Json = {}
        for column in COLUMNS:
            cells = [run["scores"][partition]["ccc"][column] for run in runs]
            if any(cell is None for cell in cells):
                ccc[column] = None
                continue
            values = [cell["value"] for cell in cells]
            blocks = [run["resampling"][partition] for run in runs]
            interval = over_seeds(blocks, column)
            ccc[column] = {
                "mean": round(float(np.mean(values)), 6),
                "std": round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None,
                "ci95": None if interval is None else [round(limit, 6) for limit in interval],
            }
        found[partition] = {"ccc": ccc}
    return found


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def _schema() -> Json:
    text = (files("ser_bench") / "record.schema.json").read_text(encoding="utf-8")
    loaded: Json = json.loads(text)
    return loaded


def validate(record: Mapping[str, Any], *, where: str = "the record") -> None:
    """Check a record against its schema, and its signature and summary against its own content.

    Raises:
        RecordError: says the place in the record, what stands there, and what was expected.
    """
    import jsonschema  # a tenth of a second that only those who read records pay

    validator = jsonschema.Draft202012Validator(_schema())
    fault = jsonschema.exceptions.best_match(validator.iter_errors(record))
    if fault is not None:
        place = "/".join(str(step) for step in fault.absolute_path) or "its top"
        raise RecordError(
            f"{where} is malformed at {place}: {fault.message[:200]}. Make it again with `ser-bench run`."
        )
    made = signature(record)
    if record["signature"] != made:
        raise RecordError(
            f"{where} is signed '{record['signature']}', but its content gives '{made}'. A signature is never edited; "
            "make the record again with `ser-bench run`."
        )
    if record["summary"] != summary(record["runs"]):
        raise RecordError(
            f"{where}: its summary is not what its runs give. Make the record again with `ser-bench run`."
        )


def read(path: Path) -> Json:
    """Read and check a record.

    Raises:
        RecordError: missing, not JSON, or as ``validate``.
    """
    record = read_json(path)
    validate(record, where=str(path))
    return record


def read_json(path: Path) -> Json:
    """Read a JSON object.

    Raises:
        RecordError: missing, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(f"{path} does not exist; expected a file that `ser-bench run` wrote.") from error
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as JSON ({error}). Restore it, or run again.") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} holds a {type(value).__name__}, expected a JSON object. Restore it, or run again.")
    return value


def settle(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a run folder's settings, or check that they are the same.

    Raises:
        RecordError: the folder holds a run with other settings; names the first that differ.
    """
    path = folder / "settings.json"
    if not path.exists():
        atomic_write(path, canonical(settings))
        return
    differing = _differences(read_json(path), json.loads(canonical(settings)))
    if differing:
        shown = "; ".join(differing[:3]) + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")
        raise RecordError(
            f"{folder} holds a run with other settings: {shown}. A run folder takes runs that differ in the seed alone; "
            "give another --out."
        )


def _differences(old: Any, new: Any, place: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for k in keys for line in _differences(old.get(k), new.get(k), f"{place}.{k}".lstrip("."))]
    return [] if old == new else [f"{place} is {json.dumps(old)} there and {json.dumps(new)} here"]


def environment(device: str, threads: int, versions: Mapping[str, str]) -> Json:
    """Return what the numbers were made with; no host or user names."""
    import platform

    return {
        "ser_bench": VERSION,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
        "threads": threads,
        **versions,
    }
