"""Show how far long work is: a bar on a terminal, a plain line now and then elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

LINE_EVERY = 10.0  # seconds between plain lines: readable in a log file, and a sign of life


class Reporter:
    """Called with (what, done, total); one bar or one series of lines for each ``what``."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to ``stream``, or stderr."""
        self._stream = stream or sys.stderr
        self._bar: Any = None
        self._what = ""
        self._told = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` is done."""
        if self._stream.isatty():
            self._draw(what, done, total)
        elif done >= total or time.monotonic() - self._told > LINE_EVERY:
            print(f"{what}: {done:,}/{total:,}", file=self._stream, flush=True)
            self._told = time.monotonic()
        self._what = what

    def close(self) -> None:
        """End the bar, if one is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _draw(self, what: str, done: int, total: int) -> None:
        if self._bar is None or what != self._what:
            from tqdm import tqdm

            self.close()
            self._bar = tqdm(total=total, desc=what, file=self._stream, dynamic_ncols=True)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
