"""Records: one spelling, a signature that follows from the content, and no damage that goes unnoticed."""

from __future__ import annotations

import copy
import dataclasses
import getpass
import hashlib
import importlib.resources
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest

from ser_bench import records
from ser_bench.errors import RecordError
from ser_bench.interface import Recipe, Regularisation
from ser_bench.version import VERSION


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return made_up.record(seeds=(1, 2))


@pytest.fixture
def record(made: dict[str, Any]) -> dict[str, Any]:
    """A valid record of two seeds, the test's own to damage."""
    return copy.deepcopy(made)


def test_canonical_form() -> None:
    assert records.canonical({"b": [1, 0.5], "a": {"é": None}}) == (
        '{\n "a": {\n  "é": null\n },\n "b": [\n  1,\n  0.5\n ]\n}\n'
    )
    assert records.canonical({"x": 1, "y": 2}) == records.canonical({"y": 2, "x": 1})
    with pytest.raises(RecordError, match=r"cannot hold NaN or an infinity .*; a score that is not a number is null"):
        records.canonical({"a": float("nan")})


def test_digest_is_that_of_the_canonical_form() -> None:
    assert records.digest({"a": 1}) == hashlib.sha256(b'{\n "a": 1\n}\n').hexdigest()
    assert records.digest({"a": 1}, 6) == records.digest({"a": 1})[:6]
    assert records.digest({"a": 1.0}) != records.digest({"a": 1})


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert records.file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


# What the design's example line says, field by field and in its order.
EXAMPLE = (
    "corpus:msp-podcast-1.10|labels:9c1f03ab|train:human|test:human+clean|system:distilhubert_tinybert@0.1.0|head:concat|"
    "depth:2|weights:pretrained|strategy:finetune|recipe:{recipe}|frames:f16|partial:0|seeds:3|metric:ccc-1|v:{version}"
)


def test_signature_is_the_designs_example_line() -> None:
    made = made_up.record(seeds=(1, 2, 3), system__name="distilhubert_tinybert", system__weights="pretrained")
    recipe = hashlib.sha256((json.dumps(made["recipe"], indent=1, sort_keys=True) + "\n").encode()).hexdigest()[:6]
    assert made["signature"] == EXAMPLE.format(recipe=recipe, version=VERSION)


def test_signature_tells_apart_all_that_a_score_depends_on() -> None:
    elsewhere = {"corpus": made_up.settings(corpus__name="demo", corpus__release=None)["corpus"], "frames": "f32"}
    made = [
        made_up.record(),
        made_up.record(seeds=(1, 2)),
        made_up.record(missing=2),
        made_up.record(corpus__release=None),
        made_up.record(corpus__condition="noise:babble@10dB"),
        made_up.record(corpus__labels_sha256=64 * "1"),
        made_up.record(transcripts={"train": "human", "test": "whisper-base"}),
        made_up.record(transcripts={"train": "whisper-base", "test": "human"}),
        made_up.record(system__version="0.2.0"),
        made_up.record(system__depth=None),
        made_up.record(system__head=None),
        made_up.record(system__weights="audio=tiny+text=scratch"),
        made_up.record(strategy="frozen"),
        made_up.record(recipe=made_up.settings()["recipe"] | {"learning_rate": 1e-4}),
        made_up.record(frames="f32-off"),
        made_up.record(trained=elsewhere),
    ]
    assert len({one["signature"] for one in made}) == len(made)
    assert "|partial:6|" in made[2]["signature"]  # two of each scored partition
    assert made[3]["signature"].startswith("corpus:msp-podcast-unknown|")
    assert "|depth:all|" in made[9]["signature"]
    assert made[-1]["signature"].endswith("|trained:demo/9c1f03ab/f32")
    # Nothing else moves it: scores, speed, time, and the order of keys.
    same = made_up.record(seeds=(7,), noise=1.0) | {"created": "2027-01-01T00:00:00Z"}
    assert records.signature(dict(reversed(same.items()))) == made[0]["signature"]


def test_assemble_orders_seeds_and_keeps_settings() -> None:
    elsewhere = {"corpus": made_up.settings()["corpus"], "frames": "f16"}
    settings = made_up.settings(trained=elsewhere, precision="bfloat16")
    made = records.assemble(settings, [made_up.result(3), made_up.result(1)], created=made_up.CREATED)
    assert [run["seed"] for run in made["runs"]] == [1, 3]
    assert (made["schema"], made["status"], made["created"]) == (1, "self-reported", made_up.CREATED)
    assert (made["precision"], made["trained"]) == ("bfloat16", elsewhere)
    assert made["system"]["parameters"] == 131_000
    assert made["corpus"]["partitions"]["test1"] == {"listed": 96, "scored": 96, "missing": 0, "outside_range": 0}


def test_assemble_counts_predictions_outside_the_range_over_seeds() -> None:
    results = [made_up.result(seed, noise=3.0) for seed in (1, 2)]
    counts = [one["run"]["scores"]["test1"]["outside_range"] for one in results]
    labels = made_up.rows("test1", made_up.SIZES["test1"]).labels
    predicted = [made_up.prediction(labels, 3.0, seed) for seed in (1, 2)]
    assert counts == [int(((p < 1) | (p > 7)).sum()) for p in predicted]
    made = records.assemble(made_up.settings(), results, created=made_up.CREATED)
    assert made["corpus"]["partitions"]["test1"]["outside_range"] == sum(counts) > 0


def test_a_partition_without_text_is_listed_and_not_scored() -> None:
    settings = made_up.settings()
    settings["corpus"]["partitions"]["test3"] = {"listed": 5, "scored": 5, "missing": 0}
    made = records.assemble(settings, [made_up.result(1) | {"left_out": ["test3"]}], created=made_up.CREATED)
    assert made["corpus"]["partitions"]["test3"] == {"listed": 5, "scored": 0, "missing": 0, "outside_range": 0}


def test_summary_is_over_seeds(record: dict[str, Any]) -> None:
    values = [run["scores"]["test1"]["ccc"]["valence"]["value"] for run in record["runs"]]
    cell = record["summary"]["test1"]["ccc"]["valence"]
    assert cell["mean"] == pytest.approx(sum(values) / 2, abs=1e-6)
    assert cell["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-6)
    assert cell["ci95"][0] < cell["mean"] < cell["ci95"][1]
    one = made_up.record()
    assert one["summary"]["test1"]["ccc"]["valence"]["std"] is None
    assert (
        one["summary"]["test1"]["ccc"]["valence"]["ci95"] == one["runs"][0]["scores"]["test1"]["ccc"]["valence"]["ci95"]
    )


def test_an_attribute_that_was_not_trained_is_null() -> None:
    settings = made_up.settings(recipe=made_up.settings()["recipe"] | {"attributes": ["arousal", "dominance"]})
    results = [made_up.result(seed, attributes=("arousal", "dominance")) for seed in (1, 2)]
    made = records.assemble(settings, results, created=made_up.CREATED)
    ccc = made["summary"]["test2"]["ccc"]
    assert ccc["valence"] is None
    assert ccc["mean"]["mean"] == pytest.approx((ccc["arousal"]["mean"] + ccc["dominance"]["mean"]) / 2, abs=2e-6)


def test_round_trip(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(records.canonical(record), encoding="utf-8")
    assert records.read(path) == record
    assert records.canonical(records.read(path)) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"r\.json does not exist; expected a file that `ser-bench run` wrote"),
        ("{", r"r\.json cannot be read as JSON \(.*\)\. Restore it, or run again"),
        (b"\xff", r"r\.json cannot be read as JSON"),
        ("[1]", r"r\.json holds a list, expected a JSON object"),
        ("{}", r"r\.json is malformed at its top: '\w+' is a required property\. Make it again with `ser-bench run`"),
    ],
)
def test_a_file_that_is_no_record(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "r.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecordError, match=message):
        records.read(path)


REQUIRED = [
    "schema", "signature", "status", "system", "corpus", "transcripts", "strategy", "recipe", "frames", "precision",
    "runs", "summary", "speed", "environment", "created", "system/parameters", "system/parts/0/revision",
    "corpus/labels_sha256", "corpus/partitions/test1/outside_range", "transcripts/wer", "recipe/regularisation/dropout",
    "runs/0/predictions_sha256", "runs/1/scores/test1/ccc/mean", "runs/0/scores/test1/slices/gender",
    "runs/0/scores/test1/clusters/few", "runs/0/resampling/test2/digest", "summary/test1/ccc/arousal/ci95",
    "speed/peak_memory_bytes", "environment/threads",
]  # fmt: skip


def _at(record: Any, place: str) -> tuple[Any, Any]:
    """Return the container and key at a place."""
    *steps, last = [int(step) if step.isdigit() else step for step in place.split("/")]
    for step in steps:
        record = record[step]
    return record, last


@pytest.mark.parametrize("place", REQUIRED)
def test_each_missing_field_is_named(record: dict[str, Any], place: str) -> None:
    container, key = _at(record, place)
    del container[key]
    where = place.rpartition("/")[0] or "its top"
    with pytest.raises(RecordError, match=rf"the record is malformed at {re.escape(where)}: '{key}' is a required"):
        records.validate(record)


CLOSED = [
    "transcripts", "recipe", "recipe/regularisation", "summary/test1", "summary/test1/ccc", "summary/test1/ccc/arousal",
    "speed", "system/parts/0", "corpus/partitions/test1", "runs/0/scores/test1", "runs/0/scores/test1/ccc",
    "runs/0/scores/test1/ccc/mean", "runs/0/scores/test1/clusters", "runs/0/scores/test1/slices",
    "runs/0/scores/test1/slices/gender/Male", "runs/0/scores/test1/slices/speakers", "runs/0/scores/test1/calibration",
    "runs/0/scores/test1/calibration/valence/0", "runs/0/resampling/test1", "runs/0/resampling/test1/full",
    "corpus/partitions", "runs/0/scores", "runs/0/resampling", "summary",
]  # fmt: skip


@pytest.mark.parametrize("place", CLOSED)
def test_what_is_closed_takes_no_other_field(record: dict[str, Any], place: str) -> None:
    container, key = _at(record, place)
    container[key]["transcript"] = 0.5
    with pytest.raises(RecordError, match=rf"malformed at {re.escape(place)}: .*transcript"):
        records.validate(record)


@pytest.mark.parametrize("place", ["", "system", "corpus", "runs/0", "runs/1"])
def test_what_is_open_takes_more_fields(record: dict[str, Any], place: str) -> None:
    container = _at(record, place)[0][_at(record, place)[1]] if place else record
    container["more"] = {"anything": 1}
    records.validate(record)


DAMAGED: list[tuple[str, Any, str]] = [
    ("runs/0/scores/test1/ccc/arousal/value", float("nan"), "nan is not a finite number"),
    ("runs/0/resampling/test1/mean/3", float("inf"), "inf is not a finite number"),
    ("recipe/learning_rate", float("-inf"), "-inf is not a finite number"),
    ("runs/0/scores/test1/ccc/arousal/value", 1.01, "1.01 is greater than the maximum of 1"),
    ("summary/test2/ccc/mean/mean", -1.5, "-1.5 is less than the minimum of -1"),
    ("runs/0/scores/test1/ccc/arousal/value", "0.5", "'0.5' is not of type 'number'"),
    ("runs/0/scores/test1/ccc/arousal/ci95", [0.1], r"\[0.1\] is too short"),
    ("runs/0/scores/test1/ccc/arousal/ci95/1", 1.2, "1.2 is greater than the maximum of 1"),
    ("runs/0/scores/test1/slices/gender/Male/arousal", 2, "2 is greater than the maximum of 1"),
    ("runs/0/scores/test1/calibration/arousal/0/count", 1, "1 is less than the minimum of 50"),
    ("runs/0/scores/test1/clusters/few", 1, "1 is not of type 'boolean'"),
    ("runs/0/resampling/test1/sizes/0", 0, "0 is less than the minimum of 1"),
    ("runs/0/resampling/test1/metric", "ccc-2", "'ccc-1' was expected"),
    ("runs/0/resampling/test1/arousal/2", None, "None is not of type 'number'"),
    ("runs/0/seed", -1, "-1 is less than the minimum of 0"),
    ("runs/0/seed", True, "True is not of type 'integer'"),
    ("runs/0/predictions_sha256", "abc", "'abc' does not match"),
    ("runs", [], r"\[\] should be non-empty"),
    ("schema", 2, "1 was expected"),
    ("status", "reported", "is not one of"),
    ("predictions", "lost", "is not one of"),
    ("strategy", "guess", "'guess' is not one of"),
    ("frames", "f64", "'f64' is not one of"),
    ("corpus/name", "my-corpus", "is not one of"),
    ("corpus/release", "1.10|labels:00000000", "does not match"),
    ("corpus/condition", "a|b", "does not match"),
    ("corpus/labels_sha256", 64 * "g", "does not match"),
    ("transcripts/test", "human|x", "does not match"),
    ("system/name", "/home/me/run", "does not match"),
    ("system/weights", "/data/weights", "does not match"),
    ("system/parts/0/weights", "/data/weights", "does not match"),
    ("system/parts/0/revision", "main", "'main' does not match"),
    ("system/parts/0/repo", "/home/me/model", "does not match"),
    ("recipe/attributes", ["arousal", "anger"], "'anger' is not one of"),
    ("recipe/batch_size", 16.5, "16.5 is not of type 'integer'"),
    ("environment/threads", 0, "0 is less than the minimum of 1"),
    ("created", "yesterday", "'yesterday' does not match"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "message"), DAMAGED, ids=[f"{p}={v}" for p, v, _ in DAMAGED])
def test_damage_is_refused_with_its_place(record: dict[str, Any], place: str, value: Any, message: str) -> None:
    container, key = _at(record, place)
    container[key] = value
    named = rf"the record is malformed at {re.escape(place)}\S*: .*{message}"
    with pytest.raises(RecordError, match=named):
        records.validate(record)


def test_a_score_of_few_utterances_is_refused(record: dict[str, Any]) -> None:
    """It would give labels away."""
    record["runs"][0]["scores"]["test1"]["slices"]["gender"]["Male"]["count"] = 9
    with pytest.raises(
        RecordError, match=r"malformed at runs/0/scores/test1/slices/gender/Male/\w+: .* is not of type 'nu"
    ):
        records.validate(record)


def test_nan_in_a_file_is_refused_with_its_place(record: dict[str, Any], tmp_path: Path) -> None:
    """Python reads NaN out of JSON, and NaN is neither over nor under any limit."""
    record["summary"]["test1"]["ccc"]["mean"]["mean"] = float("nan")
    (tmp_path / "r.json").write_text(json.dumps(record))
    with pytest.raises(RecordError, match=r"r\.json is malformed at summary/test1/ccc/mean/mean: nan is not a finite"):
        records.read(tmp_path / "r.json")


def test_a_long_fault_still_says_what_was_expected(record: dict[str, Any]) -> None:
    record["runs"][0]["scores"] = [record["runs"][0]["scores"]] * 3
    with pytest.raises(RecordError) as raised:
        records.validate(record)
    assert "malformed at runs/0/scores: [{'development'" in str(raised.value)
    assert "breaks type object" in str(raised.value)
    assert len(str(raised.value)) < 500


def test_what_either_validator_refuses_is_refused(record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick one says no and gives no reason; the other may read a pattern differently."""

    class Refuses:
        def is_valid(self, record: Any) -> bool:
            return False

    monkeypatch.setattr(records, "_quick", Refuses)
    with pytest.raises(RecordError, match=r"the record is malformed at its top: breaks the schema\. Make it again"):
        records.validate(record)


def _set(place: str, value: Callable[[Any], Any]) -> Callable[[Any], None]:
    def damage(record: Any) -> None:
        container, key = _at(record, place)
        container[key] = value(container[key])

    return damage


CONTRADICTIONS: list[tuple[str, Callable[[Any], None], str]] = [
    ("edited score", _set("runs/0/scores/test1/ccc/arousal/value", lambda v: v - 0.1),
     r"runs/0/scores/test1: arousal\.value is .* in it and .* by its resampling"),
    ("edited interval", _set("runs/1/scores/test2/ccc/mean/ci95/0", lambda v: v + 0.01),
     r"runs/1/scores/test2: mean\.ci95\[0\] is .* in it and .* by its resampling"),
    ("score taken away", _set("runs/0/scores/test1/ccc/valence", lambda v: None),
     r"runs/0/scores/test1: valence has a score without one resampling value for each cluster, or the reverse"),
    ("one value too few", _set("runs/0/resampling/test1/valence", lambda v: v[1:]),
     r"runs/0/scores/test1: valence has a score without one resampling value"),
    ("edited sizes", _set("runs/0/resampling/test1/sizes/0", lambda v: v + 1),
     r"runs/0/scores/test1: 97 utterances in 8 clusters, expected 96 \(scored\)"),
    ("edited count", _set("corpus/partitions/test1/scored", lambda v: 90),
     r"runs/0/scores/test1: 96 utterances in 8 clusters, expected 90 \(scored\)"),
    ("seed twice", _set("runs/1/seed", lambda v: 1), r"runs/1/seed: 1 is there twice"),
    ("partition lost", lambda r: r["runs"][1]["scores"].pop("test2"),
     r"runs/1: scores of development, test1, resampling of development, test1, test2, the first run's of"),
    ("resampling lost", lambda r: r["runs"][0]["resampling"].pop("test2"),
     r"runs/0: scores of development, test1, test2, resampling of development, test1, the first run's of"),
    ("partition unlisted", lambda r: r["corpus"]["partitions"].pop("test2"),
     r"runs/0: scores of development, test1, test2, .*, out of train, development, test1\."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"), [(d, m) for _, d, m in CONTRADICTIONS], ids=[n for n, _, _ in CONTRADICTIONS]
)
def test_a_record_that_says_two_things(record: dict[str, Any], damage: Callable[[Any], None], message: str) -> None:
    damage(record)
    with pytest.raises(RecordError, match=f"the record is malformed at {message}"):
        records.validate(record)


WER = {
    "value": 0.25,
    "ci95": [0.2, 0.31],
    "errors": 25,
    "words": 100,
    "substitutions": 15,
    "deletions": 4,
    "insertions": 6,
    "empty_references": 1,
    "without_reference": 0,
    "cer": 0.1,
    "normaliser": "whisper-normalizer-0.1.15+msp-1",
}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({}, ""),
        ({"value": 0.2}, r"transcripts/wer/test1: 0\.2 of 25 errors \(\[15, 4, 6\]\) in 100 words"),
        ({"deletions": 5}, r"transcripts/wer/test1: 0\.25 of 25 errors \(\[15, 5, 6\]\) in 100 words"),
        ({"words": 0}, r"transcripts/wer/test1: 0\.25 of 25 errors .* in 0 words"),
        ({"normaliser": "a|b"}, r"transcripts/wer/test1/normaliser: 'a\|b' does not match"),
        ({"speaker_7": 0.3}, r"transcripts/wer/test1: Additional properties"),
    ],
)
def test_a_word_error_rate_agrees_with_its_counts(record: dict[str, Any], damage: dict[str, Any], message: str) -> None:
    record["transcripts"]["wer"] = {"test1": WER | damage}
    if not damage:
        records.validate(record)
        return
    with pytest.raises(RecordError, match=f"the record is malformed at {message}"):
        records.validate(record)


def test_edited_summary(record: dict[str, Any]) -> None:
    cell = record["summary"]["test1"]["ccc"]["arousal"]
    true = cell["mean"]
    cell["mean"] = true + 1e-6  # another machine's rounding
    records.validate(record)
    cell["mean"] = true + 1e-4
    with pytest.raises(RecordError, match=r"summary\.test1\.ccc\.arousal\.mean is 0\.\d+ in it and 0\.\d+ by its runs"):
        records.validate(record)


def test_edited_signature(record: dict[str, Any]) -> None:
    record["signature"] = record["signature"].replace("seeds:2", "seeds:5")
    with pytest.raises(
        RecordError, match=r"is signed '.*seeds:5.*', but its content gives '.*seeds:2.*'\. A signature is"
    ):
        records.validate(record)


def test_edited_content_breaks_the_signature(record: dict[str, Any]) -> None:
    record["recipe"]["epochs"] = 51
    with pytest.raises(RecordError, match="its content gives"):
        records.validate(record)


def test_schema_knows_every_field_of_the_recipe() -> None:
    schema = json.loads((importlib.resources.files("ser_bench") / "record.schema.json").read_text())["$defs"]["recipe"]
    for known, kind in ((schema, Recipe), (schema["properties"]["regularisation"], Regularisation)):
        names = {field.name for field in dataclasses.fields(kind)}
        assert set(known["properties"]) == names == set(known["required"])


def test_settle_takes_the_same_settings_again(tmp_path: Path) -> None:
    records.settle(tmp_path / "run", made_up.settings())
    written = (tmp_path / "run" / "settings.json").read_bytes()
    records.settle(tmp_path / "run", made_up.settings())
    assert (tmp_path / "run" / "settings.json").read_bytes() == written
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["settings.json"]


def test_settle_names_what_differs(tmp_path: Path) -> None:
    records.settle(tmp_path, made_up.settings())
    other = made_up.settings(recipe=made_up.settings()["recipe"] | {"epochs": 3}, corpus__release="1.11", frames="f32")
    other["system"]["parts"][1]["weights"] = "tiny"
    with pytest.raises(RecordError) as raised:
        records.settle(tmp_path, other)
    assert str(raised.value) == (
        f'{tmp_path} holds a run with other settings: corpus.release is "1.10" there and "1.11" here; '
        'frames is "f16" there and "f32" here; recipe.epochs is 50 there and 3 here; and 1 more. '
        "A run folder takes runs that differ in the seed alone; give another --out."
    )
    with pytest.raises(
        RecordError, match=r"recipe\.learning_rate is 1e-05 there and 1\.0000001e-05 here\. A run folder"
    ):
        records.settle(
            tmp_path, made_up.settings(recipe=made_up.settings()["recipe"] | {"learning_rate": 1.0000001e-05})
        )


def test_settle_refuses_now_what_a_record_could_not_hold_later(tmp_path: Path) -> None:
    settings = made_up.settings()
    settings["system"]["parts"][0]["licence"] = "x" * 65
    with pytest.raises(
        RecordError, match=r"cannot go into a record, at system/parts/0/licence: .* Correct the option, or"
    ):
        records.settle(tmp_path, settings)
    assert not list(tmp_path.iterdir())


def test_safe_name() -> None:
    assert records.safe_name("logmel[1]+words>concat") == "logmel-1-words-concat"
    assert records.safe_name("../../x y") == "..-..-x-y"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A release, a run on it, and the run's record."""
    from ser_bench.runner import run
    from ser_bench.testing import write_release

    folder = tmp_path_factory.mktemp("real")
    release = write_release(folder / "corpus", utterances=80, seconds=(0.2, 0.5))
    out = run(
        "logmel_words", corpus=release, changes={"epochs": 1}, out=folder / "run", cache=folder / "cache", device="cpu"
    )
    return release, out, records.read(out / "record.json")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *_strings(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def test_a_real_record_holds_nothing_private(real: tuple[Path, Path, dict[str, Any]]) -> None:
    release, out, record = real
    text = (out / "record.json").read_text(encoding="utf-8")
    strings = _strings(record)
    assert not [one for one in strings if re.search(r"(^|[\s:=])[/~\\]|[A-Za-z]:\\|file:", one)]
    names = {socket.gethostname(), getpass.getuser(), Path.home().name, out.parent.name, release.name} - {""}
    words = {word for one in strings for word in re.findall(r"[\w.-]+", one)}
    assert not words & names
    # No utterance, no speaker or rater, and nothing that was said.
    assert not re.search(r"MSP-PODCAST_|WORKER\d|\.wav", text)
    said = {path.read_text().strip() for path in (release / "Transcripts").iterdir()}
    assert len(said) > 20
    assert not any(line in text for line in said)
    assert not {"awful", "horrible", "wonderful", "lovely"} & words


def _numbers(value: Any, place: str = "") -> list[tuple[str, float]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, inner in items for found in _numbers(inner, f"{place}/{key}")]
    return [(place, value)] if isinstance(value, float) else []


def test_a_real_record_holds_no_label_value(real: tuple[Path, Path, dict[str, Any]]) -> None:
    """Labels are fifths on 1..7; the only numbers over 1 in the scores are means of 50 utterances or more."""
    _, _, record = real
    found = [place for place, value in _numbers(record["runs"]) if abs(value) > 1.05 and "/calibration/" not in place]
    assert not found
    labels = {value for run in record["runs"] for value in run["scores"]["test1"]["calibration"].values()}
    assert labels == {None}  # 12 utterances: too few for any bin


def test_another_place_of_the_corpus_gives_the_same_settings(
    real: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    import shutil

    from ser_bench.runner import run

    release, out, record = real
    moved = tmp_path / "elsewhere" / release.name
    shutil.copytree(release, moved)
    again = run(
        "logmel_words", corpus=moved, changes={"epochs": 1}, out=tmp_path / "x", cache=tmp_path / "cache", device="cpu"
    )
    settings = [(folder / "settings.json").read_bytes() for folder in (out, again)]
    assert settings[0] == settings[1]
    other = records.read(again / "record.json")
    assert other["signature"] == record["signature"]
    assert other["runs"][0]["predictions_sha256"] == record["runs"][0]["predictions_sha256"]


def test_validate_does_not_touch_the_record(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    records.validate(record)
    assert record == before


def test_now_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", records.now())
    assert np.datetime64(records.now()[:-1]) <= np.datetime64("now") + np.timedelta64(2, "s")


def test_signature_names_the_metric_of_the_scores_not_the_installed_one(monkeypatch) -> None:
    made = made_up.record()
    monkeypatch.setattr(records, "METRIC", "ccc-9")
    assert records.signature(made) == made["signature"]
    assert "|metric:ccc-1|" in made["signature"]


def test_a_run_folder_is_held_by_one_process_at_a_time(tmp_path) -> None:
    folder = tmp_path / "run"
    with (
        records.hold(folder),
        pytest.raises(RecordError, match=r"another process works in .*run\. Wait for it"),
        records.hold(folder),
    ):
        pass
    assert not folder.exists(), "nothing came of it, nothing stays"
    with records.hold(folder):
        (folder / "settings.json").write_text("{}")
    assert (folder / "settings.json").exists()
