"""A leaderboard on disk: where its files lie, and which of its records stand as rows.

Published records only grow. A record may name one that it ``supersedes`` (it then stands in its place), or one that it
``reproduces`` (somebody else made that run again: the row is then shown as ``reproduced``, and the second record stands
behind it, not beside it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_bench import records
from ser_bench.consistency import differences
from ser_bench.errors import RecordError, ScoreError
from ser_bench.records import Json
from ser_bench.scoring.compare import MARGIN, compare

RECORDS, PREDICTIONS, REPORTED = "records", "predictions", "reported.csv"
RANKED = ("test1", "test2")
"""Development chose the models, and test3 is scored by the challenge."""
_MOST_NAME = 80
_FREE = ("seeds", "v", "frames")
"""Parts of a signature that may differ between a run and its reproduction."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """All records of a leaderboard, by name (a record's file without ``.json``)."""

    records: dict[str, Json]

    @property
    def superseded(self) -> dict[str, str]:
        """The records that have a successor, with its name."""
        return {r["supersedes"]: name for name, r in self.records.items() if "supersedes" in r}

    @property
    def reproductions(self) -> dict[str, list[str]]:
        """By record, those that reproduce it."""
        found: dict[str, list[str]] = {}
        for name, record in self.records.items():
            if "reproduces" in record and name not in self.superseded:
                found.setdefault(record["reproduces"], []).append(name)
        return found

    def rows(self) -> dict[str, Json]:
        """Return the records that stand as rows, with the status that is shown."""
        superseded, reproduced = self.superseded, self.reproductions
        return {
            name: {**record, "status": "reproduced" if name in reproduced else record["status"]}
            for name, record in self.records.items()
            if name not in superseded and "reproduces" not in record
        }


def read_board(leaderboard: Path) -> Board:
    """Read all records.

    Raises:
        RecordError: a record is malformed.
    """
    return Board(records={path.stem: records.read(path) for path in record_files(leaderboard)})


def record_files(leaderboard: Path) -> list[Path]:
    """Return the record files, sorted.

    Raises:
        RecordError: their folder is a link.
    """
    require_folder(leaderboard / RECORDS)
    return sorted((leaderboard / RECORDS).glob("*.json"))


def find(word: str, leaderboard: Path) -> tuple[Path, Json]:
    """Return the record, and its file, of a run folder, a record file, or the name of a record on the leaderboard.

    Raises:
        RecordError: it is none of these, or malformed.
    """
    for path in (Path(word) / "record.json", Path(word), leaderboard / RECORDS / f"{word}.json"):
        if path.is_file():
            return path, records.read(path)
    raise RecordError(
        f"'{word}' is no run folder, no record file, and no record of {leaderboard}. Give one of these; names are "
        f"those of the files in {leaderboard / RECORDS} without .json."
    )


def require_folder(folder: Path) -> None:
    """Refuse a folder that is a link or no folder; one that does not exist is fine.

    Raises:
        RecordError: it is.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RecordError(f"{folder} is a link or no folder, expected a folder. Name the folder itself.")


def predictions_file(leaderboard: Path, name: str, seed: int) -> Path:
    """Return where the predictions of one seed of a record lie."""
    return leaderboard / PREDICTIONS / f"{name}-seed-{seed}.parquet"


def name_of(record: Mapping[str, Any]) -> str:
    """Return a record's name: its system, and a digest of what makes it another record."""
    content: dict[str, Any] = {
        "signature": record["signature"],
        "clusters": record["corpus"]["clusters_sha256"],
        "predictions": {str(one["seed"]): one["predictions_sha256"] for one in record["runs"]},
    }
    content |= {key: record[key] for key in ("supersedes", "reproduces") if key in record}
    system = records.safe_name(record["system"]["name"])[:_MOST_NAME].strip(".-") or "system"
    return f"{system}-{records.digest(content, 8)}"


def check_relation(name: str, record: Mapping[str, Any], others: Mapping[str, Json]) -> None:
    """Check what a record says of another: that it supersedes or reproduces it.

    Args:
        name: the record's.
        record: the record.
        others: the other records of the leaderboard.

    Raises:
        RecordError: the other is not there, is of another run, has a successor already, or the scores differ.
    """
    for word in ("supersedes", "reproduces"):
        if word in record and record[word] not in others:
            raise RecordError(
                f"{name} {word} '{record[word]}', which is not on this leaderboard. Name a record's file without .json."
            )
    if (record["status"] == "reproduced") != ("reproduces" in record):
        raise RecordError(
            f"{name} has the status '{record['status']}' and "
            f"{'names' if 'reproduces' in record else 'does not name'} a record that it reproduces. Put it there with "
            "`ser-bench leaderboard add RUN --reproduces NAME`."
        )
    if "supersedes" in record:
        _check_successor(name, record, others)
    if "reproduces" in record:
        _check_reproduction(name, record, others[record["reproduces"]])


def _check_successor(name: str, record: Mapping[str, Any], others: Mapping[str, Json]) -> None:
    old = record["supersedes"]
    rivals = [n for n, other in others.items() if n != name and other.get("supersedes") == old]
    if rivals:
        raise RecordError(f"{name} supersedes '{old}', which '{rivals[0]}' supersedes already. Supersede that one.")
    for what, of in (("system", _system), ("labels", _labels), ("track", _track)):
        if of(record) != of(others[old]):
            raise RecordError(
                f"{name} supersedes '{old}', and is of another {what} ({of(record)}, {of(others[old])}). A record is "
                "superseded by one of the same system on the same track; another one is a row of its own."
            )


def _check_reproduction(name: str, record: Mapping[str, Any], original: Mapping[str, Any]) -> None:
    of = f"{name} reproduces '{record['reproduces']}'"
    mine, its = _settings(record), _settings(original)
    apart = [key for key in sorted(mine.keys() | its.keys()) if mine.get(key) != its.get(key)]
    if apart:
        raise RecordError(
            f"{of}, and differs from it in {', '.join(apart)}: {mine.get(apart[0])}, {its.get(apart[0])}. Run with the "
            "settings that its signature names; only the seeds, the version of ser-bench and how frames are kept may "
            "differ."
        )
    other = differences(record["system"], original["system"], "system", words=("in it", "in the other"))
    if other:
        raise RecordError(f"{of}, and is of another system: {other[0]}. Install the version that the other names.")
    if _digests(record) <= _digests(original) and _made(record) == _made(original):
        raise RecordError(
            f"{of}, and has its predictions, time and environment: it is a copy of it. Run it again, and add that run."
        )
    told = []
    for partition in RANKED:
        if partition not in record["summary"] or partition not in original["summary"]:
            continue
        blocks = [[run["resampling"][partition] for run in one["runs"]] for one in (record, original)]
        try:
            found = compare(*blocks)["mean"]
        except ScoreError as error:
            raise RecordError(f"{of}, and cannot be compared with it on {partition}: {error}") from error
        if found is None:
            continue
        if found.verdict in ("better", "worse") and not found.negligible:
            raise RecordError(
                f"{of}, and the paired test calls it {found.verdict} on {partition} by {abs(found.value):.3f}. A run "
                "that gives other scores is no reproduction; add it as a row of its own."
            )
        told.append(found.verdict != "undecided" or abs(found.value) < MARGIN)
    if not any(told):
        raise RecordError(
            f"{of}, and on none of {', '.join(RANKED)} do the two say that they are alike: they share no score, or the "
            f"difference is {MARGIN} or more and undecided. Run more seeds, or add it as a row of its own."
        )


def _digests(record: Mapping[str, Any]) -> set[str]:
    return {run["predictions_sha256"] for run in record["runs"]}


def _made(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record["created"], record["environment"]


def _settings(record: Mapping[str, Any]) -> dict[str, str]:
    """Return a signature's parts that a reproduction shares."""
    parts = dict(part.partition(":")[::2] for part in str(record["signature"]).split("|"))
    return {key: value for key, value in parts.items() if key not in _FREE}


def _system(record: Mapping[str, Any]) -> str:
    return f"{record['system']['distribution']} {record['system']['name']}"


def _labels(record: Mapping[str, Any]) -> str:
    return str(record["corpus"]["labels_sha256"])


def _track(record: Mapping[str, Any]) -> str:
    return f"{record['transcripts']['test']}+{record['corpus']['condition']}"
