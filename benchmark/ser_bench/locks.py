"""Who works where: folders of runs and seeds, held by one process at a time.

The system lets go of what a process held when it dies, so nothing is ever left locked. A folder itself is locked; where
a file system locks no folders, as NFS does not, a file ``.lock`` in it is.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ser_bench.errors import RecordError

log = logging.getLogger(__name__)

_GLANCE = 0.2  # seconds; `held` locks a folder for far less
_UNABLE = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that does not lock such a thing."""


@contextmanager
def hold(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep a folder to this process; the system lets go of it if the process dies.

    Args:
        folder: of a run, or of one of its seeds; made if absent, and removed again if nothing came of it.
        shared: only keep those out who want it to themselves.

    Raises:
        RecordError: another process works in it.
    """
    handle = _held(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if handle is None:  # whatever is in the folder, or not yet, is the other's
        raise RecordError(f"another process works in {folder}. Wait for it, or train other seeds in another --out.")
    try:
        yield
    finally:
        # While it is locked, and only if nothing came of it and nobody shares it.
        if not shared or _alone(handle):
            with suppress(OSError):
                folder.rmdir()
        os.close(handle)


def held(folder: Path) -> bool:
    """Tell whether a process keeps the folder to itself (``hold``)."""
    if not folder.is_dir():
        return False
    handle = _lock(folder, fcntl.LOCK_SH)
    if handle is not None:
        os.close(handle)
    return handle is None


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for this process's turn with a file that is there; others wait meanwhile."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        except OSError as error:
            _tell(path, error)
        yield


def _held(folder: Path, kind: int) -> int | None:
    """Make a folder if it is absent, and lock it; return what to close, or None where another process has it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = _lock(folder, kind, patience=_GLANCE)
        except FileNotFoundError:  # taken away just now, by one who had no use for it
            continue
        if handle is None or _still_there(folder, handle):
            return handle
        os.close(handle)  # it was taken away while it was waited for: a lock on what is gone keeps nobody out


def _still_there(folder: Path, handle: int) -> bool:
    """Tell whether what was locked is the folder, or its file, that others find under this name."""
    own = os.fstat(handle)
    for path in (folder, folder / ".lock"):
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), own):
                return True
    return False


def _alone(handle: int) -> bool:
    """Tell whether no other process shares the lock, which is then this one's alone."""
    try:
        return _locked(handle, fcntl.LOCK_EX, 0.0)
    except OSError:  # no locks here
        return True


def _lock(folder: Path, kind: int, *, patience: float = 0.0) -> int | None:
    """Lock a folder, trying for so many seconds; return what to close, or None where another process has it."""
    try:
        return _opened(folder, os.O_RDONLY, kind, patience)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    try:
        return _opened(folder / ".lock", os.O_RDWR | os.O_CREAT, kind, patience)
    except OSError as error:
        _tell(folder, error)
        return os.open(folder, os.O_RDONLY)


def _opened(path: Path, flags: int, kind: int, patience: float) -> int | None:
    handle, taken = os.open(path, flags, 0o666), False
    try:
        taken = _locked(handle, kind, patience)
        return handle if taken else None
    finally:
        if not taken:
            os.close(handle)


def _locked(handle: int, kind: int, patience: float) -> bool:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_GLANCE / 4)


def _tell(path: Path, error: OSError) -> None:
    """Go on without a lock where the file system has none, and say so."""
    if error.errno not in _UNABLE:
        raise error
    log.warning("%s is on a file system without locks: see to it that one process alone works there", path)
