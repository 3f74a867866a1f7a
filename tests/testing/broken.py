"""A stranger's plugins, each sound but for one fault; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from ser_bench.interface import (
    AudioEncoderSpec,
    FusionHeadSpec,
    Source,
    SystemSpec,
    TextEncoderSpec,
    WholeSystemSpec,
    hookimpl,
)


def _build(name: str) -> Callable[..., Any]:
    def build(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module("testing.broken_modules"), name)(*args, **kwargs)

    return build


_audio = partial(AudioEncoderSpec, summary="An audio encoder", dim=16, depth=1)
_text = partial(TextEncoderSpec, summary="A text encoder", dim=16, depth=1)
_head = partial(FusionHeadSpec, summary="A head", pooling="mean")
_whole = partial(WholeSystemSpec, summary="A whole system")


@hookimpl
def ser_bench_audio_encoders() -> Iterator[AudioEncoderSpec]:
    yield _audio(name="sound", build=_build("Audio"))
    yield _audio(name="says_another_dim", build=_build("Audio"), dim=17)
    yield _audio(name="says_another_depth", build=_build("Audio"), depth=2)
    yield _audio(name="takes_any_depth", build=_build("AnyDepth"))
    yield _audio(name="guessed_revision", build=_build("Audio"), source=Source(repo="someone/some", revision="main"))
    yield _audio(name="repo_is_a_page", build=_build("Audio"), source=Source(repo="https://example.org/some"))
    yield _audio(name="unknown_declaration", build=_build("Audio"), known_failures={"pading": "3e-4 at 12 s"})
    yield _audio(name="hidden_is_not_last", build=_build("HiddenIsNotLast"))
    yield _audio(name="float64_frames", build=_build("Float64Frames"))
    yield _audio(name="fails_on_one_sample", build=_build("FailsOnOneSample"))
    yield _audio(name="refuses_one_sample", build=_build("RefusesOneSample"))
    yield _audio(name="reads_padding", build=_build("ReadsPadding"))
    yield _audio(name="reads_nan", build=_build("ReadsNan"))
    yield _audio(name="forgets_order", build=_build("ForgetsOrder"))
    yield _audio(name="dithers", build=_build("Dithers"))
    yield _audio(name="drifts", build=_build("Drifts"))
    yield _audio(name="log_of_silence", build=_build("LogOfSilence"))
    yield _audio(name="wants_float32", build=_build("WantsFloat32"))
    yield _audio(name="left_on_the_cpu", build=_build("LeftOnTheCpu"))
    yield _audio(name="unused_parameter", build=_build("UnusedParameter"))
    yield _audio(name="trains_its_front_end", build=_build("TrainsItsFrontEnd"))
    yield _audio(name="climbs", build=_build("Climbs"))
    yield _audio(name="known", build=_build("ReadsPadding"), known_failures={"padding": "2e-1 of 12 s, by design."})
    yield _audio(name="stale", build=_build("Audio"), known_failures={"padding": "3e-4 at 12 s."})


@hookimpl
def ser_bench_text_encoders() -> Iterator[TextEncoderSpec]:
    yield _text(name="sound", build=_build("Text"))
    yield _text(name="chokes_on_nothing", build=_build("ChokesOnNothing"))
    yield _text(name="cuts_in_silence", build=_build("CutsInSilence"))
    yield _text(name="forgets_its_words", build=_build("ForgetsItsWords"))
    yield _text(name="reads_no_words", build=_build("ReadsNoWords"))


@hookimpl
def ser_bench_fusion_heads() -> Iterator[FusionHeadSpec]:
    yield _head(name="sound", build=_build("Head"))
    yield _head(name="both_alone", build=_build("BothAlone"))
    yield _head(name="divides_by_zero", build=_build("DividesByZero"))
    yield _head(name="ignores_text", build=_build("IgnoresText"))
    yield _head(name="fit_without_pooling", build=_build("FitWithoutPooling"), pooling=None)
    yield _head(name="forgets_fit", build=_build("ForgetsFit"))


@hookimpl
def ser_bench_systems() -> Iterator[SystemSpec | WholeSystemSpec]:
    yield SystemSpec(name="sound", summary="A system", audio="sound", text="sound", head="sound")
    yield SystemSpec(name="of_known", summary="A system", audio="known", head="sound")
    yield SystemSpec(name="of_stale", summary="A system", audio="stale", head="sound")
    yield _whole(name="whole", build=_build("WholeSystem"), reads=("audio", "text"))
    yield _whole(name="ignores_text", build=_build("WholeIgnoresText"), reads=("audio", "text"))
    yield _whole(name="peeks_at_text", build=_build("WholePeeks"), reads=("audio",))
    yield _whole(name="peeks_at_audio", build=_build("WholePeeksAtAudio"), reads=("text",))
    yield _whole(name="no_text_frontend", build=_build("WholeWithoutFrontend"), reads=("audio", "text"))
