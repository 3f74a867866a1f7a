"""The whole pipe on a small synthetic release: what a run leaves behind, adds to, refuses, and scores again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pyarrow.parquet
import pytest

import ser_bench
from ser_bench import records
from ser_bench.corpus import read_wave
from ser_bench.errors import CorpusError, PluginError, RecordError, TrainingError, TranscriptError, WeightsError
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.add import add
from ser_bench.leaderboard.render import render
from ser_bench.locks import hold
from ser_bench.runner import run, score
from ser_bench.testing import write_release

COUNTS = {"train": 40, "development": 24, "test1": 26, "test2": 22, "test3": 3}
SYSTEMS: dict[str, dict[str, Any]] = {
    "mean_only": {},
    "logmel": {"changes": {"epochs": 3, "attributes": "arousal,valence,dominance"}},
    "logmel_words": {"changes": {"epochs": 1}, "seeds": (1, 2)},
    "distilhubert_tinybert": {"changes": {"epochs": 1}, "weights": ["tiny"]},
}
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with every partition; test3 has audio alone."""
    return write_release(tmp_path_factory.mktemp("corpus"), utterances=COUNTS, seconds=(0.2, 0.6))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def finished(release: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run each system once; treat the folders as read-only."""
    folder = tmp_path_factory.mktemp("runs")

    def get(name: str) -> Path:
        if not (folder / name).exists():
            run(name, corpus=release, out=folder / name, cache=cache, device="cpu", **SYSTEMS[name])
        return folder / name

    return get


@pytest.fixture
def quick(release: Path, cache: Path, tmp_path: Path) -> Run:
    """Run something for an epoch."""

    def start(plugin: str | None = "logmel", **options: Any) -> Path:
        given: dict[str, Any] = {"corpus": release, "out": tmp_path / "run", "cache": cache, "device": "cpu"}
        if plugin != "mean_only":
            given["changes"] = {"epochs": 1}
        return run(plugin, **given | options)

    return start


def labels_of(release: Path) -> dict[str, list[float]]:
    """Read the label table as a stranger would."""
    with (release / "Labels" / "labels_consensus.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["FileName"]: [float(row[key]) for key in ("EmoAct", "EmoVal", "EmoDom")] for row in rows}


def partitions_of(release: Path) -> dict[str, list[str]]:
    words = {"Train": "train", "Development": "development", "Test1": "test1", "Test2": "test2"}
    found: dict[str, list[str]] = {}
    for line in (release / "Partitions.txt").read_text().splitlines():
        word, _, name = line.partition("; ")
        found.setdefault(words[word], []).append(name)
    return found


def predictions(folder: Path, seed: int = 1) -> dict[str, dict[str, list[float | None]]]:
    """Return partition -> utterance -> values."""
    table = pyarrow.parquet.read_table(folder / f"seed-{seed}" / "predictions.parquet").to_pylist()
    found: dict[str, dict[str, list[float | None]]] = {}
    for row in table:
        assert row["utterance"] not in found.setdefault(row["partition"], {})
        found[row["partition"]][row["utterance"]] = [row[name] for name in ATTRIBUTES]
    return found


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SYSTEMS)
def test_run_folder_layout(finished: Callable[[str], Path], name: str) -> None:
    folder = finished(name)
    expected = {"record.json", "settings.json"}
    for seed in SYSTEMS[name].get("seeds", (1,)):
        own = {"predictions.parquet", "log.jsonl", "model/model.safetensors", "model/config.json", "result.json"}
        best = json.loads((folder / f"seed-{seed}" / "result.json").read_text())["run"]["best_epoch"]
        if name != "mean_only":  # nothing to train, nothing to go on from
            own |= {"checkpoints/last.safetensors", f"checkpoints/best-{best}.safetensors"}
        if name in ("mean_only", "logmel"):  # the others read text, which test3 has not
            own.add("test3.csv")
        expected |= {f"seed-{seed}/{path}" for path in own}
    assert tree(folder) == expected


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_utterance_is_predicted_once(finished: Callable[[str], Path], release: Path, name: str) -> None:
    folder = finished(name)
    table = pyarrow.parquet.read_table(folder / "seed-1" / "predictions.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {"utterance": "string", "partition": "string"} | dict.fromkeys(ATTRIBUTES, "double")
    found = predictions(folder)
    expected = partitions_of(release)
    assert found.keys() - {"test3"} == {"development", "test1", "test2"}
    for partition in ("development", "test1", "test2"):
        assert sorted(found[partition]) == sorted(expected[partition])
        assert len(found[partition]) == COUNTS[partition]
    values = np.array([row for part in found.values() for row in part.values()], dtype=np.float64)
    assert np.isfinite(values).all()
    # On the scale of people, not on that of training, where half would be under 1; after a few steps, who knows.
    if name == "mean_only":
        assert 2.5 < np.median(values) < 5.5


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_follow_from_predictions_and_labels(finished: Callable[[str], Path], release: Path, name: str) -> None:
    folder = finished(name)
    record = records.read(folder / "record.json")
    labels = labels_of(release)
    for one in record["runs"]:
        found = predictions(folder, one["seed"])
        assert one["scores"].keys() == {"development", "test1", "test2"} == one["resampling"].keys()
        for partition, block in one["scores"].items():
            names = list(found[partition])
            truth = np.array([labels[utterance] for utterance in names])
            predicted = np.array([found[partition][utterance] for utterance in names], dtype=np.float64)
            expected = [audmetric.concordance_cc(truth[:, k], predicted[:, k]) for k in range(3)]
            scored = [block["ccc"][attribute]["value"] for attribute in ATTRIBUTES]
            assert scored == pytest.approx(expected, abs=1e-6)
            assert block["ccc"]["mean"]["value"] == pytest.approx(np.mean(expected), abs=1e-6)
            assert block["outside_range"] == int(((predicted < 1) | (predicted > 7)).sum())
    for partition, block in record["summary"].items():
        values = [one["scores"][partition]["ccc"]["valence"]["value"] for one in record["runs"]]
        assert block["ccc"]["valence"]["mean"] == pytest.approx(np.mean(values), abs=1e-6)


def test_the_floor_is_exactly_zero(finished: Callable[[str], Path], release: Path) -> None:
    folder = finished("mean_only")
    record = records.read(folder / "record.json")
    cells = [cell for part in record["runs"][0]["scores"].values() for cell in part["ccc"].values()]
    assert [cell["value"] for cell in cells] == [0.0] * 12
    labels = labels_of(release)
    mean = np.mean([labels[name] for name in partitions_of(release)["train"]], axis=0)
    for part in predictions(folder).values():
        assert np.array(list(part.values())) == pytest.approx(np.tile(mean, (len(part), 1)), abs=1e-5)


def test_record_says_what_was_run(finished: Callable[[str], Path]) -> None:
    record = records.read(finished("logmel_words") / "record.json")
    assert record["system"]["name"] == "logmel_words"
    assert record["system"]["reads"] == ["audio", "text"]
    assert [part["weights"] for part in record["system"]["parts"]] == ["scratch", "scratch"]
    assert record["system"]["parameters"] == record["system"]["trainable_parameters"] > 10_000
    assert record["recipe"]["epochs"] == 1
    assert (record["strategy"], record["frames"], record["precision"]) == ("finetune", "f16", "float32")
    assert record["transcripts"] == {"train": "human", "test": "human", "truncated": 0, "empty": 0, "wer": None}
    assert [one["seed"] for one in record["runs"]] == [1, 2]
    assert record["runs"][0]["epochs"] == 1
    counts = record["corpus"]["partitions"]
    assert {name: part["listed"] for name, part in counts.items()} == COUNTS
    assert {name: part["scored"] for name, part in counts.items()} == COUNTS | {"test3": 0}
    assert record["corpus"]["release"] == "1.10"
    assert record["corpus"]["identity"] == "unconfirmed"
    assert record["speed"]["predict_audio_seconds_per_second"] > 0
    tiny = records.read(finished("distilhubert_tinybert") / "record.json")
    assert tiny["system"]["weights"] == "tiny"
    assert tiny["system"]["trainable_parameters"] < tiny["system"]["parameters"]  # the front end is frozen
    assert "|weights:tiny|" in tiny["signature"]


def test_the_log_has_a_line_for_each_epoch(finished: Callable[[str], Path]) -> None:
    lines = [json.loads(line) for line in (finished("logmel") / "seed-1" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    record = records.read(finished("logmel") / "record.json")
    best = max(line["development"] for line in lines)
    assert lines[record["runs"][0]["best_epoch"]]["development"] == best
    assert record["runs"][0]["scores"]["development"]["ccc"]["mean"]["value"] == pytest.approx(best, abs=1e-5)


def test_seeds_are_added_and_finished_ones_left_alone(quick: Run) -> None:
    folder = quick(seeds=(1,))
    before = {path: (folder / path).stat().st_mtime_ns for path in tree(folder) if path.startswith("seed-1/")}
    assert len(before) == 8
    assert quick(seeds=(2, 1)) == folder
    assert {path: (folder / path).stat().st_mtime_ns for path in before} == before
    record = records.read(folder / "record.json")
    assert [one["seed"] for one in record["runs"]] == [1, 2]
    assert "|seeds:2|" in record["signature"]
    digests = {one["predictions_sha256"] for one in record["runs"]}
    assert len(digests) == 2  # another seed is another model
    cell = record["summary"]["test1"]["ccc"]["mean"]
    assert cell["std"] > 0


def test_the_same_seed_gives_the_same_predictions(quick: Run, tmp_path: Path) -> None:
    one, other = quick(seeds=(1,)), quick(seeds=(3, 1), out=tmp_path / "other")
    assert predictions(one) == predictions(other)
    assert predictions(other, 3) != predictions(other, 1)


def test_other_settings_are_refused(quick: Run) -> None:
    folder = quick("mean_only")
    before = {path: (folder / path).read_bytes() for path in tree(folder)}
    with pytest.raises(RecordError, match=r"holds a run with other settings: .*recipe\.epochs is 50 there and 1 here"):
        quick("mean_only", changes={"epochs": 1}, seeds=(2,))
    assert {path: (folder / path).read_bytes() for path in tree(folder)} == before


def test_a_seed_that_is_being_trained_is_not_called_unfinished(quick: Run) -> None:
    """Whoever followed the advice to remove it would take it from the one who trains it."""
    folder = quick("mean_only")
    (folder / "seed-2" / "checkpoints").mkdir(parents=True)
    with hold(folder / "seed-2"), pytest.raises(RecordError, match=r"another process works in .*seed-2\. Wait for it"):
        quick("mean_only", seeds=(1, 2))


def test_an_unfinished_seed_is_refused_without_resume(quick: Run) -> None:
    folder = quick("mean_only")
    (folder / "seed-2" / "checkpoints").mkdir(parents=True)
    with pytest.raises(RecordError) as raised:
        quick("mean_only", seeds=(1, 2))
    assert str(raised.value) == (
        f"{folder} holds an unfinished seed 2. Go on with it by adding --resume, or remove {folder / 'seed-2'} to "
        "start it anew."
    )
    quick("mean_only", seeds=(1, 2), resume=True)
    assert [one["seed"] for one in records.read(folder / "record.json")["runs"]] == [1, 2]


def test_frozen_trains_the_head_alone(quick: Run) -> None:
    record = records.read(quick(strategy="frozen") / "record.json")
    assert record["strategy"] == "frozen"
    assert 0 < record["system"]["trainable_parameters"] < record["system"]["parameters"]
    assert "|strategy:frozen|" in record["signature"]


def test_a_composed_system(quick: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = quick(None, audio="logmel", text="words", head="linear", depth=1, out=None)
    settings = records.read_json(folder / "settings.json")
    assert folder == Path("runs") / f"logmel-1-words-linear-{records.digest(settings, 8)}"
    record = records.read(folder / "record.json")
    assert record["system"]["name"] == "logmel[1]+words>linear"
    assert (record["system"]["head"], record["system"]["depth"]) == ("linear", 1)
    assert [part["name"] for part in record["system"]["parts"]] == ["logmel", "words"]
    assert add(folder, tmp_path / "board").name.startswith("logmel-1-words-linear-")
    assert ser_bench.load(folder).plan.name == "logmel[1]+words>linear"


def test_one_attribute_alone(quick: Run) -> None:
    folder = quick(changes={"epochs": 1, "attributes": "valence"})
    record = records.read(folder / "record.json")
    ccc = record["summary"]["test1"]["ccc"]
    assert ccc["arousal"] is None is ccc["dominance"]
    assert ccc["valence"]["mean"] == ccc["mean"]["mean"]
    assert {(a is None, v is None, d is None) for a, v, d in predictions(folder)["test1"].values()} == {
        (True, False, True)
    }
    assert (folder / "seed-1" / "test3.csv").read_text().startswith("FileName,EmoVal\n")


def test_a_release_without_test_partitions(cache: Path, tmp_path: Path) -> None:
    corpus = write_release(tmp_path / "c", utterances={"train": 40, "development": 24}, seconds=(0.2, 0.4))
    folder = run("mean_only", corpus=corpus, out=tmp_path / "run", cache=cache, device="cpu")
    record = records.read(folder / "record.json")
    assert record["summary"].keys() == {"development"} == predictions(folder).keys()
    add(folder, tmp_path / "board")
    text = render(tmp_path / "board").readme
    assert "development mean" in text
    assert "rank" not in text.split("## ")[1]


def test_test3_is_predicted_and_clipped(finished: Callable[[str], Path], release: Path) -> None:
    folder = finished("logmel")
    with (folder / "seed-1" / "test3.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["FileName", "EmoAct", "EmoVal", "EmoDom"]
    stored = predictions(folder)["test3"]
    assert [row[0] for row in rows[1:]] == sorted(stored) == [f"MSP-PODCAST_test3_000{i}.wav" for i in (1, 2, 3)]
    for name, *values in rows[1:]:
        clipped = np.clip(np.array(stored[name], dtype=np.float64), 1, 7)
        assert [float(value) for value in values] == pytest.approx(clipped.tolist(), abs=1e-6)
    record = records.read(folder / "record.json")
    assert "test3" not in record["summary"]
    assert record["corpus"]["partitions"]["test3"] == {"listed": 3, "scored": 3, "missing": 0, "outside_range": 0}


def test_test3_is_left_out_for_a_text_system(finished: Callable[[str], Path]) -> None:
    assert "test3" not in predictions(finished("logmel_words"))


@pytest.fixture
def torn(release: Path, tmp_path: Path) -> tuple[Path, str]:
    """A copy of the release without one wav of test1."""
    copy = tmp_path / release.name
    shutil.copytree(release, copy)
    gone = partitions_of(release)["test1"][4]
    (copy / "Audio" / gone).unlink()
    return copy, gone


def test_a_missing_wav_is_an_error(quick: Run, torn: tuple[Path, str], tmp_path: Path) -> None:
    corpus, gone = torn
    with pytest.raises(CorpusError) as raised:
        quick("mean_only", corpus=corpus)
    message = str(raised.value)
    assert gone in message
    assert "of test1" in message
    assert "--allow-missing" in message
    assert not (tmp_path / "run").exists()


def test_a_missing_wav_may_be_allowed_and_is_counted(quick: Run, torn: tuple[Path, str], tmp_path: Path) -> None:
    corpus, gone = torn
    folder = quick("logmel", corpus=corpus, allow_missing=True)
    record = records.read(folder / "record.json")
    assert record["corpus"]["partitions"]["test1"] == {
        "listed": 26, "scored": 25, "missing": 1, "outside_range": record["runs"][0]["scores"]["test1"]["outside_range"]
    }  # fmt: skip
    assert "|partial:1|" in record["signature"]
    assert gone not in predictions(folder)["test1"]
    assert len(predictions(folder)["test1"]) == 25
    add(folder, tmp_path / "board")
    assert "1 without audio" in render(tmp_path / "board").readme


def test_scored_again_on_the_same_release(
    finished: Callable[[str], Path], release: Path, cache: Path, tmp_path: Path
) -> None:
    source = finished("logmel_words")
    out = score(source, corpus=release, out=tmp_path / "again", cache=cache, device="cpu")
    old, new = (records.read(folder / "record.json") for folder in (source, out))
    assert new["runs"] == old["runs"]
    assert new["summary"] == old["summary"]
    assert predictions(out, 2) == predictions(source, 2)
    assert new["trained"] == {"corpus": records.read_json(source / "settings.json")["corpus"], "frames": "f16"}
    assert new["system"] == old["system"]
    assert tree(out) == {
        "record.json", "settings.json",
        *(f"seed-{seed}/{name}" for seed in (1, 2) for name in ("predictions.parquet", "result.json")),
    }  # fmt: skip


def test_scored_on_another_release(finished: Callable[[str], Path], cache: Path, tmp_path: Path) -> None:
    source = finished("logmel_words")
    corpus = write_release(tmp_path / "c", version="1.11", utterances=160, seconds=(0.2, 0.5), seed=7)
    out = score(source, corpus=corpus, out=tmp_path / "there", cache=cache, device="cpu")
    record = records.read(out / "record.json")
    assert record["corpus"]["release"] == "1.11"
    assert record["trained"]["corpus"]["release"] == "1.10"
    assert record["corpus"]["labels_sha256"] != record["trained"]["corpus"]["labels_sha256"]
    assert [one["seed"] for one in record["runs"]] == [1, 2]
    assert sorted(predictions(out)["test1"]) == sorted(partitions_of(corpus)["test1"])
    assert "train" not in predictions(out)
    assert record["signature"].startswith("corpus:msp-podcast-1.11|")
    assert "|trained:msp-podcast-1.10/" in record["signature"]
    assert record["runs"][0]["epochs"] == 1
    labels = labels_of(corpus)
    found = predictions(out, 2)["test2"]
    expected = audmetric.concordance_cc([labels[name][1] for name in found], [row[1] for row in found.values()])
    assert record["runs"][1]["scores"]["test2"]["ccc"]["valence"]["value"] == pytest.approx(expected, abs=1e-6)
    add(out, tmp_path / "board")
    assert "self-reported, trained on MSP-Podcast 1.10" in render(tmp_path / "board").readme


def test_score_does_not_write_over_the_run(finished: Callable[[str], Path], release: Path, cache: Path) -> None:
    source = finished("mean_only")
    with pytest.raises(RecordError, match=r"holds a run with other settings: trained is null there and"):
        score(source, corpus=release, out=source, cache=cache, device="cpu")


def test_score_needs_a_finished_run(release: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no finished seed; expected a folder that `ser-bench run` made"):
        score(tmp_path, corpus=release, out=tmp_path / "out")


@pytest.mark.parametrize("name", ["logmel_words", "distilhubert_tinybert"])
def test_loaded_system_predicts_what_is_stored(finished: Callable[[str], Path], release: Path, name: str) -> None:
    folder = finished(name)
    system = ser_bench.load(folder)
    for utterance, stored in list(predictions(folder)["test2"].items())[:4]:
        text = (release / "Transcripts" / f"{utterance[:-4]}.txt").read_text().strip()
        found = system.predict(read_wave(release / "Audio" / utterance), text)
        assert list(found) == list(ATTRIBUTES)
        # 1e-4 on the scale of training: the stored frames are float16.
        assert list(found.values()) == pytest.approx(stored, abs=6e-4)


@pytest.mark.parametrize(("frames", "dtype", "label"), [("off", "float32", "f32-off"), ("store", "float32", "f32")])
def test_without_float16_frames_the_prediction_is_the_same(
    quick: Run, release: Path, frames: str, dtype: str, label: str
) -> None:
    folder = quick(frames=frames, frames_dtype=dtype)
    assert records.read(folder / "record.json")["frames"] == label
    system = ser_bench.load(folder)
    for utterance, stored in list(predictions(folder)["test1"].items())[:4]:
        found = system.predict(read_wave(release / "Audio" / utterance))
        assert list(found.values()) == pytest.approx(stored, abs=6e-6)  # 1e-6 on the scale of training


@pytest.mark.parametrize(
    ("plugin", "options", "error", "message"),
    [
        ("logmel", {"transcripts": "human"}, PluginError, "logmel reads no text, and --transcripts human was given"),
        (
            "logmel_words",
            {"transcripts": "none"},
            TranscriptError,
            "logmel_words reads text, and the transcript source is",
        ),
        (
            "logmel_words",
            {"transcripts": "whisper-base"},
            TranscriptError,
            "there are no transcripts called 'whisper-base' in ",
        ),
        (
            "mean_only",
            {"strategy": "frozen"},
            TrainingError,
            "mean_only does not come apart; nothing can be frozen",
        ),
        (
            "mean_only",
            {"strategy": "guess"},
            TrainingError,
            "strategy 'guess' is unknown; strategies are finetune, frozen",
        ),
        (
            "mean_only",
            {"audio": "logmel"},
            PluginError,
            "--plugin mean_only and --audio, --text or --head were both given",
        ),
        (
            "mean_only",
            {"head": "linear"},
            PluginError,
            "--plugin mean_only and --audio, --text or --head were both given",
        ),
        (None, {}, PluginError, "a composition needs --audio ENC, --text ENC or both; neither was given"),
        ("mean_only", {"seeds": (1, 1)}, TrainingError, r"seeds \[1, 1\] were given; expected different whole numbers"),
        ("mean_only", {"seeds": ()}, TrainingError, r"seeds \[\] were given"),
        ("mean_only", {"seeds": (-1,)}, TrainingError, r"seeds \[-1\] were given"),
        ("mean_only", {"device": "cuda:99"}, TrainingError, "--device cuda:99 was asked for, and torch sees"),
        (
            "mean_only",
            {"device": "abacus"},
            TrainingError,
            "--device abacus is not a device that this runs on; give cpu, cuda or cuda:N",
        ),
        ("mean_only", {"release": "1.10|labels:0"}, CorpusError, r"asked for 1\.10\|labels:0, the folder is"),
        ("logmel_word", {}, PluginError, "Did you mean 'logmel_words'"),
    ],
)
def test_what_cannot_be_run(
    quick: Run, tmp_path: Path, plugin: str | None, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        quick(plugin, **options)
    assert not (tmp_path / "run").exists()


def test_a_release_name_that_would_forge_a_signature(quick: Run, release: Path, tmp_path: Path) -> None:
    """A folder without a version in its name takes any claim."""
    shutil.copytree(release, tmp_path / "corpus")
    with pytest.raises(
        RecordError, match=r"cannot go into a record, at corpus/release: '1\.10\|labels:0' does not match"
    ):
        quick("mean_only", corpus=tmp_path / "corpus", release="1.10|labels:0")
    assert not (tmp_path / "run").exists()


def test_a_text_system_needs_transcripts(cache: Path, tmp_path: Path) -> None:
    corpus = write_release(tmp_path / "c", utterances=40, seconds=(0.1, 0.2), transcripts=False)
    every = "24 of 24 train, 6 of 6 development, 6 of 6 test1, 4 of 4 test2"
    with pytest.raises(TranscriptError, match=rf"{every} utterances have no human transcript \(first: MSP-PODCAST_"):
        run("logmel_words", corpus=corpus, out=tmp_path / "run", cache=cache, device="cpu")
    corpus = write_release(tmp_path / "d", utterances=40, seconds=(0.1, 0.2))
    gone = partitions_of(corpus)["test1"][2]
    (corpus / "Transcripts" / f"{gone[:-4]}.txt").unlink()
    with pytest.raises(TranscriptError, match=rf"1 of 6 test1 utterances have no human transcript \(first: {gone}\)"):
        run("logmel_words", corpus=corpus, out=tmp_path / "run", cache=cache, device="cpu")


def test_an_empty_transcript_is_allowed_and_counted(release: Path, cache: Path, tmp_path: Path) -> None:
    corpus = tmp_path / release.name
    shutil.copytree(release, corpus)
    parts = partitions_of(release)
    for name in (parts["train"][0], parts["test1"][0], parts["test2"][0]):
        (corpus / "Transcripts" / f"{name[:-4]}.txt").write_text("\n")
    folder = run("logmel_words", corpus=corpus, out=tmp_path / "run", cache=cache, device="cpu", changes={"epochs": 1})
    assert records.read(folder / "record.json")["transcripts"]["empty"] == 2  # train is not scored


@pytest.mark.parametrize("absent", ["train", "development"])
def test_training_needs_train_and_development(cache: Path, tmp_path: Path, absent: str) -> None:
    counts = {"train": 20, "development": 20, "test1": 20}
    del counts[absent]
    corpus = write_release(tmp_path / "c", utterances=counts, seconds=(0.1, 0.2))
    with pytest.raises(TrainingError, match=rf"has no {absent} partition, which training needs"):
        run("mean_only", corpus=corpus, out=tmp_path / "run", cache=cache, device="cpu")


def test_local_weights_are_named_by_their_digest(quick: Run, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    with pytest.raises(
        WeightsError, match=r"the weights folder .*weights holds no \.safetensors or \.bin file\. Name a che"
    ):
        quick("distilhubert", weights=[str(folder)])


def test_a_score_comes_with_its_signature(finished: Callable[[str], Path]) -> None:
    line = records.read(finished("logmel") / "record.json")["signature"]
    keys = [part.partition(":")[0] for part in line.split("|")]
    assert keys == [
        "corpus", "labels", "train", "test", "system", "head", "depth", "weights", "strategy", "recipe", "frames",
        "partial", "seeds", "metric", "v",
    ]  # fmt: skip
    assert "|train:none|test:none+clean|system:logmel@" in line
