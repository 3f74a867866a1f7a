"""Records made from made-up predictions: whole and valid, without torch and without a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_bench import recipes, records, tables
from ser_bench.cache import atomic_write
from ser_bench.consistency import trained_attributes
from ser_bench.interface import Recipe, Rows
from ser_bench.scoring import PartitionScore, score_partition

SIZES = {"development": [12] * 6, "test1": [12] * 8, "test2": [12] * 8}
"""Utterances of each speaker."""
CEILING = {"utterances": 60, "ratings": 300} | {
    name: {"one": 0.6, "simulated": 0.7} for name in ("arousal", "valence", "dominance", "mean")
}
"""What raters reach, as if made of five ratings of most utterances."""
CREATED = "2026-01-31T12:00:00Z"


def rows(partition: str, sizes: Sequence[int]) -> Rows:
    """Make a partition whose labels follow from its name alone."""
    rng = np.random.default_rng(list(partition.encode()))
    n = sum(sizes)
    return Rows(
        partition=partition,
        utterance=[f"MSP-PODCAST_{partition}_{i:04}.wav" for i in range(n)],
        path=[""] * n,
        duration=rng.uniform(2, 12, n),
        labels=np.clip(np.rint(5 * rng.normal(4, 1, (n, 3))) / 5, 1, 7),
        emotion=rng.choice(list("NHAS"), n).tolist(),
        speaker=[f"{partition}-{k}" for k, size in enumerate(sizes) for _ in range(size)],
        gender=rng.choice(["Male", "Female"], n).tolist(),
        podcast=["0001"] * n,
        transcript=["well"] * n,
    )


def prediction(labels: NDArray[np.float64], noise: float, seed: int) -> NDArray[np.float64]:
    """Predict [n, 3] labels a little too close to the middle, with noise."""
    return 4 + 0.7 * (labels - 4) + noise * np.random.default_rng(seed).normal(0, 1, labels.shape)


def settings(
    *, partitions: Mapping[str, Sequence[int]] = SIZES, missing: int = 0, weights: str = "scratch", **changes: Any
) -> dict[str, Any]:
    """Make the settings of a run; ``changes`` are ``block__key=value`` or ``key=value``."""
    counts = {
        name: {"listed": sum(of) + missing, "scored": sum(of), "missing": missing} for name, of in partitions.items()
    }
    part = {"kind": "audio", "name": "logmel", "weights": weights}
    part |= {"repo": None, "revision": None, "licence": None, "reference": None, "trained_on": []}
    made: dict[str, Any] = {
        "system": {
            "name": "logmel_words",
            "distribution": "ser-bench",
            "version": "0.1.0",
            "reads": ["audio", "text"],
            "head": "concat",
            "depth": 2,
            "weights": weights,
            "parts": [part, part | {"kind": "text", "name": "words"}],
        },
        "corpus": {
            "name": "msp-podcast",
            "release": "1.10",
            "identity": "unconfirmed",
            "labels_sha256": "9c1f03ab" + 56 * "0",
            "clusters_sha256": 64 * "c",
            "condition": "clean",
            "partitions": {"train": {"listed": 100, "scored": 100, "missing": 0}, **counts},
        },
        "transcripts": {"train": "human", "test": "human"},
        "strategy": "finetune",
        "recipe": recipes.as_dict(Recipe()),
        "frames": "f16",
        "precision": "float32",
    }
    for key, value in changes.items():
        block, _, name = key.rpartition("__")
        (made[block] if block else made)[name] = value
    parts = [one for one in made["system"]["parts"] if one["kind"] in made["system"]["reads"]]
    made["system"]["parts"] = parts or [part | {"kind": "system", "name": "mean_only"}]
    return made


@cache
def _scored(name: str, seed: int, noise: float, attributes: tuple[str, ...]) -> PartitionScore:
    part = rows(name, SIZES[name])
    return score_partition(prediction(part.labels, noise, seed), part.labels, rows=part, attributes=attributes)


def result(
    seed: int,
    *,
    noise: float = 0.5,
    attributes: Sequence[str] = Recipe().attributes,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make what one finished seed leaves behind, for the settings ``made``: the caller's own, to be damaged."""
    listed = (made or settings())["corpus"]["partitions"]
    scored = {name: _scored(name, seed, noise, tuple(attributes)) for name in SIZES if name in listed}
    scores = {name: found.as_dict() for name, found in scored.items()}
    resampling = {name: found.resampling for name, found in scored.items()}
    left: dict[str, Any] = {
        "run": {
            "seed": seed,
            "best_epoch": 3,
            "epochs": 8,
            "predictions_sha256": f"{seed:064x}",
            "scores": scores,
            "resampling": resampling,
            "layer_weights": None,
        },
        "size": {"parameters": 131_000, "trainable_parameters": 130_000},
        "transcripts": {"truncated": 0, "empty": 0, "wer": None},
        "ceiling": dict.fromkeys(scored, CEILING),
        "left_out": [],
        "speed": {
            "device": "cpu, 1 threads",
            "train_audio_seconds_per_second": 10.0,
            "predict_audio_seconds_per_second": 20.0,
            "peak_memory_bytes": 1_000_000,
        },
        "environment": records.environment("cpu", 1, {"torch": "2.11.0"}),
    }
    return copy.deepcopy(left)


def record(*, seeds: Sequence[int] = (1,), noise: float = 0.5, **changes: Any) -> dict[str, Any]:
    """Make a record; ``changes`` as in ``settings``."""
    made = settings(**changes)
    attributes = trained_attributes(made)
    results = [result(seed, noise=noise, attributes=attributes, made=made) for seed in seeds]
    return records.assemble(made, results, created=CREATED)


def run_folder(folder: Path, *, seeds: Sequence[int] = (1, 2), noise: float = 0.5, **changes: Any) -> Path:
    """Write a run folder with settings, predictions, results and record; ``changes`` as in ``settings``."""
    made = settings(**changes)
    attributes = trained_attributes(made)
    results = [result(seed, noise=noise, attributes=attributes, made=made) for seed in seeds]
    for seed, left in zip(seeds, results, strict=True):
        parts = {name: rows(name, SIZES[name]) for name in left["run"]["scores"]}
        values = {name: prediction(part.labels, noise, seed) for name, part in parts.items()}
        path = folder / f"seed-{seed}" / "predictions.parquet"
        utterances = {name: part.utterance for name, part in parts.items()}
        left["run"]["predictions_sha256"] = tables.write_predictions(path, utterances, values, attributes)
        atomic_write(path.with_name("result.json"), records.canonical(left))
    atomic_write(folder / "settings.json", records.canonical(made))
    made_record = records.assemble(made, results, created=CREATED)
    atomic_write(folder / "record.json", records.canonical(made_record))
    return folder
