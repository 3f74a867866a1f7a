"""Tables of a track, seen and unseen side by side: Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from ser_bench.leaderboard.board import RANKED
from ser_bench.leaderboard.rows import COLUMNS, Row, Standing, few_clusters, references, sides, standings

if TYPE_CHECKING:
    from ser_bench.leaderboard.views import Shown, TrackView

LETTERS = {"arousal": "A", "valence": "V", "dominance": "D", "mean": "mean"}
"""What the heads of narrow columns say."""


def table(rows: Sequence[Row], *, style: str = "github") -> str:
    """Return the table of one track in a style of tabulate's, best mean on the seen partition first."""
    return markdown(standings(rows), references(rows), style=style)


def markdown(members: Sequence[Standing], people: Sequence[Row] = (), *, style: str = "github") -> str:
    """Return the table of one track, ordered and ranked already, with what people reach as its last rows."""
    shown = sides([one.row for one in members])
    lines = []
    for one in [*members, *(Standing(row=row, ranks={}) for row in people)]:
        row = one.row
        line = {"system": row.label, "modality": row.modality, "transcripts": texts(row)}
        line["params (M)"] = row.parameters or "-"
        for partition, word in shown:
            if partition in RANKED:
                line[f"{word} rank"] = str(one.ranks.get(partition) or "-")
            line |= {f"{word} {LETTERS[c]}": _shown(row, partition, c) for c in COLUMNS}
        line["seeds"] = str(row.seeds or "-")
        line["status"] = status(row)
        lines.append({head: markdown_safe(cell) for head, cell in line.items()})
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


def latex(view: TrackView) -> str:
    r"""Return the table of one track for a paper: booktabs, the best value of a column in bold, intervals beside means.

    Needs ``\usepackage{booktabs}``. Marked rows, which are not ranked, stand below a rule, and what people reach below
    another; bold is among all other rows, since a reader compares whatever stands in one table.
    """
    best = {(p, c): _best(view.standings, p, c) for p, _ in view.sides for c in COLUMNS}
    lines = []
    for one in view.standings:
        row = one.row
        marks = "$^{*}$" if row.marks else ""
        cells = [_tex_first(row.label) + marks, _tex(row.modality), _tex(row.parameters or "--")]
        for partition, _ in view.sides:
            cells += [_tex_cell(row, partition, column, best[partition, column]) for column in COLUMNS]
        lines.append(cells)
    for row in view.references:
        shown = [_tex_cell(row, partition, column, "") for partition, _ in view.sides for column in COLUMNS]
        lines.append([rf"\emph{{{_tex(row.system)}}}", _tex(row.modality), "--", *shown])
    unmarked = sum(not one.row.marks for one in view.standings)
    heads = ["System", "Modality", "Params (M)", *(["A", "V", "D", "Mean"] * len(view.sides))]
    align = ("left", "left", "right", *("right",) * 4 * len(view.sides))
    body = tabulate(lines, headers=heads, tablefmt="latex_raw", colalign=align, disable_numparse=True)
    body = _ruled(body, {unmarked, len(view.standings)} - {0, len(lines)})
    # tabulate's booktabs style escapes cells, which would undo the bold ones; its raw style has the older rules.
    for rule in ("toprule", "midrule", "bottomrule"):
        body = body.replace(r"\hline", f"\\{rule}", 1)
    over, rules = [r"\multicolumn{3}{c}{}"], []
    for number, (partition, word) in enumerate(view.sides):
        first = 4 + 4 * number
        over.append(rf"\multicolumn{{4}}{{c}}{{{word.capitalize()} ({partition})}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + 3}}}")
    top = f"\\toprule\n {' & '.join(over)} \\\\\n {' '.join(rules)}"
    note = r" $^{*}$: not ranked (" + _tex(", ".join(_all_marks(view))) + ")." if _all_marks(view) else ""
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}; written by `ser-bench leaderboard render`",
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{CCC on {_tex(view.title)}; 95\,\% intervals in brackets. Best of each column in bold.{note}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', view.slug)}}}",
            body.replace(r"\toprule", top, 1),
            r"\end{table*}",
            "",
        ]
    )


def as_json(board: Shown) -> str:
    """Return all tracks with all that their tables show, as JSON."""
    return (
        json.dumps(
            {
                "tracks": [
                    {
                        "corpus": view.track[0],
                        "labels": view.track[1],
                        "condition": view.track[2],
                        "transcripts": view.track[3],
                        "rows": [_plain(one) for one in _all(view)],
                    }
                    for view in board.tracks
                ]
            },
            indent=1,
            sort_keys=True,
            allow_nan=False,
        )
        + "\n"
    )


def _all(view: TrackView) -> list[Standing]:
    return [*view.standings, *(Standing(row=row, ranks={}) for row in view.references)]


def _plain(one: Standing) -> dict[str, Any]:
    row = one.row
    return {
        "system": row.system,
        "record": f"records/{row.stem}.json" if row.stem else None,
        "modality": row.modality,
        "parameters_millions": row.parameters or None,
        "transcripts": {"train": row.trained_on_text, "test": row.transcripts} if row.reads_text else None,
        "strategy": row.strategy or None,
        "status": row.status,
        "source": row.source or None,
        "marks": list(row.marks),
        "notes": list(row.notes),
        "seeds": row.seeds or None,
        "rank": dict(one.ranks),
        "ccc": {partition: dict(row.cells[partition]) for partition in row.cells},
    }


def as_csv(board: Shown) -> str:
    """Return all tracks as one table, a line for each row and partition."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    values = [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high", "_std")]
    heads = "corpus labels condition track_transcripts system record modality parameters_millions transcripts strategy"
    writer.writerow([*heads.split(), "status", "seeds", "partition", "rank", *values])
    for view in board.tracks:
        for one in _all(view):
            row = one.row
            fixed = [*view.track, row.system, row.stem, row.modality, row.parameters, texts(row), row.strategy]
            fixed += [status(row), str(row.seeds or "")]
            for partition, cells in row.cells.items():
                line: list[Any] = [*fixed, partition, one.ranks.get(partition) or ""]
                for column in COLUMNS:
                    line += _csv_cell(cells.get(column))
                writer.writerow([_csv_safe(cell) for cell in line])
    return file.getvalue()


def _csv_cell(cell: Mapping[str, Any] | None) -> list[Any]:
    if cell is None:
        return [""] * 4
    low, high = cell["ci95"] or ("", "")
    return [round(cell["mean"], 6), low, high, "" if cell["std"] is None else cell["std"]]


def _csv_safe(cell: Any) -> Any:
    """Keep a spreadsheet from taking a name for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def run_table(record: Mapping[str, Any], *, style: str | None = None) -> str:
    """Return the scores of one record, by partition, and remarks below; in a style of tabulate's, the table alone."""
    lines = []
    for partition, part in record["summary"].items():
        for column in COLUMNS:
            cell = part["ccc"][column]
            if cell is not None:
                low, high = cell["ci95"] or (None, None)
                spread = "-" if cell["std"] is None else f"{cell['std']:.3f}"
                interval = "-" if low is None else f"{low:.3f} .. {high:.3f}"
                lines.append([partition, column, f"{cell['mean']:.3f}", spread, interval])
    heads = ["partition", "attribute", "CCC", "std over seeds", "95 % interval"]
    if style is not None:
        return tabulate(lines, headers=heads, tablefmt=style, disable_numparse=True)
    return "\n".join([tabulate(lines, headers=heads, disable_numparse=True), *remarks(record)])


def remarks(record: Mapping[str, Any]) -> list[str]:
    """Return what a reader of one record's scores should know beside them."""
    found = [f"{note} (seed {record['runs'][0]['seed']})." for note in few_clusters(record)]
    outside = {name: part["outside_range"] for name, part in record["corpus"]["partitions"].items()}
    told = ", ".join(f"{count:,} on {name}" for name, count in outside.items() if count)
    return [*found, f"Predictions outside 1..7, over all seeds: {told}."] if told else found


def readme(board: Shown) -> str:
    """Return the leaderboard's README.md."""
    parts = ["# Leaderboard", "", EXPLAINED, ""]
    for view in board.tracks:
        parts += [f"## {markdown_safe(view.title)}", "", markdown(view.standings, view.references), ""]
        parts += _footnotes(one.row for one in view.standings)
    return "\n".join(parts)


def _footnotes(rows: Iterable[Row]) -> list[str]:
    """Return what stands under a table: the rows with few clusters, one paragraph each."""
    return [line for row in rows if row.few for line in (f"{markdown_safe(row.label)}: {'; '.join(row.few)}.", "")]


EXPLAINED = """\
CCC (concordance correlation coefficient, -1..1) over the whole partition for arousal (A), valence (V) and dominance
(D), and their mean with its 95 % interval, which resamples speakers. *Seen* is test1 (its podcasts also occur in
train or development), *unseen* is test2. A rank is 1 + the number of rows of the same table that a paired test
(Holm-corrected) calls better; rows that no test tells apart share it. Without a rank stand reported rows, rows with
random, tiny or local weights, rows without some of the audio, and systems pre-trained on MSP-Podcast. *Not
verifiable* is a row whose predictions are withheld. Behind a system's name stands how it was trained, unless all of it
was fine-tuned at once. A release's version is what the run claimed; beside the labels' digest stands how far the
content confirms it. *Reference* rows are people: a rater against the mean of the others, and a simulated one, with the
noise of real ones, against the label. Written by `ser-bench leaderboard render`; not edited by hand. `site/index.html`
has the same to sort, search and compare, with a page for each run; `site/tables/` has it as LaTeX, CSV and JSON."""


def status(row: Row) -> str:
    """Return a row's status, with all that a reader must know beside it."""
    first = f"{row.status} ({row.source})" if row.source else row.status
    return ", ".join((first, *row.notes, *row.marks))


def texts(row: Row) -> str:
    """Return the transcript source, or both where training and scoring used different ones."""
    if not row.reads_text:
        return "-"
    both = (row.trained_on_text, row.transcripts)
    return row.transcripts if len(set(both)) == 1 else "{}, scored on {}".format(*both)


def _shown(row: Row, partition: str, column: str) -> str:
    cell = row.cells.get(partition, {}).get(column)
    if cell is None:
        return "-"
    if column != "mean" or cell["ci95"] is None:
        return f"{cell['mean']:.3f}"
    low, high = cell["ci95"]
    return f"{cell['mean']:.3f} [{low:.3f}, {high:.3f}]"


def markdown_safe(text: str) -> str:
    """Escape what Markdown, or the HTML inside it, would not show as it stands."""
    return re.sub(r"[\\|*`<]|(?<=\])\(", lambda found: "&lt;" if found[0] == "<" else f"\\{found[0]}", text)


def _best(members: Sequence[Standing], partition: str, column: str) -> str:
    cells = [one.row.cells.get(partition, {}).get(column) for one in members if not one.row.marks]
    return max((f"{cell['mean']:.3f}" for cell in cells if cell is not None), key=float, default="")


def _tex_cell(row: Row, partition: str, column: str, best: str) -> str:
    cell = row.cells.get(partition, {}).get(column)
    if cell is None:
        return "--"
    value = f"{cell['mean']:.3f}"
    told = rf"\textbf{{{value}}}" if value == best and not row.marks else value
    if cell["ci95"] is None:
        return told.replace("-", "$-$")
    low, high = cell["ci95"]
    return f"{told} {{\\scriptsize[{low:.3f}, {high:.3f}]}}".replace("-", "$-$")


def _all_marks(view: TrackView) -> list[str]:
    return sorted({mark for one in view.standings for mark in one.row.marks})


def _ruled(body: str, after: Collection[int]) -> str:
    """Put a rule behind so many rows of a table of tabulate's, whose rows begin behind the second of its own."""
    lines = body.splitlines()
    first = [number for number, line in enumerate(lines) if line == r"\hline"][1] + 1
    for count in sorted(after, reverse=True):
        lines.insert(first + count, r"\midrule")
    return "\n".join(lines)


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}


def _tex_first(text: str) -> str:
    r"""Escape the first cell of a row, which the \\ before it would take for its argument or its star."""
    return f"{{}}{_tex(text)}" if text.startswith(("[", "*")) else _tex(text)


def _tex(text: str) -> str:
    """Escape what TeX reads as a command."""
    return re.sub(r"[\\~^<>|&%$#_{}]", lambda found: _TEX.get(found[0], f"\\{found[0]}"), text)
