from __future__ import annotations

import dataclasses

import pytest

from ser_bench.errors import PluginError, TrainingError
from ser_bench.interface import (
    ATTRIBUTES,
    AudioEncoderSpec,
    FusionHeadSpec,
    Recipe,
    Regularisation,
    SystemSpec,
    TextEncoderSpec,
    WholeSystemSpec,
)


def named(name: str) -> list[object]:
    """Make a spec of every class under a name."""
    common = {"name": name, "summary": "A part", "build": print}
    return [
        AudioEncoderSpec(**common, dim=1, depth=1),  # type: ignore[arg-type]
        TextEncoderSpec(**common, dim=1, depth=1),  # type: ignore[arg-type]
        FusionHeadSpec(**common),  # type: ignore[arg-type]
        WholeSystemSpec(**common, reads=()),  # type: ignore[arg-type]
        SystemSpec(name=name, summary="A part", audio="logmel"),
    ]


@pytest.mark.parametrize("name", ["a", "0", "wav2vec2-base.960h_v1", "a" * 64])
def test_good_names(name: str) -> None:
    assert len(named(name)) == 5


@pytest.mark.parametrize("name", ["", "A", "a b", "a:", "a/b", "-a", ".a", "é", "a" * 65, "a\n", "a>b", "a+b", "a[2]"])
def test_bad_names_are_quoted_with_the_rule(name: str) -> None:
    """What delimits addresses, compositions, signatures and folders cannot be in a name."""
    makers = {
        "audio": lambda: AudioEncoderSpec(name=name, summary="s", dim=1, depth=1, build=print),
        "text": lambda: TextEncoderSpec(name=name, summary="s", dim=1, depth=1, build=print),
        "head": lambda: FusionHeadSpec(name=name, summary="s", build=print),
        "system": lambda: SystemSpec(name=name, summary="s", audio="logmel"),
    }
    for kind, make in makers.items():
        with pytest.raises(PluginError) as told:
            make()
        assert str(told.value) == (
            f"a {kind} plugin is named {name!r}; a name has 1 to 64 of a-z, 0-9, '_', '-', '.' and starts with a "
            "letter or digit. Rename it in its spec."
        )
    with pytest.raises(PluginError, match="a system plugin is named"):
        WholeSystemSpec(name=name, summary="s", reads=(), build=print)


def test_a_summary_is_needed() -> None:
    with pytest.raises(PluginError, match=r"^head:mine has no summary; give one line that says what it is\.$"):
        FusionHeadSpec(name="mine", summary="", build=print)


def test_an_unknown_pooling_is_refused_and_the_known_named() -> None:
    with pytest.raises(
        PluginError, match=r"^head:mine names the pooling 'median'; known are mean, max, mean_max, mean_std\.$"
    ):
        FusionHeadSpec(name="mine", summary="s", pooling="median", build=print)
    assert FusionHeadSpec(name="mine", summary="s", build=print).pooling is None


def test_a_system_must_read_something_unless_it_is_whole() -> None:
    with pytest.raises(PluginError, match=r"^system:deaf has neither audio nor text encoder; a whole system may read"):
        SystemSpec(name="deaf", summary="s")
    assert WholeSystemSpec(name="floor", summary="s", reads=(), build=print).reads == ()


def test_a_depth_without_audio_encoder_is_refused() -> None:
    with pytest.raises(PluginError, match=r"^system:reader has depth 2 and no audio encoder"):
        SystemSpec(name="reader", summary="s", text="tinybert", depth=2)


@pytest.mark.parametrize("reads", [("audoi",), ("audio", "video"), "audio"])
def test_a_whole_system_reads_audio_and_text_alone(reads: object) -> None:
    with pytest.raises(
        PluginError, match=r"^system:whole reads .*, expected a tuple of 'audio' and 'text', or \(\)\.$"
    ):
        WholeSystemSpec(name="whole", summary="s", reads=reads, build=print)  # type: ignore[arg-type]


def test_the_recipes_defaults_are_the_papers() -> None:
    """Paper section 3.2: Adam, 1e-5, batches of 16, dropout 0.1; three attributes."""
    recipe = Recipe()
    assert (recipe.optimiser, recipe.learning_rate, recipe.batch_size) == ("adam", 1e-5, 16)
    assert (recipe.head_dropout, recipe.regularisation.dropout) == (0.1, 0.1)
    assert (recipe.attributes, recipe.weight_decay, recipe.head_learning_rate) == (ATTRIBUTES, 0.0, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"attributes": ()}, "attributes is [], expected different names out of ['arousal', 'valence', 'dominance']"),
        ({"attributes": ("arousal", "arousal")}, "attributes is ['arousal', 'arousal'], expected different names"),
        ({"attributes": ("anger",)}, "attributes is ['anger'], expected"),
        ({"optimiser": "sgd"}, "optimiser is 'sgd', expected 'adam' or 'adamw'"),
        ({"batch_size": 1}, "batch_size is 1, expected 2 or more"),  # the CCC of one utterance is not defined
        ({"epochs": 0}, "epochs is 0, expected 1 or more"),
        ({"precision": "float16"}, "precision is 'float16', expected 'auto' or 'float32' or 'bfloat16'"),
        ({"frontend_precision": "auto"}, "frontend_precision is 'auto', expected 'float32' or 'bfloat16'"),
        ({"patience": 0}, "patience is 0, expected 1 or more"),
        ({"bucket_batches": 0}, "bucket_batches is 0, expected 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected between 0 and 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, expected between 0 and 1"),
        ({"head_learning_rate": 1.0}, "head_learning_rate is 1.0, expected between 0 and 1"),
        ({"weight_decay": 1.0}, "weight_decay is 1.0, expected 0 or more and less than 1"),
        ({"head_dropout": 1.0}, "head_dropout is 1.0, expected 0 or more and less than 1"),
        (
            {"regularisation": Regularisation(layerdrop=-0.1)},
            "regularisation.layerdrop is -0.1, expected 0 or more and less than 1",
        ),
        (
            {"regularisation": Regularisation(time_mask=float("nan"))},
            "regularisation.time_mask is nan, expected 0 or more and less than 1",
        ),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(fields: dict[str, object], fault: str) -> None:
    with pytest.raises(TrainingError) as told:
        Recipe(**fields)  # type: ignore[arg-type]
    assert str(told.value).startswith(f"the recipe cannot be trained: {fault}")
    assert str(told.value).endswith(". Correct it with --set recipe.KEY=VALUE.")
    assert str(told.value).count(";") == 0


def test_all_faults_of_a_recipe_are_told_at_once() -> None:
    with pytest.raises(TrainingError) as told:
        Recipe(batch_size=0, epochs=-1, learning_rate=2, regularisation=Regularisation(dropout=1))
    assert str(told.value) == (
        "the recipe cannot be trained: batch_size is 0, expected 2 or more; epochs is -1, expected 1 or more; "
        "learning_rate is 2, expected between 0 and 1; regularisation.dropout is 1, expected 0 or more and less than "
        "1. Correct it with --set recipe.KEY=VALUE."
    )


@pytest.mark.parametrize("name", ["a:b", "many:Own/er_2@0123abcd", "a:" + "b" * 120])
def test_what_a_family_described_has_an_address_in_its_name(name: str) -> None:
    assert AudioEncoderSpec(name=name, summary="s", dim=1, depth=1, build=print).name == name
    assert TextEncoderSpec(name=name, summary="s", dim=1, depth=1, build=print).name == name
    for make in (FusionHeadSpec, WholeSystemSpec):
        with pytest.raises(PluginError, match=f"a {make.kind} plugin is named '{name}'; a name has 1 to 64 of a-z"):
            make(name=name, summary="s", build=print, **({"reads": ()} if make is WholeSystemSpec else {}))
