"""What a study will take: measured on one batch of each system, on the device it will run on, and multiplied out.

Letters: b utterances, c channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ser_bench import recipes, stages, synthetic, system
from ser_bench.corpus import Release
from ser_bench.corpus.demo import cached_demo
from ser_bench.cost import least_seconds
from ser_bench.host import Plan, host
from ser_bench.interface import Weights
from ser_bench.prepare import audio_array, text_array
from ser_bench.progress import clock
from ser_bench.studies.options import Options
from ser_bench.studies.steps import Steps
from ser_bench.suite import RunSpec
from ser_bench.trained import device_named
from ser_bench.training.device import accelerator_for


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Disk and time of what is not done yet."""

    audio_hours: float
    device: str
    stores: Mapping[str, int]
    """What is stored once, in words -> bytes; what the cache holds of it already is not looked for."""
    run_bytes: int
    """Run folders: models and checkpoints."""
    store_seconds: float
    training_seconds: tuple[float, float]
    """Least (development gets no better after the first epoch) and most (it does to the last)."""
    scoring_seconds: float
    not_counted: tuple[str, ...]
    """Transcriptions."""

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
        if self.not_counted:
            many = "source" if len(self.not_counted) == 1 else "sources"
            lines.append(f"  not counted: transcribing {len(self.not_counted)} {many}: {', '.join(self.not_counted)}")
        lines += [f"  disk: {size / 1e9:,.2f} GB for {what}" for what, size in self.stores.items()]
        if self.stores:
            lines.append("  stores that the cache holds already are counted, too")
        lines.append(f"  disk: {self.run_bytes / 1e9:,.2f} GB at most for run folders (models, checkpoints)")
        lines.append("  measured on one batch of each system; `ser-bench runs` tells more once a run is under way")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """What one second of audio costs a system."""

    frontend: float
    forward: float
    training: float
    """Seconds."""
    stored: float
    """Bytes that are stored of an utterance of mean length."""
    parameters: tuple[int, int]


@dataclass(kw_only=True)
class _Need:
    """What adds up."""

    stores: dict[str, int] = dataclasses.field(default_factory=dict)
    store_seconds: float = 0.0
    least: float = 0.0
    most: float = 0.0
    scoring: float = 0.0
    run_bytes: int = 0

    def store(self, what: str, size: float, seconds: float) -> None:
        """Count a store, once."""
        if what not in self.stores:
            self.stores[what] = round(size)
            self.store_seconds += seconds


def estimate(need: Steps, options: Options) -> Estimate:
    """Estimate what is left to do of a study, what waits for a transcription included.

    Raises:
        PluginError: a system cannot be built.
    """
    place = cached_demo(options.cache) if options.corpus == "demo" else Path(options.corpus)
    release = Release.open(place, version=options.release, cache=options.cache)
    lengths = {name: release.rows(name, texts={}).duration for name in release.partitions}
    seconds = {name: float(np.nansum(duration)) for name, duration in lengths.items()}
    every, utterances = sum(seconds.values()), sum(map(len, lengths.values()))
    mean = every / max(1, utterances)
    device = device_named(options.device) if options.device else None
    paces: dict[str, _Pace] = {}

    def pace_of(plan: Plan, spec: RunSpec) -> _Pace:
        key = f"{plan.name} {spec.strategy != 'finetune'} {plan.recipe}"
        if key not in paces:
            paces[key] = _measured(plan, spec, device, mean)
        return paces[key]

    found = _Need()
    todo = [(one.spec, one.seed) for one in need.planned if not one.finished]
    todo += [(cell.spec, seed) for cell in need.waiting for seed in cell.spec.seeds]
    for spec, seed in todo:
        plan = _plan(spec)
        pace = pace_of(plan, spec)
        epoch = seconds.get("train", 0.0) * pace.training + seconds.get("development", 0.0) * pace.forward
        what = _store_name(plan, spec, seed)
        if spec.frames == "off":
            epoch += (seconds.get("train", 0.0) + seconds.get("development", 0.0)) * pace.frontend
        elif what is not None:
            found.store(what, pace.stored * utterances, every * pace.frontend)
        found.least += min(plan.recipe.epochs, 1 + plan.recipe.patience) * epoch
        found.most += plan.recipe.epochs * epoch
        # A model, and two checkpoints: the best, and the last with two moments of each trained parameter.
        found.run_bytes += 4 * (pace.parameters[0] + 4 * pace.parameters[1])
    specs = {cell.key: cell.spec for cell in need.cells}
    tested = sum(length for name, length in seconds.items() if name != "train")
    for scoring in [*(one.scoring for one in need.scores if not one.done), *need.later]:
        plan = _plan(specs[scoring.of])
        pace = pace_of(plan, specs[scoring.of])
        found.scoring += tested * pace.forward * options.seeds
        if options.frames == "off":
            found.scoring += tested * pace.frontend * options.seeds
        elif scoring.condition != "clean" and plan.audio is not None:
            what = f"audio frames of {plan.audio.spec.name} under {scoring.condition}"
            found.store(what, pace.stored * utterances * tested / every, tested * pace.frontend)
    used = accelerator_for(device).device
    return Estimate(
        audio_hours=round(every / 3600, 3),
        device=torch.cuda.get_device_name(used) if used.type == "cuda" else f"{torch.get_num_threads()} CPU threads",
        stores=found.stores,
        run_bytes=found.run_bytes,
        store_seconds=round(found.store_seconds, 1),
        training_seconds=(round(found.least, 1), round(found.most, 1)),
        scoring_seconds=round(found.scoring, 1),
        not_counted=tuple(f"{one.asr} ({one.condition})" for one in need.transcriptions),
    )


def _plan(spec: RunSpec) -> Plan:
    """Resolve a run's system with its recipe; of FT => FRZ, the second stage's."""
    plan = (
        host().plan(spec.plugin)
        if spec.plugin
        else host().compose(audio=spec.audio, text=spec.text, head=spec.head or "concat")
    )
    changes = spec.head_changes if spec.strategy == "finetune-freeze" else spec.changes
    return dataclasses.replace(plan, recipe=recipes.changed(plan.recipe, changes))


def _store_name(plan: Plan, spec: RunSpec, seed: int) -> str | None:
    if plan.audio is None:
        return None
    encoder = plan.audio.spec.name
    if spec.strategy == "finetune":
        return f"audio frames of {encoder}, read by every system with it"
    if spec.strategy == "finetune-freeze":
        return f"vectors of {stages.audio_plan(plan, host()).name}'s fine-tuned encoder, seed {seed}"
    head = cast(Any, plan.head).spec
    return f"{'vectors' if head.pooling else 'sequences'} of all layers of {encoder}, read by every attribute and seed"


def _measured(plan: Plan, spec: RunSpec, device: torch.device | None, mean: float) -> _Pace:
    """Time the front end, a forward pass and a training step of a system with random weights.

    Of a batch as the recipe has it, of utterances of the corpus' mean length, in the precision that a run computes in.

    Args:
        plan: with its recipe.
        spec: the run.
        device: None: the one that a run takes by itself.
        mean: seconds.
    """
    sizes: dict[str, Weights] = dict.fromkeys(plan.parts, "tiny" if "tiny" in spec.weights else "random")
    module = system.build(plan, sizes, plan.recipe)
    if spec.strategy != "finetune":
        module = system.Frozen(cast(system.Composed, module))
    accelerator = accelerator_for(device, plan.recipe.precision)
    where, batch, precision = accelerator.device, plan.recipe.batch_size, plan.recipe.frontend_precision
    module.to(where).eval()
    audio = lengths = text = words = None
    frontend = stored = 0.0
    if "audio" in plan.reads:
        wave = synthetic.wave(mean, 0)
        frames = audio_array(module, wave, where, precision)
        frontend = least_seconds(lambda: audio_array(module, wave, where, precision), where, times=2) / mean
        stored = frames.size * (4 if spec.strategy != "finetune" else 2)
        audio, lengths = _batch(frames, batch, where)
    if "text" in plan.reads:
        text, words = _batch(text_array(module, synthetic.text(mean, 0))[0], batch, where)

    def forward() -> Tensor:
        with accelerator.autocast():
            return cast(Tensor, module(audio, lengths, text, words))

    with torch.no_grad():
        predicting = least_seconds(forward, where, times=1)
    training = least_seconds(_step(module.train(), forward), where, times=1)
    return _Pace(
        frontend=frontend,
        forward=predicting / (mean * batch),
        training=training / (mean * batch),
        stored=stored,
        parameters=system.count(module),
    )


def _batch(array: np.ndarray[Any, Any], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the same array many times, [b, t] or [b, t, c], and lengths [b]."""
    whole = torch.from_numpy(array).to(device)
    return whole.expand(size, *whole.shape).contiguous(), torch.full((size,), len(array), device=device)


def _step(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step, the optimiser's included; of a system that trains nothing, a forward pass."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, fused=True) if trained else None

    def step() -> None:
        loss = forward().float().square().mean()
        if optimiser is not None:
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return step
