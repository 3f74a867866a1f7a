"""Time an epoch of `logmel` over few and over many synthetic utterances; run by hand, never by pytest.

    python tests/speed/growth.py [--few 1000] [--many 8000] [--pairs 3] [--threads N] [--json FILE]

Both sizes take turns epoch by epoch, so that a machine that is slow for a while is slow for both. An epoch is what
``fit`` does in one: order, reading from the store, steps, development, checkpoint. A first pair, in which every
checksum is looked at, is not counted. Bar: eight times the utterances take at most nine times as long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ser_bench import frames, system
from ser_bench.host import host
from ser_bench.training.batches import Inputs
from ser_bench.training.device import accelerator_for
from ser_bench.training.fit import fit

# Of the corpus, in seconds (mean, standard deviation, shortest, longest), to draw lengths from.
LENGTHS = (5.69, 2.35, 1.91, 11.94)
CPU = torch.device("cpu")


def main() -> None:
    """Print each pair's seconds and ratio, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=8000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        sizes = (given.few, given.many)
        train = [synthetic(root, n, seed=n) for n in sizes]
        development = synthetic(root, 200, seed=0)
        seconds = [
            [epoch(data, development, root / f"{pair}-{len(data)}") for data in train]
            for pair in range(given.pairs + 1)
        ]
    ratios = [many / few for few, many in seconds[1:]]
    for (few, many), ratio in zip(seconds[1:], ratios, strict=True):
        print(f"{given.few:,}: {few:.2f} s   {given.many:,}: {many:.2f} s   ratio {ratio:.2f}")  # noqa: T201
    print(f"median ratio {statistics.median(ratios):.2f} for {given.many / given.few:g} times the utterances")  # noqa: T201
    if given.json is not None:
        given.json.write_text(json.dumps({"seconds": seconds[1:], "ratios": ratios, "threads": given.threads}) + "\n")


def synthetic(root: Path, count: int, *, seed: int) -> Inputs:
    """Store noise of the corpus' lengths in the shape of log-mel frames, 50 a second."""
    rng = np.random.default_rng(seed)
    mean, spread, shortest, longest = LENGTHS
    duration = np.clip(rng.normal(mean, spread, count), shortest, longest)
    names = [f"{n}.wav" for n in range(count)]

    def make(number: int) -> tuple[np.ndarray, bool]:
        return rng.normal(size=(int(duration[number] * 50), 64)).astype(np.float32), False

    stored = frames.store(root, {"synthetic": seed}, names, names, duration.tolist(), make, dtype="float16")
    labels = rng.uniform(size=(count, 3)).astype(np.float32)
    return Inputs(utterance=names, duration=duration, labels=labels, audio=stored, text=None)


def epoch(train: Inputs, development: Inputs, folder: Path) -> float:
    """Return the seconds that one epoch of a fresh system takes."""
    plan = host().plan("logmel")
    torch.manual_seed(0)
    module = system.build(plan, dict.fromkeys(plan.parts, "random"), plan.recipe)
    recipe = replace(plan.recipe, epochs=1, precision="float32")
    began = time.perf_counter()
    fit(module, train, development, recipe, seed=1, folder=folder, accelerator=accelerator_for(CPU))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
