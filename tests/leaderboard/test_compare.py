"""Two systems from their records alone: what is shown, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import pytest

from ser_bench.cli import main
from ser_bench.errors import RecordError, ScoreError
from ser_bench.leaderboard.add import add
from ser_bench.leaderboard.compare import compare_records
from ser_bench.scoring import compare


def test_differences_are_those_of_the_paired_test() -> None:
    a, b = made_up.record(noise=0.4, seeds=(1, 2)), made_up.record(noise=1.2, seeds=(3,))
    found = compare_records(a, b, names=("good", "poor"))
    assert list(found.differences) == ["development", "test1", "test2"]
    blocks = [[run["resampling"]["test1"] for run in one["runs"]] for one in (a, b)]
    assert found.differences["test1"] == compare(*blocks)
    assert found.differences["test1"]["mean"].verdict == "better"
    assert found.scores["test1"]["mean"] == tuple(one["summary"]["test1"]["ccc"]["mean"]["mean"] for one in (a, b))
    lines = found.text().splitlines()
    assert lines[0] == "A: good, seeds: 2"
    assert lines[1].strip() == a["signature"]
    (row,) = [line for line in lines if line.split()[:2] == ["test1", "mean"]]
    one = found.differences["test1"]["mean"]
    assert f"{one.value:+.3f}" in row
    assert f"{one.ci95[0]:+.3f} .. {one.ci95[1]:+.3f}" in row
    assert row.rstrip().endswith("better")
    assert lines[-1] == "One of the systems has one seed: how far its seeds lie apart is taken from the other's."


def test_the_margin_makes_undecided_on_par() -> None:
    a, b = made_up.record(noise=0.4), made_up.record(noise=0.4, seeds=(2,))
    assert compare_records(a, b, margin=0.0001).differences["test1"]["mean"].verdict == "undecided"
    wide = compare_records(a, b, margin=0.5)
    assert wide.differences["test1"]["mean"].verdict == "on par"
    assert "A is (margin 0.5)" in wide.text()
    assert "With one seed each this is about two trained models" in wide.text()
    with pytest.raises(ScoreError, match="the margin is 0, expected a CCC above 0"):
        compare_records(a, b, margin=0)


def test_under_five_clusters_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made_up.SIZES, "test1", [30] * 4)
    made_up._scored.cache_clear()
    a, b = made_up.record(noise=0.2), made_up.record(noise=3.0)
    made_up._scored.cache_clear()
    found = compare_records(a, b)
    assert {one.verdict for one in found.differences["test1"].values()} == {"undecided"}
    assert found.differences["test2"]["mean"].verdict == "better"
    assert "test1: 4 clusters, under 5 nothing is decided." in found.text()


def test_partitions() -> None:
    a, b = made_up.record(), made_up.record(seeds=(2,))
    assert list(compare_records(a, b, partitions=["test2"]).differences) == ["test2"]
    with pytest.raises(
        RecordError, match=r"A and B have no scores in common of train; both have development, test1, te"
    ):
        compare_records(a, b, partitions=["train"])


def test_what_cannot_be_paired() -> None:
    a, b = made_up.record(), made_up.record(seeds=(2,))
    b["runs"][0]["resampling"]["test1"]["digest"] = "0" * 64
    found = compare_records(a, b)
    assert list(found.differences) == ["development", "test2"]
    assert "test1: not compared; the two scores cannot be paired: clusters digest" in found.text()
    assert found.as_dict()["not_compared"].keys() == {"test1"}
    with pytest.raises(RecordError, match="the two scores cannot be paired"):
        compare_records(a, b, partitions=["test1"])


def test_an_attribute_that_was_not_trained() -> None:
    settings = made_up.settings(recipe=made_up.settings()["recipe"] | {"attributes": ["valence"]})
    from ser_bench import records

    one = records.assemble(settings, [made_up.result(1, attributes=("valence",))], created=made_up.CREATED)
    found = compare_records(one, made_up.record())
    assert found.differences["test1"]["arousal"] is None
    assert found.as_dict()["partitions"]["test1"]["mean"] is None
    assert found.as_dict()["partitions"]["test1"]["valence"]["verdict"] in ("better", "worse", "undecided", "on par")
    (row,) = [line for line in found.text().splitlines() if line.split()[:2] == ["test1", "arousal"]]
    assert row.split()[2:] == ["-"] * 6


def test_the_command_line_takes_runs_records_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made_up.run_folder(tmp_path / name, seeds=(1,), system__name=name) for name in ("a", "b")]
    board = tmp_path / "board"
    paths = [add(run, board) for run in runs]
    for words in ([str(runs[0]), str(runs[1])], [str(paths[0]), str(runs[1])], [paths[0].stem, paths[1].stem]):
        assert main(["leaderboard", "compare", *words, "--leaderboard", str(board), "--json", "--margin", "0.02"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["margin"] == 0.02
        assert told["partitions"]["test1"]["mean"]["value"] == 0.0
        assert told["partitions"]["test1"]["mean"]["verdict"] == "on par"
        assert told["partitions"]["test1"]["clusters"] == 8
    assert main(["leaderboard", "compare", "a", "nothing", "--leaderboard", str(board)]) == 1
    assert "'a' is no run folder, no record file, and no record of" in capsys.readouterr().err
    assert main(["leaderboard", "compare", str(runs[0]), str(runs[1]), "--partition", "test2"]) == 0
    assert "development" not in capsys.readouterr().out
