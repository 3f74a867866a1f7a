"""Train one system in this engine and in Hugging Face's `Trainer`, and compare losses and CCCs; run by hand.

    python tests/speed/parity.py RELEASE [--plugin whisper_base_minilm] [--depth N] [--weights audio=DIR text=DIR]
                                 [--steps 200] [--seed 1 ...] [--threads N] [--json FILE]

The same module, order of batches, learning rate and loss on both sides, dropout 0, frames in float32. Then this engine
again with a float16 store, and with a front end in bfloat16. Bars: losses within 1e-4 at every step and final CCCs
within 0.01 of the Trainer's; with the other stores within 0.02, with the paired interval over speakers.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from ser_bench import prepare, recipes, system
from ser_bench.host import Plan, host
from ser_bench.interface import ATTRIBUTES
from ser_bench.prepare import Corpus, Storing
from ser_bench.scoring.compare import compare
from ser_bench.scoring.partition import PartitionScore, score_partition
from ser_bench.training import fit as fitting
from ser_bench.training.batches import Inputs, epoch_order, load
from ser_bench.training.device import accelerator_for
from ser_bench.training.loss import ccc_loss
from ser_bench.training.predict import predict

CPU = torch.device("cpu")
STILL = {"head_dropout": 0.0, "regularisation.dropout": 0.0, "precision": "float32"}


def main() -> None:
    """Print, for each seed, how far the losses and the final CCCs are from the Trainer's."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    plan = host().plan(given.plugin, depth=given.depth)
    plan = dataclasses.replace(plan, recipe=recipes.changed(plan.recipe, {**STILL, "learning_rate": given.rate}))
    corpus = prepare.open_corpus(given.release, cache=given.cache)
    found = []
    with tempfile.TemporaryDirectory() as place:
        for seed in given.seed:
            torch.manual_seed(seed)
            start = system.build(plan, system.parse_weights(given.weights, plan), plan.recipe)
            system.fit_texts(start, [text or "" for text in corpus.rows["train"].transcript])
            arms = {
                "trainer": _arm(start, plan, corpus, given, "float32", seed, Path(place) / f"{seed}-t", trainer=True),
                "ours": _arm(start, plan, corpus, given, "float32", seed, Path(place) / f"{seed}-o"),
                "float16 store": _arm(start, plan, corpus, given, "float16", seed, Path(place) / f"{seed}-h"),
            }
            half = dataclasses.replace(
                plan, recipe=dataclasses.replace(plan.recipe, frontend_precision="bfloat16", precision="float32")
            )
            arms["bfloat16 front end"] = _arm(start, half, corpus, given, "float16", seed, Path(place) / f"{seed}-b")
            found.append(_told(arms, seed))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


@dataclasses.dataclass
class _Arm:
    losses: list[float]
    scores: dict[str, PartitionScore]
    """By partition, after the last step."""


def _arm(
    start: nn.Module,
    plan: Plan,
    corpus: Corpus,
    given: argparse.Namespace,
    dtype: str,
    seed: int,
    folder: Path,
    *,
    trainer: bool = False,
) -> _Arm:
    module = copy.deepcopy(start)
    inputs = prepare.make_inputs(module, plan, corpus, Storing(dtype=dtype, cache=given.cache), device=CPU)
    order = _order(inputs["train"], plan, given.steps, seed)
    train = _with_trainer if trainer else _with_ours
    losses = train(module, inputs, plan, order, seed, folder)
    scores = {}
    for name in ("development", "test1", "test2"):
        values = predict(module, inputs[name], batch_size=plan.recipe.batch_size, device=CPU) * 6 + 1
        scores[name] = score_partition(values, corpus.rows[name].labels, rows=corpus.rows[name])
    return _Arm(losses, scores)


def _order(train: Inputs, plan: Plan, steps: int, seed: int) -> list[list[np.ndarray]]:
    """Return the batches of whole epochs that hold at least so many steps."""
    order: list[list[np.ndarray]] = []
    while sum(map(len, order)) < steps:
        recipe = plan.recipe
        order.append(epoch_order(train.duration, recipe.batch_size, recipe.bucket_batches, seed=seed, epoch=len(order)))
    return order


def _with_ours(
    module: nn.Module, inputs: dict[str, Inputs], plan: Plan, order: list[list[np.ndarray]], seed: int, folder: Path
) -> list[float]:
    """Train with ``fit``, whole; keep every step's loss, and the last epoch's weights instead of the best one's."""
    losses: list[Tensor] = []
    backward, restore = fitting.backward, fitting.Checkpoints.restore_best

    def watched(*words: Any, **options: Any) -> Tensor:
        losses.append(backward(*words, **options))
        return losses[-1]

    epochs = len(order)
    recipe = dataclasses.replace(plan.recipe, epochs=epochs, patience=epochs)
    fitting.backward, fitting.Checkpoints.restore_best = watched, lambda *given: None  # type: ignore[assignment]
    try:
        fitting.fit(
            module,
            inputs["train"],
            inputs["development"],
            recipe,
            seed=seed,
            folder=folder,
            accelerator=accelerator_for(CPU, recipe.precision),
        )
    finally:
        fitting.backward, fitting.Checkpoints.restore_best = backward, restore  # type: ignore[method-assign]
    return [float(loss) for loss in losses]


class _Theirs(nn.Module):
    """The same module, with the loss, in the shape that the Trainer takes."""

    def __init__(self, inner: nn.Module, losses: list[float]) -> None:
        super().__init__()
        self.inner, self.losses = inner, losses

    def forward(self, labels: Tensor, **parts: Tensor) -> dict[str, Tensor]:
        names = ("audio", "audio_lengths", "text", "text_lengths")
        predicted = self.inner(*(parts.get(name) for name in names)).float()
        loss = ccc_loss(predicted, labels)
        self.losses.append(float(loss.detach()))
        return {"loss": loss, "logits": predicted}


class _InOrder(Trainer):
    """The Trainer with its batches in a given order."""

    batches: DataLoader[Any]

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self.batches


def _with_trainer(
    module: nn.Module, inputs: dict[str, Inputs], plan: Plan, order: list[list[np.ndarray]], seed: int, folder: Path
) -> list[float]:
    """Train with the Trainer, plain Adam at a constant rate, for as many steps."""
    train, steps = inputs["train"], [index for epoch in order for index in epoch]

    def collated(positions: list[int]) -> dict[str, Tensor]:
        batch = load(train, steps[positions[0]]).to(CPU)
        names = ("audio", "audio_lengths", "text", "text_lengths")
        parts = {name: getattr(batch, name) for name in names if getattr(batch, name) is not None}
        return parts | {"labels": torch.from_numpy(train.labels[batch.index])}

    losses: list[float] = []
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=len(steps),
        learning_rate=plan.recipe.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        seed=seed,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    optimiser = torch.optim.Adam(
        [p for p in module.parameters() if p.requires_grad], lr=plan.recipe.learning_rate, fused=True
    )
    trainer = _InOrder(
        model=_Theirs(module, losses),
        args=arguments,
        optimizers=(optimiser, None),
        train_dataset=list(range(len(steps))),
    )
    trainer.batches = DataLoader(range(len(steps)), batch_size=1, shuffle=False, collate_fn=collated)  # type: ignore[arg-type]
    trainer.train()
    return losses


def _told(arms: dict[str, _Arm], seed: int) -> dict[str, Any]:
    """Print and return how far each arm is from the Trainer."""
    theirs = arms["trainer"]
    found: dict[str, Any] = {"seed": seed, "steps": len(theirs.losses)}
    for name, arm in arms.items():
        if name == "trainer":
            continue
        apart = np.abs(np.subtract(arm.losses, theirs.losses))
        print(f"seed {seed}, {name}: {len(apart)} losses within {apart.max():.2e} of the Trainer's")  # noqa: T201
        found[name] = {"losses": apart.tolist()}
        for partition, score in arm.scores.items():
            apart_by = compare(score.resampling, theirs.scores[partition].resampling)
            words = []
            for attribute in (*ATTRIBUTES, "mean"):
                difference = apart_by[attribute]
                if difference is not None:
                    low, high = difference.ci95 or (float("nan"), float("nan"))
                    own = score.ccc[attribute]["value"]
                    words.append(f"{attribute} {own:.4f} ({difference.value:+.4f} [{low:+.4f}, {high:+.4f}])")
                    found[name][f"{partition} {attribute}"] = [difference.value, low, high]
            print(f"  {partition}: {', '.join(words)}", flush=True)  # noqa: T201
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, help="the stand-in release, unpacked")
    parser.add_argument("--plugin", default="whisper_base_minilm")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--weights", nargs="+", default=["random"])
    parser.add_argument("--rate", type=float, default=1e-5, help="learning rate")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
