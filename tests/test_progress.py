from __future__ import annotations

import io
import time

import pytest

from ser_bench.progress import LINE_EVERY, Reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_first_last_and_now_and_then(clock: list[float]) -> None:
    stream = io.StringIO()
    report = Reporter(stream)
    for done in range(1, 3001):
        report("audio front end", done, 3000)
        clock[0] += LINE_EVERY / 1000
    assert stream.getvalue().splitlines() == [
        "audio front end: 1/3,000",
        "audio front end: 1,002/3,000",
        "audio front end: 2,003/3,000",
        "audio front end: 3,000/3,000",
    ]


def test_short_works_get_a_line_each_when_they_are_done(clock: list[float]) -> None:
    stream = io.StringIO()
    report = Reporter(stream)
    report("audio front end", 1, 1)
    for epoch in (1, 2):
        for done in (1, 2, 3):
            report(f"epoch {epoch}", done, 3)
    report("predicting", 0, 9)
    assert stream.getvalue() == "audio front end: 1/1\nepoch 1: 3/3\nepoch 2: 3/3\n"


def test_a_terminal_gets_a_bar_for_each_work() -> None:
    stream = Terminal()
    report = Reporter(stream)
    for done in range(1, 6):
        report("audio front end", done, 5)
    report("epoch 1", 1, 3)
    shown = stream.getvalue()
    assert "audio front end: 100%" in shown
    assert "5/5" in shown
    assert shown.index("audio front end: 100%") < shown.index("\n") < shown.index("epoch 1:")  # the first bar is ended
    assert not shown.endswith("\n")
    report.close()
    assert stream.getvalue().endswith("\n")
    ended = stream.getvalue()
    report.close()  # once is enough
    assert stream.getvalue() == ended


def test_a_bar_counts_what_was_done_before_it_was_shown() -> None:
    """As after a resumed store: the first call already says 7 of 9."""
    stream = Terminal()
    report = Reporter(stream)
    report("audio front end", 7, 9)
    report.close()
    assert "7/9" in stream.getvalue()


def test_closing_without_a_bar_writes_nothing() -> None:
    stream = io.StringIO()
    Reporter(stream).close()
    assert stream.getvalue() == ""


def test_progress_never_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter()("reading", 1, 1)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "reading: 1/1\n")


def test_audio_is_told_in_hours_with_speed_and_time_left(clock: list[float]) -> None:
    stream = io.StringIO()
    report = Reporter(stream)
    report("transcribing", 1_800, 14_400, unit="audio")  # half an hour was done before
    clock[0] += 60.0
    report("transcribing", 5_400, 14_400, unit="audio")
    clock[0] += LINE_EVERY / 2
    report("transcribing", 6_000, 14_400, unit="audio")  # too soon after the last line
    clock[0] += 3_600.0
    report("transcribing", 14_400, 14_400, unit="audio")
    assert stream.getvalue().splitlines() == [
        "transcribing: 0.50 of 4.00 h of audio",
        "transcribing: 1.50 of 4.00 h of audio, 60.0 x real time, 02:30 left",
        "transcribing: 4.00 of 4.00 h of audio, 3.4 x real time, 00:00 left",
    ]


def test_audio_on_a_terminal_is_a_bar_with_the_same_words(clock: list[float]) -> None:
    stream = Terminal()
    report = Reporter(stream)
    report("transcribing", 0, 36_000, unit="audio")
    clock[0] += 60.0
    report("transcribing", 600, 36_000, unit="audio")
    report.close()
    shown = stream.getvalue()
    assert "transcribing:   2%|" in shown
    assert "0.17 of 10.00 h of audio, 10.0 x real time, 59:00 left" in shown
