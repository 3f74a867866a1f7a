"""Read a release's text files: the encoding of label tables, and transcripts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Transcript(NamedTuple):
    """One transcript as read."""

    text: str
    """In one line; empty where nothing was said."""
    latin1: bool
    """Whether the file was not UTF-8."""
    lines: int
    """Lines that hold something; several are joined with a blank."""


def decode(content: bytes) -> tuple[str, bool]:
    """Decode UTF-8 with or without a byte-order mark, else latin-1; say whether it was latin-1.

    A byte-order mark has not been seen in this corpus, and one reader falls back to latin-1; both cost nothing here.
    """
    try:
        return content.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return content.decode("latin-1"), True


def read_transcript(path: str) -> Transcript:
    """Read one transcript: lines stripped and joined with a blank.

    Raises:
        OSError: the file cannot be read.
    """
    text, latin1 = decode(Path(path).read_bytes())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Transcript(" ".join(lines), latin1, len(lines))


def texts_digest(texts: Mapping[str, str]) -> str:
    """Return the SHA-256 of sorted (utterance, transcript)."""
    lines = (f"{name}\t{text}\n" for name, text in sorted(texts.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
