"""The figures: seen against unseen, size against valence and the drop of a track; calibration and layers of a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.rows import COLUMNS, Row
from ser_bench.leaderboard.svg import Axes, Drawing, log_ticks, ticks

if TYPE_CHECKING:
    from ser_bench.leaderboard.views import TrackView

SEEN, UNSEEN = "test1", "test2"
SERIES = {"arousal": "a", "valence": "v", "dominance": "d", "mean": "m"}
_MODALITIES = {"audio": "v", "audio+text": "a", "text": "d"}
_INTERVALS_UP_TO = 40
"""Rows; more crosses than that hide each other."""
_NAMED = 3
_ROWS_IN_DROP = 20


def of_track(view: TrackView) -> dict[str, Drawing]:
    """Return the figures that a track's rows allow, by name."""
    drawn = {name: draw(view) for name, draw in _OF_TRACK.items()}
    return {name: drawing for name, drawing in drawn.items() if drawing is not None}


def seen_against_unseen(view: TrackView) -> Drawing | None:
    """Draw each row's CCC on unseen against that on seen data, a panel for each attribute and the mean."""
    rows = [one.row for one in view.standings if _cell(one.row, SEEN, "mean") and _cell(one.row, UNSEEN, "mean")]
    if not rows:
        return None
    drawing = Drawing(
        940, 306, f"Seen against unseen CCC, {view.title}",
        f"Four panels, one for each attribute and one for the mean; {len(rows)} rows. Below the dashed line a system "
        "is worse on podcasts that it has not seen.",
    )  # fmt: skip
    drawing.text(16, 24, f"CCC on seen (test1) against unseen (test2) podcasts{_intervals(rows)}", style="title")
    _modality_legend(drawing, 16, 42, rows)
    for number, column in enumerate(COLUMNS):
        pairs = [(row, _cell(row, SEEN, column), _cell(row, UNSEEN, column)) for row in rows]
        found = [(row, seen, unseen) for row, seen, unseen in pairs if seen and unseen]
        limits = _limits([cell for _, seen, unseen in found for cell in (seen, unseen)])
        axes = Axes(
            drawing=drawing, left=52 + number * 226, top=82, width=176, height=176, across=limits, up=limits
        )  # fmt: skip
        marks = ticks(*limits, count=4)
        axes.frame(title=column.capitalize(), below="seen CCC", beside="unseen CCC", across=marks, up=marks)
        drawing.line((axes.x(limits[0]), axes.y(limits[0])), (axes.x(limits[1]), axes.y(limits[1])), "guide")
        points = [(axes.x(seen["mean"]), axes.y(unseen["mean"]), row, seen, unseen) for row, seen, unseen in found]
        for x, y, row, seen, unseen in points:
            _cross(axes, x, y, seen, unseen, _series(row), len(found))
        for x, y, row, seen, unseen in points:
            told = f"{row.label}: {seen['mean']:.3f} seen, {unseen['mean']:.3f} unseen"
            drawing.mark(x, y, _series(row), solid=row.status != "reported", told=told)
        best = sorted(points, key=lambda point: -point[4]["mean"])[:_NAMED]
        _name_points(axes, [(x, y, row.label) for x, y, row, _, _ in best], [(x, y) for x, y, *_ in points])
    return drawing


def size_against_valence(view: TrackView) -> Drawing | None:
    """Draw valence against the number of parameters, and the front that no other row beats with fewer."""
    rows = [one.row for one in view.standings if _size(one.row) and not one.row.marks]
    shown = [(p, word) for p, word in view.sides if any(_cell(row, p, "valence") for row in rows)][:2]
    if not shown:
        return None
    drawing = Drawing(
        940, 356, f"Parameters against valence, {view.title}",
        f"{len(rows)} rows; the line joins those that no smaller row equals.",
    )  # fmt: skip
    drawing.text(16, 24, f"Valence against model size, with the Pareto front{_intervals(rows)}", style="title")
    _modality_legend(drawing, 16, 42, rows)
    sizes = [_size(row) for row in rows]
    across = min(sizes) / 1.6, max(sizes) * 1.6
    for number, (partition, word) in enumerate(shown):
        found = [(row, cell) for row in rows if (cell := _cell(row, partition, "valence"))]
        limits = _limits([cell for _, cell in found])
        axes = Axes(
            drawing=drawing, left=56 + number * 462, top=82, width=400, height=226, across=across, up=limits,
            logarithmic=True,
        )  # fmt: skip
        axes.frame(
            title=f"{word.capitalize()} ({partition})", below="parameters (millions, logarithmic)",
            beside="valence CCC", across=log_ticks(*across), up=ticks(*limits),
        )  # fmt: skip
        points = [(axes.x(_size(row)), axes.y(cell["mean"]), row, cell) for row, cell in found]
        front = _front(points)
        steps = [(x, y) for before, after in itertools.pairwise(front) for x, y in _step(before, after)]
        if front:
            drawing.path([front[0][:2], *steps, (axes.left + axes.width, front[-1][1])], "guide")
        for x, _, row, cell in points:
            if cell["ci95"] and len(found) <= _INTERVALS_UP_TO:
                low, high = (axes.y(limit) for limit in cell["ci95"])
                drawing.line((x, low), (x, high), f"thin-{_series(row)}")
        for x, y, row, cell in points:
            told = f"{row.label}: {row.parameters} M, valence {cell['mean']:.3f}"
            drawing.mark(x, y, _series(row), solid=row.status != "reported", told=told)
        named = [(x, y, row.label) for x, y, row, _ in front[-8:]]
        _name_points(axes, named, [(x, y) for x, y, *_ in points])
    return drawing


def drop(view: TrackView) -> Drawing | None:
    """Draw how far each row falls from seen to unseen data, by attribute."""
    both = [one.row for one in view.standings if _cell(one.row, SEEN, "mean") and _cell(one.row, UNSEEN, "mean")]
    if not both:
        return None
    rows = sorted(both, key=lambda row: -_cell(row, UNSEEN, "mean")["mean"])[:_ROWS_IN_DROP]  # type: ignore[index]
    height = 22 * len(rows)
    told = "" if len(rows) == len(both) else f" (the best {len(rows)} of {len(both)} on unseen data)"
    drawing = Drawing(
        940, 128 + height, f"Drop from seen to unseen, {view.title}",
        f"A line for each of {len(rows)} rows in a panel for each attribute; seen at the hollow mark, unseen full.",
    )  # fmt: skip
    drawing.text(16, 24, f"Drop of CCC from seen to unseen podcasts{told}{_intervals(rows)}", style="title")
    drawing.mark(22, 40, "m", solid=False)
    drawing.text(32, 44, "seen (test1)", style="small")
    drawing.mark(122, 40, "m")
    drawing.text(132, 44, "unseen (test2)", style="small")
    drawing.text(222, 44, "the number is the drop", style="muted small")
    cells = [cell for row in rows for p in (SEEN, UNSEEN) for a in ATTRIBUTES if (cell := _cell(row, p, a))]
    limits = _limits(cells)
    for number, attribute in enumerate(ATTRIBUTES):
        axes = Axes(
            drawing=drawing, left=220 + number * 240, top=82, width=196, height=height, across=limits,
            up=(len(rows) - 0.5, -0.5),
        )  # fmt: skip
        axes.frame(title=attribute.capitalize(), below="CCC", across=ticks(*limits, count=4))
        for place, row in enumerate(rows):
            _dumbbell(axes, place, row, attribute)
            if number == 0:
                drawing.text(208, axes.y(place) + 4, _short(row.label, 32), style="small", anchor="end")
    return drawing


def _dumbbell(axes: Axes, place: int, row: Row, attribute: str) -> None:
    seen, unseen = _cell(row, SEEN, attribute), _cell(row, UNSEEN, attribute)
    if not seen or not unseen:
        return
    series, y = SERIES[attribute], axes.y(place)
    for cell, off in ((seen, -3), (unseen, 3)):
        if cell["ci95"]:
            low, high = (axes.x(limit) for limit in cell["ci95"])
            axes.drawing.line((low, y + off), (high, y + off), f"thin-{series}")
    axes.drawing.line((axes.x(seen["mean"]), y), (axes.x(unseen["mean"]), y), f"line-{series}")
    axes.drawing.mark(axes.x(seen["mean"]), y, series, solid=False)
    axes.drawing.mark(axes.x(unseen["mean"]), y, series)
    lost = round(seen["mean"] - unseen["mean"], 2) + 0.0  # never -0.00
    axes.drawing.text(
        axes.left + axes.width + 4, y + 4, f"{lost:.2f}".replace("-", "\N{MINUS SIGN}"), style="muted small"
    )


_OF_TRACK: Mapping[str, Callable[[TrackView], Drawing | None]] = {
    "seen-unseen": seen_against_unseen,
    "size-valence": size_against_valence,
    "drop": drop,
}


def calibration(record: Mapping[str, Any]) -> Drawing | None:
    """Draw mean label against mean prediction, in bins of equal counts, for the partitions reported."""
    binned = {p: found for p in (SEEN, UNSEEN, "development") if (found := _bins(record, p))}
    shown = dict(list(binned.items())[:2])
    if not shown:
        return None
    drawing = Drawing(
        690, 392, f"Calibration of {record['system']['name']}",
        "Mean label against mean prediction, in bins of equal counts. On the dashed line predictions are neither too "
        "high nor too low.",
    )  # fmt: skip
    drawing.text(16, 24, "Calibration: mean label against mean prediction (scale 1..7)", style="title")
    x = 22.0
    for attribute in ATTRIBUTES:
        if any(attribute in found for found in shown.values()):
            series = SERIES[attribute]
            drawing.line((x - 6, 40), (x + 18, 40), f"line-{series} dash-{series}")
            drawing.mark(x + 6, 40, series)
            drawing.text(x + 24, 44, attribute, style="small")
            x += 100
    values = [v for found in shown.values() for line in found.values() for point in line for v in point]
    low, high = max(min(values) - 0.2, -10), min(max(values) + 0.2, 18)
    for number, (partition, found) in enumerate(shown.items()):
        axes = Axes(
            drawing=drawing, left=56 + number * 332, top=82, width=264, height=264, across=(low, high), up=(low, high)
        )  # fmt: skip
        marks = ticks(low, high)
        word = {SEEN: "Seen (test1)", UNSEEN: "Unseen (test2)"}.get(partition, "Development")
        axes.frame(title=word, below="mean prediction", beside="mean label", across=marks, up=marks)
        drawing.line((axes.x(low), axes.y(low)), (axes.x(high), axes.y(high)), "guide")
        for attribute, line in found.items():
            series = SERIES[attribute]
            points = [(axes.x(p), axes.y(label)) for p, label in line]
            drawing.path(points, f"line-{series} dash-{series}")
            for (px, py), (p, label) in zip(points, line, strict=True):
                drawing.mark(px, py, series, told=f"{attribute}: predicted {p:.2f}, labelled {label:.2f}")
    return drawing


def _bins(record: Mapping[str, Any], partition: str) -> dict[str, list[tuple[float, float]]]:
    """Return each attribute's (prediction, label) by bin, mean over seeds: their bins hold equal counts."""
    found: dict[str, list[tuple[float, float]]] = {}
    for attribute in ATTRIBUTES:
        seeds = [run["scores"].get(partition, {}).get("calibration", {}).get(attribute) for run in record["runs"]]
        if all(seeds) and len({len(bins) for bins in seeds}) == 1:
            found[attribute] = [
                (sum(b["prediction"] for b in of) / len(of), sum(b["label"] for b in of) / len(of))
                for of in zip(*seeds, strict=True)
            ]
    return found


def layer_weights(record: Mapping[str, Any]) -> Drawing | None:
    """Draw how much of each layer the head takes, mean over seeds, each seed beside it."""
    first = record["runs"][0]["layer_weights"]
    if not first or any(not values or len(values) > _MOST_LAYERS for values in first.values()):
        return None
    drawing = Drawing(
        690, 48 + 218 * len(first), f"Layer weights of {record['system']['name']}",
        "Weight of each layer's output, mean over seeds; layer 0 is the input of the first transformer layer.",
    )  # fmt: skip
    drawing.text(16, 24, "Layer weights (layer 0: input of the first transformer layer)", style="title")
    for number, part in enumerate(first):
        seeds = [(run["layer_weights"] or {}).get(part, []) for run in record["runs"]]
        seeds = [values for values in seeds if len(values) == len(first[part])]
        means = [sum(of) / len(of) for of in zip(*seeds, strict=True)]
        count, series = len(means), "av"[number % 2]
        flat = [value for values in seeds for value in values]
        up = min(0.0, *flat), max(0.0, *flat) * 1.08 or 1.0
        axes = Axes(
            drawing=drawing, left=56, top=66 + number * 218, width=610, height=150, across=(-0.6, count - 0.4), up=up
        )  # fmt: skip
        axes.frame(
            title=part, below="layer", beside="weight", across=ticks(0, count - 1, count=min(12, count)), up=ticks(*up)
        )  # fmt: skip
        broad = 0.64 * axes.width / (count + 0.2)
        for layer, mean in enumerate(means):
            top, bottom = sorted((axes.y(mean), axes.y(0)))
            drawing.box(axes.x(layer) - broad / 2, top, broad, bottom - top, f"fill-{series}")
            for values in seeds if len(seeds) > 1 else ():
                drawing.mark(axes.x(layer), axes.y(values[layer]), "m", size=2)
    return drawing


_MOST_LAYERS = 200


def _cell(row: Row, partition: str, column: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = row.cells.get(partition, {}).get(column)
    return found


def _size(row: Row) -> float:
    """Return millions of parameters; 0 where not known."""
    try:
        size = float(row.parameters)
    except ValueError:
        return 0.0
    return size if 0 < size < 1e9 else 0.0


def _series(row: Row) -> str:
    return _MODALITIES.get(row.modality, "m")


def _limits(cells: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return an axis that holds all values and intervals, with air around."""
    values = [v for cell in cells for v in (cell["mean"], *(cell["ci95"] or ()))] or [0.0, 1.0]
    air = max(0.02, 0.06 * (max(values) - min(values)))
    return max(-1.02, min(values) - air), min(1.02, max(values) + air)


def _cross(
    axes: Axes, x: float, y: float, seen: Mapping[str, Any], unseen: Mapping[str, Any], series: str, count: int
) -> None:
    if count > _INTERVALS_UP_TO:
        return
    if seen["ci95"]:
        axes.drawing.line((axes.x(seen["ci95"][0]), y), (axes.x(seen["ci95"][1]), y), f"thin-{series}")
    if unseen["ci95"]:
        axes.drawing.line((x, axes.y(unseen["ci95"][0])), (x, axes.y(unseen["ci95"][1])), f"thin-{series}")


def _modality_legend(drawing: Drawing, x: float, y: float, rows: Sequence[Row]) -> None:
    present = [name for name in _MODALITIES if any(row.modality == name for row in rows)]
    for name in [*present, *(["no input"] if any(row.modality not in _MODALITIES for row in rows) else [])]:
        drawing.mark(x + 6, y - 4, _MODALITIES.get(name, "m"))
        drawing.text(x + 16, y, name, style="small")
        x += 34 + 6.2 * len(name)
    if any(row.status == "reported" for row in rows):
        drawing.text(x, y, "hollow: reported by its authors", style="muted small")


def _front(points: Sequence[tuple[float, float, Row, Any]]) -> list[tuple[float, float, Row, Any]]:
    """Return the points that none to their left reaches: smaller and at least as good."""
    front: list[tuple[float, float, Row, Any]] = []
    for point in sorted(points, key=lambda p: (p[0], p[1])):
        if not front or point[1] < front[-1][1]:  # y grows downwards
            front.append(point)
    return front


def _step(before: tuple[Any, ...], after: tuple[Any, ...]) -> list[tuple[float, float]]:
    return [(after[0], before[1]), (after[0], after[1])]


def _name_points(axes: Axes, named: Sequence[tuple[float, float, str]], points: Sequence[tuple[float, float]]) -> None:
    """Write names beside points where they cover no mark and no other name; leave out those that find no place."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for x, y, name in named:
        words = _short(name, 26)
        wide = 6.0 * len(words)
        places = [(x + 7, y - 7), (x - 7 - wide, y - 7), (x + 8, y + 3.5), (x - 8 - wide, y + 3.5)]
        places += [(x - wide / 2, y - 9), (x + 7, y + 14), (x - 7 - wide, y + 14), (x - wide / 2, y + 16)]
        for left, base in places:
            box = (left, base - 9, left + wide, base + 2)
            inside = axes.left <= box[0] and box[2] <= axes.left + axes.width + 24 and axes.top - 2 <= box[1]
            if inside and box[3] <= axes.top + axes.height and not any(_overlap(box, other) for other in taken):
                axes.drawing.text(left, base, words, style="small name")
                taken.append(box)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _intervals(rows: Sequence[Row]) -> str:
    """Return what a title says of the lines through marks, if there are any."""
    cells = [cell for row in rows for of in row.cells.values() for cell in of.values() if cell is not None]
    shown = len(rows) <= _INTERVALS_UP_TO and any(cell["ci95"] for cell in cells)
    return ", with 95 % intervals" if shown else ""


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
