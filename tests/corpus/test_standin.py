"""The stand-in release, which other tools than ours wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_bench.corpus import Release, check, load, read_wave, rows, stats

pytestmark = pytest.mark.shared


def test_what_is_known_of_it_is_found(standin: Path) -> None:
    opened = Release.open(standin)
    assert opened.counts == {"train": 600, "development": 120, "test1": 140, "test2": 140}
    assert (opened.identity, opened.corpus_name) == ("digest known", "stand-in")
    report = check(opened)
    assert report.sound
    assert report.ratings == 5_000
    assert {fault.kind: fault.count for fault in report.faults} == {"audio-format": 1, "transcript-empty": 1}
    assert "44,100 Hz, 2 channels" in report.text()
    assert sum(text == "" for text in opened.transcripts.values()) == 1
    assert sum("[inaudible 00:00:03]" in text for text in opened.transcripts.values()) == 1
    described = stats(opened)
    assert described.seen_podcasts == {}
    assert sum(part.hours for part in described.partitions.values()) == pytest.approx(1.13, abs=0.01)


def test_durations_and_waves_agree_with_libsndfile(standin: Path) -> None:
    opened = Release.open(standin)
    for partition in opened.partitions:
        part = opened.rows(partition)
        for path, duration in zip(part.path[::40], part.duration[::40], strict=True):
            assert soundfile.info(path).duration == pytest.approx(duration)
    odd = next(name for name, header in opened.headers.items() if header.rate != 16_000)
    wave = read_wave(standin / "Audios" / odd)
    assert len(wave) == pytest.approx(opened.headers[odd].seconds * 16_000, abs=1)
    assert 0.01 < np.abs(wave).max() <= 1


def test_the_mean_of_the_raters_is_the_label(standin: Path) -> None:
    opened = Release.open(standin)
    means = np.array([opened.raters[name].values.mean(axis=0) for name in opened.labels.utterance])
    np.testing.assert_allclose(means, opened.labels.values, atol=1e-6)


def test_the_text_table_gives_the_same_digest(standin: Path, tmp_path: Path) -> None:
    for name in ("Partitions.txt", "Speaker_ids.txt"):
        (tmp_path / name).write_text((standin / name).read_text())
    (tmp_path / "Labels").mkdir()
    (tmp_path / "Labels" / "labels.txt").write_text((standin / "Labels" / "labels.txt").read_text())
    full, alone = Release.open(standin), Release.open(tmp_path)
    assert alone.labels_sha256 == full.labels_sha256
    assert alone.clusters_sha256 == full.clusters_sha256
    assert alone.raters.rater == full.raters.rater
    np.testing.assert_array_equal(alone.raters.values, full.raters.values)


def test_a_second_load_gives_the_same_rows(standin: Path, tmp_path: Path) -> None:
    first = load(standin, cache=tmp_path)
    second = load(standin, cache=tmp_path)
    assert rows(second, "test2").transcript == rows(first, "test2").transcript
