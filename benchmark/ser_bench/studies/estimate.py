"""What a study will take: measured on one small batch of each system, on the device it will run on, and multiplied out.

Letters: b utterances, c channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ser_bench import recipes, stages, system
from ser_bench.corpus import Release
from ser_bench.corpus.demo import cached_demo
from ser_bench.host import Plan, host
from ser_bench.interface import SAMPLE_RATE, Recipe, Weights
from ser_bench.progress import clock
from ser_bench.studies.options import Options
from ser_bench.studies.steps import Steps
from ser_bench.suite import Planned, RunSpec

_SECONDS, _BATCH = 3.0, 2
"""Of an utterance, and utterances, that are timed; longer ones cost more than in proportion (attention), larger batches
less (parallel work), so this is a first figure, and `ser-bench runs` tells a better one once a run is under way."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Disk and time of what is not done yet."""

    audio_hours: float
    device: str
    stores: Mapping[str, int]
    """What is stored once, in words -> bytes."""
    run_bytes: int
    """Run folders: models and checkpoints."""
    store_seconds: float
    training_seconds: tuple[float, float]
    """Least (development gets no better after the first epoch) and most (it does to the last)."""
    scoring_seconds: float

    @property
    def seconds(self) -> tuple[float, float]:
        """Least and most in all, one run at a time."""
        rest = self.store_seconds + self.scoring_seconds
        return rest + self.training_seconds[0], rest + self.training_seconds[1]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "seconds": list(self.seconds)}

    def text(self) -> str:
        """Return it for people."""
        least, most = (clock(seconds) for seconds in self.seconds)
        lines = [f"{self.audio_hours:,.1f} hours of audio; on {self.device}, one run at a time: {least} to {most}"]
        lines.append(f"  stores {clock(self.store_seconds)}, scoring elsewhere {clock(self.scoring_seconds)}")
        lines += [f"  disk: {size / 1e9:,.2f} GB for {what}" for what, size in self.stores.items()]
        lines.append(f"  disk: {self.run_bytes / 1e9:,.2f} GB at most for run folders (models, checkpoints)")
        lines.append(
            "  measured on one small batch of each system; `ser-bench runs` tells more once a run is under way"
        )
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """What one second of audio costs a system."""

    frontend: float
    forward: float
    training: float
    """Seconds."""
    frame_bytes: float
    """Of what the front end gives, as it is stored."""
    parameters: tuple[int, int]


def estimate(need: Steps, options: Options) -> Estimate:
    """Estimate what is left to do of a study.

    Raises:
        PluginError: a system cannot be built.
    """
    place = cached_demo(options.cache) if options.corpus == "demo" else Path(options.corpus)
    release = Release.open(place, version=options.release, cache=options.cache)
    seconds = {name: float(np.nansum(release.rows(name).duration)) for name in release.partitions}
    every = sum(seconds.values())
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    stores: dict[str, int] = {}
    store_seconds = least = most = scoring = 0.0
    run_bytes = 0
    paces: dict[str, _Pace] = {}
    folders = {cell.key: cell.spec for cell in need.cells}
    for one in [planned for planned in need.planned if not planned.finished]:
        plan, frozen = _plan(one.spec), one.spec.strategy != "finetune"
        pace = paces.setdefault(f"{plan.name} {frozen}", _measured(plan, one.spec, device))
        what = _store_name(plan, one, frozen)
        if what is not None and what not in stores:
            stores[what] = 0 if options.frames == "off" else round(_stored(plan, pace, frozen, release, every))
            store_seconds += every * pace.frontend
        recipe = plan.recipe
        epoch = seconds.get("train", 0.0) * pace.training + seconds.get("development", 0.0) * pace.forward
        if options.frames == "off":
            epoch += (seconds.get("train", 0.0) + seconds.get("development", 0.0)) * pace.frontend
        least += min(recipe.epochs, 1 + recipe.patience) * epoch
        most += recipe.epochs * epoch
        run_bytes += 4 * (
            pace.parameters[0] + 4 * pace.parameters[1]
        )  # model; best and last, the last with two moments
    for scored in [score for score in need.scores if not score.done]:
        spec = folders[scored.scoring.of]
        plan = _plan(spec)
        pace = paces.setdefault(f"{plan.name} False", _measured(plan, spec, device))
        tested = sum(length for name, length in seconds.items() if name != "train")
        scoring += tested * (pace.frontend + pace.forward * options.seeds)
    return Estimate(
        audio_hours=round(every / 3600, 3),
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads",
        stores={what: size for what, size in stores.items() if size},
        run_bytes=run_bytes,
        store_seconds=round(store_seconds, 1),
        training_seconds=(round(least, 1), round(most, 1)),
        scoring_seconds=round(scoring, 1),
    )


def _plan(spec: RunSpec) -> Plan:
    """Resolve a run's system with its recipe; of FT => FRZ, the second stage's."""
    plan = (
        host().plan(spec.plugin)
        if spec.plugin
        else host().compose(audio=spec.audio, text=spec.text, head=spec.head or "concat")
    )
    changes = spec.head_changes if spec.strategy == "finetune-freeze" else spec.changes
    recipe = recipes.changed(plan.recipe, changes)
    return Plan(**{**vars(plan), "recipe": recipe})


def _store_name(plan: Plan, one: Planned, frozen: bool) -> str | None:
    if plan.audio is None:
        return None
    encoder = plan.audio.spec.name
    if not frozen:
        return f"audio frames of {encoder}, read by every system with it"
    if one.spec.strategy == "finetune-freeze":
        return f"vectors of {stages.audio_plan(plan, host()).name}'s fine-tuned encoder, seed {one.seed}"
    head = cast(Any, plan.head).spec
    return f"{'vectors' if head.pooling else 'sequences'} of all layers of {encoder}, read by every attribute and seed"


def _stored(plan: Plan, pace: _Pace, frozen: bool, release: Release, seconds: float) -> float:
    """Return bytes: a few vectors an utterance for a frozen encoder that is pooled, else in proportion to the audio."""
    head = plan.head.spec if plan.head is not None else None
    if frozen and head is not None and head.pooling is not None:
        return pace.frame_bytes * _SECONDS * sum(len(release.rows(name)) for name in release.partitions)
    return pace.frame_bytes * seconds


def _measured(plan: Plan, spec: RunSpec, device: torch.device) -> _Pace:
    """Time the front end, a forward pass and an optimiser step's passes of a system with random weights."""
    sizes: dict[str, Weights] = dict.fromkeys(plan.parts, "tiny" if "tiny" in spec.weights else "random")
    module = system.build(plan, sizes, Recipe() if plan.whole else plan.recipe)
    if spec.strategy != "finetune":
        module = system.Frozen(cast(system.Composed, module))
    whole = cast(Any, module.to(device).eval())
    waves = [0.05 * torch.randn(round(_SECONDS * SAMPLE_RATE), device=device) for _ in range(_BATCH)]
    audio = lengths = text = words = None
    frontend, stored = 0.0, 0.0
    with torch.no_grad():
        if "audio" in plan.reads:
            frames, took = _timed(lambda: [whole.audio_frontend(wave) for wave in waves], device)
            frontend = took / (_SECONDS * _BATCH)
            stored = frames[0].numel() * (4 if spec.strategy != "finetune" else 2) / _SECONDS
            audio, lengths = _padded(frames, device)
        if "text" in plan.reads:
            said = [whole.text_frontend("as many words as are said in three").ids for _ in range(_BATCH)]
            text, words = _padded(said, device)
        _, forward = _timed(lambda: whole(audio, lengths, text, words), device)
    whole.train()
    _, training = _timed(lambda: _backward(whole, whole(audio, lengths, text, words)), device)
    return _Pace(
        frontend=frontend,
        forward=forward / (_SECONDS * _BATCH),
        training=training / (_SECONDS * _BATCH),
        frame_bytes=stored,
        parameters=system.count(module),
    )


def _padded(parts: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return [b, t] or [b, t, c], and lengths [b]."""
    lengths = torch.tensor([len(part) for part in parts], device=device)
    return torch.nn.utils.rnn.pad_sequence([part.to(device) for part in parts], batch_first=True), lengths


def _backward(module: nn.Module, predicted: Tensor) -> None:
    if predicted.requires_grad:
        predicted.square().mean().backward()  # type: ignore[no-untyped-call]
    module.zero_grad()


def _timed(call: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Call once to warm up, and once with a watch."""
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    found = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return found, time.perf_counter() - began
