"""Suites: what is planned, in which folders, and what cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite.made import QUICK, Spec

import ser_bench
from ser_bench import records
from ser_bench.errors import SuiteError
from ser_bench.suite import plan


def test_a_plan_names_the_folders_that_run_would_take(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan([spec("mean_only", seeds=(1, 2)), spec(), spec(strategy="frozen")])
    assert [(one.system, one.seed) for one in planned] == [
        ("mean_only", 1),
        ("mean_only", 2),
        ("logmel", 1),
        ("logmel", 1),
    ]
    assert len({one.folder for one in planned}) == 3
    assert not any(one.finished for one in planned)
    assert not (tmp_path / "runs").exists()
    one = planned[0]
    made = ser_bench.run("mean_only", corpus=one.spec.corpus, seeds=(2,), changes=QUICK, device="cpu")
    assert made == one.folder
    assert [one.finished for one in plan([spec("mean_only", seeds=(1, 2)), spec()])] == [False, True, False]


def test_runs_that_come_to_the_same_are_one(spec: Spec) -> None:
    planned = plan([spec(), spec(seeds=(1, 2)), spec(changes={"epochs": "1", "batch_size": 4})])
    assert [one.seed for one in planned] == [1, 2]


def test_all_that_cannot_be_run_is_told_before_anything_begins(spec: Spec, tmp_path: Path) -> None:
    bad = [
        spec("logmal"),
        spec(transcripts="human"),
        spec(seeds=(1, 1)),
        spec(device="cuda:1"),
        spec(tracker="tensorbored"),
        spec(changes={"epoch": 1}),
        spec(strategy="guess"),
        spec(corpus=str(tmp_path / "nowhere")),
    ]
    with pytest.raises(SuiteError) as told:
        plan([spec(), *bad], out=tmp_path / "runs")
    said = str(told.value)
    assert said.startswith(
        "8 of 9 runs of the suite cannot be made: (1) logmal, recipe.epochs=1, recipe.batch_size=4: "
    )
    for fault in (
        "Did you mean 'logmel'?",
        "(2) logmel, transcripts human, recipe.epochs=1, recipe.batch_size=4: logmel reads no text",
        "(3) logmel, recipe.epochs=1, recipe.batch_size=4: seeds [1, 1] were given; expected different whole numbers",
        "device cuda:1 was given; expected cpu or cuda: a suite deals out the GPUs itself.",
        "tracker 'tensorbored' is unknown. Did you mean 'tensorboard'?",
        "recipe.epoch is unknown (did you mean recipe.epochs?)",
        "strategy 'guess' is unknown",
        "(8) ",
    ):
        assert fault in said
    assert not (tmp_path / "runs").exists()


def test_two_runs_in_one_folder_are_refused(spec: Spec, tmp_path: Path) -> None:
    out = str(tmp_path / "one")
    with pytest.raises(
        SuiteError, match=r"one is the folder of another run of the suite too\. Give each another out\."
    ):
        plan([spec(out=out), spec(out=out, strategy="frozen")])


def test_a_folder_with_another_run_is_refused(spec: Spec, tmp_path: Path) -> None:
    (planned,) = plan([spec(out=str(tmp_path / "one"))])
    from ser_bench import task

    settings = task.resolve(**planned.spec.options()).settings
    records.settle(planned.folder, {**settings, "strategy": "frozen"})
    with pytest.raises(
        SuiteError, match='holds a run with other settings: strategy is "frozen" there and "finetune" here'
    ):
        plan([planned.spec])
    (planned.folder / "settings.json").unlink()
    # Another machine may have trained it with its own precision, if none was asked for.
    records.settle(planned.folder, {**settings, "precision": "bfloat16"})
    with pytest.raises(SuiteError, match='precision is "bfloat16" there'):
        plan([planned.spec])
    assert plan([spec(out=str(tmp_path / "one"), device=None)])


def test_what_a_run_begins_with_is_planned_once_before_it(spec: Spec, tmp_path: Path) -> None:
    tiny = {"strategy": "finetune-freeze", "weights": ("tiny",), "head_changes": {"epochs": 2}}
    both = [
        spec("distilhubert_tinybert", seeds=(1, 2), **tiny),
        spec("distilhubert_tinybert", **{**tiny, "head_changes": {}}),
    ]
    planned = plan(both, out=tmp_path / "runs")
    assert [(one.system, one.seed, one.spec.strategy) for one in planned] == [
        ("distilhubert", 1, "finetune"), ("distilhubert", 2, "finetune"),
        ("distilhubert_tinybert", 1, "finetune-freeze"), ("distilhubert_tinybert", 2, "finetune-freeze"),
        ("distilhubert_tinybert", 1, "finetune-freeze"),
    ]  # fmt: skip
    first = planned[0].spec
    assert (first.plugin, first.changes, first.weights, first.head_changes) == ("distilhubert", QUICK, ("tiny",), {})
    alone = plan([spec("distilhubert", weights=("tiny",), seeds=(1, 2))], out=tmp_path / "runs")
    assert [one.folder for one in alone] == [one.folder for one in planned[:2]]  # it is that system's own run
    assert {one.folder.parent for one in planned} == {tmp_path / "runs"}
