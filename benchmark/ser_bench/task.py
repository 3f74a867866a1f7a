"""A run before it begins: what was asked for, resolved, checked and named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ser_bench import prepare, recipes, records, system, trained
from ser_bench.errors import PluginError, TrainingError
from ser_bench.host import Plan, host
from ser_bench.interface import Weights
from ser_bench.prepare import Corpus, Progress, Storing
from ser_bench.settings import settings_of
from ser_bench.training.device import accelerator_for, precision
from ser_bench.training.fit import check_division
from ser_bench.training.ranks import Ranks

STRATEGIES = ("finetune", "frozen")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run, resolved and checked, before anything is built or written."""

    plan: Plan
    weights: dict[str, Weights]
    corpus: Corpus
    storing: Storing
    accelerator: Accelerator
    settings: dict[str, Any]
    """As in ``settings.json``."""
    folder: Path


def resolve(
    plugin: str | None = None,
    *,
    corpus: str | Path,
    audio: str | None = None,
    text: str | None = None,
    head: str | None = None,
    depth: int | None = None,
    release: str | None = None,
    transcripts: str | None = None,
    strategy: str = "finetune",
    weights: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    device: str | None = None,
    frames: str = "store",
    frames_dtype: str = "float16",
    allow_missing: bool = False,
    micro_batch: int | None = None,
    out: str | Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    opening: Callable[..., Corpus] = prepare.open_corpus,
) -> Task:
    """Resolve and check what ``run`` is given, and tell its settings and folder; nothing is built or written.

    Args:
        opening: opens the corpus; a caller that resolves many runs may remember what is opened.

    Raises:
        SerBenchError: as ``run``.
    """
    plan = _plan(plugin, audio=audio, text=text, head=head, depth=depth)
    plan = dataclasses.replace(plan, recipe=recipes.changed(plan.recipe, changes or {}))
    if strategy not in STRATEGIES:
        raise TrainingError(f"strategy '{strategy}' is unknown; strategies are {', '.join(STRATEGIES)}.")
    if strategy == "frozen" and plan.whole is not None:
        raise TrainingError(f"{plan.name} does not come apart; nothing can be frozen. Use --strategy finetune.")
    if transcripts not in (None, "none") and "text" not in plan.reads:
        raise PluginError(f"{plan.name} reads no text, and --transcripts {transcripts} was given. Leave it out.")
    chosen = system.parse_weights(weights, plan)
    accelerator = accelerator_for(trained.device_named(device) if device else None, plan.recipe.precision)
    ranks = Ranks(accelerator)
    check_division(plan.recipe, ranks.count, micro_batch)
    progress = progress if ranks.main else None
    opened = opening(
        corpus,
        release=release,
        transcripts=transcripts or ("human" if "text" in plan.reads else "none"),
        allow_missing=allow_missing,
        cache=cache,
        progress=progress,
    )
    prepare.require_texts(plan, opened)
    absent = [name for name in ("train", "development") if name not in opened.rows]
    if absent:
        raise TrainingError(f"{corpus} has no {' and no '.join(absent)} partition, which training needs.")
    storing = Storing(mode=frames, dtype=frames_dtype, cache=cache)
    settings = settings_of(
        plan,
        chosen,
        corpus=opened.block,
        transcripts=opened.transcripts,
        strategy=strategy,
        frames=storing.label_for(system.Frozen.store_dtype if strategy == "frozen" else frames_dtype),
        precision=precision(accelerator),
        transcripts_sha256=opened.transcripts_sha256 if "text" in plan.reads else None,
    )
    named = f"{records.safe_name(plan.name)}-{records.digest(settings, 8)}"
    folder = Path(out) if out is not None else Path("runs") / named
    return Task(
        plan=plan,
        weights=chosen,
        corpus=opened,
        storing=storing,
        accelerator=accelerator,
        settings=settings,
        folder=folder,
    )


def _plan(plugin: str | None, *, audio: str | None, text: str | None, head: str | None, depth: int | None) -> Plan:
    if plugin is not None and (audio or text or head):
        raise PluginError(
            f"--plugin {plugin} and --audio, --text or --head were both given; a run is of one system. Give one of "
            "them."
        )
    if plugin is not None:
        return host().plan(plugin, depth=depth)
    return host().compose(audio=audio, text=text, head=head or "concat", depth=depth)
