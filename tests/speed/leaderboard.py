"""Check a leaderboard of many records, each with predictions of many utterances: seconds, memory, no torch.

    python tests/speed/leaderboard.py [--records 500] [--utterances 30000]

The records are of one scored system under many names, 15,000 utterances of 300 speakers on each side and 1,000 of
development. Three things are measured, each in a process of its own: reading all records, ``leaderboard check`` from
nothing, and ``leaderboard check`` after one record was added to a checked-in leaderboard. No rendering.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import made_up

from ser_bench import records, tables
from ser_bench.cache import atomic_write
from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.board import name_of, predictions_file
from ser_bench.scoring import score_partition

_MEASURED = """
import json, resource, sys, time
from pathlib import Path
began = time.perf_counter()
{code}
used = resource.getrusage(resource.RUSAGE_SELF)
took = {{"seconds": time.perf_counter() - began, "processor": used.ru_utime + used.ru_stime}}
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
took = {{k: round(v, 1) for k, v in took.items()}} | {{"MiB": int(peak) // 1024}}  # rusage would hold the parent's
print(json.dumps(took | {{"torch": "torch" in sys.modules, "result": str(result)}}))
"""
_READ = """
from ser_bench.leaderboard.board import read_board
result = len(read_board(Path({board!r})).records)
"""
_CHECK = """
from ser_bench.leaderboard.check import check
result = check(Path({board!r}), rendered=lambda board: {{}}).sound
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what reading and checking a large leaderboard takes.")
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--utterances", type=int, default=30_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        board = Path(place) / "leaderboard"
        fill(board, options.records, options.utterances)
        size = sum(path.stat().st_size for path in board.rglob("*") if path.is_file())
        told = f"{options.records} records, {options.utterances:,} utterances each, {size / 2**20:.0f} MiB on disk"
        sys.stdout.write(f"{told}\n")
        measure("read all records", _READ, board)
        measure("check, nothing known", _CHECK, board)
        commit(Path(place))
        fill(board, 1, options.utterances, first=options.records)
        measure("check, one record new", _CHECK, board)


def fill(board: Path, count: int, utterances: int, *, first: int = 0) -> None:
    """Write ``count`` records, and their predictions."""
    sides = {"development": 1000, "test1": utterances // 2, "test2": utterances // 2}
    sizes = {name: [n // 300] * 300 if n > 3000 else [n // 20] * 20 for name, n in sides.items()}
    settings: dict[str, Any] = made_up.settings(partitions=sizes)
    result = made_up.result(1)
    values, names = {}, {}
    run = result["run"]
    for name in sides:
        rows = made_up.rows(name, sizes[name])
        rows.utterance[:] = [f"MSP-PODCAST_{name}_{i:06}.wav" for i in range(len(rows))]
        values[name], names[name] = made_up.prediction(rows.labels, 0.5, 1), rows.utterance
        found = score_partition(values[name], rows.labels, rows=rows)
        run["scores"][name], run["resampling"][name] = found.as_dict(), found.resampling
    path = board / "predictions" / "first.parquet"
    run["predictions_sha256"] = tables.write_predictions(path, names, values, ATTRIBUTES)
    content = path.read_bytes()
    path.unlink()
    for number in range(first, first + count):
        settings["system"]["name"] = f"system_{number:04}"
        record = records.assemble(settings, [result], created=made_up.CREATED) | {"predictions": "published"}
        name = name_of(record)
        atomic_write(board / "records" / f"{name}.json", records.canonical(record))
        predictions_file(board, name, 1).write_bytes(content)


def commit(folder: Path) -> None:
    """Put the folder under git, as a leaderboard that was checked when it came in."""
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*names, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)


def measure(what: str, code: str, board: Path) -> None:
    """Run code in a fresh interpreter and print what it took."""
    whole = _MEASURED.format(code=code.format(board=str(board)))
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    sys.stdout.write(f"{what}: {json.loads(done.stdout)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
