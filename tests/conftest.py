"""Fixtures for all tests: the cache in a temporary folder, no network, and the project's shared folder where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Before any test module imports a hub library, which reads it once; hence not only in the fixture.
os.environ["HF_HUB_OFFLINE"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the cache at a fresh temporary folder and forbid the hub, so that no test sees another's leavings."""
    monkeypatch.setenv("SER_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder beside the checkout (stand-in release, real weights); skips where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data" / "standin").is_dir():
        pytest.skip(f"needs the project's shared folder at {folder}")
    return folder


@pytest.fixture(scope="session")
def standin(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in release, unpacked once a session; treat it as read-only."""
    folder = tmp_path_factory.mktemp("standin")
    subprocess.run([sys.executable, shared / "tools" / "expand_standin.py", folder], check=True, capture_output=True)
    return folder
