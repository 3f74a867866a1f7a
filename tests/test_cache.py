from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from ser_bench.cache import atomic_write, cache_root
from ser_bench.errors import StoreError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_cache_root_prefers_given_then_variable_then_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SER_BENCH_CACHE", str(tmp_path / "variable"))
    assert cache_root(tmp_path / "given") == tmp_path / "given"
    assert cache_root() == tmp_path / "variable"
    monkeypatch.delenv("SER_BENCH_CACHE")
    assert cache_root().name == "ser-bench"
    assert cache_root().is_relative_to(Path.home())


def test_atomic_write_writes_text_and_bytes_and_makes_folders(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "text.json", "grüße\r\n")
    assert (tmp_path / "a" / "text.json").read_bytes() == "grüße\r\n".encode()
    atomic_write(tmp_path / "a" / "text.json", b"\x00\x01")
    assert (tmp_path / "a" / "text.json").read_bytes() == b"\x00\x01"
    assert names(tmp_path / "a") == ["text.json"]


def test_atomic_write_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        atomic_write(tmp_path / "shared", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o644


def test_full_disk_names_the_path_and_the_bytes_and_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.json"
    atomic_write(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StoreError, match=r"the disk is full: .*store\.json needs 12,345 bytes and [\d,]+ are free"
    ) as told:
        atomic_write(path, "x" * 12_345)
    assert "--cache DIR" in str(told.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["store.json"]


def test_a_write_that_the_system_stops_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*/big \(File too large\)"):
            atomic_write(tmp_path / "big", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file/below.*Make its folder writable"):
        atomic_write(tmp_path / "file" / "below", "x")


def test_the_old_content_is_replaced_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    atomic_write(path, "old")
    (tmp_path / "reader").hardlink_to(path)  # as a reader that has the file open
    atomic_write(path, "new")
    assert path.read_text() == "new"
    assert (tmp_path / "reader").read_text() == "old"
