"""The commands that run a system: run, score, predict."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import add_condition, add_corpus, command, leads, print_json, recipe_changes, show_record


def add(commands: Any) -> None:
    """Add the commands."""
    _add_run(commands)
    _add_score(commands)
    _add_predict(commands)


def _add_run(commands: Any) -> None:
    run = command(commands, "run", "train a system, score it, leave a record", _run)
    run.add_argument("--plugin", metavar="SYSTEM", help="a system by name (`ser-bench plugins list --kind system`)")
    run.add_argument("--audio", metavar="ENC", help="compose a system: audio encoder")
    run.add_argument("--text", metavar="ENC", help="compose a system: text encoder")
    run.add_argument("--head", metavar="HEAD", help="compose a system: fusion head (default: concat)")
    run.add_argument("--depth", metavar="N", type=int, help="transformer layers kept of the audio encoder")
    # Options that take several values may also be repeated: argparse alone would forget all but the last.
    run.add_argument("--seed", metavar="N", type=int, nargs="+", action="extend", help="seeds to train (default: 1)")
    run.add_argument(
        "--strategy",
        default="finetune",
        choices=("finetune", "frozen", "finetune-freeze", "none"),
        help="what is trained: all but the front ends; the head alone; the head alone on the fine-tuned encoder of the "
        "audio system; nothing (default: finetune)",
    )
    run.add_argument(
        "--weights",
        metavar="WEIGHTS",
        nargs="+",
        action="extend",
        default=[],
        help="pretrained (default), random, tiny, a folder, or PART=one of these, PART being audio or text; for "
        "finetune-freeze also audio=RUN",
    )
    run.add_argument(
        "--set",
        metavar="[head_]recipe.KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        dest="changes",
        help="change the recipe, or that of finetune-freeze's second stage",
    )
    run.add_argument(
        "--out", metavar="DIR", type=Path, help="the run folder (default: runs/<system>-<settings digest>)"
    )
    run.add_argument("--resume", action="store_true", help="go on with an unfinished seed")
    run.add_argument(
        "--tracker",
        metavar="NAME",
        help="follow the training in tensorboard, wandb, mlflow, trackio, ... too (log.jsonl is always written)",
    )
    run.add_argument(
        "--micro-batch",
        metavar="N",
        type=int,
        help="utterances that go through at once, where memory is short; the gradient stays that of the whole batch",
    )
    _add_reading(run)


def _add_score(commands: Any) -> None:
    score = command(
        commands, "score", "score a trained run again: another release, transcript source or condition", _score
    )
    score.add_argument("--run", metavar="DIR", type=Path, required=True, dest="run_folder", help="a run folder")
    score.add_argument("--out", metavar="DIR", type=Path, help="where the new record goes (default: beside the run)")
    add_condition(score, "what is done to the audio before it is scored")
    _add_reading(score)


def _add_predict(commands: Any) -> None:
    predict = command(commands, "predict", "predict wav files with a trained run", _predict)
    predict.add_argument("wavs", metavar="WAV", nargs="+", type=Path, help="a wav file of any rate and any channels")
    predict.add_argument("--run", metavar="DIR", type=Path, required=True, dest="run_folder", help="a run folder")
    predict.add_argument("--seed", metavar="N", type=int, help="which of its seeds (default: the first)")
    predict.add_argument("--text", metavar="STRING", help="what is said, for a system that reads text")
    predict.add_argument("--asr", metavar="NAME|DIR", help="what hears it instead: whisper-tiny, ..., or a folder")
    predict.add_argument(
        "--window", metavar="SECONDS", type=float, help="predict pieces of this length (default: whole files)"
    )
    predict.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Add what commands that read a corpus through front ends have in common."""
    add_corpus(parser)
    parser.add_argument(
        "--transcripts",
        metavar="SOURCE",
        help="human, none, or a source that `transcribe` made (default: what the system needs, or was trained on)",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument(
        "--frames", choices=("store", "off"), default="store", help="keep front-end outputs, or compute them each time"
    )
    parser.add_argument(
        "--frames-dtype",
        choices=("float16", "float32"),
        default="float16",
        help="what front-end outputs are kept as (default: float16; float32 is exact and twice as large)",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="go on without utterances that have no audio; the record says so"
    )


def _run(arguments: argparse.Namespace) -> int:
    from ser_bench.errors import PluginError
    from ser_bench.progress import Reporter

    if not (arguments.plugin or arguments.audio or arguments.text):
        raise PluginError("no system was named; give --plugin SYSTEM, or --audio ENC and/or --text ENC.")
    changes = recipe_changes(arguments.changes, ("recipe", "head_recipe"))
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
            changes=changes["recipe"],
            head_changes=changes["head_recipe"],
            out=arguments.out,
            resume=arguments.resume,
            tracker=arguments.tracker,
            micro_batch=arguments.micro_batch,
            progress=progress,
            **_reading(arguments),
        )
    return _show_run(folder, arguments) if leads() else 0


def _score(arguments: argparse.Namespace) -> int:
    from ser_bench import conditions
    from ser_bench.progress import Reporter
    from ser_bench.runner import score

    source = arguments.run_folder.resolve()  # so that it has a name, also where it is given as "."
    corpus = Path(arguments.corpus).name or "corpus"
    words = [source.name, "on", corpus, arguments.transcripts or "same"]
    label = conditions.parse(arguments.condition, cache=arguments.cache).label
    if label != "clean":
        words.append(label.replace(":", "-"))
    out = arguments.out or source.with_name("-".join(words))
    with closing(Reporter()) as progress:
        folder = score(source, out=out, condition=arguments.condition, progress=progress, **_reading(arguments))
    return _show_run(folder, arguments) if leads() else 0


def _reading(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("corpus", "release", "transcripts", "device", "frames", "frames_dtype", "allow_missing", "cache")
    return {name: getattr(arguments, name) for name in names}


def _show_run(folder: Path, arguments: argparse.Namespace) -> int:
    from ser_bench.records import read

    return show_record(read(folder / "record.json"), folder, as_json=arguments.json)


def _predict(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from ser_bench.corpus import read_wave
    from ser_bench.interface import ATTRIBUTES
    from ser_bench.trained import load, pieces

    hear = _hearing(arguments)
    system = load(arguments.run_folder, seed=arguments.seed, device=arguments.device)
    found = []
    for wav in arguments.wavs:
        for start, end, wave in pieces(read_wave(wav), arguments.window):
            entry: dict[str, Any] = {"wav": str(wav)}
            if arguments.window is not None:
                entry |= {"start": round(start, 3), "end": round(end, 3)}
            text = arguments.text
            if hear is not None:
                entry["text"] = text = hear(wave)
            found.append(entry | system.predict(wave, text))
    if arguments.json:
        return print_json({"predictions": found})
    columns = [*(key for key in found[0] if key not in (*ATTRIBUTES, "text")), *ATTRIBUTES]
    columns += ["text"] if hear is not None else []
    print(tabulate([[one[key] for key in columns] for one in found], headers=columns, floatfmt=".2f", missingval="-"))
    return 0


def _hearing(arguments: argparse.Namespace) -> Callable[[Any], str] | None:
    """Return what turns a wave into text, if that was asked for."""
    if arguments.asr is None:
        return None
    from ser_bench.errors import TranscriptError
    from ser_bench.transcripts.asr import Recogniser

    if arguments.text is not None:
        raise TranscriptError("--text and --asr were both given; what is said is given or heard. Leave one out.")
    recogniser = Recogniser.open(arguments.asr, device=arguments.device)
    return lambda wave: recogniser.transcribe([recogniser.prepare(wave)])[0].text
