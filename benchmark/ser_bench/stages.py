"""FT => FRZ in two stages (paper §4.3): the fine-tuned audio system that a frozen audio-text one starts from.

The first stage is the audio system's own ``finetune`` run. It is found beside the second by its settings, made there,
or given; its encoder of seed N is what seed N of the second stage keeps frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from ser_bench import records, trained
from ser_bench.errors import PluginError, WeightsError
from ser_bench.host import Host, Plan
from ser_bench.interface import SystemSpec, Weights


def audio_plan(plan: Plan, found: Host) -> Plan:
    """Return the audio system of an audio-text one: the one that is installed under a name, else an ad-hoc composition.

    It has the same encoder, depth and head. Under its own name it is the run that an audio row of a table comes from.

    Raises:
        PluginError: the system does not read both audio and text, or does not come apart.
    """
    if plan.audio is None or plan.text is None or plan.head is None:
        what = "does not come apart" if plan.whole is not None else f"reads {' and '.join(plan.reads) or 'nothing'}"
        raise PluginError(
            f"{plan.name} {what}; finetune-freeze adds a frozen text encoder to a fine-tuned audio encoder. Name an "
            "audio-text system, or use --strategy finetune."
        )
    wanted = (plan.audio.spec.name, None, plan.head.spec.name)
    for offer in found.usable("system"):
        spec = offer.spec
        if isinstance(spec, SystemSpec) and (spec.audio, spec.text, spec.head) == wanted:
            named = found.plan(spec.name)
            if named.depth == plan.depth:
                return named
    return Plan(
        name=f"{plan.audio.spec.name}{'' if plan.depth is None else f'[{plan.depth}]'}>{plan.head.spec.name}",
        distribution=plan.distribution,
        version=plan.version,
        recipe=plan.recipe,
        audio=plan.audio,
        head=plan.head,
        depth=plan.depth,
    )


def is_run(weights: Weights) -> bool:
    """Say whether weights are a run folder."""
    return isinstance(weights, Path) and (weights / "settings.json").is_file()


def find(settings: Mapping[str, Any], place: Path) -> Path | None:
    """Return the run folder of exactly these settings, directly in a place."""
    wanted = records.canonical(settings)
    found = (
        path.parent for path in sorted(place.glob("*/settings.json")) if path.read_text(encoding="utf-8") == wanted
    )
    return next(found, None)


def require_fit(run: Path, plan: Plan, corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that was given as the first stage.

    Args:
        run: the run folder.
        plan: the first stage as it would be made.
        corpus: the record's block of the release that the second stage is trained on.

    Raises:
        WeightsError: it is a run of something else.
    """
    settings = records.read_json(run / "settings.json")
    encoder = cast(Any, plan.audio).spec
    system = settings["system"]
    parts = [(part["kind"], part["name"]) for part in system["parts"]]
    expected = {
        "strategy is": (settings["strategy"], "finetune"),
        "parts are": (parts, [("audio", encoder.name)]),
        "depth is": (_layers(system["depth"], encoder), _layers(plan.depth, encoder)),
        "labels are": (settings["corpus"]["labels_sha256"], corpus["labels_sha256"]),
    }
    told = [f"its {what} {one!r}, expected {other!r}" for what, (one, other) in expected.items() if one != other]
    if told:
        raise WeightsError(
            f"--weights audio={run} is no first stage for this run: {'; '.join(told)}. Give a finetune run of "
            f"{plan.name} on this release, or leave it out to have one found or made."
        )
    return settings


def take_encoder(module: nn.Module, run: Path, seed: int) -> str:
    """Put a first stage's fine-tuned audio encoder into a built module; return the digest that tells its seed apart."""
    first = cast(Any, trained.load(run, seed=seed).module)
    cast(Any, module).audio.load_state_dict(first.audio.state_dict())
    told: str = records.read_json(run / f"seed-{seed}" / "result.json")["run"]["predictions_sha256"]
    return told


def _layers(depth: int | None, encoder: Any) -> int:
    return int(encoder.depth if depth is None else depth)
