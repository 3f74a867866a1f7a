"""The whole pipe: from a release on disk to a record. The only module that knows all of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ser_bench import prepare, records, runs, system, tracking, trained
from ser_bench.cache import atomic_write
from ser_bench.errors import PluginError, RecordError, TrainingError
from ser_bench.host import Plan
from ser_bench.interface import ATTRIBUTES, Recipe, Weights
from ser_bench.locks import hold, turn
from ser_bench.prepare import Corpus, Progress, Storing
from ser_bench.result import finish
from ser_bench.task import resolve
from ser_bench.training.batches import Inputs, batches, length_order
from ser_bench.training.device import accelerator_for, precision
from ser_bench.training.fit import Position, fit
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
        strategy: ``finetune`` trains everything but the front ends, ``frozen`` the head alone.
        weights: as on the command line (``system.parse_weights``).
        changes: recipe keys and values.
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
        device=device,
        frames=frames,
        frames_dtype=frames_dtype,
        allow_missing=allow_missing,
        micro_batch=micro_batch,
        out=out,
        cache=cache,
        progress=progress,
    )
    folder, ranks = task.folder, Ranks(task.accelerator)
    progress = progress if ranks.main else None
    if ranks.main:
        _require_finished(folder, seeds, resume)
    with hold(folder, shared=True) if ranks.main else nullcontext():  # others may train other seeds in it
        for seed in seeds:
            own = folder / f"seed-{seed}"
            with _working(own, ranks):
                if ranks.from_main((own / "result.json").exists()):
                    log.info("seed %d is finished already", seed)
                    if ranks.main:
                        records.settle(folder, task.settings)
                    continue
                torch.manual_seed(seed)
                module = system.build(task.plan, task.weights, task.plan.recipe)
                if ranks.main:
                    records.settle(folder, task.settings)  # after building: weights that do not fit leave nothing
                with tracking.tracking(task.accelerator, tracker, own, task.settings, seed):
                    _run_seed(
                        own,
                        seed,
                        module,
                        task.plan,
                        task.weights,
                        task.corpus,
                        strategy,
                        task.storing,
                        task.accelerator,
                        resume,
                        micro_batch,
                        checkpoint_minutes,
                        progress,
                    )
        if ranks.main:
            write_record(folder)
        ranks.wait()
    return folder


def write_record(folder: Path) -> dict[str, Any]:
    """Make ``record.json`` of a run folder's settings and finished seeds."""
    with turn(folder / "settings.json"):  # whoever comes last has seen all seeds
        results = [records.read_json(folder / f"seed-{seed}" / "result.json") for seed in trained.seeds(folder)]
        record = records.assemble(records.read_json(folder / "settings.json"), results, created=records.now())
        atomic_write(folder / "record.json", records.canonical(record))
    return record


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
        out: a new folder for the record and the predictions.
        transcripts: the source to read; None: the one that the run was trained on.
        condition: what is done to the audio (``conditions.parse``); an ASR source must have heard it in the same.

    Returns:
        ``out``.

    Raises:
        SerBenchError: as ``run``.
    """
    source, target = Path(run_folder), Path(out)
    numbers = trained.seeds(source)
    old = records.read_json(source / "settings.json")
    accelerator = accelerator_for(trained.device_named(device) if device else None, old["recipe"]["precision"])
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
        opened.rows.pop("train", None)  # not scored; on the audio of the training its store is there already
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
    done = ranks.from_main([s for s in numbers if (target / f"seed-{s}" / "result.json").exists()])
    with hold(target) if ranks.main else nullcontext():
        if ranks.main:
            records.settle(target, settings)
        for seed in numbers:
            folder = target / f"seed-{seed}"
            if seed in done:
                continue
            model = trained.load(source, seed=seed)
            inputs = prepare.make_inputs(
                model.module, model.plan, opened, storing, device=accelerator.device, progress=progress
            )
            inputs.pop("train", None)  # scored are the others
            result = records.read_json(source / f"seed-{seed}" / "result.json")
            at = Position(best_epoch=result["run"]["best_epoch"], epoch=result["run"]["epochs"] + 1)
            finish(folder, seed, model.module, model.plan, opened, inputs, accelerator, at, progress)
        if ranks.main:
            write_record(target)
        ranks.wait()
    return target


def _run_seed(
    folder: Path,
    seed: int,
    module: nn.Module,
    plan: Plan,
    weights: Mapping[str, Weights],
    corpus: Corpus,
    strategy: str,
    storing: Storing,
    accelerator: Accelerator,
    resume: bool,
    micro_batch: int | None,
    checkpoint_minutes: float,
    progress: Progress | None,
) -> None:
    """Fit what is counted, train, score and save one seed of a built module."""
    train = corpus.rows["train"]
    system.fit_texts(module, [text or "" for text in train.transcript])
    if plan.whole is not None and hasattr(module, "fit"):
        cast(Any, module).fit(train)
    if strategy == "frozen":
        module = system.Frozen(cast(system.Composed, module))
    inputs = prepare.make_inputs(module, plan, corpus, storing, device=accelerator.device, progress=progress)
    fit_head(module, inputs["train"], plan.recipe, accelerator)
    at = fit(
        module,
        inputs["train"],
        inputs["development"],
        plan.recipe,
        seed=seed,
        folder=folder,
        accelerator=accelerator,
        resume=resume,
        micro_batch=micro_batch,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
    )
    sizes = {part: "tiny" if given == "tiny" else "random" for part, given in weights.items()}
    if accelerator.is_main_process:
        trained.save(folder / "model", module, plan, strategy=strategy, sizes=sizes)
    del inputs["train"]
    finish(folder, seed, module, plan, corpus, inputs, accelerator, at, progress)


def fit_head(module: nn.Module, train: Inputs, recipe: Recipe, accelerator: Accelerator) -> None:
    """Let the head solve what it solves (a ridge start) on the pooled train vectors; once, before training."""
    solve = system.fit_head(module)
    if solve is None:
        return
    parts: dict[str, list[torch.Tensor]] = {"audio": [], "text": []}
    order = length_order(train.duration, recipe.batch_size)
    module.eval()
    with torch.no_grad():
        for batch in batches(train, order, accelerator.device):
            for name, vector in zip(parts, system.pooled(module, batch), strict=True):
                if vector is not None:
                    parts[name].append(vector.float().cpu())
    back = np.argsort(np.concatenate(order))
    audio, text = (torch.cat(vectors)[back] if vectors else None for vectors in parts.values())
    labels = torch.from_numpy(train.labels.copy())
    labels[:, [i for i, name in enumerate(ATTRIBUTES) if name not in recipe.attributes]] = torch.nan
    head = cast(nn.Module, system.head_of(module))
    head.cpu()
    solve(audio, text, labels)
    head.to(accelerator.device)


@contextmanager
def _working(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Keep a seed's folder to these processes, and leave in it why its training failed, if it does."""
    if not ranks.main:
        yield
        return
    with hold(folder), runs.noting_failure(folder):
        yield


def _require_finished(folder: Path, seeds: Sequence[int], resume: bool) -> None:
    if len(set(seeds)) != len(seeds) or not seeds or min(seeds) < 0:
        raise TrainingError(f"seeds {list(seeds)} were given; expected different whole numbers from 0 on.")
    unfinished = [
        seed for seed in seeds if (s := folder / f"seed-{seed}").exists() and not (s / "result.json").exists()
    ]
    if unfinished and not resume:
        raise RecordError(
            f"{folder} holds an unfinished seed {unfinished[0]}. Go on with it by adding --resume, or remove "
            f"{folder / f'seed-{unfinished[0]}'} to start it anew."
        )
