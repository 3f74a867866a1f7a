"""Measure how fast a system trains and predicts here: made-up utterances of the corpus' lengths, random weights.

Needs no corpus, and no package that only reading one needs: it runs on a bare GPU machine with torch and transformers.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from ser_bench import cost, recipes, synthetic, system
from ser_bench.cost import Inference
from ser_bench.errors import PluginError
from ser_bench.host import Plan, host
from ser_bench.interface import Weights
from ser_bench.prepare import Progress, Storing, make_inputs
from ser_bench.trained import device_named
from ser_bench.training.batches import Inputs
from ser_bench.training.device import accelerator_for, device_name, peak_memory, precision
from ser_bench.training.fit import fit
from ser_bench.training.predict import predict

CORPUS_HOURS = 166.0
"""Of MSP-Podcast 1.10."""
TRAIN_SHARE, DEVELOPMENT_SHARE = 63_076 / 104_267, 10_999 / 104_267
"""Of its utterances."""
EPOCHS = 2  # that are measured, after one that warms up
BATCHES = {"cpu": 4, "cuda": 64}
"""Batches to an epoch, where nobody says how many utterances."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured, and what it comes to on a corpus."""

    system: str
    device: str
    precision: str
    front_end_precision: str
    batch_size: int
    micro_batch: int | None
    utterances: int
    parameters: int
    train_audio_seconds_per_second: float | None
    """In epochs after the first, from stored frames; None for a system without trained parameters."""
    predict_audio_seconds_per_second: float
    """From stored frames, batched."""
    front_end_audio_seconds_per_second: float | None
    """With its outputs put on disk; None for a system that reads no audio."""
    store_bytes_per_audio_hour: float
    padding_share: float
    arithmetic_share: float | None
    """Of the rate of a matrix product at the model's own shapes, measured here too; padding counts as computed."""
    peak_memory_bytes: int
    inference: Inference
    hours: float
    """Of the corpus that the following are for."""
    store_bytes: float
    front_end_seconds: float | None
    epoch_seconds: float | None
    """Training and development."""
    epochs: int
    """At most, as the recipe says."""
    full_run_seconds: float | None
    """Front end, all epochs, and the predictions at the end."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)


def measure(
    plugin: str,
    *,
    hours: float = CORPUS_HOURS,
    device: str | None = None,
    weights: Weights = "random",
    utterances: int | None = None,
    micro_batch: int | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Speed:
    """Measure a system.

    Args:
        plugin: a system's name.
        hours: of audio in the corpus that times are told for.
        device: as torch names it; None: a GPU where there is one.
        weights: ``random`` (full size) or ``tiny``.
        utterances: to train on; None: 64 on a CPU, 1,024 on a GPU, at the paper's batch size.
        micro_batch: as in a run.
        changes: recipe keys and values.
        progress: told of everything that takes long.

    Raises:
        PluginError: there is no such system, the hours are no time, or there are too few utterances.
        TrainingError: there is no such device, or the recipe cannot be trained.
    """
    plan = host().plan(plugin)
    plan = dataclasses.replace(plan, recipe=recipes.changed(plan.recipe, changes or {}))
    where = accelerator_for(device_named(device) if device else None, plan.recipe.precision)
    count = utterances or BATCHES[where.device.type] * plan.recipe.batch_size
    if not 0 < hours < float("inf"):
        raise PluginError(f"--hours {hours:g} was given; expected hours of audio, more than 0.")
    if count < plan.recipe.batch_size:
        raise PluginError(
            f"--utterances {count} was given; expected at least a batch, which is {plan.recipe.batch_size}."
        )
    torch.manual_seed(1)
    module = system.build(plan, dict.fromkeys(plan.parts, weights), plan.recipe)
    corpus = synthetic.corpus({"train": count, "development": max(2, count // 4)})
    system.fit_texts(module, [text or "" for text in corpus.rows["train"].transcript])
    if plan.whole is not None and hasattr(module, "fit"):
        cast(Any, module).fit(corpus.rows["train"])
    if where.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where.device)
    with tempfile.TemporaryDirectory(prefix="ser-bench-speed-") as folder:
        began = time.perf_counter()
        inputs = make_inputs(module, plan, corpus, Storing(cache=Path(folder)), device=where.device, progress=progress)
        stored = time.perf_counter() - began
        rate = _train(module, inputs, plan, where, Path(folder), micro_batch, progress)
        return _told(module, inputs, plan, where, hours, micro_batch, stored, rate)


def _train(
    module: nn.Module,
    inputs: Mapping[str, Inputs],
    plan: Plan,
    accelerator: Accelerator,
    folder: Path,
    micro_batch: int | None,
    progress: Progress | None,
) -> float | None:
    """Train for a few epochs; return audio seconds a second in those after the first."""
    if not any(p.requires_grad for p in module.parameters()):
        module.to(accelerator.device)
        return None
    recipe = dataclasses.replace(plan.recipe, epochs=1 + EPOCHS, patience=1 + EPOCHS)
    fit(
        module, inputs["train"], inputs["development"], recipe, seed=1, folder=folder / "run", accelerator=accelerator,
        micro_batch=micro_batch, progress=progress,
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    taken = float(lines[-1]["seconds"]) - float(lines[1]["seconds"])  # epoch 0 is the start, 1 warms up
    train = inputs["train"]
    # What an epoch leaves over, the next one takes.
    steps = len(train) * (1 + EPOCHS) // recipe.batch_size - len(train) // recipe.batch_size
    return float(train.duration.mean()) * steps * recipe.batch_size / max(taken, 1e-9)


def _told(
    module: nn.Module,
    inputs: Mapping[str, Inputs],
    plan: Plan,
    accelerator: Accelerator,
    hours: float,
    micro_batch: int | None,
    stored: float,
    rate: float | None,
) -> Speed:
    """Measure the rest, and project."""
    device, recipe, kind, train = accelerator.device, plan.recipe, precision(accelerator), inputs["train"]
    every = sum(float(part.duration.sum()) for part in inputs.values())
    with accelerator.autocast():
        predicting = cost.least_seconds(
            lambda: predict(module, train, batch_size=recipe.batch_size, device=device), device, times=2
        )
    peak = peak_memory(device)
    padding = cost.training_padding(train.duration, recipe, seed=1)
    share = None
    if rate is not None:
        share = cost.arithmetic_share(module, train, recipe, rate, device=device, precision=kind, padding=padding)
    predict_rate = float(train.duration.sum()) / predicting
    front = every / stored if "audio" in plan.reads else None
    audio = hours * 3600
    front_seconds = None if front is None else audio / front
    epoch = None if rate is None else audio * (TRAIN_SHARE / rate + DEVELOPMENT_SHARE / predict_rate)
    full = None
    if epoch is not None:
        full = (front_seconds or 0.0) + epoch * recipe.epochs + audio * (1 - TRAIN_SHARE) / predict_rate
    per_second = (cost.stored_bytes(inputs) or 0) / every
    return Speed(
        system=plan.name,
        device=device_name(device),
        precision=kind,
        front_end_precision=recipe.frontend_precision,
        batch_size=recipe.batch_size,
        micro_batch=micro_batch,
        utterances=len(train),
        parameters=system.count(module)[0],
        train_audio_seconds_per_second=rate,
        predict_audio_seconds_per_second=predict_rate,
        front_end_audio_seconds_per_second=front,
        store_bytes_per_audio_hour=per_second * 3600,
        padding_share=padding,
        arithmetic_share=share,
        peak_memory_bytes=peak,
        inference=cost.inference(module, plan),
        hours=hours,
        store_bytes=per_second * audio,
        front_end_seconds=front_seconds,
        epoch_seconds=epoch,
        epochs=recipe.epochs,
        full_run_seconds=full,
    )


def table(found: Speed) -> str:
    """Return what was measured as a table for people."""
    from tabulate import tabulate

    from ser_bench.progress import clock

    def times(rate: float | None) -> str:
        return "-" if rate is None else f"{rate:,.1f} audio seconds a second"

    def span(seconds: float | None) -> str:
        return "-" if seconds is None else clock(seconds)

    told = found.inference
    rows = [
        ("training, from stored frames", times(found.train_audio_seconds_per_second)),
        ("prediction, from stored frames", times(found.predict_audio_seconds_per_second)),
        ("front end, with its store", times(found.front_end_audio_seconds_per_second)),
        ("padding", f"{found.padding_share:.1%} of the seconds in a batch"),
        (
            "arithmetic",
            "-" if found.arithmetic_share is None else f"{found.arithmetic_share:.0%} of a matrix product's rate",
        ),
        ("peak memory", f"{found.peak_memory_bytes / 1e9:.2f} GB"),
        ("store", f"{found.store_bytes_per_audio_hour / 1e6:.0f} MB an audio hour"),
        ("a prediction on the CPU", f"{told.latency_seconds:.3f} s, {told.real_time_factor:.3f} of real time"),
        ("multiply-adds", f"{told.multiply_adds_per_audio_second / 1e9:.2f} G an audio second"),
        (f"store for {found.hours:g} h", f"{found.store_bytes / 1e9:.1f} GB"),
        ("front end, once", span(found.front_end_seconds)),
        ("an epoch, with development", span(found.epoch_seconds)),
        (f"full run, {found.epochs} epochs (at most)", span(found.full_run_seconds)),
    ]
    size = f"{found.parameters / 1e6:.1f} M parameters"
    head = f"{found.system} ({size}) on {found.device}, {found.precision}, front end {found.front_end_precision}"
    return f"{head}, {found.utterances:,} made-up utterances\n{tabulate(rows, tablefmt='plain')}"
