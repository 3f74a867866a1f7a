"""The contract checks: sound plugins pass all of them, and each fault is caught by the check that is meant for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from testing.strangers import installer

from ser_bench import testing
from ser_bench.errors import PluginError, TrainingError
from ser_bench.host import Host, host
from ser_bench.interface import Kind
from ser_bench.testing import Outcome, check, offered_by
from ser_bench.testing.checks import CHECKS, NAMES

INSTALLED = [(offer.spec.kind, offer.spec.name) for offer in host().usable()]


def test_there_is_something_to_check() -> None:
    ours = {("audio", "logmel"), ("audio", "distilhubert"), ("audio", "whisper_base"), ("text", "words")}
    ours |= {("text", "tinybert"), ("head", "concat"), ("head", "linear"), ("system", "mean_only")}
    assert ours <= set(INSTALLED)
    assert {kind for kind, _ in INSTALLED} == {"audio", "text", "head", "system"}


@pytest.mark.parametrize(("kind", "name"), INSTALLED, ids=[":".join(pair) for pair in INSTALLED])
def test_what_is_installed_keeps_the_contract(kind: Kind, name: str) -> None:
    outcomes = check(kind, name)
    assert [str(outcome) for outcome in outcomes if not outcome.ok] == []
    assert [outcome.check for outcome in outcomes] == list(NAMES[kind])
    # Nothing passes by being left out.
    spared = {outcome.check for outcome in outcomes if outcome.status == "not applicable"}
    reads = host().plan(name).reads if kind == "system" else (kind,)
    expected = set() if torch.cuda.is_available() else {"devices"}
    if kind == "system":
        expected |= set() if "audio" in reads else {"lengths"}
        expected |= set() if "text" in reads else {"empty_text", "long_text"}
    assert spared - expected <= ({"gradients", "learns"} if name == "mean_only" else set())


# --- a stranger's plugins, each with one fault --------------------------------------------------------------------


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for install in installer(tmp_path_factory.mktemp("strangers"), monkeypatch):
            install("broken", distribution="stranger", target="testing.broken")
            install("heavy", distribution="heavy-stranger", target="testing.heavy_hooks")
            yield Host.discover()


def caught(strange: Host, kind: Kind, name: str, status: str = "failed") -> dict[str, str]:
    return {o.check: o.detail for o in check(kind, name, found=strange) if o.status == status}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("audio", "sound"), ("text", "sound"), ("head", "sound"), ("system", "sound"), ("system", "whole")),
        *(("audio", "refuses_one_sample"), ("head", "both_alone")),
    ],
)
def test_a_sound_stranger_passes_beside_the_broken_ones(strange: Host, kind: Kind, name: str) -> None:
    assert strange.failures == []
    outcomes = check(kind, name, found=strange)
    assert [str(o) for o in outcomes if not o.ok] == []
    assert {o.status for o in outcomes} <= {"passed", "not applicable"}


FAULTS: dict[tuple[Kind, str], tuple[set[str], str]] = {
    ("audio", "says_another_dim"): (
        {"spec"},
        r"the spec's dim is 17 and the full-size module's 16; expected the same\.",
    ),
    ("audio", "says_another_depth"): (
        {"spec"},
        r"the spec's depth is 2 and the full-size module's 1; expected the same",
    ),
    ("audio", "takes_any_depth"): ({"spec"}, r"depth=2 built 2 layers where the spec has 1; expected a PluginError\."),
    ("audio", "guessed_revision"): (
        {"spec"},
        r"the source's revision is 'main'; expected a commit of 40 hex digits, or None \(unpinned\)\.",
    ),
    ("audio", "repo_is_a_page"): (
        {"spec"},
        r"the source's repo is 'https://example\.org/some'; expected what a record takes: pattern ",
    ),
    ("audio", "unknown_declaration"): (
        {"spec"},
        r"known_failures names pading; expected checks: spec, .*padding, .*\.",
    ),
    ("head", "fit_without_pooling"): (
        {"spec"},
        r"the head has a fit and names no pooling; expected a pooling to fit on",
    ),
    ("head", "heavy"): (
        {"light_import"},
        r"importing testing\.heavy_hooks and calling its hooks imports torch; expected none of it before",
    ),
    ("audio", "hidden_is_not_last"): (
        {"shapes"},
        r"hidden is not the last of the layers, .*; expected the same states\.",
    ),
    ("audio", "float64_frames"): ({"shapes"}, r"frontend gave torch\.float64; expected torch\.float32\."),
    ("audio", "fails_on_one_sample"): (
        {"lengths"},
        r"one sample failed: audio:fails_on_one_sample \(stranger 1\.5\) failed in its front end: IndexError: .*; "
        r"expected that it works or is refused by a PluginError\.",
    ),
    ("audio", "reads_padding"): (
        {"padding"},
        r"0\.4 s beside 12 s, with 0 past the end, differs from alone by \S+ of its largest value; expected 1e-05 at",
    ),
    ("audio", "reads_nan"): ({"padding"}, r"0\.4 s beside 12 s, with nan past the end, differs from alone by inf of"),
    ("audio", "forgets_order"): (
        {"order"},
        r"number \d of a batch differs by \S+ of its largest value when the batch is turned round; expected 1e-05",
    ),
    ("audio", "dithers"): (
        {"determinism", "gradients", "state"},
        r"a front end gave two results for one utterance; expected the same, bit for bit\.",
    ),
    ("audio", "log_of_silence"): (
        {"finite"},
        r"audio:log_of_silence \(stranger 1\.5\): frontend gave 400 of 400 numbers that are not finite\. Expected",
    ),
    ("head", "divides_by_zero"): (
        {"finite"},
        r"on audio: 24 of 24 numbers are not finite for zeros; expected finite numbers\.",
    ),
    ("head", "ignores_text"): (
        {"modality"},
        r"on audio and text: another text changes what comes out by 0\.0e\+00 of its largest value; expected more "
        r"than 1e-05: it says that it reads text\.",
    ),
    ("audio", "drifts"): (
        {"determinism"},
        r"two calls in eval mode differ by \S+ for number \d; expected the same, bit for bit\.",
    ),
    ("text", "reads_no_words"): (
        {"modality", "learns"},
        r"another text changes what comes out by 0\.0e\+00 of its largest value; expected more than 1e-05",
    ),
    ("system", "ignores_text"): (
        {"modality"},
        r"another text changes what comes out by 0\.0e\+00 of its largest value;",
    ),
    ("system", "peeks_at_text"): (
        {"modality"},
        r"text that is handed to it changes the prediction by \S+ of its largest value; expected none: it says that it "
        r"reads audio\.",
    ),
    ("system", "peeks_at_audio"): (
        {"modality"},
        r"audio that is handed to it changes the prediction by \S+ of its largest value; expected none: it says that "
        r"it reads text\.",
    ),
    ("text", "chokes_on_nothing"): (
        {"empty_text"},
        r"text:chokes_on_nothing \(stranger 1\.5\) failed in its front end: IndexError: list index out of range\. .*"
        r"Expected no error\.",
    ),
    ("text", "cuts_in_silence"): (
        {"long_text"},
        r"9,000 and 12,000 words give 51 and 51 ids, and truncated is False and False; expected True for both\.",
    ),
    ("audio", "wants_float32"): ({"bfloat16"}, r"audio:wants_float32 \(stranger 1\.5\) failed in forward: TypeError: "),
    ("audio", "unused_parameter"): (
        {"gradients"},
        r"no gradient reaches 2 of 8 trainable parameters \(first: spare\.weight\); expected a gradient for each; ",
    ),
    ("audio", "trains_its_front_end"): (
        {"gradients"},
        r"a training step changed what a front end gives; expected a front end that is frozen\.",
    ),
    ("audio", "climbs"): (
        {"learns"},
        r"the loss \(1 - CCC\) of one batch went from \S+ to \S+ in \d+ evaluations; expected 0\.5 of the start or ",
    ),
    ("text", "forgets_its_words"): (
        {"state"},
        r"frontend_state\(text\) is another after saving and loading; expected the same\.",
    ),
    ("head", "forgets_fit"): (
        {"state"},
        r"on audio: results differ by up to \S+ after saving and loading; expected the same, bit for bit; keep what",
    ),
}


@pytest.mark.parametrize(("kind", "name"), FAULTS, ids=[":".join(pair) for pair in FAULTS])
def test_a_fault_is_caught_by_the_check_meant_for_it(strange: Host, kind: Kind, name: str) -> None:
    checks, said = FAULTS[kind, name]
    found = caught(strange, kind, name)
    assert found.keys() == checks
    assert any(re.match(said, detail) for detail in found.values()), found


def test_a_whole_system_without_a_front_end_is_told_so(strange: Host) -> None:
    found = caught(strange, "system", "no_text_frontend")
    assert found["spec"] == "it reads audio, text and has no text_frontend; expected one for each."
    told = "system:no_text_frontend (stranger 1.5) failed in text_frontend: AttributeError: "
    assert found["padding"].startswith(told)


def test_every_check_has_a_plugin_that_it_catches() -> None:
    alone = {next(iter(checks)) for checks, _ in FAULTS.values() if len(checks) == 1}
    assert alone | {"devices"} == {one.name for one in CHECKS}  # devices have the next test


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_what_stays_on_the_cpu_is_caught(strange: Host) -> None:
    found = caught(strange, "audio", "left_on_the_cpu")
    assert found.keys() == {"devices"}
    assert "Expected all tensors to be on the same device" in found["devices"]


# --- declared failures ---------------------------------------------------------------------------------------------


def test_a_declared_failure_is_run_shown_and_costs_nothing(strange: Host) -> None:
    outcomes = {o.check: o for o in check("audio", "known", found=strange)}
    padding = outcomes["padding"]
    assert (padding.status, padding.ok) == ("known", True)
    assert padding.detail.startswith("0.4 s beside 12 s, with 0 past the end, differs from alone by ")
    assert padding.detail.endswith("; expected 1e-05 at most. Declared: 2e-1 of 12 s, by design.")
    assert all(outcome.ok for outcome in outcomes.values())


def test_a_declaration_that_no_longer_holds_is_an_error(strange: Host) -> None:
    (stale,) = [o for o in check("audio", "stale", found=strange) if not o.ok]
    assert (stale.check, stale.status) == ("padding", "stale")
    assert stale.detail.endswith("Yet the spec declares that it fails: 3e-4 at 12 s. Take the declaration away.")


def test_a_system_inherits_what_its_parts_declare(strange: Host) -> None:
    known = {o.check: o for o in check("system", "of_known", found=strange)}["padding"]
    assert known.status == "known"
    assert known.detail.endswith("Declared: audio:known: 2e-1 of 12 s, by design.")
    # What the part declares may well not show behind the head: only the part's own declaration can be stale.
    assert all(o.status != "stale" and o.ok for o in check("system", "of_stale", found=strange))


# --- the face ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_built_is_one_error_that_names_the_distribution(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for install in installer(tmp_path, monkeypatch):
            install(
                "unbuildable",
                """
                from ser_bench.interface import FusionHeadSpec, SystemSpec, hookimpl
                from ser_bench.errors import PluginError

                def build(audio, text, *, dropout):
                    raise ZeroDivisionError("by design")

                def refuse(audio, text, *, dropout):
                    raise PluginError("not today")

                @hookimpl
                def ser_bench_fusion_heads():
                    yield FusionHeadSpec(name="crashes", summary="A head", pooling="mean", build=build)
                    yield FusionHeadSpec(name="refuses", summary="A head", pooling="mean", build=refuse)

                @hookimpl
                def ser_bench_systems():
                    yield SystemSpec(name="needy", summary="A system", audio="logmel", head="absent")
                """,
            )
            found = Host.discover()
            with pytest.raises(
                PluginError, match=r"^head:crashes \(unbuildable 1\.5\) failed to build: ZeroDivisionError"
            ):
                check("head", "crashes", found=found)
            with pytest.raises(
                PluginError, match=r"^head:refuses \(unbuildable 1\.5\): build refused audio, text, and both"
            ):
                check("head", "refuses", found=found)
            with pytest.raises(
                PluginError, match=r"^system:needy \(unbuildable 1\.5\) cannot be composed: head plugin"
            ):
                check("system", "needy", found=found)
            assert all(o.ok for o in check("head", "linear", found=found))
    with pytest.raises(PluginError, match=r"^head plugin 'lineal' is not installed\. Did you mean 'linear'\?"):
        check("head", "lineal")
    with pytest.raises(TrainingError, match=r"^there is no device 'gpu' here \(RuntimeError: .*\)\. Give cpu, cuda or"):
        check("head", "linear", device="gpu")


def test_checks_leave_the_state_of_chance_alone_and_repeat_themselves() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = check("system", "logmel_words")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert check("system", "logmel_words") == first


def test_what_a_distribution_offers_is_told_for_its_own_tests(strange: Host) -> None:
    assert offered_by("heavy_stranger", found=strange) == [("head", "heavy")]
    assert offered_by("ser-bench") == sorted(INSTALLED)  # and no family, which stands for many
    with pytest.raises(
        PluginError, match=r"^numpy offers nothing\. Install it \(`pip install --editable \.`\), and give"
    ):
        offered_by("numpy")


def test_a_distribution_whose_plugins_cannot_be_used_has_no_tests_to_pass(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for install in installer(tmp_path, monkeypatch):
            code = """
                from ser_bench.interface import SystemSpec, hookimpl

                @hookimpl
                def ser_bench_systems():
                    yield SystemSpec(name="one", summary="A system", audio="logmel")
                """
            install("first", code)
            install("second", code)
            install("bad", "raise OSError('no')", distribution="second")
            found = Host.discover()
            with pytest.raises(
                PluginError, match=r"^system:one of first is offered more than once, which makes it unus"
            ):
                offered_by("first", found=found)
            told = r"^plugin 'bad' of second 1\.5 is not usable: OSError: no; system:one of Second is offered more than"
            with pytest.raises(PluginError, match=told):
                offered_by("Second", found=found)


def test_an_outcome_reads_as_a_line() -> None:
    line = str(Outcome(check="padding", status="passed", detail="1e-7."))
    assert line == "passed          padding       1e-7."


def test_progress_is_told(strange: Host) -> None:
    told: list[Any] = []
    check("head", "sound", found=strange, progress=lambda *what: told.append(what))
    assert told[0] == ("checking head:sound", 1, len(NAMES["head"]))
    assert told[-1] == ("checking head:sound", len(told), len(NAMES["head"]))


def test_what_was_public_before_still_is() -> None:
    assert set(testing.__all__) >= {"Outcome", "check", "offered_by", "write_release", "write_wav"}
