"""Put a run on the leaderboard: checked first, written whole or not at all, never over another."""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser_bench import records, tables
from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.leaderboard.board import (
    PREDICTIONS,
    RECORDS,
    check_relation,
    name_of,
    predictions_file,
    read_board,
    require_folder,
)
from ser_bench.leaderboard.submission import (
    check_predictions,
    check_record,
    check_same_utterances,
    names_by_partition,
)

_COMMON = frozenset(("admin", "computer", "docker", "localhost", "root", "runner", "server", "ubuntu", "user"))
"""Names of machines and users that name nobody."""


def add(
    run: Path,
    leaderboard: Path,
    *,
    withhold_predictions: bool = False,
    supersedes: str | None = None,
    reproduces: str | None = None,
) -> Path:
    """Copy a run's record, and its predictions, under ``leaderboard``; return the record's new path.

    A run is treated as a stranger's: whatever is in it, nothing is written before all of it was checked.

    Args:
        run: a run folder.
        leaderboard: takes ``records/NAME.json`` and ``predictions/NAME-seed-N.parquet``.
        withhold_predictions: publish the record alone; it and its row say so.
        supersedes: the published record that this one corrects.
        reproduces: the published record whose run this one made again.

    Raises:
        RecordError: the record is malformed, contradicts itself or its predictions, holds something private, or says
            what only the leaderboard says of a run; predictions are missing, malformed or have another digest;
            something is a link; the other record is not there or of another run; or the run is there already.
        StoreError: a file cannot be written; those written before it are taken away again.
    """
    require_folder(run)
    for folder in (leaderboard, leaderboard / RECORDS, leaderboard / PREDICTIONS):
        require_folder(folder)
    source = run / "record.json"
    record = records.read(source)
    _check_own(record, source)
    published = {**record, "predictions": "withheld" if withhold_predictions else "published"}
    if supersedes is not None:
        published["supersedes"] = supersedes
    if reproduces is not None:
        published |= {"reproduces": reproduces, "status": "reproduced"}
    records.validate(published, where=str(source))
    check_record(published, where=str(source), names=_own_names())
    name = name_of(published)
    target = leaderboard / RECORDS / f"{name}.json"
    others = read_board(leaderboard).records
    if target.exists():
        raise RecordError(
            f"{target} is there already: {run} was added before. Published records only grow; a run with other "
            "settings, seeds or predictions gets another name."
        )
    check_relation(name, published, others)
    # The record comes last: what is there without one (after a power cut) is overwritten by the next attempt.
    files = _predictions(run, published, leaderboard, name, others)
    files[target] = records.canonical(published).encode()
    _write_all(files)
    return target


def _predictions(
    run: Path, record: Mapping[str, Any], leaderboard: Path, name: str, others: Mapping[str, records.Json]
) -> dict[Path, bytes]:
    """Check each seed's predictions; return those to be published, by their new path."""
    files: dict[Path, bytes] = {}
    known = _known_utterances(record, leaderboard, others)
    for one in record["runs"]:
        folder = run / f"seed-{one['seed']}"
        require_folder(folder)
        path = folder / "predictions.parquet"
        content = tables.read_content(path)
        columns = tables.parse_predictions(content, where=str(path))
        check_predictions(record, one, columns, where=str(path))
        check_same_utterances(record, columns, known, where=str(path))
        if record["predictions"] == "published":
            files[predictions_file(leaderboard, name, one["seed"])] = content
    return files


def _known_utterances(
    record: Mapping[str, Any], leaderboard: Path, others: Mapping[str, records.Json]
) -> dict[tuple[str, str], set[str]]:
    """Return what published records predicted of the partitions that this one was scored on, as far as it is known."""
    wanted = {(name, block["digest"]) for name, block in record["runs"][0]["resampling"].items()}
    known: dict[tuple[str, str], set[str]] = {}
    for name, other in others.items():
        first = other["runs"][0]
        its = {(part, block["digest"]) for part, block in first["resampling"].items()} & wanted - known.keys()
        if other.get("predictions") == "published" and its:
            found = names_by_partition(tables.read_predictions(predictions_file(leaderboard, name, first["seed"])))
            known |= {(part, digest): found[part] for part, digest in its if part in found}
    return known


def _check_own(record: Mapping[str, Any], source: Path) -> None:
    """Refuse a run whose record says what only the leaderboard says of it."""
    said = sorted({"supersedes", "reproduces", "predictions"} & record.keys())
    said += ["status"] if record["status"] != "self-reported" else []
    if said:
        raise RecordError(
            f"{source} has {', '.join(f'{key} {record[key]!r}' for key in said)}, expected a run's own record, which "
            "says nothing of it. Add the run as it was made, with --supersedes, --reproduces or --withhold-predictions."
        )


def _own_names() -> list[str]:
    """Return what this machine and its user are called, unless that names nobody."""
    found = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    with contextlib.suppress(OSError, KeyError):  # no entry for this user
        found.add(getpass.getuser())
    return sorted(name for name in found if len(name) > 3 and name.lower() not in _COMMON)


def _write_all(files: dict[Path, bytes]) -> None:
    try:
        for path, content in files.items():
            atomic_write(path, content)
    except BaseException:
        for path in files:
            with contextlib.suppress(OSError):  # not written yet
                path.unlink()
        raise
