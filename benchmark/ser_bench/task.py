"""A run before it begins: what was asked for, resolved, checked and named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ser_bench import prepare, recipes, records, stages, system, trained
from ser_bench.errors import PluginError, TrainingError, WeightsError
from ser_bench.host import Plan, host
from ser_bench.interface import Weights
from ser_bench.prepare import Corpus, Progress, Storing
from ser_bench.settings import settings_of
from ser_bench.training.device import accelerator_for, precision

STRATEGIES = ("finetune", "frozen", "finetune-freeze", "none")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run, resolved and checked, before anything is built or written."""

    plan: Plan
    weights: dict[str, Weights]
    strategy: str
    corpus: Corpus
    storing: Storing
    accelerator: Accelerator
    settings: dict[str, Any]
    """As in ``settings.json``."""
    folder: Path
    first: Task | None = None
    """What has to be trained before, seed by seed: the audio system of ``finetune-freeze``."""
    given: bool = False
    """Whether this is somebody's run, named as a first stage: nothing is added to it."""

    @property
    def name(self) -> str:
        """What its folder is called where no other is given: no two that differ in anything but the seed are alike."""
        return f"{records.safe_name(self.plan.name)}-{records.digest(self.settings, 8)}"

    @property
    def freezes(self) -> bool:
        """Whether the encoders are frozen."""
        return self.strategy in trained.FREEZING


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
    head_changes: Mapping[str, Any] | None = None,
    device: str | None = None,
    frames: str = "store",
    frames_dtype: str = "float16",
    allow_missing: bool = False,
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
    _check_strategy(strategy, plan)
    if head_changes and strategy != "finetune-freeze":
        raise TrainingError(
            f"--set head_recipe.{next(iter(head_changes))} was given; head_recipe is that of the second stage of "
            f"--strategy finetune-freeze, and this is {strategy}. Use recipe.KEY=VALUE."
        )
    if transcripts not in (None, "none") and "text" not in plan.reads:
        raise PluginError(f"{plan.name} reads no text, and --transcripts {transcripts} was given. Leave it out.")
    chosen = system.parse_weights(weights, plan)
    runs = [f"{part}={given}" for part, given in chosen.items() if stages.is_run(given)]
    if runs and (strategy != "finetune-freeze" or stages.is_run(chosen["text"])):
        raise WeightsError(
            f"--weights {runs[-1]} is a run folder, which is what --strategy finetune-freeze takes its audio encoder "
            "from. Name a checkpoint's folder."
        )
    plan, audio_plan = _with_recipes(plan, strategy, changes or {}, head_changes or {})
    accelerator = accelerator_for(trained.device_named(device) if device else None, plan.recipe.precision)
    progress = progress if accelerator.is_main_process else None
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
    place = None if out is None else Path(out)

    def task(plan: Plan, given: dict[str, Weights], strategy: str, corpus: Corpus, first: Task | None = None) -> Task:
        settings = settings_of(
            plan,
            given,
            corpus=corpus.block,
            transcripts=corpus.transcripts,
            strategy=strategy,
            frames=storing.label_for(system.Frozen.store_dtype if strategy in trained.FREEZING else frames_dtype),
            precision=precision(accelerator),
            transcripts_sha256=corpus.transcripts_sha256 if "text" in plan.reads else None,
            first_stage=None if first is None else first.settings,
        )
        made = Task(
            plan=plan,
            weights=given,
            strategy=strategy,
            corpus=corpus,
            storing=storing,
            accelerator=accelerator,
            settings=settings,
            folder=Path(),
            first=first,
        )
        return dataclasses.replace(made, folder=Path("runs") / made.name)

    if audio_plan is None:
        made = task(plan, chosen, strategy, opened)
        return dataclasses.replace(made, folder=place or made.folder)
    start = chosen["audio"]
    if stages.is_run(start):
        first = task(audio_plan, {"audio": "random"}, "finetune", opened.without_texts())
        settings = stages.require_fit(Path(str(start)), audio_plan, opened.block)
        first = dataclasses.replace(first, settings=settings, folder=Path(str(start)), given=True)
    else:
        first = task(audio_plan, {"audio": start}, "finetune", opened.without_texts())
        beside = first.folder.parent if place is None else place.parent
        found = stages.find(first.settings, beside)
        first = dataclasses.replace(first, folder=found or beside / first.folder.name)
    size: Weights = "tiny" if first.settings["system"]["weights"] == "tiny" else "random"
    made = task(plan, {"audio": size, "text": chosen["text"]}, strategy, opened, first)
    return dataclasses.replace(made, folder=place or made.folder)


def _with_recipes(
    plan: Plan, strategy: str, changes: Mapping[str, Any], head_changes: Mapping[str, Any]
) -> tuple[Plan, Plan | None]:
    """Return the plan with its recipe changed, and that of the first stage, if there is one."""
    if strategy != "finetune-freeze":
        return dataclasses.replace(plan, recipe=recipes.changed(plan.recipe, changes)), None
    first = stages.audio_plan(plan, host())
    first = dataclasses.replace(first, recipe=recipes.changed(first.recipe, changes))
    plan = dataclasses.replace(plan, recipe=recipes.changed(plan.recipe, head_changes))
    if first.recipe.precision != plan.recipe.precision:
        raise TrainingError(
            f"recipe.precision is {first.recipe.precision} and head_recipe.precision {plan.recipe.precision}; the two "
            "stages are computed alike. Set both to the same."
        )
    return plan, first


def _check_strategy(strategy: str, plan: Plan) -> None:
    if strategy not in STRATEGIES:
        raise TrainingError(f"strategy '{strategy}' is unknown; strategies are {', '.join(STRATEGIES)}.")
    if strategy == "frozen" and plan.whole is not None:
        raise TrainingError(f"{plan.name} does not come apart; nothing can be frozen. Use --strategy finetune.")
    if strategy == "finetune-freeze":
        stages.audio_plan(plan, host())
    if strategy == "none" and plan.head is not None:
        raise TrainingError(
            f"{plan.name} has a fusion head, head:{plan.head.spec.name}, which only training gives values; --strategy "
            "none scores released models, which come whole. Use --strategy frozen to train the head alone."
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
