"""What a leaderboard held at the commit that a change is to land on: published files only grow.

Files are compared with git's own digests of their content, so that no setting of the checkout (attributes, filters, an
index that looks away) can hide an edit; and no commit that led here may have edited or taken one away, so that no two
steps can do what one may not.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ser_bench.errors import RecordError
from ser_bench.leaderboard.board import PREDICTIONS, RECORDS, REPORTED

_BRANCHES = ("origin/HEAD", "origin/main", "main", "origin/master", "master")
_SECONDS = 120
_COMMIT = "commit "
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""What a hook is told of another repository."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The records, predictions and reported results of a commit."""

    commit: str
    """The merge base, 40 or 64 hex digits."""
    leaderboard: Path
    blobs: dict[str, tuple[str, str]]
    """Path under the leaderboard -> mode and digest, of records and predictions."""
    reported: tuple[str, ...] = ()
    """Lines of the reported results."""
    rewritten: tuple[tuple[str, str], ...] = ()
    """(path under the leaderboard, commit) of records and predictions that a commit up to HEAD edited or took away."""
    shallow: bool = False
    """Whether the checkout lacks history, which then was not looked at."""

    @cached_property
    def states(self) -> dict[str, str]:
        """For each published file: empty where it is as it was, else what happened to it."""
        return {name: self._state(self.leaderboard / name, *blob) for name, blob in self.blobs.items()}

    @property
    def unchanged(self) -> frozenset[Path]:
        """Files that are there byte for byte."""
        return frozenset(self.leaderboard / name for name, state in self.states.items() if not state)

    def faults(self, leaderboard: Path) -> Iterator[tuple[str, str]]:
        """Yield (file, what is wrong) of published files that are not as they were, or were not all the time."""
        for name, state in self.states.items():
            if state:
                yield name, f"was published and is {state}. Restore it; what is wrong is superseded, never edited."
        for name, commit in self.rewritten:
            yield (
                name,
                f"was edited or taken away by commit {commit[:12]}. Files only grow: join the commits of the change "
                "into one that adds what is to stay (git rebase -i).",
            )
        there = self._lines()
        missing = [line for line in self.reported if line not in there]
        if missing:
            yield (
                REPORTED,
                f"lacks {len(missing):,} lines that were published (first: {missing[0][:80]!r}). Restore them; results "
                "are added, never edited.",
            )

    def _lines(self) -> frozenset[str]:
        try:
            return frozenset((self.leaderboard / REPORTED).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError):
            return frozenset()

    def _state(self, path: Path, mode: str, digest: str) -> str:
        if path.is_symlink() or not path.is_file() or mode not in ("100644", "100755"):
            return "taken away" if not path.exists() else "another kind of file"
        content = path.read_bytes()
        algorithm = "sha1" if len(digest) == 40 else "sha256"
        made = hashlib.new(algorithm, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return "" if made == digest else "edited"


def at_base(leaderboard: Path, base: str | None) -> Published | None:
    """Return what was published at the merge base with ``base``; None where there is no git repository.

    Raises:
        RecordError: there is one, and git cannot tell; or ``base`` was given, and there is none.
    """
    folder = leaderboard.resolve()
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        if base is None:
            return None
        raise RecordError(f"--base {base} was given, and {leaderboard} is in no git checkout. Leave it out.")
    top = Path(_Git(folder)("rev-parse", "--show-toplevel"))
    git = _Git(top)
    if not git("rev-list", "--all", "--max-count=1"):
        return None  # nothing was ever committed
    shallow = git("rev-parse", "--is-shallow-repository") == "true"
    commit = _merge_base(git, base, shallow=shallow)
    inside = folder.relative_to(top)
    places = [str(inside / part) for part in (RECORDS, PREDICTIONS)]
    blobs = _blobs(git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *places), inside)
    _, reported = _blobs(git("ls-tree", "-z", "--full-tree", commit, "--", str(inside / REPORTED)), inside).get(
        REPORTED, ("", "")
    )
    return Published(
        commit=commit,
        leaderboard=leaderboard,
        blobs=blobs,
        reported=tuple(git("cat-file", "blob", reported).splitlines()) if reported else (),
        rewritten=_rewritten(git, inside, places),
        shallow=shallow,
    )


def _merge_base(git: _Git, base: str | None, *, shallow: bool) -> str:
    """Return the commit that the checkout shares with what it is to land on.

    Where no branch of a usual name is there, that is HEAD itself, if all that led to it is: its history tells the rest.
    """
    names = [base] if base is not None else _BRANCHES
    known = [name for name in names if not name.startswith("-") and git.perhaps("rev-parse", "--verify", "-q", name)]
    if base is None and not known and not shallow:
        known = ["HEAD"]
    for name in known:
        commit = git.perhaps("merge-base", name, "HEAD")
        if commit:
            return commit
    of = f"{base} and this checkout have" if base is not None else f"this checkout has with {', '.join(_BRANCHES)}"
    common = f"git finds no commit that {of} in common"
    raise RecordError(
        f"{common}. Name a branch that there is (--base), and fetch its history (a shallow clone has none: in CI, "
        "fetch-depth 0)."
    )


def _blobs(listed: str, inside: Path) -> dict[str, tuple[str, str]]:
    """Read what ``ls-tree -z`` lists: path under the leaderboard -> mode and digest."""
    found = {}
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        mode, _, digest = about.split()
        found[str(Path(path).relative_to(inside))] = (mode, digest)
    return found


def _rewritten(git: _Git, inside: Path, places: list[str]) -> tuple[tuple[str, str], ...]:
    """Return what any commit up to HEAD edited or took away, merges against each of their parents."""
    told = git(
        "log", "--full-history", "--diff-merges=separate", "--diff-filter=MDT", "--no-renames", "--no-relative",
        "--no-show-signature", "--no-color", f"--format={_COMMIT}%H", "--name-only", "HEAD", "--", *places,
    )  # fmt: skip
    found, commit = [], ""
    for line in filter(None, told.splitlines()):
        if line.startswith(_COMMIT):
            commit = line.removeprefix(_COMMIT)
        else:
            found.append((line.removeprefix(f"{inside}/"), commit))
    return tuple(found)


class _Git:
    """Asks git about the checkout that a folder is in, whatever the environment says of another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *words: str) -> str:
        """Return what git prints.

        Raises:
            RecordError: git is not there, or refuses to answer.
        """
        done = self._run(*words)
        if isinstance(done, str):
            told = done
        elif done.returncode == 0:
            return str(done.stdout).rstrip("\n")
        else:
            told = " ".join(str(done.stderr).split())[:300]
        raise RecordError(
            f"git cannot tell what was published ({words[0]}: {told}), so that nothing says that files only grew. "
            "Correct what git says, install it where it is missing, or check a copy of the folder outside of git."
        )

    def perhaps(self, *words: str) -> str | None:
        """Return what git prints; None if it fails."""
        done = self._run(*words)
        return None if isinstance(done, str) or done.returncode else str(done.stdout).rstrip("\n")

    def _run(self, *words: str) -> subprocess.CompletedProcess[str] | str:
        """Run git; returns what is wrong if it does not run."""
        kept = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
        try:
            return subprocess.run(
                ["git", "--no-replace-objects", "-c", "core.quotePath=false", "-C", str(self._folder), *words],
                capture_output=True,
                check=False,
                timeout=_SECONDS,
                encoding="utf-8",
                env=kept | {"LC_ALL": "C"},
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
            return str(error)
