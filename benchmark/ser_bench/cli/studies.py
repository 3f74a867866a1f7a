"""The command that makes the paper's tables and figures: study."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import add_corpus, command, print_json

_NAMES = ("table1", "table2", "figure2", "figure3")


def add(commands: Any) -> None:
    """Add the command."""
    study = command(commands, "study", "make a table or figure of the paper, with a verdict on each claim", _study)
    study.add_argument("study", choices=_NAMES, help="which (docs/reproducing.md)")
    add_corpus(study)
    study.add_argument("--seeds", metavar="N", type=int, default=3, help="how many seeds, 1 to N (default: 3)")
    study.add_argument("--systems", metavar="SYSTEM", nargs="+", default=[], help="systems (default: the paper's)")
    study.add_argument("--audio", metavar="ENC", default="hubert_base", help="figure2: whose layers (hubert_base)")
    study.add_argument(
        "--exact",
        action="store_true",
        help="figure2: sum the layers before pooling, as the paper does, and tell how far pooling first differs; "
        "stores sequences, or with --frames off computes them each epoch",
    )
    study.add_argument(
        "--weights", metavar="WEIGHTS", nargs="+", action="extend", default=[], help="as for `run`, for every system"
    )
    study.add_argument(
        "--transcripts", metavar="SOURCE", nargs="+", default=[],
        help="table2: sources to compare (default: human whisper-base whisper-tiny, made first if they are not there); "
        "table1, figure3: the one to read (default: human)",
    )  # fmt: skip
    study.add_argument(
        "--conditions", metavar="C", nargs="+", default=[],
        help="table2: degradations to score under too, or none (default: noise:babble@10dB)",
    )  # fmt: skip
    study.add_argument(
        "--set", metavar="[head_]recipe.KEY=VALUE", nargs="+", action="extend", default=[], dest="changes",
        help="change every run's recipe, or that of FT=>FRZ's second stage",
    )  # fmt: skip
    study.add_argument("--frames", choices=("store", "off"), default="store", help="as for `run`")
    study.add_argument("--device", metavar="D", help="cpu or cuda (default: a GPU where there is one)")
    study.add_argument("--jobs", metavar="N", type=int, help="runs at a time (default: one a GPU, one without)")
    study.add_argument(
        "--margin", metavar="CCC", type=float, help="differences inside it are of no importance (default: 0.01)"
    )
    study.add_argument(
        "--runs", metavar="DIR", type=Path, default=Path("runs"),
        help="where run folders go; studies share them (default: runs)",
    )  # fmt: skip
    study.add_argument("--out", metavar="DIR", type=Path, help="where the report goes (default: studies/STUDY)")
    study.add_argument("--dry-run", action="store_true", help="print the plan and an estimate, and train nothing")
    study.add_argument("--resume", action="store_true", help="go on with what was begun")


def _study(arguments: argparse.Namespace) -> int:
    from ser_bench import studies
    from ser_bench.progress import Reporter

    options = _options(arguments)
    out = arguments.out or Path("studies") / arguments.study
    with closing(Reporter()) as progress:
        if arguments.dry_run:
            return _show_plan(arguments, options, progress)
        made = studies.make(
            arguments.study,
            options,
            out=out,
            resume=arguments.resume,
            jobs=arguments.jobs,
            progress=progress,
            told=_tell,
        )
    if arguments.json:
        return print_json(made.as_dict())
    for one in made.report.claims:
        print(f"{one.verdict}: {one.says}")
    print("\n".join(f"written {path}" for path in made.files))
    return 0


def _options(arguments: argparse.Namespace) -> Any:
    from ser_bench.cli.common import recipe_changes
    from ser_bench.scoring.compare import MARGIN
    from ser_bench.studies import Options

    changes = recipe_changes(arguments.changes, ("recipe", "head_recipe"))
    same = ("corpus", "release", "seeds", "audio", "exact", "device", "frames", "runs", "cache")
    given: dict[str, Any] = {name: getattr(arguments, name) for name in same}
    given |= {name: tuple(getattr(arguments, name)) for name in ("systems", "weights", "transcripts", "conditions")}
    return Options(
        **given,
        changes=changes["recipe"],
        head_changes=changes["head_recipe"],
        margin=MARGIN if arguments.margin is None else arguments.margin,
    )


def _tell(outcome: Any) -> None:
    if outcome.state != "skipped":
        print(f"{outcome.planned}: {outcome.state}{f': {outcome.why}' if outcome.why else ''}", file=sys.stderr)


def _show_plan(arguments: argparse.Namespace, options: Any, progress: Any) -> int:
    from ser_bench import studies
    from ser_bench.studies.preview import preview

    seen = preview(studies.STUDIES[arguments.study], options, progress)
    if arguments.json:
        return print_json(seen.as_dict())
    print(seen.text())
    return 0
