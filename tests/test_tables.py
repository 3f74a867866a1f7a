"""Predictions on disk: columns, types, a digest of the content alone, and the challenge's file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ser_bench import tables
from ser_bench.errors import RecordError

ALL = ("arousal", "valence", "dominance")
NAMES = {"development": ["a.wav", "b.wav"], "test1": ["c.wav"]}
VALUES = {"development": np.array([[1.5, 2.5, 3.5], [0.1, 7.9, 4.0]]), "test1": np.array([[1 / 3, 2.0, 3.0]])}


def test_columns_and_types(tmp_path: Path) -> None:
    tables.write_predictions(tmp_path / "p.parquet", NAMES, VALUES, ALL)
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet")
    assert table.schema.equals(
        pyarrow.schema([("utterance", "string"), ("partition", "string")] + [(name, pyarrow.float64()) for name in ALL])
    )
    assert table.to_pydict() == {
        "utterance": ["a.wav", "b.wav", "c.wav"],
        "partition": ["development", "development", "test1"],
        "arousal": [1.5, 0.1, 1 / 3],
        "valence": [2.5, 7.9, 2.0],  # outside 1..7 is kept as it is
        "dominance": [3.5, 4.0, 3.0],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_what_was_not_trained_is_null(tmp_path: Path) -> None:
    values = {name: part.copy() for name, part in VALUES.items()}
    values["test1"][0, 1] = np.nan  # nobody looks at it
    tables.write_predictions(tmp_path / "p.parquet", NAMES, values, ("dominance", "arousal"))
    columns = tables.read_predictions(tmp_path / "p.parquet")
    assert columns["valence"] == [None] * 3
    assert columns["arousal"] == [1.5, 0.1, 1 / 3]
    assert columns["dominance"] == [3.5, 4.0, 3.0]


def test_digest_is_of_the_content_whatever_the_file(tmp_path: Path) -> None:
    written = tables.write_predictions(tmp_path / "p.parquet", NAMES, VALUES, ALL)
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet").take([2, 0, 1]).replace_schema_metadata({"by": "me"})
    pyarrow.parquet.write_table(table, tmp_path / "q.parquet", compression="none")
    assert tables.digest(tables.read_predictions(tmp_path / "q.parquet")) == written
    assert tables.digest(tables.read_predictions(tmp_path / "p.parquet")) == written
    assert len(written) == 64


@pytest.mark.parametrize("column", tables.COLUMNS)
def test_digest_notices_every_cell(tmp_path: Path, column: str) -> None:
    written = tables.write_predictions(tmp_path / "p.parquet", NAMES, VALUES, ALL)
    columns = tables.read_predictions(tmp_path / "p.parquet")
    one = columns[column][1]
    columns[column][1] = f"{one}x" if isinstance(one, str) else float(np.nextafter(one, 9))
    assert tables.digest(columns) != written


@pytest.mark.parametrize("damage", ["missing", "text", "cut"])
def test_unreadable(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p.parquet"
    if damage == "text":
        path.write_text("utterance,arousal\n")
    elif damage == "cut":
        tables.write_predictions(path, NAMES, VALUES, ALL)
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        RecordError, match=r"p\.parquet cannot be read as predictions \(.*\)\. Restore it, or run again"
    ):
        tables.read_predictions(path)


def test_other_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"utterance": ["a"], "arousal": [1.0]}), tmp_path / "p.parquet")
    with pytest.raises(RecordError, match=r"has the columns \['utterance', 'arousal'\], expected \['utterance', 'part"):
        tables.read_predictions(tmp_path / "p.parquet")


def test_utterances_and_values_of_different_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, pyarrow.ArrowInvalid)):
        tables.write_predictions(tmp_path / "p.parquet", {**NAMES, "test1": ["c.wav", "d.wav"]}, VALUES, ALL)
    assert not list(tmp_path.iterdir())


def test_challenge_file(tmp_path: Path) -> None:
    values = np.array([[0.2, 4.0, 7.5], [1 / 3 + 1, 2.0, 3.0]])
    tables.write_challenge(
        tmp_path / "test3.csv", ["MSP-PODCAST_test3_0001.wav", "MSP-PODCAST_test3_0002.wav"], values, ALL
    )
    with (tmp_path / "test3.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["FileName", "EmoAct", "EmoVal", "EmoDom"],
            ["MSP-PODCAST_test3_0001.wav", "1.000000", "4.000000", "7.000000"],
            ["MSP-PODCAST_test3_0002.wav", "1.333333", "2.000000", "3.000000"],
        ]
    with pytest.raises(ValueError, match="longer"):
        tables.write_challenge(tmp_path / "x.csv", ["a.wav"], values, ALL)
    assert not (tmp_path / "x.csv").exists()


def test_challenge_file_of_one_attribute(tmp_path: Path) -> None:
    tables.write_challenge(tmp_path / "c.csv", ["a.wav"], np.array([[np.nan, 4.5, np.nan]]), ("valence",))
    assert (tmp_path / "c.csv").read_text() == "FileName,EmoVal\na.wav,4.500000\n"
