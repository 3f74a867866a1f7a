"""Every bad input has its own message, and none hides another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ser_bench.corpus import Release, check
from ser_bench.corpus.faults import KINDS, Faults
from ser_bench.errors import CorpusError
from ser_bench.testing import write_release, write_wav

FIRST = "MSP-PODCAST_0001_0001.wav"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_release(tmp_path, utterances={"train": 8, "test1": 4}, seconds=(0.1, 0.2), tables=["csv"])


def messages(root: Path) -> dict[str, str]:
    return {fault.kind: fault.message for fault in check(Release.open(root)).faults}


def edit_row(root: Path, column: str, value: str, *, row: int = 0) -> str:
    """Set a cell of the label table; return the row's utterance."""
    path = root / "Labels" / "labels_consensus.csv"
    header, *lines = path.read_text().splitlines()
    cells = lines[row].split(",")
    name = cells[0]
    cells[header.split(",").index(column)] = value
    lines[row] = ",".join(cells)
    path.write_text("\n".join([header, *lines]) + "\n")
    return name


def test_a_sound_release_has_no_fault(root: Path) -> None:
    assert messages(root) == {}


def test_not_a_release_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "Music").mkdir()
    with pytest.raises(CorpusError) as told:
        Release.open(tmp_path)
    text = str(told.value)
    assert f"{tmp_path} is not an MSP-Podcast release" in text
    assert "labels_consensus.csv" in text
    assert "labels_concensus.json" in text
    assert "under Labels/, labels/ and label/" in text
    assert "found Music" in text
    with pytest.raises(CorpusError, match=r"there is no folder .*absent\. Give the folder that holds"):
        Release.open(tmp_path / "absent")


def test_unknown_partition_word(root: Path) -> None:
    (root / "Partitions.txt").unlink()
    name = edit_row(root, "Split_Set", "Trian")
    found = messages(root)["partition-word"]
    assert found.startswith(
        f"unknown partition words: 1 in Labels/labels_consensus.csv (first: 'Trian' of {name}). Known are"
    )


def test_duplicate_utterance_in_csv(root: Path) -> None:
    path = root / "Labels" / "labels_consensus.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    name = lines[1].split(",")[0]
    assert (
        f"utterances listed more than once: 1 in Labels/labels_consensus.csv (first: {name})"
        in messages(root)["utterance-twice"]
    )


def test_duplicate_utterance_in_json(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances={"train": 2}, audio=False, tables=["json"])
    path = root / "Labels" / "labels_consensus.json"
    text = path.read_text()
    name, entry = next(iter(json.loads(text).items()))
    path.write_text(text[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}")
    assert f"(first: {name})" in messages(root)["utterance-twice"]


@pytest.mark.parametrize("value", ["0.9", "7.1", "nan", "", "high", "inf"])
def test_label_that_is_no_number_in_range(root: Path, value: str) -> None:
    name = edit_row(root, "EmoVal", value)
    found = messages(root)["label-value"]
    assert (
        f"labels that are not a number in 1..7: 1 in Labels/labels_consensus.csv (first: EmoVal {value!r} of {name})"
        in found
    )


def test_names_that_tell_no_podcast(root: Path) -> None:
    edit_row(root, "FileName", "clip_17.wav")
    (root / "Partitions.txt").unlink()
    assert "(first: clip_17.wav). Use the release's own names." in messages(root)["utterance-name"]


def test_missing_column_and_short_row_and_bad_csv(root: Path) -> None:
    path = root / "Labels" / "labels_consensus.csv"
    text = path.read_text()
    path.write_text(text.replace("EmoDom", "Dominance", 1))
    found = messages(root)["table-columns"]
    assert "columns that the label table must have and has not: 1" in found
    assert "which has FileName,EmoClass,EmoAct,EmoVal,Dominance" in found
    assert "(first: EmoDom)" in found
    path.write_text(text + "MSP-PODCAST_0001_0099.wav,N\n")
    assert "(first: line 14: 2 of 8)" in messages(root)["table-row"]


def test_unreadable_json_names_the_place(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances={"train": 2}, audio=False)
    (root / "Labels" / "labels_consensus.json").write_text('{"a": ')
    assert "Labels/labels_consensus.json: Expecting value: line 1 column 7" in messages(root)["table-unreadable"]
    (root / "Labels" / "labels_consensus.json").write_text("[1]")
    assert "expected an object of objects" in messages(root)["table-unreadable"]


def test_partition_list_disagrees(root: Path) -> None:
    path = root / "Partitions.txt"
    lines = path.read_text().splitlines()
    name = lines[0].split("; ")[1]
    path.write_text("\n".join([f"Test1; {name}", *lines[1:-1], "Train; MSP-PODCAST_0099_0001.wav", "a stray line"]))
    found = messages(root)
    assert "differs between the partition list and the label table: 3 in Partitions.txt" in found["partition-list"]
    assert f"{name} is test1 in the list and train in the table" in found["partition-list"]
    assert "MSP-PODCAST_0099_0001.wav is train in the list and absent in the table" in found["partition-list"]
    assert "lines of the partition list that are not `<partition>; <name>.wav`: 1" in found["partition-line"]


def test_csv_and_json_disagree(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances={"train": 4}, audio=False)
    path = root / "Labels" / "labels_consensus.json"
    table = json.loads(path.read_text())
    names = sorted(table)
    table[names[0]]["EmoVal"] += 0.001
    table[names[1]]["EmoVal"] += 0.00001  # beyond four decimals
    table[names[2]]["Split_Set"] = "Test2"
    del table[names[3]]
    path.write_text(json.dumps(table))
    found = messages(root)["csv-json"]
    assert "values that differ between the CSV and the JSON label table: 3 " in found
    assert f"{names[3]} is only in the CSV" in found
    assert f"{names[0]} EmoVal" in found
    assert f"{names[2]} partition train in the CSV, test2 in the JSON" in found


def test_swapped_columns_of_the_json_are_noticed(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances={"train": 4}, audio=False)
    path = root / "Labels" / "labels_consensus.json"
    table = json.loads(path.read_text())
    for entry in table.values():
        entry["EmoVal"], entry["EmoDom"] = entry["EmoDom"], entry["EmoVal"]
    path.write_text(json.dumps(table))
    assert "EmoVal" in messages(root)["csv-json"]


def test_speaker_list_disagrees(tmp_path: Path) -> None:
    root = write_release(tmp_path, version="1.11", utterances={"train": 3}, audio=False)
    path = root / "Speaker_ids.txt"
    path.write_text(path.read_text().replace(f"{FIRST};100", f"{FIRST}; 999"))
    assert f"(first: {FIRST} is 999 in the list and 100 in the table)" in messages(root)["speaker-list"]


def test_odd_words_are_noted(root: Path) -> None:
    one = edit_row(root, "EmoClass", "Q")
    two = edit_row(root, "Gender", "robot", row=1)
    found = messages(root)
    assert f"(first: 'Q' of {one})" in found["emotion-word"]
    assert f"(first: 'robot' of {two})" in found["gender-word"]
    Release.open(root).require_sound()


def test_every_audio_fault_has_its_message(root: Path) -> None:
    names = sorted(p.name for p in (root / "Audio").iterdir())
    audio = [root / "Audio" / name for name in names]
    audio[0].unlink()
    audio[1].write_bytes(b"")
    write_wav(audio[2], np.zeros(0))
    audio[3].write_bytes(b"not a wav file, but long enough to hold a header of 44 bytes")
    audio[4].write_bytes(audio[4].read_bytes()[:-100])
    write_wav(audio[5], np.zeros((4_410, 2)), rate=44_100)
    write_wav(root / "Audio" / "MSP-PODCAST_0055_0001.wav", np.zeros(10))
    write_wav(root / "Audio" / "more" / names[6], np.zeros(10))
    (root / "Audio" / "more" / names[7]).write_bytes(audio[7].read_bytes())
    (root / "Audio" / "._hidden.wav").write_bytes(b"")
    found = messages(root)
    assert found["audio-missing"].startswith(
        f"listed utterances without audio: 1 in Audio/ (first: {names[0]} of train)"
    )
    assert "--allow-missing" in found["audio-missing"]
    assert (
        f"wav files without a sample: 2 in Audio/ (first: {names[1]}: 0 bytes; {names[2]}: 0 samples)"
        in found["audio-empty"]
    )
    assert (
        f"wav files that cannot be read: 1 in Audio/ (first: {names[3]}: not a RIFF WAVE file)"
        in found["audio-unreadable"]
    )
    held = audio[4].stat().st_size - 44
    assert f"{names[4]}: header says {held + 100:,} bytes, file holds {held:,}" in found["audio-cut"]
    assert (
        f"wav files that are not 16 kHz mono: 1 in Audio/ (first: {names[5]}: 44,100 Hz, 2 channels)"
        in found["audio-format"]
    )
    assert "that no label table lists: 1 (first: MSP-PODCAST_0055_0001.wav)" in found["audio-unlisted"]
    assert f"Audio/{names[6]} and Audio/more/{names[6]}" in found["file-twice"]
    assert f"Audio/{names[7]} and Audio/more/{names[7]}" in found["file-copy"]


def test_every_transcript_fault_has_its_message(root: Path) -> None:
    names = sorted(p.name for p in (root / "Transcripts").iterdir())
    texts = [root / "Transcripts" / name for name in names]
    wavs = [name.replace(".txt", ".wav") for name in names]
    texts[0].unlink()
    texts[1].write_bytes("Ein Café.".encode("latin-1"))
    texts[2].write_text("one line\n\n  and another \n")
    texts[3].write_text(" \n")
    texts[4].write_text("word " * 201)
    texts[5].write_bytes("\ufeffWith a mark.".encode())
    found = messages(root)
    assert (
        f"listed utterances without a transcript: 1 in Transcripts/ (first: {wavs[0]} of "
        in found["transcript-missing"]
    )
    assert f"not UTF-8: 1 in Transcripts/ (first: {wavs[1]}). They are read as latin-1" in found["transcript-encoding"]
    assert f"several lines: 1 in Transcripts/ (first: {wavs[2]}). The lines are joined" in found["transcript-lines"]
    assert f"without a word: 1 in Transcripts/ (first: {wavs[3]}). They are allowed" in found["transcript-empty"]
    assert f"transcripts over 1,000 characters: 1 in Transcripts/ (first: {wavs[4]})" in found["transcript-long"]
    opened = Release.open(root)
    assert wavs[0] not in opened.transcripts
    assert opened.transcripts[wavs[1]] == "Ein Café."
    assert opened.transcripts[wavs[2]] == "one line and another"
    assert opened.transcripts[wavs[3]] == ""
    assert opened.transcripts[wavs[5]] == "With a mark."


def test_transcripts_left_packed_and_audio_left_packed_are_told(tmp_path: Path) -> None:
    root = write_release(tmp_path, version="2.0", utterances={"train": 2}, audio=False, transcripts=False)
    (root / "Transcripts.zip").write_bytes(b"")
    (root / "Audios.tar.gz").write_bytes(b"")
    found = messages(root)
    assert "(first: Transcripts.zip). Unpack it" in found["transcripts-packed"]
    assert "(first: Audios.tar.gz). Unpack it" in found["audio-packed"]
    with pytest.raises(CorpusError, match="no transcripts"):
        Release.open(root).require_sound(allow_missing_audio=True, need_transcripts=True)


def test_faults_do_not_hide_each_other_and_are_raised_together(root: Path) -> None:
    edit_row(root, "EmoAct", "8")
    edit_row(root, "Split_Set", "Mystery", row=1)
    edit_row(root, "FileName", "odd.wav", row=2)
    next((root / "Audio").iterdir()).write_bytes(b"")
    next((root / "Transcripts").iterdir()).unlink()
    with pytest.raises(CorpusError) as told:
        Release.open(root).require_sound(need_transcripts=True)
    first, *lines = str(told.value).splitlines()
    assert first == f"{root} cannot be used as it is; `ser-bench corpus check DIR` gives the full report."
    text = "\n".join(lines)
    for kind in (
        "label-value",
        "partition-word",
        "utterance-name",
        "partition-list",
        "audio-empty",
        "transcript-missing",
    ):
        assert KINDS[kind].what in text
    assert "Mystery" in text


def test_missing_audio_and_transcripts_block_only_what_needs_them(root: Path) -> None:
    next((root / "Audio").iterdir()).unlink()
    next((root / "Transcripts").iterdir()).unlink()
    opened = Release.open(root)
    with pytest.raises(CorpusError, match="listed utterances without audio: 1") as told:
        opened.require_sound()
    assert "transcript" not in str(told.value).replace("--transcripts", "")
    opened.require_sound(allow_missing_audio=True)
    with pytest.raises(CorpusError, match="without a transcript: 1"):
        opened.require_sound(allow_missing_audio=True, need_transcripts=True)
    durations = np.concatenate([opened.rows(name).duration for name in opened.partitions])
    assert np.isnan(durations).sum() == 1


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances={"train": 1}, audio=False, tables=["csv"])
    path = root / "Labels" / "labels_consensus.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    (root / "Partitions.txt").unlink()
    with pytest.raises(CorpusError, match="lists no utterance"):
        Release.open(root).require_sound()


def test_only_the_first_three_examples_are_kept() -> None:
    faults = Faults()
    for i in range(1_200):
        faults.add("audio-missing", f"{i}.wav", "Audio/")
    (fault,) = faults
    assert (fault.count, fault.examples) == (1_200, ("0.wav", "1.wav", "2.wav"))
    assert fault.as_dict()["severity"] == "error"
    assert "1,200 in Audio/" in fault.message
