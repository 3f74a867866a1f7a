"""The commands of the leaderboard."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import add_corpus, command, group, open_release, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    board = group(commands, "leaderboard", "rows from records")
    sub = command(board, "render", "write the tables and the site, and print the tables", _leaderboard_render)
    sub.add_argument(
        "--out", metavar="DIR", type=Path, help="where README.md and site/ go (default: the leaderboard's folder)"
    )
    _add_leaderboard(sub)
    sub = command(board, "add", "check a run and put its record and predictions on the leaderboard", _leaderboard_add)
    sub.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    sub.add_argument("--withhold-predictions", action="store_true", help="publish the record alone; its row says so")
    sub.add_argument("--supersedes", metavar="NAME", help="the published record that this one corrects")
    sub.add_argument("--reproduces", metavar="NAME", help="the published record whose run this one made again")
    _add_leaderboard(sub)
    _add_checks(board)
    _add_hub(commands)


def _add_hub(commands: Any) -> None:
    card = command(
        commands, "card", "write a run's model card and dataset card, as the Hugging Face hub reads them", _card
    )
    card.add_argument("run", metavar="RUN", type=Path, help="a run folder; the cards go into it")
    sub = command(commands, "push", "upload a run's model, record and card to the Hugging Face hub", _push)
    sub.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    sub.add_argument("repo", metavar="REPO", help="OWNER/NAME; made if it is not there")
    sub.add_argument("--private", action="store_true", help="make a new repository private")


def _add_checks(board: Any) -> None:
    sub = command(board, "check", "check all records, predictions and rendered files, as CI does", _leaderboard_check)
    sub.add_argument("--base", metavar="REF", help="what the change is to land on (default: origin's branch, or main)")
    _add_leaderboard(sub)
    sub = command(board, "verify", "recompute what records say, from predictions and labels", _leaderboard_verify)
    sub.add_argument(
        "records", metavar="RECORD", nargs="*", help="run folders, record files or names (default: the leaderboard's)"
    )
    add_corpus(sub)
    _add_leaderboard(sub)
    sub = command(board, "compare", "compare two systems from their records alone", _leaderboard_compare)
    sub.add_argument("a", metavar="A", help="a run folder, a record file, or a name on the leaderboard")
    sub.add_argument("b", metavar="B", help="another")
    sub.add_argument(
        "--margin",
        metavar="CCC",
        type=float,
        help="differences inside it are on par if the data can tell (default: 0.01)",
    )
    sub.add_argument(
        "--partition",
        metavar="P",
        nargs="+",
        default=[],
        help="which (default: all that both have)",
    )
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


def _card(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.card import write_cards

    paths = write_cards(arguments.run)
    if arguments.json:
        return print_json({"written": [str(path) for path in paths]})
    for path in paths:
        print(f"wrote {path}")
    return 0


def _push(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.hub import push

    address = push(arguments.run, arguments.repo, private=arguments.private)
    if arguments.json:
        return print_json({"address": address})
    print(f"pushed to {address}")
    return 0


def _leaderboard_add(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.add import add

    path = add(
        arguments.run,
        arguments.leaderboard,
        withhold_predictions=arguments.withhold_predictions,
        supersedes=arguments.supersedes,
        reproduces=arguments.reproduces,
    )
    if not arguments.withhold_predictions:
        print(
            "its predictions are published with it: by adding them you state that the corpus' licence allows that; "
            "where it does not, take them away again and add the run with --withhold-predictions",
            file=sys.stderr,
        )
    if arguments.json:
        return print_json({"record": str(path)})
    print(f"added {path}; `ser-bench leaderboard render` shows it")
    return 0


def _leaderboard_check(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.check import check
    from ser_bench.progress import Reporter

    with closing(Reporter()) as progress:
        report = check(arguments.leaderboard, base=arguments.base, progress=progress)
    return _show(report, arguments)


def _leaderboard_verify(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.verify import targets, verify
    from ser_bench.progress import Reporter
    from ser_bench.transcripts.measure import heard_by

    found = targets(arguments.leaderboard, arguments.records)
    with closing(Reporter()) as progress:
        release = open_release(arguments.corpus, arguments, progress)
        report = verify(release, found, texts=heard_by(release, cache=arguments.cache), progress=progress)
    return _show(report, arguments)


def _show(report: Any, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(report.as_dict())
    else:
        print(report.text())
    return 0 if report.sound else 1


def _leaderboard_compare(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.board import find
    from ser_bench.leaderboard.compare import compare_records
    from ser_bench.scoring.compare import MARGIN

    _, a = find(arguments.a, arguments.leaderboard)
    _, b = find(arguments.b, arguments.leaderboard)
    found = compare_records(
        a,
        b,
        names=(Path(arguments.a).name, Path(arguments.b).name),
        margin=MARGIN if arguments.margin is None else arguments.margin,
        partitions=arguments.partition,
    )
    if arguments.json:
        return print_json(found.as_dict())
    print(found.text())
    return 0
