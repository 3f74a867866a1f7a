"""What is installed, described and counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from testing.strangers import Install, installer

from ser_bench import system
from ser_bench.host import Host
from ser_bench.interface import Recipe
from ser_bench.inventory import Entry, inventory


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    yield from installer(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def counted() -> dict[str, Entry]:
    """All that is installed, counted, by ``KIND:NAME``."""
    return {f"{entry.kind}:{entry.name}": entry for entry in inventory(Host.discover(), count=True)}


def test_the_papers_parameter_counts(counted: dict[str, Entry]) -> None:
    """Table 1: 165, 95, 24, 180, 109 and 39 million."""
    names = ("w2v2_l_robust_p", "hubert_base", "distilhubert")
    millions = [(counted[f"system:{name}{text}"].parameters or 0) / 1e6 for text in ("", "_tinybert") for name in names]
    assert [f"{m:.3f}" for m in millions] == ["165.337", "94.965", "24.085", "179.909", "109.457", "38.577"]


@pytest.mark.parametrize("name", ["logmel", "logmel_words", "whisper_base", "mean_only"])
def test_counts_are_those_of_the_system_that_is_trained(counted: dict[str, Entry], name: str) -> None:
    plan = Host.discover().plan(name)
    built = system.build(plan, dict.fromkeys(plan.parts, "random"), plan.recipe)
    entry = counted[f"system:{name}"]
    assert (entry.parameters, entry.trainable_parameters) == system.count(built)
    assert entry.note is None


@pytest.mark.parametrize(("kind", "name"), [("audio", "logmel"), ("text", "words"), ("audio", "whisper_base")])
def test_an_encoder_is_counted_at_its_full_depth(counted: dict[str, Entry], kind: str, name: str) -> None:
    offer = Host.discover().find(f"{kind}:{name}")
    built = system.build_encoder(offer, "random", depth=None, recipe=Recipe())
    entry = counted[f"{kind}:{name}"]
    assert (entry.parameters, entry.trainable_parameters) == system.count(built)


def test_all_is_counted_but_heads_and_families(counted: dict[str, Entry]) -> None:
    uncounted = {name for name, entry in counted.items() if entry.parameters is None and entry.kind != "head"}
    assert uncounted == {"audio:hf:ADDRESS", "text:hf:ADDRESS"}
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_a_system_tells_of_all_its_parts(counted: dict[str, Entry]) -> None:
    modalities = {name: counted[f"system:{name}"].modality for name in ("logmel", "logmel_words", "mean_only")}
    assert modalities == {"logmel": "audio", "logmel_words": "audio+text", "mean_only": "none"}
    assert [counted[name].modality for name in ("audio:logmel", "text:words", "head:concat")] == ["audio", "text", None]
    scratch, whisper = counted["system:logmel_words"], counted["system:whisper_base_minilm"]
    assert (scratch.licence, scratch.revision) == (None, None)
    assert (whisper.licence, whisper.revision) == ("Apache-2.0", "unpinned")
    assert (whisper.status, whisper.known_failures, whisper.distribution.split()[0]) == ("ok", {}, "ser-bench")


PLUGIN = """
from ser_bench.interface import AudioEncoderSpec, SystemSpec, Source, hookimpl

def crashes(weights, *, depth=None, regularisation):
    raise ZeroDivisionError("by design")

def full_size_crashes(weights, *, depth=None, regularisation):
    import torch

    class Encoder(torch.nn.Linear):
        dim, depth = 3, 1

    encoder = Encoder(3, 3)
    if weights != "tiny":
        float(encoder.weight.sum())  # there is none to add up
    return encoder

@hookimpl
def ser_bench_audio_encoders():
    common = {"summary": "An encoder", "dim": 3, "depth": 1}
    yield AudioEncoderSpec(name="crashes", build=crashes, **common)
    yield AudioEncoderSpec(name="uncountable", build=full_size_crashes, known_failures={"order": "0.1."}, **common)
    source = Source(repo="someone/some", revision="0" * 40, licence="MIT")
    yield AudioEncoderSpec(name="pinned", build=full_size_crashes, source=source, **common)

@hookimpl
def ser_bench_systems():
    yield SystemSpec(name="needy", summary="A system", audio="not_there")
    yield SystemSpec(name="known", summary="A system", audio="uncountable")
    yield SystemSpec(name="mixed", summary="A system", audio="pinned", text="tinybert")
"""


def test_what_is_broken_or_declared_is_said(install: Install) -> None:
    install("stranger", PLUGIN)
    found = Host.discover()
    entries = {f"{e.kind}:{e.name}": e for e in inventory(found, count=True) if e.distribution == "stranger 1.5"}
    crashes, uncountable = entries["audio:crashes"], entries["audio:uncountable"]
    assert crashes.status == "broken"
    assert crashes.note == (
        "audio:crashes (stranger 1.5) failed to build: ZeroDivisionError: by design. Correct the plugin; --debug shows "
        "where."
    )
    assert (uncountable.status, uncountable.known_failures) == ("known failures", {"order": "0.1."})
    assert uncountable.parameters is None
    assert (uncountable.note or "").startswith(
        "cannot be counted without its weights: audio:uncountable (stranger 1.5)"
    )
    needy = entries["system:needy"]
    assert (needy.status, needy.parameters) == ("broken", None)
    assert (needy.note or "").startswith(
        "system:needy (stranger 1.5) cannot be composed: audio plugin 'not_there' is not"
    )
    assert entries["system:known"].known_failures == {"order": "audio:uncountable: 0.1."}
    mixed = entries["system:mixed"]
    assert (mixed.licence, mixed.revision) == ("MIT, Apache-2.0", f"{'0' * 40}, unpinned")
    # Without counting, nothing is built, so only what can be known without it is said.
    quick = {f"{e.kind}:{e.name}": e for e in inventory(found)}
    assert quick["audio:crashes"].status == "ok"
    assert quick["system:needy"].status == "broken"
    assert {entry.parameters for entry in quick.values()} == {None}


def test_one_kind_alone_and_progress() -> None:
    told: list[tuple[str, int, int]] = []
    entries = inventory(Host.discover(), "head", progress=lambda *what: told.append(what))
    assert {entry.kind for entry in entries} == {"head"}
    assert told[-1] == ("plugins", len(entries), len(entries))


def test_describing_without_counting_imports_no_torch() -> None:
    code = (
        "import sys\nfrom ser_bench.host import Host\nfrom ser_bench.inventory import inventory\n"
        "assert inventory(Host.discover())\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
