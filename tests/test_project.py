"""The project agrees with itself: documents, version, size of modules, entry points, and nothing of a machine in it."""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

import ser_bench
from ser_bench import cli
from ser_bench.host import Host
from ser_bench.leaderboard.render import render_files
from ser_bench.version import VERSION

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted(path for root in ("benchmark", "plugins") for path in (REPOSITORY / root).rglob("*.py"))
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs")


def files() -> list[Path]:
    """Return what git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    return [path for name in listed if name and (path := REPOSITORY / name).is_file()]


def commands() -> list[tuple[str, str]]:
    """Return (document, command) for each `ser-bench ...` in a code block."""
    found = []
    paths = [p for name in DOCUMENTS for p in sorted((REPOSITORY / name).rglob("*.md"))]
    for path in [*(REPOSITORY / name for name in DOCUMENTS if (REPOSITORY / name).is_file()), *paths]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            parts = re.split(r"\n| && |; ", re.sub(r" #.*", "", block))
            lines = [line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in parts]
            found += [(path.name, line) for line in lines if line.startswith("ser-bench ")]
    return found


def test_readme_shows_commands() -> None:
    shown = [line for document, line in commands() if document == "README.md"]
    assert any(line.startswith("ser-bench run --plugin") for line in shown)
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


def test_documented_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is parsed by the real command line, with its options."""
    parser = cli._parser()
    for document, line in commands():
        words = shlex.split(re.split(r" [|>&] ", line)[0])[1:]
        try:
            parsed = parser.parse_args(words)
        except SystemExit as stopped:
            assert stopped.code == 0, f"{document}: `{line}` is refused: {capsys.readouterr().err}"
            continue
        assert isinstance(parsed, argparse.Namespace)


def test_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    text = "".join((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)$", text, flags=re.MULTILINE))
    assert {one or other for one, other in named} <= targets
    assert {"demo", "test"} <= targets


def test_links_inside_the_project_lead_somewhere() -> None:
    for path in (path for path in files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


def test_one_version_everywhere() -> None:
    assert VERSION == ser_bench.__version__ == importlib.metadata.version("ser-bench")
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf'^version: "?{re.escape(VERSION)}"?$', citation, flags=re.MULTILINE)
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?v?(\d\S*?)\]?( |$)", changes, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == VERSION
    assert re.search(r"^#+ Scores$|\*\*Scores\*\*", changes, flags=re.MULTILINE)  # what can move a number is said there


def test_citation_names_the_paper() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    for needed in ("cff-version: 1.2", "Apache-2.0", "de Oliveira", "Gerkmann"):
        assert needed in citation
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_every_module_says_what_it_is() -> None:
    assert len(MODULES) > 40
    assert not [path.name for path in MODULES if not path.read_text(encoding="utf-8").startswith('"""')]


# Spelled so that this file does not hold them.
FORBIDDEN = {
    "a machine's path": re.compile(r"(?<![\w.}])/(?:work|home|Users|root|mnt|scratch|tmp/[a-z])/?[\w.-]+"),
    "a package registry other than the public one": re.compile(r"--(?:extra-)?index-url|pip\.conf|PIP_INDEX|//[\w.-]*"
                                                               r"(?:artifactory|nexus|mirror)[\w.-]*"),
}  # fmt: skip
ALLOWED = {"tests/test_records.py", "tests/test_project.py"}  # they look for such things
TEXT = {".py", ".md", ".toml", ".json", ".csv", ".txt", ".cff", ".yml", ".yaml", ".cfg", "", ".sh"}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_a_machine_is_in_the_project(what: str) -> None:
    looked = 0
    for path in files():
        name = path.relative_to(REPOSITORY).as_posix()
        if path.suffix not in TEXT or name in ALLOWED:
            continue
        looked += 1
        text = path.read_text(encoding="utf-8").removeprefix("#!/usr/bin/env bash")
        found = FORBIDDEN[what].search(text)
        assert found is None, f"{name} holds {what}: {found[0]}"
    assert looked > 60


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a machine's path", "see /home/anna/x"),
        ("a package registry other than the public one", "pip install --index-url=https://x"),
        ("a package registry other than the public one", "https://my-mirror.example/simple"),
    ],
)
def test_the_search_finds_such_things(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_entry_points_resolve() -> None:
    host = Host.discover(e for e in importlib.metadata.entry_points(group="ser_bench") if e.dist.name == "ser-bench")
    assert host.failures == []
    assert host.conflicts() == []
    names = {offer.spec.name for offer in host.usable("system")}
    assert names >= {
        "mean_only", "logmel", "logmel_words", "whisper_base", "whisper_base_minilm", "distilhubert",
        "distilhubert_tinybert",
    }  # fmt: skip
    for name in names:
        assert host.plan(name).name == name
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="ser-bench")
    assert script.load() is cli.main


def test_declared_packages_are_there() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    for requirement in project["dependencies"]:
        importlib.metadata.version(re.match(r"[A-Za-z0-9._-]+", requirement)[0])  # type: ignore[index]


def test_leaderboard_is_what_its_records_give(tmp_path: Path) -> None:
    folder = REPOSITORY / "leaderboard"
    made = render_files(folder, cache=tmp_path)
    site = {path.relative_to(folder) for path in (folder / "site").rglob("*") if path.is_file()}
    differing = [name for name, content in made.items() if name not in site or (folder / name).read_bytes() != content]
    assert differing == [Path("README.md")], "run `ser-bench leaderboard render`"
    assert (folder / "README.md").read_bytes() == made[Path("README.md")], "run `ser-bench leaderboard render`"
    assert site == made.keys() - {Path("README.md")}
