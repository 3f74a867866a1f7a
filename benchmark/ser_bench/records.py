"""What a run leaves behind: settings, signature, record. Reads and writes JSON; never imports torch.

A run folder holds ``settings.json`` (all but the seeds; what may be added to the folder must agree with it),
``seed-N/result.json`` for each finished seed, and ``record.json``, which is made of these.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ser_bench.cache import atomic_write
from ser_bench.consistency import COLUMNS as COLUMNS
from ser_bench.consistency import contradiction, edited, rounded
from ser_bench.consistency import differences as differences
from ser_bench.errors import RecordError
from ser_bench.locks import hold as hold
from ser_bench.scoring.ccc import METRIC
from ser_bench.scoring.seeds import over_seeds
from ser_bench.strict import MOST_JSON_BYTES, not_finite, parse_json, read_bytes, strings, text_fault
from ser_bench.version import VERSION

SCHEMA = 1
_FROM_SETTINGS = ("strategy", "recipe", "head_recipe", "first_stage", "frames", "precision", "trained")
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
    recipes = [record[key] for key in ("recipe", "head_recipe") if key in record]
    parts = {
        "corpus": _named(corpus),
        "labels": corpus["labels_sha256"][:8],
        "train": transcripts["train"],
        "test": f"{transcripts['test']}+{corpus['condition']}",
        "system": f"{system['name']}@{system['version']}",
        "head": system["head"] or "none",
        "depth": "all" if system["depth"] is None else system["depth"],
        "weights": system["weights"],
        "strategy": record["strategy"],
        "recipe": "+".join(digest(recipe, 6) for recipe in recipes),
        "frames": record["frames"],
        "partial": partial,
        "seeds": len(record["runs"]),
        "metric": _metric(record),
        "v": record["environment"]["ser_bench"],
    }
    if "trained" in record:  # scored elsewhere than it was trained
        source = record["trained"]["corpus"]
        parts["trained"] = f"{_named(source)}/{source['labels_sha256'][:8]}/{record['trained']['frames']}"
    return "|".join(f"{key}:{value}" for key, value in parts.items())


def _metric(record: Mapping[str, Any]) -> str:
    """Return the metric version that the scores were made with, not the one installed here."""
    found = {block["metric"] for run in record["runs"] for block in run["resampling"].values()}
    return "+".join(sorted(found)) or METRIC


def _named(corpus: Mapping[str, Any]) -> str:
    if corpus["release"] is None and corpus["name"] != "msp-podcast":
        return str(corpus["name"])  # the demo and stand-in releases have no versions
    return f"{corpus['name']}-{corpus['release'] or 'unknown'}"


def safe_name(name: str) -> str:
    """Return a system's name as a part of a file name: ``logmel[1]+words>concat`` -> ``logmel-1-words-concat``."""
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("-")


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
            **({"scored": 0} if name in first["left_out"] else {}),
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
        **{key: settings[key] for key in _FROM_SETTINGS if key in settings},
        **({"ceiling": first["ceiling"]} if "ceiling" in first else {}),
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
    (``scoring.seeds.over_seeds``).
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
                "ci95": rounded(interval),
            }
        found[partition] = {"ccc": ccc}
    return found


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def schema() -> Json:
    """Return the record's JSON schema."""
    text = (files("ser_bench") / "record.schema.json").read_text(encoding="utf-8")
    loaded: Json = json.loads(text)
    return loaded


def validate(record: Mapping[str, Any], *, where: str = "the record") -> None:
    """Check a record against its schema, and its signature and summary against its own content.

    Raises:
        RecordError: says the place in the record, what stands there, and what was expected.
    """
    fault = not_finite(record) or _shape_fault(record) or _unreadable_text(record) or contradiction(record)
    if fault is not None:
        raise RecordError(f"{where} is malformed at {fault}. Make it again with `ser-bench run`.")
    made = signature(record)
    if record["signature"] != made:
        raise RecordError(
            f"{where} is signed '{record['signature']}', but its content gives '{made}'. A signature is never edited; "
            "make the record again with `ser-bench run`."
        )
    differing = edited(record["summary"], summary(record["runs"]), "summary", by="its runs")
    if differing:
        raise RecordError(f"{where}: {differing[0]}. Make the record again with `ser-bench run`.")


def _unreadable_text(value: Mapping[str, Any]) -> str | None:
    """Find the first string that a reader would not see as it is, or that a page would run."""
    found = ((place, text, text_fault(text)) for place, text in strings(value))
    return next((f"{place}: {text[:80]!r}: {fault}" for place, text, fault in found if fault is not None), None)


@cache
def _quick() -> Any:
    """Return a validator that says yes or no in a fifth of the time; jsonschema explains what it refuses."""
    import jsonschema_rs

    return jsonschema_rs.validator_for(schema())


def _shape_fault(record: Mapping[str, Any], *, complete: bool = True) -> str | None:
    """Find what the schema refuses; with ``complete=False`` fields may be missing."""
    if complete and _quick().is_valid(record):
        return None
    import jsonschema  # a tenth of a second that only those who read records pay

    errors = jsonschema.Draft202012Validator(schema()).iter_errors(record)
    fault = jsonschema.exceptions.best_match(e for e in errors if complete or e.validator != "required")
    if fault is None:
        # The two validators read a pattern differently: what either refuses is refused.
        return "its top: breaks the schema" if complete else None
    place = "/".join(str(step) for step in fault.absolute_path) or "its top"
    # A message begins with what stands there, which may be a whole table.
    short = len(fault.message) <= 200
    what = fault.message if short else f"{str(fault.instance)[:80]}... breaks {fault.validator} {fault.validator_value}"
    return f"{place}: {what[:300]}"


def read(path: Path) -> Json:
    """Read and check a record.

    Raises:
        RecordError: missing, not JSON, or as ``validate``.
    """
    return parse(read_content(path), where=str(path))


def parse(content: bytes, *, where: str) -> Json:
    """Parse and check a record.

    Raises:
        RecordError: as ``read``.
    """
    record = parse_json(content, where=where)
    validate(record, where=where)
    return record


def read_json(path: Path) -> Json:
    """Read a JSON object out of a run folder.

    Raises:
        RecordError: missing, or as ``strict.parse_json``.
    """
    return parse_json(read_content(path, follow=True), where=str(path))


def read_content(path: Path, *, follow: bool = False) -> bytes:
    """Read a JSON file's bytes, as ``strict.read_bytes``.

    Raises:
        RecordError: missing, or as ``strict.read_bytes``.
    """
    try:
        return read_bytes(path, most=MOST_JSON_BYTES, follow=follow)
    except FileNotFoundError as error:
        raise RecordError(f"{path} does not exist; expected a file that `ser-bench run` wrote.") from error


def settle(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a run folder's settings, or check that they are the same.

    Raises:
        RecordError: the folder holds a run with other settings (names the first that differ), or a record could not
            hold these.
    """
    fault = not_finite(settings) or _shape_fault(settings, complete=False) or _unreadable_text(settings)
    if fault is not None:  # said now, not after days of training
        raise RecordError(
            f"what this run is made of cannot go into a record, at {fault}. Correct the option, or the plugin's spec, "
            "that it comes from."
        )
    if not (folder / "settings.json").exists():
        atomic_write(folder / "settings.json", canonical(settings))
        return
    agree(folder, settings)


def agree(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that the run in a folder has these settings.

    Raises:
        RecordError: it has others (names the first that differ).
    """
    differing = differences(read_json(folder / "settings.json"), json.loads(canonical(settings)))
    if differing:
        shown = "; ".join(differing[:3]) + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")
        raise RecordError(
            f"{folder} holds a run with other settings: {shown}. A run folder takes runs that differ in the seed "
            "alone; give another --out."
        )


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
