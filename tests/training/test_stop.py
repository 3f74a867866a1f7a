from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from training.test_fit import DEVELOPMENT, RECIPE, TRAIN
from training.toys import accelerator, composed

from ser_bench import saved
from ser_bench.training import fit as fitting
from ser_bench.training.fit import Position, fit
from ser_bench.training.stop import SIGNALS, Stop


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_waits_and_a_second_one_does_not(number: int) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with Stop() as stop:
        assert not stop.asked
        interrupt(number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            interrupt(number)
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_under_a_launcher_the_second_one_waits_as_well() -> None:
    with Stop(launched=True) as stop:
        interrupt()
        interrupt()
        with stop.at_once():
            interrupt()
    assert stop.asked


def test_at_once() -> None:
    with Stop() as stop:
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            interrupt()
        interrupt()
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            raise AssertionError("what was asked for before is not begun")


def test_in_another_thread_it_changes_nothing() -> None:
    found = []

    def inside() -> None:
        with Stop() as stop:
            found.append((stop.asked, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def trained(
    folder: Path, *, resume: bool = False, at: tuple[int, int] | None = None
) -> tuple[Position, torch.nn.Module]:
    """Train with dropout; interrupt after a step of an epoch."""
    system = composed(dropout=0.3)
    recipe = fitting.Recipe(**{**vars(RECIPE), "epochs": 4})

    def progress(what: str, done: int, total: int) -> None:
        if at is not None and what.startswith(f"epoch {at[0]} ") and done == at[1]:
            interrupt()

    given = {"seed": 1, "folder": folder, "accelerator": accelerator(), "resume": resume, "progress": progress}
    return fit(system, TRAIN, DEVELOPMENT, recipe, **given), system  # type: ignore[arg-type]


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


@pytest.mark.parametrize("at", [(1, 2), (2, 8), (3, 1)])
def test_interrupted_training_finishes_its_step_and_goes_on_as_if_nothing_had_been(
    tmp_path: Path, at: tuple[int, int]
) -> None:
    undisturbed = trained(tmp_path / "undisturbed")[1]
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "interrupted", at=at)
    kept = saved.read(tmp_path / "interrupted" / "checkpoints" / "last.safetensors")[1]["at"]
    assert (kept["epoch"], kept["step"]) == (at[0], min(at[1] + 1, 8))
    position, system = trained(tmp_path / "interrupted", resume=True)
    assert position.epoch == 5
    assert same(system, undisturbed)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("undisturbed", "interrupted")]
    assert [line.partition('"seconds"')[0] for line in logs[0]] == [line.partition('"seconds"')[0] for line in logs[1]]


def test_interrupted_while_development_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = trained(tmp_path / "undisturbed")[1]
    own, calls = fitting._development, []

    def development(*given: object) -> float:
        calls.append(given)
        if len(calls) == 3:  # of the start, of the first epoch, of the second
            interrupt()
            raise AssertionError("it stops at once")
        return own(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "_development", development)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "interrupted")
    kept = saved.read(tmp_path / "interrupted" / "checkpoints" / "last.safetensors")[1]["at"]
    assert (kept["epoch"], kept["step"], len(kept["losses"])) == (2, 8, 8)  # no step is lost
    assert same(trained(tmp_path / "interrupted", resume=True)[1], undisturbed)
