"""The commands about many runs: suite, runs, record merge."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, group, print_json, show_record


def add(commands: Any) -> None:
    """Add the commands."""
    suite = command(commands, "suite", "make many runs; goes on where it was", _suite)
    suite.add_argument("file", metavar="FILE.toml", type=Path, help="what is to be run (docs/suites.md)")
    suite.add_argument("--dry-run", action="store_true", help="show what would be run, and train nothing")
    suite.add_argument(
        "--jobs", metavar="N", type=int, help="runs at a time (default: one a GPU, one without; all on slurm)"
    )
    suite.add_argument("--cluster", choices=("slurm", "local"), help="run them as jobs, through submitit")
    runs = command(commands, "runs", "list runs: finished, running, interrupted or failed, and how far", _runs)
    runs.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", default=Path("runs"), help="holds runs (default: runs)"
    )
    record = group(commands, "record", "what a run leaves: merge")
    merge = command(record, "merge", "join seeds of one run that were trained apart", _merge)
    merge.add_argument(
        "folders", metavar="DIR", type=Path, nargs="+", help="run folders that differ in the seeds alone"
    )
    merge.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder that takes them")


def _suite(arguments: argparse.Namespace) -> int:
    import sys

    from ser_bench import suite
    from ser_bench.progress import Reporter
    from ser_bench.suite.cluster import require

    asked = suite.read(arguments.file)
    if arguments.cluster is not None:
        require(arguments.cluster)
    with closing(Reporter()) as progress:
        planned = suite.plan(asked.specs, out=asked.out, cache=arguments.cache, progress=progress)
        if arguments.dry_run:
            return _show_plan(planned, arguments)

        def told(outcome: suite.Outcome) -> None:
            if outcome.state != "skipped":
                print(f"{outcome.planned}: {outcome.state}{f': {outcome.why}' if outcome.why else ''}", file=sys.stderr)

        outcomes = suite.execute(
            planned,
            out=asked.out,
            jobs=asked.jobs if arguments.jobs is None else arguments.jobs,
            cluster=arguments.cluster,
            options=asked.cluster,
            cache=arguments.cache,
            progress=progress,
            told=told,
        )
    if arguments.json:
        print_json({"runs": [outcome.as_dict() for outcome in outcomes]})
    else:
        _table([outcome.as_dict() for outcome in outcomes], ("run", "seed", "state", "seconds"))
    suite.require_success(outcomes, asked.out / "logs")
    return 0


def _show_plan(planned: list[Any], arguments: argparse.Namespace) -> int:
    import shlex

    rows = [
        {
            "run": str(one.folder),
            "seed": one.seed,
            "state": "finished" if one.finished else "to do",
            "command": shlex.join(["ser-bench", *one.spec.words(one.seed, str(one.folder), arguments.cache)]),
        }
        for one in planned
    ]
    if arguments.json:
        return print_json({"runs": rows})
    _table(rows, ("run", "seed", "state"))
    for row in rows:
        if row["state"] == "to do":
            print(row["command"])
    return 0


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from tabulate import tabulate

    print(tabulate([[row[key] for key in columns] for row in rows], headers=columns, floatfmt=".1f"))


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


def _merge(arguments: argparse.Namespace) -> int:
    from ser_bench.runs import merge

    return show_record(merge(arguments.folders, arguments.out), arguments.out, as_json=arguments.json)
