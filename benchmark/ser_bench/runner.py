"""The whole pipe: from a release on disk to a record. The only module that knows all of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from ser_bench import prepare, records, runs, stages, system, tracking, trained
from ser_bench.errors import PluginError, RecordError, TrainingError, WeightsError
from ser_bench.host import Plan
from ser_bench.interface import ATTRIBUTES, Recipe
from ser_bench.locks import begun, held, hold
from ser_bench.prepare import Progress, Storing
from ser_bench.result import finish
from ser_bench.task import Task, resolve
from ser_bench.training.batches import Inputs, batches, length_order
from ser_bench.training.device import accelerator_for, precision
from ser_bench.training.fit import Position, check_division, fit
from ser_bench.training.predict import naming_memory
from ser_bench.training.ranks import Ranks

log = logging.getLogger(__name__)


def run(
    plugin: str | None = None,
    *,
    corpus: str | Path,
    audio: str | None = None,
    text: str | None = None,
    head: str | None = None,
    depth: int | None = None,
    release: str | None = None,
    transcripts: str | None = None,
    seeds: Sequence[int] = (1,),
    strategy: str = "finetune",
    weights: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    head_changes: Mapping[str, Any] | None = None,
    device: str | None = None,
    frames: str = "store",
    frames_dtype: str = "float16",
    allow_missing: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    micro_batch: int | None = None,
    cache: Path | None = None,
    checkpoint_minutes: float = 10.0,
    tracker: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a system with one recipe on one release, score it, and leave a record.

    Under a launcher (``accelerate launch``) every process calls this alike; the main one writes.

    Args:
        plugin: a system's name; or ``audio``, ``text``, ``head`` (None: ``concat``) name an ad-hoc composition.
        corpus: a release's folder, or ``demo``.
        depth: transformer layers kept of the audio encoder.
        release: the version the release is claimed to be.
        transcripts: ``human``, ``none``, or a source that ``ser-bench transcribe`` made; None: what the system needs.
        seeds: each is trained and scored; one that is finished in ``out`` is left as it is.
        strategy: ``finetune`` trains everything but the front ends, ``frozen`` the head alone, ``finetune-freeze`` the
            head alone on the fine-tuned encoder of the audio system, whose own run is found beside this one, made there
            first, or given as ``weights`` (``audio=RUN``); ``none`` scores a released whole system as it is.
        weights: as on the command line (``system.parse_weights``).
        changes: recipe keys and values; for ``finetune-freeze`` they are the first stage's.
        head_changes: the same for the second stage of ``finetune-freeze``.
        device: as torch names it; None: the accelerator that is there, else the CPU.
        frames, frames_dtype: ``store`` or ``off``; ``float16`` or ``float32``.
        allow_missing: go on without utterances that have no audio; the record says how many.
        out: the run folder; None: ``runs/<system>-<settings digest>``.
        resume: go on with an unfinished seed.
        micro_batch: utterances that go through the system at once, where memory is short (``training.fit``).
        cache: root of the cache.
        checkpoint_minutes: see ``training.fit``.
        tracker: where the training may be followed (``tracking.TRACKERS``), beside its log.
        progress: told of everything that takes long.

    Returns:
        The run folder, with ``record.json``.

    Raises:
        SerBenchError: whatever is wrong with what was given; nothing half-written is left.
    """
    if tracker is not None:
        tracking.require(tracker)
    task = resolve(
        plugin,
        corpus=corpus,
        audio=audio,
        text=text,
        head=head,
        depth=depth,
        release=release,
        transcripts=transcripts,
        strategy=strategy,
        weights=weights,
        changes=changes,
        head_changes=head_changes,
        device=device,
        frames=frames,
        frames_dtype=frames_dtype,
        allow_missing=allow_missing,
        out=out,
        cache=cache,
        progress=progress,
    )
    way = _Way(
        resume=resume,
        micro_batch=micro_batch,
        tracker=tracker,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress if task.accelerator.is_main_process else None,
    )
    _train(task, seeds, way)
    return task.folder


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How seeds are trained, which no result depends on."""

    resume: bool
    micro_batch: int | None
    tracker: str | None
    checkpoint_minutes: float
    progress: Progress | None


def _train(task: Task, seeds: Sequence[int], way: _Way) -> None:
    """Train and score the seeds of a task that are not finished, those of its first stage before them."""
    folder, ranks = task.folder, Ranks(task.accelerator)
    check_division(task.plan.recipe, ranks.count, way.micro_batch)
    missing: list[int] = []
    if ranks.main:
        _check_seeds(task, seeds, way.resume)
        missing = [] if task.first is None else _missing(task.first.folder, seeds)
    if task.first is not None and (missing := ranks.from_main(missing)):
        if task.first.given:
            raise WeightsError(
                f"--weights audio={task.first.folder} has no finished seed {missing[0]}, and seed N starts from its "
                "seed N. Train it there, or leave out --weights audio to have the first stage made."
            )
        _train(task.first, missing, way)
    with _held(folder, ranks, shared=True):  # other processes may train other seeds in it
        for seed in seeds:
            place = folder / f"seed-{seed}"
            with _held(place, ranks), runs.noting_failure(place) if ranks.main else nullcontext():
                if ranks.from_main((place / "result.json").exists()):
                    log.info("seed %d is finished already", seed)
                    if ranks.main:
                        records.settle(folder, task.settings)
                    continue
                torch.manual_seed(seed)
                module = system.build(task.plan, task.weights, task.plan.recipe)
                if task.strategy == "none":
                    _require_complete(module, task.plan)
                start = None if task.first is None else stages.take_encoder(module, task.first.folder, seed)
                if ranks.main:
                    records.settle(folder, task.settings)  # after building: weights that do not fit leave nothing
                with tracking.tracking(
                    task.accelerator, way.tracker if ranks.main else None, place, task.settings, seed
                ):
                    _run_seed(task, seed, module, start, way)
        if ranks.main:
            runs.write_record(folder)
        ranks.wait()


def _held(folder: Path, ranks: Ranks, *, shared: bool = False) -> AbstractContextManager[None]:
    """Keep a folder to the main process and those that train with it."""
    return hold(folder, shared=shared) if ranks.main else nullcontext()


def score(
    run_folder: str | Path,
    *,
    corpus: str | Path,
    out: str | Path,
    release: str | None = None,
    transcripts: str | None = None,
    condition: str = "clean",
    device: str | None = None,
    frames: str = "store",
    frames_dtype: str = "float16",
    allow_missing: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Score a trained run again: on another release, another transcript source, or degraded audio.

    Args:
        run_folder: what ``run`` left behind; all its finished seeds are scored.
        corpus: a release's folder, or ``demo``.
        out: a folder for the record and the predictions; what it holds of these seeds is left as it is.
        transcripts: the source to read; None: the one that the run was trained on.
        condition: what is done to the audio (``conditions.parse``); an ASR source must have heard it in the same.

    Returns:
        ``out``.

    Raises:
        RecordError: ``out`` holds a seed that was scored with another training.
        SerBenchError: as ``run``.
    """
    source, target = Path(run_folder), Path(out)
    numbers = runs.finished(source)
    old = records.read_json(source / "settings.json")
    kind = old["recipe"].get("precision", "auto")
    accelerator = accelerator_for(trained.device_named(device) if device else None, kind)
    first = trained.load(source, seed=numbers[0])
    if transcripts not in (None, "none") and "text" not in first.plan.reads:
        raise PluginError(f"{first.plan.name} reads no text, and --transcripts {transcripts} was given. Leave it out.")
    opened = prepare.open_corpus(
        corpus,
        release=release,
        transcripts=transcripts or (old["transcripts"]["train"] if "text" in first.plan.reads else "none"),
        condition=condition,
        allow_missing=allow_missing,
        cache=cache,
        progress=progress,
    )
    if opened.block["labels_sha256"] != old["corpus"]["labels_sha256"] or opened.block["condition"] != "clean":
        # Not scored; on the audio of the training its store is there already.
        opened = prepare.without_train(opened)
    prepare.require_texts(first.plan, opened)
    storing = Storing(mode=frames, dtype=frames_dtype, cache=cache)
    settings = {
        **old,
        "corpus": opened.block,
        "transcripts": {"train": old["transcripts"]["train"], "test": opened.transcripts},
        "frames": storing.label,
        "precision": precision(accelerator),
        "made_of": old["made_of"] | {"transcripts_sha256": opened.transcripts_sha256},
        "trained": {"corpus": old["corpus"], "frames": old["frames"]},
    }
    ranks = Ranks(accelerator)
    progress = progress if ranks.main else None
    results = {seed: records.read_json(source / f"seed-{seed}" / "result.json") for seed in numbers}
    with _held(target, ranks):
        if ranks.main:
            records.settle(target, settings)
        done = ranks.from_main(_scored(target, source, results) if ranks.main else [])
        for seed in numbers:
            folder = target / f"seed-{seed}"
            if seed in done:
                continue
            model = trained.load(source, seed=seed)
            inputs = prepare.make_inputs(
                model.module, model.plan, opened, storing, device=accelerator.device, progress=progress
            )
            inputs.pop("train", None)  # scored are the others
            run = results[seed]["run"]
            at = Position(best_epoch=run["best_epoch"], epoch=run["epochs"] + 1)
            finish(
                folder, seed, model.module, model.plan, opened, inputs, accelerator, at, progress,
                source=run["predictions_sha256"],
            )  # fmt: skip
        if ranks.main:
            runs.write_record(target)
        ranks.wait()
    return target


def _scored(target: Path, source: Path, results: Mapping[int, records.Json]) -> list[int]:
    """Return the seeds that are scored in a folder already; those of another training are refused."""
    done = [seed for seed in results if (target / f"seed-{seed}" / "result.json").exists()]
    for seed in done:
        kept = records.read_json(target / f"seed-{seed}" / "result.json").get("source")
        if kept != results[seed]["run"]["predictions_sha256"]:
            raise RecordError(
                f"{target / f'seed-{seed}'} was scored with another training than seed {seed} of {source} is now. "
                "Remove that folder to score the seed again, or give another --out."
            )
    return done


def _run_seed(
    task: Task,
    seed: int,
    module: nn.Module,
    start: str | None,
    way: _Way,
) -> None:
    """Fit what is counted, train, score and save one seed of a built module; ``start`` is its first stage's."""
    plan, corpus, accelerator, folder = task.plan, task.corpus, task.accelerator, task.folder / f"seed-{seed}"
    train, trains = corpus.rows["train"], task.strategy != "none"
    if trains:
        system.fit_texts(module, [text or "" for text in train.transcript])
        if plan.whole is not None and hasattr(module, "fit"):
            cast(Any, module).fit(train)
    if task.freezes:
        module = system.Frozen(cast(system.Composed, module))
    inputs = prepare.make_inputs(module, plan, corpus, task.storing, device=accelerator.device, progress=way.progress)
    at = Position(best_epoch=0, finished=True)
    if trains:
        fit_head(module, inputs["train"], plan.recipe, accelerator)
        at = fit(
            module,
            inputs["train"],
            inputs["development"],
            plan.recipe,
            seed=seed,
            folder=folder,
            accelerator=accelerator,
            resume=way.resume,
            micro_batch=way.micro_batch,
            checkpoint_minutes=way.checkpoint_minutes,
            progress=way.progress,
        )
    sizes = {part: "tiny" if given == "tiny" else "random" for part, given in task.weights.items()}
    if accelerator.is_main_process:
        trained.save(folder / "model", module, plan, strategy=task.strategy, sizes=sizes)
    del inputs["train"]
    finish(folder, seed, module, plan, corpus, inputs, accelerator, at, way.progress, first_stage=start)


def fit_head(module: nn.Module, train: Inputs, recipe: Recipe, accelerator: Accelerator) -> None:
    """Let the head solve what it solves (a ridge start) on the pooled train vectors; once, before training."""
    solve = system.fit_head(module)
    if solve is None:
        return
    whole: dict[str, torch.Tensor] = {}
    order = length_order(train.duration, recipe.batch_size)
    module.eval()
    with torch.no_grad():
        loaded = batches(train, order, accelerator.device)
        for index in order:
            with naming_memory(train, index):
                for name, vector in zip(("audio", "text"), system.pooled(module, next(loaded)), strict=True):
                    if vector is None:
                        continue
                    if name not in whole:  # each goes to its place at once: all layers of a large corpus are held once
                        whole[name] = torch.empty(len(train), *vector.shape[1:])
                    whole[name][torch.from_numpy(index)] = vector.float().cpu()
    labels = torch.from_numpy(train.labels.copy())
    labels[:, [i for i, name in enumerate(ATTRIBUTES) if name not in recipe.attributes]] = torch.nan
    head = cast(nn.Module, system.head_of(module))
    head.cpu()
    solve(whole.get("audio"), whole.get("text"), labels)
    head.to(accelerator.device)


def _check_seeds(task: Task, seeds: Sequence[int], resume: bool) -> None:
    if len(set(seeds)) != len(seeds) or not seeds or min(seeds) < 0:
        raise TrainingError(f"seeds {list(seeds)} were given; expected different whole numbers from 0 on.")
    if task.strategy == "none" and len(seeds) > 1:
        raise TrainingError(
            f"seeds {list(seeds)} were given with --strategy none, which draws nothing: they would all be the same. "
            "Give one."
        )
    unfinished = [seed for seed in _missing(task.folder, seeds) if begun(task.folder / f"seed-{seed}")]
    if unfinished and not resume and not held(task.folder / f"seed-{unfinished[0]}"):  # if so, `hold` says so
        raise RecordError(
            f"{task.folder} holds an unfinished seed {unfinished[0]}. Go on with it by adding --resume, or remove "
            f"{task.folder / f'seed-{unfinished[0]}'} to start it anew."
        )


def _require_complete(module: nn.Module, plan: Plan) -> None:
    """Refuse to score a whole system as it is that knows nothing before it has seen train rows."""
    if hasattr(cast(Any, module).inner, "fit"):
        raise TrainingError(
            f"{plan.name} takes what it knows from train rows (it has a fit), so there is nothing to score as it is. "
            "Use --strategy finetune."
        )


def _missing(folder: Path, seeds: Sequence[int]) -> list[int]:
    """Return the seeds that are not finished in a run folder."""
    return [seed for seed in seeds if not (folder / f"seed-{seed}" / "result.json").exists()]
