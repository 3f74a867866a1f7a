"""Show how far long work is: a bar on a terminal, a plain line now and then elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

LINE_EVERY = 10.0  # seconds between plain lines: readable in a log file, and a sign of life


class Reporter:
    """Called with (what, done, total); one bar or one series of lines for each ``what``.

    With ``unit="audio"`` both are seconds of audio, and hours, speed and the time left are shown.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to ``stream``, or stderr."""
        self._stream = stream or sys.stderr
        self._bar: Any = None
        self._what = ""
        self._told = 0.0
        self._began = (0.0, 0)

    def __call__(self, what: str, done: int, total: int, *, unit: str = "") -> None:
        """Show that ``done`` of ``total`` is done."""
        now = time.monotonic()
        if what != self._what:
            self._began = (now, done)
        if self._stream.isatty():
            self._draw(what, done, total, unit)
        elif done >= total or now - self._told > LINE_EVERY:
            shown = self._audio(done, total, now) if unit == "audio" else f"{done:,}/{total:,}"
            print(f"{what}: {shown}", file=self._stream, flush=True)
            self._told = now
        self._what = what

    def close(self) -> None:
        """End the bar, if one is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _audio(self, done: int, total: int, now: float) -> str:
        """Tell hours done, speed and the time left of seconds of audio."""
        began, before = self._began
        hours = f"{done / 3600:.2f} of {total / 3600:.2f} h of audio"
        if done == before or now <= began:
            return hours
        speed = (done - before) / (now - began)
        return f"{hours}, {speed:.1f} x real time, {clock((total - done) / speed)} left"

    def _draw(self, what: str, done: int, total: int, unit: str) -> None:
        if self._bar is None or what != self._what:
            from tqdm import tqdm

            self.close()
            shape = "{desc}: {percentage:3.0f}%|{bar}| {postfix}" if unit == "audio" else None
            self._bar = tqdm(total=total, desc=what, file=self._stream, dynamic_ncols=True, bar_format=shape)
        self._bar.total = total
        if unit == "audio":
            self._bar.set_postfix_str(self._audio(done, total, time.monotonic()), refresh=False)
        self._bar.update(done - self._bar.n)


def clock(seconds: float) -> str:
    """Return a duration as ``h:mm:ss`` or ``mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
