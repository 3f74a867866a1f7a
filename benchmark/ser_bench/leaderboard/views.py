"""The whole leaderboard as read: rows, sorted into tracks and ranked.

What a record's row is made of is kept in the cache by the record's digest: checking a record against its schema and its
own resampling data takes a tenth of a second, and of 500 records one is new.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache as once
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from ser_bench import records
from ser_bench.cache import atomic_write, cache_root
from ser_bench.errors import RecordError
from ser_bench.leaderboard.board import REPORTED, Board, record_files
from ser_bench.leaderboard.rows import (
    Row,
    Standing,
    Track,
    from_record,
    read_reported,
    references,
    sides,
    standings,
    tracks,
)
from ser_bench.version import VERSION


@dataclass(frozen=True, kw_only=True)
class TrackView:
    """One track: its table's name, columns and lines."""

    track: Track
    slug: str
    """Names its files; unique on the board."""
    title: str
    sides: Sequence[tuple[str, str]]
    """(partition, word) of the sides shown."""
    standings: Sequence[Standing]
    references: Sequence[Row]
    """What people reach on these labels."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """All that a leaderboard shows."""

    rows: Sequence[Row]
    tracks: Sequence[TrackView]
    digests: Mapping[str, str]
    """Stem -> SHA-256 of the record's file, of those that stand as rows."""
    reproductions: Mapping[str, Sequence[str]]
    """Stem -> names of the records that reproduce it."""


def read(leaderboard: Path, *, cache: Path | None = None) -> Shown:
    """Read ``records/*.json`` and ``reported.csv``, check them, and rank what may be ranked.

    Args:
        leaderboard: the leaderboard's folder.
        cache: as for ``cache_root``; rows of records that were checked before come from there.

    Raises:
        RecordError: there is nothing to show, or a record is malformed.
    """
    known = _Known.open(leaderboard, cache)
    digests: dict[str, str] = {}
    found: dict[str, Row] = {}
    relations: dict[str, records.Json] = {}
    for path in record_files(leaderboard):
        digests[path.stem], found[path.stem], relations[path.stem] = known.row(path)
    known.write(set(digests.values()))
    board = Board(records=relations)
    standing = board.rows()
    rows = [dataclasses.replace(found[stem], status=one["status"]) for stem, one in standing.items()]
    rows += read_reported(leaderboard / REPORTED)
    if not rows:
        raise RecordError(
            f"{leaderboard} holds no record; expected {leaderboard / 'records'}/*.json or reported.csv. Put a run "
            "there with `ser-bench leaderboard add RUN`."
        )
    views: list[TrackView] = []
    for track, members in tracks(rows).items():
        slug = _slug(track, taken={view.slug for view in views})
        views.append(
            TrackView(
                track=track,
                slug=slug,
                title=_title(track, members),
                sides=sides(members),
                standings=standings(members),
                references=references(members),
            )
        )
    return Shown(
        rows=rows,
        tracks=views,
        digests={stem: digests[stem] for stem in standing},
        reproductions=board.reproductions,
    )


class _Known:
    """Rows of records that were read and checked before, by the digest of the file."""

    def __init__(self, path: Path, rows: dict[str, Any]) -> None:
        self._path, self._rows, self._new = path, rows, False

    @classmethod
    def open(cls, leaderboard: Path, cache: Path | None) -> _Known:
        """Open what is known of a leaderboard; nothing is if other code wrote it."""
        path = kept_for(leaderboard, "rows", cache)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rows = content["rows"] if content["code"] == code_digest() else {}
        except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: it can be made again
            rows = {}
        return cls(path, rows)

    def row(self, path: Path) -> tuple[str, Row, records.Json]:
        """Return the digest of a record's file, its row, and what it says of other records."""
        content = records.read_content(path)
        digest = hashlib.sha256(content).hexdigest()
        entry = self._rows.get(digest)
        if entry is None:
            record = records.parse(content, where=str(path))
            relation = {key: record[key] for key in ("status", "supersedes", "reproduces") if key in record}
            entry = {"row": dataclasses.asdict(from_record(record)), "relation": relation}
            self._rows[digest] = entry
            self._new = True
        plain = entry["row"]
        tuples = {name: tuple(plain[name]) for name in ("marks", "notes", "few", "words")}
        return digest, Row(**{**plain, **tuples, "stem": path.stem}), entry["relation"]

    def write(self, used: set[str]) -> None:
        if self._new:
            kept = {digest: row for digest, row in self._rows.items() if digest in used}
            atomic_write(self._path, json.dumps({"code": code_digest(), "rows": kept}))


def kept_for(folder: Path, what: str, cache: Path | None) -> Path:
    """Return the file in the cache that holds what is known of a leaderboard's folder."""
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_root(cache) / "leaderboard" / f"{place}-{what}.json"


_READERS = ("consistency.py", "interface.py", "recipes.py", "record.schema.json", "records.py", "strict.py")
_DRAWERS = ("jinja2", "markupsafe", "resvg-py", "tabulate")
"""Distributions whose versions decide what bytes come out."""


@once
def code_digest() -> str:
    """Return a digest of all that rows and pages are made by: code, schema, templates, assets, and what draws them."""
    found = hashlib.sha256(VERSION.encode())
    package = files("ser_bench")
    for folder in ("leaderboard", "leaderboard/templates", "leaderboard/assets", "leaderboard/fonts", "scoring", ""):
        for entry in sorted((package / folder).iterdir(), key=lambda entry: entry.name):
            if entry.is_file() and (folder or entry.name in _READERS):
                found.update(f"{folder}/{entry.name}\n".encode())
                found.update(entry.read_bytes())
    for name in _DRAWERS:
        found.update(f"{name} {version(name)}\n".encode())
    return found.hexdigest()


def _title(track: Track, members: Sequence[Row]) -> str:
    corpus, labels, condition, transcripts = track
    confirmed = ", ".join(sorted({row.identity for row in members} - {""}))
    known = f"labels {labels} ({confirmed})" if labels else ""
    named = [corpus, known, "" if condition == "clean" else condition]
    return ", ".join(filter(None, [*named, told_texts(transcripts)]))


def told_texts(transcripts: str) -> str:
    """Say which transcripts a track is scored on."""
    return {"human": "human transcripts", "none": "no transcripts"}.get(transcripts, f"transcripts {transcripts}")


_MOST_SLUG = 120


def _slug(track: Track, *, taken: set[str]) -> str:
    """Return a file name for a track: safe whatever a release calls itself, and not one that is taken."""
    base = "-".join(filter(None, (records.safe_name(word).strip(".") for word in track))).lower() or "track"
    if len(base) > _MOST_SLUG:  # a file name has 255 characters, and figures put more behind it
        base = f"{base[:_MOST_SLUG]}-{hashlib.sha256(json.dumps(track).encode()).hexdigest()[:8]}"
    slug, number = base, 2
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug
