"""Putting a run on the leaderboard: whole or not at all, never over another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest

from ser_bench import cache, records, tables
from ser_bench.cli import main
from ser_bench.errors import RecordError, StoreError
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard import add as module
from ser_bench.leaderboard.add import add
from ser_bench.leaderboard.render import render


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_up.run_folder(tmp_path / "run")


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A leaderboard with a row on it."""
    add(made_up.run_folder(tmp_path / "first", system__name="first"), tmp_path / "board")
    render(tmp_path / "board")
    return tmp_path / "board"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_record_and_predictions_are_copied(run: Path, board: Path) -> None:
    before = content(board)
    target = add(run, board)
    after = content(board)
    new = sorted(after.keys() - before.keys())
    stem = target.stem
    assert new == [
        f"predictions/{stem}-seed-1.parquet",
        f"predictions/{stem}-seed-2.parquet",
        f"records/{stem}.json",
    ]
    assert stem.startswith("logmel_words-")
    assert {name: after[name] for name in before} == before
    for seed in (1, 2):
        original = (run / f"seed-{seed}" / "predictions.parquet").read_bytes()
        assert after[f"predictions/{stem}-seed-{seed}.parquet"] == original
    own = records.read(run / "record.json")
    assert records.read(target) == own | {"predictions": "published"}
    assert "| logmel_words" in render(board).readme


def test_withheld_predictions_are_not_copied_and_the_row_says_so(run: Path, board: Path) -> None:
    target = add(run, board, withhold_predictions=True)
    assert not list((board / "predictions").glob(f"{target.stem}*"))
    assert records.read(target)["predictions"] == "withheld"
    rows = [line for line in render(board).readme.splitlines() if line.startswith("| logmel_words")]
    assert len(rows) == 1
    assert rows[0].endswith(", not verifiable |")
    assert "not verifiable" not in next(
        line for line in render(board).readme.splitlines() if line.startswith("| first")
    )


def test_a_composed_systems_name_is_safe_in_a_file_name(tmp_path: Path) -> None:
    run = made_up.run_folder(tmp_path / "run", system__name="logmel[1]+words>concat")
    assert add(run, tmp_path / "board").stem.startswith("logmel-1-words-concat-")


def _refused(run: Path, board: Path, message: str, error: type[Exception] = RecordError, **options: Any) -> None:
    before = content(board)
    with pytest.raises(error, match=message):
        add(run, board, **options)
    assert content(board) == before


def test_a_run_is_added_once(run: Path, board: Path) -> None:
    target = add(run, board)
    _refused(
        run, board, rf"{target.name} is there already: .* was added before\. Published records only grow; a run with"
    )
    _refused(run, board, "is there already", withhold_predictions=True)
    # Another creation time does not make it another run.
    cache.atomic_write(
        run / "record.json", records.canonical(records.read(run / "record.json") | {"created": "2027-01-01T00:00:00Z"})
    )
    _refused(run, board, "is there already")


def test_other_seeds_of_the_same_number_are_another_run(run: Path, board: Path, tmp_path: Path) -> None:
    """Both have the same signature, which counts seeds."""
    other = made_up.run_folder(tmp_path / "other", seeds=(3, 4))
    assert records.read(other / "record.json")["signature"] == records.read(run / "record.json")["signature"]
    assert add(run, board) != add(other, board)


@pytest.mark.parametrize("withhold", [False, True])
def test_wrong_predictions_are_refused(run: Path, board: Path, withhold: bool) -> None:
    path = run / "seed-2" / "predictions.parquet"
    columns = tables.read_predictions(path)
    values = np.array([columns[name] for name in ATTRIBUTES]).T
    values[5, 1] += 1e-9
    tables.write_predictions(path, {"test1": columns["utterance"]}, {"test1": values}, ATTRIBUTES)
    message = r"seed-2/predictions\.parquet does not have the digest that the record gives\. Run again; predictions are"
    _refused(run, board, message, withhold_predictions=withhold)


def test_missing_predictions_are_refused(run: Path, board: Path) -> None:
    (run / "seed-2" / "predictions.parquet").unlink()
    _refused(run, board, r"seed-2/predictions\.parquet cannot be read as predictions")


def test_a_malformed_record_is_refused(run: Path, board: Path) -> None:
    record = records.read(run / "record.json")
    record["summary"]["test1"]["ccc"]["mean"]["mean"] = 0.99
    cache.atomic_write(run / "record.json", records.canonical(record))
    _refused(run, board, r"run/record\.json: summary\.test1\.ccc\.mean\.mean is 0\.99 in it and")


def test_what_is_no_run_is_refused(tmp_path: Path, board: Path) -> None:
    _refused(tmp_path / "nowhere", board, r"nowhere/record\.json does not exist; expected a file that `ser-bench run`")


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_write_that_fails_leaves_the_leaderboard_as_it_was(
    run: Path, board: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1, 10))
    original = cache.atomic_write

    def write(path: Path, data: bytes | str) -> None:
        if next(calls) == failing:
            raise StoreError(f"the disk is full: {path}")
        original(path, data)

    monkeypatch.setattr(module, "atomic_write", write)
    _refused(run, board, "the disk is full", StoreError)
    monkeypatch.setattr(module, "atomic_write", original)
    add(run, board)  # and nothing is in the way of another attempt


def test_a_folder_that_is_none_leaves_the_leaderboard_as_it_was(run: Path, board: Path) -> None:
    shutil.rmtree(board / "records")
    (board / "records").write_text("in the way")
    _refused(run, board, r"board/records is a link or no folder, expected a folder\. Name the folder itself")


def test_an_interrupted_attempt_leaves_the_leaderboard_as_it_was(
    run: Path, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = cache.atomic_write

    def write(path: Path, data: bytes | str) -> None:
        original(path, data)
        if path.name.endswith("seed-2.parquet"):
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "atomic_write", write)
    before = content(board)
    with pytest.raises(KeyboardInterrupt):
        add(run, board)
    assert content(board) == before


def test_the_command_says_that_predictions_are_published(
    run: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "add", str(run), "--leaderboard", str(board), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["record"].endswith(".json")
    assert told.err == (
        "its predictions are published with it: by adding them you state that the corpus' licence allows that; "
        "where it does not, take them away again and add the run with --withhold-predictions\n"
    )
    other = made_up.run_folder(run.parent / "other", seeds=(7,))
    assert main(["leaderboard", "add", str(other), "--leaderboard", str(board), "--withhold-predictions"]) == 0
    assert capsys.readouterr().err == ""
