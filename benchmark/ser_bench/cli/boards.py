"""The commands of the leaderboard."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, group, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    board = group(commands, "leaderboard", "rows from records")
    sub = command(board, "render", "write the tables and the site, and print the tables", _leaderboard_render)
    sub.add_argument("--out", metavar="DIR", type=Path, help="where README.md and site/ go (default: the leaderboard's folder)")
    _add_leaderboard(sub)
    sub = command(board, "add", "check a run and put its record and predictions on the leaderboard", _leaderboard_add)
    sub.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    sub.add_argument("--withhold-predictions", action="store_true", help="publish the record alone; its row says so")
    _add_leaderboard(sub)


def _add_leaderboard(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--leaderboard",
        metavar="DIR",
        type=Path,
        default=Path("leaderboard"),
        help="the leaderboard's folder (default: leaderboard)",
    )


def _leaderboard_render(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.render import render

    done = render(arguments.leaderboard, arguments.out, cache=arguments.cache)
    if arguments.json:
        written, removed = ([str(path) for path in paths] for paths in (done.written, done.removed))
        return print_json({"written": written, "removed": removed, "kept": done.kept})
    print(done.readme)
    print(f"wrote {len(done.written):,} files, kept {done.kept:,}; open {done.site}", file=sys.stderr)
    return 0


def _leaderboard_add(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.add import add

    path = add(arguments.run, arguments.leaderboard, withhold_predictions=arguments.withhold_predictions)
    if arguments.json:
        return print_json({"record": str(path)})
    print(f"added {path}; `ser-bench leaderboard render` shows it")
    return 0
