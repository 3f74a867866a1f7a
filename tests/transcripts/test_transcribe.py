"""Transcribing a release: nothing twice, nothing lost, whatever is killed, changed or shared out."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from transcripts.fakes import Ear, source

from ser_bench.conditions import CLEAN, Condition
from ser_bench.corpus import Release, read_wave
from ser_bench.errors import CorpusError, StoreError, TranscriptError
from ser_bench.testing import write_release, write_wav
from ser_bench.transcripts import store
from ser_bench.transcripts.measure import sources_of
from ser_bench.transcripts.rows import Rows
from ser_bench.transcripts.transcribe import Report, in_shard, transcribe

SMALL = {"train": 14, "development": 6, "test1": 6, "test2": 4, "test3": 3}
COUNT = sum(SMALL.values())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A small release with audio for every utterance, of windows of 9 to 11 s."""
    return write_release(tmp_path, version="1.12", utterances=SMALL, seconds=(0.05, 2.5), raters=1)


def opened(corpus: Path, cache: Path) -> Release:
    return Release.open(corpus, cache=cache)


def run(corpus: Path, cache: Path, ear: Any = None, **options: Any) -> Report:
    return transcribe(opened(corpus, cache), ear or Ear(), cache=cache, **options)


def wavs(corpus: Path) -> dict[str, Path]:
    return {path.name: path for path in corpus.rglob("*.wav")}


def joined(cache: Path, condition: str = "clean", **options: Any) -> Rows:
    return store.rows(cache, source(**options), condition)


def test_every_utterance_gets_its_own_text(corpus: Path, tmp_path: Path) -> None:
    ear = Ear()
    report = run(corpus, tmp_path / "cache", ear)
    found = {utterance: heard for utterance, _, heard in joined(tmp_path / "cache")}
    assert found == {name: ear.hear(read_wave(path)) for name, path in wavs(corpus).items()}
    digests = opened(corpus, tmp_path / "cache").audio_digests
    assert joined(tmp_path / "cache").keys() == set(digests.items())
    assert any("test3" in name for name in found)
    assert sum(ear.calls) == COUNT and max(ear.calls) == ear.batch
    assert report.file == tmp_path / "cache" / "transcripts" / source().label / "clean.parquet"
    texts = store.require(tmp_path / "cache", "toy", "clean", digests, corpus=str(corpus))
    assert texts == found


def test_the_report_counts_what_was_found(corpus: Path, tmp_path: Path) -> None:
    gone = sorted(wavs(corpus))[0]
    wavs(corpus)[gone].unlink()
    report = run(corpus, tmp_path / "cache")
    heard = [Ear().hear(read_wave(path)) for path in wavs(corpus).values()]
    seconds = sum(len(read_wave(path)) for path in wavs(corpus).values()) / 16_000
    languages = {name: sum(one.language == name for one in heard) for name in ("cy", "en")}
    assert report == Report(
        source=source().label,
        condition="clean",
        shard=(1, 1),
        listed=COUNT,
        without_audio=1,
        done_before=0,
        transcribed=COUNT - 1,
        missing=0,
        repeated=sum(one.repeated for one in heard),
        looping=sum(one.looping for one in heard),
        empty=sum(not one.text for one in heard),
        languages={name: count for name, count in languages.items() if count},
        audio_seconds=pytest.approx(seconds),
        seconds=report.seconds,
        file=tmp_path / "cache" / "transcripts" / source().label / "clean.parquet",
        complete=True,
    )
    assert report.seconds > 0 and report.speed == report.audio_seconds / report.seconds
    told = report.as_dict()
    assert (told["shard"], told["file"], told["speed"]) == ("1/1", str(report.file), report.speed)
    assert report.text().splitlines()[0] == f"{source().label}, clean: {COUNT} utterances, 1 without audio"
    assert re.fullmatch(
        rf"transcribed {COUNT - 1} utterances, 0\.\d\d h of audio, in \d+ s \([\d.]+ x real time\); 0 were done before",
        report.text().splitlines()[1],
    )


def test_a_second_call_does_nothing_and_says_so(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "transcripts").rglob("*")}
    ear = Ear()
    report = run(corpus, tmp_path / "cache", ear)
    assert ear.calls == []
    assert (report.done_before, report.transcribed, report.speed, report.complete) == (COUNT, 0, 0, True)
    assert (report.repeated, report.empty, report.languages) == (first.repeated, first.empty, first.languages)
    assert (
        report.text().splitlines()[1] == f"nothing was transcribed: {COUNT} utterances were done before, 0 are missing"
    )
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "transcripts").rglob("*")} == before


def test_a_changed_wav_is_done_again_and_no_other(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "cache")
    name, path = sorted(wavs(corpus).items())[5]
    write_wav(path, np.sin(np.arange(9000) / 7))
    stale = run(corpus, tmp_path / "cache", merge_only=True)
    assert (stale.done_before, stale.missing, stale.complete) == (COUNT - 1, 1, False)
    ear = Ear()
    report = run(corpus, tmp_path / "cache", ear)
    assert ear.calls == [1] and (report.done_before, report.transcribed) == (COUNT - 1, 1)
    release = opened(corpus, tmp_path / "cache")
    texts = store.require(tmp_path / "cache", "toy", "clean", release.audio_digests, corpus="DIR")
    assert texts[name] == ear.hear(read_wave(path))
    os.utime(path)  # another time, the same bytes
    assert run(corpus, tmp_path / "cache").transcribed == 0


def test_changed_options_are_another_source(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path / "cache")
    for options in ({"window": "full"}, {"beam": 1}, {"model": "1" * 64}, {"name": "other"}):
        report = run(corpus, tmp_path / "cache", Ear(**options))
        assert report.transcribed == COUNT and report.source != first.source
    assert len(store.sources(tmp_path / "cache")) == 5


def test_audio_is_known_by_its_bytes_and_read_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_bench.corpus import release as release_module

    wavs(corpus)[sorted(wavs(corpus))[0]].unlink()
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:32] for name, path in wavs(corpus).items()}
    assert opened(corpus, tmp_path / "cache").audio_digests == digests
    read: list[str] = []
    real = release_module._digest
    monkeypatch.setattr(release_module, "_digest", lambda path: read.append(Path(path).name) or real(path))
    assert opened(corpus, tmp_path / "cache").audio_digests == digests
    assert read == []
    name = sorted(digests)[7]
    os.utime(wavs(corpus)[name])
    assert opened(corpus, tmp_path / "cache").audio_digests == digests
    assert read == [name]


def test_another_release_shares_what_has_the_same_audio(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "cache")
    later = write_release(tmp_path / "later", version="1.12", utterances=SMALL, seconds=(0.05, 2.5), raters=1)
    for name in sorted(wavs(later))[:10]:
        write_wav(wavs(later)[name], np.sin(np.arange(4000) / 7))
    assert run(later, tmp_path / "cache").transcribed == 10
    for one in (corpus, later):
        digests = opened(one, tmp_path / "cache").audio_digests
        assert len(store.require(tmp_path / "cache", "toy", "clean", digests, corpus="DIR")) == COUNT


def test_a_condition_is_applied_and_kept_apart(corpus: Path, tmp_path: Path) -> None:
    seen = set()

    def halved(wave: Any, generator: Any, utterance: str) -> Any:
        seen.add(utterance)
        return wave / 2

    condition = Condition("telephone", halved)
    run(corpus, tmp_path / "cache")
    report = run(corpus, tmp_path / "cache", condition=condition)
    assert seen == set(wavs(corpus))
    assert (report.condition, report.transcribed) == ("telephone", COUNT)
    heard = {utterance: one for utterance, _, one in joined(tmp_path / "cache", condition.key)}
    assert heard == {name: Ear().hear(read_wave(path) / np.float32(2)) for name, path in wavs(corpus).items()}
    clean = {utterance: one for utterance, _, one in joined(tmp_path / "cache", CLEAN.key)}
    assert clean != heard


def test_batches_hold_one_window_and_the_longest_come_first(corpus: Path, tmp_path: Path) -> None:
    batches: list[list[int]] = []

    class Lister(Ear):
        def transcribe(self, utterances: Sequence[Any]) -> Any:
            batches.append([len(wave) for wave in utterances])
            return super().transcribe(utterances)

    run(corpus, tmp_path / "cache", Lister(batch=3))
    assert [length for batch in batches for length in batch] == sorted(
        (len(read_wave(p)) for p in wavs(corpus).values()), reverse=True
    )
    windows = [{Ear().window(length / 16_000) for length in batch} for batch in batches]
    assert all(len(window) == 1 for window in windows)
    assert len({window for (window,) in windows}) == 3
    assert sum(len(batch) < 3 for batch in batches) <= 3  # the rest of each window alone


def test_progress_counts_seconds_of_what_is_to_be_done(corpus: Path, tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []

    def progress(*arguments: Any, unit: str) -> None:
        told.append((*arguments, unit))

    run(corpus, tmp_path / "cache", progress=progress)
    seconds = round(sum(len(read_wave(path)) for path in wavs(corpus).values()) / 16_000)
    assert told[0] == ("transcribing", 0, seconds, "audio")
    assert told[-1] == ("transcribing", seconds, seconds, "audio")
    assert [done for _, done, _, _ in told] == sorted(done for _, done, _, _ in told)
    told.clear()
    write_wav(next(iter(wavs(corpus).values())), np.sin(np.arange(32_000) / 7))
    run(corpus, tmp_path / "cache", progress=progress)
    after = round(sum(len(read_wave(path)) for path in wavs(corpus).values()) / 16_000)
    assert {(one[0], *one[2:]) for one in told} == {("transcribing", after, "audio")}
    assert [done for _, done, _, _ in told] == [after - 2, after - 2, after]  # what was done before counts as done


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a wav file at all, but long enough for a header"])
def test_unsound_audio_is_refused_before_anything_is_done(corpus: Path, tmp_path: Path, content: bytes) -> None:
    name, path = sorted(wavs(corpus).items())[3]
    path.write_bytes(content)
    ear = Ear()
    with pytest.raises(CorpusError, match=rf"cannot be used as it is; .*\n(.*\n)*.*{name}"):
        run(corpus, tmp_path / "cache", ear)
    assert ear.calls == [] and not (tmp_path / "cache" / "transcripts").exists()


def test_an_utterance_that_whisper_cannot_take_is_named(corpus: Path, tmp_path: Path) -> None:
    names = sorted(wavs(corpus))[2:4]
    write_wav(wavs(corpus)[names[0]], np.zeros(30 * 16_000))
    assert run(corpus, tmp_path / "cache").complete
    for name in names:
        write_wav(wavs(corpus)[name], np.zeros(30 * 16_000 + 1))
    with pytest.raises(TranscriptError) as told:
        run(corpus, tmp_path / "cache")
    assert str(told.value) == (
        f"2 utterances of {corpus} are longer than the 30 s that Whisper takes (first: {names[0]}). Cut them to that,"
        " or take them out of the label table."
    )


def test_audio_that_turns_out_unreadable_keeps_what_was_done(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound by its header, and gone when it is read."""
    lengths = {name: path.stat().st_size for name, path in wavs(corpus).items()}
    shortest = min(lengths, key=lambda name: lengths[name])
    release = opened(corpus, tmp_path / "cache")
    assert release.headers and release.audio_digests
    wavs(corpus)[shortest].unlink()
    ear = Ear()
    with pytest.raises(CorpusError, match=rf"cannot read .*{shortest} \(No such file or directory\)\. Restore it"):
        transcribe(release, ear, cache=tmp_path / "cache")
    kept = len(joined(tmp_path / "cache").keys())
    assert 0 < kept < COUNT and kept == sum(ear.calls)
    report = run(corpus, tmp_path / "cache")
    assert (report.done_before, report.transcribed, report.without_audio) == (kept, COUNT - 1 - kept, 1)


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0), (-1, -1)])
def test_a_shard_that_is_none_is_refused(corpus: Path, tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(TranscriptError) as told:
        run(corpus, tmp_path / "cache", shard=shard)
    assert str(told.value) == f"shard is {shard[0]}/{shard[1]}, expected I/N with I from 1 to N. Correct --shard."


def test_a_wav_that_cannot_be_read_for_its_digest_is_told(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_bench.corpus import release as release_module

    bad = sorted(wavs(corpus))[4]
    real = release_module._digest

    def failing(path: str) -> tuple[str]:
        if path.endswith(bad):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(release_module, "_digest", failing)
    with pytest.raises(CorpusError) as told:
        run(corpus, tmp_path / "cache")
    assert str(told.value) == (
        f"1 of {COUNT} wav files of {corpus} cannot be read (first: {bad}, Input/output error). Restore them from the"
        " release."
    )


def test_a_full_disk_is_told_and_costs_nothing_that_was_done(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    lines: list[Path] = []

    def full(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.suffix == ".jsonl":
            lines.append(path)
            if len(lines) > 3:
                raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"^the disk is full while writing .* What was transcribed before is kept: "):
        run(corpus, tmp_path / "cache")
    monkeypatch.setattr(os, "fsync", real)
    assert len(joined(tmp_path / "cache").keys()) > 3
    kept = len(joined(tmp_path / "cache").keys())
    report = run(corpus, tmp_path / "cache")
    assert (report.done_before, report.transcribed) == (kept, COUNT - kept)
    assert report.file.read_bytes() == run(corpus, tmp_path / "other").file.read_bytes()


def test_an_interruption_keeps_what_was_done(corpus: Path, tmp_path: Path) -> None:
    class Interrupted(Ear):
        def transcribe(self, utterances: Sequence[Any]) -> Any:
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().transcribe(utterances)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(corpus, tmp_path / "cache", Interrupted())
    assert threading.active_count() == before
    ear = Ear()
    assert run(corpus, tmp_path / "cache", ear).done_before == COUNT - sum(ear.calls) == 8


def test_some_partitions_alone(corpus: Path, tmp_path: Path) -> None:
    wanted = ["test1", "development"]
    report = run(corpus, tmp_path / "cache", partitions=wanted)
    assert (report.listed, report.transcribed, report.complete) == (12, 12, False)
    opened_here = opened(corpus, tmp_path / "cache")
    names = {utterance for name in wanted for utterance in opened_here.rows(name).utterance}
    kept = joined(tmp_path / "cache").keys()
    assert {name for name, _ in kept} == names
    given = {"cache": tmp_path / "cache"}
    assert sources_of(opened_here, partitions=wanted, **given) == [source().label]
    assert sources_of(opened_here, partitions=[*wanted, "test2"], **given) == sources_of(opened_here, **given) == []
    rest = run(corpus, tmp_path / "cache")
    assert (rest.done_before, rest.transcribed, rest.complete) == (12, COUNT - 12, True)
    assert sources_of(opened_here, **given) == [source().label]


@pytest.mark.parametrize(("given", "named"), [(["test1", "tset2"], "tset2"), ([], "")])
def test_a_partition_that_is_none_is_refused(corpus: Path, tmp_path: Path, given: list[str], named: str) -> None:
    with pytest.raises(TranscriptError) as told:
        run(corpus, tmp_path / "cache", partitions=given)
    assert str(told.value) == (
        f"--partitions {named} was given; {corpus} has train, development, test1, test2, test3. Name some of these, or "
        "leave it out for all."
    )


# --- shards ----------------------------------------------------------------------------------------------------------


def test_shards_share_all_utterances_out_once() -> None:
    names = [f"MSP-PODCAST_{n // 100:04}_{n % 100:04}.wav" for n in range(3000)]
    for total in (1, 2, 3, 7):
        parts = [{name for name in names if in_shard(name, (part, total))} for part in range(1, total + 1)]
        assert sum(map(len, parts)) == len(names) and set().union(*parts) == set(names)
        assert all(abs(len(part) - len(names) / total) < 0.1 * len(names) for part in parts)
    assert [in_shard("MSP-PODCAST_0001_0001.wav", (part, 4)) for part in (1, 2, 3, 4)] == [False, True, False, False]


def test_shards_and_a_merge_give_the_file_of_one_run(corpus: Path, tmp_path: Path) -> None:
    whole = run(corpus, tmp_path / "whole")
    done = 0
    for part in (3, 1, 2):
        report = run(corpus, tmp_path / "cache", shard=(part, 3))
        names = [name for name in wavs(corpus) if in_shard(name, (part, 3))]
        assert (report.listed, report.transcribed, report.complete) == (len(names), len(names), False)
        assert report.text().splitlines()[0].startswith(f"{source().label}, clean, shard {part}/3: {len(names)} utt")
        assert report.text().splitlines()[-1] == f"will be joined to {report.file} by --merge, or the next reader"
        again = run(corpus, tmp_path / "cache", shard=(part, 3))
        assert (again.done_before, again.transcribed) == (len(names), 0)
        done += len(names)
        assert not report.file.exists()
        some = run(corpus, tmp_path / f"partial{part}", shard=(part, 3))
        merged = run(corpus, tmp_path / f"partial{part}", merge_only=True)
        assert (merged.done_before, merged.missing, merged.complete) == (len(names), COUNT - len(names), False)
        assert merged.file == some.file and merged.file.exists()
    ear = Ear()
    merged = run(corpus, tmp_path / "cache", ear, merge_only=True)
    assert (merged.done_before, merged.transcribed, merged.missing, merged.complete) == (done, 0, 0, True)
    assert ear.calls == [] and done == COUNT
    assert merged.file.read_bytes() == whole.file.read_bytes()
    assert not list((tmp_path / "cache").rglob("*.jsonl"))


def test_a_reader_joins_the_shards(corpus: Path, tmp_path: Path) -> None:
    for part in (1, 2):
        run(corpus, tmp_path / "cache", shard=(part, 2))
    digests = opened(corpus, tmp_path / "cache").audio_digests
    assert len(store.require(tmp_path / "cache", "toy", "clean", digests, corpus="DIR")) == COUNT
    assert joined(tmp_path / "cache").path.read_bytes() == run(corpus, tmp_path / "whole").file.read_bytes()


def test_a_row_that_is_in_the_file_and_in_a_journal_is_counted_once(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "cache", shard=(1, 2))
    rows = joined(tmp_path / "cache")
    with rows.journal((1, 2)):  # held, so that a merge leaves it
        report = run(corpus, tmp_path / "cache", merge_only=True)
        assert len(list(rows)) == 2 * len(rows.keys()) > 0
    assert report.done_before == len(rows.keys()) == COUNT - report.missing


def test_a_shard_that_is_being_done_is_refused(corpus: Path, tmp_path: Path) -> None:
    with joined(tmp_path / "cache").journal((1, 1)):
        with pytest.raises(TranscriptError, match=r"^another process transcribes shard 1/1 of toy@.* Wait for it, or "):
            run(corpus, tmp_path / "cache")
        assert run(corpus, tmp_path / "cache", shard=(1, 2)).transcribed > 0


def test_what_another_process_finishes_meanwhile_is_not_done_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Rows.journal

    def late(self: Rows, shard: tuple[int, int]) -> Any:
        monkeypatch.setattr(Rows, "journal", real)
        run(corpus, tmp_path / "cache")
        return real(self, shard)

    monkeypatch.setattr(Rows, "journal", late)
    ear = Ear()
    report = run(corpus, tmp_path / "cache", ear)
    assert ear.calls == [] and (report.done_before, report.transcribed) == (COUNT, 0)


# --- processes that are killed ---------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from transcripts.fakes import Ear
from ser_bench.corpus import Release
from ser_bench.transcripts.transcribe import transcribe
corpus, cache, log = map(Path, sys.argv[1:4])
shard = tuple(map(int, sys.argv[5].split("/")))
ear = Ear(log=log, pause=float(sys.argv[4]))
report = transcribe(Release.open(corpus, cache=cache), ear, cache=cache, shard=shard)
"""


def child(corpus: Path, cache: Path, log: Path, pause: float, shard: str = "1/1") -> subprocess.Popen[str]:
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    log.touch()
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(corpus), str(cache), str(log), str(pause), shard],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
        text=True,
        stderr=subprocess.PIPE,
    )


def wait_for(done: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the child process did not get there"
        time.sleep(0.001)


def test_killed_ten_times_the_file_is_the_same_and_a_kill_costs_a_batch(tmp_path: Path) -> None:
    corpus = write_release(tmp_path, utterances=400, seconds=(0.02, 0.05), raters=1, transcripts=False)
    cache, log, pause = tmp_path / "cache", tmp_path / "log", 0.03
    chance = random.Random(4)
    kills = 0
    while kills < 10:
        before = len(log.read_text().splitlines()) if log.exists() else 0
        process = child(corpus, cache, log, pause)
        target = before + chance.randint(1, 8)
        wait_for(lambda: len(log.read_text().splitlines()) >= target, process)  # noqa: B023 - called before it changes
        time.sleep(chance.uniform(0, 2 * pause))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        kills += 1
    last = child(corpus, cache, log, 0.0)
    _, told = last.communicate(timeout=120)
    assert last.returncode == 0, told
    undisturbed = run(corpus, tmp_path / "undisturbed")
    assert undisturbed.transcribed == 400
    assert joined(cache).path.read_bytes() == undisturbed.file.read_bytes()
    assert not list(cache.rglob("*.jsonl"))
    decoded = sum(map(int, log.read_text().split()))
    assert 400 <= decoded <= 400 + kills * Ear().batch


def test_shards_in_processes_of_their_own(corpus: Path, tmp_path: Path) -> None:
    logs = [tmp_path / f"log{part}" for part in (1, 2, 3)]
    cache = tmp_path / "cache"
    processes = [child(corpus, cache, log, 0.01, f"{part}/3") for part, log in enumerate(logs, start=1)]
    for process in processes:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert sum(int(line) for log in logs for line in log.read_text().split()) == COUNT
    merged = run(corpus, cache, merge_only=True)
    assert merged.complete
    assert merged.file.read_bytes() == run(corpus, tmp_path / "whole").file.read_bytes()


# --- size ------------------------------------------------------------------------------------------------------------

MEASURED = """
import re, sys
from pathlib import Path
from transcripts.fakes import Ear
from ser_bench.corpus import Release
from ser_bench.transcripts.transcribe import transcribe

def anonymous():
    return int(re.findall(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0])

class Wordy(Ear):
    def hear(self, wave):
        return super().hear(wave)._replace(text=f"{len(wave)} " * int(sys.argv[3]))

corpus, cache = map(Path, sys.argv[1:3])
told = []
transcribe(
    Release.open(corpus, cache=cache), Wordy(batch=32), cache=cache,
    progress=lambda *_, unit: told.append(anonymous()),
)
print(told[len(told) // 5], max(told), anonymous(), len(told))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon from /proc")
def test_memory_is_flat_over_ten_thousand_utterances(tmp_path: Path) -> None:
    """Of the texts, 50 MB in all where one has 5 kB, none may stay; Arrow takes some 50 MB to join even a few."""
    corpus = write_release(
        tmp_path, utterances=10_000, seconds=(0.02, 0.03), raters=1, transcripts=False, tables=["csv"]
    )
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    for words in (20, 1000):
        cache = tmp_path / f"cache{words}"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(MEASURED), str(corpus), str(cache), str(words)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
            text=True,
            capture_output=True,
            check=True,
        )
        early, most, at_the_end, batches = map(int, done.stdout.split())
        assert batches > 300
        assert most - early < 16 << 10, f"{(most - early) / 1024:.0f} MB more than after a fifth"
        assert words > 20 or at_the_end - early < 96 << 10
        assert len(pyarrow.parquet.read_table(next(cache.rglob("clean.parquet")))) == 10_000
