"""Where results that can be made again are kept, and how a file is written so that it is whole or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

import platformdirs

from ser_bench.errors import StoreError

CACHE_VARIABLE = "SER_BENCH_CACHE"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_root(given: Path | None = None) -> Path:
    """Return the cache folder: the given one, else ``$SER_BENCH_CACHE``, else the platform's. It may not exist yet."""
    if given is not None:
        return Path(given).expanduser()
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("ser-bench", appauthor=False))


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, also one after a crash, sees the old content or the new, never a part.

    Args:
        path: the file; its folder is made if absent.
        data: the whole content; a string is written as UTF-8 with its line ends as they are.

    Raises:
        StoreError: the disk is full (says needed and free bytes) or the file cannot be written; nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as cause:
        raise _cannot_write(path, len(content), cause) from cause
    finally:
        with contextlib.suppress(OSError):  # it is gone after a good write, and may never have been
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the folder's new entry survive a power cut, as fsync of the file alone does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(path: Path, needed: int, cause: OSError) -> StoreError:
    if cause.errno in _FULL:
        free = shutil.disk_usage(path.parent).free
        return StoreError(
            f"the disk is full: {path} needs {needed:,} bytes and {free:,} are free."
            f" Free some space, or name another folder with --cache DIR or ${CACHE_VARIABLE}."
        )
    return StoreError(
        f"cannot write {path} ({cause.strerror}). Make its folder writable, or name another one"
        f" (for the cache: --cache DIR or ${CACHE_VARIABLE})."
    )
