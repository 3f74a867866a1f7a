"""The command line: parse, call, print. No logic, and nothing heavy before a command is known."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence

from ser_bench.cli import boards, caches, corpora, installed, runs, speeds, studies, suites, texts
from ser_bench.cli.common import Command, leads
from ser_bench.errors import SerBenchError
from ser_bench.version import VERSION


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
    except BrokenPipeError:  # whoever read the output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        again = [*words, "--resume"] if "resume" in arguments and not arguments.resume else words
        if leads():
            print(f"\ninterrupted; `{shlex.join(['ser-bench', *again])}` goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ser-bench",
        description="A benchmark for speech emotion recognition: arousal, valence and dominance from speech and text.",
    )
    parser.add_argument("--version", action="version", version=f"ser-bench {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for part in (runs, suites, studies, speeds, corpora, texts, installed, boards, caches):
        part.add(commands)
    return parser
