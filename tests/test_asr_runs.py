"""Runs on machine transcripts and degraded audio: what is joined, what the record says, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from transcripts import made

from ser_bench import conditions, prepare, records
from ser_bench.corpus import Release, read_wave
from ser_bench.corpus.msp_podcast import MspPodcast, load
from ser_bench.errors import ConditionError, RecordError, TranscriptError
from ser_bench.runner import run, score
from ser_bench.testing import write_release
from ser_bench.transcripts.wer import partition_wer

COUNTS = {"train": 40, "development": 24, "test1": 26, "test2": 22, "test3": 3}
NOISE = "noise:white@10dB"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("corpus"), utterances=COUNTS, seconds=(0.2, 0.6))


@pytest.fixture(scope="module")
def cache(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds one source, clean and under noise."""
    folder = tmp_path_factory.mktemp("cache")
    made.write(release, folder)
    made.write(release, folder, condition=conditions.parse(NOISE).key, hear=lambda text: "noise")
    return folder


@pytest.fixture(scope="module")
def trained(release: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """logmel_words, trained on the source."""
    out = tmp_path_factory.mktemp("runs") / "asr"
    return run(
        "logmel_words", corpus=release, transcripts="whisper-made", changes={"epochs": 1}, out=out, cache=cache,
        device="cpu",
    )  # fmt: skip


def label() -> str:
    return made.source().label


def test_the_builder_joins_a_source_by_its_bare_name(release: Path, cache: Path) -> None:
    builder = MspPodcast(release, transcripts="whisper-made", cache=cache)
    assert builder.transcripts == label()
    builder.download_and_prepare()
    human = Release.open(release, cache=cache).transcripts
    for name, part in builder.as_dataset().items():
        said = dict(zip(part["utterance"], part["transcript"], strict=True))
        assert said == {u: made.misheard(human.get(u, "nothing known")) for u in said}, name
    both = [load(release, transcripts=name, cache=cache)["train"]["transcript"] for name in ("human", label())]
    assert both[0] != both[1]


def test_the_record_of_a_run_on_asr_text(trained: Path, release: Path, cache: Path) -> None:
    record = records.read(trained / "record.json")
    assert (record["transcripts"]["train"], record["transcripts"]["test"]) == (label(), label())
    assert f"|train:{label()}|test:{label()}+clean|" in record["signature"]
    wer = record["transcripts"]["wer"]
    assert wer.keys() == {"train", "development", "test1", "test2"}  # test3 has no human text
    opened = Release.open(release, cache=cache)
    human = opened.transcripts
    for name, found in wer.items():
        rows = opened.rows(name, texts={u: made.misheard(text) for u, text in human.items()})
        expected = partition_wer(rows, [human[u] for u in rows.utterance], rows.transcript)
        assert found == expected.as_record()
        assert found["value"] == pytest.approx(found["errors"] / found["words"], abs=1e-6)
        assert found["errors"] > 0
    for one in record["runs"]:
        for name, block in one["scores"].items():
            bands = block["slices"]["wer"]
            assert sum(band["count"] for band in bands.values()) == COUNTS[name]


def test_test3_is_predicted_where_it_was_transcribed(trained: Path) -> None:
    assert len((trained / "seed-1" / "test3.csv").read_text().splitlines()) == 1 + COUNTS["test3"]


def test_without_human_text_the_word_error_rate_is_null(release: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(release, tmp_path / release.name)
    made.write(copy, tmp_path / "cache")
    shutil.rmtree(copy / "Transcripts")
    folder = run(
        "logmel_words", corpus=copy, transcripts=label(), changes={"epochs": 1}, out=tmp_path / "run",
        cache=tmp_path / "cache", device="cpu",
    )  # fmt: skip
    record = records.read(folder / "record.json")
    assert record["transcripts"]["wer"] is None
    assert "wer" not in record["runs"][0]["scores"]["test1"]["slices"]


def test_score_reads_what_the_run_was_trained_on_unless_told(
    trained: Path, release: Path, cache: Path, tmp_path: Path
) -> None:
    same = records.read(score(trained, corpus=release, out=tmp_path / "same", cache=cache) / "record.json")
    assert same["transcripts"]["test"] == label()
    before = records.read(trained / "record.json")
    assert same["runs"][0]["scores"] == before["runs"][0]["scores"]
    human = score(trained, corpus=release, transcripts="human", out=tmp_path / "human", cache=cache)
    record = records.read(human / "record.json")
    assert (record["transcripts"]["train"], record["transcripts"]["test"]) == (label(), "human")
    assert record["transcripts"]["wer"] is None
    assert f"|train:{label()}|test:human+clean|" in record["signature"]


def test_scored_under_a_condition(trained: Path, release: Path, cache: Path, tmp_path: Path) -> None:
    folder = score(trained, corpus=release, condition="noise:white@10.0dB", out=tmp_path / "noisy", cache=cache)
    record = records.read(folder / "record.json")
    assert record["corpus"]["condition"] == NOISE
    assert record["trained"]["corpus"]["condition"] == "clean"
    assert f"|test:{label()}+{NOISE}|" in record["signature"]
    # The text is what was heard under noise, whose words are all wrong; the noisy audio was never made of train.
    assert set(record["transcripts"]["wer"]) == {"development", "test1", "test2"}
    assert all(part["value"] >= 0.9 for part in record["transcripts"]["wer"].values())
    clean = records.read(trained / "record.json")
    assert record["runs"][0]["scores"]["test1"] != clean["runs"][0]["scores"]["test1"]


def test_under_a_condition_the_texts_of_train_are_not_needed(
    trained: Path, release: Path, cache: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    made.write(release, kept)
    made.write(release, kept, condition=conditions.parse(NOISE).key, hear=lambda text: "noise", without=("train",))
    found = [
        score(trained, corpus=release, condition=NOISE, out=tmp_path / str(number), cache=place)
        for number, place in enumerate((kept, cache))
    ]
    settings = [records.read_json(folder / "settings.json") for folder in found]
    assert settings[0] == settings[1]
    assert predictions_of(found[0]) == predictions_of(found[1])


def predictions_of(run: Path) -> str:
    return str(records.read_json(run / "seed-1" / "result.json")["run"]["predictions_sha256"])


def test_a_score_of_another_training_is_not_added_to(trained: Path, release: Path, cache: Path, tmp_path: Path) -> None:
    folder = score(trained, corpus=release, out=tmp_path / "scored", cache=cache)
    assert records.read_json(folder / "seed-1" / "result.json")["source"] == predictions_of(trained)
    before = (folder / "seed-1" / "result.json").read_bytes()
    assert score(trained, corpus=release, out=folder, cache=cache) == folder  # what is there is left alone
    assert (folder / "seed-1" / "result.json").read_bytes() == before
    copy = shutil.copytree(trained, tmp_path / "again")
    result = records.read_json(copy / "seed-1" / "result.json")
    result["run"]["predictions_sha256"] = "0" * 64
    (copy / "seed-1" / "result.json").write_text(records.canonical(result))
    with pytest.raises(RecordError) as told:
        score(copy, corpus=release, out=folder, cache=cache)
    assert str(told.value) == (
        f"{folder / 'seed-1'} was scored with another training than seed 1 of {copy} is now. Remove that folder to "
        "score the seed again, or give another --out."
    )


def test_a_condition_degrades_what_the_front_end_hears(release: Path, cache: Path) -> None:
    from ser_bench.host import host
    from ser_bench.system import build

    plan = host().plan("logmel")
    module = build(plan, {"audio": "random"}, plan.recipe)
    opened = prepare.open_corpus(release, transcripts="none", condition=NOISE, cache=cache)
    made_of = prepare.make_inputs(module, plan, opened, prepare.Storing(cache=cache, dtype="float32"), device=_cpu())
    rows = opened.rows["test1"]
    noisy = conditions.parse(NOISE)(read_wave(rows.path[3]), rows.utterance[3])
    expected = prepare.audio_array(module, noisy, _cpu())
    np.testing.assert_allclose(made_of["test1"].audio[3], expected, rtol=1e-6, atol=1e-6)


def test_texts_heard_under_two_conditions_never_share_a_store(release: Path, cache: Path, tmp_path: Path) -> None:
    from ser_bench.host import host
    from ser_bench.system import build, fit_texts

    shutil.copytree(cache / "transcripts", tmp_path / "transcripts")
    plan = host().plan("logmel_words")
    module = build(plan, {"audio": "random", "text": "random"}, plan.recipe)
    fit_texts(module, [*Release.open(release, cache=cache).transcripts.values()] * 3)
    storing = prepare.Storing(cache=tmp_path)
    for condition in ("clean", NOISE, "clean"):
        opened = prepare.open_corpus(release, transcripts=label(), condition=condition, cache=tmp_path)
        opened.rows.pop("test3")
        texts = prepare.make_inputs(module, plan, opened, storing, device=_cpu())["test1"].text
        assert texts is not None
        said = {tuple(texts[number].tolist()) for number in range(len(texts))}
        assert (len(said) == 1) == (condition == NOISE), (condition, said)
    kept = [folder for folder in (tmp_path / "frames").iterdir() if '"text"' in (folder / "key.json").read_text()]
    assert len(kept) == 2


def _cpu():
    import torch

    return torch.device("cpu")


def test_missing_transcripts_are_counted_with_the_command_that_makes_them(release: Path, tmp_path: Path) -> None:
    made.write(release, tmp_path, without=("test1", "test3"))
    with pytest.raises(TranscriptError) as raised:
        run("logmel_words", corpus=release, transcripts="whisper-made", out=tmp_path / "run", cache=tmp_path)
    assert str(raised.value).startswith(f"26 of 26 test1 utterances have no {label()} transcript (first: ")
    assert (
        f"Make them with `ser-bench transcribe --corpus {release} --asr whisper-made --device cpu --cache {tmp_path}`"
        in str(raised.value)
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(TranscriptError, match=r"26 of 112 utterances of .* have no transcript of whisper-made@"):
        MspPodcast(release, transcripts="whisper-made", cache=tmp_path)


def test_a_source_under_another_condition_is_missing(trained: Path, release: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TranscriptError,
        match=r"24 of 24 development, 26 of 26 test1, 22 of 22 test2 .* under telephone .*--condition telephone",
    ):
        score(trained, corpus=release, condition="telephone", out=tmp_path / "out", cache=cache)
    assert not (tmp_path / "out").exists()


def test_what_is_refused(trained: Path, release: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match="there are no transcripts called 'whisper-tinny'"):
        run("logmel_words", corpus=release, transcripts="whisper-tinny", out=tmp_path / "run", cache=cache)
    with pytest.raises(TranscriptError, match="logmel_words reads text, and the transcript source is 'none'"):
        run("logmel_words", corpus=release, transcripts="none", out=tmp_path / "run", cache=cache)
    with pytest.raises(ConditionError, match="noise:whte"):
        score(trained, corpus=release, condition="noise:whte", out=tmp_path / "out", cache=cache)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()


def test_two_sources_of_one_name_must_be_told_apart(release: Path, tmp_path: Path) -> None:
    labels = [made.write(release, tmp_path, made=made.source(beam=beam)) for beam in (1, 5)]
    assert labels[0] != labels[1]
    with pytest.raises(TranscriptError) as raised:
        run("logmel_words", corpus=release, transcripts="whisper-made", out=tmp_path / "run", cache=tmp_path)
    assert all(name in str(raised.value) for name in labels)
