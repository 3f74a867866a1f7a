"""The command line: parse, call, print. No logic, and nothing heavy before a command is known."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.errors import SerBenchError
from ser_bench.version import VERSION

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 done, 1 a fault the user can act on, 2 wrong usage, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    command: Command = arguments.command
    logging.basicConfig(
        stream=sys.stderr, format="%(message)s", level=logging.DEBUG if arguments.debug else logging.WARNING, force=True
    )
    if not arguments.debug:  # what it retries, and why it failed, is said once, by the error
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        return command(arguments)
    except SerBenchError as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = [*words, "--resume"] if "resume" in arguments and not arguments.resume else words
        print(f"\ninterrupted; `{shlex.join(['ser-bench', *again])}` goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ser-bench",
        description="A benchmark for speech emotion recognition: arousal, valence and dominance from speech and text.",
    )
    parser.add_argument("--version", action="version", version=f"ser-bench {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_score(commands)
    _add_predict(commands)
    corpus = _group(commands, "corpus", "look at a release: check, stats; unpack the demo release")
    for name, does in (
        ("check", "print what was found against what is known, and every fault"),
        ("stats", "print hours, speakers, attributes, overlaps"),
    ):
        sub = _command(corpus, name, does, {"check": _corpus_check, "stats": _corpus_stats}[name])
        sub.add_argument("directory", metavar="DIR", help="the release's folder, or demo")
        sub.add_argument("--release", metavar="V", help="the version it is claimed to be, such as 1.10")
    sub = _command(corpus, "demo", "unpack the embedded demo release", _corpus_demo)
    sub.add_argument("directory", metavar="DIR", help="a folder that does not exist yet")
    plugins = _group(commands, "plugins", "what is installed")
    sub = _command(plugins, "list", "list encoders, heads and systems", _plugins_list)
    sub.add_argument("--kind", choices=("audio", "text", "head", "system"), help="list one kind (default: all)")
    board = _group(commands, "leaderboard", "rows from records")
    sub = _command(board, "render", "write the tables and print them", _leaderboard_render)
    sub.add_argument("--out", metavar="DIR", type=Path, help="where README.md goes (default: the leaderboard's folder)")
    _add_leaderboard(sub)
    sub = _command(board, "add", "check a run and put its record and predictions on the leaderboard", _leaderboard_add)
    sub.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    sub.add_argument("--withhold-predictions", action="store_true", help="publish the record alone; its row says so")
    _add_leaderboard(sub)
    cache = _group(commands, "cache", "frames stores and other results that can be made again")
    _command(cache, "list", "list what the cache holds", _cache_list)
    sub = _command(cache, "remove", "remove one frames store", _cache_remove)
    sub.add_argument("key", metavar="KEY", help="as shown by list")
    return parser


def _add_run(commands: Any) -> None:
    run = _command(commands, "run", "train a system, score it, leave a record", _run)
    run.add_argument("--plugin", metavar="SYSTEM", help="a system by name (`ser-bench plugins list --kind system`)")
    run.add_argument("--audio", metavar="ENC", help="compose a system: audio encoder")
    run.add_argument("--text", metavar="ENC", help="compose a system: text encoder")
    run.add_argument("--head", metavar="HEAD", help="compose a system: fusion head (default: concat)")
    run.add_argument("--depth", metavar="N", type=int, help="transformer layers kept of the audio encoder")
    # Options that take several values may also be repeated: argparse alone would forget all but the last.
    run.add_argument("--seed", metavar="N", type=int, nargs="+", action="extend", help="seeds to train (default: 1)")
    run.add_argument(
        "--strategy", default="finetune", choices=("finetune", "frozen"), help="what is trained (default: finetune)"
    )
    run.add_argument(
        "--weights",
        metavar="WEIGHTS",
        nargs="+",
        action="extend",
        default=[],
        help="pretrained (default), random, tiny, a folder, or PART=one of these, PART being audio or text",
    )
    run.add_argument(
        "--set",
        metavar="recipe.KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        dest="changes",
        help="change the recipe",
    )
    run.add_argument(
        "--out", metavar="DIR", type=Path, help="the run folder (default: runs/<system>-<settings digest>)"
    )
    run.add_argument("--resume", action="store_true", help="go on with an unfinished seed")
    _add_reading(run)


def _add_score(commands: Any) -> None:
    score = _command(commands, "score", "score a trained run again: another release or transcript source", _score)
    score.add_argument("--run", metavar="DIR", type=Path, required=True, dest="run_folder", help="a run folder")
    score.add_argument("--out", metavar="DIR", type=Path, help="where the new record goes (default: beside the run)")
    _add_reading(score)


def _add_predict(commands: Any) -> None:
    predict = _command(commands, "predict", "predict wav files with a trained run", _predict)
    predict.add_argument("wavs", metavar="WAV", nargs="+", type=Path, help="a wav file of any rate and any channels")
    predict.add_argument("--run", metavar="DIR", type=Path, required=True, dest="run_folder", help="a run folder")
    predict.add_argument("--seed", metavar="N", type=int, help="which of its seeds (default: the first)")
    predict.add_argument("--text", metavar="STRING", help="what is said, for a system that reads text")
    predict.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add what commands that read a corpus through front ends have in common."""
    command.add_argument("--corpus", metavar="DIR|demo", required=True, help="a release's folder, or demo")
    command.add_argument("--release", metavar="V", help="the version it is claimed to be, such as 1.10")
    command.add_argument("--transcripts", metavar="SOURCE", help="human or none (default: what the system needs)")
    command.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    command.add_argument(
        "--frames", choices=("store", "off"), default="store", help="keep front-end outputs, or compute them each time"
    )
    command.add_argument(
        "--frames-dtype",
        choices=("float16", "float32"),
        default="float16",
        help="what front-end outputs are kept as (default: float16; float32 is exact and twice as large)",
    )
    command.add_argument(
        "--allow-missing", action="store_true", help="go on without utterances that have no audio; the record says so"
    )


def _add_leaderboard(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--leaderboard",
        metavar="DIR",
        type=Path,
        default=Path("leaderboard"),
        help="the leaderboard's folder (default: leaderboard)",
    )


def _group(commands: Any, name: str, does: str) -> Any:
    return commands.add_parser(name, help=does, description=does).add_subparsers(required=True, metavar="COMMAND")


def _command(commands: Any, name: str, does: str, command: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=does, description=does)
    parser.set_defaults(command=command)
    parser.add_argument("--debug", action="store_true", help="show log messages, and the traceback of an error")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where what can be made again is kept")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from ser_bench.errors import PluginError, TrainingError
    from ser_bench.progress import Reporter

    if not (arguments.plugin or arguments.audio or arguments.text):
        raise PluginError("no system was named; give --plugin SYSTEM, or --audio ENC and/or --text ENC.")
    changes = {}
    for word in arguments.changes:
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("recipe."):
            raise TrainingError(f"--set {word} was given, expected recipe.KEY=VALUE, such as recipe.epochs=10.")
        changes[key.removeprefix("recipe.")] = value
    from ser_bench.runner import run

    with closing(Reporter()) as progress:
        folder = run(
            arguments.plugin,
            audio=arguments.audio,
            text=arguments.text,
            head=arguments.head,
            depth=arguments.depth,
            seeds=arguments.seed or [1],
            strategy=arguments.strategy,
            weights=arguments.weights,
            changes=changes,
            out=arguments.out,
            resume=arguments.resume,
            progress=progress,
            **_reading(arguments),
        )
    return _show_run(folder, arguments)


def _score(arguments: argparse.Namespace) -> int:
    from ser_bench.progress import Reporter
    from ser_bench.runner import score

    source = arguments.run_folder.resolve()  # so that it has a name, also where it is given as "."
    corpus = Path(arguments.corpus).name or "corpus"
    out = arguments.out or source.with_name(f"{source.name}-on-{corpus}-{arguments.transcripts or 'same'}")
    with closing(Reporter()) as progress:
        folder = score(source, out=out, progress=progress, **_reading(arguments))
    return _show_run(folder, arguments)


def _reading(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("corpus", "release", "transcripts", "device", "frames", "frames_dtype", "allow_missing", "cache")
    return {name: getattr(arguments, name) for name in names}


def _show_run(folder: Path, arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.table import run_table
    from ser_bench.records import read

    record = read(folder / "record.json")
    if arguments.json:
        return _print_json({"run": str(folder), "signature": record["signature"], "summary": record["summary"]})
    print(run_table(record))
    print(record["signature"])
    print(f"record: {folder / 'record.json'}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ser_bench.corpus import read_wave
    from ser_bench.interface import ATTRIBUTES
    from ser_bench.trained import load

    system = load(arguments.run_folder, seed=arguments.seed, device=arguments.device)
    found = [{"wav": str(wav), **system.predict(read_wave(wav), arguments.text)} for wav in arguments.wavs]
    if arguments.json:
        return _print_json({"predictions": found})
    print(
        tabulate(
            [[f["wav"], *(f[a] for a in ATTRIBUTES)] for f in found],
            headers=["wav", *ATTRIBUTES],
            floatfmt=".2f",
            missingval="-",
        )
    )
    return 0


def _open_release(arguments: argparse.Namespace) -> Any:
    from ser_bench.corpus import Release
    from ser_bench.progress import Reporter

    place = Path(arguments.directory)
    if arguments.directory == "demo":
        from ser_bench.corpus.demo import cached_demo

        place = cached_demo(arguments.cache)
    with closing(Reporter()) as progress:
        return Release.open(place, version=arguments.release, cache=arguments.cache, progress=progress)


def _corpus_check(arguments: argparse.Namespace) -> int:
    from ser_bench.corpus import check

    report = check(_open_release(arguments))
    if arguments.json:
        _print_json(report.as_dict())
    else:
        print(report.text())
    return 0 if report.sound else 1


def _corpus_stats(arguments: argparse.Namespace) -> int:
    from ser_bench.corpus import stats

    found = stats(_open_release(arguments))
    if arguments.json:
        return _print_json(found.as_dict())
    print(found.text())
    return 0


def _corpus_demo(arguments: argparse.Namespace) -> int:
    from ser_bench.corpus.demo import unpack_demo

    folder = unpack_demo(Path(arguments.directory))
    if arguments.json:
        return _print_json({"folder": str(folder)})
    print(f"the demo release is in {folder}")
    return 0


def _plugins_list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ser_bench.host import host

    found = host()
    plugins = [
        {
            "kind": o.spec.kind,
            "name": o.spec.name,
            "summary": o.spec.summary,
            "licence": _source(o.spec, "licence"),
            "revision": _source(o.spec, "revision"),
            "distribution": f"{o.distribution} {o.version}",
        }
        for o in found.usable(arguments.kind)
    ]
    broken = [*map(str, found.failures), *found.conflicts()]
    if arguments.json:
        return _print_json({"plugins": plugins, "broken": broken})
    print(tabulate([list(p.values()) for p in plugins], headers=list(plugins[0]) if plugins else []))
    for line in broken:
        print(line, file=sys.stderr)
    return 0


def _source(spec: Any, field: str) -> str | None:
    """Return where weights come from; a revision that nobody has looked up is *unpinned*."""
    source = getattr(spec, "source", None)
    if source is None or source.repo is None:
        return None
    return getattr(source, field) or ("unpinned" if field == "revision" else None)


def _leaderboard_render(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.table import render

    path, text = render(arguments.leaderboard, arguments.out)
    if arguments.json:
        return _print_json({"written": [str(path)]})
    print(text)
    return 0


def _leaderboard_add(arguments: argparse.Namespace) -> int:
    from ser_bench.leaderboard.add import add

    path = add(arguments.run, arguments.leaderboard, withhold_predictions=arguments.withhold_predictions)
    if arguments.json:
        return _print_json({"record": str(path)})
    print(f"added {path}; `ser-bench leaderboard render` shows it")
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
        return _print_json({"frames": rows})
    print(tabulate(rows, headers="keys", intfmt=",") if rows else "the cache holds no frames store")
    return 0


def _cache_remove(arguments: argparse.Namespace) -> int:
    from ser_bench.errors import StoreError

    stores = _stores(arguments)
    if arguments.key not in stores:
        raise StoreError(f"the cache holds no frames store '{arguments.key}'. `ser-bench cache list` shows the keys.")
    shutil.rmtree(stores[arguments.key])
    return _print_json({"removed": arguments.key}) if arguments.json else 0


def _print_json(value: dict[str, Any]) -> int:
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
