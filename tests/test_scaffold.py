"""``ser-bench plugins new``: what it writes works, and bad input leaves nothing behind."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fresh import Fresh

from ser_bench import scaffold
from ser_bench.cli import main
from ser_bench.errors import PluginError, StoreError
from ser_bench.interface import KINDS, Kind

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = [
    ".github/workflows/test.yml", ".gitignore", "README.md", "pyproject.toml", "src/my_model/__init__.py",
    "src/my_model/model.py", "tests/test_contract.py",
]  # fmt: skip


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- what it writes ------------------------------------------------------------------------------------------------


def test_each_kind_installs_is_listed_and_passes_its_own_test(tmp_path: Path) -> None:
    """In an environment of its own, and without a change to this repository."""
    fresh = Fresh(tmp_path / "environment", cache=tmp_path / "cache")
    for kind in KINDS:
        fresh.run(["ser-bench", "plugins", "new", f"new-{kind}", "--kind", kind], folder=tmp_path)
    folders = [f"./new-{kind}" for kind in KINDS]
    fresh.run(["pip", "install", *folders], folder=tmp_path)
    listed = fresh.run(["ser-bench", "plugins", "list", "--no-count"], folder=tmp_path).stdout.splitlines()
    shown = {tuple(line.split()[:2]) for line in listed if line.split()[-1] == "ok" and " new-" in line}
    expected = {(kind, f"new-{kind}") for kind in KINDS} | {("system", f"new-{kind}") for kind in KINDS}
    assert shown == expected
    # Four files of the same name: as one run, for speed.
    done = fresh.run(["pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *folders], folder=tmp_path)
    assert f"{len(expected)} passed" in done.stdout
    for kind in KINDS:  # what another distribution brings is told by its absence, too
        assert everything(tmp_path / f"new-{kind}")


def test_a_test_without_its_distribution_installed_fails(tmp_path: Path) -> None:
    scaffold.write("my_model", folder=tmp_path / "it")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "it"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "my-model offers nothing. Install it (`pip install --editable .`)" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_tidy(kind: Kind, tmp_path: Path) -> None:
    """By what this repository keeps, but for its own rules on imports, their order, and tests."""
    written = scaffold.write("my_model", kind=kind, folder=tmp_path / "it")
    text = "".join((written.folder / path).read_text() for path in written.files)
    assert "$" not in text.replace("$schema", "")
    settings = ["--config", str(REPOSITORY / "pyproject.toml"), "--no-cache", str(tmp_path / "it")]
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["format", "--check"], ["check", "--ignore", "TID253,S101,D103,I001"]):
        done = subprocess.run([*ruff, *words, *settings], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_json_tells_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "my_model", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert sorted(told.pop("files")) == FILES == everything(tmp_path / "my_model")
    assert told == {
        "folder": "my_model",
        "distribution": "my-model",
        "module": "my_model",
        "plugins": ["audio:my_model", "system:my_model"],
    }


def test_what_to_do_next_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "some where"
    assert main(["plugins", "new", "mine", "--kind", "system", "--out", str(where)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert str(where / "src/mine/__init__.py") in lines
    assert lines[-4:] == [
        f"{where} offers system:mine. To install it, check it, and run it:",
        f"  pip install --editable '{where}'",
        "  ser-bench plugins check system:mine",
        "  ser-bench run --plugin mine --corpus demo",
    ]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    written = scaffold.write("a.b-c", kind="head", folder=tmp_path / "it")
    assert (written.distribution, written.module) == ("a-b-c", "a_b_c")
    assert (tmp_path / "it/src/a_b_c/model.py").is_file()
    assert everything(tmp_path) == sorted(f"it/{path.as_posix()}" for path in written.files)


# --- bad input -----------------------------------------------------------------------------------------------------

LONG = "a" * 65


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("My Model", "audio", r"^a plugin cannot be called 'My Model': a new one has .* Did you mean 'my_model'\?$"),
        ("", "audio", r"^a plugin cannot be called '': a new one has .* ends with a letter or digit\.$"),
        ("2fast", "audio", r"^a plugin cannot be called '2fast': .* starts with a letter .* Did you mean 'fast'\?$"),
        ("mine_", "audio", r"^a plugin cannot be called 'mine_': .* Did you mean 'mine'\?$"),
        ("../mine", "audio", r"^a plugin cannot be called '\.\./mine': .* Did you mean 'mine'\?$"),
        (LONG, "audio", rf"^a plugin cannot be called '{LONG}': a new one has 1 to 64 of a-z"),
        ("class", "audio", r"^'class' would name the Python package 'class', which is a word of Python's"),
        ("json", "text", r"^'json' would name the Python package 'json', which is in Python's stand"),
        ("logmel", "audio", r"^audio 'logmel' is offered by ser-bench \S+ already\. Choose another name, or uninstall"),
        ("logmel", "head", r"^system 'logmel' is offered by ser-bench \S+ already\. Choose another name, or uninstall"),
        ("ser-bench", "head", r"^a distribution 'ser-bench' is installed already \(\S+\)\. Choose another"),
        ("ser_bench_plugins", "head", r"^'ser_bench_plugins' would name the Python package '.*', and there is one \("),
    ],
)  # fmt: skip
def test_a_name_that_will_not_do_is_refused(name: str, kind: Kind, said: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=said):
        scaffold.write(name, kind=kind, folder=tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it/precious").write_text("1")
    with pytest.raises(
        PluginError, match=r"it is there and not empty; a new plugin goes into a new folder\. Name one, "
    ):
        scaffold.write("my_model", folder=tmp_path / "it")
    with pytest.raises(PluginError, match=r"precious is a file; .* such as --out .*precious-new\.$"):
        scaffold.write("my_model", folder=tmp_path / "it/precious")
    assert everything(tmp_path) == ["it/precious"]


def test_where_nothing_can_be_written_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("1")
    where = tmp_path / "file" / "it"
    assert main(["plugins", "new", "my_model", "--out", str(where)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"error: cannot write {where} (Not a directory). Name a folder that can be written with --out DIR.\n"
    )


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(path: Path, *args: Any, **kwargs: Any) -> int:
        if path.name == "model.py":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match=r"^cannot write .*it \(No space left on device\)\. Name a folder"):
        scaffold.write("my_model", folder=tmp_path / "it")
    assert list(tmp_path.iterdir()) == []
