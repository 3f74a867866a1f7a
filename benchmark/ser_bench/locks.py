"""Who works where: folders of runs and seeds, held by one process at a time.

The system lets go of what a process held when it dies, so nothing is ever left locked.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ser_bench.errors import RecordError

_GLANCE = 0.2  # seconds; `held` locks a folder for far less


@contextmanager
def hold(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep a folder to this process; the system lets go of it if the process dies.

    Args:
        folder: of a run, or of one of its seeds; made if absent, and removed again if nothing came of it.
        shared: only keep those out who want it to themselves.

    Raises:
        RecordError: another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _locked(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, patience=_GLANCE):
            raise RecordError(f"another process works in {folder}. Wait for it, or train other seeds in another --out.")
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()  # only if nothing came of it


def held(folder: Path) -> bool:
    """Tell whether a process keeps the folder to itself (``hold``)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for this process's turn with a file that is there; others wait meanwhile."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locked(handle: int, kind: int, *, patience: float = 0.0) -> bool:
    """Lock a file or folder, trying for so many seconds; return whether that went well."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_GLANCE / 4)
