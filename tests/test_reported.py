"""The published results beside ours: number by number what their sources say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.rows import read_reported, tracks

REPOSITORY = Path(__file__).resolve().parent.parent
REPORTED = REPOSITORY / "leaderboard" / "reported.csv"
PAPER = "de Oliveira, Raj Prabhu & Gerkmann 2023, Table 1"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_line_becomes_a_cell_of_a_row() -> None:
    lines, rows = read(REPORTED), read_reported(REPORTED)
    assert len(lines) == sum(len(row.cells) for row in rows) > 20
    assert {row.system for row in rows} == {line["system"] for line in lines}
    shown = {id(row) for members in tracks(rows).values() for row in members}
    assert shown == {id(row) for row in rows}
    for row in rows:
        for cell in row.cells.values():
            assert cell["mean"]["mean"] == pytest.approx(sum(cell[name]["mean"] for name in ATTRIBUTES) / 3)


def test_text_systems_name_their_transcripts_and_others_none() -> None:
    for line in read(REPORTED):
        assert (line["transcripts"] != "none") == ("text" in line["modality"])


@pytest.mark.shared
def test_table_1_of_the_paper(shared: Path) -> None:
    ours = {(line["system"], line["partition"]): line for line in read(REPORTED) if line["source"] == PAPER}
    theirs = read(shared / "paper" / "table1.csv")
    assert len(ours) == 2 * len(theirs) == 12
    for line in theirs:
        # Table 1 lists the audio-text systems under their audio encoder's name; the text encoder is TinyBERT.
        name = line["system"] + (" + TinyBERT" if line["modality"] == "audio+text" else "")
        for side, partition in (("seen", "test1"), ("unseen", "test2")):
            found = ours[name, partition]
            assert [found[attribute] for attribute in ATTRIBUTES] == [line[f"{side}_{a}"] for a in ATTRIBUTES]
            assert (found["modality"], found["parameters_m"]) == (line["modality"], line["params_m"])
            assert found["release"] == "1.10"
            assert found["transcripts"] == ("human" if line["modality"] == "audio+text" else "none")


@pytest.mark.shared
def test_other_systems(shared: Path) -> None:
    columns = ("system", "release", "release_note", "partition", *ATTRIBUTES, "source")
    ours = sorted(tuple(line[c] for c in columns) for line in read(REPORTED) if line["source"] != PAPER)
    theirs = sorted(tuple(line[c] for c in columns) for line in read(shared / "facts" / "reference-results.csv"))
    assert ours == theirs
