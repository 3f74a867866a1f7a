"""What folders of runs hold: states, epochs, the time that is left, why a run failed; seeds joined to one record."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from safetensors.numpy import save_file

from ser_bench import cli, records
from ser_bench.errors import OtherProcessError, RecordError, StoreError, TrainingError
from ser_bench.locks import LOCK, held, hold, turn
from ser_bench.locks import begun as begun_in
from ser_bench.runs import SeedState, finished, listed, merge, noting_failure

LOG = [
    {"epoch": 0, "loss": None, "development": 0.0, "seconds": 0.0},
    {"epoch": 1, "loss": 0.9, "development": 0.31, "seconds": 100.0},
    {"epoch": 2, "loss": 0.8, "development": 0.25, "seconds": 200.0},
]


def begun(folder: Path, *, seed: int = 1, lines: list[dict[str, Any]] = LOG, **at: Any) -> Path:
    """Write what a training of 100 utterances (6 steps an epoch) leaves behind, and how far it came."""
    if not (folder / "settings.json").exists():
        records.settle(folder, made_up.settings())
    own = folder / f"seed-{seed}"
    (own / "checkpoints").mkdir(parents=True)
    (own / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    place = {"epoch": 3, "step": 0, "best_epoch": 1, "trained_seconds": 200.0} | at
    about = json.dumps({"at": place})
    save_file({"x": np.zeros(2, np.float32)}, own / "checkpoints" / "last.safetensors", metadata={"about": about})
    return own


def state(place: Path) -> SeedState:
    (found,) = listed(place)
    return found


def test_a_seed_is_interrupted_running_failed_or_finished(tmp_path: Path) -> None:
    own = begun(tmp_path / "run")
    assert state(tmp_path).state == "interrupted"
    with hold(own):
        assert state(tmp_path).state == "running"
    with hold(tmp_path / "run"):  # as scoring does
        assert state(tmp_path).state == "running"
    with pytest.raises(TrainingError), hold(own), noting_failure(own):
        raise TrainingError("the loss became nan.")
    assert (state(tmp_path).state, state(tmp_path).why) == ("failed", "the loss became nan.")
    with hold(own), noting_failure(own):  # it is tried again
        assert (state(tmp_path).state, state(tmp_path).why) == ("running", None)
    assert state(tmp_path).state == "interrupted"
    with pytest.raises(ZeroDivisionError), noting_failure(own):
        _ = 1 / 0
    assert state(tmp_path).why == "ZeroDivisionError: division by zero"
    (own / "result.json").write_text("{}")
    found = state(tmp_path)
    assert (found.state, found.why, found.seconds_left) == ("finished", None, None)


def test_an_interruption_is_no_failure(tmp_path: Path) -> None:
    own = begun(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), noting_failure(own):
        raise KeyboardInterrupt
    assert state(tmp_path).state == "interrupted"


def test_what_ended_another_process_is_told_by_that_one(tmp_path: Path) -> None:
    own = begun(tmp_path / "run")
    with pytest.raises(OtherProcessError), noting_failure(own):
        raise OtherProcessError("another process of this run has ended")
    assert state(tmp_path).state == "interrupted"


def test_nothing_is_left_where_nothing_was_begun(tmp_path: Path) -> None:
    with (
        pytest.raises(TrainingError),
        hold(tmp_path / "run"),
        hold(tmp_path / "run" / "seed-1"),
        noting_failure(tmp_path / "run" / "seed-1"),
    ):
        raise TrainingError("no")
    assert not (tmp_path / "run").exists()


def test_epochs_and_the_best_of_them(tmp_path: Path) -> None:
    begun(tmp_path / "run", seed=2)
    begun(tmp_path / "run", seed=10, lines=LOG[:1], epoch=1, trained_seconds=0.0, best_epoch=0)
    begun(tmp_path / "run", seed=11, lines=[])
    first, second, third = listed(tmp_path / "run")  # the folder of one run will do
    assert [one.seed for one in (first, second, third)] == [2, 10, 11]
    assert (first.system, first.epoch, first.epochs) == ("logmel_words", 2, 50)
    assert (first.best_epoch, first.best_development_ccc) == (1, 0.31)
    assert (second.epoch, second.best_epoch, second.best_development_ccc) == (0, 0, 0.0)
    assert (third.epoch, third.best_epoch, third.best_development_ccc) == (None, None, None)


def test_the_time_left_runs_from_no_better_to_the_last_epoch(tmp_path: Path) -> None:
    own = begun(tmp_path / "run")  # 100 s an epoch; best was 1, so that patience ends with 6; 50 at most
    assert state(tmp_path).seconds_left == (400.0, 4800.0)
    begun(tmp_path / "half", step=3, trained_seconds=250.0)  # half an epoch further
    assert state(tmp_path / "half").seconds_left == (350.0, 4750.0)
    begun(tmp_path / "first", epoch=1, step=3, trained_seconds=60.0, best_epoch=0, lines=LOG[:1])
    assert state(tmp_path / "first").seconds_left == (540.0, 5940.0)  # 120 s an epoch
    begun(tmp_path / "start", epoch=1, step=0, trained_seconds=0.0, best_epoch=0)
    assert state(tmp_path / "start").seconds_left is None
    second = begun(tmp_path / "second")  # its second stage has 20 epochs, and a patience of 2
    records_of = json.loads((second.parent / "settings.json").read_text())
    records_of["head_recipe"] = records_of["recipe"] | {"epochs": 20, "patience": 2}
    (second.parent / "settings.json").write_text(json.dumps(records_of))
    assert state(tmp_path / "second").seconds_left == (100.0, 1800.0)
    then = time.time() - 40
    os.utime(own / "checkpoints" / "last.safetensors", (then, then))
    with hold(own):  # it went on since
        assert state(tmp_path / "run").seconds_left == pytest.approx((360.0, 4760.0), abs=5)
    assert state(tmp_path / "run").seconds_left == (400.0, 4800.0)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"\x04\0\0\0\0\0\0\0nope"]
)
def test_what_is_no_checkpoint_tells_no_time(tmp_path: Path, content: bytes) -> None:
    own = begun(tmp_path / "run")
    (own / "checkpoints" / "last.safetensors").write_bytes(content)
    assert state(tmp_path).seconds_left is None


def test_a_line_that_is_being_written_is_no_line(tmp_path: Path) -> None:
    own = begun(tmp_path / "run")
    with (own / "log.jsonl").open("a") as file:
        file.write('{"epoch": 3, "dev')
    assert state(tmp_path).epoch == 2


def test_the_checkpoint_of_a_real_run_is_read(tmp_path: Path) -> None:
    import ser_bench
    from ser_bench.testing import write_release

    release = write_release(tmp_path / "release", utterances=40, seconds=(0.1, 0.2))
    changes = {"epochs": 2, "batch_size": 4, "patience": 2}
    ser_bench.run("logmel", corpus=release, out=tmp_path / "run", cache=tmp_path / "c", device="cpu", changes=changes)
    found = state(tmp_path / "run")
    assert (found.state, found.epoch, found.epochs) == ("finished", 2, 2)
    (tmp_path / "run" / "seed-1" / "result.json").unlink()
    assert state(tmp_path / "run").seconds_left == (0.0, 0.0)


def test_the_command_lists_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = begun(tmp_path / "run")
    begun(tmp_path / "other")
    (tmp_path / "logs").mkdir()
    with pytest.raises(TrainingError), noting_failure(own):
        raise TrainingError("the loss became nan.")
    assert cli.main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split("  ")[0] == "run"
    assert [line.split()[:7] for line in shown[2:4]] == [
        ["other", "1", "interrupted", "2/50", "1", "0.310", "06:40"],
        ["run", "1", "failed", "2/50", "1", "0.310", "06:40"],
    ]
    assert shown[2].endswith("06:40 to 1:20:00")
    assert shown[4] == "run seed 1 failed: the loss became nan."
    assert cli.main(["runs", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [one["state"] for one in found] == ["interrupted", "failed"]
    assert found[0]["seconds_left"] == [400.0, 4800.0]
    (tmp_path / "none").mkdir()
    assert cli.main(["runs", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'none'} holds no run\n"
    assert cli.main(["runs", str(tmp_path / "gone")]) == 1
    assert f"error: there is no folder {tmp_path / 'gone'}; expected one that holds runs." in capsys.readouterr().err


def test_a_folder_is_held_by_one_or_shared_by_many(tmp_path: Path) -> None:
    with hold(tmp_path / "run", shared=True), hold(tmp_path / "run", shared=True):
        assert not held(tmp_path / "run")
        with pytest.raises(RecordError, match="another process works in"), hold(tmp_path / "run"):
            pass
    with hold(tmp_path / "run"):
        assert held(tmp_path / "run")
        with pytest.raises(RecordError, match="another process works in"), hold(tmp_path / "run", shared=True):
            pass
    assert not held(tmp_path / "run")  # it is gone


def test_who_is_kept_out_takes_nothing_away(tmp_path: Path) -> None:
    """The folder is empty for as long as nothing came of the one who has it."""
    folder = tmp_path / "run"
    with hold(folder):
        with pytest.raises(RecordError, match="another process works in"), hold(folder):
            pass
        assert folder.is_dir()
        with pytest.raises(RecordError, match="another process works in"), hold(folder):
            pass
    with hold(folder, shared=True):
        with hold(folder, shared=True):
            pass
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_that_was_taken_away_while_it_was_waited_for_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on what has no name any more keeps nobody out."""
    import fcntl

    folder = tmp_path / "run"
    folder.mkdir()
    before = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(before, fcntl.LOCK_EX)

    def leave(seconds: float) -> None:
        """The one before goes while this one tries."""
        (folder / LOCK).unlink()
        folder.rmdir()
        os.close(before)
        monkeypatch.undo()

    monkeypatch.setattr(time, "sleep", leave)
    with hold(folder):
        assert folder.is_dir() and held(folder)
        with pytest.raises(RecordError, match="another process works in"), hold(folder, shared=True):
            pass


def test_a_glance_does_not_keep_anybody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While ``held`` looks, it has the lock itself: whoever comes then tries again."""
    import fcntl

    (tmp_path / "run").mkdir()
    looking = os.open(tmp_path / "run" / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(looking))
    with hold(tmp_path / "run"):
        pass


def test_who_is_refused_takes_nothing_away(tmp_path: Path) -> None:
    """A folder stays empty for minutes while a system is built: whoever comes then must not remove it."""
    with hold(tmp_path / "run"):
        for _ in range(2):
            with pytest.raises(RecordError, match="another process works in"), hold(tmp_path / "run"):
                pass
        assert held(tmp_path / "run")
    with hold(tmp_path / "run", shared=True):
        with hold(tmp_path / "run", shared=True):
            pass
        assert (tmp_path / "run" / LOCK).exists()  # the other one's
    assert not (tmp_path / "run").exists()


def test_a_lock_that_was_removed_meanwhile_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a lock whose holder leaves, and takes it with it, must not hold what nobody else can see."""
    import fcntl

    folder, own, gone = tmp_path / "run", fcntl.flock, []

    def flock(handle: int, kind: int) -> None:
        if not gone:
            gone.append(folder)
            (folder / LOCK).unlink()
            folder.rmdir()
        own(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold(folder):
        assert gone
        with pytest.raises(RecordError, match="another process works in"), hold(folder):
            pass


def test_a_lock_that_a_dead_process_left_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).touch()
    assert not held(tmp_path / "run")
    assert not begun_in(tmp_path / "run")
    with hold(tmp_path / "run"):
        (tmp_path / "run" / "log.jsonl").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.jsonl"]
    assert begun_in(tmp_path / "run")


def test_where_nothing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno
    import fcntl

    def flock(handle: Any, kind: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "file").write_text("")
    with hold(tmp_path / "run"), turn(tmp_path / "file"):
        assert not held(tmp_path / "run")
        assert "is on a file system without locks: see to it that one process alone works there" in caplog.text


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError) as caught, hold(tmp_path / "run"):
        pass
    assert str(caught.value) == (
        f"{tmp_path / 'run'} cannot be worked in (File exists). Name another folder with --out."
    )


def test_another_fault_is_not_taken_for_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def flock(handle: Any, kind: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="the disk is broken"), hold(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="the disk is broken"), turn(tmp_path / "file"):
        pass


def test_turns_are_taken_one_after_the_other(tmp_path: Path) -> None:
    import threading

    path, inside = tmp_path / "file", []
    path.write_text("")

    def work(name: int) -> None:
        with turn(path):
            inside.append(name)
            time.sleep(0.02)
            inside.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside[::2] == inside[1::2]


def told(folder: Path) -> dict[str, Any]:
    """Return a folder's record without the time it was made at."""
    return records.read(folder / "record.json") | {"created": None}


def test_seeds_that_were_trained_apart_make_the_record_of_those_trained_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together = made_up.run_folder(tmp_path / "together", seeds=(1, 2, 3))
    first = made_up.run_folder(tmp_path / "first", seeds=(2,))
    second = made_up.run_folder(tmp_path / "second", seeds=(1, 3))
    (first / "seed-2" / "checkpoints").mkdir()
    (first / "seed-2" / "checkpoints" / "last.safetensors").write_bytes(b"x")
    (first / "seed-2" / "model").mkdir()
    (first / "seed-2" / "model" / "config.json").write_text("{}")
    out = tmp_path / "out"
    assert cli.main(["record", "merge", str(first), str(second), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"record: {out / 'record.json'}\n")
    assert told(out) == told(together)
    assert {path.name for path in (out / "seed-2").iterdir()} == {"predictions.parquet", "result.json", "model"}
    assert (out / "seed-2" / "model" / "config.json").read_text() == "{}"
    assert cli.main(["record", "merge", str(first), "--out", str(out), "--json"]) == 0  # is there already
    assert json.loads(capsys.readouterr().out)["signature"] == told(together)["signature"]


def test_a_merge_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ser_bench import runs

    together = made_up.run_folder(tmp_path / "together", seeds=(1, 2))
    apart = [made_up.run_folder(tmp_path / str(seed), seeds=(seed,)) for seed in (1, 2)]
    write = runs.atomic_write

    def interrupted(path: Path, data: bytes | str) -> None:
        if path == tmp_path / "out" / "seed-2" / "result.json":
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(runs, "atomic_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge(apart, tmp_path / "out")
    assert finished(tmp_path / "out") == [1]
    monkeypatch.undo()
    merge(apart, tmp_path / "out")
    assert told(tmp_path / "out") == told(together)


def test_what_cannot_be_merged_is_refused_and_nothing_written(tmp_path: Path) -> None:
    first = made_up.run_folder(tmp_path / "first", seeds=(1,))
    out = tmp_path / "out"

    def refused(*folders: Path, into: Path = out) -> str:
        with pytest.raises(RecordError) as caught:
            merge(folders, into)
        assert not out.exists()
        return str(caught.value)

    other = made_up.run_folder(tmp_path / "other", seeds=(2,), strategy="frozen")
    assert refused(first, other) == (
        f'{other} is not of the same run as {first}: strategy is "finetune" in it and "frozen" here. Join folders that '
        "differ in the seed alone."
    )
    again = made_up.run_folder(tmp_path / "again", seeds=(1,), noise=0.4)
    assert refused(first, again) == (
        f"{first / 'seed-1'} and {again / 'seed-1'} are the same seed with different predictions. Leave out one of the "
        "folders."
    )
    assert f"{first / 'seed-1'} has other predictions than {again / 'seed-1'}." in refused(again, into=first)
    assert "holds no finished seed" in refused(first, begun(tmp_path / "begun").parent)
    assert refused(first, tmp_path / "gone").startswith(f"{tmp_path / 'gone' / 'settings.json'} does not exist")
    unfinished = begun(tmp_path / "unfinished")
    assert f"{unfinished} holds an unfinished training." in refused(first, into=unfinished.parent)
    edited = made_up.run_folder(tmp_path / "edited", seeds=(2,))
    path = edited / "seed-2" / "predictions.parquet"
    path.write_bytes((again / "seed-1" / "predictions.parquet").read_bytes())
    assert refused(first, edited) == (
        f"{path} is not what {edited / 'seed-2' / 'result.json'} was made of. Restore it, or train the seed anew."
    )
    with hold(tmp_path / "busy"), pytest.raises(RecordError, match="another process works in"):
        merge([first], tmp_path / "busy")
