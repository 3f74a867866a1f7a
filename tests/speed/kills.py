"""Kill one training at random moments until it is through, and compare it with an undisturbed one; run by hand.

    python tests/speed/kills.py [--plugin logmel_words] [--kills 20] [--seed 0] [--keep DIR]

Each process is killed with SIGKILL a random time after it began to work on the run, wherever that is: making stores,
training, writing a checkpoint, scoring. Dropout is on. With the demo release and small weights, so that it is minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ser_bench.cache import cache_root
from ser_bench.corpus.demo import cached_demo

CHILD = """
import json, sys, torch
from ser_bench import run
torch.set_num_threads(1)
given = json.loads(sys.argv[1])
print("ready", flush=True)
run(**given, progress=lambda what, done, total: print(what.split(" (")[0], done, flush=True))
print("finished", flush=True)
"""


def main() -> None:
    """Print where each kill hit, and whether the predictions are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugin", default="logmel_words")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="where the runs go (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = given.keep or Path(place)
        corpus = cached_demo(cache_root(None))
        undisturbed, killed = (options(given, corpus, root / name) for name in ("undisturbed", "killed"))
        last, took = run(undisturbed, None)
        if last != "finished":
            raise SystemExit("the undisturbed run did not finish")
        print(f"undisturbed: {took:.1f} s of training")  # noqa: T201
        rng, places, count = random.Random(given.seed), Counter[str](), 0
        while count < given.kills:
            # A share of the whole on average, so that the kills spread over all of it; now and then before it begins.
            early = rng.random() < 0.1
            hit, _ = run(killed, rng.uniform(0, 5) if early else rng.uniform(0, 1.2 * took / given.kills), early=early)
            if hit == "finished":
                break
            count += 1
            places[hit.rsplit(" ", 1)[0]] += 1
            print(f"kill {count}: {hit}", flush=True)  # noqa: T201
        if run(killed, None)[0] != "finished":
            raise SystemExit("the killed run did not finish")
        pair = [predictions(root / name) for name in ("undisturbed", "killed")]
        print(f"{count} kills: {dict(places)}")  # noqa: T201
        print("predictions identical" if pair[0] == pair[1] else "PREDICTIONS DIFFER")  # noqa: T201
        if pair[0] != pair[1] or count < given.kills:
            raise SystemExit(1)


def options(given: argparse.Namespace, corpus: Path, folder: Path) -> dict[str, Any]:
    """Return the arguments of ``run``; checkpoints come often, so that kills fall between, before and into them."""
    return {
        "plugin": given.plugin,
        "corpus": str(corpus),
        "weights": ["tiny"],
        "changes": {"epochs": given.epochs, "patience": given.epochs, "learning_rate": 1e-3},
        "out": str(folder / "run"),
        "cache": str(folder / "cache"),
        "device": "cpu",
        "checkpoint_minutes": 0.2 / 60,
        "resume": True,
    }


def run(arguments: dict[str, Any], seconds: float | None, *, early: bool = False) -> tuple[str, float]:
    """Start the run, or go on with it; return what it said last, and the seconds since its training began.

    Args:
        arguments: of ``ser_bench.run``.
        seconds: after which it is killed, counted from the first step; None: it is not.
        early: they are counted from the start of the process instead.
    """
    command = [sys.executable, "-c", CHILD, json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        last = child.stdout.readline().strip()
        while not early and last != "finished" and not last.startswith("epoch"):
            line = child.stdout.readline()
            if not line:  # it was through with training, or it failed
                break
            last = line.strip()
        began = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            last = line.strip()
    return last, time.monotonic() - began


def predictions(folder: Path) -> list[Any]:
    """Return the columns, numbers as bytes."""
    table = pq.read_table(folder / "run" / "seed-1" / "predictions.parquet")
    columns = [table[name].to_numpy(zero_copy_only=False) for name in table.column_names]
    return [column.tobytes() if np.issubdtype(column.dtype, np.floating) else column.tolist() for column in columns]


if __name__ == "__main__":
    main()
