"""A small writer of SVG: what the figures need, the same bytes everywhere, a thousandth of a plotting library's time.

A drawing holds classes, not colours, so that one drawing serves the page (whose style sheet follows its theme), a file
that stands alone in light or dark, and the PNG. Colours are Okabe and Ito's (2008), told apart with every kind of
colour vision; shapes and dashes tell the same for print in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import as_file, files
from typing import Literal

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

_PALETTES = {
    "light": {
        "paper": "#ffffff", "ink": "#1b2128", "muted": "#59626d", "rule": "#d5d9de", "grid": "#eceef1",
        "a": "#d55e00", "v": "#0072b2", "d": "#009e73", "m": "#1b2128",
    },
    "dark": {
        "paper": "#14181d", "ink": "#e7eaee", "muted": "#a3acb7", "rule": "#3a424c", "grid": "#252b33",
        "a": "#e69f00", "v": "#56b4e9", "d": "#2fc79a", "m": "#e7eaee",
    },
}  # fmt: skip
"""Series a (vermillion), v (blue), d (bluish green), m (ink); on dark, the lighter neighbours of the same eight."""
_SHAPES = {"a": "circle", "v": "square", "d": "triangle", "m": "diamond"}
"""Series -> shape: what a print in grey tells them apart by."""


def stylesheet(theme: str) -> str:
    """Return the style of a drawing that stands alone."""
    colour = _PALETTES[theme]
    rules = [
        f".paper{{fill:{colour['paper']}}}",
        f"text{{font-family:Inter,system-ui,sans-serif;font-size:12px;fill:{colour['ink']}}}",
        f".muted{{fill:{colour['muted']}}}",
        ".title{font-family:'Inter SemiBold',Inter,system-ui,sans-serif;font-weight:600;font-size:14px}",
        ".strong{font-family:'Inter SemiBold',Inter,system-ui,sans-serif;font-weight:600}",
        ".small{font-size:10.5px}",
        f".name{{paint-order:stroke;stroke:{colour['paper']};stroke-width:3px;stroke-linejoin:round}}",
        f".axis{{stroke:{colour['rule']};stroke-width:1;fill:none}}",
        f".grid{{stroke:{colour['grid']};stroke-width:1;fill:none}}",
        f".guide{{stroke:{colour['muted']};stroke-width:1;stroke-dasharray:3 3;fill:none}}",
        *(f".line-{s}{{stroke:{colour[s]};stroke-width:1.6;fill:none}}" for s in _SHAPES),
        *(f".thin-{s}{{stroke:{colour[s]};stroke-width:1;fill:none;opacity:.55}}" for s in _SHAPES),
        *(f".fill-{s}{{fill:{colour[s]};stroke:{colour['paper']};stroke-width:.75}}" for s in _SHAPES),
        *(f".open-{s}{{fill:{colour['paper']};stroke:{colour[s]};stroke-width:1.6}}" for s in _SHAPES),
        ".dash-v{stroke-dasharray:6 3}.dash-d{stroke-dasharray:2 2.5}.dash-m{stroke-dasharray:8 3 2 3}",
    ]
    return "".join(rules)


@dataclass
class Drawing:
    """A picture under construction; y grows downwards, units are CSS pixels."""

    width: float
    height: float
    title: str
    """What it shows; read out by a screen reader."""
    description: str = ""
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, words: str, *, style: str = "", anchor: Anchor = "start", turned: bool = False
    ) -> None:
        """Write words; ``turned`` ones read upwards."""
        turn = f' transform="rotate(-90 {_n(x)} {_n(y)})"' if turned else ""
        held = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{_class(style)}{held}{turn}>{escape(words)}</text>')

    def line(self, start: Point, end: Point, style: str) -> None:
        """Draw a straight line."""
        self.path([start, end], style)

    def path(self, points: Iterable[Point], style: str, *, closed: bool = False) -> None:
        """Draw a line through points."""
        drawn = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self.parts.append(f'<path d="M{drawn}{"Z" if closed else ""}"{_class(style)}/>')

    def box(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """Draw a rectangle."""
        self.parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{_class(style)}/>')

    def mark(self, x: float, y: float, series: str, *, solid: bool = True, size: float = 4.0, told: str = "") -> None:
        """Draw a series' mark; ``told`` appears where a pointer rests on it."""
        style = f"{'fill' if solid else 'open'}-{series}"
        inner = f"<title>{escape(told)}</title>" if told else ""
        shape = _SHAPES[series]
        if shape == "circle":
            head = f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}"'
        else:
            drawn = "L".join(f"{_n(x + dx * size)} {_n(y + dy * size)}" for dx, dy in _OUTLINES[shape])
            head = f'<path d="M{drawn}Z"'
        self.parts.append(
            f"{head}{_class(style)}>{inner}</{head[1:].split()[0]}>" if inner else f"{head}{_class(style)}/>"
        )

    def alone(self, theme: str = "light") -> str:
        """Return the file that stands alone."""
        return self._svg(f"<style>{stylesheet(theme)}</style>", ' xmlns="http://www.w3.org/2000/svg"', "figure") + "\n"

    def inline(self, prefix: str) -> str:
        """Return the element for a page that has a style sheet; ``prefix`` is a word that no other element has."""
        return self._svg("", ' class="drawing"', prefix)

    def png(self, *, zoom: float = 2.0) -> bytes:
        """Return the picture as PNG, ``zoom`` pixels to a CSS pixel, in the font that ships with this package."""
        import resvg_py

        fonts = files("ser_bench") / "leaderboard" / "fonts"
        with as_file(fonts) as folder:
            return bytes(
                resvg_py.svg_to_bytes(
                    svg_string=self.alone(), zoom=zoom, skip_system_fonts=True, font_dirs=[str(folder)]
                )
            )

    def _svg(self, style: str, attributes: str, prefix: str) -> str:
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        named = f"{prefix}-title" + (f" {prefix}-desc" if self.description else "")
        words = f'<title id="{prefix}-title">{escape(self.title)}</title>'
        if self.description:
            words += f'<desc id="{prefix}-desc">{escape(self.description)}</desc>'
        paper = f'<rect class="paper" width="{_n(self.width)}" height="{_n(self.height)}"/>'
        head = f'<svg{attributes} {size} role="img" aria-labelledby="{named}">'
        return "".join([head, words, style, paper, *self.parts, "</svg>"])


_OUTLINES: dict[str, Sequence[Point]] = {
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """A panel of a drawing with a scale on each side."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    across: tuple[float, float]
    """Lowest and highest x."""
    up: tuple[float, float]
    """Lowest and highest y."""
    logarithmic: bool = False
    """Whether x is."""

    def x(self, value: float) -> float:
        """Return where a value stands across."""
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (*self.across, value))
        return self.left + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        """Return where a value stands upwards."""
        low, high = self.up
        return self.top + (high - value) / (high - low) * self.height

    def frame(
        self, *, title: str = "", below: str = "", beside: str = "", across: Sequence[float] = (),
        up: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """Draw grid, tick labels, and what the axes measure."""
        bottom, right = self.top + self.height, self.left + self.width
        for value in across:
            self.drawing.line((self.x(value), self.top), (self.x(value), bottom), "grid")
            self.drawing.text(self.x(value), bottom + 15, _tick(value), style="muted small", anchor="middle")
        for value in up:
            self.drawing.line((self.left, self.y(value)), (right, self.y(value)), "grid")
            self.drawing.text(self.left - 6, self.y(value) + 3.5, _tick(value), style="muted small", anchor="end")
        self.drawing.path([(self.left, self.top), (self.left, bottom), (right, bottom)], "axis")
        self.drawing.text(self.left, self.top - 8, title, style="strong")
        self.drawing.text(self.left + self.width / 2, bottom + 32, below, style="muted small", anchor="middle")
        self.drawing.text(
            self.left - 36, self.top + self.height / 2, beside, style="muted small", anchor="middle", turned=True
        )


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``, about ``count`` of them."""
    span = max(high - low, 1e-9) / count
    power = 10 ** math.floor(math.log10(span))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= span * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from ``low`` to ``high``, or the powers alone where these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    units = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [unit * 10.0**power for power in powers for unit in units if low <= unit * 10.0**power <= high]


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _n(value: float) -> str:
    """Spell a coordinate: a hundredth of a pixel is enough, and the same on every machine."""
    spelt = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if spelt == "-0" else spelt


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""
