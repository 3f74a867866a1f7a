"""What CI asks of a leaderboard: each damage is told with its file, and a sound one passes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import pyarrow
import pyarrow.parquet
import pytest

from ser_bench import cache, records, tables
from ser_bench.cli import main
from ser_bench.errors import RecordError
from ser_bench.leaderboard import table, views
from ser_bench.leaderboard.add import add
from ser_bench.leaderboard.board import name_of
from ser_bench.leaderboard.check import Report
from ser_bench.leaderboard.check import check as whole_check
from ser_bench.leaderboard.render import render, render_files


def check(board: Path, **options: Any) -> Report:
    """Check a leaderboard; of what is rendered, the tables alone, since drawing a site takes seconds."""
    return whole_check(board, rendered=readme, **options)


def readme(board: Path) -> dict[Path, bytes]:
    return {Path("README.md"): table.readme(views.read(board)).encode()}


def render_tables(board: Path) -> str:
    for name, content in readme(board).items():
        (board / name).write_bytes(content)
    return (board / "README.md").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of three rows in a git checkout on main, and a run that is not on it; treat them as read-only."""
    folder = tmp_path_factory.mktemp("made")
    top, board = folder / "top", folder / "top" / "leaderboard"
    for name in ("a", "b", "c"):
        run = made_up.run_folder(folder / name, seeds=(1, 2), system__name=name)
        add(run, board, withhold_predictions=name == "c")
    made_up.run_folder(folder / "run", seeds=(1,))
    render(board)
    git(folder, "init", "-q", "-b", "main", str(top))
    git(top, "add", "-A")
    commit(top)
    return folder


@pytest.fixture
def top(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "top", tmp_path / "top"))


@pytest.fixture
def board(top: Path) -> Path:
    return top / "leaderboard"


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def commit(folder: Path) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    git(folder, *names, "commit", "-q", "--allow-empty", "-m", "x")


def record(board: Path, name: str = "a") -> Path:
    (path,) = (board / "records").glob(f"{name}-*.json")
    return path


def predictions(board: Path, name: str = "a", seed: int = 1) -> Path:
    (path,) = (board / "predictions").glob(f"{name}-*-seed-{seed}.parquet")
    return path


def test_a_sound_leaderboard(board: Path) -> None:
    report = check(board)
    assert report.sound, report.text()
    # One file of the unchanged ones is read, as what others are compared with.
    assert (report.records, report.predictions, report.unchanged, report.rendered) == (3, 1, 3, 1)
    assert report.text() == (
        f"3 records; predictions: 1 files read, 3 unchanged; 1 rendered files; append-only against "
        f"{git(board, 'rev-parse', 'HEAD')[:12]}\nsound"
    )


def test_every_file_of_the_site_is_compared(board: Path) -> None:
    report = whole_check(board)
    assert report.sound, report.text()
    assert report.rendered == len(render_files(board)) > 10
    page = next((board / "site" / "systems").iterdir())
    page.write_text(page.read_text().replace("0.", "1.", 1))
    (board / "site" / "index.html").unlink()
    assert dict(whole_check(board).faults) == {
        str(page.relative_to(board)): "is not what the records give. Write it with `ser-bench leaderboard render`.",
        "site/index.html": "is missing. Write it with `ser-bench leaderboard render`.",
    }


def test_what_lies_beside_the_site_is_told_and_taken_away(board: Path) -> None:
    """A page that no record gives would be published with the others."""
    (board / "site" / "systems" / "forged.html").write_text("best of all")
    (board / "site" / "more").mkdir()
    (board / "site" / "more" / "x.js").write_text("x")
    told = "is no file that rendering writes. `ser-bench leaderboard render` takes it away."
    assert dict(whole_check(board).faults) == {"site/systems/forged.html": told, "site/more/x.js": told}
    (board / "notes.txt").write_text("mine")  # outside of it nothing is taken away
    elsewhere = board.parent / "elsewhere"
    (elsewhere / "site").mkdir(parents=True)
    (elsewhere / "site" / "mine.html").write_text("mine")
    render(board, elsewhere)
    assert (elsewhere / "site" / "mine.html").exists()
    removed = {str(path.relative_to(board)) for path in render(board).removed}
    assert removed == {"site/systems/forged.html", "site/more/x.js"}
    assert (board / "notes.txt").exists()
    assert whole_check(board).sound


def test_a_new_submission_does_not_say_which_utterances_there_are(board: Path, made: Path, tmp_path: Path) -> None:
    """Whatever its name, and with fewer or more partitions than the others."""
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    path = run / "seed-1" / "predictions.parquet"
    columns = tables.read_predictions(path)
    columns["utterance"][80] = "MSP-PODCAST_9999_0001.wav"
    content = json.loads((run / "record.json").read_text())
    content["system"]["name"] = "0_first"
    for what in ("scores", "resampling"):
        content["runs"][0][what].pop("development")
    content["summary"].pop("development")
    content["corpus"]["partitions"]["development"].update(listed=0, scored=0, outside_range=0)
    content["ceiling"].pop("development")
    for column in columns.values():
        del column[:72]  # of development
    content["runs"][0]["predictions_sha256"] = _write(path, columns)
    content["signature"] = records.signature(content)
    (run / "record.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"does not hold the utterances of test1 that other records .* 1 missing"):
        add(run, board)
    stranger = add(run, tmp_path / "alone")
    for name in ("records", "predictions"):
        for file in (tmp_path / "alone" / name).iterdir():
            shutil.copy(file, board / name)
    found = dict(check(board).faults)
    (file,) = [name for name in found if name.startswith("predictions/")]
    assert file == f"predictions/{stranger.stem}-seed-1.parquet"
    assert "does not hold the utterances of test1" in found[file]


def _write(path: Path, columns: dict[str, list[Any]]) -> str:
    types = [pyarrow.string(), pyarrow.string(), *[pyarrow.float64()] * 3]
    arrays = {n: pyarrow.array(columns[n], type=t) for n, t in zip(tables.COLUMNS, types, strict=True)}
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)
    return tables.digest(columns)


def test_a_new_record_is_an_addition(board: Path, made: Path) -> None:
    add(made / "run", board)
    assert dict(check(board).faults) == {
        "README.md": "is not what the records give. Write it with `ser-bench leaderboard render`."
    }
    render_tables(board)
    report = check(board)
    assert report.sound
    assert report.predictions == 2


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    cache.atomic_write(path, records.canonical(content))


def _append(path: Path, more: bytes) -> None:
    path.write_bytes(path.read_bytes() + more)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "edited record": (
        lambda b: _edit(record(b), lambda r: r["speed"].update(peak_memory_bytes=1)),
        "records/a",
        "was published and is edited. Restore it; what is wrong is superseded, never edited.",
    ),
    "record taken away": (lambda b: record(b).unlink(), "records/a", "was published and is taken away"),
    "predictions taken away": (lambda b: predictions(b).unlink(), "predictions/a", "(there is no such file)"),
    "edited predictions": (lambda b: _append(predictions(b), b"x"), "predictions/a", "cannot be read as predictions"),
    "predictions of another": (
        lambda b: shutil.copy(predictions(b, "b"), predictions(b, "a", 2)),
        "predictions/a",
        "does not have the digest that the record gives",
    ),
    "predictions of nobody": (
        lambda b: shutil.copy(predictions(b), b / "predictions" / "x-seed-1.parquet"),
        "predictions/x",
        "belongs to no sound record that publishes predictions",
    ),
    "predictions of one who withholds them": (
        lambda b: shutil.copy(predictions(b), b / "predictions" / f"{record(b, 'c').stem}-seed-1.parquet"),
        "predictions/c",
        "belongs to no sound record that publishes predictions",
    ),
    "renamed record": (
        lambda b: record(b).rename(b / "records" / "a-00000000.json"),
        "records/a-00000000.json",
        "is called so, and its content gives the name 'a-",
    ),
    "other spelling": (
        lambda b: record(b).write_text(json.dumps(json.loads(record(b).read_text()))),
        "records/a",
        "is not spelled as records are",
    ),
    "line ends of Windows": (
        lambda b: record(b).write_bytes(record(b).read_bytes().replace(b"\n", b"\r\n")),
        "records/a",
        "is not spelled as records are",
    ),
    "edited signature": (
        lambda b: _edit(record(b), lambda r: r.update(signature=r["signature"].replace("seeds:2", "seeds:5"))),
        "records/a",
        "A signature is never edited",
    ),
    "malformed": (lambda b: record(b).write_text("{}"), "records/a", "is a required property"),
    "another file": (lambda b: (b / "records" / "notes.txt").write_text(""), "records/notes.txt", "is no record"),
    "no word on predictions": (
        lambda b: _edit(record(b), lambda r: r.pop("predictions")),
        "records/a",
        "does not say whether its predictions are published",
    ),
    "a link": (lambda b: (b / "more").symlink_to("/etc"), "more", "is a link or no regular file"),
    "records elsewhere": (
        lambda b: (b / "records").rename(b / "other") and (b / "records").symlink_to(b / "other"),
        "records",
        "is a link or no folder",
    ),
    "edited page": (lambda b: _append(b / "README.md", b"better\n"), "README.md", "is not what the records give"),
    "page taken away": (lambda b: (b / "README.md").unlink(), "README.md", "is missing. Write it with"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_is_told_with_its_file(damage: str, board: Path) -> None:
    spoil, file, told = DAMAGE[damage]
    spoil(board)
    report = check(board)
    assert not report.sound
    assert any(name.startswith(file) and told in fault for name, fault in report.faults), report.text()
    assert f"{len(report.faults)} faults" in report.text()


def test_an_edit_that_git_is_told_to_overlook(top: Path, board: Path) -> None:
    (top / ".gitattributes").write_text("*.json text eol=crlf\n")
    git(top, "update-index", "--assume-unchanged", str(record(board)))
    _append(record(board), b" ")
    assert any("was published and is edited" in fault for _, fault in check(board).faults)


def test_an_edit_that_was_committed_on_a_branch(top: Path, board: Path) -> None:
    git(top, "checkout", "-q", "-b", "change")
    record(board).unlink()
    git(top, "add", "-A")
    commit(top)
    assert any("was published and is taken away" in fault for _, fault in check(board).faults)
    assert any("was published and is taken away" in fault for _, fault in check(board, base="main").faults)
    assert not any("was published" in fault for _, fault in check(board, base="change").faults)


def test_without_git_all_predictions_are_read_and_it_says_so(made: Path, tmp_path: Path) -> None:
    board = shutil.copytree(made / "top" / "leaderboard", tmp_path / "board")
    report = check(Path(board))
    assert report.sound
    assert (report.base, report.predictions) == (None, 4)
    assert "append-only not checked: this is no git checkout" in report.text()
    with pytest.raises(RecordError, match=r"--base main was given, and .*board is in no git checkout\. Leave it out"):
        check(Path(board), base="main")


def test_what_git_does_not_tell_is_a_fault(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then whether files only grew: an owner git does not trust, or no git."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    report = check(board)
    (fault,) = report.faults
    assert fault[0] == "."
    message = r"git cannot tell what was published \(rev-parse: .*dubious ownership.*\), so that.* Correct"
    assert re.search(message, fault[1])
    assert "append-only not checked: git cannot tell" in report.text()
    with pytest.raises(RecordError, match="git cannot tell what was published"):
        check(board, base="main")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    monkeypatch.setenv("PATH", "")
    assert "git cannot tell what was published" in check(board).faults[0][1]


def test_objects_that_are_lost_are_a_fault(top: Path, board: Path) -> None:
    tree = git(top, "rev-parse", "HEAD^{tree}")
    (top / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    record(board).unlink()
    assert any("git cannot tell what was published" in fault for _, fault in check(board).faults)


def test_a_shallow_clone_says_what_it_cannot_know(top: Path, board: Path, tmp_path: Path) -> None:
    commit(top)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{top}", "clone")
    report = check(tmp_path / "clone" / "leaderboard")
    assert report.sound, report.text()
    assert ", in the history that this shallow clone has\nsound" in report.text()
    git(top, "checkout", "-q", "-b", "change")
    commit(top)
    git(top, "checkout", "-q", "main")
    git(tmp_path, "clone", "-q", "--depth", "1", "--no-single-branch", "-b", "change", f"file://{top}", "apart")
    (fault,) = check(tmp_path / "apart" / "leaderboard").faults
    message = r"git finds no commit that this checkout has with origin/HEAD.* in common\. .* fetch-depth 0"
    assert re.search(message, fault[1])


def test_without_a_branch_of_a_usual_name_the_history_tells(top: Path, board: Path) -> None:
    git(top, "branch", "-m", "main", "trunk")
    assert check(board).sound
    record(board).unlink()
    git(top, "add", "-A")
    commit(top)
    assert {name for name, _ in check(board).faults} >= {str(record_of_history(top))}


def record_of_history(top: Path) -> Path:
    name = git(top, "log", "--diff-filter=D", "--name-only", "--format=", "--", "leaderboard/records")
    return Path(name).relative_to("leaderboard")


def test_two_steps_do_not_do_what_one_may_not(top: Path, board: Path) -> None:
    """An edit that landed is what the next change is compared with."""
    path = record(board)
    name = str(path.relative_to(board))
    before = path.read_bytes()
    _edit(path, lambda r: r["speed"].update(peak_memory_bytes=1))
    git(top, "add", "-A")
    commit(top)
    edited = git(top, "rev-parse", "HEAD")
    told = [fault for file, fault in check(board).faults if file == name]
    assert told == [
        f"was edited or taken away by commit {edited[:12]}. Files only grow: join the commits of the change into one "
        "that adds what is to stay (git rebase -i)."
    ]
    path.write_bytes(before)
    git(top, "add", "-A")
    commit(top)
    assert len([file for file, _ in check(board).faults if file == name]) == 2


def test_a_merge_that_drops_a_record_is_told(top: Path, board: Path, made: Path) -> None:
    git(top, "checkout", "-q", "-b", "change")
    new = add(made / "run", board)
    git(top, "add", "-A")
    commit(top)
    git(top, "checkout", "-q", "main")
    commit(top)
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    git(top, *names, "merge", "-q", "-s", "ours", "-m", "x", "change")
    assert f"records/{new.name}" in dict(check(board).faults)


def test_reported_results_only_grow(top: Path, board: Path) -> None:
    lines = [
        "system,modality,transcripts,release,release_note,parameters_m,partition,arousal,valence,dominance,source",
        "theirs,audio,none,1.10,,24,test1,0.6,0.3,0.5,P",
    ]
    (board / "reported.csv").write_text("\n".join([*lines, ""]))
    render_tables(board)
    git(top, "add", "-A")
    commit(top)
    assert check(board).sound, check(board).text()
    (board / "reported.csv").write_text("\n".join([*lines, "more,audio,none,1.10,,24,test1,0.7,0.3,0.5,Q", ""]))
    render_tables(board)
    assert check(board).sound, check(board).text()
    (board / "reported.csv").write_text("\n".join([lines[0], lines[1].replace("0.6", "0.4"), ""]))
    render_tables(board)
    assert dict(check(board).faults) == {
        "reported.csv": "lacks 1 lines that were published (first: 'theirs,audio,none,1.10,,24,test1,0.6,0.3,0.5,P'). "
        "Restore them; results are added, never edited."
    }


@pytest.mark.parametrize("base", ["no-such-branch", "--output=x"])
def test_a_base_that_git_does_not_know(board: Path, base: str) -> None:
    with pytest.raises(
        RecordError, match=rf"git finds no commit that {base} and this checkout have in common\. Name a"
    ):
        check(board, base=base)


def test_no_leaderboard(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none does not exist; expected a leaderboard's folder\. Name it with"):
        check(tmp_path / "none")


def test_superseding(board: Path, made: Path) -> None:
    """A correction stands in the place of what it corrects, which stays where it is."""
    corrected = made / "a"
    old = record(board).stem
    new = add(corrected, board, supersedes=old)
    text = render_tables(board)
    assert check(board).sound, check(board).text()
    assert len(re.findall(r"^\| a +\|", text, flags=re.MULTILINE)) == 1
    assert record(board, "b").exists()
    with pytest.raises(RecordError, match=rf"supersedes '{old}', which '{new.stem}' supersedes already"):
        add(made_up.run_folder(board.parent / "again", seeds=(5,), system__name="a"), board, supersedes=old)


def test_reproducing(board: Path, made: Path, tmp_path: Path) -> None:
    old = record(board).stem
    again = made_up.run_folder(tmp_path / "again", seeds=(4, 5, 6), system__name="a")
    path = add(again, board, reproduces=old)
    assert records.read(path)["status"] == "reproduced"
    lines = re.findall(r"^\| a +\|.*", render_tables(board), flags=re.MULTILINE)
    assert len(lines) == 1
    assert lines[0].split("|")[-2].strip() == "reproduced"
    assert check(board).sound
    other = made_up.run_folder(tmp_path / "other", seeds=(3,), system__name="a", strategy="frozen")
    with pytest.raises(RecordError, match=r"differs from it in strategy: frozen, finetune\. Run with the settings"):
        add(other, board, reproduces=old)
    later = made_up.run_folder(tmp_path / "later", seeds=(3,), system__name="a", system__version="0.3.0")
    with pytest.raises(RecordError, match=r"differs from it in system: a@0\.3\.0, a@0\.1\.0\. Run with the settings"):
        add(later, board, reproduces=old)
    mine = made_up.run_folder(tmp_path / "mine", seeds=(3,), system__name="a", system__distribution="mine")
    message = r"is of another system: system\.distribution is \"mine\" in it and \"ser-bench\" in the other\. Install"
    with pytest.raises(RecordError, match=message):
        add(mine, board, reproduces=old)
    worse = made_up.run_folder(tmp_path / "worse", seeds=(3,), noise=2.5, system__name="a")
    with pytest.raises(
        RecordError, match=r"the paired test calls it worse on test1 by 0\.\d+\. A run that gives other"
    ):
        add(worse, board, reproduces=old)


def test_a_copy_is_no_reproduction(board: Path, made: Path, tmp_path: Path) -> None:
    old = record(board).stem
    message = rf"reproduces '{old}', and has its predictions, time and environment: it is a copy of it\. Run it again"
    with pytest.raises(RecordError, match=message):
        add(made / "a", board, reproduces=old)
    part = made_up.run_folder(tmp_path / "part", seeds=(2,), system__name="a")
    with pytest.raises(RecordError, match=message):
        add(part, board, reproduces=old)


def test_a_reproduction_must_tell_something(board: Path, tmp_path: Path) -> None:
    """Two that share no ranked partition, or whose difference is large and undecided, are not alike."""
    apart = made_up.run_folder(tmp_path / "apart", seeds=(3, 4, 5), system__name="a")  # by 0.014 and 0.012
    with pytest.raises(RecordError, match=r"on none of test1, test2 .* the difference is 0\.01 or more and undecided"):
        add(apart, board, reproduces=record(board).stem)
    one = {"partitions": {"development": made_up.SIZES["development"]}, "system__name": "d"}
    old = add(made_up.run_folder(tmp_path / "d", seeds=(1,), **one), board).stem
    with pytest.raises(RecordError, match=r"on none of test1, test2 do the two say that they are alike"):
        add(made_up.run_folder(tmp_path / "again", seeds=(2,), **one), board, reproduces=old)


def test_a_reproduction_on_other_clusters_is_a_fault_and_no_end(board: Path, made: Path, tmp_path: Path) -> None:
    old = record(board).stem
    folder = made_up.run_folder(tmp_path / "again", seeds=(3,), system__name="a")
    content = json.loads((folder / "record.json").read_text())
    for block in content["runs"][0]["resampling"].values():
        block["digest"] = "0" * 64
    (folder / "record.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"cannot be compared with it on test1: the two scores cannot be paired"):
        add(folder, board, reproduces=old)
    path = add(folder, tmp_path / "alone")
    copied = json.loads(path.read_text()) | {"reproduces": old, "status": "reproduced"}
    name = name_of(copied)
    cache.atomic_write(board / "records" / f"{name}.json", records.canonical(copied))
    assert "cannot be compared with it on test1" in dict(check(board).faults)[f"records/{name}.json"]


def test_the_command_line(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["leaderboard", "check", "--leaderboard", str(board), "--base", "main"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is True
    assert told["predictions"] == {"read": 1, "unchanged": 3}
    record(board).unlink()
    assert main(words) == 1
    assert "was published and is taken away" in capsys.readouterr().out
    assert main([*words[:-1], "nothing"]) == 1
    assert capsys.readouterr().err.startswith("error: git finds no commit")
