"""What a report says beside its numbers: in what it departs from the paper, and what refutes a claim."""

from __future__ import annotations

from typing import Any

import pytest
from studies import made

from ser_bench import recipes
from ser_bench.interface import Recipe
from ser_bench.leaderboard.svg import Drawing
from ser_bench.studies import figure2, figure3, paper
from ser_bench.studies.claims import Test as Part
from ser_bench.studies.claims import claim
from ser_bench.studies.report import Report, departures, markdown


def record(name: str = "distilhubert", **changes: Any) -> dict[str, Any]:
    """Make what tells departures of a record that has none; ``changes`` replace what ``a__b`` names."""
    found: dict[str, Any] = {
        "system": {"name": name, "parts": [{"weights": "pretrained"}]},
        "corpus": {
            "name": "msp-podcast", "release": paper.RELEASE, "identity": "counts match",
            "partitions": {"train": {"missing": 0}, "test1": {"missing": 0}},
        },
        "transcripts": {"train": "human"},
        "recipe": recipes.as_dict(Recipe()),
        "signature": "s",
        "runs": [],
    }  # fmt: skip
    for place, value in changes.items():
        *path, last = place.split("__")
        inner = found
        for step in path:
            inner = inner[step]
        inner[last] = value
    return found


def recipe(**changes: Any) -> dict[str, Any]:
    return recipes.as_dict(recipes.changed(Recipe(), changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"transcripts__train": "none"}, []),
        ({"corpus__name": "stand-in"}, ["the corpus is stand-in"]),
        ({"corpus__release": "1.11"}, ["the release is 1.11, not 1.10"]),
        ({"corpus__identity": "unconfirmed"}, ["that the release is 1.10 is unconfirmed"]),
        ({"corpus__partitions": {"test1": {"missing": 3}}}, ["3 utterances are missing"]),
        ({"transcripts__train": "whisper-tiny@123abc"}, ["the text is whisper-tiny@123abc's, not human"]),
        ({"system__parts": [{"weights": "tiny"}]}, ["weights are tiny"]),
        ({"recipe": recipe(epochs=3)}, ["recipe.epochs is 50 by default and 3 here"]),
        ({"recipe": recipe(**{"regularisation.dropout": 0.2})},
         ["recipe.regularisation.dropout is 0.1 by default and 0.2 here"]),
        ({"head_recipe": recipe(**figure3.HEAD), "first_stage": {"system": "distilhubert"}},
         ["head_recipe.learning_rate is 1e-05 by default and 0.0001 here"]),
    ],
)  # fmt: skip
def test_each_departure_is_told(changes: dict[str, Any], told: list[str]) -> None:
    assert departures([record(**changes)]) == told


def test_what_a_study_varies_by_design_is_none() -> None:
    asr = record(transcripts__train="whisper-tiny@123abc")
    assert departures([record(), asr], {"transcripts"}) == []
    alone = record(recipe=recipe(attributes="valence"))
    assert departures([alone], {"attributes"}) == []
    assert len(departures([alone])) == 1
    heads = record("hubert_base>weighted_layers", recipe=recipe(**figure2.RECIPE, attributes="valence"))
    assert departures([heads], {"attributes"}) == [
        "recipe.learning_rate is 1e-05 by default and 0.0003 here", "recipe.patience is 5 by default and 10 here",
    ]  # fmt: skip


def test_a_system_with_a_recipe_of_its_own_is_held_against_that() -> None:
    own = recipes.as_dict(host_recipe("logmel"))
    assert departures([record("logmel", recipe=own)]) == ["logmel is not the paper's"]
    assert departures([record("logmel", recipe=own | {"epochs": own["epochs"] + 1})])[1:] == [
        f"recipe.epochs is {own['epochs']} by default and {own['epochs'] + 1} here"
    ]


def host_recipe(name: str) -> Recipe:
    from ser_bench.host import host

    return host().plan(name).recipe


def test_only_what_a_verdict_rests_on_is_explained_and_marked() -> None:
    tests = [
        Part(what=what, found="f", supports=False, against=p)
        for what, p in (("sure", 0.001), ("chance", 0.04), ("nothing", 1.0))
    ]
    usual: dict[str, Any] = {
        "study": "s", "title": "T", "intro": "I", "tables": (), "columns": (), "rows": (),
        "claims": (claim("a", "A", tests, how="H."),), "drawing": Drawing(10, 10, "t", "d"),
    }  # fmt: skip
    few = {"x": record(runs=made.record(made.both(0.5, 0.5, 0.5), clusters=4)["runs"])}
    text = markdown(Report(**usual), few, 0.01)
    assert "- sure: f; refutes it\n- chance: f\n- nothing: f" in text
    assert "Differences within 0.01 CCC are of no importance (the margin)." in text
    assert "under 5 the paired test decides nothing" in text
    alone = markdown(Report(**usual, compares=False, departs=("one thing is other",)), few, 0.01)
    assert "; refutes it" in alone
    assert not any(word in alone for word in ("margin", "paired test", "speakers"))
    assert "> **Not the paper's setting**: one thing is other. " in alone
