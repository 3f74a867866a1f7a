"""docs/plugins.md: its examples are a distribution, which is installed and keeps the contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh import Fresh

from ser_bench.host import Host
from ser_bench.interface import Hooks, Kind
from ser_bench.testing import check, offered_by
from ser_bench.testing.checks import CHECKS

TEXT = (Path(__file__).resolve().parent.parent / "docs/plugins.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"^```[a-z]+\n# file: (\S+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL))
OFFERED: list[tuple[Kind, str]] = [
    ("audio", "my_audio"), ("audio", "my_levelled"), ("head", "my_layers"), ("head", "my_mean"), ("head", "my_states"),
    ("system", "my_system"), ("system", "my_whole_system"), ("text", "my_text"),
]  # fmt: skip


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """What is installed with the page's distribution beside it."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path, code in FILES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(code)
    fresh = Fresh(tmp_path_factory.mktemp("environment"), cache=site / "cache")
    fresh.run(["pip", "install", "--no-deps", "--target", str(site), str(source)], folder=source)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(site)
        yield Host.discover()
    for name in [name for name in sys.modules if name.startswith("my_plugins")]:
        del sys.modules[name]


def test_every_block_of_code_is_a_file_of_the_example() -> None:
    assert len(re.findall(r"^```(?:python|toml)", TEXT, flags=re.MULTILINE)) == len(FILES)
    for hook in (name for name in vars(Hooks) if name.startswith("ser_bench_")):
        assert any(f"def {hook}():" in code for code in FILES.values())


def test_all_examples_are_found(documented: Host) -> None:
    assert offered_by("my-plugins", found=documented) == OFFERED
    assert documented.failures == []


@pytest.mark.parametrize(("kind", "name"), [*OFFERED, ("audio", "my_bands:12")])
def test_an_example_keeps_the_contract(documented: Host, kind: Kind, name: str) -> None:
    outcomes = check(kind, name, found=documented)
    assert [str(outcome) for outcome in outcomes if not outcome.ok] == []
    known = {outcome.check: outcome.detail for outcome in outcomes if outcome.status == "known"}
    assert known.keys() == ({"padding"} if name == "my_levelled" else set())


def test_every_check_is_documented() -> None:
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ", TEXT.partition("| check | ")[2], flags=re.MULTILINE)
    assert re.findall(r"\w+", " ".join(listed)) == [one.name for one in CHECKS]


def test_the_test_on_the_page_is_the_one_that_works(documented: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser_bench.testing.contract.host", lambda: documented)
    names: dict[str, object] = {}
    exec(FILES["tests/test_contract.py"], names)
    names["test_it_keeps_the_contract"]("head", "my_mean")  # type: ignore[operator]
