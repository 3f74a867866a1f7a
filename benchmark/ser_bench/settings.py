"""All that a run depends on beside the seed, as its record says it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser_bench import recipes, records
from ser_bench.errors import WeightsError
from ser_bench.host import Plan
from ser_bench.interface import Weights
from ser_bench.version import VERSION


def settings_of(
    plan: Plan,
    weights: Mapping[str, Weights],
    *,
    corpus: Mapping[str, Any],
    transcripts: str,
    strategy: str,
    frames: str,
    precision: str,
    transcripts_sha256: str | None,
    first_stage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a run's settings; they hold names and digests, never a path.

    Args:
        plan: with the recipe it is trained with.
        weights: part -> weights.
        corpus: the record's block of it.
        transcripts: the source, for training and scores.
        strategy: what is trained.
        frames: the signature's word for how front-end outputs are kept.
        precision: ``float32`` or ``bfloat16``.
        transcripts_sha256: digest of the texts; None for a system that reads none.
        first_stage: settings of the run that the audio encoder comes from, for ``finetune-freeze``.

    Raises:
        WeightsError: a folder holds no weights.
    """
    labels = {part: _weights_label(plan, part, given) for part, given in weights.items()}
    recipe, stages = recipes.as_dict(plan.recipe), {}
    if first_stage is not None:
        labels["audio"] = first_stage["system"]["parts"][0]["weights"]
        named = {"system": first_stage["system"]["name"], "settings": records.digest(first_stage, 8)}
        named["frames"] = first_stage["frames"]
        recipe, stages = first_stage["recipe"], {"head_recipe": recipe, "first_stage": named}
    distinct = sorted(set(labels.values()))
    return {
        "system": {
            "name": plan.name,
            "distribution": plan.distribution,
            "version": plan.version,
            "reads": list(plan.reads),
            "head": plan.head.spec.name if plan.head else None,
            "depth": plan.depth,
            "weights": distinct[0] if len(distinct) == 1 else "+".join(f"{p}={w}" for p, w in labels.items()),
            "parts": [_part(part, offer.spec, labels[part]) for part, offer in plan.parts.items()],
        },
        "corpus": dict(corpus),
        "transcripts": {"train": "none" if strategy == "none" else transcripts, "test": transcripts},
        "strategy": strategy,
        "recipe": recipe,
        **stages,
        "frames": frames,
        "precision": precision,
        # Not in the record, yet no two seeds of a run may differ in them.
        "made_of": {"transcripts_sha256": transcripts_sha256, "ser_bench": VERSION},
    }


def _part(part: str, spec: Any, weights: str) -> dict[str, Any]:
    source = dataclasses.asdict(spec.source) | {"trained_on": list(spec.source.trained_on)}
    return {"kind": part, "name": spec.name, "weights": weights, **source}


def _weights_label(plan: Plan, part: str, given: Weights) -> str:
    """Return ``pretrained``, ``random``, ``tiny``, ``scratch`` (nothing to load) or ``local-<digest of the files>``."""
    if isinstance(given, Path):
        files = sorted(p for p in given.iterdir() if p.suffix in (".safetensors", ".bin"))
        if not files:
            raise WeightsError(
                f"the weights folder {given} holds no .safetensors or .bin file. Name a checkpoint's folder."
            )
        together = "".join(records.file_digest(path) for path in files)
        return f"local-{hashlib.sha256(together.encode()).hexdigest()[:8]}"
    return "scratch" if given != "tiny" and plan.parts[part].spec.source.repo is None else given
