"""Put a run on the leaderboard: checked first, written whole, never over another."""

from __future__ import annotations

import re
from pathlib import Path

from ser_bench import records, tables
from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError


def add(run: Path, leaderboard: Path, *, withhold_predictions: bool = False) -> Path:
    """Copy a run's record, and its predictions, under ``leaderboard``; return the record's new path.

    Raises:
        RecordError: the record is malformed, predictions are missing or do not have the recorded digest, or another
            record has its place.
    """
    record = records.read(run / "record.json")
    name = f"{_safe(record['system']['name'])}-{records.digest({'signature': record['signature']}, 8)}"
    target = leaderboard / "records" / f"{name}.json"
    if target.exists():
        raise RecordError(
            f"{target} is there already; published records only grow. "
            "A run with other settings or seeds has another name."
        )
    predictions = {}
    for one in record["runs"]:
        path = run / f"seed-{one['seed']}" / "predictions.parquet"
        if tables.digest(tables.read_predictions(path)) != one["predictions_sha256"]:
            raise RecordError(
                f"{path} does not have the digest that the record gives. Run again; predictions are never edited."
            )
        predictions[f"{name}-seed-{one['seed']}.parquet"] = path.read_bytes()
    if not withhold_predictions:
        for filename, content in predictions.items():
            atomic_write(leaderboard / "predictions" / filename, content)
    atomic_write(target, records.canonical(record))
    return target


def _safe(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("-")
