"""`ser-bench speed`: made-up utterances like the corpus', figures that hang together, and no package but torch's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_imports import loaded

from ser_bench import cli, cost, records, speed, synthetic
from ser_bench.errors import PluginError

LACKING = ("datasets", "pyarrow", "evaluate", "jiwer", "faster_whisper", "ctranslate2", "pandas", "soundfile", "scipy")


@pytest.mark.parametrize("n", [64, 400, 5_000])
def test_lengths_are_the_corpus(n: int) -> None:
    lengths = synthetic.durations(n)
    assert (lengths.mean(), lengths.std()) == pytest.approx((5.69, 2.35), abs=0.02)
    assert 1.91 <= lengths.min() < 2.2
    assert 11.0 < lengths.max() <= 11.94
    assert np.array_equal(lengths, synthetic.durations(n))
    assert not np.array_equal(lengths, synthetic.durations(n, seed=1))
    order = np.array_split(np.arange(n), n // 8)
    assert 0.3 < cost.padding_share(lengths, order) < 0.42  # batches of 8 in random order


def test_a_made_up_corpus_is_read_without_files() -> None:
    corpus = synthetic.corpus({"train": 20, "development": 5})
    assert corpus.made_up is not None
    train, development = corpus.rows["train"], corpus.rows["development"]
    assert (len(train), len(development)) == (20, 5)
    assert not set(train.path) & set(development.path)
    for path, seconds, said in zip(train.path, train.duration, train.transcript, strict=True):
        wave = corpus.made_up(path)
        assert (wave.dtype, len(wave)) == (np.float32, round(seconds * 16_000))
        assert np.abs(wave).max() < 1
        assert np.array_equal(wave, corpus.made_up(path))
        assert len(str(said).split()) == pytest.approx(seconds * 2.7, abs=0.51)
    assert ((train.labels >= 1) & (train.labels <= 7)).all()


@pytest.fixture(scope="module")
def found() -> speed.Speed:
    return speed.measure("logmel_words", device="cpu", weights="tiny", utterances=32, hours=10.0, changes={"epochs": 3})


def test_projections_follow_from_what_was_measured(found: speed.Speed) -> None:
    train, predict = found.train_audio_seconds_per_second, found.predict_audio_seconds_per_second
    assert train is not None and found.front_end_audio_seconds_per_second is not None
    assert min(train, predict, found.front_end_audio_seconds_per_second, found.peak_memory_bytes) > 0
    assert found.front_end_seconds == pytest.approx(36_000 / found.front_end_audio_seconds_per_second)
    epoch = 36_000 * (63_076 / 104_267 / train + 10_999 / 104_267 / predict)
    assert found.epoch_seconds == pytest.approx(epoch)
    last = 36_000 * (1 - 63_076 / 104_267) / predict
    assert found.full_run_seconds == pytest.approx(found.front_end_seconds + 3 * epoch + last)
    # 100 frames a second of 40 bands, and a word's number for every 0.37 s.
    assert found.store_bytes == pytest.approx(found.store_bytes_per_audio_hour * 10)
    assert found.arithmetic_share is not None and 0 < found.arithmetic_share < 1.5
    assert 0 < found.padding_share < 0.4
    assert (found.batch_size, found.utterances, found.epochs, found.hours) == (16, 32, 3, 10.0)


@pytest.mark.parametrize(("utterances", "steps"), [(40, 5), (31, 4)])
def test_rates_are_audio_over_the_time_of_later_epochs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, utterances: int, steps: int
) -> None:
    from ser_bench.training.checkpoint import Position

    def fit(*given: Any, folder: Path, **options: Any) -> Position:
        folder.mkdir()
        lines = [{"epoch": n, "seconds": s} for n, s in enumerate((0.0, 100.0, 110.0, 120.0))]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return Position()

    monkeypatch.setattr(speed, "fit", fit)
    found = speed.measure("logmel", device="cpu", weights="tiny", utterances=utterances)
    mean = synthetic.durations(utterances).mean()
    # Steps of 16, in 20 s; what the first epoch left over is in them.
    assert found.train_audio_seconds_per_second == pytest.approx(16 * steps * mean / 20)


def test_a_system_without_parameters_is_not_trained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    words = ["speed", "--plugin", "mean_only", "--device", "cpu", "--out", str(path)]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["train_audio_seconds_per_second"] is None
    assert told["epoch_seconds"] is None
    assert told["hours"] == 166.0
    assert json.loads(path.read_text()).keys() == told.keys()


def test_the_table_names_units(found: speed.Speed) -> None:
    shown = speed.table(found)
    for words in ("audio seconds a second", "of the seconds in a batch", "of a matrix product's rate", "GB",
                  "of real time", "G an audio second", "store for 10 h", "full run, 3 epochs (at most)"):  # fmt: skip
        assert words in shown
    assert shown.startswith("logmel_words (")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hours": 0.0}, r"--hours 0 was given; expected hours of audio, more than 0\."),
        ({"utterances": 15}, r"--utterances 15 was given; expected at least a batch, which is 16\."),
        ({"plugin": "logmal"}, "Did you mean 'logmel'"),
    ],
)
def test_what_cannot_be_measured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        speed.measure(**{"plugin": "logmel", "device": "cpu", **options})


def test_torch_and_transformers_are_enough() -> None:
    """Also `training/`: a bare GPU machine has nothing else."""
    code = f"""
import sys
for name in {LACKING!r}:
    sys.modules[name] = None  # importing it fails
import pkgutil, importlib, ser_bench.training
for module in pkgutil.iter_modules(ser_bench.training.__path__):
    importlib.import_module(f"ser_bench.training.{{module.name}}")
from ser_bench.cli import main
words = ["speed", "--plugin", "logmel_words", "--weights", "tiny", "--utterances", "16", "--device", "cpu", "--json"]
assert main(words) == 0
for name in {LACKING!r}:
    del sys.modules[name]
"""
    assert loaded(code, LACKING) == []


def test_a_record_tells_what_a_run_cost(tmp_path: Path) -> None:
    import ser_bench
    from ser_bench.testing import write_release

    release = write_release(tmp_path / "release", utterances=60, seconds=(0.2, 0.9))
    run = ser_bench.run("logmel", corpus=release, out=tmp_path / "run", cache=tmp_path / "cache", device="cpu",
                        changes={"epochs": 1})  # fmt: skip
    told = records.read(run / "record.json")["speed"]
    assert 0 < told["padding_share"] < 0.6
    assert 0 < told["arithmetic_share"] < 1.5
    assert told["front_end_audio_seconds_per_second"] > 0
    stored = next((tmp_path / "cache" / "frames").glob("*/data.bin")).stat().st_size
    assert told["store_bytes"] == stored
    assert told["inference"]["real_time_factor"] == pytest.approx(told["inference"]["latency_seconds"] / 5.69, abs=1e-5)
    assert told["inference"]["multiply_adds_per_audio_second"] > 1e5
    scored = ser_bench.runner.score(run, corpus=release, out=tmp_path / "scored", device="cpu", frames="off")
    told = records.read(scored / "record.json")["speed"]
    assert (told["train_audio_seconds_per_second"], told["padding_share"], told["arithmetic_share"]) == (
        None,
        None,
        None,
    )
    assert told["store_bytes"] is None
    assert told["inference"]["latency_seconds"] > 0
