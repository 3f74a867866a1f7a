"""A release to run on, a spec for it, and a starter that runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite.made import QUICK, Pretended

from ser_bench.suite import RunSpec, work
from ser_bench.testing import write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), utterances=40, seconds=(0.2, 0.4))


@pytest.fixture
def spec(release: Path) -> Callable[..., RunSpec]:
    def make(plugin: str = "logmel", **options: Any) -> RunSpec:
        given = {"corpus": str(release), "device": "cpu", "changes": QUICK}
        return RunSpec(plugin=plugin, **given | options)

    return make


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pretended]:
    def make(**options: Any) -> Pretended:
        starter = Pretended(**options)
        monkeypatch.setattr(work, "Processes", lambda: starter)
        monkeypatch.setattr(work, "POLL", 0.0)
        return starter

    return make
