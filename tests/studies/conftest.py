"""Studies in this process: a tenth of the time that children take, which have tests of their own (tests/suite)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ser_bench import cli
from ser_bench.suite import work as suites
from ser_bench.suite.child import Call
from ser_bench.testing import write_release


class Here:
    """A starter whose calls run at once, in this process."""

    def __init__(self) -> None:
        self.words: list[list[str]] = []

    def start(self, call: Call) -> Here.Worker:
        return Here.Worker(self.run(call.words))

    def run(self, words: list[str]) -> int:
        self.words.append(words)
        return cli.main(words)

    class Worker:
        trouble: str | None = None

        def __init__(self, code: int) -> None:
            self.code = code

        def poll(self) -> int:
            return self.code


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run what a study runs in this process; tells all words."""
    starter = Here()

    monkeypatch.setattr(suites, "Processes", lambda: starter)
    monkeypatch.setattr(suites, "POLL", 0.0)
    return starter


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 24, "development": 12, "test1": 72, "test2": 72}
    return write_release(tmp_path_factory.mktemp("release"), utterances=counts, seconds=(0.2, 0.3))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all studies, as a user has."""
    return tmp_path_factory.mktemp("kept")


def words(study: str, release: Path, kept: Path, out: Path, *more: Any) -> list[str]:
    """Return a quick study's words."""
    common = ["study", study, "--corpus", release, "--cache", kept, "--device", "cpu", "--seeds", 2]
    common += ["--set", "recipe.epochs=1", "recipe.batch_size=8", "--runs", out / "runs", "--out", out / study]
    return [str(word) for word in [*common, *more]]
