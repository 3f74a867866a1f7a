from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ser_bench import recipes
from ser_bench.errors import TrainingError
from ser_bench.interface import Recipe, Regularisation


def test_keys_are_exactly_the_fields() -> None:
    found = recipes.keys()
    assert len(found) == len(set(found))
    outer = {field.name for field in dataclasses.fields(Recipe)} - {"regularisation"}
    inner = {f"regularisation.{field.name}" for field in dataclasses.fields(Regularisation)}
    assert set(found) == outer | inner


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("epochs", "10", 10),
        ("batch_size", 8, 8),
        ("learning_rate", "2e-5", 2e-5),
        ("weight_decay", "0", 0.0),
        ("head_learning_rate", "1e-3", 1e-3),
        ("head_learning_rate", "none", None),
        ("head_learning_rate", None, None),
        ("optimiser", "adamw", "adamw"),
        ("attributes", "valence", ("valence",)),
        ("attributes", "arousal, valence", ("arousal", "valence")),
        ("attributes", ["dominance"], ("dominance",)),
    ],
)
def test_a_value_as_typed_becomes_the_fields_type(key: str, typed: Any, value: Any) -> None:
    start = Recipe(head_learning_rate=0.5)
    changed = recipes.changed(start, {key: typed})
    assert getattr(changed, key) == value
    assert type(getattr(changed, key)) is type(value)
    assert dataclasses.replace(changed, **{key: getattr(start, key)}) == start  # and nothing else


def test_a_dotted_key_changes_the_inner_field_alone() -> None:
    start = Recipe(epochs=7, regularisation=Regularisation(layerdrop=0.2))
    changed = recipes.changed(start, {"regularisation.dropout": "0"})
    assert changed == dataclasses.replace(start, regularisation=Regularisation(dropout=0.0, layerdrop=0.2))
    assert start.regularisation.dropout == 0.1


def test_nothing_changed_is_the_same_recipe() -> None:
    assert recipes.changed(Recipe(epochs=3), {}) == Recipe(epochs=3)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("epochs", "ten", "recipe.epochs was given 'ten', expected a whole number"),
        ("epochs", "1.5", "recipe.epochs was given '1.5', expected a whole number"),
        ("epochs", 1.5, "recipe.epochs was given 1.5, expected a whole number"),
        ("epochs", True, "recipe.epochs was given True, expected a whole number"),
        ("epochs", None, "recipe.epochs was given None, expected a whole number"),
        ("learning_rate", "", "recipe.learning_rate was given '', expected a number"),
        ("learning_rate", "none", "recipe.learning_rate was given 'none', expected a number"),
        ("learning_rate", [1], "recipe.learning_rate was given [1], expected a number"),
        ("head_learning_rate", "x", "recipe.head_learning_rate was given 'x', expected a number or none"),
        ("attributes", 3, "recipe.attributes was given 3, expected names joined by commas"),
    ],
)
def test_a_value_of_the_wrong_type_is_told(key: str, value: Any, fault: str) -> None:
    with pytest.raises(TrainingError) as told:
        recipes.changed(Recipe(), {key: value})
    assert str(told.value) == f"the recipe cannot be changed so: {fault}."


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("epoch", "did you mean recipe.epochs?"),
        ("dropout", "did you mean recipe.head_dropout?"),
        ("regularisation.droput", "did you mean recipe.regularisation.dropout?"),
        ("zzz", "known are attributes, optimiser, "),
        ("__class__", "known are attributes, optimiser, "),
        ("", "known are attributes, optimiser, "),
    ],
)
def test_an_unknown_key_gets_a_hint(key: str, hint: str) -> None:
    with pytest.raises(TrainingError) as told:
        recipes.changed(Recipe(), {key: "1"})
    assert str(told.value).startswith(f"the recipe cannot be changed so: recipe.{key} is unknown ({hint}")


def test_all_faults_are_told_at_once_also_those_of_range() -> None:
    with pytest.raises(TrainingError) as told:
        recipes.changed(Recipe(), {"epoch": "3", "batch_size": "many", "patience": "0", "learning_rate": "7"})
    message = str(told.value)
    for fault in (
        "recipe.epoch is unknown",
        "recipe.batch_size was given 'many'",
        "patience is 0, expected 1 or more",
        "learning_rate is 7.0, expected between 0 and 1",
    ):
        assert message.count(fault) == 1
    assert ".." not in message


@pytest.mark.parametrize(("key", "value"), [("epochs", "0"), ("learning_rate", "nan"), ("attributes", "anger")])
def test_a_value_out_of_range_is_refused_by_the_recipe(key: str, value: str) -> None:
    with pytest.raises(TrainingError, match=rf"^the recipe cannot be trained: {key} is "):
        recipes.changed(Recipe(), {key: value})


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(
        attributes=("valence",),
        optimiser="adamw",
        learning_rate=0.1 + 0.2,  # a value that must keep all its digits
        head_learning_rate=1e-3,
        regularisation=Regularisation(time_mask=0.05),
    )
    plain = json.loads(json.dumps(recipes.as_dict(recipe)))
    assert recipes.from_dict(plain) == recipe
    assert recipes.from_dict(json.loads(json.dumps(recipes.as_dict(Recipe())))) == Recipe()


def test_from_dict_refuses_unknown_keys() -> None:
    with pytest.raises(TrainingError, match=r"recipe\.momentum is unknown"):
        recipes.from_dict(recipes.as_dict(Recipe()) | {"momentum": 0.9})
