"""The commands that look at a release: corpus check, stats, demo."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import command, group, open_release, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    corpus = group(commands, "corpus", "look at a release: check, stats; unpack the demo release")
    for name, does, run in (
        ("check", "print what was found against what is known, and every fault", _corpus_check),
        ("stats", "print hours, speakers, attributes, overlaps", _corpus_stats),
    ):
        sub = command(corpus, name, does, run)
        sub.add_argument("directory", metavar="DIR", help="the release's folder, or demo")
        sub.add_argument("--release", metavar="V", help="the version it is claimed to be, such as 1.10")
    sub = command(corpus, "demo", "unpack the embedded demo release", _corpus_demo)
    sub.add_argument("directory", metavar="DIR", help="a folder that does not exist yet")


def _open(arguments: argparse.Namespace) -> Any:
    from ser_bench.progress import Reporter

    with closing(Reporter()) as progress:
        return open_release(arguments.directory, arguments, progress)


def _corpus_check(arguments: argparse.Namespace) -> int:
    from ser_bench.corpus import check

    report = check(_open(arguments))
    if arguments.json:
        print_json(report.as_dict())
    else:
        print(report.text())
    return 0 if report.sound else 1


def _corpus_stats(arguments: argparse.Namespace) -> int:
    from ser_bench.corpus import stats

    found = stats(_open(arguments))
    if arguments.json:
        return print_json(found.as_dict())
    print(found.text())
    return 0


def _corpus_demo(arguments: argparse.Namespace) -> int:
    from ser_bench.corpus.demo import unpack_demo

    folder = unpack_demo(Path(arguments.directory))
    if arguments.json:
        return print_json({"folder": str(folder)})
    print(f"the demo release is in {folder}")
    return 0
