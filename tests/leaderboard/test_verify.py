"""Recomputing what records say: what agrees, what differs, and what cannot be checked here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest

from ser_bench import cache, records, tables
from ser_bench.cli import main
from ser_bench.corpus import Release
from ser_bench.corpus.release import with_audio
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.add import add
from ser_bench.leaderboard.verify import Report, targets, verify
from ser_bench.scoring import score_partition
from ser_bench.scoring.ceiling import ceiling
from ser_bench.testing import write_release
from ser_bench.transcripts.wer import partition_wer

SCORED = ("development", "test1", "test2")
COUNTS = {"train": 40, "development": 60, "test1": 130, "test2": 60}


def heard(text: str) -> str:
    """Make what a bad recogniser hears: every third word is missing."""
    return " ".join(word for number, word in enumerate(text.split()) if number % 3)


def write_run(folder: Path, release: Release, *, asr: bool = False, **changes: Any) -> Path:
    """Write the run folder of a system that was scored on a release, without any training."""
    rows = {name: with_audio(release.rows(name)) for name in release.partitions}
    made = made_up.settings(**changes)
    made["corpus"] |= {
        "labels_sha256": release.labels_sha256,
        "clusters_sha256": release.clusters_sha256,
        "partitions": {
            name: {"listed": release.counts[name], "scored": len(part), "missing": release.counts[name] - len(part)}
            for name, part in rows.items()
        },
    }
    if asr:
        made["transcripts"]["test"] = "whisper-tiny@01234567"
    results = []
    for seed in (1, 2):
        values = {name: made_up.prediction(rows[name].labels, 0.5, seed) for name in SCORED}
        result = made_up.result(seed)
        run, wer = result["run"], {}
        run["scores"], run["resampling"] = {}, {}
        for name in SCORED:
            part, counts = rows[name], None
            if asr:
                human = [release.transcripts[u] for u in part.utterance]
                wer[name] = partition_wer(part, human, [heard(text) for text in human])
                counts = wer[name].counts.wer
            found = score_partition(values[name], part.labels, rows=part, wer=counts)
            run["scores"][name], run["resampling"][name] = found.as_dict(), found.resampling
        path = folder / f"seed-{seed}" / "predictions.parquet"
        utterances = {name: rows[name].utterance for name in SCORED}
        run["predictions_sha256"] = tables.write_predictions(path, utterances, values, ATTRIBUTES)
        result["transcripts"]["wer"] = {name: one.as_record() for name, one in wer.items()} or None
        said = {name: [release.raters[u].values for u in rows[name].utterance] for name in SCORED}
        result["ceiling"] = {name: ceiling(said[name], rows[name].labels) for name in SCORED}
        results.append(result)
    record = records.assemble(made, results, created=made_up.CREATED)
    cache.atomic_write(folder / "record.json", records.canonical(record))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("corpus"), utterances=COUNTS, seconds=(0.05, 9.0), raters=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run, one on machine transcripts, and a leaderboard with both; treat them as read-only."""
    folder = tmp_path_factory.mktemp("made")
    release = Release.open(corpus, cache=folder / "cache")
    write_run(folder / "run", release)
    write_run(folder / "asr", release, asr=True, system__name="heard")
    add(folder / "run", folder / "board")
    add(folder / "asr", folder / "board", withhold_predictions=False)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def release(corpus: Path) -> Release:
    return Release.open(corpus)


def results(report: Report, *, but: str = "agree") -> set[tuple[str, str | None, str]]:
    return {(line.what, line.partition, line.result) for line in report.lines if line.result != but}


def test_a_run_agrees_with_itself(run: Path, release: Release) -> None:
    report = verify(release, targets(Path("nowhere"), [str(run)]))
    assert report.sound
    assert results(report) == set()
    looked_at = {line.what for line in report.lines if (line.seed, line.partition) == (1, "test1")}
    assert looked_at == {
        *("CCC: arousal", "CCC: valence", "CCC: dominance", "CCC: mean", "intervals", "utterance intervals"),
        *("slices: gender", "slices: emotion", "slices: duration", "slices: speakers", "calibration"),
        *("clusters", "outside_range", "resampling", "utterances"),
    }
    assert {line.what for line in report.lines if line.seed is None} == {
        *("labels", "clusters", "counts", "ceiling", "summary"),
    }
    text = report.text()
    assert text.endswith(f"{len(report.lines):,} agree, 0 differ, 0 cannot be checked")
    assert ["run", "1", "test1", "15", "-", "-"] in [line.split() for line in text.splitlines()]


def test_scores_that_the_labels_do_not_give(run: Path, release: Release) -> None:
    """A forger who is consistent (scores, intervals, resampling, summary) is found out by the labels alone."""
    better = made_up.prediction(release.rows("test1").labels, 0.1, 1)
    rows = release.rows("test1")
    found = score_partition(better, rows.labels, rows=rows)
    record = json.loads((run / "record.json").read_text())
    one = record["runs"][0]
    honest = one["scores"]["test1"]
    one["scores"]["test1"] = {**found.as_dict(), "calibration": honest["calibration"]}
    one["scores"]["test1"]["outside_range"] = honest["outside_range"]
    one["resampling"]["test1"] = found.resampling
    record["summary"] = records.summary(record["runs"])
    (run / "record.json").write_text(records.canonical(record))
    report = verify(release, targets(Path("nowhere"), [str(run)]))
    assert not report.sound
    apart = {line.what for line in report.lines if line.result == "differ"}
    assert {"CCC: arousal", "CCC: mean", "intervals", "resampling", "slices: gender"} <= apart
    assert {(line.seed, line.partition) for line in report.lines if line.result == "differ"} == {(1, "test1")}
    why = next(line.why for line in report.lines if line.what == "CCC: mean" and line.result == "differ")
    assert f"CCC: mean is {found.ccc['mean']['value']} in the record and" in why
    assert "differ" in report.text()
    assert why in report.text()


SPOILT: dict[str, tuple[Callable[[Any], Any], str, str | None]] = {
    "slices": (
        lambda r: r["runs"][0]["scores"]["test1"]["slices"]["gender"]["Male"].update(arousal=0.9),
        "slices: gender",
        "test1",
    ),
    "speakers": (
        lambda r: r["runs"][0]["scores"]["test1"]["slices"]["speakers"].update(count=3),
        "slices: speakers",
        "test1",
    ),
    "labels of bins": (
        lambda r: r["runs"][0]["scores"]["test1"]["calibration"]["arousal"][0].update(label=6.0),
        "calibration",
        "test1",
    ),
    "interval over utterances": (
        lambda r: r["runs"][0]["scores"]["test2"]["ccc"]["mean"].update(ci95_utterances=[0.1, 0.2]),
        "utterance intervals",
        "test2",
    ),
    "ceiling": (lambda r: r["ceiling"]["test1"]["valence"].update(one=0.99), "ceiling", "test1"),
    "no ceiling": (lambda r: r["ceiling"].update(test2=None), "ceiling", "test2"),
    "listed": (lambda r: r["corpus"]["partitions"]["train"].update(listed=99, scored=99), "counts", "train"),
    "scored": (lambda r: r["corpus"]["partitions"]["train"].update(listed=39, scored=39), "counts", "train"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_each_statement_is_recomputed(what: str, run: Path, release: Release) -> None:
    spoil, line, partition = SPOILT[what]
    record = json.loads((run / "record.json").read_text())
    spoil(record)
    (run / "record.json").write_text(records.canonical(record))
    result = "cannot be checked" if what == "no ceiling" else "differ"
    assert results(verify(release, targets(Path("nowhere"), [str(run)]))) == {(line, partition, result)}


def test_other_predictions_differ(run: Path, release: Release, made: Path) -> None:
    path = run / "seed-2" / "predictions.parquet"
    columns = tables.read_predictions(path)
    columns["arousal"][5] += 0.5
    values = np.array([columns[a] for a in ATTRIBUTES]).T
    tables.write_predictions(path, {"test1": columns["utterance"]}, {"test1": values}, ATTRIBUTES)
    report = verify(release, targets(Path("nowhere"), [str(run)]))
    (line,) = [line for line in report.lines if line.result == "differ"]
    assert (line.seed, line.what) == (2, "predictions")
    assert "does not have the digest that the record gives" in line.why


def test_withheld_predictions_cannot_be_checked(made: Path, tmp_path: Path, release: Release) -> None:
    add(made / "run", tmp_path / "board", withhold_predictions=True)
    report = verify(release, targets(tmp_path / "board"))
    assert report.sound
    assert {(line.seed, line.what, line.why) for line in report.lines if line.result == "cannot be checked"} == {
        (seed, "all scores", "the predictions are withheld") for seed in (1, 2)
    }
    assert {"ceiling", "summary", "labels"} <= {line.what for line in report.lines if line.result == "agree"}


def test_another_release_cannot_be_checked(made: Path, tmp_path: Path) -> None:
    other = write_release(tmp_path, utterances=COUNTS, seconds=(0.05, 0.06), seed=5)
    report = verify(Release.open(other), targets(made / "board"))
    assert report.sound
    assert {(line.what, line.result) for line in report.lines} == {("labels", "cannot be checked")}
    assert "the record is of labels " in report.lines[0].why


def test_other_speakers_leave_the_scores_to_be_checked(run: Path, corpus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "MSP-PODCAST-Publish-1.10"))
    for name in ("json", "txt"):
        for path in (copy / "Labels").glob(f"labels*.{name}"):
            path.unlink()
    table = copy / "Labels" / "labels_consensus.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    place = lines[0].index("SpkrID")
    for line in lines[1:]:
        line[place] = "7" + line[place] if line[place].isdigit() else line[place]
    table.write_text("\n".join(",".join(line) for line in lines) + "\n")
    report = verify(Release.open(copy), targets(Path("nowhere"), [str(run)]))
    assert report.sound
    apart = {line.what for line in report.lines if line.result == "cannot be checked" and line.partition == "test1"}
    assert apart == {"intervals", "clusters", "resampling", "slices: speakers"}
    (why,) = [line.why for line in report.lines if line.what == "clusters" and line.seed is None]
    assert why.startswith("the record is of clusters ")


def test_without_audio_or_raters_the_rest_is_checked(run: Path, corpus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "MSP-PODCAST-Publish-1.10"))
    shutil.rmtree(copy / "Audio")
    for path in [*(copy / "Labels").glob("labels_detailed*"), copy / "Labels" / "labels.txt"]:
        path.unlink()
    report = verify(Release.open(copy), targets(Path("nowhere"), [str(run)]))
    assert report.sound
    told = {(line.what, line.why) for line in report.lines if line.result == "cannot be checked"}
    assert told == {
        ("slices: duration", "this copy of the release lacks audio"),
        ("ceiling", "this release has no per-rater table"),
    }


def test_a_run_on_a_partial_release(corpus: Path, tmp_path: Path, release: Release) -> None:
    """Who scored without some of the audio is checked on what was scored."""
    copy = Path(shutil.copytree(corpus, tmp_path / "MSP-PODCAST-Publish-1.10"))
    for name in release.rows("test1").utterance[3:9]:
        (copy / "Audio" / name).unlink()
    run = write_run(tmp_path / "partial", Release.open(copy))
    assert records.read(run / "record.json")["corpus"]["partitions"]["test1"]["missing"] == 6
    for place in (corpus, copy):
        assert results(verify(Release.open(place), targets(Path("nowhere"), [str(run)]))) == set()
    add(run, tmp_path / "board", withhold_predictions=True)
    withheld = verify(Release.open(corpus), targets(tmp_path / "board"))
    assert ("ceiling", "test1", "cannot be checked") in results(withheld)
    assert withheld.sound


def test_word_error_rates(made: Path, release: Release) -> None:
    found = targets(made / "board", [str(made / "asr")])
    texts = {utterance: heard(text) for utterance, text in release.transcripts.items()}
    asked = []

    def here(source: str, condition: str) -> dict[str, str]:
        asked.append((source, condition))
        return texts

    report = verify(release, found, texts=here)
    assert results(report) == set()
    assert asked == [("whisper-tiny@01234567", "clean")]
    assert {"wer", "slices: wer"} <= {line.what for line in report.lines}
    absent = verify(release, found)
    assert absent.sound
    assert {(line.what, line.why) for line in absent.lines if line.result != "agree"} == {
        ("wer", "there are no texts of whisper-tiny@01234567 under clean here"),
        ("slices: wer", "there are no texts to count errors in"),
    }
    texts[release.rows("test1").utterance[0]] = "something else altogether was said here"
    wrong = verify(release, found, texts=here)
    assert ("wer", "test1", "differ") in results(wrong)


def test_nothing_to_verify(tmp_path: Path, made: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no record to verify\. Name a run folder, a record, or a leaderboard"):
        targets(tmp_path)
    names = sorted(path.stem for path in (made / "board" / "records").iterdir())
    assert [one.name for one in targets(made / "board")] == names
    assert [one.name for one in targets(made / "board", names[:1])] == names[:1]


def test_the_command_line(made: Path, corpus: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["leaderboard", "verify", "--corpus", str(corpus), "--leaderboard", str(made / "board")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is True
    assert {line["result"] for line in told["lines"]} == {
        "agree",
        "cannot be checked",
    }  # no texts of the recogniser here
    record = json.loads((run / "record.json").read_text())
    record["ceiling"]["test1"]["valence"]["one"] = 0.99
    (run / "record.json").write_text(records.canonical(record))
    assert main([*words, str(run)]) == 1
    out = capsys.readouterr().out
    assert "ceiling.valence.one is 0.99 in the record and" in out
    assert out.rstrip().endswith("cannot be checked")
