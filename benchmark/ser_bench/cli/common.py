"""What all commands have in common: how one is added, and how JSON is printed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Command = Callable[[argparse.Namespace], int]


def group(commands: Any, name: str, does: str) -> Any:
    """Add a command that only holds others."""
    return commands.add_parser(name, help=does, description=does).add_subparsers(required=True, metavar="COMMAND")


def command(commands: Any, name: str, does: str, run: Command) -> argparse.ArgumentParser:
    """Add a command, with the options that each has."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=does, description=does)
    parser.set_defaults(command=run)
    parser.add_argument("--debug", action="store_true", help="show log messages, and the traceback of an error")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where what can be made again is kept")
    return parser


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Add what names a release."""
    parser.add_argument("--corpus", metavar="DIR|demo", required=True, help="a release's folder, or demo")
    parser.add_argument("--release", metavar="V", help="the version it is claimed to be, such as 1.10")


def add_condition(parser: argparse.ArgumentParser, does: str) -> None:
    """Add the option that names a degradation of the audio."""
    parser.add_argument(
        "--condition",
        metavar="C",
        default="clean",
        help=f"{does}: noise:white@10dB, noise:pink@DB, noise:babble@DB, noise:DIR@DB, reverb:SECONDS, telephone "
        "(default: clean)",
    )


def open_release(place: str, arguments: argparse.Namespace, progress: Any) -> Any:
    """Open the release at ``place``, or the embedded one for ``demo``."""
    from ser_bench.corpus import Release

    folder = Path(place)
    if place == "demo":
        from ser_bench.corpus.demo import cached_demo

        folder = cached_demo(arguments.cache)
    return Release.open(folder, version=arguments.release, cache=arguments.cache, progress=progress)


def leads() -> bool:
    """Tell whether this process is the one that prints, of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def recipe_changes(words: Sequence[str], recipes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what ``--set`` words change, by recipe.

    Raises:
        TrainingError: a word is no ``recipe.KEY=VALUE``.
    """
    from ser_bench.errors import TrainingError

    changes: dict[str, dict[str, str]] = {name: {} for name in recipes}
    for word in words:
        key, equals, value = word.partition("=")
        whose, dot, field = key.partition(".")
        if not equals or not dot or whose not in changes:
            raise TrainingError(f"--set {word} was given, expected recipe.KEY=VALUE, such as recipe.epochs=10.")
        changes[whose][field] = value
    return changes


def print_json(value: dict[str, Any]) -> int:
    """Print one JSON object; return the exit status."""
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
    return 0


def show_record(record: dict[str, Any], folder: Path, *, as_json: bool) -> int:
    """Print a run's scores, its signature and where its record is; return the exit status."""
    from ser_bench.leaderboard.table import run_table

    if as_json:
        return print_json({"run": str(folder), "signature": record["signature"], "summary": record["summary"]})
    print(run_table(record))
    print(record["signature"])
    print(f"record: {folder / 'record.json'}")
    return 0
