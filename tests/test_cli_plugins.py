"""``ser-bench plugins list`` and ``plugins check``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.checkpoints import save
from testing.strangers import installer

from ser_bench import host
from ser_bench.cli import main
from ser_bench.testing.checks import NAMES
from ser_bench.version import VERSION


@pytest.fixture(scope="module")
def _strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[host.Host]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for install in installer(tmp_path_factory.mktemp("strangers"), monkeypatch):
            install("broken", distribution="stranger", target="testing.broken")
            install("bad", "raise OSError('no')")
            yield host.Host.discover()


@pytest.fixture(autouse=True)
def _installed(_strangers: host.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser_bench.host.host", lambda: _strangers)
    monkeypatch.setattr("ser_bench.testing.contract.host", lambda: _strangers)


def printed(words: list[str], capfd: pytest.CaptureFixture[str], *, code: int = 0) -> tuple[str, str]:
    assert main(words) == code
    shown = capfd.readouterr()
    return shown.out, shown.err


def test_list_shows_a_line_for_each(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = printed(["plugins", "list", "--no-count"], capfd)
    header, _, *rows = out.splitlines()
    assert header.split() == ["kind", "name", "modality", "licence", "revision", "distribution", "status"]
    lines = {tuple(row.split()[:2]): row.split()[2:] for row in rows}
    assert lines["system", "distilhubert_tinybert"] == [
        "audio+text",
        "Apache-2.0",
        "unpinned",
        "ser-bench",
        VERSION,
        "ok",
    ]
    assert lines["audio", "known"] == ["audio", "-", "-", "stranger", "1.5", "known", "failures"]
    assert "audio:known fails 'padding', as it declares: 2e-1 of 12 s, by design." in rows
    assert "system:of_known fails 'padding', as it declares: audio:known: 2e-1 of 12 s, by design." in rows
    assert err == "plugin 'bad' of bad 1.5 is not usable: OSError: no\n"


def test_list_counts_parameters(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = printed(["plugins", "list", "--kind", "text"], capfd)
    assert out.splitlines()[0].split()[:3] == ["kind", "name", "parameters"]
    (line,) = [row for row in out.splitlines() if row.startswith("text    tinybert ")]
    assert line.split()[2:4] == ["14.253", "M"]
    assert "plugins: " in err


def test_list_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(["plugins", "list", "--json", "--kind", "system"], capfd)
    listed: dict[str, Any] = json.loads(out)
    assert listed["broken"] == ["plugin 'bad' of bad 1.5 is not usable: OSError: no"]
    rows = {row["name"]: row for row in listed["plugins"]}
    assert rows["of_known"] == {
        "kind": "system",
        "name": "of_known",
        "parameters": 8 * 16 + 16 + 2 * 16 + 16 * 16 * 3 + 16 + 16 * 3 + 3,
        "trainable_parameters": 8 * 16 + 16 + 2 * 16 + 16 * 16 * 3 + 16 + 16 * 3 + 3,
        "modality": "audio",
        "summary": "A system",
        "licence": None,
        "revision": None,
        "distribution": "stranger 1.5",
        "status": "known failures",
        "known_failures": {"padding": "audio:known: 2e-1 of 12 s, by design."},
        "note": None,
    }
    assert {row["kind"] for row in listed["plugins"]} == {"system"}


def test_check_prints_a_line_for_each_check(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(["plugins", "check", "both_alone"], capfd)
    names = [line[16:].split()[0] for line in out.splitlines()]
    assert names == list(NAMES["head"])
    assert all(line.startswith(("passed ", "not applicable ")) for line in out.splitlines())


def test_check_shows_what_is_declared_and_exits_with_0(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(["plugins", "check", "audio:known"], capfd)
    (line,) = [line for line in out.splitlines() if line.startswith("known ")]
    assert line.split()[1] == "padding"
    assert line.endswith("Declared: 2e-1 of 12 s, by design.")


def test_check_exits_with_1_and_says_which_failed(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = printed(["plugins", "check", "audio:reads_padding"], capfd, code=1)
    (line,) = [line for line in out.splitlines() if line.startswith("failed ")]
    assert line.split()[1] == "padding"
    assert err.splitlines()[-1] == (
        "error: audio:reads_padding (stranger 1.5) fails 1 of 14 contract checks: padding. Correct the plugin, or "
        "declare what cannot be helped, with the measured figure, in its spec's known_failures."
    )


def test_check_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = printed(["plugins", "check", "audio:stale", "--json"], capfd, code=1)
    found: dict[str, Any] = json.loads(out)
    assert (found["plugin"], found["passed"]) == ("audio:stale (stranger 1.5)", False)
    assert [(c["check"], c["status"]) for c in found["checks"] if c["status"] not in ("passed", "not applicable")] == [
        ("padding", "stale")
    ]
    assert "fails 1 of 14 contract checks: padding." in err


def test_check_at_full_size(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(["plugins", "check", "system:logmel", "--weights", "random"], capfd)
    size = int(out.split("from a file of ")[1].split(" bytes")[0].replace(",", ""))
    assert size > 4 * 108_579  # float32, all of its parameters


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["knwon"], "error: plugin 'knwon' is not installed. Did you mean audio:known? "),
        (["sound"], "error: 'sound' is the name of 4 plugins. Say which: audio:sound or head:sound or system:sound or"),
        (["audio:soud"], "error: audio plugin 'soud' is not installed. Did you mean 'sound'?"),
        (["head:sound", "--device", "gpu"], "error: there is no device 'gpu' here (RuntimeError: "),
    ],
)
def test_what_check_refuses(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    out, err = printed(["plugins", "check", *words], capfd, code=1)
    assert out == ""
    assert err.startswith(said)


def test_check_of_a_described_encoder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, folder = save("text", "distilbert", tmp_path / "mine")
    capfd.readouterr()  # the library tells of its saving
    out, _ = printed(["plugins", "check", f"text:hf:{folder}"], capfd)
    assert [line for line in out.splitlines() if not line.startswith(("passed ", "not applicable "))] == []
    assert len(out.splitlines()) == len(NAMES["text"])
