"""Figures: they show what the records say, alike everywhere, in a form that a browser and a printer take."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import made_up_board
import pytest

from ser_bench import records
from ser_bench.leaderboard import figures, views
from ser_bench.leaderboard.svg import Axes, Drawing, log_ticks, stylesheet, ticks
from ser_bench.leaderboard.views import TrackView

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> TrackView:
    """The track with human transcripts and clean audio."""
    folder = tmp_path_factory.mktemp("board")
    made_up_board.write(folder)
    shown = views.read(folder, cache=folder / "cache")
    return next(
        one for one in shown.tracks if one.track[0] == "MSP-Podcast 1.10" and one.track[2:] == ("clean", "human")
    )


def parsed(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.alone())


def words(drawing: Drawing) -> list[str]:
    return [element.text or "" for element in parsed(drawing).iter(f"{SVG}text")]


def told(drawing: Drawing) -> list[str]:
    """What pointers find on marks."""
    return [element.text or "" for element in parsed(drawing).iter(f"{SVG}title")][1:]


def test_every_track_figure_is_drawn_and_named(view: TrackView) -> None:
    drawn = figures.of_track(view)
    assert list(drawn) == ["seen-unseen", "size-valence", "drop"]
    for drawing in drawn.values():
        root = parsed(drawing)
        assert root.get("role") == "img"
        assert (root.find(f"{SVG}title").text or "").endswith(view.title)
        width, height = float(root.get("width")), float(root.get("height"))
        for element in root.iter(f"{SVG}text"):
            assert 0 <= float(element.get("x")) <= width, element.text
            assert 0 <= float(element.get("y")) <= height, element.text


def test_seen_against_unseen_shows_every_row_in_every_panel(view: TrackView) -> None:
    drawing = figures.seen_against_unseen(view)
    assert drawing is not None
    rows = [one.row for one in view.standings]
    for row in rows:
        cells = row.cells["test1"]["mean"], row.cells["test2"]["mean"]
        assert f"{row.label}: {cells[0]['mean']:.3f} seen, {cells[1]['mean']:.3f} unseen" in told(drawing)
    assert len(told(drawing)) == 4 * len(rows)
    assert {"Arousal", "Valence", "Dominance", "Mean", "seen CCC", "unseen CCC"} <= set(words(drawing))
    assert "hollow: reported by its authors" in words(drawing)


def test_the_pareto_front_holds_what_no_smaller_row_reaches() -> None:
    points = [(3.0, 50.0, None, None), (1.0, 90.0, None, None), (2.0, 40.0, None, None), (4.0, 40.0, None, None),
              (5.0, 10.0, None, None)]  # fmt: skip
    assert [point[0] for point in figures._front(points)] == [1.0, 2.0, 5.0]  # type: ignore[arg-type]


def test_rows_that_are_not_ranked_have_no_place_in_the_front(view: TrackView) -> None:
    drawing = figures.size_against_valence(view)
    assert drawing is not None
    assert not [line for line in told(drawing) if line.startswith("tiny_one")]
    assert [line for line in told(drawing) if line.startswith("logmel_words: 0.131 M, valence")]


def test_the_drop_is_the_difference(view: TrackView) -> None:
    drawing = figures.drop(view)
    assert drawing is not None
    expected = []
    for row in (one.row for one in view.standings):
        for attribute in figures.ATTRIBUTES:
            lost = round(row.cells["test1"][attribute]["mean"] - row.cells["test2"][attribute]["mean"], 2) + 0.0
            expected.append(f"{lost:.2f}".replace("-", "\N{MINUS SIGN}"))
    elements = [
        element for element in parsed(drawing).iter(f"{SVG}text") if element.get("text-anchor") is None
    ]  # no ticks
    shown = [word for one in elements if re.fullmatch("\N{MINUS SIGN}?[0-9][.][0-9]{2}", word := one.text or "")]
    assert sorted(shown) == sorted(expected)


def test_calibration_and_layers_are_means_over_seeds() -> None:
    record = made_up_board.record("one", strategy="frozen", seeds=(1, 2))
    drawing = figures.calibration(record)
    assert drawing is not None
    # Labels of the seeds differ by 0.01; the mean stands in the middle, rounded to two digits.
    assert "arousal: predicted 3.00, labelled 3.30" in told(drawing)
    assert len(told(drawing)) == 2 * 3 * 4
    layers = figures.layer_weights(record)
    assert layers is not None
    bars = [element for element in parsed(layers).iter(f"{SVG}rect") if element.get("class") == "fill-a"]
    heights = [float(bar.get("height")) for bar in bars]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 2.05, 3, 4], rel=1e-3)


def test_what_is_not_there_is_not_drawn(view: TrackView) -> None:
    record = made_up_board.record("one")
    assert figures.layer_weights(record) is None
    for run in record["runs"]:
        for scores in run["scores"].values():
            scores["calibration"] = dict.fromkeys(scores["calibration"])
    assert figures.calibration(record) is None
    empty = views.TrackView(**{**vars(view), "standings": []})
    assert figures.of_track(empty) == {}


def test_layers_that_would_not_fit_are_not_drawn() -> None:
    record = made_up_board.record("one")
    record["runs"][0]["layer_weights"] = {"audio": [0.1] * 500}
    assert figures.layer_weights(record) is None


def test_the_bytes_are_the_same_again(view: TrackView) -> None:
    for name, drawing in figures.of_track(view).items():
        again = figures.of_track(view)[name]
        assert drawing.alone() == again.alone()
        assert drawing.png() == again.png()


def test_png_is_what_the_svg_says(view: TrackView) -> None:
    drawing = figures.of_track(view)["drop"]
    content = drawing.png(zoom=2)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (2 * drawing.width, 2 * drawing.height)


def test_text_is_drawn_with_the_font_that_ships() -> None:
    """Without a font of the machine: a PNG with words differs from one without."""
    blank, written = Drawing(60, 20, "one"), Drawing(60, 20, "one")
    written.text(4, 14, "words")
    assert written.png() != blank.png()
    bold = Drawing(60, 20, "one")
    bold.text(4, 14, "words", style="strong")
    assert bold.png() != written.png()


def test_a_title_tells_of_intervals_where_there_are_some(view: TrackView) -> None:
    assert "with 95 % intervals" in words(figures.of_track(view)["drop"])[0]
    reported = [one for one in view.standings if one.row.status == "reported"]
    alone = views.TrackView(**{**vars(view), "standings": reported})
    assert all("intervals" not in words(drawing)[0] for drawing in figures.of_track(alone).values())


def test_hostile_words_are_escaped() -> None:
    drawing = Drawing(10, 10, made_up_board.HOSTILE, made_up_board.HOSTILE)
    drawing.text(0, 0, made_up_board.HOSTILE)
    drawing.mark(0, 0, "a", told=made_up_board.HOSTILE)
    for spelt in (drawing.alone(), drawing.inline("one")):
        assert "<script" not in spelt
        assert "<img" not in spelt
    assert words(drawing) == [made_up_board.HOSTILE]


def test_shapes_and_dashes_tell_series_apart_without_colour() -> None:
    drawing = Drawing(10, 10, "marks")
    for series in "avdm":
        drawing.mark(5, 5, series)
    outlines = [re.sub(r' class="[^"]*"', "", part) for part in drawing.parts]
    assert len(set(outlines)) == 4
    assert len(set(re.findall(r"stroke-dasharray:([\d. ]+)", stylesheet("light")))) >= 4


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_stand_out(theme: str) -> None:
    """3:1 for marks and lines, 4.5:1 for words (WCAG 2.2, 1.4.11 and 1.4.3)."""
    style = stylesheet(theme)

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(colour: str) -> float:
        one, other = sorted((luminance(colour), luminance(paper)))
        return (other + 0.05) / (one + 0.05)

    paper = re.search(r"\.paper\{fill:(#\w{6})", style)[1]  # type: ignore[index]
    for series in "avdm":
        assert contrast(re.search(rf"\.line-{series}\{{stroke:(#\w{{6}})", style)[1]) >= 3  # type: ignore[index]
    assert contrast(re.search(r"\.muted\{fill:(#\w{6})", style)[1]) >= 4.5  # type: ignore[index]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.1, 0.33, [-0.1, 0, 0.1, 0.2, 0.3]),
        (0.51, 0.52, [0.51, 0.512, 0.514, 0.516, 0.518, 0.52]),
        (1, 7, [2, 4, 6]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_log_ticks() -> None:
    assert log_ticks(8, 300) == [10, 20, 50, 100, 200]
    assert log_ticks(0.01, 1e5) == [10.0**power for power in range(-2, 6)]


def test_axes_put_values_where_they_belong() -> None:
    axes = Axes(
        drawing=Drawing(1, 1, ""), left=10, top=20, width=100, height=50, across=(1, 100), up=(0, 2), logarithmic=True
    )
    assert (axes.x(1), axes.x(10), axes.x(100)) == pytest.approx((10, 60, 110))
    assert (axes.y(0), axes.y(1), axes.y(2)) == pytest.approx((70, 45, 20))


def test_names_do_not_lie_on_each_other() -> None:
    drawing = Drawing(300, 300, "")
    axes = Axes(drawing=drawing, left=0, top=0, width=300, height=300, across=(0, 1), up=(0, 1))
    points = [(150.0, 150.0 + i) for i in range(12)]
    figures._name_points(axes, [(x, y, f"system number {i}") for i, (x, y) in enumerate(points)], points)
    boxes = []
    for part in drawing.parts:
        x, y = (float(re.search(rf' {key}="([\d.]+)"', part)[1]) for key in "xy")  # type: ignore[index]
        boxes.append((x, y - 9, x + 80, y + 2))
    assert 2 <= len(boxes) < 12
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if figures._overlap(one, other)]


def test_records_are_read_as_they_are(tmp_path: Path) -> None:
    """What a figure is made from survives the way through the file."""
    made = made_up_board.record("one")
    (tmp_path / "r.json").write_text(records.canonical(made), encoding="utf-8")
    back = records.read(tmp_path / "r.json")
    assert figures.calibration(back).alone() == figures.calibration(made).alone()  # type: ignore[union-attr]
