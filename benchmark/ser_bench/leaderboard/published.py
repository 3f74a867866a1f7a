"""What a leaderboard held at the commit that a change is to land on: published files only grow.

Files are compared with git's own digests of their content, so that no setting of the checkout (attributes, filters, an
index that looks away) can hide an edit.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ser_bench.errors import RecordError
from ser_bench.leaderboard.board import PREDICTIONS, RECORDS

_BRANCHES = ("origin/HEAD", "origin/main", "main", "origin/master", "master")
_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Published:
    """The records and predictions of a commit."""

    commit: str
    """The merge base, 40 or 64 hex digits."""
    leaderboard: Path
    blobs: dict[str, tuple[str, str]]
    """Path under the leaderboard -> mode and digest."""

    @cached_property
    def states(self) -> dict[str, str]:
        """For each published file: empty where it is as it was, else what happened to it."""
        return {name: self._state(self.leaderboard / name, *blob) for name, blob in self.blobs.items()}

    @property
    def unchanged(self) -> frozenset[Path]:
        """Files that are there byte for byte."""
        return frozenset(self.leaderboard / name for name, state in self.states.items() if not state)

    def faults(self, leaderboard: Path) -> Iterator[tuple[str, str]]:
        """Yield (file, what is wrong) of published files that are not as they were."""
        for name, state in self.states.items():
            if state:
                yield name, f"was published and is {state}. Restore it; what is wrong is superseded, never edited."

    def _state(self, path: Path, mode: str, digest: str) -> str:
        if path.is_symlink() or not path.is_file() or mode not in ("100644", "100755"):
            return "taken away" if not path.exists() else "another kind of file"
        content = path.read_bytes()
        algorithm = "sha1" if len(digest) == 40 else "sha256"
        made = hashlib.new(algorithm, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return "" if made == digest else "edited"


def at_base(leaderboard: Path, base: str | None) -> Published | None:
    """Return what was published at the merge base with ``base``; None where there is no git to ask.

    Raises:
        RecordError: ``base`` was given, and git cannot tell.
    """
    folder = leaderboard.resolve()
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        if base is None:
            return None
        raise RecordError(f"--base {base} was given, and {leaderboard} is in no git checkout. Leave it out.")
    names = [base] if base is not None else _BRANCHES
    commits = (_git(folder, "merge-base", name, "HEAD") for name in names if not name.startswith("-"))
    commit = next((found for found in commits if found), None)
    if commit is None:
        if base is None:
            return None
        raise RecordError(
            f"git finds no commit that {base} and this checkout have in common. Name a branch that there is, and fetch "
            "its history (a shallow clone has none: in CI, fetch-depth 0)."
        )
    return Published(commit=commit, leaderboard=leaderboard, blobs=_blobs(folder, Path(top), commit))


def _blobs(folder: Path, top: Path, commit: str) -> dict[str, tuple[str, str]]:
    inside = folder.relative_to(top)
    places = [str(inside / part) for part in (RECORDS, PREDICTIONS)]
    listed = _git(top, "ls-tree", "-r", "-z", "--full-tree", commit, "--", *places)
    found = {}
    for line in filter(None, (listed or "").split("\0")):
        about, _, path = line.partition("\t")
        mode, _, digest = about.split()
        found[str(Path(path).relative_to(inside))] = (mode, digest)
    return found


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints; None if it is not there or fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, check=False, timeout=_SECONDS, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
