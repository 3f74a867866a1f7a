"""What stands in for the paper: its numbers, digit by digit, and its systems' sizes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ser_bench.host import Offer, host
from ser_bench.interface import ATTRIBUTES, SystemSpec
from ser_bench.studies import STUDIES, Options, paper, systems

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_table_1_is_that_of_the_leaderboard() -> None:
    lines = [line for line in read(REPOSITORY / "leaderboard" / "reported.csv") if line["source"].endswith("Table 1")]
    told = {(line["system"], line["partition"]): line for line in lines}
    assert len(told) == 2 * len(paper.TABLE1)
    for row in paper.TABLE1.values():
        for side, scores in row.scores.items():
            line = told[row.label, side]
            assert [line[attribute] for attribute in ATTRIBUTES] == [f"{score:.3f}" for score in scores]
            assert line["parameters_m"] == str(row.millions)


@pytest.mark.shared
def test_table_2(shared: Path) -> None:
    for line in read(shared / "paper" / "table2.csv"):
        stated = paper.TABLE2[line["transcription"]]
        for attribute in ATTRIBUTES:
            cell = line[f"seen_{attribute}"]
            assert stated.get(attribute) == (float(cell) if cell else None)
        assert paper.WER.get(line["transcription"]) == (float(line["wer_percent"]) if line["wer_percent"] else None)


def test_pairs_of_the_papers_systems_and_of_others() -> None:
    found = systems.pairs_of(())
    assert [(pair.audio, pair.both) for pair in found] == [
        ("w2v2_l_robust_p", "w2v2_l_robust_p_tinybert"),
        ("hubert_base", "hubert_base_tinybert"),
        ("distilhubert", "distilhubert_tinybert"),
    ]
    assert [pair.both for pair in systems.by_size(found)] == [paper.DISTILLED, paper.BASE, paper.LARGE]
    assert (
        systems.pairs_of(("logmel",))
        == systems.pairs_of(("logmel_words",))
        == systems.pairs_of(("logmel", "logmel_words"))
    )
    assert systems.weights_for(("audio=A", "text=B"), "logmel") == ("audio=A",)
    assert systems.weights_for(("audio=A", "text=B"), "logmel_words") == ("audio=A", "text=B")


def test_systems_may_share_an_audio_system(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("logmel_words", "logmel_minilm")
    spec = SystemSpec(name=both[1], summary="under test", audio="logmel", text="minilm", head="concat")
    monkeypatch.setitem(host().offers, ("system", both[1]), [Offer(spec, "tests", "0")])
    pairs = [systems.Pair("logmel", name) for name in both]
    assert systems.pairs_of(both) == systems.pairs_of((*both, "logmel", both[0])) == pairs
    for study, runs in (("table1", 3), ("figure3", 5)):
        cells = STUDIES[study].cells(Options(corpus="demo", systems=both))
        assert [cell.key for cell in cells].count("logmel") == 1
        assert len(cells) == len({cell.key for cell in cells}) == runs


def test_sizes_come_out_as_table_1_rounds_them() -> None:
    for name, row in paper.TABLE1.items():
        assert round(systems.sizes(name)[0] / 1e6) == row.millions
