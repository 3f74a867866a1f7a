"""The commands about what is kept and can be made again: cache."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, group, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    cache = group(commands, "cache", "frames stores and transcripts, which can be made again")
    command(cache, "list", "list what the cache holds", _list)
    sub = command(cache, "remove", "remove one frames store or transcript source", _remove)
    sub.add_argument("key", metavar="KEY", help="as shown by list")


def _kept(arguments: argparse.Namespace) -> dict[str, tuple[str, Path]]:
    """Return key -> what it is, and its folder."""
    from ser_bench.cache import cache_root

    root = cache_root(arguments.cache)
    frames = {path.parent.name: ("frames", path.parent) for path in sorted((root / "frames").glob("*/key.json"))}
    texts = sorted((root / "transcripts").glob("*/source.json"))
    return frames | {path.parent.name: ("transcripts", path.parent) for path in texts}


def _list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    rows = []
    for key, (what, folder) in _kept(arguments).items():
        files = [path for path in folder.rglob("*") if path.is_file()]
        # Of which release a source is to be complete, only `transcribe` and `wer` know.
        row: dict[str, Any] = {"key": key, "modality": "text", "complete": None}
        if what == "frames":
            held = json.loads((folder / "key.json").read_text(encoding="utf-8"))
            row |= {"modality": held["modality"], "complete": (folder / "index.npz").exists()}
        rows.append({"kind": what, **row, "bytes": sum(path.stat().st_size for path in files)})
    if arguments.json:
        of = {
            what: [{k: v for k, v in row.items() if k != "kind"} for row in rows if row["kind"] == what]
            for what in ("frames", "transcripts")
        }
        return print_json(of)
    print(
        tabulate(rows, headers="keys", intfmt=",", missingval="-")
        if rows
        else "the cache holds no frames store and no transcripts"
    )
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from ser_bench.errors import StoreError

    kept = _kept(arguments)
    if arguments.key not in kept:
        raise StoreError(f"the cache holds nothing called '{arguments.key}'. `ser-bench cache list` shows the keys.")
    shutil.rmtree(kept[arguments.key][1])
    return print_json({"removed": arguments.key}) if arguments.json else 0
