"""Read files that a stranger may have written: regular, bounded, and JSON to the letter.

Nothing here follows a link, waits on a pipe, or takes more memory than a file's stated limit allows.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ser_bench.errors import RecordError

MOST_JSON_BYTES = 32 * 2**20
"""A record takes about 0.1 MB a seed."""
MOST_DEPTH = 32
"""Objects and arrays inside one another; a record has nine."""
MOST_INTEGER = 2**64
"""As large as a seed may be; counts are smaller."""
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Unicode categories that change how a line reads without being seen: controls, directions, joiners, line ends."""
_MARKUP = re.compile(
    r"<\s*[/!?a-z]|(?:javascript|vbscript)\s*:|data\s*:\s*text/html|\son[a-z]{3,20}\s*=", re.IGNORECASE
)


def read_bytes(path: Path, *, most: int, follow: bool = False) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    Args:
        path: the file.
        most: bytes.
        follow: whether the file may be a link, which a stranger's may not: it could lead anywhere.

    Raises:
        FileNotFoundError: there is none.
        RecordError: it is a link, a folder, a pipe or a device, or too large; or it cannot be read.
    """
    if "\0" in str(path):
        raise RecordError(f"{str(path)!r} has a NUL character in it, which no file's name has. Give the file's name.")
    try:
        # Without O_NONBLOCK a pipe would be waited on before it is known to be one.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "is a link" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise RecordError(f"{path} {what}; expected a regular file. Put the file itself there.") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RecordError(f"{path} is no regular file. Put the file itself there.")
        content = file.read(most + 1)
    if len(content) > most:
        raise RecordError(
            f"{path} has {max(status.st_size, len(content)):,} bytes, expected {most:,} at most; nothing that "
            "`ser-bench run` writes is as large."
        )
    return content


def parse_json(content: bytes, *, where: str) -> dict[str, Any]:
    """Parse one JSON object to the letter of the format: what Python takes beyond it, or lets pass, is refused.

    Raises:
        RecordError: not UTF-8, not JSON, not an object; NaN or an infinity; a key given twice; nested deeper than
            ``MOST_DEPTH``; a whole number beyond ``MOST_INTEGER``.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
        )
        deep = _depth(value)
    except RecursionError as error:
        raise RecordError(f"{where} is nested more than {MOST_DEPTH} deep; a record is not.") from error
    except ValueError as error:
        raise RecordError(f"{where} cannot be read as JSON ({error}). Restore it, or run again.") from error
    if deep > MOST_DEPTH:
        raise RecordError(f"{where} is nested {deep} deep, expected {MOST_DEPTH} at most; a record is not.")
    fault = not_finite(value)
    if fault is not None:
        raise RecordError(f"{where} is malformed at {fault}; JSON has no such number. Restore it, or run again.")
    if not isinstance(value, dict):
        raise RecordError(f"{where} holds a {type(value).__name__}, expected a JSON object. Restore it, or run again.")
    return value


def not_finite(value: Any, place: str = "") -> str | None:
    """Find the first NaN or infinity, which Python reads out of JSON though JSON has none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place}: {value} is not a finite number"
    if _only_numbers(value) and all(map(math.isfinite, value)):  # a record is mostly long lists of these
        return None
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found = (not_finite(inner, f"{place}/{key}".lstrip("/")) for key, inner in items)
    return next((fault for fault in found if fault is not None), None)


def strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, string) of each string in a JSON value, keys included."""
    if isinstance(value, str):
        yield place or "its top", value
        return
    if _only_numbers(value):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        below = f"{place}/{key}".lstrip("/")
        if isinstance(key, str):
            yield place or "its top", key
        yield from strings(inner, below)


def _only_numbers(value: Any) -> bool:
    return isinstance(value, list) and {type(inner) for inner in value} <= {int, float}


def text_fault(text: str) -> str | None:
    """Say what no line of text may have: characters that are not seen, or markup that a page would run."""
    for character in text:
        if unicodedata.category(character) in _HIDDEN:
            return f"it has the invisible character U+{ord(character):04X}"
    found = _MARKUP.search(text)
    return f"it has markup ({found[0].strip()!r})" if found else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} is there twice in one object")
    return made


def _integer(text: str) -> int:
    if len(text) > 21 or abs(value := int(text)) > MOST_INTEGER:
        raise ValueError(f"the whole number {text[:40]} is beyond {MOST_INTEGER}")
    return value


def _depth(value: Any) -> int:
    """Return how many objects and arrays lie inside one another, level by level, so that depth costs no stack."""
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        depth += 1
        level = [x for inner in level for x in (inner.values() if isinstance(inner, dict) else inner)]
    return depth
