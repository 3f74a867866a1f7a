"""Let an interruption wait until there is something to resume from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what a cluster sends before it takes a machine back


class Stop:
    """While it is entered, an interruption is kept as a wish; a second one acts at once.

    Under a launcher the second one waits too: launchers pass on what the terminal has already sent. Outside the main
    thread, where Python allows no handlers, it changes nothing.
    """

    def __init__(self, *, launched: bool = False) -> None:
        self.asked = False
        self._launched, self._at_once = launched, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Act on an interruption immediately: what happens inside loses nothing that is not repeated."""
        self._at_once = not self._launched
        try:
            if self.asked and self._at_once:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _hear(self, number: int, frame: object) -> None:
        if self._at_once or (self.asked and not self._launched):
            raise KeyboardInterrupt
        self.asked = True
