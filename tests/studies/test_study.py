"""All four studies from end to end on a small release, resumed and repeated in part."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from studies.conftest import Here, words
from transcripts import made

from ser_bench import cli, conditions, records
from ser_bench.errors import StudyError
from ser_bench.studies import STUDIES, Options
from ser_bench.studies.steps import check, steps

NOISE = "noise:white@10dB"


def trained(here: Here) -> list[tuple[str, str]]:
    """Return (folder, seed) of what was trained since the last look."""
    made = [line for line in here.words if line[0] == "run"]
    found = [(Path(line[line.index("--out") + 1]).name, line[line.index("--seed") + 1]) for line in made]
    here.words.clear()
    return found


def written(folder: Path, study: str) -> dict[str, Any]:
    """Read a report's JSON, and check that all of it is there and says the same."""
    told: dict[str, Any] = json.loads((folder / f"{study}.json").read_text())
    with (folder / f"{study}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(told["rows"]) > 0
    text = (folder / f"{study}.md").read_text()
    assert f"]({study}.svg)" in text
    for claim in told["claims"]:
        assert claim["says"] in text
    assert "nan" not in text.lower().replace("dominance", "")
    assert (folder / f"{study}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / f"{study}.svg").read_text().startswith("<svg")
    return told


def test_table_1_figure_3_and_what_they_share(here: Here, release: Path, kept: Path, tmp_path: Path) -> None:
    systems = ("--systems", "logmel_words")
    assert cli.main(words("table1", release, kept, tmp_path, *systems)) == 0
    first = trained(here)
    assert sorted(seed for _, seed in first) == ["1", "1", "2", "2"]
    told = written(tmp_path / "table1", "table1")
    assert {claim["name"] for claim in told["claims"]} == {"text raises valence", "arousal and dominance stay"}
    assert told["departures"] == ["logmel is not the paper's", "logmel_words is not the paper's"]
    row = told["rows"][0]
    run = next(path for path in (tmp_path / "runs").glob("logmel-*"))
    record = records.read(run / "record.json")
    assert row["system"] == "logmel"
    assert row["ours"] == record["summary"]["test1"]["ccc"]["arousal"]["mean"]
    assert [row["low"], row["high"]] == record["summary"]["test1"]["ccc"]["arousal"]["ci95"]

    assert cli.main(words("figure3", release, kept, tmp_path, *systems)) == 0
    second = trained(here)
    assert len(second) == 2  # FT=>FRZ alone: both fine-tuned systems are there
    assert len({folder for folder, _ in first} | {folder for folder, _ in second}) == 3
    told = written(tmp_path / "figure3", "figure3")
    assert [(row["way"], row["partition"]) for row in told["rows"]] == [
        ("FT", "test1"), ("FT", "test2"), ("FT=>FRZ", "test1"), ("FT=>FRZ", "test2"),
    ]  # fmt: skip
    frozen = records.read(tmp_path / "runs" / second[0][0] / "record.json")
    assert frozen["strategy"] == "finetune-freeze"
    assert [one["first_stage"] for one in frozen["runs"]] == [one["predictions_sha256"] for one in record["runs"]]

    # again: nothing; one seed's folder removed: that alone
    assert cli.main(words("figure3", release, kept, tmp_path, *systems)) == 0
    assert trained(here) == []
    assert json.loads((tmp_path / "figure3" / "figure3.json").read_text()) == told
    shutil.rmtree(tmp_path / "runs" / second[0][0] / "seed-2")
    assert cli.main(words("figure3", release, kept, tmp_path, *systems)) == 0
    assert trained(here) == [(second[0][0], "2")]
    assert json.loads((tmp_path / "figure3" / "figure3.json").read_text()) == told


def test_figure_2_in_both_orders(here: Here, release: Path, kept: Path, tmp_path: Path) -> None:
    tiny = ("--audio", "hubert_base", "--weights", "tiny", "--set", "recipe.epochs=3", "recipe.learning_rate=0.003")
    assert cli.main(words("figure2", release, kept, tmp_path, *tiny)) == 0
    assert len(trained(here)) == 6
    stores = {path.parent for path in (kept / "frames").glob("*/index.npz")}
    told = written(tmp_path / "figure2", "figure2")
    assert told["departures"] == ["weights are tiny"]
    by_attribute = {
        name: [r["weight"] for r in told["rows"] if r["attribute"] == name] for name in ("arousal", "valence")
    }
    for weights in by_attribute.values():
        assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert {len(weights) for weights in by_attribute.values()} == {len(told["rows"]) // 3}
    assert "pooled first" in (tmp_path / "figure2" / "figure2.md").read_text()

    assert cli.main(words("figure2", release, kept, tmp_path, *tiny, "--exact")) == 0
    assert len(trained(here)) == 6  # those that pool first are there already
    more = {path.parent for path in (kept / "frames").glob("*/index.npz")} - stores
    assert len(more) == 2  # one for all attributes; tiny weights are drawn for each seed, real ones would share it too
    told = written(tmp_path / "figure2", "figure2")
    assert told["head"] == "weighted_sequences"
    apart = [one["largest_difference"] for one in told["pooled_first"].values()]  # 0 where the start was best
    assert len(apart) == 3
    assert 0 < max(apart) < 0.5
    text = (tmp_path / "figure2" / "figure2.md").read_text()
    assert "Layers are summed first and the sum is pooled, as in the paper" in text


def test_table_2_across_and_in_noise(
    here: Here, release: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write(release, kept)
    options = ("--systems", "logmel_words", "--transcripts", "whisper-made", "human", "--conditions", NOISE)
    assert cli.main([*words("table2", release, kept, tmp_path, *options), "--seeds", "1"]) == 0
    assert len(trained(here)) == 2
    told = written(tmp_path / "table2", "table2")
    noisy = [f"trained on {source}, scored on whisper-made, {NOISE}" for source in ("whisper-made", "human")]
    assert told["left_out"] == noisy
    made.write(release, kept, condition=conditions.parse(NOISE, cache=kept).key, hear=lambda text: "noise")
    assert cli.main([*words("table2", release, kept, tmp_path, *options), "--seeds", "1"]) == 0
    scored = [line for line in here.words if line[0] == "score"]
    assert len(scored) == 2  # what was left out
    assert trained(here) == []
    told = written(tmp_path / "table2", "table2")
    runs = list(dict.fromkeys(row["run"] for row in told["rows"]))
    assert runs == [
        "trained on human",
        "trained on whisper-made",
        "trained on human, scored on whisper-made",
        "trained on whisper-made, scored on human",
        f"trained on human, scored on human, {NOISE}",
        f"trained on whisper-made, scored on whisper-made, {NOISE}",
        f"trained on human, scored on whisper-made, {NOISE}",
    ]
    wer = {row["run"]: row["wer_percent"] for row in told["rows"] if row["partition"] == "test1"}
    assert wer["trained on human"] is None
    assert wer["trained on whisper-made"] == wer["trained on human, scored on whisper-made"]
    assert wer["trained on whisper-made"] < wer[runs[-1]]
    capsys.readouterr()
    assert cli.main([*words("table2", release, kept, tmp_path, *options), "--seeds", "1", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {one["state"] for one in (*plan["runs"], *plan["scorings"])} == {"finished"}
    assert plan["estimate"]["seconds"] == [0.0, 0.0]


def test_a_dry_run_tells_what_is_shared_and_what_it_takes(
    release: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words("figure3", release, kept, tmp_path, "--systems", "logmel_words", "--dry-run")
    assert cli.main(line) == 0
    said = capsys.readouterr().out
    assert "also the first stage of FT=>FRZ" in said
    assert "audio frames of logmel, read by every system with it" in said
    assert re.search(r"hours of audio; on .*, one run at a time: \d\d:\d\d to \d\d:\d\d", said)
    commands = [text for text in said.splitlines() if text.startswith("ser-bench run ")]
    assert len(commands) == 6
    assert sum("--strategy finetune-freeze" in text for text in commands) == 2
    assert not (tmp_path / "runs").exists()
    assert cli.main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in told["runs"]] == ["to do"] * 6
    assert told["estimate"]["training_seconds"][0] > 0


def test_transcripts_of_a_known_name_are_made_first(release: Path, kept: Path, tmp_path: Path) -> None:
    options = Options(corpus=str(release), seeds=1, systems=("logmel_words",), transcripts=("human", "whisper-tiny"),
                      conditions=("none",), cache=kept, runs=tmp_path, device="cpu")  # fmt: skip
    need = steps(STUDIES["table2"], options)
    assert [step.words[:5] for step in need.transcriptions] == [
        ("transcribe", "--corpus", str(release), "--asr", "whisper-tiny")
    ]
    assert list(need.folders) == ["trained on human"]


def test_what_was_begun_is_gone_on_with_only_if_asked(
    here: Here, release: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(corpus=str(release), systems=("logmel_words",), seeds=1, cache=kept, runs=tmp_path / "runs",
                      device="cpu", changes={"epochs": "1", "batch_size": "8"})  # fmt: skip
    folder = steps(STUDIES["table1"], options).folders["logmel"] / "seed-1"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("")
    line = words("table1", release, kept, tmp_path, "--systems", "logmel_words", "--seeds", "1")
    assert cli.main(line) == 1
    said = capsys.readouterr().err
    assert f"1 of 2 trainings were begun and are not finished (first: {folder.parent.name} seed 1)" in said
    assert "adding --resume" in said
    assert trained(here) == []
    assert cli.main([*line, "--resume"]) == 0
    assert len(trained(here)) == 2


def test_an_interrupted_study_goes_on_where_it_was(
    here: Here, release: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    usual = here.run

    def interrupted(words: list[str]) -> int:
        if len(here.words) == 1:  # the second training
            raise KeyboardInterrupt
        return usual(words)

    monkeypatch.setattr(here, "run", interrupted)
    line = words("table1", release, kept, tmp_path, "--systems", "logmel_words", "--seeds", "1")
    assert cli.main(line) == 130
    assert f"`ser-bench study table1 --corpus {release}" in capsys.readouterr().err
    assert len(trained(here)) == 1
    monkeypatch.setattr(here, "run", usual)
    assert cli.main([*line, "--resume"]) == 0
    assert len(trained(here)) == 1
    assert (tmp_path / "table1" / "table1.md").is_file()


@pytest.mark.parametrize(
    ("study", "given", "message"),
    [
        ("table1", {"audio": "logmel"}, "--audio was given; table1 has no use for it (it takes systems, transcripts)"),
        ("figure2", {"systems": ("logmel",)}, "--systems was given; figure2 has no use for it (it takes audio, exact)"),
        ("table2", {"head_changes": {"epochs": 1}}, "--set head_recipe was given; table2 has no use for it"),
        ("figure3", {"seeds": 0}, "--seeds 0 was given; expected how many, 1 or more."),
    ],
)
def test_options_that_a_study_has_no_use_for(study: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as told:
        check(STUDIES[study], Options(corpus="demo", **given))
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("study", "given", "message"),
    [
        (
            "table1",
            {"systems": ("mean_only",)},
            "mean_only is to be compared with what text adds to it. Name an audio-text",
        ),
        ("table1", {"transcripts": ("a", "b")}, "--transcripts a b was given; this study reads one source."),
        ("table2", {"systems": ("logmel",)}, "logmel reads no text, and table2 is about transcripts."),
        ("table2", {"systems": ("a", "b")}, "--systems a b was given; table2 is of one system. Give one."),
    ],
)
def test_systems_that_a_study_cannot_use(study: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as told:
        STUDIES[study].cells(Options(corpus="demo", **given))
    assert message in str(told.value)
