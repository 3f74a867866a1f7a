"""The demo release: what is in it, and that unpacking it is all or nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_bench.corpus import demo
from ser_bench.errors import CorpusError

NAME = re.compile(r"MSP-PODCAST_(\d{4})_(\d{4})(?:_(\d{4}))?\.wav")
SIZES = {"Train": 420, "Development": 110, "Test1": 160, "Test2": 130}
LETTERS = {
    "Angry": "A",
    "Sad": "S",
    "Happy": "H",
    "Surprise": "U",
    "Fear": "F",
    "Disgust": "D",
    "Contempt": "C",
    "Neutral": "N",
}


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    return demo.unpack_demo(tmp_path_factory.mktemp("demo") / "release")


@pytest.fixture(scope="session")
def rows(release):
    with (release / "Labels/labels_consensus.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def of(rows, split, column):
    return {row[column] for row in rows if row["Split_Set"] == split}


def podcasts(rows, *splits):
    return {NAME.fullmatch(row["FileName"])[1] for row in rows if row["Split_Set"] in splits}


def raters(release):
    found = {}
    with (release / "Labels/labels_detailed.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["FileName"], []).append(row["EmoDetail"])
    return found


def values(detail):
    return [float(x) for x in re.fullmatch(r".*; A:([\d.]+); V:([\d.]+); D:([\d.]+);", detail).groups()]


def words(text):
    return " ".join(re.findall(r"[a-z0-9]+", re.sub(r"\[.*?\]", " ", text).lower()))


def test_the_layout_is_that_of_v1_10(release, rows):
    assert sorted(p.name for p in release.iterdir()) == [
        "Audio",
        "Labels",
        "Partitions.txt",
        "Transcripts",
        "readme.txt",
    ]
    assert sorted(p.name for p in (release / "Labels").iterdir()) == [
        "labels.txt",
        "labels_consensus.csv",
        "labels_consensus.json",
        "labels_detailed.csv",
    ]
    names = [row["FileName"] for row in rows]
    assert len(set(names)) == len(names)
    assert sorted(p.name for p in (release / "Audio").iterdir()) == sorted(names)
    assert sorted(p.stem for p in (release / "Transcripts").iterdir()) == sorted(name[:-4] for name in names)
    assert list(rows[0]) == ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]
    assert "Not MSP-Podcast" in (release / "readme.txt").read_text()
    assert "Apache-2.0" in (release / "readme.txt").read_text()


def test_partitions_and_names(release, rows):
    assert Counter(row["Split_Set"] for row in rows) == SIZES
    listed = [line.split("; ") for line in (release / "Partitions.txt").read_text().splitlines()]
    assert sorted(listed) == sorted([row["Split_Set"], row["FileName"]] for row in rows)
    matches = [NAME.fullmatch(row["FileName"]) for row in rows]
    assert all(matches)
    assert 0.05 < np.mean([m[3] is not None for m in matches]) < 0.5


def test_test1_is_seen_and_test2_is_not(rows):
    assert podcasts(rows, "Test1") <= podcasts(rows, "Train", "Development")
    assert podcasts(rows, "Development") <= podcasts(rows, "Train")
    assert not podcasts(rows, "Test2") & podcasts(rows, "Train", "Development", "Test1")


def test_no_speaker_in_two_partitions_and_enough_of_them(rows):
    least = {"Train": 30, "Development": 12, "Test1": 24, "Test2": 24}
    speakers = {split: of(rows, split, "SpkrID") - {"Unknown"} for split in SIZES}
    assert sum(len(s) for s in speakers.values()) == len(set().union(*speakers.values()))
    assert all(len(speakers[split]) >= n for split, n in least.items())
    assert all(re.fullmatch(r"\d+", s) for split in SIZES for s in speakers[split])
    assert {row["Split_Set"] for row in rows if row["SpkrID"] == "Unknown"} == {"Train"}
    for split in ("Test1", "Test2"):
        counts = Counter(row["SpkrID"] for row in rows if row["Split_Set"] == split)
        assert min(counts.values()) >= 4
        assert max(counts.values()) > min(counts.values())


def test_genders_are_balanced(rows):
    for split in SIZES:
        genders = Counter(row["Gender"] for row in rows if row["Split_Set"] == split)
        assert 0.4 < genders["Male"] / (genders["Male"] + genders["Female"]) < 0.6
        assert set(genders) <= {"Male", "Female", "Unknown"}


def test_labels_are_in_range_and_vary(rows):
    for split in SIZES:
        for column in ("EmoAct", "EmoVal", "EmoDom"):
            texts = [row[column] for row in rows if row["Split_Set"] == split]
            assert all(re.fullmatch(r"\d\.\d{1,6}", t) for t in texts)
            numbers = np.array(texts, float)
            assert 1 <= numbers.min() < 3 < 5 < numbers.max() <= 7
            assert 0.7 < numbers.std() < 1.5
    assert set("NHASFDCUOX") == {row["EmoClass"] for row in rows}


def test_valence_goes_with_neither_arousal_nor_dominance(rows):
    for split in SIZES:
        table = np.array(
            [[row["EmoAct"], row["EmoVal"], row["EmoDom"]] for row in rows if row["Split_Set"] == split], float
        )
        around = np.corrcoef(table.T)
        # By chance alone, 110 utterances give 0.2 once in thirty draws.
        assert abs(around[0, 1]) < 0.2
        assert abs(around[1, 2]) < 0.2


def test_the_consensus_is_the_mean_and_plurality_of_the_raters(release, rows):
    ratings = raters(release)
    assert set(ratings) == {row["FileName"] for row in rows}
    for row in rows:
        lines = ratings[row["FileName"]]
        assert len(lines) == 5
        assert len({line.split(";")[0] for line in lines}) == 5
        given = np.array([values(line) for line in lines])
        assert set(given.ravel()) <= {1, 2, 3, 4, 5, 6, 7}
        stated = [float(row[c]) for c in ("EmoAct", "EmoVal", "EmoDom")]
        np.testing.assert_allclose(stated, given.mean(0), atol=1e-4)
        votes = Counter(LETTERS.get(line.split("; ")[1], "O") for line in lines)
        top = [letter for letter, n in votes.items() if n == max(votes.values())]
        assert row["EmoClass"] == (top[0] if len(top) == 1 else "X")


def test_csv_json_and_text_agree(release, rows):
    table = json.loads((release / "Labels/labels_consensus.json").read_text())
    assert list(table) == [row["FileName"] for row in rows]
    blocks = (release / "Labels/labels.txt").read_text().strip().split("\n\n")
    ratings = raters(release)
    for row, block in zip(rows, blocks, strict=True):
        entry = table[row["FileName"]]
        assert list(entry) == ["EmoClass", "EmoAct", "EmoDom", "EmoVal", "SpkrID", "Gender", "Split_Set"]
        assert {key: str(value) for key, value in entry.items()} == {k: v for k, v in row.items() if k != "FileName"}
        head, *lines = block.splitlines()
        assert lines == ratings[row["FileName"]]
        assert head.startswith(f"{row['FileName']}; {row['EmoClass']}; A:")
        assert values(head) == [float(row[c]) for c in ("EmoAct", "EmoVal", "EmoDom")]


def test_no_sentence_occurs_twice(release):
    texts = [p.read_text() for p in sorted((release / "Transcripts").iterdir())]
    # Per sentence, not per transcript: some hold two. "Mr." and "Mrs." end none.
    said = [re.sub(r"\bMrs?\.", "Mr", re.sub(r"^\.\.\.", "", text)) for text in texts]
    sentences = [words(part) for text in said for part in re.split(r"[.?!]", text) if words(part)]
    assert len(sentences) >= len(texts)
    assert [s for s, n in Counter(sentences).items() if n > 1] == []


def test_transcripts_look_like_the_corpus(release):
    texts = [p.read_text() for p in (release / "Transcripts").iterdir()]
    assert 1 <= sum(not text for text in texts) <= 2
    assert all(text.endswith((".\n", "?\n", "!\n")) and text.count("\n") == 1 for text in texts if text)
    assert sum(bool(re.search(r"\[inaudible \d\d:\d\d:\d\d\]", text)) for text in texts) >= 5
    assert sum(text.startswith("...") for text in texts) >= 5
    assert sum(bool(re.search(r"\d", re.sub(r"\[.*?\]", "", text))) for text in texts) >= 50


def test_words_of_valence_recur_between_partitions(release, rows):
    seen = {split: Counter() for split in SIZES}
    for row in rows:
        text = (release / "Transcripts" / f"{row['FileName'][:-4]}.txt").read_text()
        seen[row["Split_Set"]].update(words(text).split())
    for split in ("Test1", "Test2"):
        known = sum(n for word, n in seen[split].items() if word in seen["Train"])
        assert 0.9 < known / sum(seen[split].values()) < 1


def test_audio_is_16_khz_mono_pcm_16_and_of_the_right_length(release, rows):
    seconds = []
    for row in rows:
        info = soundfile.info(release / "Audio" / row["FileName"])
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16_000, 1, "PCM_16", "WAV")
        seconds.append(info.frames / 16_000)
    assert 1.5 < min(seconds) < 2.5
    assert 6 < max(seconds) < 12
    assert sum(seconds) < 45 * 60


def test_audio_speaks_and_does_not_clip(release, rows):
    for row in rows[::10]:
        wave, _ = soundfile.read(release / "Audio" / row["FileName"])
        assert np.abs(wave).max() < 0.999
        assert -42 < 20 * np.log10(wave.std()) < -14


def test_speakers_in_haste_are_rated_as_aroused(release, rows):
    """The cue that listeners have can be found in the sound: letters a second go with arousal, not with valence."""
    test = [row for row in rows if row["Split_Set"] == "Test1"]
    rate = []
    for row in test:
        text = (release / "Transcripts" / f"{row['FileName'][:-4]}.txt").read_text()
        rate.append(len(words(text)) / soundfile.info(release / "Audio" / row["FileName"]).duration)
    assert np.corrcoef(rate, [float(row["EmoAct"]) for row in test])[0, 1] > 0.4
    assert abs(np.corrcoef(rate, [float(row["EmoVal"]) for row in test])[0, 1]) < 0.2


def test_the_zip_is_small_and_its_digest_that_of_its_bytes():
    packed = Path(demo.__file__).with_name("demo.zip")
    assert packed.stat().st_size < 6_000_000
    # coreutils, where there are any, as the other opinion
    try:
        other = subprocess.run(["sha256sum", packed], capture_output=True, check=True, text=True).stdout.split()[0]
    except FileNotFoundError:
        pytest.skip("no sha256sum here")
    assert demo.demo_digest() == other


def test_unpacking_twice_leaves_the_files_untouched(release):
    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in sorted(release.rglob("*"))}

    before = state()
    (release / "Transcripts/whisper-base.json").write_text("beside it, not ours")
    try:
        assert demo.unpack_demo(release) == release
    finally:
        (release / "Transcripts/whisper-base.json").unlink()
    after = state()
    folders = {release / "Transcripts"}  # its own time changed by the file beside
    assert {p: s for p, s in after.items() if p not in folders} == {p: s for p, s in before.items() if p not in folders}
    assert [p for p in release.parent.iterdir() if p != release] == []


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_unpacking_leaves_nothing(tmp_path, monkeypatch, fault):
    write, written = Path.write_bytes, []

    def fails(path, data):
        if path.suffix == ".wav":
            written.append(path)
            raise fault
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(type(fault)):
        demo.unpack_demo(tmp_path / "new" / "demo")
    assert written
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CorpusError) as caught:
        demo.unpack_demo(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} exists and is not this version's demo release: 1,646 of its 1,646 files are missing or differ"
        " (first: Labels/labels_consensus.csv). Name another folder, or remove this one to have it written anew."
    )
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(CorpusError, match="exists and is not this version's demo release"):
        demo.unpack_demo(tmp_path / "thesis.txt")


@pytest.mark.parametrize("name", ["Audio", "Transcripts"])
def test_a_damaged_copy_is_refused_and_named(release, name):
    path = sorted((release / name).iterdir())[3]
    whole, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(whole[:-2])
    try:
        with pytest.raises(CorpusError, match=rf"1 of its 1,646 files .* \(first: {name}/{path.name}\)"):
            demo.unpack_demo(release)
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=times)


def test_another_process_that_was_faster_serves_as_well(release, tmp_path, monkeypatch):
    target = tmp_path / "demo"

    def overtaken(folder, archive, content):
        folder.mkdir()
        (folder / "half").touch()
        target.symlink_to(release)

    monkeypatch.setattr(demo, "_write", overtaken)
    assert demo.unpack_demo(target) == target
    assert (target / "Partitions.txt").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_wavs_are_what_the_zip_decodes_to(release):
    with zipfile.ZipFile(Path(demo.__file__).with_name("demo.zip")) as archive:
        name = sorted(n for n in archive.namelist() if n.endswith(".opus"))[7]
        wave, rate = soundfile.read(io.BytesIO(archive.read(name)), dtype="int16")
    written, _ = soundfile.read(release / "Audio" / f"{Path(name).stem}.wav", dtype="int16")
    assert rate == 16_000
    np.testing.assert_array_equal(written, wave)


def test_importing_it_is_light():
    code = (
        "import sys, ser_bench.corpus.demo as d; d.demo_digest();"
        " print({'torch', 'soundfile', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"
