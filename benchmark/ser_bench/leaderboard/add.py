"""Put a run on the leaderboard: checked first, written whole or not at all, never over another."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ser_bench import records, tables
from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError


def add(run: Path, leaderboard: Path, *, withhold_predictions: bool = False) -> Path:
    """Copy a run's record, and its predictions, under ``leaderboard``; return the record's new path.

    Args:
        run: a run folder.
        leaderboard: takes ``records/NAME.json`` and ``predictions/NAME-seed-N.parquet``.
        withhold_predictions: publish the record alone; it and its row say so.

    Raises:
        RecordError: the record is malformed, predictions are missing or do not have the recorded digest, or the run is
            there already.
        StoreError: a file cannot be written; those written before it are taken away again.
    """
    record = records.read(run / "record.json")
    published = {**record, "predictions": "withheld" if withhold_predictions else "published"}
    name = _name(record)
    target = leaderboard / "records" / f"{name}.json"
    if target.exists():
        raise RecordError(
            f"{target} is there already: {run} was added before. Published records only grow; a run with other "
            "settings, seeds or predictions gets another name."
        )
    files: dict[Path, bytes] = {}
    for one in record["runs"]:
        path = run / f"seed-{one['seed']}" / "predictions.parquet"
        if tables.digest(tables.read_predictions(path)) != one["predictions_sha256"]:
            raise RecordError(
                f"{path} does not have the digest that the record gives. Run again; predictions are never edited."
            )
        if not withhold_predictions:
            files[leaderboard / "predictions" / f"{name}-seed-{one['seed']}.parquet"] = path.read_bytes()
    # The record comes last: what is there without one (after a power cut) is overwritten by the next attempt.
    files[target] = records.canonical(published).encode()
    _write_all(files)
    return target


def _name(record: records.Json) -> str:
    predictions = {str(one["seed"]): one["predictions_sha256"] for one in record["runs"]}
    content = records.digest(
        {
            "signature": record["signature"],
            "clusters": record["corpus"]["clusters_sha256"],
            "predictions": predictions,
        },
        8,
    )
    return f"{records.safe_name(record['system']['name'])}-{content}"


def _write_all(files: dict[Path, bytes]) -> None:
    try:
        for path, content in files.items():
            atomic_write(path, content)
    except BaseException:
        for path in files:
            with contextlib.suppress(OSError):  # not written yet
                path.unlink()
        raise
