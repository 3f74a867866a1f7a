"""The commands about transcripts: transcribe, wer."""

from __future__ import annotations

import argparse
import re
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

from ser_bench.cli.common import add_condition, add_corpus, command, open_release, print_json


def add(commands: Any) -> None:
    """Add the commands."""
    _add_transcribe(commands)
    wer = command(commands, "wer", "tell word error rates of ASR transcripts against the human ones", _wer)
    add_corpus(wer)
    wer.add_argument(
        "--asr", metavar="NAME", help="a source, as `transcribe` named it (default: every source that is complete)"
    )
    add_condition(wer, "what was done to the audio before it was transcribed")


def _add_transcribe(commands: Any) -> None:
    parser = command(commands, "transcribe", "transcribe a release with Whisper; goes on where it was", _transcribe)
    add_corpus(parser)
    parser.add_argument(
        "--asr", metavar="NAME|DIR", required=True, help="whisper-tiny, whisper-base, ..., or a CTranslate2 folder"
    )
    add_condition(parser, "what is done to the audio before it is transcribed")
    parser.add_argument(
        "--partitions", metavar="NAME", nargs="+",
        help="do only these, such as development test1 test2, which is what a score under a condition reads (default: "
        "all)",
    )  # fmt: skip
    parser.add_argument(
        "--window",
        metavar="full|SECONDS",
        default="8",
        help="what Whisper is given: full (30 s), or the utterance and this many seconds more (default: 8)",
    )
    parser.add_argument("--beam", metavar="N", type=int, default=5, help="beam size; 1 is greedy (default: 5)")
    parser.add_argument(
        "--compute-type", metavar="T", help="CTranslate2's, such as float32 (default: int8 on a CPU, float16 on a GPU)"
    )
    parser.add_argument("--name", metavar="NAME", help="what the source is called (default: --asr, or its last part)")
    parser.add_argument(
        "--shard", metavar="I/N", type=_shard, default=(1, 1), help="do part I of N, for N processes or machines"
    )
    parser.add_argument(
        "--merge", action="store_true", help="only join what shards have done; --asr or --name is the source"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: a GPU where there is one)")


def _shard(word: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", word)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{word} was given, expected I/N with I from 1 to N, such as 1/4")
    return int(found[1]), int(found[2])


def _transcribe(arguments: argparse.Namespace) -> int:
    from ser_bench import conditions
    from ser_bench.progress import Reporter
    from ser_bench.transcripts.asr import Recogniser
    from ser_bench.transcripts.transcribe import transcribe

    condition = conditions.parse(arguments.condition, cache=arguments.cache)
    recogniser = (
        _merging(arguments)
        if arguments.merge
        else Recogniser.open(
            arguments.asr,
            window=arguments.window,
            beam=arguments.beam,
            compute_type=arguments.compute_type,
            device=arguments.device,
            name=arguments.name,
        )
    )
    with closing(Reporter()) as progress:
        release = open_release(arguments.corpus, arguments, progress)
        report = transcribe(
            release,
            recogniser,
            condition=condition,
            shard=arguments.shard,
            partitions=arguments.partitions,
            cache=arguments.cache,
            progress=progress,
        )
    if arguments.json:
        return print_json(report.as_dict())
    print(report.text())
    return 0


def _merging(arguments: argparse.Namespace) -> Any:
    """Return the source whose shards are to be joined, which needs no model."""
    from ser_bench.cache import cache_root
    from ser_bench.errors import TranscriptError
    from ser_bench.transcripts import store

    if arguments.shard != (1, 1):
        raise TranscriptError("--shard and --merge were both given; a merge joins all shards. Leave one out.")
    name = arguments.name or Path(arguments.asr).name
    return store.resolve(name, cache_root(arguments.cache))


def _wer(arguments: argparse.Namespace) -> int:
    from ser_bench import conditions
    from ser_bench.errors import TranscriptError
    from ser_bench.progress import Reporter
    from ser_bench.transcripts.measure import measure, sources_of

    condition = conditions.parse(arguments.condition, cache=arguments.cache)
    with closing(Reporter()) as progress:
        release = open_release(arguments.corpus, arguments, progress)
        where = {"condition": condition, "cache": arguments.cache}
        names = [arguments.asr] if arguments.asr else sources_of(release, **where)
    if not names:
        words = ["ser-bench", "transcribe", "--corpus", arguments.corpus, "--asr", "whisper-tiny"]
        words += ["--condition", arguments.condition] if arguments.condition != "clean" else []
        words += ["--cache", str(arguments.cache)] if arguments.cache else []
        raise TranscriptError(
            f"no ASR source holds all of {arguments.corpus} in the condition {condition.label}. Make one with "
            f"`{shlex.join(words)}`."
        )
    found = [measure(release, name, corpus=arguments.corpus, **where) for name in names]
    if arguments.json:
        return print_json({"sources": [one.as_dict() for one in found]})
    print("\n\n".join(one.text() for one in found))
    return 0
