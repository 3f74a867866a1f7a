"""The static site: an index of all tracks, a page for each run, and a page that compares two.

It works from a folder opened in a browser as from any static host: nothing is fetched, data come in by script files.
Whatever stands in a record is hostile until escaped: pages by Jinja's autoescape, data by ``script_safe``, and the
pages forbid themselves, by their Content-Security-Policy, any script, style or request that is not of the site.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard import figures, reproduce
from ser_bench.leaderboard.board import RANKED
from ser_bench.leaderboard.rows import COLUMNS, Row, from_record
from ser_bench.leaderboard.table import LETTERS, remarks, status, texts
from ser_bench.leaderboard.views import Shown, TrackView, told_texts
from ser_bench.version import VERSION

if TYPE_CHECKING:
    import jinja2

WORDS = {"test1": "seen", "test2": "unseen", "test3": "test3", "development": "development"}
_EMOTIONS = {
    "A": "Angry", "C": "Contempt", "D": "Disgust", "F": "Fear", "H": "Happy", "N": "Neutral", "O": "Other", "S": "Sad",
    "U": "Surprise", "X": "No agreement",
}  # fmt: skip
_RECIPES = {"recipe": "Recipe", "head_recipe": "Recipe of the second stage, the head's"}
_SLICES = {"gender": "Gender", "emotion": "Emotion class", "duration": "Duration", "wer": "Word error rate"}


def assets() -> dict[str, bytes]:
    """Return the style sheet and the scripts, by name."""
    folder = files("ser_bench") / "leaderboard" / "assets"
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.endswith((".css", ".js", ".svg", ".woff2"))
    }


def index_page(board: Shown, drawn: Mapping[str, Sequence[str]]) -> str:
    """Return the index.

    Args:
        board: all rows.
        drawn: the names of each track's figures, by the track's slug.
    """
    recorded = {row.stem for row in board.rows if row.stem}
    shown = [_track(view, drawn.get(view.slug, ())) for view in board.tracks]
    return _render(
        "index.html",
        root="",
        tracks=shown,
        runs=len(recorded),
        reported=sum(row.status == "reported" for row in board.rows),
        choices=_choices(shown),
        columns=COLUMNS,
        letters=LETTERS,
    )


def system_page(record: Mapping[str, Any], stem: str, *, reproductions: Sequence[str] = ()) -> str:
    """Return the page of one run; ranks, which other runs change, come in by the board's script.

    Args:
        record: the run's.
        stem: its file's name without the ending.
        reproductions: names of the records that reproduce it.
    """
    row = from_record({**record, "status": "reproduced" if reproductions else record["status"]}, stem=stem)
    drawn = {"calibration": figures.calibration(record), "layers": figures.layer_weights(record)}
    return _render(
        "system.html",
        root="../",
        record=record,
        row=row,
        stem=stem,
        status=status(row),
        texts=texts(row),
        scores=_scores(record),
        columns=COLUMNS,
        letters=LETTERS,
        remarks=remarks(record),
        drawn={name: (drawing, drawing.inline(name)) for name, drawing in drawn.items() if drawing is not None},
        slices=_all_slices(record),
        commands=reproduce.commands(record),
        words=WORDS,
        recipes=[(title, record[key]) for key, title in _RECIPES.items() if key in record],
        reproductions=reproductions,
        ceiling=_ceiling(record),
    )


def compare_page() -> str:
    """Return the page that compares two runs."""
    return _render("compare.html", root="")


def board_script(board: Shown) -> str:
    """Return the script that tells every page which runs there are, and their ranks."""
    found: dict[str, dict[str, Any]] = {}
    for view in board.tracks:
        for one in view.standings:
            if one.row.stem:
                entry = found.setdefault(
                    one.row.stem, {"name": one.row.system, "about": _about_alone(one.row), "ranks": []}
                )
                ranks = {WORDS[partition]: rank for partition, rank in one.ranks.items()}
                entry["ranks"].append({"track": view.title, "slug": view.slug, **ranks})
    return f"window.serBench.board({script_safe(found)});\n"


def data_script(record: Mapping[str, Any], stem: str) -> str:
    """Return the script with what a comparison needs: the resampling blocks.

    Leave-one-out values are told as their distance to the full value, in millionths: half the size.
    """
    blocks: dict[str, list[dict[str, Any]]] = {}
    for run in record["runs"]:
        for partition, block in run["resampling"].items():
            told = {key: block[key] for key in ("metric", "digest", "sizes", "full")}
            for column in COLUMNS:
                full = block["full"][column]
                values = block[column]
                told[column] = None if values is None else [round((value - full) * 1e6) for value in values]
            blocks.setdefault(partition, []).append(told)
    return f"window.serBench.data({script_safe(stem)}, {script_safe(blocks)});\n"


def script_safe(value: Any) -> str:
    """Spell a value for a script: no ``</script>``, no comment, no line end that only JavaScript knows."""
    spelt = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)
    for character in "<>&'":
        spelt = spelt.replace(character, f"\\u{ord(character):04x}")
    return spelt


def _track(view: TrackView, drawn: Sequence[str]) -> dict[str, Any]:
    corpus, labels, condition, transcripts = view.track
    cells = [
        cell
        for one in view.standings
        for p, _ in view.sides
        if (cell := one.row.cells.get(p, {}).get("mean")) is not None
    ]
    cells += [cell for row in view.references for p, _ in view.sides if (cell := row.cells.get(p, {}).get("mean"))]
    edges = [edge for cell in cells for edge in (cell["mean"], *(cell["ci95"] or ()))] or [0.0, 1.0]
    return {
        "view": view,
        "corpus": corpus,
        "labels": labels,
        "condition": condition,
        "transcripts": transcripts,
        "told_texts": told_texts(transcripts),
        "identity": ", ".join(sorted({one.row.identity for one in view.standings} - {""})),
        "scale": (min(edges), max(edges)),
        "figures": drawn,
        "lines": [
            {
                "row": one.row,
                "ranks": one.ranks,
                "ranked": any(one.ranks.values()),
                "about": _about(one.row),
                "search": " ".join((one.row.system, *one.row.words, one.row.modality, status(one.row))).lower(),
            }
            for one in view.standings
        ],
        "ranked_sides": [partition for partition, _ in view.sides if partition in RANKED],
        "references": view.references,
        "few": [(one.row.system, "; ".join(one.row.few)) for one in view.standings if one.row.few],
    }


def _about(row: Row) -> str:
    """Return the line under a system's name; the transcripts scored on are its track's."""
    crossed = (
        f"trained on {row.trained_on_text} text" if row.reads_text and row.trained_on_text != row.transcripts else ""
    )
    return " · ".join(filter(None, (row.modality if row.modality != "none" else "no input", row.strategy, crossed)))


def _about_alone(row: Row) -> str:
    """Return what tells a run from others of its system where no track is shown."""
    seeds = f"{row.seeds} seed" + ("s" if row.seeds != 1 else "")
    read = f"{row.transcripts} text" if row.reads_text else ""
    corpus = f"{row.corpus}{'' if row.condition == 'clean' else ' ' + row.condition}"
    return ", ".join(filter(None, (_about(row), read, corpus, seeds)))


def _choices(shown: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what each filter offers: what occurs."""
    rows = [line["row"] for track in shown for line in track["lines"]]
    return {
        "corpus": sorted({track["corpus"] for track in shown}),
        "transcripts": sorted({track["transcripts"] for track in shown}),
        "condition": sorted({track["condition"] for track in shown}),
        "modality": sorted({row.modality for row in rows}),
        "strategy": sorted({row.strategy for row in rows if row.strategy}),
        "status": sorted({row.status for row in rows}),
    }


def _scores(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, by partition, summary cells and those of each seed."""
    ordered = [p for p in ("test1", "test2", "test3", "development", "train") if p in record["summary"]]
    cells = [cell for p in ordered for cell in record["summary"][p]["ccc"].values() if cell is not None]
    edges = [edge for cell in cells for edge in (cell["mean"], *(cell["ci95"] or ()))] or [0.0, 1.0]
    return [
        {
            "partition": p,
            "ccc": record["summary"][p]["ccc"],
            "seeds": [(run["seed"], run["scores"][p]["ccc"]) for run in record["runs"]],
            "clusters": record["runs"][0]["scores"][p]["clusters"],
            "counts": record["corpus"]["partitions"][p],
            "scale": (min(edges), max(edges)),
        }
        for p in ordered
    ]


def _all_slices(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the slices by kind, each slice with its scores on the partitions shown, mean over seeds."""
    partitions = [p for p in ("test1", "test2", "development") if p in record["summary"]][:2]
    kinds = []
    for kind, title in _SLICES.items():
        names: dict[str, None] = {}
        for partition in partitions:
            for run in record["runs"]:
                names.update(dict.fromkeys(run["scores"][partition]["slices"].get(kind, {})))
        lines = []
        for name in sorted(names, key=_slice_order):
            found = [_over_seeds(record, partition, kind, name) for partition in partitions]
            lines.append(
                {
                    "name": _EMOTIONS.get(name, name)
                    if kind == "emotion"
                    else name.replace(">=", "\N{GREATER-THAN OR EQUAL TO} "),
                    "sides": found,
                }
            )
        if lines:
            kinds.append({"title": title, "partitions": partitions, "lines": lines})
    spread = [_speakers(record, partition) for partition in partitions]
    if any(spread):
        lines = [
            {"name": f"{100 * float(q):g} % of speakers below", "sides": [of.get(q, _NO_SPREAD) for of in spread]}
            for q in _QUANTILES
        ]
        title = "Spread over speakers with 10 utterances or more (n: speakers)"
        kinds.append({"title": title, "partitions": partitions, "lines": lines})
    return kinds


_QUANTILES = ("0.1", "0.25", "0.5", "0.75", "0.9")
_NO_SPREAD = {"count": 0, **dict.fromkeys(ATTRIBUTES)}


def _speakers(record: Mapping[str, Any], partition: str) -> dict[str, dict[str, Any]]:
    """Return, by quantile, how many speakers and the CCC, mean over seeds; empty where there are too few."""
    found = [run["scores"][partition]["slices"]["speakers"] for run in record["runs"]]
    known = [attribute for attribute in ATTRIBUTES if all(one.get(attribute) for one in found)]
    return {
        q: {
            **_NO_SPREAD,
            "count": found[0]["count"],
            **{attribute: sum(one[attribute][q] for one in found) / len(found) for attribute in known},
        }
        for q in (_QUANTILES if known else ())
    }


def _ceiling(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, by partition shown, what one rater and a simulated one reach."""
    known = record.get("ceiling", {})
    return [
        {"partition": p, "word": word, **{c: (known[p][c] or {}).get(kind) for c in COLUMNS}}
        for p in ("test1", "test2", "development")
        if p in record["summary"] and known.get(p)
        for kind, word in (("one", "human rater"), ("simulated", "simulated rater"))
    ]


def _slice_order(name: str) -> tuple[int, str]:
    """Return a key that puts ``<3 s`` before ``3-5 s`` before ``>=8 s``."""
    return (-1 if name.startswith("<") else name.startswith(">"), name)


def _over_seeds(record: Mapping[str, Any], partition: str, kind: str, name: str) -> dict[str, Any]:
    slices = [run["scores"][partition]["slices"].get(kind, {}).get(name) for run in record["runs"]]
    there = [one for one in slices if one is not None]
    told: dict[str, Any] = {"count": there[0]["count"] if there else 0}
    for attribute in ATTRIBUTES:
        values = [one.get(attribute) for one in there]
        defined = [value for value in values if value is not None]
        told[attribute] = sum(defined) / len(defined) if defined and len(defined) == len(values) else None
    return told


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(version=VERSION, **values)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ser_bench", "leaderboard/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["ccc"] = _ccc
    environment.filters["breakable"] = _breakable
    environment.filters["size"] = _three_digits
    environment.filters["millions"] = lambda count: f"{count / 1e6:,.1f} M"
    environment.filters["spelt"] = _spelt
    environment.globals["whisker"] = _whisker
    return environment


def _ccc(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def _breakable(name: str) -> str:
    """Let a browser break a long name after a joint."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(piece) for piece in re.split(r"(?<=[_+>/])", name))


def _three_digits(millions: str) -> str:
    """Shorten a number of millions; what a paper reported in words stays as it is."""
    try:
        return f"{float(millions):,.3g}" if abs(float(millions)) < 1000 else f"{float(millions):,.0f}"
    except ValueError:
        return millions


def _spelt(value: Any) -> str:
    """Spell a setting for a reader."""
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "\N{EN DASH}"
    return "\N{EN DASH}" if value is None else str(value)


def _whisker(cell: Mapping[str, Any], scale: tuple[float, float], width: int = 80) -> str:
    """Return a small picture of a value and its interval; the numbers stand beside it, so it is hidden from readers."""
    from markupsafe import Markup

    low, high = scale
    span = max(high - low, 1e-6)

    def place(value: float) -> str:
        return f"{4 + (value - low) / span * (width - 8):.1f}"

    line = ""
    if cell["ci95"]:
        line = f'<path d="M{place(cell["ci95"][0])} 6H{place(cell["ci95"][1])}"/>'
    return Markup(  # numbers alone
        f'<svg class="whisker" width="{width}" height="12" viewBox="0 0 {width} 12" aria-hidden="true">{line}'
        f'<circle cx="{place(cell["mean"])}" cy="6" r="3"/></svg>'
    )
