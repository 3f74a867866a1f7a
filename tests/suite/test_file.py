"""A suite's file: what it stands for, and that everything wrong with it is told at once."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from ser_bench import cli
from ser_bench.errors import SuiteError
from ser_bench.runner import run
from ser_bench.suite import RunSpec, SuiteFile, read


def written(tmp_path: Path, text: str) -> SuiteFile:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return read(path)


def faults(tmp_path: Path, text: str) -> str:
    with pytest.raises(SuiteError) as told:
        written(tmp_path, text)
    return str(told.value)


def test_a_list_is_a_choice_and_every_combination_is_a_run(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        """
        [suite]
        out = "elsewhere"
        jobs = 3

        [common]
        corpus = "demo"
        seed = [1, 2, 3]
        recipe.epochs = 4
        recipe.regularisation.dropout = 0.0

        [[runs]]
        plugin = ["one", "two"]
        transcripts = ["human", "whisper-base"]
        strategy = ["finetune", "frozen"]

        [[runs]]
        audio = "ear"
        head = ["concat", "gated"]
        seed = 7
        corpus = "DIR"
        recipe.epochs = [5, 6]
        """,
    )
    assert (found.out, found.jobs) == (Path("elsewhere"), 3)
    crossed = [(s.plugin, s.transcripts, s.strategy) for s in found.specs[:8]]
    assert crossed == [
        (p, t, s) for p in ("one", "two") for t in ("human", "whisper-base") for s in ("finetune", "frozen")
    ]
    assert {s.seeds for s in found.specs[:8]} == {(1, 2, 3)}  # seeds stay together: they are one run
    assert {s.corpus for s in found.specs[:8]} == {"demo"}
    assert [(s.head, s.changes["epochs"]) for s in found.specs[8:]] == [
        ("concat", 5), ("concat", 6), ("gated", 5), ("gated", 6),
    ]  # fmt: skip
    for spec in found.specs[8:]:
        assert (spec.plugin, spec.audio, spec.corpus, spec.seeds) == (None, "ear", "DIR", (7,))
        assert spec.changes["regularisation.dropout"] == 0.0


def test_a_run_that_names_a_system_takes_no_part_of_a_common_one(tmp_path: Path) -> None:
    text = '[common]\ncorpus = "demo"\nplugin = "one"\ndepth = 2\n[[runs]]\nseed = 2\n[[runs]]\naudio = "ear"\n'
    first, second = written(tmp_path, text).specs
    assert (first.plugin, first.depth, first.audio) == ("one", 2, None)
    assert (second.plugin, second.depth, second.audio) == (None, None, "ear")


def test_weights_are_one_word_a_table_of_parts_or_choices(tmp_path: Path) -> None:
    text = """
    [[runs]]
    corpus = "demo"
    plugin = "one"
    weights = ["random", { audio = "DIR", text = "tiny" }]
    """
    assert [spec.weights for spec in written(tmp_path, text).specs] == [("random",), ("audio=DIR", "text=tiny")]


def test_all_faults_are_told_at_once_with_near_matches(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        """
        [suit]
        [suite]
        job = 2
        out = 3
        [cluster]
        minute = 3
        cpus = "many"
        [common]
        corpus = "demo"
        recipe.epoch = 3
        [[runs]]
        plugins = "logmel"
        depth = 1.5
        seed = [1, true]
        head = []
        weights = { audio = 3 }
        [[runs]]
        plugin = "logmel"
        recipe = 4
        """,
    )
    assert told.startswith(f"{tmp_path}/suite.toml has 12 faults: suit is unknown (did you mean suite?); ")
    for fault in (
        "suite.job is unknown (did you mean jobs?)",
        "suite.out is 3, expected text",
        "cluster.minute is unknown (did you mean minutes?)",
        "cluster.cpus is 'many', expected a whole number",
        "common.recipe.epoch is unknown (did you mean epochs?)",
        "runs 1: plugins is unknown (did you mean plugin?)",
        "runs 1: depth is 1.5, expected a whole number",
        "runs 1: seed is True, expected a whole number",
        "runs 1: head is an empty list, expected text, or a list of these to choose from",
        "runs 1: weights.audio is 3, expected text",
        "runs 2: recipe is 4, expected a table such as recipe.epochs = 3",
    ):
        assert fault in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no [[runs]] table, each of which stands for one run or, with choices, for several."),
        ('[runs]\nplugin = "one"', "there is no [[runs]] table"),
        ('[[runs]]\nplugin = "one"', "runs 1: corpus is missing; give it there or in [common]."),
        ('common = 3\n[[runs]]\nplugin = "one"', "common is 3, expected a table [common]"),
        ('suite.jobs = 0\n[[runs]]\nplugin = "one"', "suite.jobs is 0, expected 1 or more"),
        ("a = ", "is not TOML: Invalid value (at end of document). docs/suites.md has an example."),
    ],
)
def test_what_is_no_suite(tmp_path: Path, text: str, message: str) -> None:
    assert message in faults(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"none\.toml cannot be read \(No such file or directory\)\. Name a suite's file"
    ):
        read(tmp_path / "none.toml")


def test_a_spec_has_the_options_of_a_run_with_their_defaults() -> None:
    """Whatever `run` learns, suites must, too."""
    apart = {"resume", "cache", "checkpoint_minutes", "progress"}
    own = inspect.signature(RunSpec).parameters
    theirs = inspect.signature(run).parameters
    assert own.keys() == theirs.keys() - apart
    for name in own.keys() - {"corpus", "changes", "head_changes"}:
        assert own[name].default == theirs[name].default, name


FULL: dict[str, Any] = {
    "audio": "ear",
    "text": "eye",
    "head": "gated",
    "depth": 1,
    "corpus": "a folder",
    "release": "1.10",
    "transcripts": "whisper-base",
    "strategy": "frozen",
    "weights": ("audio=DIR", "text=tiny"),
    "changes": {"epochs": 3, "attributes": ["arousal", "valence"], "head_learning_rate": None},
    "head_changes": {"epochs": 4},
    "device": "cpu",
    "frames": "off",
    "frames_dtype": "float32",
    "allow_missing": True,
    "micro_batch": 4,
    "tracker": "tensorboard",
}


def test_the_command_line_that_a_spec_becomes_says_the_same() -> None:
    assert {"plugin", "seeds", "out"} == inspect.signature(RunSpec).parameters.keys() - FULL.keys()
    parsed = vars(cli._parser().parse_args(RunSpec(**FULL).words(4, "runs/x", "kept")))
    for name in FULL.keys() - {"weights", "changes", "head_changes"}:
        assert parsed[name] == FULL[name]
    assert parsed["weights"] == ["audio=DIR", "text=tiny"]
    assert parsed["changes"] == [
        "recipe.epochs=3",
        "recipe.attributes=arousal,valence",
        "recipe.head_learning_rate=none",
        "head_recipe.epochs=4",
    ]
    assert (parsed["seed"], parsed["out"], parsed["cache"], parsed["resume"]) == (
        [4],
        Path("runs/x"),
        Path("kept"),
        True,
    )


def test_what_is_left_at_its_default_is_not_said() -> None:
    assert RunSpec(plugin="one", corpus="demo").words(1, "runs/x", None) == [
        "run", "--plugin", "one", "--corpus", "demo", "--seed", "1", "--out", "runs/x", "--resume",
    ]  # fmt: skip


def test_a_spec_says_what_sets_it_apart() -> None:
    spec = RunSpec(audio="ear", corpus="demo", transcripts="none", strategy="frozen", changes={"epochs": 2})
    assert str(spec) == "ear, transcripts none, frozen, recipe.epochs=2"
