"""Time our training against what a user would otherwise run; by hand on a quiet machine, never by pytest.

    python tests/speed/training.py --systems distilhubert_tinybert distilhubert --utterances 400 [--json FILE]

Opponents (``opponents.py``): Hugging Face ``Trainer``, grouped by length and in its default random batches; the
official challenge baseline's loop, accumulating 4 batches of 8 and stepping after each. Random weights, synthetic
utterances with the corpus' lengths, wav files on disk. Each side is a process; they take turns by blocks of steps, so
that a machine that is slow for a while is slow for all. Before anything is timed, all must give the same loss on one
batch.

What is compared is audio seconds trained on per second: in the first epoch, for us with the store's making, and in the
epochs after it. Evaluation and checkpoints are in nobody's time.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH, PART = 16, 8
RATE = 1e-5
MARK = "@@"  # before what a side says to the one that gives turns; libraries print, too
OURS = {
    "ours": {},
    "ours, bfloat16 front end": {"frontend_precision": "bfloat16"},
    "ours, bfloat16": {"frontend_precision": "bfloat16", "precision": "bfloat16"},
}
OPPONENTS = ("trainer, grouped", "trainer, random", "baseline, accumulating 4", "baseline, accumulating 1")
WHOLE_FIRST = (*OURS, "trainer, grouped")  # the others only warm up before the epochs that are compared
WARM_UP = 2  # steps


def main() -> None:
    """Give turns to all sides, system by system; print settings, the table, and where the bars are."""
    arguments = _arguments()
    if arguments.side is not None:
        _side(arguments)
        return
    found = {}
    for system in arguments.systems:
        found[system] = _measure(system, arguments)
        print(_table(system, found[system]), flush=True)  # noqa: T201 - a script
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": _machine(), "systems": found}, indent=1) + "\n")


def _measure(system: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return side -> what it measured of itself, and its settings."""
    with tempfile.TemporaryDirectory() as folder:
        _write_waves(Path(folder), arguments.utterances)
        sides = [_Side(name, system, folder, arguments) for name in _sides(arguments)]
        losses = {side.name: side.hear()["loss"] for side in sides}
        for side in sides:
            print(f"{system}: {side.name}: {json.dumps(side.settings)}, first loss {losses[side.name]:.7f}", flush=True)  # noqa: T201
        if np.ptp(list(losses.values())) > 1e-4 * max(losses.values()):
            raise SystemExit(f"the sides do not train the same: losses on one batch are {losses}")
        turn, waiting = 0, list(sides)
        while waiting:
            for side in waiting[:: 1 if turn % 2 == 0 else -1]:
                side.go()
                said = side.hear()
                if "result" in said:
                    side.result = said["result"]
            waiting = [side for side in waiting if side.result is None]
            turn += 1
        return {side.name: {**side.settings, **side.result} for side in sides if side.result is not None}


class _Side:
    """One side, in a process of its own, started when the one before it is ready."""

    def __init__(self, name: str, system: str, folder: str, arguments: argparse.Namespace) -> None:
        self.name, self.result = name, None
        words = ["--side", name, "--systems", system, "--folder", folder, "--utterances", str(arguments.utterances)]
        words += ["--epochs", str(arguments.epochs), "--block", str(arguments.block), "--device", arguments.device]
        words += ["--workers", str(arguments.workers), "--weights", arguments.weights]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.settings = self.hear()["settings"]
        self.go()

    def go(self) -> None:
        """Let it work until it says something."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for what it says."""
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise SystemExit(f"{self.name} ended with {self._process.wait()}; what it said is above.")


class _Turns:
    """A side's view: works in blocks of steps, waits in between, and knows how long it waited."""

    def __init__(self, block: int) -> None:
        self.block, self.waited, self.steps = block, 0.0, 0
        self.epochs: list[float] = []
        """When each began, on a clock that stands still while the side waits."""

    def say(self, **said: Any) -> None:
        """Say something, and wait for the next turn; what is queued on a GPU is this side's own time."""
        _settle()
        print(MARK + json.dumps(said), flush=True)  # noqa: T201
        began = time.perf_counter()
        sys.stdin.readline()
        self.waited += time.perf_counter() - began

    def now(self) -> float:
        """Return seconds worked."""
        _settle()
        return time.perf_counter() - self.waited

    def epoch(self) -> None:
        """Note that an epoch begins."""
        self.epochs.append(self.now())

    def step(self) -> None:
        """Note a step."""
        self.steps += 1
        if self.steps % self.block == 0:
            self.say(steps=self.steps)


def _settle() -> None:
    """Wait for the GPU, if there is one, and give freed memory back: many sides wait on one machine."""
    import ctypes

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _side(arguments: argparse.Namespace) -> None:
    """Be one side: build, check, train, say what it took."""
    import torch

    from ser_bench import synthetic, system
    from ser_bench.host import host

    turns, name = _Turns(arguments.block), arguments.side
    plan = host().plan(arguments.systems[0])
    # AdamW without decay is Adam; the Trainer has no Adam. Both sides take torch's fused kernel.
    changes = {"optimiser": "adamw", "epochs": 1 + arguments.epochs, "patience": 1 + arguments.epochs}
    recipe = dataclasses.replace(plan.recipe, learning_rate=RATE, batch_size=BATCH, **changes, **OURS.get(name, {}))
    plan = dataclasses.replace(plan, recipe=recipe)
    corpus = synthetic.corpus({"train": arguments.utterances, "development": BATCH})
    torch.manual_seed(1)
    module = system.build(plan, dict.fromkeys(plan.parts, arguments.weights), recipe)
    cuda = arguments.device == "cuda"
    common = {
        "optimiser": "torch AdamW, fused, no decay, no clipping",
        "attention": module.audio.config._attn_implementation,
        "regularisation": dataclasses.asdict(recipe.regularisation),
        "threads": torch.get_num_threads(),
    }
    if name in OURS:
        settings = {"batch": f"{BATCH}, buckets of {recipe.bucket_batches} batches", **_precision(recipe, cuda)}
    elif name.startswith("trainer"):
        how = "grouped by length" if "grouped" in name else "random"
        settings = {
            "batch": f"{BATCH}, {how}",
            "precision": "bfloat16" if cuda else "float32",
            "workers": arguments.workers,
        }
    else:
        settings = {
            "batch": f"{PART}, random, {name.split()[-1]} to a step",
            "precision": "float16" if cuda else "float32",
            "waves": "held in memory",
        }
    turns.say(settings=settings | common)
    work = _ours if name in OURS else _theirs
    work(name, module, plan, corpus, turns, arguments)


def _precision(recipe: Any, cuda: bool) -> dict[str, str]:
    auto = "bfloat16" if cuda else "float32"
    return {
        "precision": auto if recipe.precision == "auto" else recipe.precision,
        "front end": recipe.frontend_precision,
        "store": "float16",
    }


def _ours(name: str, module: Any, plan: Any, corpus: Any, turns: _Turns, arguments: argparse.Namespace) -> None:
    import torch

    from ser_bench.prepare import Storing, make_inputs
    from ser_bench.training.device import accelerator_for
    from ser_bench.training.fit import fit

    folder = Path(arguments.folder)
    corpus = _on_disk(corpus, folder)
    accelerator = accelerator_for(torch.device(arguments.device), plan.recipe.precision)
    module.to(accelerator.device)
    turns.say(loss=_loss_from_frames(module, plan, accelerator.device))
    with tempfile.TemporaryDirectory() as own:
        began = turns.now()
        inputs = make_inputs(module, plan, corpus, Storing(cache=Path(own)), device=accelerator.device)
        # Of train alone: development is only there because the loop wants one.
        stored = (turns.now() - began) * arguments.utterances / (arguments.utterances + BATCH)
        turns.say(stored=stored)
        waits = {str(epoch): 0.0 for epoch in range(1, 2 + arguments.epochs)}

        def progress(what: str, done: int, total: int) -> None:
            if what.startswith("epoch"):
                before = turns.waited
                turns.step()
                if done < total:  # the log's clock stands still after an epoch's last step
                    waits[what.split()[1]] += turns.waited - before

        fit(
            module,
            inputs["train"],
            inputs["development"],
            plan.recipe,
            seed=1,
            folder=Path(own) / "run",
            accelerator=accelerator,
            progress=progress,
        )
        lines = [json.loads(line) for line in (Path(own) / "run" / "log.jsonl").read_text().splitlines()]
    ends = [line["seconds"] for line in lines]  # of epochs 0 (the start), 1, 2, ...
    taken = [after - before - waits[str(n)] for n, (before, after) in enumerate(itertools.pairwise(ends), start=1)]
    _finish(turns, taken, corpus, store=stored)


def _theirs(name: str, module: Any, plan: Any, corpus: Any, turns: _Turns, arguments: argparse.Namespace) -> None:
    from opponents import FromWaves, Waves, baseline, trainer

    from ser_bench.prepare import text_array

    rows, folder, cuda = corpus.rows["train"], Path(arguments.folder), arguments.device == "cuda"
    ids = [text_array(module, text)[0].astype(np.int64) for text in rows.transcript] if "text" in plan.reads else None
    labels = ((rows.labels - 1) / 6).astype(np.float32)
    paths = [folder / f"{path}.wav" for path in rows.path]
    model = FromWaves(module, python_pooling=name.startswith("baseline")).to(arguments.device)
    turns.say(loss=_loss_from_waves(model, plan, arguments.device))
    data = Waves(paths, ids, labels, held=name.startswith("baseline"))
    options = {"learning_rate": RATE, "cuda": cuda, "on_epoch": turns.epoch, "on_step": turns.step}

    def train(epochs: int, steps: int | None) -> None:
        if name.startswith("trainer"):
            trainer(
                model, data, rows.duration.tolist(), epochs=epochs, steps=steps or -1, batch_size=BATCH,
                grouped="grouped" in name, workers=arguments.workers, folder=folder / "trainer", **options,
            )  # fmt: skip
        else:
            accumulation = int(name.split()[-1])
            baseline(model, data, epochs=epochs, steps=steps, batch_size=PART, accumulation=accumulation, **options)

    whole = name in WHOLE_FIRST
    if not whole:
        train(1, WARM_UP)
        turns.epochs.clear()
    train(arguments.epochs + whole, None)
    edges = [*turns.epochs, turns.now()]
    taken = list(np.diff(edges))
    _finish(turns, taken if whole else [None, *taken], corpus, store=0.0)


def _finish(turns: _Turns, taken: list[Any], corpus: Any, *, store: float) -> None:
    """Say how fast it was in the first epoch and after it."""
    import torch

    from ser_bench.training.device import peak_memory

    audio = float(corpus.rows["train"].duration.sum())
    first, later = taken[0], [float(seconds) for seconds in taken[1:]]
    result = {
        "store_seconds": store,
        "first": None if first is None else audio / (float(first) + store),
        "later": audio * len(later) / sum(later) if later else None,
        "epochs_seconds": [None if seconds is None else float(seconds) for seconds in taken],
        "audio_seconds": audio,
        "peak_memory_bytes": peak_memory(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    }
    turns.say(result=result)


def _fixed(plan: Any) -> tuple[list[np.ndarray], list[str], np.ndarray]:
    """Return a batch of equal lengths, where group normalisation over padding cannot make a difference."""
    from ser_bench import synthetic

    waves = [synthetic.wave(4.0, number) for number in range(BATCH)]
    texts = [synthetic.text(4.0, number) for number in range(BATCH)]
    labels = np.random.default_rng(0).uniform(0, 1, (BATCH, 3)).astype(np.float32)
    return waves, texts if "text" in plan.reads else [], labels


def _loss_from_frames(module: Any, plan: Any, device: Any) -> float:
    """Return our loss on the fixed batch, in float32 and without dropout."""
    import torch

    from ser_bench.prepare import audio_array, text_array
    from ser_bench.training.batches import Inputs, load
    from ser_bench.training.loss import ccc_loss
    from ser_bench.training.predict import forward

    waves, texts, labels = _fixed(plan)
    module.eval()
    inputs = Inputs(
        utterance=[str(number) for number in range(BATCH)],
        duration=np.full(BATCH, 4.0),
        labels=labels,
        audio=_Held([audio_array(module, wave, device) for wave in waves]),
        text=_Held([text_array(module, text)[0] for text in texts]) if texts else None,
    )
    with torch.no_grad():
        return float(
            ccc_loss(forward(module, load(inputs, np.arange(BATCH)).to(device)).cpu(), torch.from_numpy(labels))
        )


class _Held(list):  # type: ignore[type-arg]
    """Frames in memory."""

    def truncated(self, number: int) -> bool:
        return False


def _loss_from_waves(model: Any, plan: Any, device: str) -> float:
    """Return an opponent's loss on the fixed batch."""
    import torch
    from opponents import collated

    from ser_bench.prepare import text_array

    waves, texts, labels = _fixed(plan)
    batch = [{"wave": wave, "labels": label} for wave, label in zip(waves, labels, strict=True)]
    for one, text in zip(batch, texts, strict=False):
        one["ids"] = text_array(model.system, text)[0].astype(np.int64)
    model.eval()
    with torch.no_grad():
        return float(model(**{name: tensor.to(device) for name, tensor in collated(batch).items()})["loss"])


def _write_waves(folder: Path, utterances: int) -> None:
    """Write the wav files that all sides read, as the corpus has them: 16-bit, mono, 16 kHz."""
    import soundfile

    from ser_bench import synthetic

    for part in synthetic.corpus({"train": utterances, "development": BATCH}).rows.values():
        for path, seconds in zip(part.path, part.duration, strict=True):
            soundfile.write(folder / f"{path}.wav", synthetic.wave(float(seconds), int(path)), 16_000, subtype="PCM_16")


def _on_disk(corpus: Any, folder: Path) -> Any:
    """Return the corpus with its waves in the files."""
    rows = {
        name: dataclasses.replace(part, path=[str(folder / f"{path}.wav") for path in part.path])
        for name, part in corpus.rows.items()
    }
    return dataclasses.replace(corpus, rows=rows, made_up=None)


def _sides(arguments: argparse.Namespace) -> list[str]:
    """Return the sides to compare: bfloat16 on a CPU only where it has instructions for it."""
    ours = list(OURS)
    if arguments.device == "cpu" and not arguments.bfloat16 and not _bfloat16_instructions():
        print("this CPU has no bfloat16 instructions (avx512_bf16, amx_bf16): bfloat16 is left out")  # noqa: T201
        ours = ours[:1]
    if arguments.device == "cuda":
        ours.remove("ours, bfloat16")  # the default there
    return [side for side in (*ours, *OPPONENTS) if arguments.sides is None or side in arguments.sides]


def _bfloat16_instructions() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return any(f" {flag}" in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def _machine() -> dict[str, Any]:
    import platform

    import torch

    return {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}


def _table(system: str, found: dict[str, Any]) -> str:
    from tabulate import tabulate

    rows = []
    for side, one in found.items():
        row = [side, one["first"], one["later"]]
        for ours in (name for name in OURS if name in found):
            for when in ("first", "later"):
                mine, its = found[ours][when], one[when]
                row.append(mine / its if mine and its and side not in OURS else None)
        rows.append([*row, one["peak_memory_bytes"] / 1e9])
    ratios = [f"{name}: {when}" for name in OURS if name in found for when in ("first", "later")]
    headers = ["side", "first epoch", "later epochs", *ratios, "peak GB"]
    title = f"{system}: audio seconds per second, and how many times as fast we are"
    return f"\n{title}\n{tabulate(rows, headers=headers, floatfmt='.2f', missingval='-')}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["distilhubert_tinybert", "distilhubert"])
    parser.add_argument("--utterances", type=int, default=400, help="train utterances; 16 or more")
    parser.add_argument("--epochs", type=int, default=1, help="after the first")
    parser.add_argument("--block", type=int, default=5, help="optimiser steps to a turn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--weights", choices=("random", "tiny"), default="random")
    parser.add_argument("--workers", type=int, default=2, help="the Trainer's reading processes")
    parser.add_argument("--sides", nargs="+", choices=(*OURS, *OPPONENTS), help="these alone")
    parser.add_argument("--bfloat16", action="store_true", help="also on a CPU without instructions for it")
    parser.add_argument("--json", type=Path, help="write everything here too")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
