"""Who works where: folders of runs and seeds, held by one process at a time.

Locked is a file ``.lock`` in the folder, since file systems that machines share (NFS) lock no folders. The system lets
go of what a process held when it dies, so nothing is ever left locked; the file may stay behind, and says nothing.
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

from ser_bench.errors import RecordError, StoreError

log = logging.getLogger(__name__)

LOCK = ".lock"
_GLANCE = 0.2  # seconds; `held` locks a folder for far less
_UNABLE = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""


@contextmanager
def hold(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep a folder to this process; the system lets go of it if the process dies.

    Args:
        folder: of a run, or of one of its seeds; made if absent, and removed again if nothing came of it.
        shared: only keep those out who want it to themselves.

    Raises:
        RecordError: another process works in it.
        StoreError: it cannot be made.
    """
    handle = _taken(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if handle is None:
        raise RecordError(f"another process works in {folder}. Wait for it, or train other seeds in another --out.")
    try:
        yield
    finally:
        _leave(folder, handle)


def held(folder: Path) -> bool:
    """Tell whether a process keeps the folder to itself (``hold``)."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(handle, fcntl.LOCK_SH, 0.0)
    except OSError as error:
        _tell(folder, error)
        return False
    finally:
        os.close(handle)


def begun(folder: Path) -> bool:
    """Tell whether anything but a lock is in a folder."""
    return folder.is_dir() and any(path.name != LOCK for path in folder.iterdir())


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for this process's turn with a file that is there; others wait meanwhile."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        except OSError as error:
            _tell(path, error)
        yield


def _taken(folder: Path, kind: int) -> int | None:
    """Lock a folder; return what to close, or None where another process has it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # who was here before has just removed it
            continue
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be worked in ({error.strerror}). Name another folder with --out."
            ) from error
        try:
            if not _locked(handle, kind, _GLANCE):
                os.close(handle)
                return None
        except OSError as error:
            _tell(folder, error)
            return handle
        if _same(handle, folder / LOCK):
            return handle
        os.close(handle)  # what was locked is no longer there: whoever had it has left


def _leave(folder: Path, handle: int) -> None:
    """Let go; remove the lock, and the folder if nothing came of it, unless somebody else holds it too."""
    try:
        alone = _locked(handle, fcntl.LOCK_EX, 0.0)
    except OSError:  # no locks here
        alone = True
    with suppress(OSError):
        if alone:
            (folder / LOCK).unlink()
            folder.rmdir()
    os.close(handle)


def _same(handle: int, path: Path) -> bool:
    """Tell whether what is open is what stands at the path."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _locked(handle: int, kind: int, patience: float) -> bool:
    """Lock what is open, trying for so many seconds."""
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
