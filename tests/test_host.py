"""The host's rules, on real distributions: folders with a ``*.dist-info`` on ``sys.path``."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from testing.strangers import Install, installer

from ser_bench import interface, system
from ser_bench.errors import PluginError, WeightsError
from ser_bench.host import Host
from ser_bench.interface import FusionHeadSpec, Recipe, SystemSpec

HEAD = """
from ser_bench.interface import FusionHeadSpec, SystemSpec, hookimpl

@hookimpl
def ser_bench_fusion_heads():
    yield FusionHeadSpec(name="{name}", summary="A head", pooling="mean", build=lambda audio, text, *, dropout: None)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Give a function that writes a distribution with one module and one entry point onto ``sys.path``."""
    yield from installer(tmp_path, monkeypatch)


def cause_of_the_only_failure(host: Host) -> str:
    assert len(host.failures) == 1, host.failures
    return host.failures[0].cause


def test_a_strangers_plugin_comes_in_beside_the_built_in_ones(install: Install) -> None:
    install("stranger", HEAD.format(name="strange"))
    host = Host.discover()
    assert host.failures == []
    offer = host.get("head", "strange")
    assert (offer.distribution, offer.version) == ("stranger", "1.5")
    assert str(offer) == "head:strange (stranger 1.5)"
    assert offer.entry_point == "stranger"
    assert host.get("head", "concat").entry_point == "ser_bench_plugins.hooks"
    assert host.get("system", "distilhubert_tinybert").distribution == "ser-bench"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise RuntimeError('first line\\nsecond line')", r"RuntimeError: first line"),
        ("import a_library_that_is_absent", r"ModuleNotFoundError: No module named 'a_library_that_is_absent'"),
        ("import sys; sys.exit('needs another Python')", r"SystemExit: needs another Python"),
        ("def (", r"SyntaxError: .*"),
        ("", r"it implements no hook; hooks are ser_bench_audio_encoders, .*, ser_bench_systems"),
        (
            """
            from ser_bench.interface import hookimpl
            @hookimpl
            def ser_bench_fusion_heads():
                raise ValueError("in the hook")
                yield
            """,
            r"ValueError: in the hook",
        ),
        (
            """
            from ser_bench.interface import hookimpl
            @hookimpl
            def ser_bench_fusion_head():
                yield
            """,
            r"PluginValidationError: unknown hook 'ser_bench_fusion_head' in plugin .*",
        ),
        (
            """
            def ser_bench_fusion_heads():
                yield
            """,
            r"ser_bench_fusion_heads is not marked with @ser_bench\.interface\.hookimpl",
        ),
        (
            """
            from ser_bench.interface import hookimpl
            @hookimpl
            def ser_bench_fusion_heads(pooling):
                yield
            """,
            r"PluginValidationError: .*ser_bench_fusion_heads.*",
        ),
        (
            """
            from ser_bench.interface import SystemSpec, hookimpl
            @hookimpl
            def ser_bench_fusion_heads():
                yield SystemSpec(name="misplaced", summary="A system", audio="logmel")
            """,
            r"ser_bench_fusion_heads yielded a SystemSpec, expected FusionHeadSpec",
        ),
        (
            """
            from ser_bench.interface import hookimpl
            @hookimpl
            def ser_bench_systems():
                yield "logmel"
            """,
            r"ser_bench_systems yielded a str, expected SystemSpec or WholeSystemSpec",
        ),
        (
            """
            from ser_bench.interface import hookimpl
            @hookimpl
            def ser_bench_systems():
                pass
            """,
            r"ser_bench_systems returned NoneType; yield specs instead",
        ),
        (
            """
            from ser_bench.interface import SystemSpec, hookimpl
            @hookimpl
            def ser_bench_systems():
                return SystemSpec(name="alone", summary="A system", audio="logmel")
            """,
            r"ser_bench_systems returned SystemSpec; yield specs instead",
        ),
        (
            """
            from ser_bench.interface import SystemSpec, hookimpl
            @hookimpl
            def ser_bench_systems():
                yield SystemSpec(name="Bad Name", summary="A system", audio="logmel")
            """,
            r"a system plugin is named 'Bad Name'; a name has 1 to 64 of a-z, .* Rename it in its spec\.",
        ),
        (
            """
            from ser_bench.interface import EncoderFamily, hookimpl
            @hookimpl
            def ser_bench_audio_encoders():
                yield EncoderFamily(kind="text", name="misplaced", summary="Many", describe=print)
            """,
            r"ser_bench_audio_encoders yielded 'misplaced', a family of text encoders",
        ),
        (
            """
            from ser_bench.interface import TextEncoderSpec, hookimpl
            @hookimpl
            def ser_bench_text_encoders():
                yield TextEncoderSpec(name="family:address", summary="One", dim=1, depth=0, build=print)
            """,
            r"ser_bench_text_encoders yielded 'family:address'; what is listed has no colon in its name",
        ),
    ],
)
def test_a_broken_plugin_costs_one_line_and_nothing_else(
    install: Install, caplog: pytest.LogCaptureFixture, code: str, cause: str
) -> None:
    install("broken", code)
    install("good", HEAD.format(name="mine"))
    host = Host.discover()
    assert re.fullmatch(cause, cause_of_the_only_failure(host))
    line = str(host.failures[0])
    assert line == f"plugin 'broken' of broken 1.5 is not usable: {host.failures[0].cause}"
    assert "\n" not in line
    assert host.get("head", "mine").distribution == "good"
    assert host.plan("logmel_words").reads == ("audio", "text")
    assert not caplog.records  # a user who asked for something else sees nothing of it


def test_an_entry_point_to_nothing_costs_one_line(install: Install) -> None:
    install("hollow", "", target="hollow:absent")
    install("gone", "", target="not_there_at_all")
    causes = sorted(failure.cause for failure in Host.discover().failures)
    assert causes == [
        "AttributeError: module 'hollow' has no attribute 'absent'",
        "ModuleNotFoundError: No module named 'not_there_at_all'",
    ]


def test_one_bad_entry_point_does_not_cost_its_distribution_the_other(install: Install) -> None:
    install("first", "raise OSError('no')", distribution="both")
    install("second", HEAD.format(name="survivor"), distribution="both")
    host = Host.discover()
    assert [failure.entry_point for failure in host.failures] == ["first"]
    assert host.get("head", "survivor").distribution == "both"


def test_a_plugin_asked_for_and_not_found_tells_all_that_failed(install: Install) -> None:
    install("broken", "raise RuntimeError('the disk ate it')")
    with pytest.raises(PluginError) as told:
        Host.discover().get("system", "broken_system")
    first, *others = str(told.value).splitlines()
    assert first.startswith("plugin 'broken_system' is not installed.")
    assert others == ["  plugin 'broken' of broken 1.5 is not usable: RuntimeError: the disk ate it"]


def test_a_name_offered_twice_is_unusable_and_names_both(install: Install) -> None:
    install("one", HEAD.format(name="twin"))
    install("two", HEAD.format(name="twin"))
    host = Host.discover()
    with pytest.raises(PluginError) as told:
        host.get("head", "twin")
    assert str(told.value) == (
        "head 'twin' is offered by one 1.5 and two 1.5; a name must be unique within its kind. "
        "Uninstall or rename one of them."
    )
    assert host.conflicts() == ["head 'twin' is unusable: offered by one 1.5 and two 1.5"]
    assert "twin" not in [offer.spec.name for offer in host.usable()]
    assert host.get("head", "concat").distribution == "ser-bench"


def test_a_stranger_cannot_replace_a_built_in(install: Install) -> None:
    install("impostor", HEAD.format(name="concat"))
    with pytest.raises(PluginError, match=r"'concat' is offered by impostor 1\.5 and ser-bench [\d.]+;"):
        Host.discover().plan("distilhubert")


def test_an_unknown_name_gets_a_near_match_and_the_count() -> None:
    host = Host.discover()
    count = len(host.usable("system"))
    with pytest.raises(PluginError) as told:
        host.plan("distilhubert_tinibert")
    assert str(told.value) == (
        "plugin 'distilhubert_tinibert' is not installed. Did you mean 'distilhubert_tinybert'? "
        f"`ser-bench plugins list` shows all {count}."
    )
    with pytest.raises(PluginError, match=r"^text plugin 'qqqq' is not installed\. `ser-bench plugins list` shows"):
        host.get("text", "qqqq")


def test_usable_is_ordered_by_kind_and_name() -> None:
    found = [(offer.spec.kind, offer.spec.name) for offer in Host.discover().usable()]
    assert found == sorted(found, key=lambda pair: (("audio", "text", "head", "system").index(pair[0]), pair[1]))
    assert {kind for kind, _ in found} == {"audio", "text", "head", "system"}
    assert [offer.spec.name for offer in Host.discover().usable("text")] == [n for k, n in found if k == "text"]


def test_a_plan_holds_the_systems_parts_and_recipe() -> None:
    host = Host.discover()
    plan = host.plan("whisper_base_minilm")
    assert plan.name == "whisper_base_minilm"
    assert {kind: offer.spec.name for kind, offer in plan.parts.items()} == {"audio": "whisper_base", "text": "minilm"}
    spec = host.get("system", "whisper_base_minilm").spec
    assert (plan.depth, plan.recipe, plan.head and plan.head.spec.name) == (spec.depth, spec.recipe, spec.head)
    floor = host.plan("mean_only")
    assert (floor.reads, list(floor.parts), floor.head) == ((), ["system"], None)


def test_depth_is_checked_against_the_audio_encoder_and_named() -> None:
    host = Host.discover()
    assert host.plan("distilhubert", depth=1).name == "distilhubert[1]"
    assert host.plan("distilhubert", depth=1).depth == 1
    assert host.plan("distilhubert", depth=0).depth == 0
    assert host.plan("whisper_base", depth=2).name == "whisper_base"  # its own depth is no change
    for depth in (3, -1):
        expected = rf"^depth {depth} was asked of audio:distilhubert \(.*\), which has 2 layers\. Give 0 to 2\.$"
        with pytest.raises(PluginError, match=expected):
            host.plan("distilhubert", depth=depth)
    with pytest.raises(PluginError, match=r"^system:mean_only .* does not come apart, .* Leave out --depth\.$"):
        host.plan("mean_only", depth=1)
    with pytest.raises(PluginError, match=r"^--depth means the audio encoder, and this system has none\."):
        host.compose(text="words", depth=1)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"audio": "logmel"}, "logmel>concat"),
        ({"audio": "logmel", "depth": 1}, "logmel[1]>concat"),
        ({"audio": "logmel", "depth": 0, "text": "words"}, "logmel[0]+words>concat"),
        ({"text": "tinybert", "head": "linear"}, "tinybert>linear"),
    ],
)
def test_compositions_are_named_after_their_parts(parts: dict[str, object], name: str) -> None:
    plan = Host.discover().compose(**parts)  # type: ignore[arg-type]
    assert plan.name == name
    assert plan.distribution == "ser-bench"
    assert plan.recipe == Recipe()
    assert plan.depth == parts.get("depth")
    assert plan.head is not None and plan.head.spec.name == parts.get("head", "concat")


def test_a_composition_of_two_makers_names_both(install: Install) -> None:
    install("stranger", HEAD.format(name="strange"))
    plan = Host.discover().compose(audio="logmel", head="strange", recipe=Recipe(epochs=3))
    assert plan.name == "logmel>strange"
    assert plan.distribution.startswith("ser-bench ") and plan.distribution.endswith(" + stranger 1.5")
    assert plan.recipe.epochs == 3


def test_compositions_need_parts_that_exist() -> None:
    host = Host.discover()
    with pytest.raises(
        PluginError, match=r"^a composition needs --audio ENC, --text ENC or both; neither was given\.$"
    ):
        host.compose()
    with pytest.raises(PluginError, match=r"^audio plugin 'logmal' is not installed\. Did you mean 'logmel'\?"):
        host.compose(audio="logmal")
    with pytest.raises(PluginError, match=r"^head plugin 'concert' is not installed\. Did you mean 'concat'\?"):
        host.compose(audio="logmel", head="concert")


def test_a_system_with_an_absent_part_is_listed_and_says_which(install: Install) -> None:
    install(
        "needy",
        """
        from ser_bench.interface import SystemSpec, hookimpl
        @hookimpl
        def ser_bench_systems():
            yield SystemSpec(name="needy", summary="Needs another plugin", audio="not_installed")
            yield SystemSpec(name="deep", summary="Wants more than there is", audio="logmel", depth=99)
        """,
    )
    host = Host.discover()
    assert host.failures == []
    with pytest.raises(
        PluginError,
        match=r"^system:needy \(needy 1\.5\) cannot be composed: audio plugin 'not_installed' is not installed\.",
    ):
        host.plan("needy")
    with pytest.raises(
        PluginError, match=r"^system:deep \(needy 1\.5\) cannot be composed: depth 99 was asked of audio:logmel"
    ):
        host.plan("deep")
    assert host.plan("logmel").name == "logmel"


def test_the_complete_plugin_in_the_interface_works_when_pasted(install: Install) -> None:
    text = inspect.cleandoc(interface.__doc__ or "")
    example = text.split("A complete plugin::")[1].split("\nShapes below")[0]
    install("my_plugin", textwrap.dedent(example))
    install(
        "my_plugin_modules",
        """
        import torch
        class Head(torch.nn.Linear):
            def __init__(self, width, dropout):
                super().__init__(width, 3)
            def forward(self, audio, text):
                return super().forward(audio)
        """,
        entry=False,
    )
    host = Host.discover()
    assert host.failures == []
    plan = host.plan("my_system")
    assert plan.head is not None
    assert [offer.distribution for offer in (plan.head, host.get("system", "my_system"))] == ["my-plugin"] * 2
    assert "my_plugin_modules" not in sys.modules  # only the build fetches it
    module = system.build(plan, {"audio": "tiny"}, plan.recipe)
    assert type(module.head).__name__ == "Head"
    frames = module.audio_frontend(torch.zeros(16_000))  # type: ignore[operator]
    assert module(frames[None], torch.tensor([len(frames)]), None, None).shape == (1, 3)


def test_discovery_reads_the_entry_points_it_is_given() -> None:
    assert Host.discover([]).usable() == []
    with pytest.raises(PluginError, match=r"`ser-bench plugins list` shows all 0\.$"):
        Host.discover([]).get("system", "logmel")


def test_specs_are_frozen() -> None:
    spec = SystemSpec(name="a", summary="b", audio="c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "d"  # type: ignore[misc]
    with pytest.raises(TypeError):
        FusionHeadSpec("positional", "is refused", build=print)  # type: ignore[misc]


def test_a_name_is_unique_within_its_kind_alone() -> None:
    host = Host.discover()
    assert [host.get(kind, "distilhubert").spec.kind for kind in ("audio", "system")] == ["audio", "system"]
    with pytest.raises(PluginError, match=r"^text plugin 'distilhubert' is not installed\."):
        host.get("text", "distilhubert")


# --- any kind by one word ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("audio:distilhubert", "audio:distilhubert"),
        ("system:distilhubert", "system:distilhubert"),
        ("concat", "head:concat"),
        ("mean_only", "system:mean_only"),
    ],
)
def test_a_word_finds_a_plugin(word: str, found: str) -> None:
    assert str(Host.discover().find(word)).startswith(f"{found} (ser-bench ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "distilhubert",
            r"^'distilhubert' is the name of 2 plugins\. Say which: audio:distilhubert or system:distilhubert\.$",
        ),
        ("aduio:distilhubert", r"^plugin 'aduio:distilhubert' is not installed\. Did you mean audio:distilhubert\? "),
        (
            "distilhubbert",
            r"^plugin 'distilhubbert' is not installed\. Did you mean audio:distilhubert or system:distilhubert\? ",
        ),
        ("text:wrods", r"^text plugin 'wrods' is not installed\. Did you mean 'words'\? "),
        (
            "qqqq",
            r"^plugin 'qqqq' is not installed\. `ser-bench plugins list` shows all \d+; name one as KIND:NAME, KIND "
            r"being audio, text, head, system\.$",
        ),
    ],
)
def test_a_word_that_finds_none_or_several(word: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        Host.discover().find(word)


def test_a_word_that_finds_none_tells_what_is_broken(install: Install) -> None:
    install("broken", "raise RuntimeError('the disk ate it')")
    with pytest.raises(PluginError) as told:
        Host.discover().find("broken_system")
    assert str(told.value).splitlines()[1:] == [
        "  plugin 'broken' of broken 1.5 is not usable: RuntimeError: the disk ate it"
    ]


# --- declared failures ---------------------------------------------------------------------------------------------


def test_a_system_declares_what_its_parts_declare(install: Install) -> None:
    install(
        "honest",
        """
        from ser_bench.interface import AudioEncoderSpec, FusionHeadSpec, SystemSpec, hookimpl

        @hookimpl
        def ser_bench_audio_encoders():
            yield AudioEncoderSpec(
                name="stacked", summary="One", dim=8, depth=1, build=None, known_failures={"padding": "2.7 at 12 s"}
            )

        @hookimpl
        def ser_bench_fusion_heads():
            yield FusionHeadSpec(name="plain", summary="A head", build=None, known_failures={"bfloat16": "0.3"})

        @hookimpl
        def ser_bench_systems():
            yield SystemSpec(
                name="both", summary="Two", audio="stacked", head="plain", known_failures={"bfloat16": "0.4 of a CCC"}
            )
        """,
    )
    host = Host.discover()
    assert host.failures == []
    assert host.known_failures(host.get("audio", "stacked")) == {"padding": "2.7 at 12 s"}
    # The system's own words stand before its parts'.
    assert host.known_failures(host.get("system", "both")) == {
        "padding": "audio:stacked: 2.7 at 12 s",
        "bfloat16": "0.4 of a CCC",
    }
    assert host.known_failures(host.get("system", "mean_only")) == {}


@pytest.mark.parametrize("known", [{"padding": ""}, {"padding": 3}, {3: "why"}, ["padding"], "padding"])
def test_a_declaration_needs_a_check_and_a_reason(known: object) -> None:
    with pytest.raises(
        PluginError, match=r"^head:mine declares known_failures .*; expected the name of a contract check"
    ):
        FusionHeadSpec(name="mine", summary="A head", build=print, known_failures=known)  # type: ignore[arg-type]


def test_specs_with_declarations_can_be_keys() -> None:
    one, other = (
        FusionHeadSpec(name="mine", summary="A head", build=print, known_failures={"order": why}) for why in ("a", "b")
    )
    assert one != other
    assert len({one: 1, other: 2}) == 2


# --- one broken plugin among others ----------------------------------------------------------------------------------

FAULTY = """
from ser_bench.interface import FusionHeadSpec, SystemSpec, hookimpl

def build(fault):
    def build(audio, text, *, dropout):
        import torch

        class Head(torch.nn.Linear):
            def __init__(self):
                if fault == "build":
                    raise ValueError("by design")
                super().__init__(audio, 3)

            def fit(self, audio, text, labels):
                if fault == "fit":
                    raise ValueError("by design")

            def forward(self, audio, text):
                if fault == "forward":
                    raise ValueError("by design")
                return super().forward(audio)[:, : 2 if fault == "shape" else 3]

        return Head()

    return build

@hookimpl
def ser_bench_fusion_heads():
    for fault in ("build", "fit", "forward", "shape"):
        yield FusionHeadSpec(name=fault, summary="A head", pooling="mean", build=build(fault))

@hookimpl
def ser_bench_systems():
    for fault in ("build", "fit", "forward", "shape"):
        yield SystemSpec(name="fails_in_" + fault, summary="A system", audio="logmel", head=fault)
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "build",
            r"^head:build \(faulty 1\.5\) failed to build: ValueError: by design\. Correct the plugin; --debug shows",
        ),
        ("fit", r"^head:fit \(faulty 1\.5\) failed in fit: ValueError: by design\. Correct the plugin;"),
        ("forward", r"^head:forward \(faulty 1\.5\) failed in forward: ValueError: by design\. Correct the plugin;"),
        ("shape", r"^head:shape \(faulty 1\.5\): forward gave float32 \[3, 2\], expected floating-point \[3, 3\]\.$"),
    ],
)
def test_a_plugin_that_fails_when_it_is_used_is_named_and_costs_the_others_nothing(
    install: Install, fault: str, said: str
) -> None:
    install("faulty", FAULTY)
    host = Host.discover()
    assert host.failures == []

    def used(name: str) -> torch.Tensor:
        plan = host.plan(name)
        module: Any = system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe)
        solve = system.fit_head(module)
        if solve is not None:
            solve(torch.zeros(4, 32), None, torch.zeros(4, 3))
        return module(torch.zeros(3, 5, 64), torch.tensor([5, 4, 3]), None, None)  # type: ignore[no-any-return]

    with pytest.raises(PluginError, match=said):
        used(f"fails_in_{fault}")
    assert used("logmel").shape == (3, 3)


FAMILY = """
from ser_bench.errors import WeightsError
from ser_bench.interface import AudioEncoderSpec, EncoderFamily, TextEncoderSpec, hookimpl
def describe(address):
    if address == "raises":
        raise ValueError("no such thing\\nat all")
    if address == "refuses":
        raise WeightsError("refuses is no encoder. Name another.")
    if address == "text":
        return TextEncoderSpec(name="many:text", summary="A text encoder", dim=1, depth=0, build=print)
    if address == "nothing":
        return None
    name = "another" if address == "another" else f"many:{address}"
    return AudioEncoderSpec(name=name, summary="One of many", dim=2, depth=3, build=print)
@hookimpl
def ser_bench_audio_encoders():
    yield EncoderFamily(kind="audio", name="many", summary="any number", describe=describe)
"""


def test_a_family_describes_encoders_by_address(install: Install) -> None:
    install("families", FAMILY)
    host = Host.discover()
    found = host.get("audio", "many:one/of@them")
    assert (str(found), found.spec.dim) == ("audio:many:one/of@them (families 1.5)", 2)
    assert host.find("many:x").spec.name == host.find("audio:many:x").spec.name == "many:x"
    assert host.compose(audio="many:x", depth=2).name == "many:x[2]>concat"
    assert "many" not in [offer.spec.name for offer in host.usable("audio")]
    assert [offer.spec.name for offer in host.families("audio")] == ["hf", "many"]


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("", PluginError, "stands for many: any number. Name one as many:ADDRESS, such as a folder."),
        ("raises", PluginError, "failed to describe raises: ValueError: no such thing. Correct the plugin."),
        ("refuses", WeightsError, ": refuses is no encoder. Name another."),
        (
            "text",
            PluginError,
            "described text as TextEncoderSpec named 'many:text', expected AudioEncoderSpec named 'many:...'. Correct "
            "the plugin.",
        ),
        (
            "nothing",
            PluginError,
            "described nothing as NoneType named None, expected AudioEncoderSpec named 'many:...'. Correct the plugin.",
        ),
        (
            "another",
            PluginError,
            "described another as AudioEncoderSpec named 'another', expected AudioEncoderSpec named 'many:...'. "
            "Correct the plugin.",
        ),
    ],
)
def test_a_family_that_does_not(install: Install, address: str, error: type[Exception], said: str) -> None:
    install("families", FAMILY)
    with pytest.raises(error) as caught:
        Host.discover().get("audio", f"many:{address}")
    between = "" if said.startswith(":") else " "
    assert str(caught.value) == f"audio:many (families 1.5){between}{said}"
