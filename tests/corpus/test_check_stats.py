from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ser_bench.corpus import Release, check, known, stats
from ser_bench.testing import write_release

COUNTS = {"train": 40, "development": 10, "test1": 12, "test2": 8}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_release(tmp_path, utterances=COUNTS, raters=4, seconds=(0.1, 0.3))


def test_report_sets_found_against_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = check(Release.open(root))
    assert report.found == COUNTS
    assert report.expected == known.COUNTS["1.10"]
    assert report.sound
    assert report.ratings == 4 * 70
    text = report.text()
    assert "1.10, unconfirmed" in text
    assert ["train", "40", "63,076", "-63,036"] in [line.split() for line in text.splitlines()]
    assert text.endswith("No fault that would make a run wrong.")
    monkeypatch.setitem(known.COUNTS, "1.10", COUNTS)
    assert "same" in check(Release.open(root)).text()


def test_report_names_the_release_whose_counts_it_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = root.rename(root.parent / "corpus")
    assert check(Release.open(plain)).resembles is None
    assert "unknown" in check(Release.open(plain)).text()
    monkeypatch.setitem(known.COUNTS, "1.10", COUNTS)
    report = check(Release.open(plain))
    assert report.resembles == "1.10"
    assert "These are the partition sizes of release 1.10: say --release 1.10." in report.text()


def test_report_lists_errors_before_notes_and_as_json(root: Path) -> None:
    wavs = sorted((root / "Audio").iterdir())
    wavs[0].unlink()
    (root / "Transcripts" / f"{wavs[1].stem}.txt").write_text("")
    report = check(Release.open(root))
    assert not report.sound
    assert [fault.severity for fault in report.faults] == ["error", "note"]
    lines = report.text().splitlines()
    assert lines[-3].startswith("error: listed utterances without audio: 1")
    assert lines[-2].startswith("note: transcripts without a word: 1")
    assert lines[-1] == "1 kinds of error."
    loaded = json.loads(json.dumps(report.as_dict()))
    assert loaded["partitions"] == COUNTS
    assert loaded["sound"] is False
    assert [fault["kind"] for fault in loaded["faults"]] == ["audio-missing", "transcript-empty"]


def test_stats_agree_with_a_plain_count(root: Path) -> None:
    found = stats(Release.open(root))
    with (root / "Labels" / "labels_consensus.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["Split_Set"] == "Train"]
    part = found.partitions["train"]
    assert part.utterances == len(table) == 40
    known_speakers = {row["SpkrID"] for row in table} - {"Unknown"}
    assert (part.speakers, part.unknown_speaker) == (len(known_speakers), sum(r["SpkrID"] == "Unknown" for r in table))
    assert part.genders == Counter(row["Gender"] for row in table)
    assert part.emotions == Counter(row["EmoClass"] for row in table)
    seconds = sum((path.stat().st_size - 44) / 32_000 for row in table if (path := root / "Audio" / row["FileName"]))
    assert part.hours == pytest.approx(seconds / 3600, abs=1e-6)
    for attribute, column in (("arousal", "EmoAct"), ("valence", "EmoVal"), ("dominance", "EmoDom")):
        values = [float(row[column]) for row in table]
        assert part.attributes[attribute].mean == pytest.approx(np.mean(values), abs=1e-6)
        assert part.attributes[attribute].std == pytest.approx(np.std(values), abs=1e-6)
        nearest = Counter(int(value + 0.5) for value in values)
        assert part.attributes[attribute].histogram == [nearest[point] for point in range(1, 8)]


def test_the_unseen_claim_is_audited(root: Path) -> None:
    sound = stats(Release.open(root))
    assert sound.seen_podcasts == {}
    assert "test2 is unseen: none of its podcasts occurs in another partition." in sound.text()
    shared = {overlap.pair: overlap for overlap in sound.overlaps}
    assert len(shared) == 6
    assert shared["train", "test1"].podcasts
    assert not any(overlap.speakers for overlap in sound.overlaps)
    for name in ("labels_consensus.csv", "labels_consensus.json", "labels.txt"):
        (root / "Labels" / name).unlink() if name != "labels_consensus.csv" else None
    (root / "Partitions.txt").unlink()
    path = root / "Labels" / "labels_consensus.csv"
    lines = path.read_text().splitlines()
    test2 = next(i for i, line in enumerate(lines) if line.endswith("Test2"))
    podcast, speaker = lines[test2][12:16], lines[test2].split(",")[5]
    lines[test2] = lines[test2].replace("Test2", "Train")
    path.write_text("\n".join(lines))
    leaky = stats(Release.open(root))
    assert leaky.seen_podcasts == {podcast: {"train": 1, "test2": 7}}
    assert "test2 is not wholly unseen: 1 of its podcasts" in leaky.text()
    assert f"  {podcast}: 1 in train, 7 in test2" in leaky.text()
    overlap = next(o for o in leaky.overlaps if o.pair == ("train", "test2"))
    assert (overlap.podcasts, overlap.speakers) == ({podcast: (1, 7)}, {speaker: (1, 3)})
    loaded = json.loads(json.dumps(leaky.as_dict()))
    assert loaded["seen_podcasts_of_test2"] == leaky.seen_podcasts
    assert loaded["partitions"]["train"]["attributes"]["valence"]["histogram"]


def test_stats_of_a_release_without_test2_or_labels(tmp_path: Path) -> None:
    root = write_release(tmp_path, version="2.0", utterances={"train": 4, "test3": 2}, seconds=(0.1, 0.2))
    next((root / "Audios" / "Audios").glob("*test3*")).unlink()
    found = stats(Release.open(root))
    assert found.seen_podcasts is None
    assert found.partitions["test3"].attributes == {}
    assert found.partitions["test3"].utterances == 1
    assert "There is no test2." in found.text()
    assert "withheld" in found.text()
