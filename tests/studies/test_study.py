"""All four studies from end to end on a small release, resumed and repeated in part."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies.conftest import Here, words
from transcripts import made

from ser_bench import cli, conditions, records
from ser_bench.corpus import Release
from ser_bench.errors import ConditionError, StudyError
from ser_bench.studies import STUDIES, Options
from ser_bench.studies import estimate as estimates
from ser_bench.studies.preview import preview
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
    assert told["departures"] == [
        "that the release is 1.10 is unconfirmed", "logmel is not the paper's",
        "recipe.batch_size is 16 by default and 8 here", "recipe.epochs is 40 by default and 1 here",
        "logmel_words is not the paper's",
    ]  # fmt: skip
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
    assert told["departures"][-1] == "layers are pooled before they are summed, not after"
    assert {"weights are tiny", "recipe.learning_rate is 1e-05 by default and 0.003 here"} < set(told["departures"])
    assert not any("attributes" in one for one in told["departures"])
    text = (tmp_path / "figure2" / "figure2.md").read_text()
    assert not any(word in text for word in ("of no importance", "paired test decides nothing", "over speakers"))
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
    assert not any("pooled before" in one for one in told["departures"])
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
        ("table1", {"margin": 0.0}, "--margin 0 was given; expected a CCC above 0, such as 0.01."),
        ("table1", {"margin": -1.0}, "--margin -1 was given; expected a CCC above 0, such as 0.01."),
        ("table1", {"margin": float("nan")}, "--margin nan was given; expected a CCC above 0, such as 0.01."),
        ("table1", {"margin": float("inf")}, "--margin inf was given; expected a CCC above 0, such as 0.01."),
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


def test_a_condition_is_read_before_anything_is_made(here: Here, release: Path, kept: Path, tmp_path: Path) -> None:
    """Also where only human text is read, which no condition changes."""
    line = words("table2", release, kept, tmp_path, "--systems", "logmel_words", "--transcripts", "human")
    assert cli.main([*line, "--conditions", "noise:purple@10dB"]) == 1
    assert here.words == []
    with pytest.raises(ConditionError):
        check(STUDIES["table2"], Options(corpus="demo", conditions=("telephon",)))


def test_weights_of_a_part_that_no_system_has(release: Path, kept: Path) -> None:
    options = Options(corpus=str(release), systems=("distilhubert_tinybert",), weights=("adio=tiny",), cache=kept)
    for study in ("table1", "table2", "figure3"):
        with pytest.raises(StudyError) as told:
            steps(STUDIES[study], options)
        assert str(told.value) == (
            "--weights adio=tiny names the part 'adio'; the systems of this study have audio, text."
        )


def test_without_human_text_nothing_is_crossed_with_it() -> None:
    options = Options(corpus="demo", systems=("logmel_words",), transcripts=("scored-1", "whisper-tiny"))
    keys = [scoring.key for scoring in STUDIES["table2"].scorings(options)]
    assert keys == [f"trained on {name}, scored on {name}, noise:babble@10dB" for name in options.transcripts]


def table2_options(release: Path, kept: Path, runs: Path, **given: Any) -> Options:
    usual: dict[str, Any] = {"transcripts": ("human", "whisper-tiny"), "conditions": (NOISE,), "seeds": 2}
    return Options(corpus=str(release), systems=("logmel_words",), cache=kept, runs=runs, device="cpu", **usual | given)


def test_under_noise_the_train_partition_is_not_transcribed(release: Path, tmp_path: Path) -> None:
    kept, options = tmp_path / "kept", table2_options(release, tmp_path / "kept", tmp_path / "runs")
    need = steps(STUDIES["table2"], options)
    asked = {step.condition: step.words for step in need.transcriptions}
    assert "--partitions" not in asked["clean"]
    at = asked[NOISE].index("--partitions")
    assert asked[NOISE][at + 1 : at + 4] == ("development", "test1", "test2")
    source, key = made.source("whisper-tiny"), conditions.parse(NOISE).key
    made.write(release, kept, made=source)
    made.write(release, kept, made=source, condition=key, without=("train",))
    need = steps(STUDIES["table2"], options)
    assert need.transcriptions == () == need.left_out
    before = [score.texts_sha256 for score in need.scores]
    made.write(release, kept, made=source, condition=key)  # what nobody reads makes no difference
    assert [score.texts_sha256 for score in steps(STUDIES["table2"], options).scores] == before


def test_what_waits_for_a_transcription_is_counted(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "least_seconds", lambda work, device, times: (work(), 1.0)[1])
    told, human = (
        preview(STUDIES["table2"], table2_options(release, tmp_path / "kept", tmp_path / "runs", transcripts=sources))
        for sources in (("human", "whisper-tiny"), ("human",))
    )
    for most in (0, 1):
        twice = 2 * human.estimate.training_seconds[most]
        assert told.estimate.training_seconds[most] == pytest.approx(twice, abs=0.3)
    assert told.estimate.run_bytes == 2 * human.estimate.run_bytes
    assert told.estimate.scoring_seconds == pytest.approx(5 * human.estimate.scoring_seconds, rel=1e-2)
    assert told.estimate.not_counted == ("whisper-tiny (clean)", f"whisper-tiny ({NOISE})")
    text = told.text()
    assert f"not counted: transcribing 2 sources: whisper-tiny (clean), whisper-tiny ({NOISE})" in text
    assert "not counted" not in human.text()
    commands = [line for line in text.splitlines() if line.startswith("ser-bench ")]
    assert [line.split()[1] for line in commands].count("transcribe") == 2
    assert sum(line.startswith("ser-bench run") and "--transcripts whisper-tiny" in line for line in commands) == 2
    assert sum(line.startswith("ser-bench score") for line in commands) == 5
    assert any(f"--out {tmp_path}/runs/logmel_words-... " in line for line in commands)
    assert text.count("after its transcription") == 4


def test_an_estimate_is_of_the_recipes_batches_at_the_corpus_length(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped: list[int] = []
    usual = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *given, **more: (stepped.append(1), usual(*given, **more))[1])
    monkeypatch.setattr(estimates, "least_seconds", lambda work, device, times: (work(), 1.0)[1])
    options = Options(corpus=str(release), systems=("logmel_words",), seeds=1, cache=tmp_path / "kept", device="cpu",
                      runs=tmp_path, changes={"batch_size": "4", "epochs": "7", "patience": "2"})  # fmt: skip
    found = preview(STUDIES["table1"], options).estimate
    opened = Release.open(release, cache=tmp_path / "kept")
    lengths = {name: opened.rows(name).duration for name in opened.partitions}
    mean = float(np.concatenate(list(lengths.values())).mean())
    epoch = (lengths["train"].sum() + lengths["development"].sum()) / (4 * mean)  # a batch takes the pretended second
    assert found.training_seconds == (pytest.approx(2 * 3 * epoch, abs=0.1), pytest.approx(2 * 7 * epoch, abs=0.1))
    assert stepped == [1, 1]
    off = Options(**{**vars(options), "frames": "off", "systems": (), "weights": ("tiny",), "changes": {}})
    pooled = preview(STUDIES["figure2"], off).estimate  # pooled vectors are stored all the same
    assert list(pooled.stores) == ["vectors of all layers of hubert_base, read by every attribute and seed"]
    assert "counted, too" in pooled.text()


def test_what_was_scored_of_another_training_is_refused(
    here: Here, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    made.write(release, kept)
    given = ("--systems", "logmel_words", "--transcripts", "human", "whisper-made", "--conditions", "none")
    line = [*words("table2", release, kept, tmp_path, *given), "--seeds", "1"]
    assert cli.main(line) == 0
    (run,) = (path.parent for path in (tmp_path / "runs").glob("logmel_words-*/settings.json")
              if records.read_json(path)["transcripts"]["train"] == "human")  # fmt: skip
    (scored,) = (tmp_path / "runs" / "scored").glob(f"{run.name}-on-*")
    result = run / "seed-1" / "result.json"
    other = records.read_json(result)
    assert records.read_json(scored / "seed-1" / "result.json")["source"] == other["run"]["predictions_sha256"]
    assert "source" not in records.read(scored / "record.json")["runs"][0]
    assert cli.main(line) == 0

    other["run"]["predictions_sha256"] = "0" * 64  # as if trained again, on another machine
    result.write_text(records.canonical(other))
    capsys.readouterr()
    here.words.clear()
    assert cli.main(line) == 1
    assert capsys.readouterr().err.endswith(
        f"error: {scored / 'seed-1'} was scored with an earlier training of {run}. Remove that folder; the same "
        "command with --resume makes it again.\n"
    )
    assert cli.main(["score", "--run", str(run), "--corpus", str(release), "--out", str(scored), "--cache", str(kept),
                     "--transcripts", "whisper-made", "--device", "cpu"]) == 1  # fmt: skip
    assert "was scored with another training than seed 1" in capsys.readouterr().err
    assert cli.main([*line, "--dry-run"]) == 1
    assert here.words == []
    shutil.rmtree(scored / "seed-1")
    assert cli.main(line) == 0
    assert [one[0] for one in here.words] == ["score"]

    shutil.rmtree(run / "seed-1")  # what comes of training it again is only known then
    here.words.clear()
    assert cli.main(line) == 1
    assert [one[0] for one in here.words] == ["run"]
    assert f"{scored / 'seed-1'} was scored with an earlier training of {run}" in capsys.readouterr().err
    shutil.rmtree(scored / "seed-1")
    assert cli.main(line) == 0

    shutil.rmtree(kept / "transcripts")
    made.write(release, kept, hear=lambda text: f"{text} indeed")  # the same audio, heard otherwise
    assert cli.main(line) == 1
    assert "was scored on other texts of whisper-made than there are now." in capsys.readouterr().err


def test_a_second_stage_of_another_training_is_refused(
    here: Here, release: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*words("figure3", release, kept, tmp_path, "--systems", "logmel_words"), "--seeds", "1"]
    assert cli.main(line) == 0
    (audio,) = (tmp_path / "runs").glob("logmel-*")
    (frozen,) = (path.parent for path in (tmp_path / "runs").glob("logmel_words-*/settings.json")
                 if "first_stage" in records.read_json(path))  # fmt: skip
    result = records.read_json(audio / "seed-1" / "result.json")
    result["run"]["predictions_sha256"] = "0" * 64
    (audio / "seed-1" / "result.json").write_text(records.canonical(result))
    capsys.readouterr()
    assert cli.main(line) == 1
    said = capsys.readouterr().err
    assert f"error: {frozen / 'seed-1'} begins with an earlier training of {audio}. Remove that folder; " in said


def test_what_fails_says_how_to_go_on(
    here: Here, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, failing = here.run, "run"

    def fails(line: list[str]) -> int:
        return 1 if line[0] == failing else usual(line)

    monkeypatch.setattr(here, "run", fails)
    kept = tmp_path / "kept"
    given = ("--systems", "logmel_words", "--transcripts", "human", "--conditions", NOISE)
    line = [*words("table2", release, kept, tmp_path, *given), "--seeds", "1"]
    assert cli.main(line) == 1
    assert "; the same command with --resume goes on with what is not finished." in capsys.readouterr().err
    failing = "score"
    assert cli.main(line) == 1
    assert capsys.readouterr().err.rstrip().endswith("; the same command with --resume goes on.")


def test_a_study_is_interrupted_in_a_transcription_and_in_a_scoring(
    here: Here, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, done, source = tmp_path / "kept", [], made.source("whisper-tiny")
    usual, left = here.run, {"transcribe": 1, "score": 2}  # which of each is interrupted

    def run(line: list[str]) -> int:
        if line[0] in left:
            left[line[0]] -= 1
            if left[line[0]] == 0:
                raise KeyboardInterrupt
        done.append(line[0])
        if line[0] != "transcribe":
            return usual(line)
        given = dict(zip(line[1::2], line[2::2], strict=False))
        key = conditions.parse(given.get("--condition", "clean")).key
        made.write(release, kept, made=source, condition=key, without=() if key == "clean" else ("train",))
        return 0

    monkeypatch.setattr(here, "run", run)
    given = ("--systems", "logmel_words", "--transcripts", "human", "whisper-tiny", "--conditions", NOISE)
    line = [*words("table2", release, kept, tmp_path, *given), "--seeds", "1"]
    again = [*line, "--resume"]
    for way, expected in ((line, []), (again, ["transcribe"] * 2 + ["run"] * 2 + ["score"]), (again, ["score"] * 4)):
        done.clear()
        assert cli.main(way) == (130 if len(expected) != 4 else 0)
        assert done == expected
    assert len(written(tmp_path / "table2", "table2")["signatures"]) == 7
    assert "goes on" in capsys.readouterr().err
