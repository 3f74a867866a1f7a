"""Submissions by somebody who means ill: each is refused with its reason, and the leaderboard stays as it was."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ser_bench import cache, records, tables
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.add import add
from ser_bench.leaderboard.check import check

PREDICTIONS = "seed-1/predictions.parquet"
HOME = "/" + "home/anna"  # in two parts: the project's own files may hold no such path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run, and a leaderboard with a row on it; treat them as read-only."""
    folder = tmp_path_factory.mktemp("made")
    made_up.run_folder(folder / "run", seeds=(1,))
    add(made_up.run_folder(folder / "first", seeds=(1,), system__name="first"), folder / "board")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "board", tmp_path / "board"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(run: Path, board: Path, message: str, **options: Any) -> None:
    before = content(board)
    with pytest.raises(RecordError, match=message):
        add(run, board, **options)
    assert content(board) == before


def edit(run: Path, change: Callable[[Any], Any]) -> None:
    """Change a record and sign it again, as somebody would who knows how."""
    path = run / "record.json"
    record = json.loads(path.read_text())
    change(record)
    record["signature"] = records.signature(record)
    path.write_text(json.dumps(record))


def rewrite(run: Path, change: Callable[[dict[str, list[Any]]], Any]) -> None:
    """Change predictions, and the digest in the record with them."""
    path = run / PREDICTIONS
    columns = tables.read_predictions(path)
    change(columns)
    types = [pyarrow.string(), pyarrow.string(), *[pyarrow.float64()] * 3]
    pyarrow.parquet.write_table(
        pyarrow.table({n: pyarrow.array(columns[n], type=t) for n, t in zip(tables.COLUMNS, types, strict=True)}), path
    )
    edit(run, lambda r: r["runs"][0].update(predictions_sha256=tables.digest(columns)))


def test_the_run_is_sound_before_it_is_spoilt(run: Path, board: Path) -> None:
    rewrite(run, lambda columns: None)
    add(run, board)
    assert check(board, rendered=lambda board: {}).sound


def text(place: Path, new: bytes) -> None:
    place.write_bytes(new)


def replaced(run: Path, old: str, new: str) -> None:
    path = run / "record.json"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))


def _first(run: Path) -> str:
    (path,) = (run.parent / "board" / "records").glob("first-*.json")
    return path.stem


def _split(record: Any) -> None:
    for name, block in record["runs"][0]["resampling"].items():
        block["sizes"] = [5, 7, *block["sizes"][1:]]
        block["clusters"] += 1
        record["runs"][0]["scores"][name]["clusters"]["count"] += 1
        for column in records.COLUMNS:
            block[column] = [block["full"][column], *block[column]]
        _again(record, name, block)
    record["summary"] = records.summary(record["runs"])


def _finer(record: Any) -> None:
    for name, block in record["runs"][0]["resampling"].items():
        block["arousal"][2] += 0.001
        block["mean"][2] += 0.001 / 3
        for column in ("arousal", "mean"):
            block[column][2] = round(block[column][2], 6)
        _again(record, name, block)
    record["summary"] = records.summary(record["runs"])


def _better(record: Any) -> None:
    """Lift the mean alone, which is what is ranked, in all that follows from it."""
    for name, block in record["runs"][0]["resampling"].items():
        lift = 0.95 - block["full"]["mean"]
        block["full"]["mean"] = 0.95
        block["mean"] = [round(value + lift, 6) for value in block["mean"]]
        record["runs"][0]["scores"][name]["ccc"]["mean"]["value"] = 0.95
        _again(record, name, block)
    record["summary"] = records.summary(record["runs"])


def _one_mean(record: Any) -> None:
    block = record["runs"][0]["resampling"]["test1"]
    block["mean"][3] = round(block["mean"][3] + 0.001, 6)
    _again(record, "test1", block)
    record["summary"] = records.summary(record["runs"])


def _score(record: Any) -> Any:
    return record["runs"][0]["scores"]["test1"]


def _more_digits(record: Any) -> None:
    block = record["runs"][0]["resampling"]["test1"]
    block["full"]["valence"] += 3e-7
    record["runs"][0]["scores"]["test1"]["ccc"]["valence"]["value"] = block["full"]["valence"]
    record["summary"] = records.summary(record["runs"])


def _again(record: Any, name: str, block: Any) -> None:
    from ser_bench.scoring.seeds import over_seeds

    for column in records.COLUMNS:
        limits = over_seeds([block], column)
        record["runs"][0]["scores"][name]["ccc"][column]["ci95"] = [round(limit, 6) for limit in limits]


def _inside(record: Any) -> None:
    record["runs"][0]["scores"]["test1"]["outside_range"] += 1
    record["corpus"]["partitions"]["test1"]["outside_range"] += 1


RECORDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "oversized": (
        lambda r: text(r / "record.json", b" " * (33 * 2**20)),
        r"has 34,603,008 bytes, expected 33,554,432 at",
    ),
    "deep": (
        lambda r: text(r / "record.json", b'{"a":' * 100 + b"1" + b"}" * 100),
        r"is nested 100 deep, expected 32 at",
    ),
    "bottomless": (lambda r: text(r / "record.json", b"[" * 5_000_000), r"is nested more than 32 deep"),
    "no UTF-8": (lambda r: text(r / "record.json", b'{"schema": "\xff"}'), r"cannot be read as JSON \('utf-8' codec"),
    "NaN": (
        lambda r: replaced(r, '"created"', '"more": NaN, "created"'),
        r"malformed at more: nan is not a finite number",
    ),
    "Infinity": (
        lambda r: replaced(r, '"created"', '"a": [-Infinity], "created"'),
        r"malformed at a/0: -inf is not a fin",
    ),
    "1e999": (
        lambda r: replaced(r, '"created"', '"a": 1e999, "created"'),
        r"malformed at a: inf is not a finite number",
    ),
    "huge integer": (lambda r: replaced(r, ": 131000", ": 1" + "0" * 5000), r"the whole number 10+ is beyond"),
    "large integer": (lambda r: replaced(r, ": 131000", ": 99999999999999999999"), r"99999999999999999999 is beyond"),
    "key twice": (
        lambda r: replaced(r, '"created"', '"status": "reproduced", "created"'),
        r"the key 'status' is there tw",
    ),
    "lone surrogate": (
        lambda r: replaced(r, '"cpu"', r'"\ud800"'),
        r"environment/device: .* invisible character U\+D800",
    ),
    "right to left": (lambda r: replaced(r, '"cpu"', '"cpu\\u202egpj.exe"'), r"has the invisible character U\+202E"),
    "zero width": (lambda r: replaced(r, '"cpu"', '"c\\u200bpu"'), r"has the invisible character U\+200B"),
    "NUL": (lambda r: replaced(r, '"cpu"', '"c\\u0000pu"'), r"has the invisible character U\+0000"),
    "escape": (lambda r: replaced(r, '"cpu"', '"\\u001b[31mcpu"'), r"has the invisible character U\+001B"),
    "a line in a key": (
        lambda r: replaced(r, '"created"', '"a\\nb": 1, "created"'),
        r"has the invisible character U\+000A",
    ),
    "script": (
        lambda r: edit(r, lambda x: x["system"]["parts"][0].update(reference="<script>alert(1)</script>")),
        r"system/parts/0/reference: .*it has markup \('<s'\)",
    ),
    "script in a summary": (
        lambda r: edit(r, lambda x: x["system"].update(summary="<img src=x onerror=alert(1)>")),
        r"system/summary: .*it has markup",
    ),
    "javascript link": (
        lambda r: edit(r, lambda x: x["system"]["parts"][0].update(reference="[paper](JavaScript:alert(1))")),
        r"it has markup \('JavaScript:'\)",
    ),
    "script in a name": (
        lambda r: edit(r, lambda x: x["system"].update(name="<b>x</b>")),
        r"system/name: '<b>x</b>' does",
    ),
    "path up": (
        lambda r: edit(r, lambda x: x["system"].update(name="../../etc/passwd")),
        r"system/name: .* does not match",
    ),
    "absolute": (
        lambda r: edit(r, lambda x: x["system"].update(name="/etc/passwd")),
        r"system/name: .* does not match",
    ),
    "Windows": (lambda r: edit(r, lambda x: x["system"].update(name="c:\\x")), r"system/name: .* does not match"),
    "NUL in a name": (lambda r: replaced(r, '"logmel_words"', '"a\\u0000b"'), r"system/name: .*does not match"),
    "a home of somebody": (
        lambda r: edit(r, lambda x: x["system"]["parts"][0].update(reference=f"see {HOME}/notes.txt")),
        r"cannot be published: system/parts/0/reference holds an absolute path \('see /",
    ),
    "a drive": (
        lambda r: edit(r, lambda x: x["environment"].update(data="D:\\corpora\\msp")),
        r"environment/data holds an absolute path",
    ),
    "a host": (
        lambda r: edit(r, lambda x: x["speed"].update(device="node17.internal")),
        r"speed/device holds a host's name",
    ),
    "an address": (
        lambda r: edit(r, lambda x: x["environment"].update(by="anna@example.org")),
        r"environment/by holds an e-mail address",
    ),
    "a label": (
        lambda r: edit(r, lambda x: x["environment"].update(a="MSP-PODCAST_0001_0002.wav 3.4 4.0 4.2")),
        r"environment/a holds an utterance's name",
    ),
    "a transcript": (
        lambda r: edit(r, lambda x: x.update(transcript={"MSP-PODCAST_0001_0002.wav": "well, I never"})),
        r"its top has the field 'transcript', which nobody can check",
    ),
    "labels in a field of a run": (
        lambda r: edit(r, lambda x: x["runs"][0].update(more=[3.4, 4.0, 4.2])),
        r"runs/0 has the field 'more', which nobody can check",
    ),
    "small clusters left out": (
        lambda r: edit(r, _split),
        r"leaves out a cluster of 5 utterances, expected 10",
    ),
    "fine values": (
        lambda r: edit(r, _finer),
        r"resampling/development/arousal has values finer than 2 / 72",
    ),
    "fine slices": (
        lambda r: edit(
            r, lambda x: x["runs"][0]["scores"]["test1"]["slices"]["gender"]["Male"].update(arousal=0.712345)
        ),
        r"slices/gender/Male/arousal is 0\.712345, expected 0\.7",
    ),
    "fine limits": (
        lambda r: edit(
            r, lambda x: x["runs"][0]["scores"]["test1"]["ccc"]["mean"].update(ci95_utterances=[0.712, 0.8315])
        ),
        r"test1/ccc/mean/ci95_utterances is \[0\.712, 0\.8315\], expected multiples of 1 / \(4 sqrt 96\)",
    ),
    "off the grid": (
        lambda r: edit(r, lambda x: _score(x)["slices"]["gender"]["Male"].update(count=40, arousal=0.71)),
        r"slices/gender/Male/arousal is 0\.71, expected 0\.7, which keeps",
    ),
    "fine calibration": (
        lambda r: edit(r, lambda x: _score(x)["calibration"]["arousal"][0].update(label=4.01)),
        r"test1/calibration/arousal/0/label is 4\.01, expected 4\.0, which keeps",
    ),
    "fine quantiles": (
        lambda r: edit(
            r,
            lambda x: _score(x)["slices"]["speakers"].update(
                count=12, arousal=dict.fromkeys(("0.1", "0.25", "0.5", "0.75", "0.9"), 0.512)
            ),
        ),
        r"slices/speakers/arousal/0\.1 is 0\.512, expected 0\.51, which",
    ),
    "quantiles of few": (
        lambda r: edit(
            r,
            lambda x: _score(x)["slices"]["speakers"].update(
                count=9, arousal=dict.fromkeys(("0.1", "0.25", "0.5", "0.75", "0.9"), 0.51)
            ),
        ),
        r"slices/speakers/arousal/0\.1 is 0\.51, expected None, which",
    ),
    "fine raters": (
        lambda r: edit(r, lambda x: x["ceiling"]["test1"]["arousal"].update(one=0.61)),
        r"ceiling/test1/arousal/one is 0\.61, expected 0\.6, which keeps",
    ),
    "mean of raters": (
        lambda r: edit(r, lambda x: x["ceiling"]["test1"]["mean"].update(one=0.612)),
        r"ceiling/test1/mean/one is 0\.612, expected 0\.6, which keeps",
    ),
    "more digits": (
        lambda r: edit(r, _more_digits),
        r"runs/0/resampling/test1/valence has values of more than 6 decimals",
    ),
    "a mean that is none": (
        lambda r: edit(r, _better),
        r"runs/0/scores/development: mean is no mean of arousal, valence, dominance over all utterances",
    ),
    "a mean without a cluster that is none": (
        lambda r: edit(r, _one_mean),
        r"runs/0/scores/test1: mean is no mean of arousal, valence, dominance without cluster 3",
    ),
    "more raters than utterances": (
        lambda r: edit(r, lambda x: x["ceiling"]["test1"].update(utterances=97)),
        r"ceiling/test1/utterances: 97, and 96 were scored",
    ),
    "few called many": (
        lambda r: edit(r, lambda x: _score(x)["clusters"].update(few=False)),
        r"runs/0/scores/test1: 8 clusters are not called few, and under 20 are",
    ),
    "counts": (
        lambda r: edit(r, lambda x: x["corpus"]["partitions"]["test1"].update(listed=90)),
        r"corpus/partitions/test1: 90 listed, 96 scored, 0 missing, which do not add up",
    ),
    "outside": (
        lambda r: edit(r, lambda x: x["corpus"]["partitions"]["test1"].update(outside_range=1)),
        r"corpus/partitions/test1/outside_range: 1, and its runs have \d",
    ),
    "text it does not read": (
        lambda r: edit(r, lambda x: x["system"].update(reads=["audio"])),
        r"system/reads is audio, and its parts are audio, text",
    ),
    "pretrained without": (
        lambda r: edit(r, lambda x: x["system"].update(weights="pretrained")),
        r"system/weights is pretrained, and its parts have scratch",
    ),
    "counts that match nothing": (
        lambda r: edit(r, lambda x: x["corpus"].update(identity="counts match")),
        r"corpus has the identity 'counts match', and release 1\.10, its labels and its counts do not say so",
    ),
    "a digest that nobody knows": (
        lambda r: edit(r, lambda x: x["corpus"].update(identity="digest known")),
        r"corpus has the identity 'digest known'",
    ),
    "another corpus": (
        lambda r: edit(r, lambda x: x["corpus"].update(name="demo")),
        r"corpus has the name demo, and its labels are those of no made-up release",
    ),
    "huge counts": (
        lambda r: edit(r, lambda x: x["runs"][0].update(epochs=2**63)),
        r"runs/0/epochs: 9223372036854775808 is greater than the maximum",
    ),
    "layer weights beyond a figure": (
        lambda r: edit(r, lambda x: x["runs"][0].update(layer_weights={"audio": [1e300, 1.0]})),
        r"runs/0/layer_weights/audio/0: 1e\+300 is greater than the maximum",
    ),
    "a web address": (
        lambda r: edit(r, lambda x: x["system"].update(name="http://example.org")),
        r"system/name: .* does not match",
    ),
    "a site": (
        lambda r: edit(r, lambda x: x["system"].update(name="words_www.example.org")),
        r"system/name: .* does not match",
    ),
    "status": (
        lambda r: edit(r, lambda x: x.update(status="reproduced")),
        r"record\.json has status 'reproduced', expected a run's own record, which says nothing of it\. Add",
    ),
    "supersedes": (
        lambda r: edit(r, lambda x: x.update(supersedes=_first(r))),
        r"record\.json has supersedes 'first-\w+', expected a run's own record",
    ),
    "reproduces": (
        lambda r: edit(r, lambda x: x.update(reproduces="nobody-1", status="reproduced")),
        r"record\.json has reproduces 'nobody-1', status 'reproduced', expected a run's own",
    ),
    "withheld in secret": (
        lambda r: edit(r, lambda x: x.update(predictions="withheld")),
        r"record\.json has predictions 'withheld', expected a run's own",
    ),
    "supersedes a path": (
        lambda r: edit(r, lambda x: x.update(supersedes="../x")),
        r"supersedes: '../x' does not match",
    ),
    "better than its resampling": (
        lambda r: edit(r, lambda x: x["runs"][0]["scores"]["test1"]["ccc"]["arousal"].update(value=0.99)),
        r"runs/0/scores/test1: arousal\.value is 0\.99 in it and .* by its resampling",
    ),
    "better than its seeds": (
        lambda r: edit(r, lambda x: x["summary"]["test1"]["ccc"]["mean"].update(mean=0.99)),
        r"summary\.test1\.ccc\.mean\.mean is 0\.99 in it and",
    ),
    "another calibration": (
        lambda r: edit(
            r, lambda x: x["runs"][0]["scores"]["test1"]["calibration"]["arousal"][0].update(prediction=6.5)
        ),
        r"test1: bin 0 of arousal has a mean prediction of \d\.\d\d over 96, and it says 6\.5",
    ),
    "another count outside": (
        lambda r: edit(r, _inside),
        r"contradicts the record on test1: \d+ values lie",
    ),
    "another digest": (
        lambda r: edit(r, lambda x: x["runs"][0].update(predictions_sha256="0" * 64)),
        r"does not have the digest that the record gives",
    ),
    "other attributes": (
        lambda r: edit(r, lambda x: x["recipe"].update(attributes=["arousal"])),
        r"runs/0/scores/development: valence has a score, and the recipe trains arousal",
    ),
}


@pytest.mark.parametrize("attack", RECORDS)
def test_a_hostile_record_is_refused(attack: str, run: Path, board: Path) -> None:
    spoil, message = RECORDS[attack]
    spoil(run)
    refused(run, board, message)


def _swap(columns: dict[str, list[Any]], column: str, number: int, value: Any) -> None:
    columns[column][number] = value


def test_relations_are_asked_for_by_who_adds(run: Path, board: Path) -> None:
    refused(run, board, r"supersedes 'nobody-1', which is not on", supersedes="nobody-1")
    message = r"supersedes 'first-\w+', and is of another system \(ser-bench logmel_words, ser-bench first\)"
    refused(run, board, message, supersedes=_first(run))


def test_attributes_are_those_of_the_last_stage(tmp_path: Path, board: Path) -> None:
    """Both stages of `finetune-freeze` have a recipe; what is predicted is what the head was trained on."""
    made = made_up.settings(strategy="finetune-freeze")
    made["head_recipe"] = {**made["recipe"], "attributes": ["valence"]}
    made["first_stage"] = {"system": "logmel", "settings": "01234567", "frames": "f16"}
    staged = {key: made[key] for key in ("strategy", "head_recipe", "first_stage")}
    folder = made_up.run_folder(tmp_path / "staged", seeds=(1,), **staged)
    assert records.read(add(folder, board))["summary"]["test1"]["ccc"]["arousal"] is None


SEEDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "of other clusters": (
        lambda block: block.update(digest="0" * 64),
        r"runs/1/resampling/test1/digest: 0{60}, and the first run's is \w{60}; the seeds of a run share it",
    ),
    "of other sizes": (
        lambda block: block.update(sizes=[13, 11, *block["sizes"][2:]]),
        r"runs/1/resampling/test1/sizes: \[13, 11, 12.*and the first run's is \[12, 12",
    ),
    "of fewer clusters": (
        lambda block: block.update(sizes=[24, *block["sizes"][2:]]),
        r"runs/1/resampling/test1/sizes: \[24, 12.*and the first run's is \[12, 12",
    ),
}


@pytest.mark.parametrize("attack", SEEDS)
def test_seeds_that_cannot_be_one_run(attack: str, tmp_path: Path, board: Path) -> None:
    change, message = SEEDS[attack]
    two = made_up.run_folder(tmp_path / "two")
    edit(two, lambda x: change(x["runs"][1]["resampling"]["test1"]))
    refused(two, board, message)


VALUES: dict[str, tuple[Callable[[dict[str, list[Any]]], Any], str]] = {
    "an utterance twice": (
        lambda c: _swap(c, "utterance", 1, c["utterance"][0]),
        r"has 1 utterances more than once \(first: MSP-PODCAST_development_0000\.wav\)",
    ),
    "an utterance missing": (
        lambda c: [column.pop() for column in c.values()],
        r"predicts .*95 of test2 \(expected 96\) utterances",
    ),
    "one unknown for one missing": (
        lambda c: _swap(c, "utterance", 80, "MSP-PODCAST_9999_0001.wav"),
        r"does not hold the utterances of test1 .*: 1 missing \(first: MSP-PODCAST_test1_0008\.wav\), 1 unknown",
    ),
    "no utterance of the corpus": (
        lambda c: _swap(c, "utterance", 0, "other.wav"),
        r"that no release of MSP-Podcast has",
    ),
    "a path up": (lambda c: _swap(c, "utterance", 0, "../../x.wav"), r"an utterance called '\.\./\.\./x\.wav'"),
    "an absolute path": (lambda c: _swap(c, "utterance", 0, "/etc/passwd"), r"an utterance called '/etc/passwd'"),
    "a Windows path": (lambda c: _swap(c, "utterance", 0, "c:\\x.wav"), r"an utterance called"),
    "a NUL": (lambda c: _swap(c, "utterance", 0, "a\0.wav"), r"an utterance called 'a\\x00\.wav'"),
    "a direction": (lambda c: _swap(c, "utterance", 0, "a\u202e.wav"), r"an utterance called 'a\\u202e\.wav'"),
    "script": (lambda c: _swap(c, "utterance", 0, "<script>.wav"), r"an utterance called '<script>\.wav'"),
    "no name": (lambda c: _swap(c, "utterance", 0, None), r"an utterance called None"),
    "a long name": (lambda c: _swap(c, "utterance", 0, "a" * 5000), r"has a name of 5,000 bytes, expected 100 at most"),
    "another partition": (
        lambda c: _swap(c, "partition", 0, "test9"),
        r"has the partition 'test9', expected one of train",
    ),
    "of train": (lambda c: _swap(c, "partition", 0, "train"), r"predicts .*1 of train \(expected 0\) utterances"),
    "NaN": (
        lambda c: _swap(c, "valence", 3, float("nan")),
        r"predicts nan for valence of MSP-PODCAST_development_0003",
    ),
    "an infinity": (lambda c: _swap(c, "valence", 3, float("inf")), r"predicts inf for valence of MSP"),
    "a gap": (lambda c: _swap(c, "arousal", 3, None), r"predicts None for arousal of MSP"),
    "an attribute left out": (
        lambda c: c.update(dominance=[None] * len(c["dominance"])),
        r"has no predictions of dominance, and the record trained arousal, valence, dominance",
    ),
    "constant": (
        lambda c: c.update(valence=[4.0] * len(c["valence"])),
        r"predictions of valence are constant, and it says",
    ),
    "somebody else's": (
        lambda c: c.update(arousal=[8 - v for v in c["arousal"]]),
        r"contradicts the record on \w+: (bin 0 of arousal|\d+ values lie outside)",
    ),
}


@pytest.mark.parametrize("attack", VALUES)
@pytest.mark.parametrize("withhold", [False, True])
def test_hostile_predictions_are_refused(attack: str, withhold: bool, run: Path, board: Path) -> None:
    change, message = VALUES[attack]
    rewrite(run, change)
    refused(run, board, message, withhold_predictions=withhold)


def test_values_outside_the_range_are_counted_and_not_refused(tmp_path: Path, board: Path) -> None:
    wild = made_up.run_folder(tmp_path / "wild", seeds=(1,), noise=3.0, system__name="wild")
    record = records.read(add(wild, board))
    assert record["corpus"]["partitions"]["test1"]["outside_range"] > 0


def _table(rows: int, **columns: Any) -> Any:
    names = [f"MSP-PODCAST_{n:06}.wav" for n in range(rows)]
    made: dict[str, Any] = {"utterance": names, "partition": ["test1"] * rows}
    made |= {a: np.zeros(rows) for a in ATTRIBUTES}
    return pyarrow.table(made | columns)


def test_more_rows_than_any_release_has(run: Path, board: Path) -> None:
    rows = 600_000
    table = pyarrow.table(
        {"utterance": ["a"] * rows, "partition": ["test1"] * rows} | {a: np.zeros(rows) for a in ATTRIBUTES}
    )
    pyarrow.parquet.write_table(table, run / PREDICTIONS, compression="zstd")
    assert (run / PREDICTIONS).stat().st_size < 2**15
    refused(run, board, r"has 600,000 rows in \d groups, expected 500,000 and 100 at most")


def test_more_columns(run: Path, board: Path) -> None:
    table = _table(5, **{f"c{n}": [1.0] * 5 for n in range(3000)})
    pyarrow.parquet.write_table(table, run / PREDICTIONS)
    refused(run, board, r"has the columns \['utterance', 'partition', 'arousal'")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("arousal", [[1.0]] * 5, r"has the columns"),
        ("arousal", ["1.0"] * 5, r"has a column arousal of type BYTE_ARRAY, expected DOUBLE"),
        ("utterance", [1, 2, 3, 4, 5], r"has a column utterance of type INT64, expected BYTE_ARRAY"),
        ("utterance", [b"\xff\xfe"] * 5, r"has a column utterance of type BYTE_ARRAY, expected BYTE_ARRAY, one value"),
    ],
)
def test_other_types(run: Path, board: Path, column: str, values: Any, message: str) -> None:
    pyarrow.parquet.write_table(_table(5, **{column: values}), run / PREDICTIONS)
    refused(run, board, message)


def test_a_bomb_of_long_strings(run: Path, board: Path) -> None:
    """Six strings of 16 MB unfold to 100 MB out of a few kilobytes."""
    table = _table(6, utterance=[chr(97 + n) * 2**24 for n in range(6)])
    pyarrow.parquet.write_table(table, run / PREDICTIONS, compression="zstd", use_dictionary=False)
    assert (run / PREDICTIONS).stat().st_size < 2**18
    refused(run, board, r"unfolds to more than 67,108,864 bytes; predictions do not")


def test_a_bomb_of_one_string_in_every_row(run: Path, board: Path) -> None:
    """It stands once on disk and would stand 100,000 times in memory: 100 GB."""
    column = pyarrow.DictionaryArray.from_arrays(np.zeros(100_000, dtype=np.int32), ["a" * 2**20])
    pyarrow.parquet.write_table(_table(100_000, utterance=column), run / PREDICTIONS, compression="zstd")
    assert (run / PREDICTIONS).stat().st_size < 2**16
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(run, board, r"has a name of 1,048,576 bytes, expected 100 at most")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_a_bomb_of_repeated_prefixes(run: Path, board: Path) -> None:
    """In this encoding each row costs a byte and stands for the whole string before it."""
    table = _table(500, utterance=["a" * 2**16] * 500)
    pyarrow.parquet.write_table(
        table, run / PREDICTIONS, use_dictionary=False, column_encoding={"utterance": "DELTA_BYTE_ARRAY"}
    )
    refused(run, board, r"(has a column in encoding 7, expected PLAIN|unfolds to more than)")


def test_a_bomb_whose_footer_lies(run: Path, board: Path) -> None:
    """The footer says that the column is small; the headers of its pages say what it takes."""
    table = _table(6, utterance=[chr(97 + n) * 2**24 for n in range(6)])
    path = run / PREDICTIONS
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    raw = path.read_bytes()
    (length,) = struct.unpack("<i", raw[-8:-4])
    body, footer = raw[: -8 - length], raw[-8 - length : -8]
    size = pyarrow.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    total = pyarrow.parquet.read_metadata(path).row_group(0).total_byte_size
    for number in (size, total):
        told = _varint(2 * number)
        assert told in footer
        footer = footer.replace(told, _varint(2 * 1000, len(told)))  # the same length, so that nothing else moves
    path.write_bytes(body + footer + raw[-8:])
    assert pyarrow.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1000
    refused(run, board, r"unfolds to more than 67,108,864 bytes")


def _varint(value: int, length: int = 0) -> bytes:
    found = bytearray()
    while value or not found:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    while len(found) < length:
        found.append(0x80)
    found[-1] &= 0x7F
    return bytes(found)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_refused_and_never_crash(run: Path, board: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = run / PREDICTIONS
    raw = bytearray(path.read_bytes())
    for place in rng.integers(0, len(raw), 1 + seed % 5):
        raw[place] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(raw))
    before = content(board)
    try:
        add(run, board)
    except RecordError:
        assert content(board) == before
    else:  # bytes that mean nothing, such as padding or statistics: the content is what the record says
        assert (
            tables.digest(tables.read_predictions(path))
            == records.read(run / "record.json")["runs"][0]["predictions_sha256"]
        )


def _link(place: Path) -> None:
    away = place.with_name("away" + place.suffix)
    place.rename(away)
    place.symlink_to(away.resolve())


def _fifo(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def _device(place: Path) -> None:
    place.unlink()
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["record.json", PREDICTIONS])
@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (_link, r"is a link; expected a regular file"),
        (_fifo, r"is no regular file"),
        (_device, r"is a link; expected a regular file"),
    ],
)
@pytest.mark.timeout(60)
def test_what_is_no_regular_file(run: Path, board: Path, name: str, turn: Callable[[Path], None], message: str) -> None:
    turn(run / name)
    refused(run, board, message)


@pytest.mark.parametrize("name", ["", "seed-1"])
def test_a_folder_that_is_a_link(run: Path, board: Path, name: str) -> None:
    _link(run / name)
    refused(run, board, r"is a link or no folder, expected a folder")


@pytest.mark.parametrize("name", ["", "records", "predictions"])
def test_a_leaderboard_that_leads_elsewhere(run: Path, board: Path, name: str) -> None:
    _link(board / name)
    with pytest.raises(RecordError, match="is a link or no folder"):
        add(run, board)


@pytest.mark.parametrize("word", ["../run", "/etc/passwd", "a\0b", "first-00000000.json", ".."])
def test_names_of_other_records_are_no_paths(run: Path, board: Path, word: str) -> None:
    refused(run, board, "malformed at (supersedes|reproduces)|which is not on this leaderboard", supersedes=word)
    refused(run, board, "malformed at (supersedes|reproduces)|which is not on this leaderboard", reproduces=word)


def test_a_path_with_a_NUL(tmp_path: Path, board: Path) -> None:
    with pytest.raises(RecordError, match="has a NUL character in it"):
        records.read(tmp_path / "a\0b.json")


def test_names_of_this_machine_and_its_user(run: Path, board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "galadriel.example.org")
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    edit(run, lambda r: r["environment"].update(note="trained on Galadriel"))
    refused(run, board, r"environment/note holds the name of this machine or its user \('trained on Galadriel'\)")
    edit(run, lambda r: r["environment"].update(note="the root of it, galadriels"))
    add(run, board)


def test_a_name_that_is_too_long_for_a_file_is_cut(tmp_path: Path, board: Path) -> None:
    run = made_up.run_folder(tmp_path / "long", seeds=(1,), system__name="x" * 260)
    assert len(add(run, board).name) < 120


def test_the_same_on_the_leaderboard_is_a_fault(board: Path, run: Path) -> None:
    """What `add` refuses to write, `check` finds when somebody writes it by hand."""
    record = json.loads((run / "record.json").read_text()) | {"predictions": "withheld", "more": 1}
    cache.atomic_write(board / "records" / "logmel_words-00000000.json", records.canonical(record))
    told = dict(check(board, rendered=lambda board: {}).faults)["records/logmel_words-00000000.json"]
    assert "its top has the field 'more', which nobody can check" in told
