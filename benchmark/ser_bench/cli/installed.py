"""The commands that show what is installed and what is kept: plugins, cache."""

from __future__ import annotations

import argparse
import json
import shutil
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
    sub.add_argument("--count", action="store_true", help="count parameters, which takes seconds; --json always does")
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
    cache = group(commands, "cache", "frames stores and other results that can be made again")
    command(cache, "list", "list what the cache holds", _cache_list)
    sub = command(cache, "remove", "remove one frames store", _cache_remove)
    sub.add_argument("key", metavar="KEY", help="as shown by list")


def _plugins_list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ser_bench.host import host
    from ser_bench.inventory import inventory
    from ser_bench.progress import Reporter

    found, counted = host(), arguments.json or arguments.count
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
    with closing(Reporter()) as progress:
        outcomes = check(
            offer.spec.kind, offer.spec.name, weights=arguments.weights, device=arguments.device, progress=progress
        )
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


def _stores(arguments: argparse.Namespace) -> dict[str, Path]:
    from ser_bench.cache import cache_root

    folder = cache_root(arguments.cache) / "frames"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/key.json"))}


def _cache_list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    rows = []
    for key, folder in _stores(arguments).items():
        held = json.loads((folder / "key.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in folder.iterdir())
        rows.append(
            {"key": key, "modality": held["modality"], "complete": (folder / "index.npz").exists(), "bytes": size}
        )
    if arguments.json:
        return print_json({"frames": rows})
    print(tabulate(rows, headers="keys", intfmt=",") if rows else "the cache holds no frames store")
    return 0


def _cache_remove(arguments: argparse.Namespace) -> int:
    from ser_bench.errors import StoreError

    stores = _stores(arguments)
    if arguments.key not in stores:
        raise StoreError(f"the cache holds no frames store '{arguments.key}'. `ser-bench cache list` shows the keys.")
    shutil.rmtree(stores[arguments.key])
    return print_json({"removed": arguments.key}) if arguments.json else 0
