"""Transcripts on disk under use and abuse: names, joins, kills between any two steps, several processes, full disks."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from transcripts.fakes import heard, source

from ser_bench.errors import StoreError, TranscriptError
from ser_bench.transcripts import rows as rows_module
from ser_bench.transcripts import store
from ser_bench.transcripts.rows import COLUMNS, Append, Row, Rows
from ser_bench.transcripts.source import Source, safe_name

DIGEST = "d" * 32


def row(number: int, *, digest: str = DIGEST, text: str | None = None) -> Row:
    return f"u{number:03}.wav", digest, heard(f"number {number}" if text is None else text)


def write(rows: Rows, *numbers: int, shard: tuple[int, int] = (1, 1)) -> None:
    """Append one batch to a shard's journal."""
    with rows.journal(shard) as append:
        append([row(number) for number in numbers])


def made(cache: Path, *numbers: int, of: Source | None = None, condition: str = "clean") -> Source:
    """Write and join some rows."""
    of = of or source()
    rows = store.rows(cache, of, condition)
    write(rows, *numbers)
    rows.merge()
    return of


def digests(*numbers: int, digest: str = DIGEST) -> dict[str, str]:
    return {row(number)[0]: digest for number in numbers}


def names(rows: Rows) -> set[str]:
    return {utterance for utterance, _, _ in rows}


def journals(rows: Rows) -> list[str]:
    return sorted(path.name for path in rows.path.parent.glob("*.parts/*.jsonl"))


# --- sources and their names -----------------------------------------------------------------------------------------


def test_a_label_is_the_name_and_a_digest_of_model_and_options() -> None:
    label = source().label
    assert re.fullmatch(r"toy@[0-9a-f]{6}", label)
    assert source(asr="another", folder=True).label == label  # what it was called by does not make the text
    others = [source(model="1" * 64), source(window="full"), source(window=6), source(beam=1), source(compute_type="f")]
    assert len({label, *(other.label for other in others)}) == 6
    assert source(name="other").digest == source().digest


def test_a_description_gives_the_source_back() -> None:
    first = source(name="a.b+c", asr="x y", folder=True, window="full")
    again = Source.read(first.described())
    assert again == first and again.label == first.label
    assert json.loads(first.described())["label"] == first.label


@pytest.mark.parametrize(
    "name", ["", "a b", "a@b", "a/b", "-a", ".", "..", "_a", "a" * 94, "human", "none", "ä", "a:b"]
)
def test_a_name_that_would_be_misread_is_refused(name: str) -> None:
    with pytest.raises(TranscriptError) as told:
        source(name=name)
    assert str(told.value) == (
        f"a transcript source cannot be called {name!r}: a name has 1 to 93 of A-Z, a-z, 0-9, '_', '.', '+', '-',"
        " starts with a letter or digit, and is not 'human' or 'none'. Give another with --name NAME."
    )


def test_every_name_that_is_allowed_makes_a_label_that_is() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.:@+-]{1,100}", source(name="a" * 93).label)


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("whisper-tiny.en", "whisper-tiny.en"),
        ("my model (v2)", "my-model--v2-"),
        (".hidden", "hidden"),
        ("--", ""),
        ("é" * 3 + "x", "x"),
        ("a" * 200, "a" * 93),
    ],
)
def test_a_folders_name_becomes_a_safe_one(given: str, safe: str) -> None:
    assert safe_name(given) == safe


@pytest.mark.parametrize(
    ("of", "condition", "command"),
    [
        ({"asr": "whisper-tiny", "name": "whisper-tiny"}, "clean", "--asr whisper-tiny --device cpu"),
        ({"asr": "a-ct2", "name": "a-ct2", "folder": True}, "clean", "--asr DIR/a-ct2 --device cpu"),
        ({"name": "x", "beam": 1}, "clean", "--asr toy --name x --beam 1 --device cpu"),
        (
            {"window": "full", "compute_type": "float16", "device": "cuda"},
            "clean",
            "--asr toy --window full --device cuda",
        ),
        (
            {"window": 2.5, "compute_type": "float32"},
            "clean",
            "--asr toy --window 2.5 --device cpu --compute-type float32",
        ),
        ({}, "noise:babble@10dB#1", "--asr toy --condition noise:babble@10dB --device cpu"),
    ],
)
def test_the_command_makes_this_very_source(of: dict[str, Any], condition: str, command: str) -> None:
    assert source(**of).command("a corpus", condition) == f"ser-bench transcribe --corpus 'a corpus' {command}"


def test_names_are_resolved(tmp_path: Path) -> None:
    first, second = made(tmp_path, 1), made(tmp_path, 1, of=source(window="full"))
    third = made(tmp_path, 1, of=source(name="other"), condition="telephone#1")
    assert store.sources(tmp_path) == sorted([first, second, third], key=lambda one: one.label)
    assert store.resolve(first.label, tmp_path) == first
    assert store.resolve("other", tmp_path) == third
    with pytest.raises(TranscriptError) as told:
        store.resolve("toy", tmp_path)
    shown = {first.label: "window 8", second.label: "window full"}
    assert str(told.value) == (
        "2 transcript sources are called 'toy': "
        + ", ".join(f"{label} ({shown[label]}, beam 5, compute_type int8)" for label in sorted(shown))
        + ". Give one of these full names."
    )


def test_an_unknown_name_tells_what_there_is_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError) as told:
        store.resolve("whisper-base", tmp_path)
    assert str(told.value) == (
        f"there are no transcripts called 'whisper-base' in {tmp_path}/transcripts; it has none. Give one of these,"
        " human or none, or make some with `ser-bench transcribe` (--asr names the recogniser)."
    )
    label = made(tmp_path, 1).label
    with pytest.raises(TranscriptError) as told:
        store.resolve("whisper-base@012345", tmp_path)
    assert str(told.value) == (
        f"there are no transcripts called 'whisper-base@012345' in {tmp_path}/transcripts; it has {label} (window 8,"
        " beam 5, compute_type int8). Give one of these, human or none, or make some with `ser-bench transcribe`"
        " (--asr names the recogniser)."
    )
    with pytest.raises(TranscriptError, match=r"Did you mean 'human'\? Give one of these"):
        store.resolve("humen", tmp_path)


def test_a_source_that_made_nothing_is_not_in_the_way(tmp_path: Path) -> None:
    with store.rows(tmp_path, source(window=3)).journal((1, 1)):
        pass
    assert store.sources(tmp_path) == []
    rows = store.rows(tmp_path, source())
    write(rows, 1)  # in its journal alone
    assert store.resolve("toy", tmp_path) == source()


def test_a_damaged_description_costs_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = made(tmp_path, 1), made(tmp_path, 1, of=source(name="good"))
    (tmp_path / "transcripts" / bad.label / "source.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert store.sources(tmp_path) == [good]
    (line,) = caplog.messages
    assert f"cannot read {tmp_path}/transcripts/{bad.label}/source.json" in line and "are left out" in line
    assert made(tmp_path, 2, of=bad) in store.sources(tmp_path)  # transcribing writes it anew


def test_two_sources_of_one_label_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Source, "digest", "abcdef")
    made(tmp_path, 1)
    with pytest.raises(TranscriptError) as told:
        made(tmp_path, 2, of=source(beam=1))
    assert str(told.value) == (
        "two transcript sources would be called toy@abcdef: toy@abcdef (window 8, beam 5, compute_type int8) with the"
        " model 0000000000000000, and toy@abcdef (window 8, beam 1, compute_type int8) with the model"
        " 0000000000000000. Give the second another name with --name NAME."
    )


# --- rows ------------------------------------------------------------------------------------------------------------


def test_what_is_appended_comes_back(tmp_path: Path) -> None:
    odd = heard(
        '"quoted"\n♪ naïve\u2028', language="cy", language_probability=0.5, repeated=True, looping=True, tokens=0
    )
    rows = store.rows(tmp_path, source())
    with rows.journal((1, 1)) as append:
        append([("b.wav", "1" * 32, odd), ("a.wav", "2" * 32, heard(""))])
        append([("a.wav", "1" * 32, heard("x"))])
    wanted = {("b.wav", "1" * 32, odd), ("a.wav", "2" * 32, heard("")), ("a.wav", "1" * 32, heard("x"))}
    assert set(rows) == wanted and rows.keys() == {one[:2] for one in wanted}
    assert not rows.path.exists() and journals(rows) == ["1-of-1.jsonl"]
    rows.merge()
    assert [one[:2] for one in rows] == sorted(one[:2] for one in wanted)
    assert set(rows) == wanted
    assert {path.name for path in rows.path.parent.iterdir()} == {
        "clean.lock",
        "clean.parquet",
        "clean.parts",
        "source.json",
    }


def test_the_file_tells_what_made_it(tmp_path: Path) -> None:
    of = made(tmp_path, 2, 1, condition="noise:white@10dB#1")
    path = store.rows(tmp_path, of, "noise:white@10dB#1").path
    table = pyarrow.parquet.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    assert table.column("utterance").to_pylist() == ["u001.wav", "u002.wav"]
    metadata = {key: value for key, value in table.schema.metadata.items() if key.startswith(b"ser_bench")}
    assert Source.read(metadata[b"ser_bench.source"]) == of
    assert metadata[b"ser_bench.condition"] == b"noise:white@10dB#1"
    assert str(tmp_path).encode() not in path.read_bytes()


def test_conditions_never_share_a_file(tmp_path: Path) -> None:
    keys = [
        "clean",
        "noise:white@10dB#1",
        "noise%3Awhite@10dB#1",
        "noise_white@10dB#1",
        "noise:white@10dB#2",
        "a+b",
        "a b",
    ]
    paths = [store.rows(tmp_path, source(), key).path for key in keys]
    assert len(set(paths)) == len(keys)
    assert {path.parent for path in paths} == {tmp_path / "transcripts" / source().label}
    for number, key in enumerate(keys):
        made(tmp_path, number, condition=key)
    for number, key in enumerate(keys):
        assert store.held(tmp_path, source(), key) == {(f"u{number:03}.wav", DIGEST)}


def test_the_same_rows_are_the_same_bytes_however_they_came(tmp_path: Path) -> None:
    one = store.rows(tmp_path / "one", source())
    write(one, *range(3000))
    one.merge()
    other = store.rows(tmp_path / "other", source())
    numbers = list(range(3000))
    random.Random(1).shuffle(numbers)
    for part in range(0, 3000, 500):
        write(other, *numbers[part : part + 500], shard=(part // 500 % 3 + 1, 3))
        if part % 1000:
            other.merge()
    write(other, *numbers[:700])  # a second time
    other.merge()
    assert other.path.read_bytes() == one.path.read_bytes()


def test_a_merge_without_anything_new_leaves_the_file_alone(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, made(tmp_path, 1, 2))
    before = rows.path.stat()
    rows.merge()
    write(rows, 1)
    rows.merge()
    after = rows.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert journals(rows) == []


def test_a_torn_line_does_not_count_and_is_not_in_the_way(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, source())
    write(rows, 1, 2)
    journal = rows.path.parent / "clean.parts" / "1-of-1.jsonl"
    whole = journal.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        journal.write_bytes(whole + whole.replace(b"u001", b"u007")[:cut])
        assert names(rows) == {"u001.wav", "u002.wav"}
    write(rows, 3)
    assert names(rows) == {"u001.wav", "u002.wav", "u003.wav"}
    journal.write_bytes(journal.read_bytes() + whole[:50])
    rows.merge()
    assert names(rows) == {"u001.wav", "u002.wav", "u003.wav"}
    assert journals(rows) == []


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"{]\n", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"[7]\n", "'int' object is not iterable"),
        (b'[{"utterance": "a"}]\n', "it has the columns utterance"),
    ],
)
def test_a_damaged_journal_is_told_and_nothing_is_removed(tmp_path: Path, line: bytes, cause: str) -> None:
    rows = store.rows(tmp_path, source())
    write(rows, 1)
    journal = rows.path.parent / "clean.parts" / "1-of-1.jsonl"
    journal.write_bytes(journal.read_bytes() + line)
    for reader in (rows.keys, rows.merge):
        with pytest.raises(StoreError) as told:
            reader()
        assert str(told.value) == (
            f"{journal} is damaged ({cause}). Remove it; `ser-bench transcribe` makes again what it held."
        )
    assert journal.exists() and not rows.path.exists()


def test_a_value_of_another_type_is_told(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, source())
    with rows.journal((1, 1)) as append:
        append([("a.wav", DIGEST, heard("x", tokens="many"))])
    with pytest.raises(StoreError, match=r"1-of-1\.jsonl is damaged \(.*\)\. Remove it; "):
        rows.merge()


@pytest.mark.parametrize("damage", ["cut", "noise", "columns"])
def test_a_damaged_file_is_told_and_its_journals_stay(tmp_path: Path, damage: str) -> None:
    rows = store.rows(tmp_path, made(tmp_path, *range(50)))
    raw = rows.path.read_bytes()
    if damage == "columns":
        pyarrow.parquet.write_table(pyarrow.table({"utterance": ["a"]}), rows.path)
    else:
        rows.path.write_bytes(raw[:-20] if damage == "cut" else bytes(len(raw)))
    write(rows, 99)
    for reader in (rows.keys, rows.merge):
        with pytest.raises(StoreError) as told:
            reader()
        assert re.fullmatch(
            rf"{re.escape(str(rows.path))} is damaged \(.+\)\. Remove it; `ser-bench transcribe` makes again what it"
            r" held\.",
            str(told.value),
            re.DOTALL,
        )
    assert journals(rows) == ["1-of-1.jsonl"]


# --- several at once -------------------------------------------------------------------------------------------------


def test_one_shard_has_one_writer(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, source(), "reverb:0.6#1")
    with rows.journal((2, 3)) as append:
        append([row(1)])
        with pytest.raises(TranscriptError) as told, rows.journal((2, 3)):
            pytest.fail("two processes write one journal")
        assert str(told.value) == (
            f"another process transcribes shard 2/3 of {source().label} under reverb:0.6: it holds"
            f" {tmp_path}/transcripts/{source().label}/reverb%3A0.6%231.parts/2-of-3.jsonl. Wait for it, or share the"
            " work with --shard I/N."
        )
        write(rows, 2, shard=(1, 3))
        write(rows, 3, shard=(2, 2))
        append([row(4)])
    write(rows, 5, shard=(2, 3))
    assert names(rows) == {f"u00{n}.wav" for n in range(1, 6)}


def test_a_merge_reads_what_is_being_written_and_leaves_it(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, source())
    write(rows, 1, shard=(1, 2))
    with rows.journal((2, 2)) as append:
        append([row(2)])
        rows.merge()
        assert names(rows) == {"u001.wav", "u002.wav"}
        assert len(pyarrow.parquet.read_table(rows.path)) == 2
        assert journals(rows) == ["2-of-2.jsonl"]
        append([row(3)])
    rows.merge()
    assert len(pyarrow.parquet.read_table(rows.path)) == 3
    assert journals(rows) == []


STEPS = ["_batches", "_keys", "_journaled", "_unknown", "atomic_write"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_writer_that_ends_within_a_merge_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, late: bool
) -> None:
    """Before and after each of the merge's steps, the writer appends a last batch and lets go of its journal."""
    rows = store.rows(tmp_path, made(tmp_path, 0))
    with rows.journal((1, 1)) as append:
        append([row(1)])
        held: AbstractContextManager[Append] = rows.journal((2, 2))
        last = held.__enter__()
        last([row(2)])
        ended = []

        def end() -> None:
            if not ended:
                ended.append(True)
                last([row(3)])
                held.__exit__(None, None, None)

        real: Callable[..., Any] = getattr(rows_module, step)

        def hooked(*arguments: Any) -> Any:
            if not late:
                end()
            given = real(*arguments)
            result = list(given) if isinstance(given, Iterator) else given
            end()
            return result

        with monkeypatch.context() as patch:
            patch.setattr(rows_module, step, hooked)
            rows.merge()
        assert ended
        assert names(rows) == {f"u00{n}.wav" for n in range(4)}
    rows.merge()
    assert names(rows) == {f"u00{n}.wav" for n in range(4)}
    assert journals(rows) == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", [*STEPS, "unlink"])
def test_a_merge_that_is_killed_at_any_step_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    rows = store.rows(tmp_path, made(tmp_path, 0))
    for shard in (1, 2, 3):
        write(rows, shard, shard=(shard, 3))
    killed = []

    def kill(*arguments: Any, **options: Any) -> Any:
        killed.append(step)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*((Path, step, kill) if hasattr(Path, step) else (rows_module, step, kill)))
        rows.merge()
    assert killed
    assert names(rows) == {f"u00{n}.wav" for n in range(4)}
    undisturbed = store.rows(tmp_path / "undisturbed", source())
    write(undisturbed, 0, 1, 2, 3)
    for one in (rows, undisturbed):
        one.merge()
    assert rows.path.read_bytes() == undisturbed.path.read_bytes()
    assert journals(rows) == []


def test_a_reader_sees_each_row_while_it_is_being_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that runs between a reader's two steps must not hide what it moves."""
    rows = store.rows(tmp_path, source())
    write(rows, 1, 2)
    real = rows_module._batches
    with monkeypatch.context() as patch:

        def merged_before(*arguments: Any) -> Iterator[Any]:
            patch.setattr(rows_module, "_batches", real)
            rows.merge()
            return real(*arguments)

        patch.setattr(rows_module, "_batches", merged_before)
        assert names(rows) == {"u001.wav", "u002.wav"}
    assert journals(rows) == []
    real_journals = Rows._journals

    def merged_after(self: Rows) -> list[Path]:
        found = real_journals(self)
        if found:
            with monkeypatch.context() as patch:
                patch.setattr(Rows, "_journals", real_journals)
                rows.merge()
        return found

    write(rows, 3)
    monkeypatch.setattr(Rows, "_journals", merged_after)
    assert names(rows) == {"u001.wav", "u002.wav", "u003.wav"}


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_that_begins_within_a_merge_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It wants the very journal that the merge is about to remove."""
    rows = store.rows(tmp_path, made(tmp_path, 0))
    write(rows, 1)
    faults: list[BaseException] = []

    def begin() -> None:
        try:
            write(rows, 2)
        except BaseException as fault:
            faults.append(fault)

    writer = threading.Thread(target=begin)
    real: Callable[..., Any] = getattr(rows_module, step)

    def hooked(*arguments: Any) -> Any:
        if not writer.ident:
            writer.start()
            writer.join(0.2)
            assert writer.is_alive()
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rows_module, step, hooked)
        rows.merge()
        writer.join()
    assert not faults and names(rows) == {"u000.wav", "u001.wav", "u002.wav"}
    assert journals(rows) == ["1-of-1.jsonl"]


def test_a_journal_that_goes_while_sources_are_listed_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = store.rows(tmp_path, source())
    write(rows, 1)
    real = Path.stat

    def late(self: Path, **options: Any) -> os.stat_result:
        if self.suffix == ".jsonl" and self.exists():
            rows.merge()
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", late)
    monkeypatch.setattr(Path, "exists", os.path.exists)
    assert store.sources(tmp_path) == [source()]
    assert journals(rows) == []


CHILD = """
import sys
from pathlib import Path
from transcripts.fakes import source
from transcripts.test_store import row
from ser_bench.transcripts import store
cache, what, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows = store.rows(cache, source())
if what == "write":
    for part in range(first, first + 200, 10):
        with rows.journal((first // 200 + 1, 4)) as append:  # let go of and taken again
            append([row(number) for number in range(part, part + 5)])
            append([row(number) for number in range(part + 5, part + 10)])
else:
    seen = set()
    while len(seen) < 400:
        rows.merge()
        now = rows.keys()
        assert seen <= now, seen - now
        seen = now
"""


def child(cache: Path, what: str, first: int = 0) -> subprocess.Popen[str]:
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(cache), what, str(first)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
        text=True,
        stderr=subprocess.PIPE,
    )


def test_two_processes_that_write_and_two_that_merge(tmp_path: Path) -> None:
    """Each writer lets go of its journal twenty times, so that the merges remove it under its hands."""
    processes = [
        child(tmp_path, "write", 0),
        child(tmp_path, "write", 200),
        child(tmp_path, "merge"),
        child(tmp_path, "merge"),
    ]
    for process in processes:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    rows = store.rows(tmp_path, source())
    rows.merge()
    alone = store.rows(tmp_path / "alone", source())
    write(alone, *range(400))
    alone.merge()
    assert rows.path.read_bytes() == alone.path.read_bytes()
    assert journals(rows) == []


def test_two_merges_at_once(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, source())
    faults = []

    def merge() -> None:
        try:
            rows.merge()
        except BaseException as fault:
            faults.append(fault)

    for turn in range(20):
        write(rows, 2 * turn, shard=(1, 2))
        write(rows, 2 * turn + 1, shard=(2, 2))
        threads = [threading.Thread(target=merge) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        assert len(rows.keys()) == 2 * turn + 2
        assert journals(rows) == []


# --- texts -----------------------------------------------------------------------------------------------------------


def test_texts_are_those_of_the_same_audio(tmp_path: Path) -> None:
    of = made(tmp_path, 1, 2, 3)
    rows = store.rows(tmp_path, of)
    with rows.journal((1, 1)) as append:
        append([row(2, digest="e" * 32, text="edited"), row(4, digest="e" * 32)])
    wanted = digests(1, 2) | {"u004.wav": "e" * 32, "u009.wav": DIGEST}
    found = store.texts(tmp_path, of.name, "clean", wanted, corpus="DIR")
    assert {name: one.text for name, one in found.items()} == {
        "u001.wav": "number 1", "u002.wav": "number 2", "u004.wav": "number 4",
    }  # fmt: skip
    assert found["u001.wav"] == heard("number 1")
    assert journals(rows) == []  # the reader has joined them
    later = store.texts(tmp_path, of.label, "clean", {"u002.wav": "e" * 32}, corpus="DIR")
    assert later["u002.wav"].text == "edited"
    assert store.texts(tmp_path, of.label, "clean", {}, corpus="DIR") == {}


def test_conditions_and_sources_do_not_mix(tmp_path: Path) -> None:
    of = made(tmp_path, 1)
    made(tmp_path, 1, of=source(window=4))
    assert store.texts(tmp_path, of.label, "telephone#1", digests(1), corpus="DIR") == {}
    made(tmp_path, 2, condition="telephone#1")
    assert set(store.texts(tmp_path, of.label, "telephone#1", digests(1, 2), corpus="DIR")) == {"u002.wav"}
    assert set(store.texts(tmp_path, of.label, "clean", digests(1, 2), corpus="DIR")) == {"u001.wav"}


def test_transcripts_of_another_release_are_told(tmp_path: Path) -> None:
    of = made(tmp_path, 1, 2, 3)
    with pytest.raises(TranscriptError) as told:
        store.texts(tmp_path, "toy", "clean", digests(2, 3, 8, digest="e" * 32), corpus="DIR")
    assert str(told.value) == (
        f"{of.label} has transcripts of 2 of these utterances, and all are of other audio (first: u002.wav): of another"
        " release, or from before the files changed. Make them with `ser-bench transcribe --corpus DIR --asr"
        f" toy --device cpu --cache {tmp_path}`."
    )


def test_missing_ones_are_told_with_the_command(tmp_path: Path) -> None:
    of = made(tmp_path, 1, 2, of=source(window="full", beam=1))
    assert set(store.require(tmp_path, "toy", "clean", digests(1, 2), corpus="DIR")) == {"u001.wav", "u002.wav"}
    with pytest.raises(TranscriptError) as told:
        store.require(tmp_path, "toy", "clean", digests(*range(1, 2000)), corpus="DIR")
    assert str(told.value) == (
        f"1,997 of 1,999 utterances of DIR have no transcript of {of.label} (first: u003.wav). Make them with"
        f" `ser-bench transcribe --corpus DIR --asr toy --window full --beam 1 --device cpu --cache {tmp_path}`."
    )
    with pytest.raises(TranscriptError) as told:
        store.require(tmp_path, "toy", "noise:pink@5dB#1", digests(1), corpus="DIR")
    assert str(told.value) == (
        f"1 of 1 utterances of DIR have no transcript of {of.label} under noise:pink@5dB (first: u001.wav). Make them"
        " with `ser-bench transcribe --corpus DIR --asr toy --condition noise:pink@5dB --window full --beam 1"
        f" --device cpu --cache {tmp_path}`."
    )


def test_what_is_derived_lies_beside_and_is_no_row(tmp_path: Path) -> None:
    of = made(tmp_path, 1)
    path = store.beside(tmp_path, of.label, "clean", "wer-0123")
    assert path == tmp_path / "transcripts" / of.label / "clean.wer-0123.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"utterance": ["a"]}), path)
    assert set(store.texts(tmp_path, "toy", "clean", digests(1), corpus="DIR")) == {"u001.wav"}


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; skips where this user may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_real_disk_that_fills_up_keeps_what_was_appended(small_disk: Path) -> None:
    rows = store.rows(small_disk, source())
    done = 0
    with rows.journal((1, 1)) as append:
        with pytest.raises(StoreError) as told:
            for done in range(10_000):
                append([row(done, text="word " * 2000)])
        assert re.fullmatch(
            rf"the disk is full while writing {re.escape(str(small_disk))}/.*/clean\.parts/1-of-1\.jsonl \([\d,]+ bytes"
            r" free\)\. What was transcribed before is kept: free some space and give the same command again, or use"
            r" --cache DIR\.",
            str(told.value),
        )
        assert 50 < done < 120
        assert names(rows) == {row(n)[0] for n in range(done)}
        append([row(999, text="")])  # there is room for a short line
    assert names(rows) == {row(n)[0] for n in (*range(done), 999)}


def test_a_merge_on_a_full_disk_keeps_the_journals(small_disk: Path) -> None:
    rows = store.rows(small_disk, source())
    with rows.journal((1, 1)) as append:
        for number in range(180):
            letters = random.Random(number).choices("abcdefghijklmnopqrstuvwxyz ", k=5000)  # hardly compress
            append([row(number, text="".join(letters))])
    before = rows.keys()
    with pytest.raises(StoreError, match=r"^the disk is full: .*clean\.parquet needs [\d,]+ bytes and [\d,]+ are free"):
        rows.merge()
    assert rows.keys() == before and len(before) == 180


def test_a_write_that_fails_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = store.rows(tmp_path, source())
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with rows.journal((1, 1)) as append:
        append([row(1)])
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"^the disk is full while writing"):
            append([row(2)])
        monkeypatch.setattr(os, "fsync", real)
        assert names(rows) == {"u001.wav"}
        append([row(3)])
    assert names(rows) == {"u001.wav", "u003.wav"}


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: Any, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(rows_module.fcntl, "flock", none)
    with pytest.raises(StoreError) as told:
        write(store.rows(tmp_path, source()), 1)
    assert str(told.value) == (
        f"the file system of {tmp_path}/transcripts/{source().label} has no file locks (No locks available), and"
        " without them processes would spoil each other's work. Name a folder on another one with --cache DIR."
    )


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "transcripts").write_text("a file where a folder belongs")
    with pytest.raises(StoreError, match=r"^cannot write .*source\.json .*--cache DIR"):
        write(store.rows(tmp_path, source()), 1)


def test_a_file_of_another_source_or_condition_is_refused(tmp_path: Path) -> None:
    greedy, wide = made(tmp_path, 1, of=source(beam=1)), made(tmp_path, 1, of=source(beam=5))
    for of in (greedy, wide):
        store.rows(tmp_path, of).merge()
    content = store.rows(tmp_path, greedy).path.read_bytes()
    for of, condition, told in ((wide, "clean", "clean"), (greedy, "telephone#1", "clean")):
        path = store.rows(tmp_path, of, condition).path
        path.write_bytes(content)
        with pytest.raises(StoreError) as raised:
            store.rows(tmp_path, of, condition).keys()
        assert str(raised.value).startswith(f"{path} is damaged (it holds the texts of {greedy.label}, {told}).")


def test_a_merge_locks_what_it_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system gives no exclusive lock on a file that is open for reading alone."""
    rows = store.rows(tmp_path, source())
    write(rows, 1)
    locked: list[str] = []
    real = rows_module._lock

    def lock(journal: Any) -> bool:
        locked.append(journal.mode)
        return real(journal)

    monkeypatch.setattr(rows_module, "_lock", lock)
    rows.merge()
    assert locked
    assert all("+" in mode for mode in locked)


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    rows = store.rows(tmp_path, source())
    write(rows, 1)
    blocking = rows.path.with_name("clean.parts") / "7-of-9.jsonl"
    blocking.mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*7-of-9\.jsonl \(Is a directory\)"):
        rows.keys()
