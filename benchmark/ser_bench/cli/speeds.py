"""The command that measures speed: speed."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, print_json


def add(commands: Any) -> None:
    """Add the command."""
    speed = command(commands, "speed", "measure how fast a system trains and predicts here; needs no corpus", _speed)
    speed.add_argument("--plugin", metavar="SYSTEM", required=True, help="a system by name")
    speed.add_argument(
        "--hours", metavar="H", type=float, default=166.0, help="of the corpus that times are told for (default: 166.0)"
    )
    speed.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    speed.add_argument(
        "--weights", choices=("random", "tiny"), default="random", help="full size, or tiny (default: random)"
    )
    speed.add_argument(
        "--utterances", metavar="N", type=int, help="made-up ones to train on (default: 64 on a CPU, 1024 on a GPU)"
    )
    speed.add_argument("--micro-batch", metavar="N", type=int, help="as in run")
    speed.add_argument(
        "--set", metavar="recipe.KEY=VALUE", nargs="+", action="extend", default=[], dest="changes", help="as in run"
    )
    speed.add_argument("--out", metavar="FILE", type=Path, help="write the figures here too, as JSON")


def _speed(arguments: argparse.Namespace) -> int:
    from ser_bench.cache import atomic_write
    from ser_bench.cli.common import recipe_changes
    from ser_bench.progress import Reporter
    from ser_bench.records import canonical
    from ser_bench.speed import measure, table

    changes = recipe_changes(arguments.changes, ("recipe",))["recipe"]
    with closing(Reporter()) as progress:
        found = measure(
            arguments.plugin,
            hours=arguments.hours,
            device=arguments.device,
            weights=arguments.weights,
            utterances=arguments.utterances,
            micro_batch=arguments.micro_batch,
            changes=changes,
            progress=progress,
        )
    if arguments.out is not None:
        atomic_write(arguments.out, canonical(found.as_dict()))
    if arguments.json:
        return print_json(found.as_dict())
    print(table(found))
    return 0
