"""The commands about many runs: suite, runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    runs = command(commands, "runs", "list runs: finished, running, interrupted or failed, and how far", _runs)
    runs.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", default=Path("runs"), help="holds runs (default: runs)"
    )


def _runs(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ser_bench.runs import listed

    states = listed(arguments.folder)
    if arguments.json:
        return print_json({"runs": [state.as_dict() for state in states]})
    if not states:
        print(f"{arguments.folder} holds no run")
        return 0
    rows = [
        {
            "run": Path(state.run).name,
            "seed": state.seed,
            "state": state.state,
            "epoch": None if state.epoch is None else f"{state.epoch}/{state.epochs}",
            "best epoch": state.best_epoch,
            "best development CCC": state.best_development_ccc,
            "training left": _span(state.seconds_left),
        }
        for state in states
    ]
    print(tabulate(rows, headers="keys", floatfmt=".3f", missingval="-"))
    for state in states:
        if state.why is not None:
            print(f"{Path(state.run).name} seed {state.seed} failed: {state.why}")
    return 0


def _span(seconds: tuple[float, float] | None) -> str | None:
    """Tell the least and the most of the time left."""
    from ser_bench.progress import clock

    if seconds is None:
        return None
    least, most = map(clock, seconds)
    return least if least == most else f"{least} to {most}"
