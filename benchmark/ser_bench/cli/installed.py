"""The commands about what is installed: plugins."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, group, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    plugins = group(commands, "plugins", "what is installed")
    sub = command(plugins, "list", "list encoders, heads and systems", _plugins_list)
    sub.add_argument("--kind", choices=("audio", "text", "head", "system"), help="list one kind (default: all)")
    sub.add_argument("--no-count", action="store_true", help="leave out parameters, whose counting takes seconds")
    sub = command(plugins, "check", "check a plugin against the contract", _plugins_check)
    sub.add_argument(
        "plugin", metavar="KIND:NAME", help="a plugin as shown by list; NAME will do where it is the only one"
    )
    sub.add_argument(
        "--weights",
        choices=("tiny", "random"),
        default="tiny",
        help="its size: tiny, or random for full (default: tiny)",
    )
    sub.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    sub = command(plugins, "new", "write a distribution that offers a plugin, to start from", _plugins_new)
    sub.add_argument("name", metavar="NAME", help="what the plugin is called, such as my_model")
    sub.add_argument(
        "--kind", choices=("audio", "text", "head", "system"), default="audio", help="what it is (default: audio)"
    )
    sub.add_argument("--out", metavar="DIR", type=Path, help="the new folder (default: NAME)")


def _plugins_list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ser_bench.host import host
    from ser_bench.inventory import inventory
    from ser_bench.progress import Reporter

    found, counted = host(), not arguments.no_count
    with closing(Reporter()) as progress:
        entries = inventory(found, arguments.kind, count=counted, progress=progress if counted else None)
    broken = [*map(str, found.failures), *found.conflicts()]
    if arguments.json:
        return print_json({"plugins": [entry.as_dict() for entry in entries], "broken": broken})
    shown = ["kind", "name", *(["parameters"] if counted else []), "modality", "licence", "revision", "distribution"]
    rows = [{name: getattr(entry, name) for name in [*shown, "status"]} for entry in entries]
    for row in rows if counted else ():
        row["parameters"] = None if row["parameters"] is None else f"{row['parameters'] / 1e6:.3f} M"
    print(tabulate(rows, headers="keys", missingval="-", colalign=_right(shown) if rows else None))
    for entry in entries:
        for check, why in entry.known_failures.items():
            print(f"{entry.kind}:{entry.name} fails '{check}', as it declares: {why}")
        if entry.note:
            print(f"{entry.kind}:{entry.name}: {entry.note}", file=sys.stderr)
    for line in broken:
        print(line, file=sys.stderr)
    return 0


def _right(columns: list[str]) -> list[str]:
    """Align numbers to the right, and words, with the status that follows, to the left."""
    return ["right" if column == "parameters" else "left" for column in [*columns, "status"]]


def _plugins_check(arguments: argparse.Namespace) -> int:
    from ser_bench.errors import PluginError
    from ser_bench.host import host
    from ser_bench.progress import Reporter
    from ser_bench.testing import check

    offer = host().find(arguments.plugin)
    name = arguments.plugin.removeprefix(f"{offer.spec.kind}:")  # of a described one, with its whole address
    with closing(Reporter()) as progress:
        outcomes = check(offer.spec.kind, name, weights=arguments.weights, device=arguments.device, progress=progress)
    failed = [outcome.check for outcome in outcomes if not outcome.ok]
    if arguments.json:
        print_json({"plugin": str(offer), "passed": not failed, "checks": [asdict(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            print(outcome)
    if failed:
        raise PluginError(
            f"{offer} fails {len(failed)} of {len(outcomes)} contract checks: {', '.join(failed)}. Correct the plugin, "
            "or declare what cannot be helped, with the measured figure, in its spec's known_failures."
        )
    return 0


def _plugins_new(arguments: argparse.Namespace) -> int:
    from ser_bench.scaffold import write

    written = write(arguments.name, kind=arguments.kind, folder=arguments.out)
    if arguments.json:
        told = asdict(written) | {"folder": str(written.folder), "files": [path.as_posix() for path in written.files]}
        return print_json(told)
    for path in written.files:
        print(written.folder / path)
    print(f"\n{written.folder} offers {' and '.join(written.plugins)}. To install it, check it, and run it:")
    for line in (
        f"pip install --editable {shlex.quote(str(written.folder))}",
        *(f"ser-bench plugins check {plugin}" for plugin in written.plugins),
        f"ser-bench run --plugin {arguments.name} --corpus demo",
    ):
        print(f"  {line}")
    return 0
