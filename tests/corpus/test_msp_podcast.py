from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from ser_bench.corpus import MspPodcast, Release, load, msp_podcast, rows, texts, wavs
from ser_bench.corpus import release as release_module
from ser_bench.errors import CorpusError, StoreError, TranscriptError
from ser_bench.testing import write_release, write_wav


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_release(tmp_path, utterances=30, raters=3, seconds=(0.1, 0.2))


def fingerprint(root: Path, **options: str) -> str:
    return MspPodcast(root, **options).config_id  # type: ignore[arg-type]


def test_the_class_builds_what_the_release_holds(root: Path) -> None:
    builder = MspPodcast(data_dir=root, release="1.10", transcripts="human")
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    opened = Release.open(root)
    assert tuple(dataset) == opened.partitions == ("train", "development", "test1", "test2")
    assert not any(isinstance(feature, datasets.Audio) for feature in dataset["train"].features.values())
    for partition in dataset:
        ours, theirs = rows(dataset, partition), opened.rows(partition)
        for column in ("partition", "utterance", "path", "emotion", "speaker", "gender", "podcast", "transcript"):
            assert list(getattr(ours, column)) == list(getattr(theirs, column)), column
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.duration, theirs.duration)
        for row in dataset[partition]:
            said = opened.raters[row["utterance"]]
            assert (row["rater"], row["rater_emotion"]) == (said.rater, said.emotion)
            got = np.array([row[f"rater_{name}"] for name in ("arousal", "valence", "dominance")]).T
            np.testing.assert_array_equal(got, said.values)
            assert [row["arousal"], row["valence"], row["dominance"]] == pytest.approx(got.mean(axis=0), abs=1e-6)


def test_only_partitions_that_exist_are_splits_and_test3_has_no_labels(tmp_path: Path) -> None:
    root = write_release(tmp_path, version="2.0", utterances={"train": 3, "test3": 2}, seconds=(0.1, 0.2))
    dataset = load(root)
    assert list(dataset) == ["train", "test3"]
    part = rows(dataset, "test3")
    assert np.isnan(part.labels).all()
    assert part.transcript == [None, None]
    assert dataset["test3"]["rater"][:] == [[], []]
    with pytest.raises(CorpusError, match="the dataset has no partition 'test1'; it has train, test3"):
        rows(dataset, "test1")


def test_rows_follow_a_filtered_dataset(root: Path) -> None:
    dataset = load(root)
    part = dataset["train"].select([5, 2])
    kept = rows(datasets.DatasetDict({"train": part}), "train")
    assert list(kept.utterance) == [dataset["train"][5]["utterance"], dataset["train"][2]["utterance"]]
    assert kept.labels[1, 1] == dataset["train"][2]["valence"]


def test_transcripts_none_gives_rows_without_text(tmp_path: Path) -> None:
    root = write_release(tmp_path, version="1.8", utterances=20, seconds=(0.1, 0.2))
    with pytest.raises(CorpusError, match="no transcripts"):
        load(root)
    assert set(rows(load(root, transcripts="none"), "train").transcript) == {None}
    assert MspPodcast(root, need_transcripts=False).source.rows("train").transcript[0] is None
    with pytest.raises(TranscriptError, match="there are no transcripts called 'whisper-base'"):
        load(root, transcripts="whisper-base")


def test_a_bad_row_is_a_corpus_error_before_anything_is_built(root: Path) -> None:
    path = root / "Labels" / "labels_consensus.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(CorpusError, match="utterances listed more than once: 1"):
        load(root)
    assert not list(Path(os.environ["SER_BENCH_CACHE"]).rglob("*.arrow"))


def test_missing_audio_is_refused_unless_allowed(root: Path) -> None:
    gone = next(iter(Release.open(root).rows("test2").path))
    Path(gone).unlink()
    with pytest.raises(CorpusError, match=r"without audio: 1 in Audio/"):
        load(root)
    part = rows(load(root, allow_missing_audio=True), "test2")
    assert np.isnan(part.duration).tolist() == [True, False, False]
    assert part.path[0] == gone


def test_a_second_load_reads_no_file_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(function: Callable[[str], object]) -> Callable[[str], object]:
        return lambda path: (read.append(path), function(path))[1]

    monkeypatch.setattr(release_module, "read_header", counting(wavs.read_header))
    monkeypatch.setattr(release_module, "read_transcript", counting(texts.read_transcript))
    first = load(root)
    assert len(read) == 2 * 30
    read.clear()
    built = {p: p.stat().st_mtime_ns for p in Path(os.environ["SER_BENCH_CACHE"]).rglob("*.arrow")}
    assert built
    second = load(root)
    assert read == []
    assert {p: p.stat().st_mtime_ns for p in Path(os.environ["SER_BENCH_CACHE"]).rglob("*.arrow")} == built
    assert first["train"]._fingerprint == second["train"]._fingerprint
    changed = Path(Release.open(root).rows("test1").path[0])
    write_wav(changed, np.zeros(4_000))
    third = load(root)
    assert read == [str(changed)]
    assert rows(third, "test1").duration[0] == 0.25
    assert third["test1"]._fingerprint != second["test1"]._fingerprint


@pytest.mark.parametrize(
    "file", ["Labels/labels_consensus.csv", "Labels/labels_detailed.csv", "Transcripts/MSP-PODCAST_0001_0001.txt"]
)
def test_an_edited_file_gives_another_fingerprint(tmp_path: Path, file: str) -> None:
    root = write_release(tmp_path, utterances=30, seconds=(0.1, 0.2), tables=["csv"])
    before = fingerprint(root)
    assert fingerprint(root) == before
    path = root / file
    edited = path.read_text().replace("Sad", "Fear").replace("Male", "Female").replace("day", "night")
    assert edited != path.read_text()
    path.write_text(edited)
    assert fingerprint(root) != before


def test_an_edited_label_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances=30, seconds=(0.1, 0.2), tables=["csv"])
    path = root / "Labels" / "labels_consensus.csv"
    before, status = fingerprint(root), path.stat()
    text = path.read_text()
    name, emotion, arousal, *_ = text.splitlines()[1].split(",")
    path.write_text(text.replace(",".join([name, emotion, arousal]), ",".join([name, emotion, "2" + arousal[1:]])))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert arousal[0] != "2"
    assert fingerprint(root) != before


def test_an_edited_transcript_is_read_and_built_anew(root: Path) -> None:
    name = load(root)["train"][0]["utterance"]
    (root / "Transcripts" / name.replace(".wav", ".txt")).write_text("Something else entirely..\n")
    assert load(root)["train"][0]["transcript"] == "Something else entirely.."
    (root / "Transcripts" / name.replace(".wav", ".txt")).write_text("Something of same size...\n")
    assert load(root)["train"][0]["transcript"] == "Something of same size..."


def test_claims_and_transcript_sources_do_not_share_a_build(root: Path) -> None:
    plain = root.rename(root.parent / "corpus")
    prints = [fingerprint(plain), fingerprint(plain, release="1.10"), fingerprint(plain, transcripts="none")]
    assert len(set(prints)) == 3


def test_a_copy_elsewhere_has_its_own_paths(root: Path, tmp_path: Path) -> None:
    load(root)
    copy = tmp_path / "elsewhere" / root.name
    shutil.copytree(root, copy)
    assert all(Path(path).is_relative_to(copy) for path in rows(load(copy), "train").path)


def test_a_damaged_index_is_read_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(root)
    store = next(Path(os.environ["SER_BENCH_CACHE"]).rglob("*.wavs-1.json"))
    store.write_text("{")
    assert np.isfinite(rows(load(root), "train").duration).all()
    assert "what it held is read again from the release" in caplog.text


def test_progress_counts_the_files_that_are_read(root: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    load(root, progress=lambda *step: seen.append(step))
    assert seen == [("wav headers", 30, 30), ("transcripts", 30, 30)]
    seen.clear()
    load(root, progress=lambda *step: seen.append(step))
    assert seen == []


def test_a_cache_that_cannot_be_written_is_told(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*/file/corpus/"):
        load(root, cache=tmp_path / "file")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(msp_podcast.MspPodcast, "_generate_examples", full)
    with pytest.raises(StoreError, match=r"cannot build the dataset in .*No space left on device.*Free some space"):
        load(root)
