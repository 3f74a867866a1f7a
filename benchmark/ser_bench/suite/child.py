"""One run of a suite in a process of its own, with a log: on this machine, or within a cluster's job."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Heeds SIGINT also where the suite was started in the background, which ignores it.
_MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ser_bench.cli import main
sys.exit(main())
"""


@dataclass
class Call:
    """``ser-bench WORDS``, callable, with its output in a log.

    submitit calls it in a job, and ``checkpoint`` when the job is about to be stopped for its time or for others.
    """

    words: list[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that are set."""
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Child:
        """Start it here."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"$ {shlex.join(['ser-bench', *self.words])}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, *self.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                # Ctrl-C goes to whoever started it, who passes it on once: two would break off the saving.
                start_new_session=True,
            )
        return Child(process)

    def __call__(self) -> int:
        """Run it to its end; return the exit status."""
        child = self.start()
        self._process = child.process
        try:
            return child.process.wait()
        except KeyboardInterrupt:
            child.stop()
            return child.process.wait()
        finally:
            self._process = None

    def checkpoint(self) -> Any:
        """Let it save, and say what is to be called in the next job."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            # Not `wait`: this is called by a signal's handler, over `__call__`'s own, whose lock it would wait for.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Call(self.words, self.log, self.environment))


@dataclass
class Child:
    """A call that was started on this machine."""

    process: subprocess.Popen[bytes]
    trouble: str | None = None

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to save and end."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it."""
        self.process.kill()


class Processes:
    """Starts calls on this machine."""

    def start(self, call: Call) -> Child:
        """Start a call."""
        return call.start()


def reason(code: int, log: Path, start: int, trouble: str | None) -> str:
    """Tell why a call failed: what it said itself, else how it ended.

    Args:
        code: exit status, below 0 for a signal.
        log: of the call.
        start: bytes that the log held before.
        trouble: what befell the job around it.
    """
    try:
        with log.open("rb") as file:
            file.seek(start)
            said = file.read().decode(errors="replace")
    except OSError:
        said = ""
    errors = re.findall(r"^error: (.*)$", said, flags=re.MULTILINE)
    if errors:
        return str(errors[-1])
    if trouble is not None:
        return trouble
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name} (out of memory, if nobody did it)."
    if code == 130:
        return "it was interrupted."
    last = said.strip().splitlines()[-1:] or ["nothing was said."]
    return f"it ended with {code}: {last[0]}"
