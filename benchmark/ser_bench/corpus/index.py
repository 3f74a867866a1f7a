"""What has been read from a release's many small files, kept so that each is read again only when it changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import DirEntry
from pathlib import Path
from typing import Any

from ser_bench.cache import atomic_write

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with (what is read, files done, files to read)."""
# Reading headers waits for the disk (or the network), not for the processor, so more threads than cores help.
_THREADS = 16
_BLOCK = 512
"""Files to a task and to a progress step: a task for each file costs more than the reading."""


def refresh(
    store: Path,
    files: Mapping[str, DirEntry[str]],
    read: Callable[[str], tuple[Any, ...]],
    *,
    what: str,
    progress: Progress | None,
) -> tuple[dict[str, tuple[Any, ...]], dict[str, str]]:
    """Give what ``read`` returns for each file, from ``store`` where size and time are unchanged.

    Args:
        store: JSON file in the cache; written anew, atomically, when anything in it changed.
        files: name -> where the file is.
        read: path -> a tuple of JSON values; may raise ``OSError``.
        what: named to ``progress``.
        progress: called while files are read.

    Returns:
        Results by name, and causes by name for files that cannot be read; the latter are not stored, since a fault of
        rights or of a disk leaves no trace in a file's size or time.
    """
    known = _load(store)
    stamps, causes = _stamps(files)
    stale = [name for name, stamp in stamps.items() if name not in known or known[name][:2] != stamp]
    fresh: dict[str, tuple[Any, ...]] = {}
    done = 0
    for block in _in_threads([(name, files[name].path) for name in stale], read):
        for name, result in block:
            if isinstance(result, OSError):
                causes[name] = result.strerror or str(result)
            else:
                fresh[name] = result
        done += len(block)
        if progress is not None:
            progress(what, done, len(stale))
    results = {name: fresh.get(name) or tuple(known[name][2]) for name in stamps if name not in causes}
    if fresh or len(known) != len(results):
        entries = {name: (*stamps[name], result) for name, result in results.items()}
        atomic_write(store, json.dumps(entries, separators=(",", ":")))
    return results, causes


def _load(store: Path) -> dict[str, list[Any]]:
    try:
        loaded = json.loads(store.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as cause:
        logger.warning("cannot read %s (%s); what it held is read again from the release", store, cause)
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _stamps(files: Mapping[str, DirEntry[str]]) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Give size and time (ns) of each file; one that vanished since it was listed is a cause."""
    stamps: dict[str, list[int]] = {}
    causes: dict[str, str] = {}
    for name, entry in files.items():
        try:
            status = entry.stat()
            stamps[name] = [status.st_size, status.st_mtime_ns]
        except OSError as cause:
            causes[name] = cause.strerror or str(cause)
    return stamps, causes


def _in_threads(
    files: list[tuple[str, str]], read: Callable[[str], tuple[Any, ...]]
) -> Iterator[list[tuple[str, tuple[Any, ...] | OSError]]]:
    def read_block(block: list[tuple[str, str]]) -> list[tuple[str, tuple[Any, ...] | OSError]]:
        results: list[tuple[str, tuple[Any, ...] | OSError]] = []
        for name, path in block:
            try:
                results.append((name, read(path)))
            except OSError as cause:
                results.append((name, cause))
        return results

    if files:
        iterator = iter(files)
        blocks = list(iter(lambda: list(islice(iterator, _BLOCK)), []))
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(read_block, blocks)
