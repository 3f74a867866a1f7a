"""Check a whole leaderboard, as CI does before a change to it may land: nothing in it is taken on trust.

Every record is read as a stranger's and compared with its own content, its file's name and its predictions; what was
published before must still be there byte for byte; what is rendered must be what the records give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ser_bench import records, tables
from ser_bench.errors import RecordError
from ser_bench.leaderboard import published
from ser_bench.leaderboard.board import (
    PREDICTIONS,
    RECORDS,
    Board,
    check_relation,
    name_of,
    predictions_file,
    require_folder,
)
from ser_bench.leaderboard.submission import check_predictions, check_record, check_same_utterances
from ser_bench.strict import MOST_JSON_BYTES, read_bytes


@dataclass(kw_only=True)
class Report:
    """What was looked at, and every fault."""

    records: int = 0
    predictions: int = 0
    """Files of predictions that were read."""
    unchanged: int = 0
    """Files of predictions that are byte for byte those of the merge base, which was checked when they came in."""
    base: str | None = None
    """The commit compared with; None where there is no git to tell."""
    shallow: bool = False
    """Whether the checkout lacks history that could tell more."""
    unknown: bool = False
    """Whether there is a git repository that could not tell."""
    rendered: int = 0
    """Rendered files compared with what the records give."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """(file under the leaderboard, what is wrong with it)."""

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def text(self) -> str:
        """Return the report for people."""
        base = "not checked: git cannot tell" if self.unknown else "not checked: this is no git checkout"
        if self.base:
            base = f"against {self.base[:12]}{', in the history that this shallow clone has' if self.shallow else ''}"
        lines = [
            f"{self.records:,} records; predictions: {self.predictions:,} files read, {self.unchanged:,} unchanged; "
            f"{self.rendered:,} rendered files; append-only {base}",
        ]
        if self.faults:
            told = tabulate(self.faults, headers=["file", "fault"], disable_numparse=True, maxcolwidths=[50, 120])
            return "\n\n".join([*lines, told, f"{len(self.faults):,} faults"])
        return "\n".join([*lines, "sound"])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "sound": self.sound,
            "records": self.records,
            "predictions": {"read": self.predictions, "unchanged": self.unchanged},
            "base": self.base,
            "shallow": self.shallow,
            "rendered": self.rendered,
            "faults": [{"file": file, "fault": fault} for file, fault in self.faults],
        }


def check(
    leaderboard: Path,
    *,
    base: str | None = None,
    rendered: Callable[[Path], Mapping[Path, bytes]] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Check a leaderboard's files; collect all faults, raise none of them.

    Args:
        leaderboard: its folder.
        base: the branch or commit that the change is to land on; None: ``origin/HEAD``, ``main`` or ``master``, the
            first that there is.
        rendered: gives all files that rendering writes, by their path under the folder; None: ``render.render_files``.
        progress: told what is looked at.

    Raises:
        RecordError: the folder is not there, or git does not know ``base``.
    """
    if not leaderboard.is_dir():
        raise RecordError(f"{leaderboard} does not exist; expected a leaderboard's folder. Name it with --leaderboard.")
    report = Report()
    before = _published(leaderboard, base, report)
    report.base, report.shallow = (before.commit, before.shallow) if before else (None, False)
    _check_links(leaderboard, report)
    if before is not None:
        for name, fault in before.faults(leaderboard):
            report.faults.append((name, fault))
    found = _read_records(leaderboard, report, progress)
    _check_predictions(leaderboard, found, report, before.unchanged if before else frozenset(), progress)
    _check_rendered(leaderboard, report, rendered)
    return report


def _published(leaderboard: Path, base: str | None, report: Report) -> published.Published | None:
    """Return what was published before; that git cannot tell is a fault, unless it was asked about a base by name."""
    try:
        return published.at_base(leaderboard, base)
    except RecordError as error:
        if base is not None:
            raise
        report.faults.append((".", str(error)))
        report.unknown = True
        return None


def _check_links(leaderboard: Path, report: Report) -> None:
    """Nothing under the folder is a link, a pipe or a device."""
    for path in sorted(leaderboard.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            report.faults.append(
                (_under(path, leaderboard), "is a link or no regular file. Put the file itself there.")
            )


def _read_records(
    leaderboard: Path, report: Report, progress: Callable[[str, int, int], None] | None
) -> dict[str, records.Json]:
    """Read every file of the records' folder; return the sound ones by name."""
    found: dict[str, records.Json] = {}
    paths = _files(leaderboard / RECORDS, report, leaderboard)
    for number, path in enumerate(paths, start=1):
        with _collected(report, path, leaderboard):
            found[path.stem] = _sound_record(path, leaderboard)
        if progress is not None:
            progress("records", number, len(paths))
    report.records = len(paths)
    board = Board(records=found)
    for name, record in found.items():
        with _collected(report, leaderboard / RECORDS / f"{name}.json", leaderboard):
            check_relation(name, record, board.records)
    return found


def _sound_record(path: Path, leaderboard: Path) -> records.Json:
    if path.suffix != ".json":
        raise RecordError("is no record; expected NAME.json. Take it away.")
    where = _under(path, leaderboard)
    content = read_bytes(path, most=MOST_JSON_BYTES)
    record = records.parse(content, where=where)
    if records.canonical(record).encode() != content:
        raise RecordError("is not spelled as records are (sorted keys, one space of indent). Add the run again.")
    if "predictions" not in record:
        raise RecordError("does not say whether its predictions are published. Add the run with `leaderboard add`.")
    check_record(record, where=where)
    if name_of(record) != path.stem:
        raise RecordError(f"is called so, and its content gives the name '{name_of(record)}'. Add the run again.")
    return record


def _check_predictions(
    leaderboard: Path,
    found: Mapping[str, records.Json],
    report: Report,
    unchanged: frozenset[Path],
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Each published seed has its predictions, each file of predictions its record."""
    expected: dict[Path, tuple[records.Json, records.Json]] = {}
    for name, record in found.items():
        if record["predictions"] == "published":
            expected |= {predictions_file(leaderboard, name, one["seed"]): (record, one) for one in record["runs"]}
    known: dict[tuple[str, str], set[str]] = {}  # partition and digest of its clusters -> utterances
    there = set(_files(leaderboard / PREDICTIONS, report, leaderboard))
    for path in sorted(there - expected.keys()):
        report.faults.append((_under(path, leaderboard), "belongs to no sound record that publishes predictions."))
    # What was published first says which utterances there are; a new file whose name sorts first does not.
    ordered = sorted(expected.items(), key=lambda item: (item[0] not in unchanged, item[0]))
    for number, (path, (record, one)) in enumerate(ordered, start=1):
        with _collected(report, path, leaderboard):
            _check_file(path, record, one, report, unchanged, known)
        if progress is not None:
            progress("predictions", number, len(expected))


def _check_file(
    path: Path,
    record: records.Json,
    one: records.Json,
    report: Report,
    unchanged: frozenset[Path],
    known: dict[tuple[str, str], set[str]],
) -> None:
    same = {(name, block["digest"]) for name, block in record["runs"][0]["resampling"].items()}
    if path in unchanged and same <= known.keys():
        report.unchanged += 1
        return
    columns = tables.parse_predictions(tables.read_content(path), where=path.name)
    report.predictions += 1
    check_predictions(record, one, columns, where=path.name)
    check_same_utterances(record, columns, known, where=path.name)


def _check_rendered(leaderboard: Path, report: Report, rendered: Callable[[Path], Mapping[Path, bytes]] | None) -> None:
    from ser_bench.leaderboard.render import not_rendered, render_files

    try:
        files = (rendered or render_files)(leaderboard)
    except RecordError as error:
        if not report.faults:  # what is wrong with a record has been said
            report.faults.append((".", f"cannot be rendered: {error}"))
        return
    remedy = "Write it with `ser-bench leaderboard render`."
    for relative, content in sorted(files.items()):
        path = leaderboard / relative
        report.rendered += 1
        if not path.is_file() or path.is_symlink() or path.read_bytes() != content:
            state = "is not what the records give" if path.is_file() else "is missing"
            report.faults.append((_under(path, leaderboard), f"{state}. {remedy}"))
    for path in not_rendered(leaderboard, files):
        told = "is no file that rendering writes. `ser-bench leaderboard render` takes it away."
        report.faults.append((_under(path, leaderboard), told))


def _files(folder: Path, report: Report, leaderboard: Path) -> list[Path]:
    """Return the entries of a flat folder."""
    try:
        require_folder(folder)
    except RecordError:
        report.faults.append((_under(folder, leaderboard), "is a link or no folder. Put the folder itself there."))
        return []
    return sorted(folder.iterdir()) if folder.exists() else []


def _under(path: Path, leaderboard: Path) -> str:
    return str(path.relative_to(leaderboard))


@contextmanager
def _collected(report: Report, path: Path, leaderboard: Path) -> Iterator[None]:
    """Turn an error about one file into a fault of the report."""
    try:
        yield
    except FileNotFoundError:
        report.faults.append((_under(path, leaderboard), "is missing. Restore it; published files only grow."))
    except RecordError as error:
        report.faults.append((_under(path, leaderboard), str(error)))
