"""Measure the leaderboard at 500 records: a cold rendering, one after a new record, memory, and the page in a browser.

usage: python tests/speed/board.py [RECORDS [UTTERANCES]]

Records are of three seeds with resampling blocks of real size: predictions of 30,000 utterances of 400 speakers, scored
by the benchmark's own scoring for a few systems and moved a little for the rest (scoring 500 would take longer than all
that is measured here). The files of predictions are written once and linked, since rendering must not open them. Each
rendering is the real command in a fresh interpreter; the page is measured in Chromium, if there is one.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import made_up

from ser_bench import records, tables
from ser_bench.cache import atomic_write
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.resampling import coarsen

SHARES = {"development": (0.25, 100), "test1": (0.45, 150), "test2": (0.30, 150)}
"""Share of the utterances, and speakers."""
SCORED = 4
"""Systems that are really scored; the others' blocks are theirs, moved."""


def say(words: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(count: int, utterances: int) -> None:
    """Make the leaderboard, render it three times, look at it."""
    folder = Path(tempfile.mkdtemp(prefix="board-"))
    try:
        board, cache = folder / "board", folder / "cache"
        names = make(board, count, utterances)
        newest = board / "records" / f"{names[-1]}.json"
        later = folder / "later.json"
        newest.rename(later)  # comes in afterwards
        size = sum(path.stat().st_size for path in (board / "records").iterdir())
        say(f"{count} records of {utterances:,} utterances, {size / 1e6:.0f} MB of JSON")
        show("cold", render(board, cache))
        show("again, nothing changed", render(board, cache))
        later.rename(newest)
        show("after one new record", render(board, cache))
        site = sum(path.stat().st_size for path in (board / "site").rglob("*") if path.is_file())
        say(f"site: {site / 1e6:.0f} MB, index.html {(board / 'site/index.html').stat().st_size / 1e6:.2f} MB")
        look(board)
    finally:
        shutil.rmtree(folder)


def make(board: Path, count: int, utterances: int) -> list[str]:
    """Write records and predictions; return the records' names."""
    made_up.SIZES.clear()
    made_up.SIZES.update({name: [int(utterances * share) // k] * k for name, (share, k) in SHARES.items()})
    made = made_up.settings(partitions=made_up.SIZES)
    scored = [[made_up.result(seed, noise=0.6 + 0.2 * n, made=made) for seed in (1, 2, 3)] for n in range(SCORED)]
    rng = np.random.default_rng(0)
    parts = {name: made_up.rows(name, sizes) for name, sizes in made_up.SIZES.items()}
    values = {name: made_up.prediction(part.labels, 0.5, 1) for name, part in parts.items()}
    first = board / "first.parquet"
    board.mkdir(parents=True)
    tables.write_predictions(first, {name: part.utterance for name, part in parts.items()}, values, ATTRIBUTES)
    (board / "predictions").mkdir()
    names = []
    for number in range(count):
        results = [moved(result, rng) for result in copy.deepcopy(scored[number % SCORED])]
        reads = ["audio"] if number % 3 else ["audio", "text"]
        texts = {"train": "human", "test": "human"} if "text" in reads else {"train": "none", "test": "none"}
        settings = made_up.settings(
            partitions=made_up.SIZES, system__name=f"system_{number:03}", system__reads=reads, transcripts=texts
        )
        for result in results:
            result["size"]["parameters"] = int(10 ** rng.uniform(6.5, 8.6))
        record = records.assemble(settings, results, created=made_up.CREATED) | {"predictions": "published"}
        names.append(f"system_{number:03}-{number:08x}")
        atomic_write(board / "records" / f"{names[-1]}.json", records.canonical(record))
        for seed in (1, 2, 3):
            os.link(first, board / "predictions" / f"{names[-1]}-seed-{seed}.parquet")
    first.unlink()
    return names


def moved(result: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Move a result's scores and leave-one-out values: no two systems are alike, each record holds together."""
    from ser_bench.scoring.seeds import over_seeds

    run = result["run"]
    for partition, block in run["resampling"].items():
        total = sum(block["sizes"])
        columns = {}
        for name in ATTRIBUTES:
            full = float(np.clip(block["full"][name] + rng.normal(0, 0.03), -0.9, 0.9))
            steps = np.array(block[name]) - block["full"][name] + rng.normal(0, 4e-4, len(block[name]))
            columns[name] = full, full + coarsen(steps, total)
        mean = [sum(columns[name][i] for name in ATTRIBUTES) / 3 for i in (0, 1)]
        for name, (full, out) in {**columns, "mean": mean}.items():
            block["full"][name] = round(float(full), 6)
            block[name] = [round(float(value), 6) for value in out]
        for name in (*ATTRIBUTES, "mean"):
            low, high = over_seeds([block], name) or (0.0, 0.0)
            cell = run["scores"][partition]["ccc"][name]
            cell |= {"value": block["full"][name], "ci95": [round(low, 6), round(high, 6)]}
    return result


def render(board: Path, cache: Path) -> dict[str, float]:
    """Run the command in a fresh interpreter; return seconds, processor seconds, peak megabytes, files written."""
    code = (
        "import sys; from ser_bench.cli import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code]
    command += ["leaderboard", "render", "--leaderboard", str(board), "--cache", str(cache), "--json"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"the rendering failed with {process.returncode}")
    return {
        "seconds": seconds,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "megabytes": after.ru_maxrss / 1024,  # of the largest child so far
        "written": len(json.loads(output)["written"]),
    }


def show(what: str, found: dict[str, float]) -> None:
    """Print one rendering."""
    say(
        f"{what}: {found['seconds']:.1f} s ({found['processor']:.1f} s of processor time), at most "
        f"{found['megabytes']:.0f} MB, {found['written']:.0f} files written"
    )


def look(board: Path) -> None:
    """Open the index in Chromium: until it answers, two sorts, a search; on the clock, and of the page's own thread."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        say("no Chromium: the page was not measured")
        return
    from playwright.sync_api import sync_playwright

    measured: dict[str, list[tuple[float, float]]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page(viewport={"width": 1360, "height": 900})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            began = _thread(session)
            page.goto((board / "site" / "index.html").as_uri())
            ready = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
            measured.setdefault("page ready", []).append((ready, _thread(session) - began))
            for what, act in _ACTS.items():
                began = _thread(session)
                took = page.evaluate(_TIMED % act)
                measured.setdefault(what, []).append((took, _thread(session) - began))
            page.close()
        browser.close()
    for what, values in measured.items():
        wall, own = (statistics.median(of) for of in zip(*values, strict=True))
        say(f"{what}: {wall:.0f} ms on the clock, {own:.0f} ms of the page's thread (medians of {len(values)})")


def _thread(session: Any) -> float:
    """Return the milliseconds that the page's main thread has worked so far."""
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(1000 * metrics["TaskDuration"])


_SORT = "document.querySelector(\"[aria-label='Sort by unseen valence']\").click()"
_TYPE = "search = document.getElementById('f-search'); search.value = '%s'; search.dispatchEvent(new Event('input', "
_TYPE += "{ bubbles: true }))"
_ACTS = {
    "first sort, drawn": _SORT,
    "second sort, drawn": _SORT,
    "search, drawn": _TYPE % "system_12",
    "search cleared, drawn": _TYPE % "",
}
_TIMED = """async () => {
  const start = performance.now();
  let search;
  %s;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["500", "30000"][len(sys.argv) - 1 :])))
