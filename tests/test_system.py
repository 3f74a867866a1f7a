"""The one face of a system, whole, composed or frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from training.toys import Encoder, Mean, composed

from ser_bench import system
from ser_bench.errors import PluginError, WeightsError
from ser_bench.host import Offer, Plan, host
from ser_bench.interface import (
    AudioEncoderSpec,
    Encoded,
    FusionHeadSpec,
    Recipe,
    TextEncoderSpec,
    Tokens,
    WholeSystemSpec,
)
from ser_bench.pooling import pool
from ser_bench.training.batches import Inputs, load
from ser_bench.training.predict import predict

CPU = torch.device("cpu")
WAVES = [torch.randn(4 * t, generator=torch.Generator().manual_seed(t)) for t in (3, 9, 1, 5)]


def stored(module: Any) -> Inputs:
    frames = [module.audio_frontend(wave).numpy() for wave in WAVES]
    return Inputs(
        utterance=list("abcd"),
        duration=np.array([3.0, 9, 1, 5]),
        labels=np.zeros((4, 3), np.float32),
        audio=frames,  # type: ignore[arg-type]
        text=None,
    )


@pytest.mark.parametrize(
    ("pooling", "layers", "shape"),
    # What is kept of an utterance of 3 frames: [1, p], [L, p], [t, d], [t, L d].
    [("mean", False, (1, 4)), ("mean", True, (3, 4)), (None, False, (3, 4)), (None, True, (3, 12))],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_frozen_is_the_composition_in_eval_mode(
    pooling: str | None, layers: bool, shape: tuple[int, int], batch_size: int
) -> None:
    whole = composed(pooling=pooling, layers=layers, dropout=0.5).eval()
    expected = predict(whole, stored(whole), batch_size=batch_size, device=CPU)
    frozen = system.Frozen(composed(pooling=pooling, layers=layers, dropout=0.5))
    inputs = stored(frozen)
    assert inputs.audio is not None
    assert inputs.audio[0].shape == shape
    assert inputs.audio[0].dtype == np.float32
    found = predict(frozen, inputs, batch_size=batch_size, device=CPU)
    assert np.abs(found - expected).max() < 1e-6
    assert np.ptp(expected, axis=0).min() > 1e-2


@pytest.mark.parametrize("head", ["concat", "linear"])
@torch.no_grad()
def test_frozen_with_the_built_in_parts(head: str) -> None:
    plan = host().compose(audio="distilhubert", text="tinybert", head=head)
    torch.manual_seed(0)
    whole: Any = system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe).eval()
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) * 0.1 for n in (4000, 9000)]
    texts = ["", "well it was a long day"]

    def found(module: Any) -> torch.Tensor:
        frames: Any = [module.audio_frontend(wave).numpy() for wave in waves]
        tokens: Any = [module.text_frontend(text).ids.numpy() for text in texts]
        batch = load(
            Inputs(utterance=texts, duration=np.ones(2), labels=np.zeros((2, 3)), audio=frames, text=tokens),
            np.arange(2),
        )
        given: torch.Tensor = module(batch.audio, batch.audio_lengths, batch.text, batch.text_lengths)
        return given

    expected = found(whole)
    frozen = found(system.Frozen(whole).eval())
    assert float((frozen - expected).abs().max()) < 1e-6


def test_frozen_encoders_are_in_eval_mode_from_the_start() -> None:
    frozen = system.Frozen(composed(dropout=0.5))
    for _ in range(2):
        assert frozen.inner.head.training
        assert not any(module.training for module in frozen.inner.audio.modules())
        assert torch.equal(frozen.audio_frontend(WAVES[0]), frozen.audio_frontend(WAVES[0]))
        frozen.train()
    assert not frozen.eval().inner.head.training
    assert system.count(frozen) == (4 * 4 * 2 + 8 + 15, 15)


def test_frozen_states_depend_on_weights_pooling_and_layers() -> None:
    states = [
        system.digest(system.Frozen(composed(pooling=pooling, layers=layers, seed=seed)).frontend_state("audio"))
        for pooling, layers, seed in (("mean", False, 0), ("max", False, 0), ("mean", True, 0), ("mean", False, 1))
    ]
    assert len(set(states)) == 4
    again = system.Frozen(composed())
    torch.nn.init.zeros_(again.inner.head.layer.weight)  # the head is no part of what is stored
    assert system.digest(again.frontend_state("audio")) == states[0]


@torch.no_grad()
def test_composed_pools_what_the_head_asks_for() -> None:
    frames, lengths = torch.randn(2, 6, 4), torch.tensor([6, 2])
    one = composed(pooling="mean_max")
    hidden = one.audio(frames, lengths).hidden
    assert torch.equal(one.encode("audio", frames, lengths), pool("mean_max", hidden, lengths))
    every = composed(layers=True).encode("audio", frames, lengths)
    assert isinstance(every, torch.Tensor)
    assert every.shape == (2, 3, 4)
    assert torch.equal(every[:, 0], pool("mean", frames, lengths))
    assert isinstance(composed(pooling=None).encode("audio", frames, lengths), Encoded)


def test_a_modality_that_is_not_there() -> None:
    with pytest.raises(PluginError, match=r"this system reads no text, yet text was given to it\."):
        composed().text_frontend("hello")


def test_layers_that_are_not_given() -> None:
    one = composed(layers=True)
    one.audio.forward = lambda frames, lengths, *, layers: Encoded(frames, lengths, None)
    with pytest.raises(PluginError, match=r"^the audio encoder: forward gave no layers though its head reads them;"):
        one.encode("audio", torch.randn(1, 2, 4), torch.tensor([2]))


def plan(build: Any) -> Plan:
    audio = Offer(AudioEncoderSpec(name="toy", summary="toy", dim=4, depth=2, build=build), "toys", "1.2")
    head = Offer(FusionHeadSpec(name="mean", summary="toy", pooling="mean_std", build=_head), "toys", "1.2")
    return Plan(
        name="toy", distribution="toys", version="1.2", recipe=Recipe(head_dropout=0.3), audio=audio, head=head, depth=1
    )


def _head(audio: int | None, text: int | None, *, dropout: float) -> torch.nn.Module:
    assert (audio, text, dropout) == (8, None, 0.3)  # mean and standard deviation of width 4
    return Mean(8)


def test_build_hands_over_depth_width_and_dropout() -> None:
    given: dict[str, Any] = {}

    def build(weights: Any, **rest: Any) -> torch.nn.Module:
        given.update(rest, weights=weights)
        return Encoder()

    recipe = Recipe(head_dropout=0.3)
    built = system.build(plan(build), {"audio": "tiny"}, recipe)
    assert given == {"weights": "tiny", "depth": 1, "regularisation": recipe.regularisation}
    assert isinstance(built, system.Composed)
    assert built(torch.randn(2, 5, 4), torch.tensor([5, 3]), None, None).shape == (2, 3)


def test_a_strangers_build_that_fails_is_named() -> None:
    def broken(weights: Any, **rest: Any) -> torch.nn.Module:
        raise KeyError("layer")

    with pytest.raises(PluginError, match=r"audio:toy \(toys 1\.2\) failed to build: KeyError: 'layer'"):
        system.build(plan(broken), {}, Recipe())
    with pytest.raises(PluginError, match=r"audio:toy \(toys 1\.2\): build gave a list, expected a torch\.nn\.Module"):
        system.build(plan(lambda *_, **__: []), {}, Recipe())


def test_digest_sees_values_shapes_types_and_names() -> None:
    value = torch.arange(6.0)
    states: list[dict[str, Any]] = [
        {"a": value},
        {"b": value},
        {"a": value.reshape(2, 3)},
        {"a": value.double()},
        {"a": value + torch.tensor([0, 0, 0, 0, 0, 1e-6])},
        {"a": value, "limit": 3},
        {"a": value, "limit": "3"},
        {"a": torch.zeros(0)},
    ]
    assert len({system.digest(state) for state in states}) == len(states)
    assert system.digest({"b": 1, "a": value}) == system.digest({"a": value.clone(), "b": 1})


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_runs_in_float32_under_autocast(frozen: bool) -> None:
    seen = []
    module: Any = composed()
    real = module.head.forward

    def forward(audio: Any, text: Any) -> torch.Tensor:
        seen.append((audio.dtype, torch.is_autocast_enabled("cpu")))
        return real(audio, text)

    module.head.forward = forward
    module = system.Frozen(module) if frozen else module
    inputs = stored(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predict(module, inputs, batch_size=4, device=CPU)
    assert set(seen) == {(torch.float32, False)}
    # A bfloat16 result would lie on a grid of 8 significant bits.
    as_bfloat16 = torch.from_numpy(found).bfloat16().double().numpy()
    assert not np.array_equal(found, as_bfloat16)


# --- a stranger's code -----------------------------------------------------------------------------------------------

FRAMES, LENGTHS = torch.zeros(2, 5, 4), torch.tensor([5, 3])
IDS = torch.zeros(2, 5, dtype=torch.int64)


class Everything(torch.nn.Module):
    """An audio encoder, text encoder, head and whole system in one; each of its methods does what it is told to."""

    def __init__(self, does: Callable[[str, Any], Any] = lambda method, usual: usual) -> None:
        super().__init__()
        self.dim, self.depth, self.does = 4, 2, does
        self.layer = torch.nn.Linear(4, 3)

    def frontend(self, given: Any) -> Any:
        usual = Tokens(torch.zeros(3, dtype=torch.int64)) if isinstance(given, str) else torch.zeros(3, 4)
        return self.does("frontend", usual)

    audio_frontend = text_frontend = frontend

    def frontend_state(self, *_: Any) -> Any:
        return self.does("frontend_state", {"family": "toy"})

    def fit(self, *_: Any) -> Any:
        return self.does("fit", None)

    def forward(self, *given: Any, layers: bool = False) -> Any:
        if len(given) == 4:  # a whole system
            return self.does("forward", torch.zeros(2, 3))
        first, second = given
        if second is None or second.dtype != torch.int64:  # a head
            return self.does("head", torch.zeros(2, 3))
        states = first if first.ndim == 3 else torch.zeros(*first.shape, 4)
        return self.does("forward", Encoded(states, second, (states,) * 3 if layers else None))


def strange(
    does: Callable[[str, Any], Any], *, whole: bool = False, reads: tuple[Any, ...] = ("audio", "text"), **spec: Any
) -> Any:
    """Build a system all of whose parts are a stranger's."""

    def build(*_: Any, **__: Any) -> torch.nn.Module:
        return Everything(does)

    def offer(kind: Any, **rest: Any) -> Offer:
        return Offer(kind(name="toy", summary="toy", build=build, **rest), "toys", "1.2")

    common: dict[str, Any] = {"name": "toy", "distribution": "toys", "version": "1.2", "recipe": Recipe()}
    if whole:
        return system.build(Plan(**common, whole=offer(WholeSystemSpec, reads=reads)), {}, Recipe())
    parts = {
        "audio": offer(AudioEncoderSpec, dim=4, depth=2) if "audio" in reads else None,
        "text": offer(TextEncoderSpec, dim=4, depth=2) if "text" in reads else None,
        "head": offer(FusionHeadSpec, **{"pooling": "mean", **spec}),
    }
    return system.build(Plan(**common, **parts), {}, Recipe())


def raises_in(method: str, error: BaseException) -> Callable[[str, Any], Any]:
    def does(called: str, usual: Any) -> Any:
        if called == method:
            raise error
        return usual

    return does


def gives_in(method: str, value: Any) -> Callable[[str, Any], Any]:
    return lambda called, usual: value if called == method else usual


CALLS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "audio front end": (
        "frontend",
        lambda m: m.audio_frontend(torch.zeros(9)),
        "audio:toy (toys 1.2) failed in its front end",
    ),
    "text front end": ("frontend", lambda m: m.text_frontend("hello"), "text:toy (toys 1.2) failed in its front end"),
    "audio state": (
        "frontend_state",
        lambda m: m.frontend_state("audio"),
        "audio:toy (toys 1.2) failed in frontend_state",
    ),
    "text state": (
        "frontend_state",
        lambda m: m.frontend_state("text"),
        "text:toy (toys 1.2) failed in frontend_state",
    ),
    "audio forward": ("forward", lambda m: m(FRAMES, LENGTHS, None, None), "audio:toy (toys 1.2) failed in forward"),
    "text forward": ("forward", lambda m: m(None, None, IDS, LENGTHS), "text:toy (toys 1.2) failed in forward"),
    "head forward": ("head", lambda m: m(FRAMES, LENGTHS, IDS, LENGTHS), "head:toy (toys 1.2) failed in forward"),
    "text fit": ("fit", lambda m: system.fit_texts(m, ["a"]), "text:toy (toys 1.2) failed in fit"),
    "head fit": ("fit", lambda m: cast(Any, system.fit_head(m))(None, None, None), "head:toy (toys 1.2) failed in fit"),
}
WHOLE_CALLS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "front end": (
        "frontend",
        lambda m: m.audio_frontend(torch.zeros(9)),
        "system:toy (toys 1.2) failed in audio_frontend",
    ),
    "text": ("frontend", lambda m: m.text_frontend("hello"), "system:toy (toys 1.2) failed in text_frontend"),
    "state": ("frontend_state", lambda m: m.frontend_state("text"), "system:toy (toys 1.2) failed in frontend_state"),
    "forward": ("forward", lambda m: m(FRAMES, LENGTHS, IDS, LENGTHS), "system:toy (toys 1.2) failed in forward"),
    "fit": ("fit", lambda m: m.fit(None), "system:toy (toys 1.2) failed in fit"),
}
EVERY = [(False, *call) for call in CALLS.values()] + [(True, *call) for call in WHOLE_CALLS.values()]
EVERY_NAME = [*CALLS, *(f"whole {name}" for name in WHOLE_CALLS)]


@pytest.mark.parametrize(("whole", "method", "call", "said"), EVERY, ids=EVERY_NAME)
def test_whatever_a_stranger_raises_names_the_distribution(
    whole: bool, method: str, call: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(PluginError) as told:
        call(strange(raises_in(method, KeyError("by design\nand more")), whole=whole))
    assert str(told.value).startswith(said)
    assert str(told.value).endswith(": KeyError: 'by design\\nand more'. Correct the plugin; --debug shows where.")
    assert isinstance(told.value.__cause__, KeyError)
    # What it says in our family's words keeps them, and its class.
    with pytest.raises(WeightsError) as worded:
        call(strange(raises_in(method, WeightsError("no such layer.")), whole=whole))
    assert str(worded.value) == f"{said.split(' failed')[0]}: no such layer."
    # Leaving, as some libraries do when they miss something, is no way out either.
    with pytest.raises(PluginError, match=r"SystemExit: 3\. Correct the plugin;"):
        call(strange(raises_in(method, SystemExit(3)), whole=whole))
    # Who runs out of memory, the caller tells: it knows the batch.
    with pytest.raises(torch.OutOfMemoryError):
        call(strange(raises_in(method, torch.OutOfMemoryError("full")), whole=whole))
    call(strange(lambda called, usual: usual, whole=whole))


def test_a_frozen_encoder_that_fails_is_named_as_well() -> None:
    frozen: Any = system.Frozen(strange(raises_in("forward", ValueError("by design"))))
    with pytest.raises(PluginError, match=r"^audio:toy \(toys 1\.2\) failed in forward: ValueError: by design\."):
        frozen.audio_frontend(torch.zeros(9))
    headless: Any = system.Frozen(strange(raises_in("head", ValueError("by design"))))
    with pytest.raises(PluginError, match=r"^head:toy \(toys 1\.2\) failed in forward: ValueError: by design\."):
        headless(torch.zeros(2, 1, 4), torch.ones(2), None, None)


@pytest.mark.parametrize(
    ("method", "gives", "call", "said"),
    [
        (
            "frontend",
            torch.zeros(4),
            "audio front end",
            r"frontend gave float32 \[4\], expected floating-point frames \[t, c\]",
        ),
        ("frontend", torch.zeros(0, 4), "audio front end", r"frontend gave float32 \[0, 4\], expected .*, t >= 1\.$"),
        ("frontend", IDS, "audio front end", r"frontend gave int64 \[2, 5\], expected floating-point"),
        (
            "frontend",
            torch.tensor([[0.0, torch.nan], [1.0, torch.inf]]),
            "audio front end",
            r"frontend gave 2 of 4 numbers that are not finite\.$",
        ),
        ("frontend", None, "audio front end", r"frontend gave NoneType, expected floating-point frames"),
        (
            "frontend",
            IDS[0],
            "text front end",
            r"frontend gave int64 \[5\], expected interface\.Tokens\(ids, truncated\)",
        ),
        (
            "frontend",
            Tokens(IDS[0, :0]),
            "text front end",
            r"frontend gave ids int64 \[0\], expected int64 \[t\], t >= 1",
        ),
        ("frontend", Tokens(LENGTHS.float()), "text front end", r"frontend gave ids float32 \[2\], expected int64"),
        ("frontend_state", "toy", "audio state", r"frontend_state gave str, expected a mapping of names to values\.$"),
        (
            "frontend_state",
            {"size": 3, "mel": np.zeros(3), "steps": [1, {"a": set()}]},
            "text state",
            r"frontend_state holds 'mel' \(ndarray\), 'steps' \(list\); a store's key is made of tensors, numbers,",
        ),
        ("forward", FRAMES, "audio forward", r"forward gave float32 \[2, 5, 4\], expected interface\.Encoded\.$"),
        (
            "forward",
            Encoded(torch.zeros(2, 4), LENGTHS),
            "audio forward",
            r"forward gave hidden states float32 \[2, 4\], expected \[2, 5 or less, 4\]\.$",
        ),
        (
            "forward",
            Encoded(torch.zeros(2, 6, 4), LENGTHS),
            "text forward",
            r"forward gave hidden states float32 \[2, 6, 4\], expected \[2, 5 or less, 4\]\.$",
        ),
        (
            "forward",
            Encoded(torch.zeros(2, 5, 7), LENGTHS),
            "audio forward",
            r"forward gave states of width 7, and its dim says 4, which the head was built for\. Correct dim\.$",
        ),
        (
            "forward",
            Encoded(FRAMES, LENGTHS[:1]),
            "audio forward",
            r"forward gave lengths int64 \[1\], expected int64 \[2\]",
        ),
        (
            "head",
            torch.zeros(2, 2),
            "head forward",
            r"forward gave float32 \[2, 2\], expected floating-point \[2, 3\]\.$",
        ),
        (
            "head",
            torch.zeros(1, 3),
            "head forward",
            r"forward gave float32 \[1, 3\], expected floating-point \[2, 3\]\.$",
        ),
        ("head", [[0.0] * 3] * 2, "head forward", r"forward gave list, expected floating-point \[2, 3\]\.$"),
    ],
)
def test_what_is_no_such_thing_names_the_distribution(method: str, gives: Any, call: str, said: str) -> None:
    part = call.split()[0]
    with pytest.raises(PluginError, match=rf"^{part}:toy \(toys 1\.2\): {said}"):
        CALLS[call][1](strange(gives_in(method, gives)))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (None, r"forward gave no layers though its head reads them; return Encoded\.layers\.$"),
        ((FRAMES,), r"forward gave 1 states, expected 3 \(depth \+ 1\), each \[2, 5, 4\]\.$"),
        ((FRAMES, FRAMES, FRAMES[:, 1:]), r"forward gave 3 states with float32 \[2, 4, 4\], expected 3 "),
    ],
)
def test_layers_that_are_not_what_was_asked_for(layers: Any, said: str) -> None:
    one = strange(gives_in("forward", Encoded(FRAMES, LENGTHS, layers)), layers=True)
    with pytest.raises(PluginError, match=rf"^audio:toy \(toys 1\.2\): {said}"):
        one(FRAMES, LENGTHS, None, None)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (
            torch.zeros(1, 3),
            r"^system:toy \(toys 1\.2\): forward gave float32 \[1, 3\], expected floating-point \[2, 3\]",
        ),
        (torch.zeros(2, 3, dtype=torch.int64), r"forward gave int64 \[2, 3\], expected floating-point \[2, 3\]"),
    ],
)
def test_a_whole_system_that_gives_another_shape(gives: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        strange(gives_in("forward", gives), whole=True)(FRAMES, LENGTHS, IDS, LENGTHS)
    nothing = strange(gives_in("forward", torch.zeros(1, 3)), whole=True, reads=())
    assert nothing(None, None, None, None).shape == (1, 3)


def test_a_whole_system_asked_for_what_it_does_not_read() -> None:
    one = strange(lambda called, usual: usual, whole=True, reads=("audio",))
    for call in (lambda: one.text_frontend("hello"), lambda: one.frontend_state("text")):
        with pytest.raises(PluginError, match=r"^system:toy \(toys 1\.2\) reads no text, yet text was given to it\.$"):
            call()
    assert one.audio_frontend(torch.zeros(9)).shape == (3, 4)


def test_a_whole_system_without_a_fit_has_nothing_to_fit() -> None:
    system.Whole(torch.nn.Linear(2, 2), reads=(), name="system:toy (toys 1.2)").fit(cast(Any, None))


def test_an_encoder_without_its_sizes() -> None:
    def build(*_: Any, **__: Any) -> torch.nn.Module:
        return torch.nn.Linear(3, 3)

    with pytest.raises(
        PluginError, match=r"^audio:toy \(toys 1\.2\): the module's dim is None, expected a whole number of 1"
    ):
        system.build(plan(build), {}, Recipe())


def test_a_fit_without_a_pooling_names_the_head() -> None:
    one = strange(lambda called, usual: usual, pooling=None)
    with pytest.raises(PluginError, match=r"^head:toy \(toys 1\.2\): a head with a fit needs a pooling in its spec"):
        system.pooled(one, None)


def test_a_label_says_whose_numbers_they_are() -> None:
    parts = strange(lambda called, usual: usual)
    expected = "the system of audio:toy (toys 1.2), text:toy (toys 1.2), head:toy (toys 1.2)"
    assert system.label(parts) == system.label(system.Frozen(parts)) == expected
    assert system.label(strange(lambda called, usual: usual, whole=True)) == "system:toy (toys 1.2)"
    assert system.label(torch.nn.Linear(2, 2)) == "the system"


def test_a_head_that_reads_layers_is_told_how_many_there_are() -> None:
    given: dict[str, Any] = {}

    def build(audio: int | None, text: int | None, **rest: Any) -> torch.nn.Module:
        given.update(rest, audio=audio, text=text)
        return Mean(8)

    for layers in (True, False):
        spec = FusionHeadSpec(name="mean", summary="toy", pooling="mean_std", layers=layers, build=build)
        given.clear()
        system.build_head(Offer(spec, "toys", "1.2"), {"audio": 4}, {"audio": 2}, dropout=0.3)
        states = {"states": {"audio": 3}} if layers else {}
        assert given == {"audio": 8, "text": None, "dropout": 0.3, **states}


# --- counting without weights ----------------------------------------------------------------------------------------


class Tied(torch.nn.Module):
    """An output that shares the embedding's weight; a constructor that must see numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10_000, 100)
        self.output = torch.nn.Linear(100, 10_000, bias=False)
        self.output.weight = self.embedding.weight
        self.frozen = torch.nn.Parameter(torch.zeros(7), requires_grad=False)
        self.register_buffer("steps", torch.arange(5.0))
        assert float(self.steps.sum()) == 10  # type: ignore[operator]


def test_parameters_are_counted_without_storage() -> None:
    with system.without_storage():
        counted = Tied()
    assert system.count(counted) == system.count(Tied()) == (1_000_007, 1_000_000)
    assert {p.device.type for p in counted.parameters()} == {"meta"}
    assert counted.get_buffer("steps").device.type == "cpu"
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"  # outside, all is as before


def test_what_fails_while_counting_leaves_all_as_before() -> None:
    with pytest.raises(ZeroDivisionError), system.without_storage():
        raise ZeroDivisionError
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"
