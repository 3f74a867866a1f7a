"""What one trained seed leaves behind: predictions, scores, and the result that marks it as finished."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from ser_bench import cost, records, system, tables
from ser_bench.cache import atomic_write
from ser_bench.host import Plan
from ser_bench.prepare import Corpus, Progress
from ser_bench.scoring.partition import match, score_partition
from ser_bench.training.batches import Inputs
from ser_bench.training.device import device_name, peak_memory, precision
from ser_bench.training.fit import Position
from ser_bench.training.predict import predict
from ser_bench.training.ranks import Ranks


def finish(
    folder: Path,
    seed: int,
    module: nn.Module,
    plan: Plan,
    corpus: Corpus,
    inputs: Mapping[str, Inputs],
    accelerator: Accelerator,
    at: Position,
    progress: Progress | None,
    *,
    first_stage: str | None = None,
    source: str | None = None,
) -> None:
    """Predict and score all but train; write predictions, then the result, which marks the seed as finished.

    ``first_stage`` tells which seed of which run the audio encoder comes from, by its predictions' digest; ``source``
    tells in the same way which training is scored again. Several processes share the prediction; the main one does the
    rest.
    """
    ranks = Ranks(accelerator)
    began, audio_seconds = time.monotonic(), 0.0
    values: dict[str, NDArray[np.float64]] = {}
    for done, (name, part) in enumerate(inputs.items(), start=1):
        with accelerator.autocast():
            predicted = predict(module, part, batch_size=plan.recipe.batch_size, device=accelerator.device, ranks=ranks)
        values[name] = predicted * 6 + 1
        audio_seconds += float(part.duration.sum())
        if progress is not None:
            progress("predicting", done, len(inputs))
    took = time.monotonic() - began
    if not ranks.main:
        return
    attributes = plan.recipe.attributes
    digest = tables.write_predictions(
        folder / "predictions.parquet", {name: part.utterance for name, part in inputs.items()}, values, attributes
    )
    scores, resampling = {}, {}
    for name in inputs:
        if name == "test3":  # its labels are withheld: predictions only, in the challenge's form
            tables.write_challenge(folder / "test3.csv", inputs[name].utterance, values[name], attributes)
            continue
        rows = corpus.rows[name]
        row = match(rows.utterance, inputs[name].utterance)  # each exactly once, whatever happened on the way
        wer = corpus.wer[name].counts.wer if corpus.wer and name in corpus.wer else None
        found = score_partition(values[name][row], rows.labels, rows=rows, attributes=attributes, wer=wer)
        scores[name], resampling[name] = found.as_dict(), found.resampling
    total, trainable = system.count(module)
    weights = getattr(system.head_of(module), "layer_weights", None)
    rate = at.trained_audio_seconds / at.trained_seconds if at.trained_seconds else None
    device = accelerator.device
    result = {
        "run": {
            "seed": seed,
            "best_epoch": at.best_epoch,
            "epochs": max(at.epoch - 1, 0),
            "predictions_sha256": digest,
            "scores": scores,
            "resampling": resampling,
            "layer_weights": None if weights is None else weights(),
            **({} if first_stage is None else {"first_stage": first_stage}),
        },
        **({} if source is None else {"source": source}),
        "size": {"parameters": total, "trainable_parameters": trainable},
        "transcripts": _texts(inputs, corpus),
        "ceiling": {name: corpus.ceiling[name] for name in scores},
        "left_out": sorted(corpus.rows.keys() - {"train"} - inputs.keys()),
        "speed": {
            "device": device_name(device),
            "train_audio_seconds_per_second": None if rate is None else round(rate, 3),
            "predict_audio_seconds_per_second": round(audio_seconds / took, 3),
            "peak_memory_bytes": peak_memory(device),
            **_costs(module, plan, corpus, inputs, accelerator, seed, rate),
        },
        "environment": records.environment(
            device_name(device),
            torch.get_num_threads(),
            {"torch": torch.__version__, "transformers": _version("transformers")}
            | ({"processes": str(ranks.count)} if ranks.count > 1 else {})
            | ({"before": "; ".join(at.before)[:200]} if at.before else {}),
        ),
    }
    atomic_write(folder / "result.json", records.canonical(result))


def _costs(
    module: nn.Module,
    plan: Plan,
    corpus: Corpus,
    inputs: Mapping[str, Inputs],
    accelerator: Accelerator,
    seed: int,
    rate: float | None,
) -> dict[str, Any]:
    """Tell what training and inference cost beside time and memory; null where that is not known.

    Args:
        rate: audio seconds a second that were trained on; None where nothing was.
    """
    device, recipe = accelerator.device, plan.recipe
    padding = share = None
    if rate is not None:
        known = padding = cost.training_padding(corpus.rows["train"].duration, recipe, seed=seed)
        kind, part = precision(accelerator), inputs["development"]
        share = cost.perhaps(
            lambda: cost.arithmetic_share(module, part, recipe, rate, device=device, precision=kind, padding=known)
        )
    front = cost.perhaps(lambda: cost.front_end_rate(module, recipe, device)) if "audio" in plan.reads else None
    told = cost.perhaps(lambda: cost.inference(module, plan))
    return {
        "padding_share": None if padding is None else round(padding, 6),
        "arithmetic_share": None if share is None else round(share, 6),
        "front_end_audio_seconds_per_second": None if front is None else round(front, 3),
        "store_bytes": cost.stored_bytes(inputs),
        "inference": None if told is None else {key: round(value, 6) for key, value in asdict(told).items()},
    }


def _texts(inputs: Mapping[str, Inputs], corpus: Corpus) -> dict[str, Any]:
    """Count cut and empty texts over the scored partitions, and tell the WER of ASR text where there is human text."""
    truncated = empty = 0
    for name, part in inputs.items():
        if part.text is not None:
            truncated += sum(part.text.truncated(number) for number in range(len(part)))
            empty += sum(not (text or "").strip() for text in corpus.rows[name].transcript)
    wer = {name: found.as_record() for name, found in (corpus.wer or {}).items() if name in corpus.rows}
    return {"truncated": truncated, "empty": empty, "wer": wer or None}


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)
