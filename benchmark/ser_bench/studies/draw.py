"""The studies' pictures, in the leaderboard's drawing: colours told apart with every colour vision, shapes in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ser_bench.interface import ATTRIBUTES
from ser_bench.leaderboard.svg import Axes, Drawing, ticks
from ser_bench.studies import paper
from ser_bench.studies.systems import Pair, label

SERIES = {"arousal": "a", "valence": "v", "dominance": "d"}
Row = Mapping[str, Any]


def table1(pairs: Sequence[Pair], rows: Sequence[Row]) -> Drawing:
    """Draw each pair's audio and audio-text scores, seen and unseen, a panel for each attribute."""
    shown = [side for side in paper.SIDES if any(row["partition"] == side for row in rows)]
    tall = 34 * len(pairs) + 10
    drawing = Drawing(
        960, 100 + len(shown) * (tall + 74), "Table 1: CCC without and with text",
        "A panel for each attribute, seen above unseen. A line for each speech encoder, from audio alone (hollow) to "
        "audio and text (full), with 95 % intervals; the paper's numbers are the upright strokes.",
    )  # fmt: skip
    drawing.text(16, 24, "CCC of audio alone and of audio with text, 95 % intervals", style="title")
    _legend(drawing, [("audio", False, "v"), ("audio + text", True, "v"), ("the paper's", False, "m")])
    for across, attribute in enumerate(ATTRIBUTES):
        limits = _limits([row for row in rows if row["attribute"] == attribute])
        for down, side in enumerate(shown):
            axes = Axes(
                drawing=drawing, left=190 + across * 258, top=92 + down * (tall + 74), width=214, height=tall,
                across=limits, up=(-0.7, len(pairs) - 0.3),
            )  # fmt: skip
            title = f"{attribute.capitalize()}, {paper.SIDES[side]}"
            axes.frame(title=title, below="CCC", across=ticks(*limits, count=4))
            for place, pair in enumerate(pairs):
                if across == 0:
                    drawing.text(180, axes.y(place) + 4, label(pair.audio), style="small", anchor="end")
                _pair(axes, place, pair, [r for r in rows if (r["partition"], r["attribute"]) == (side, attribute)])
    return drawing


def _pair(axes: Axes, place: int, pair: Pair, rows: Sequence[Row]) -> None:
    own = {row["system"]: row for row in rows}
    points = []
    for name, off in ((pair.audio, 7), (pair.both, -7)):
        row, y = own.get(name), axes.y(place) + off
        if row is None:
            continue
        series = SERIES[row["attribute"]]
        _interval(axes, (row["low"], row["high"]), y, series)
        points.append((axes.x(row["ours"]), y, series, name == pair.both, row))
    if len(points) == 2:
        axes.drawing.line(points[0][:2], points[1][:2], f"line-{points[0][2]}")
    for x, y, series, solid, row in points:
        axes.drawing.mark(x, y, series, solid=solid, told=f"{label(row['system'])}: {row['ours']:.3f}")
        if row["paper"] is not None:
            _tick(axes, row["paper"], y)


def table2(rows: Sequence[Row]) -> Drawing:
    """Draw a line of scores for each way to train and score, a panel for each attribute."""
    keys = list(dict.fromkeys(row["run"] for row in rows))
    tall = 24 * len(keys) + 8
    drawing = Drawing(
        960, 142 + tall, "Table 2: CCC by transcripts",
        "A panel for each attribute and a line for each pair of transcripts trained and scored on, seen podcasts, with "
        "95 % intervals; the paper's numbers are the upright strokes.",
    )  # fmt: skip
    drawing.text(16, 24, "CCC on seen podcasts by transcripts, 95 % intervals", style="title")
    _legend(
        drawing, [("trained so", True, "v"), ("scored so, not trained again", False, "v"), ("the paper's", False, "m")]
    )
    limits = _limits(rows)
    for across, attribute in enumerate(ATTRIBUTES):
        axes = Axes(
            drawing=drawing, left=300 + across * 220, top=92, width=190, height=tall, across=limits,
            up=(len(keys) - 0.4, -0.6),
        )  # fmt: skip
        axes.frame(title=attribute.capitalize(), below="CCC", across=ticks(*limits, count=4))
        for place, key in enumerate(keys):
            if across == 0:
                drawing.text(290, axes.y(place) + 4, key, style="small", anchor="end")
            for row in rows:
                if (row["run"], row["attribute"]) == (key, attribute):
                    y, series = axes.y(place), SERIES[attribute]
                    _interval(axes, (row["low"], row["high"]), y, series)
                    axes.drawing.mark(axes.x(row["ours"]), y, series, solid=row["trained"], told=f"{row['ours']:.3f}")
                    if row["paper"] is not None:
                        _tick(axes, row["paper"], y)
    return drawing


def figure2(rows: Sequence[Row], encoder: str, head: str) -> Drawing:
    """Draw the weight of every layer, a line for each attribute, with the seeds' range."""
    last = max(row["layer"] for row in rows)
    order = "pooled, then summed" if head == "weighted_layers" else "summed, then pooled (the paper's order)"
    drawing = Drawing(
        720, 400, f"Importance of the layers of {encoder}",
        f"A line for each attribute over layers 0 to {last}; bars reach from the lowest to the highest seed.",
    )  # fmt: skip
    drawing.text(16, 24, f"Importance of each layer of {encoder}, frozen; {order}", style="title")
    x = 22.0
    for attribute in ATTRIBUTES:
        series = SERIES[attribute]
        drawing.line((x - 8, 44), (x + 20, 44), f"line-{series} dash-{series}")
        drawing.mark(x + 6, 44, series)
        drawing.text(x + 26, 48, attribute, style="small")
        x += 104
    high = max(row["highest"] for row in rows) * 1.08
    low = min(0.0, *(row["lowest"] for row in rows))
    axes = Axes(
        drawing=drawing, left=62, top=80, width=636, height=266, across=(-0.4, last + 0.4), up=(low, high)
    )  # fmt: skip
    axes.frame(
        below="layer (0 is the input of the first transformer layer)", beside="weight",
        across=range(last + 1), up=ticks(low, high),
    )  # fmt: skip
    even = axes.y(1 / (last + 1))
    drawing.line((axes.left, even), (axes.left + axes.width, even), "guide")
    drawing.text(axes.left + 4, even - 4, "all equal", style="muted small name")
    for place, attribute in enumerate(ATTRIBUTES):
        own = [row for row in rows if row["attribute"] == attribute]
        series, off = SERIES[attribute], (place - 1) * 4  # beside each other, so that no bar hides another
        points = [(axes.x(row["layer"]) + off, axes.y(row["weight"])) for row in own]
        drawing.path(points, f"line-{series} dash-{series}")
        for (px, py), row in zip(points, own, strict=True):
            drawing.line((px, axes.y(row["lowest"])), (px, axes.y(row["highest"])), f"line-{series}")
            drawing.mark(px, py, series, told=f"{attribute}, layer {row['layer']}: {row['weight']:.3f}")
    return drawing


def figure3(rows: Sequence[Row]) -> Drawing:
    """Draw bars of relative improvement: FT full, FT=>FRZ hollow; seen and unseen in a panel each."""
    names = list(dict.fromkeys(row["system"] for row in rows))
    shown = [side for side in paper.SIDES if any(row["partition"] == side for row in rows)]
    drawing = Drawing(
        880, 400, "Relative improvement of valence by text",
        "A panel for seen and one for unseen podcasts; for each system a full bar for FT and a hollow one for FT=>FRZ, "
        "with 95 % intervals; the paper's numbers are the small diamonds.",
    )  # fmt: skip
    drawing.text(16, 24, "Relative improvement of valence CCC over audio alone, 95 % intervals", style="title")
    drawing.box(18, 38, 12, 12, "fill-v")
    drawing.text(36, 48, "FT (both encoders fine-tuned)", style="small")
    drawing.box(218, 38, 12, 12, "open-v")
    drawing.text(236, 48, "FT=>FRZ (frozen, new head)", style="small")
    drawing.mark(424, 44, "m", solid=False, size=3)
    drawing.text(434, 48, "the paper's (FT)", style="small")
    low, high = _reach(rows)
    for number, side in enumerate(shown):
        axes = Axes(
            drawing=drawing, left=66 + number * 420, top=86, width=370, height=252, across=(0, max(1, len(names))),
            up=(low, high),
        )  # fmt: skip
        axes.frame(
            title=f"{paper.SIDES[side].capitalize()} ({side})", beside="improvement, %", up=ticks(low, high)
        )  # fmt: skip
        drawing.line((axes.left, axes.y(0)), (axes.left + axes.width, axes.y(0)), "axis")
        for place, name in enumerate(names):
            middle = axes.x(place + 0.5)
            short = label(name).partition(" + ")[0]
            drawing.text(middle, axes.top + axes.height + 34, short, style="small strong", anchor="middle")
            for off, way in ((-1, "FT"), (1, "FT=>FRZ")):
                own = [r for r in rows if (r["system"], r["partition"], r["way"]) == (name, side, way)]
                if own:
                    _bar(axes, middle + off * 24, own[0])
    return drawing


def _bar(axes: Axes, x: float, row: Row) -> None:
    """Draw one bar, 40 wide, cut where the panel ends."""
    if row["improvement"] is None:
        axes.drawing.text(x, axes.y(0) - 6, "not defined", style="muted small", anchor="middle")
        return
    low, high = axes.up
    top, bottom = sorted(axes.y(min(max(value, low), high)) for value in (100 * row["improvement"], 0.0))
    axes.drawing.box(x - 20, top, 40, max(bottom - top, 0.5), "fill-v" if row["way"] == "FT" else "open-v")
    if row["low"] is not None:
        ends = [axes.y(min(max(100 * row[key], low), high)) for key in ("low", "high")]
        axes.drawing.line((x, ends[0]), (x, ends[1]), "line-m")
        for end in ends:
            axes.drawing.line((x - 5, end), (x + 5, end), "line-m")
    if row["paper"] is not None:
        axes.drawing.mark(x, axes.y(min(max(100 * row["paper"], low), high)), "m", solid=False, size=3)
    axes.drawing.text(x, axes.top + axes.height + 16, f"{row['improvement']:+.0%}", style="small", anchor="middle")


def _reach(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the scale of improvements in per cent: all bars, and intervals up to twice the largest."""
    values = [100 * row[key] for row in rows for key in ("improvement", "paper") if row[key] is not None] or [0.0]
    ends = [100 * row[key] for row in rows for key in ("low", "high") if row[key] is not None]
    most = max([*(min(end, 2 * max(*values, 10.0)) for end in ends), *values, 10.0])
    least = min([*(max(end, -0.5 * most) for end in ends), *values, 0.0])
    return least * 1.05, most * 1.08


def _tick(axes: Axes, value: float, y: float) -> None:
    """Mark the paper's score, so that ours beneath it is still seen."""
    axes.drawing.line((axes.x(value), y - 7), (axes.x(value), y + 7), "line-m")


def _interval(axes: Axes, ends: tuple[float | None, float | None], y: float, series: str) -> None:
    low, high = ends
    if low is not None and high is not None:
        left, right = axes.across
        axes.drawing.line((axes.x(max(low, left)), y), (axes.x(min(high, right)), y), f"thin-{series}")


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the scale of CCC: all scores, and their intervals as far as 0.3 beyond them."""
    values = [row[key] for row in rows for key in ("ours", "paper") if row[key] is not None] or [0.0, 1.0]
    low, high = min(values), max(values)
    ends = [row[key] for row in rows for key in ("low", "high") if row[key] is not None]
    low, high = min([low, *(max(end, low - 0.3) for end in ends)]), max([high, *(min(end, high + 0.3) for end in ends)])
    return low - 0.02, high + 0.02


def _legend(drawing: Drawing, entries: Sequence[tuple[str, bool, str]]) -> None:
    x = 22.0
    for words, solid, series in entries:
        if series == "m":
            drawing.line((x, 37), (x, 51), "line-m")
        else:
            drawing.mark(x, 44, series, solid=solid)
        drawing.text(x + 10, 48, words, style="small")
        x += 34 + 6.4 * len(words)
