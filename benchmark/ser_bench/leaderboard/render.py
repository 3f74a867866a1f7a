"""Write the leaderboard's files: README.md and the site. What did not change is not drawn again.

A manifest in the cache says of each file what it was made from (its key) and what was written (its digest). A file
whose key is the same, and that still is what was written, is left alone; one that is no longer made is removed. In the
leaderboard's own folder nothing else stays under ``site``: what lies there is what the records give.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ser_bench import records
from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.leaderboard import figures, site, table, views
from ser_bench.leaderboard.board import RECORDS
from ser_bench.leaderboard.views import Shown


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One file that rendering writes."""

    key: str
    """Digest of all that its content is made from."""
    make: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a rendering did."""

    written: tuple[Path, ...]
    """Files that are new or differ from what was there."""
    kept: int
    """Files left alone."""
    removed: tuple[Path, ...]
    """Files of before that are no longer made, and in the leaderboard's own folder all others under ``site``."""
    readme: str
    site: Path
    """The page to open."""


def render_files(leaderboard: Path, *, cache: Path | None = None) -> dict[Path, bytes]:
    """Return all files that rendering a leaderboard writes, relative to its folder, and their content.

    Everything is drawn anew: what stands on disk is not looked at.
    """
    pieces = _pieces(leaderboard, views.read(leaderboard, cache=cache))
    return {Path(name): piece.make() for name, piece in pieces.items()}


def render(leaderboard: Path, out: Path | None = None, *, cache: Path | None = None) -> Rendered:
    """Write README.md and ``site/`` from ``records/*.json`` and ``reported.csv``.

    Args:
        leaderboard: the leaderboard's folder.
        out: where the files go; the leaderboard's folder if None.
        cache: as for ``cache_root``.

    Raises:
        RecordError: there is nothing to show, or a record is malformed; nothing was written.
        StoreError: a file cannot be written.
    """
    target = out or leaderboard
    pieces = _pieces(leaderboard, views.read(leaderboard, cache=cache))
    manifest = views.kept_for(target, "files", cache)
    before = _read_manifest(manifest)
    entries, written, readme = {}, [], b""
    for name, piece in pieces.items():
        path = target / name
        content = _still_there(path, before.get(name), piece.key)
        if content is None:
            content = piece.make()
            if not path.is_file() or path.read_bytes() != content:
                atomic_write(path, content)
                written.append(path)
        entries[name] = _entry(piece, content)
        readme = content if name == "README.md" else readme
    removed = [target / name for name in sorted(before.keys() - pieces.keys()) if (target / name).is_file()]
    if target.resolve() == leaderboard.resolve():  # elsewhere, only what was written before is ours to take away
        removed = sorted({*removed, *not_rendered(target, [Path(name) for name in pieces])})
    for path in removed:
        path.unlink()
    if entries != before:
        atomic_write(manifest, json.dumps(entries))
    return Rendered(
        written=tuple(written),
        kept=len(pieces) - len(written),
        removed=tuple(removed),
        readme=readme.decode(),
        site=target / "site" / "index.html",
    )


def not_rendered(leaderboard: Path, files: Collection[Path]) -> list[Path]:
    """Return what lies in a folder of the leaderboard that rendering writes to, and is none of its files.

    Args:
        leaderboard: its folder.
        files: that rendering writes, relative to it.
    """
    expected = {leaderboard / path for path in files}
    folders = {leaderboard / path.parts[0] for path in files if len(path.parts) > 1}
    there = [path for folder in sorted(folders) if not folder.is_symlink() for path in sorted(folder.rglob("*"))]
    return [path for path in there if path not in expected and (path.is_symlink() or not path.is_dir())]


def _pieces(leaderboard: Path, board: Shown) -> dict[str, Piece]:
    """Return every file but the manifest; README.md comes last, so that it never tells of a page that is not there."""
    pieces: dict[str, Piece] = {}
    for name, content in site.assets().items():
        pieces[f"site/assets/{name}"] = _ready(content)
    pieces["site/compare.html"] = _ready(site.compare_page().encode())
    for stem, digest in board.digests.items():
        path = leaderboard / RECORDS / f"{stem}.json"
        again = tuple(board.reproductions.get(stem, ()))
        pieces[f"site/data/{stem}.js"] = _of_record(path, digest, site.data_script)
        pieces[f"site/systems/{stem}.html"] = _of_record(
            path, f"{digest} {again}", functools.partial(site.system_page, reproductions=again)
        )
    drawn: dict[str, list[str]] = {}
    for view in board.tracks:
        pieces[f"site/tables/{view.slug}.tex"] = _ready(table.latex(view).encode())
        for name, drawing in figures.of_track(view).items():
            drawn.setdefault(view.slug, []).append(name)
            base = f"site/figures/{view.slug}-{name}"
            light = drawing.alone().encode()
            pieces[f"{base}.svg"] = _ready(light)
            pieces[f"{base}-dark.svg"] = _ready(drawing.alone("dark").encode())
            pieces[f"{base}.png"] = Piece(key=_key(light), make=drawing.png)
    pieces["site/tables/board.csv"] = _ready(table.as_csv(board).encode())
    pieces["site/tables/board.json"] = _ready(table.as_json(board).encode())
    pieces["site/data/board.js"] = _ready(site.board_script(board).encode())
    pieces["site/index.html"] = _ready(site.index_page(board, drawn).encode())
    pieces["README.md"] = _ready(table.readme(board).encode())
    return pieces


def _ready(content: bytes) -> Piece:
    return Piece(key=_key(content), make=lambda: content)


def _of_record(path: Path, content: str, draw: Callable[[Mapping[str, Any], str], str]) -> Piece:
    """Return a piece that is made from one record, which is not opened unless it is drawn."""
    return Piece(key=_key(content.encode()), make=lambda: draw(_checked(path, content[:64]), path.stem).encode())


@functools.lru_cache(maxsize=1)
def _checked(path: Path, digest: str) -> records.Json:
    """Read a record that was checked before, unless it is another one by now; the pieces of one are made in turn."""
    content = records.read_content(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise RecordError(f"{path} was changed while it was rendered. Render again.")
    record: records.Json = json.loads(content)
    return record


def _key(content: bytes) -> str:
    return hashlib.sha256(views.code_digest().encode() + content).hexdigest()[:16]


def _entry(piece: Piece, content: bytes) -> list[str]:
    return [piece.key, hashlib.sha256(content).hexdigest()]


def _still_there(path: Path, entry: list[str] | None, key: str) -> bytes | None:
    """Return a file's content if it was made from the same and has not been changed since."""
    if entry is None or entry[0] != key:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == entry[1] else None


def _read_manifest(path: Path) -> dict[str, list[str]]:
    """Read what was written before; nothing where the manifest is absent or damaged: it can be made again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: entry for name, entry in found.items() if _is_entry(name, entry)} if isinstance(found, dict) else {}


def _is_entry(name: str, entry: Any) -> bool:
    """Say whether a manifest's line is one of ours: a damaged one must not lead a removal out of the site."""
    inside = name == "README.md" or (name.startswith("site/") and ".." not in PurePosixPath(name).parts)
    return inside and isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)
