"""A trained system on disk: save it, open it again without the hub, predict with it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ser_bench import prepare, recipes, records, runs, saved, system
from ser_bench.cache import atomic_write
from ser_bench.errors import PluginError, RecordError, TrainingError, TranscriptError
from ser_bench.host import Host, Plan, host
from ser_bench.interface import ATTRIBUTES, SAMPLE_RATE, Weights
from ser_bench.training.batches import Inputs
from ser_bench.training.predict import predict

FREEZING = ("frozen", "finetune-freeze")
"""Strategies whose encoders are frozen."""


@dataclass(frozen=True)
class Trained:
    """A trained system, ready to predict; ``ser_bench.load`` opens one."""

    plan: Plan
    module: nn.Module
    device: torch.device

    def predict(self, wave: NDArray[np.float32] | None, text: str | None = None) -> dict[str, float | None]:
        """Predict one utterance.

        Args:
            wave: [n] mono 16 kHz, -1..1 (``ser_bench.corpus.read_wave`` gives this of any file); for systems that read
                audio, by others left aside.
            text: what is said; for systems that read text.

        Returns:
            arousal, valence, dominance on 1..7 (models may step outside a little); None for one it was not trained on.

        Raises:
            TranscriptError: the system reads text and none was given, or the reverse.
            PluginError: the wave is not such an array.
        """
        if ("text" in self.plan.reads) != (text is not None):
            given = "give what is said (--text), or what hears it (--asr)"
            need = f"reads text: {given}" if text is None else "reads no text: leave it out (--text, --asr)"
            raise TranscriptError(f"{self.plan.name} {need}.")
        how = self.plan.recipe.frontend_precision
        heard = (
            prepare.audio_array(self.module, _checked(wave), self.device, how) if "audio" in self.plan.reads else None
        )
        read = prepare.text_array(self.module, text)[0] if text is not None else None
        inputs = Inputs(
            utterance=["the given utterance"],
            duration=np.zeros(1),  # of one batch, nobody asks
            labels=np.full((1, 3), np.nan, np.float32),
            audio=None if heard is None else _One(heard),
            text=None if read is None else _One(read),
        )
        values = predict(self.module, inputs, batch_size=1, device=self.device)[0] * 6 + 1
        trained = self.plan.recipe.attributes
        return {name: float(v) if name in trained else None for name, v in zip(ATTRIBUTES, values, strict=True)}


def pieces(wave: NDArray[np.float32], seconds: float | None) -> list[tuple[float, float, NDArray[np.float32]]]:
    """Cut a long wave into consecutive pieces, each to be predicted by itself.

    Args:
        wave: [n] mono 16 kHz.
        seconds: of a piece; a rest under half of that is left with the piece before it. None: the whole wave.

    Returns:
        (start, end, samples) of each, in seconds.

    Raises:
        PluginError: pieces would be shorter than a second.
    """
    if seconds is None:
        return [(0.0, len(wave) / SAMPLE_RATE, wave)]
    if not 1 <= seconds < float("inf"):
        raise PluginError(f"--window {seconds:g} was given; expected seconds of a piece, 1 or more.")
    size = round(seconds * SAMPLE_RATE)
    count = max(1, (len(wave) + size // 2) // size)
    edges = [*range(0, count * size, size), len(wave)]
    return [(a / SAMPLE_RATE, b / SAMPLE_RATE, wave[a:b]) for a, b in itertools.pairwise(edges)]


def _checked(wave: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Refuse what is not [n] floating-point samples; whole numbers are on another scale."""
    if wave is None or wave.ndim != 1 or not len(wave) or wave.dtype.kind != "f" or not np.isfinite(wave).all():
        given = "no wave" if wave is None else f"a wave {list(wave.shape)} of {wave.dtype}"
        raise PluginError(
            f"{given} was given; expected finite float32 [n] in -1..1, mono, {SAMPLE_RATE} Hz, at least one sample. "
            "ser_bench.corpus.read_wave gives this of any file."
        )
    return wave.astype(np.float32)


@dataclass(frozen=True)
class _One:
    """Frames of a single utterance."""

    array: NDArray[Any]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> NDArray[Any]:
        return self.array

    def truncated(self, number: int) -> bool:
        return False


def save(folder: Path, module: nn.Module, plan: Plan, *, strategy: str, sizes: dict[str, str]) -> None:
    """Write ``model.safetensors`` and ``config.json``.

    Args:
        folder: ``seed-N/model``.
        module: trained.
        plan: with the recipe it was trained with.
        strategy: ``frozen`` and ``finetune-freeze`` wrap the encoders when it is opened again.
        sizes: part -> ``tiny`` or ``random``: the size of the empty module that the weights are loaded into.
    """
    tensors, extra = saved.state(module)
    saved.write(folder / "model.safetensors", tensors, {"extra": extra})
    config = {
        "composition": composition(plan),
        "strategy": strategy,
        "sizes": sizes,
        "recipe": recipes.as_dict(plan.recipe),
    }
    for part, offer in plan.parts.items():
        for name, path in getattr(offer.spec, "files", {}).items():
            atomic_write(folder / part / name, path.read_bytes())
    atomic_write(folder / "config.json", records.canonical(config))


def composition(plan: Plan) -> dict[str, Any]:
    """Return the names a plan can be resolved from again.

    An encoder that a family described is named ``FAMILY:`` and the folder that its files are kept in: ``hf:audio``.
    """
    if plan.whole is not None:
        return {"system": plan.whole.spec.name}
    parts = {kind: getattr(plan, kind) for kind in ("audio", "text", "head")}
    names = {kind: offer.spec.name if offer else None for kind, offer in parts.items()}
    kept = {kind: f"{name.partition(':')[0]}:{kind}" for kind, name in names.items() if name and ":" in name}
    return names | kept | {"depth": plan.depth}


def resolve(names: dict[str, Any], found: Host, folder: Path) -> Plan:
    """Resolve what ``composition`` gave; the files of described encoders are in ``folder``."""
    if "system" in names:
        return found.plan(names["system"])
    kept = {kind: name.partition(":") for kind, name in names.items() if isinstance(name, str) and ":" in name}
    described = {kind: f"{family}:{(folder / place).resolve()}" for kind, (family, _, place) in kept.items()}
    return found.compose(**(names | described))


def load(run: str | Path, *, seed: int | None = None, device: str = "cpu") -> Trained:
    """Open a trained system.

    Args:
        run: a run folder.
        seed: which of its seeds; None: the first.
        device: as torch names it.

    Raises:
        RecordError: no such seed, or its files do not fit the installed plugins.
        TrainingError: there is no such device.
    """
    folder = Path(run)
    finished = runs.finished(folder)
    chosen = finished[0] if seed is None else seed
    if chosen not in finished:
        raise RecordError(f"{folder} has no finished seed {chosen}; it has {', '.join(map(str, finished))}.")
    model = folder / f"seed-{chosen}" / "model"
    config = records.read_json(model / "config.json")
    plan = resolve(config["composition"], host(), model)
    recipe = recipes.from_dict(config["recipe"])
    module = system.build(plan, cast("dict[str, Weights]", config["sizes"]), recipe)
    if config["strategy"] in FREEZING:
        module = system.Frozen(cast(system.Composed, module))
    tensors, about = saved.read(model / "model.safetensors")
    saved.restore(module, tensors, about["extra"], where=model / "model.safetensors")
    where = device_named(device)
    name = records.read_json(folder / "settings.json")["system"]["name"]
    return Trained(dataclasses.replace(plan, recipe=recipe, name=name), module.to(where).eval(), where)


def device_named(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        TrainingError: torch knows no such device, or the machine does not have it.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise TrainingError(f"--device {name} is not a device that this runs on; give cpu, cuda or cuda:N.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(
            f"--device {name} was asked for, and torch sees {torch.cuda.device_count()} GPUs. Use --device cpu."
        )
    return device
