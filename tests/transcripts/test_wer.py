from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pyarrow.parquet
import pytest
from scipy import stats

from ser_bench.errors import TranscriptError
from ser_bench.interface import Rows
from ser_bench.transcripts.counts import COLUMNS, Counts, count_errors
from ser_bench.transcripts.normalise import normalise, normaliser
from ser_bench.transcripts.wer import interval, paired_difference, partition_wer, wer_tables, write_utterances

# human, machine: words hits sub del ins | on empty | characters errors, worked by hand
TABLE: list[tuple[str | None, str, tuple[int, ...]]] = [
    # i am here you can not go
    ("I\u2019m here, you can't go.", "I'm here you can not go", (7, 7, 0, 0, 0, 0, 24, 0)),
    # well it was 20 dol / well it was $20; in characters: $ in, " dol" out
    ("...well, [inaudible 00:01:02] it was 20 dol-", "Well it was twenty dollars", (5, 3, 1, 1, 0, 0, 18, 5)),
    ("", "Thank you.", (0, 0, 0, 0, 0, 2, 0, 0)),
    ("[laughter 00:00:01] [crosstalk]", "", (0, 0, 0, 0, 0, 0, 0, 0)),
    (None, "hello there", (0, 0, 0, 0, 0, 0, 0, 0)),
    ("She is fine.", "", (3, 0, 0, 3, 0, 0, 11, 11)),
    # cafe senor / cafe senor is here
    ("Cafe\u0301 sen\u0303or", "Caf\u00e9 se\u00f1or is here", (2, 2, 0, 0, 2, 0, 10, 8)),
    # he ate 12 apples at 10 30
    ("He ate 12 apples at 10:30", "He ate twelve apples at 10 30.", (7, 7, 0, 0, 0, 0, 25, 0)),
    ("Yes\u2026", "[BLANK_AUDIO] no \u266a", (1, 0, 1, 0, 0, 0, 3, 3)),
]
HUMAN = [row[0] for row in TABLE]
MACHINE = [row[1] for row in TABLE]
WORDS = (
    *("the", "a", "we", "you", "it", "that", "was", "is", "not", "really", "so", "very", "much", "good", "bad"),
    *("people", "time", "think", "know", "want", "day", "thing", "go", "come", "make", "see", "right", "well"),
)


def make_rows(speaker: Sequence[str], **columns: Any) -> Rows:
    n = len(speaker)
    content: dict[str, Any] = {
        "partition": "test1",
        "utterance": [f"MSP-PODCAST_0001_{i:04}.wav" for i in range(n)],
        "path": [""] * n,
        "duration": np.ones(n),
        "labels": np.full((n, 3), 4.0),
        "emotion": list(itertools.islice(itertools.cycle("NHA"), n)),
        "speaker": list(speaker),
        "gender": list(itertools.islice(itertools.cycle(["Male", "Female"]), n)),
        "podcast": ["0001"] * n,
        "transcript": [None] * n,
    }
    return Rows(**(content | columns))


def made_up(sizes: Sequence[int], *, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    """Make human text, machine text and speakers; each speaker's words are lost, changed or added at its own rate."""
    rng = np.random.default_rng(seed)
    human, machine, speaker = [], [], []
    for number, size in enumerate(sizes):
        rate = min(0.1 * rng.lognormal(0, 0.5), 0.3)
        for _ in range(size):
            words = rng.choice(WORDS, rng.integers(2, 15)).tolist()
            heard = []
            for word in words:
                kind = rng.choice(4, p=[1 - 3 * rate, rate, rate, rate])
                heard += [[word], [str(rng.choice(WORDS))], [], [word, str(rng.choice(WORDS))]][kind]
            human.append(" ".join(words).capitalize() + ".")
            machine.append(" ".join(heard))
            speaker.append(str(number))
    return human, machine, speaker


def test_hand_worked_table() -> None:
    counts = count_errors(HUMAN, MACHINE)
    for number, (human, machine, expected) in enumerate(TABLE):
        found = tuple(int(getattr(counts, name)[number]) for name in COLUMNS)
        assert found == expected, (human, machine)
    assert counts.referenced.tolist() == [human is not None for human in HUMAN]
    assert counts.errors.tolist() == [0, 2, 0, 0, 0, 3, 2, 0, 1]
    expected_wer = [0, 2 / 5, np.nan, np.nan, np.nan, 1, 1, 0, 1]
    assert counts.wer == pytest.approx(expected_wer, nan_ok=True, abs=0)


def test_partition_of_the_hand_worked_table() -> None:
    part = partition_wer(make_rows(["1"] * 9), HUMAN, MACHINE)
    assert part.as_record() == {
        "value": 0.32,
        "ci95": None,
        "errors": 8,
        "words": 25,
        "substitutions": 2,
        "deletions": 4,
        "insertions": 2,
        "empty_references": 2,
        "without_reference": 1,
        "cer": round(27 / 91, 6),
        "normaliser": normaliser(),
    }
    assert (part.words_on_empty, part.empty_hypotheses, part.clusters) == (2, 1, 1)
    assert (part.hits, part.characters, part.character_errors) == (19, 91, 27)


def test_equals_jiwer_called_by_itself() -> None:
    human, machine, speaker = made_up([30, 20, 25], seed=3)
    machine[4] = ""
    part = partition_wer(make_rows(speaker), human, machine)
    references, hypotheses = ([normalise(text) for text in texts] for texts in (human, machine))
    by_words, by_characters = (f(references, hypotheses) for f in (jiwer.process_words, jiwer.process_characters))
    assert part.value == by_words.wer == jiwer.wer(references, hypotheses)
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert getattr(part, name) == getattr(by_words, name)
    assert part.cer == by_characters.cer
    for number, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        assert part.counts.wer[number] == jiwer.wer(reference, hypothesis)
        assert part.counts.words[number] == len(reference.split())
        assert part.counts.characters[number] == len(reference)


def test_what_jiwer_does_with_an_empty_reference_and_why_it_never_sees_one() -> None:
    assert jiwer.wer([""], ["thank you"]) == 2, "a count where a ratio is expected"
    assert jiwer.wer(["", "a b"], ["x y", "a b"]) == 1, "and errors without words among many"
    part = partition_wer(make_rows(["1", "1"]), ["[music]", "a b"], ["x y", "a b"])
    assert (part.value, part.words_on_empty, part.empty_references) == (0, 2, 1)


def test_more_pairs_than_are_aligned_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    human, machine, _ = made_up([40])
    whole = count_errors(human, machine)
    monkeypatch.setattr("ser_bench.transcripts.counts._CHUNK", 7)
    parts = count_errors(human, machine)
    for name in COLUMNS:
        assert (getattr(parts, name) == getattr(whole, name)).all()


def test_nothing_to_compare() -> None:
    for human, empty, without in (([None, None], 0, 2), (["", "[noise]"], 2, 0), ([], 0, 0)):
        rows = make_rows(["1"] * len(human))
        part = partition_wer(rows, human, ["hello"] * len(human))
        assert (part.value, part.cer, part.ci95, part.words, part.errors) == (None, None, None, 0, 0)
        assert (part.empty_references, part.without_reference, part.clusters) == (empty, without, 0)
        assert part.as_record()["value"] is None


def test_groups_sum_to_the_partition() -> None:
    human, machine, speaker = made_up([20, 20], seed=1)
    texts: list[str | None] = [*human, None, ""]
    rows = make_rows([*speaker, "0", "1"], emotion=["N", "H", ""] * 14, gender=["Male", "Female", "Unknown"] * 14)
    part = partition_wer(rows, texts, [*machine, "well", "well"])
    for groups, names in ((part.gender, ["Female", "Male", "Unknown"]), (part.emotion, ["H", "N", "withheld"])):
        assert list(groups) == names
        assert sum(group.utterances for group in groups.values()) == 42
        assert sum(group.words for group in groups.values()) == part.words
        assert sum(group.errors for group in groups.values()) == part.errors
    chosen = [i for i, gender in enumerate(rows.gender) if gender == "Male" and texts[i]]
    references = [normalise(texts[i] or "") for i in chosen]
    assert part.gender["Male"].value == jiwer.wer(references, [normalise(machine[i]) for i in chosen])
    assert part.as_dict()["emotion"]["withheld"]["utterances"] == 14


def test_as_dict_is_json_and_holds_the_record() -> None:
    human, machine, speaker = made_up([12] * 5)
    part = partition_wer(make_rows(speaker), human, machine)
    content = json.loads(json.dumps(part.as_dict(), allow_nan=False))
    assert {key: content[key] for key in part.as_record()} == part.as_record()
    assert content["utterances"] == 60
    assert content["clusters"] == 5
    low, high = content["ci95"]
    assert 0 < low < content["value"] < high
    assert content["value"] == round(part.errors / part.words, 6)


def test_interval_against_brute_force() -> None:
    human, machine, speaker = made_up([40, 11, 12, 25, 10, 3, 4, 60], seed=5)
    found = partition_wer(make_rows(speaker), human, machine)
    # Speakers 5 and 6 have 7 utterances together, which are joined to the smallest other, speaker 4.
    cluster = ["4" if name in "456" else name for name in speaker]
    names = sorted(set(cluster))

    def wer_without(left_out: str | None) -> float:
        kept = [i for i, name in enumerate(cluster) if name != left_out]
        return jiwer.wer([normalise(human[i]) for i in kept], [normalise(machine[i]) for i in kept])

    value = math.log(wer_without(None))
    square = [(math.log(wer_without(name)) - value) ** 2 for name in names]
    words = [sum(len(normalise(human[i]).split()) for i, c in enumerate(cluster) if c == name) for name in names]
    count = len(names)
    by_size = 1 / sum((w / sum(words)) ** 2 for w in words) - 1
    by_influence = min(max(3 * sum(square) ** 2 / sum(s * s for s in square) - 1, 1), count - 1)
    error = math.sqrt((count - 1) / count * sum(square))
    reach = stats.t.ppf(0.975, min(by_size, by_influence)) * error
    assert found.ci95 == pytest.approx((math.exp(value - reach), math.exp(value + reach)), rel=1e-9)
    assert found.clusters == count == 6


def test_interval_edges() -> None:
    words = np.array([100, 200, 300])
    assert interval(words[:1], np.array([5])) is None
    assert interval(words, np.zeros(3, dtype=np.int64)) is None, "no error says nothing of their spread"
    low, high = interval(words, np.array([6, 0, 0])) or (0, 0)
    assert 0 < low < 0.01 < high < math.inf
    # One cluster is nearly everything: no bound worth the name, but numbers that JSON and a table can hold.
    low, high = interval(np.array([10**9, 1]), np.array([10**8, 1])) or (0, 0)
    assert 0 < low < 1e-5 < 1e3 < high < 1e4


@pytest.mark.parametrize(("clusters", "sigma"), [(12, 1.0), (40, 1.5)])
def test_coverage(clusters: int, sigma: float) -> None:
    """The full table is in docs/statistics.md; 600 draws have a standard error of 0.9 %."""
    rng = np.random.default_rng(clusters)
    held = np.zeros(2)
    draws = 600
    for _ in range(draws):
        size = np.maximum(10, rng.lognormal(np.log(60) - sigma**2 / 2, sigma, clusters))
        words = rng.poisson(12 * size)
        rates = (
            np.array([0.2, 0.15]) * rng.lognormal(-0.08, 0.4, (clusters, 1)) * rng.lognormal(-0.02, 0.2, (clusters, 2))
        )
        errors = rng.poisson(rates * words[:, None])
        low, high = interval(words, errors[:, 0]) or (0, 0)
        held[0] += low <= 0.2 <= high
        _, limits = paired_difference(*(as_counts(words, e) for e in errors.T), [f"{k}" for k in range(clusters)] * 10)
        held[1] += limits is not None and limits[0] <= 0.05 <= limits[1]
    assert (held / draws >= 0.915).all(), held / draws
    assert (held / draws <= 0.985).all(), held / draws


def as_counts(words: np.ndarray, errors: np.ndarray) -> Counts:
    """Make ten utterances a cluster, so that none is joined: one holds its counts, the others a word each, no error."""
    ones = np.ones(9 * len(words), dtype=np.int64)
    w, e = np.concatenate([words, ones]), np.concatenate([errors, 0 * ones])
    none = np.zeros_like(w)
    return Counts(
        referenced=w > 0, words=w, hits=w - e, substitutions=e, deletions=none, insertions=none, words_on_empty=none,
        characters=none, character_errors=none,
    )  # fmt: skip


def test_paired_difference_against_brute_force() -> None:
    human, machine, speaker = made_up([30, 12, 15, 40, 10], seed=8)
    _, other, _ = made_up([30, 12, 15, 40, 10], seed=9)
    other = [b if i % 3 == 0 else a for i, (a, b) in enumerate(zip(machine, other, strict=True))]
    a, b = count_errors(human, machine), count_errors(human, other)

    def apart(left_out: str | None) -> float:
        kept = [i for i, name in enumerate(speaker) if name != left_out]
        reference = [normalise(human[i]) for i in kept]
        return jiwer.wer(reference, [normalise(machine[i]) for i in kept]) - jiwer.wer(
            reference, [normalise(other[i]) for i in kept]
        )

    value, limits = paired_difference(a, b, speaker)
    names = sorted(set(speaker))
    square = [(apart(name) - apart(None)) ** 2 for name in names]
    words = [int(a.words[[i for i, s in enumerate(speaker) if s == name]].sum()) for name in names]
    by_size = 1 / sum((w / sum(words)) ** 2 for w in words) - 1
    by_influence = min(max(3 * sum(square) ** 2 / sum(s * s for s in square) - 1, 1), 4)
    reach = stats.t.ppf(0.975, math.sqrt(by_size * by_influence)) * math.sqrt(4 / 5 * sum(square))
    assert value == pytest.approx(apart(None), abs=1e-12)
    assert limits == pytest.approx((apart(None) - reach, apart(None) + reach), abs=1e-9)
    back, mirrored = paired_difference(b, a, speaker)
    assert back == -value
    assert limits is not None
    assert mirrored == pytest.approx((-limits[1], -limits[0]))
    _, narrower = paired_difference(a, b, speaker, level=0.9)
    assert narrower is not None
    assert limits[0] < narrower[0] < value < narrower[1] < limits[1]


def test_paired_difference_edges() -> None:
    human, machine, speaker = made_up([12, 12])
    a = count_errors(human, machine)
    assert paired_difference(a, a, speaker) == (0, (0, 0))
    assert paired_difference(a, a, ["one"] * 24) == (0, None)


def test_paired_difference_refuses() -> None:
    human, machine, speaker = made_up([12, 12])
    a = count_errors(human, machine)
    shorter = count_errors(["Well."] * 24, machine)
    message = f"24 utterances with {a.words.sum()} reference words, 24 with 24, and 24 clusters are named. Both must be"
    with pytest.raises(TranscriptError, match=re.escape(message)):
        paired_difference(a, shorter, speaker)
    with pytest.raises(TranscriptError, match="and 23 clusters are named"):
        paired_difference(a, a, speaker[1:])
    empty = count_errors([None] * 24, machine)
    with pytest.raises(TranscriptError, match="none of the 24 utterances has a reference with words"):
        paired_difference(empty, empty, speaker)


def test_a_missing_machine_transcript_is_an_error() -> None:
    human, machine, speaker = made_up([12])
    given: list[str | None] = list(machine)
    given[3] = given[7] = None
    message = (
        "2 of 12 test1 utterances have no machine transcript (first: MSP-PODCAST_0001_0003.wav); a word error rate"
        " needs one for each, empty where nothing was recognised. Make the missing ones with"
        " `ser-bench transcribe --corpus DIR --asr NAME`."
    )
    with pytest.raises(TranscriptError, match=re.escape(message)):
        partition_wer(make_rows(speaker), human, given)
    with pytest.raises(TranscriptError, match="test1 has 12 utterances, and 11 human and 12 machine transcripts were"):
        partition_wer(make_rows(speaker), human[1:], machine)


def test_tables() -> None:
    human, machine, speaker = made_up([12] * 25, seed=2)
    many = partition_wer(make_rows(speaker), human, machine)
    few = partition_wer(make_rows(["1"] * 9, partition="test2"), HUMAN, MACHINE)
    none = partition_wer(make_rows(["Unknown"] * 2, partition="test3"), [None, None], ["a", "b"])
    main, gender, emotion, remarks = wer_tables({"test1": many, "test2": few, "test3": none}).split("\n\n")
    heads, _, *lines = main.splitlines()
    assert re.split(r"  +", heads.strip()) == [
        "partition", "utterances", "words", "WER %", "95 % interval", "ins", "del", "sub", "CER %", "empty references",
        "without reference",
    ]  # fmt: skip
    assert many.ci95 is not None
    rate, low, high = (f"{100 * value:.1f}" for value in (many.errors / many.words, *many.ci95))
    assert lines[0].split()[:7] == ["test1", "300", f"{many.words:,}", rate, low, "..", high]
    assert lines[1].split() == ["test2", "9", "25", "32.0", "-", "2", "4", "2", "29.7", "2", "1"]
    assert lines[2].split() == ["test3", "2", "0", "-", "-", "0", "0", "0", "-", "0", "2"]
    female = many.gender["Female"]
    shown = f"{female.words:,} {female.errors:,} {100 * (female.value or 0):.1f}".split()
    assert gender.splitlines()[2].split() == ["test1", "Female", "150", *shown]
    assert len(emotion.splitlines()) == 2 + 3 + 3 + 2
    assert remarks.splitlines() == [
        f"Normaliser: {normaliser()}.",
        "Few clusters (speakers, else podcasts) for an interval: test2 1.",
        "Words recognised on empty references (in no rate): test2 2.",
        "Utterances with a reference and no recognised word: test2 1.",
    ]


def test_utterances_file(tmp_path: Path) -> None:
    human, machine, speaker = made_up([12] * 2)
    one = partition_wer(make_rows(speaker), human, machine)
    names = [f"MSP-PODCAST_0000_{i:04}.wav" for i in range(9)][::-1]
    two = partition_wer(make_rows(["1"] * 9, partition="test2", utterance=names), HUMAN, MACHINE)
    path = tmp_path / "deep" / "wer.parquet"
    write_utterances(path, {"test1": one, "test2": two})
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["utterance", "partition", "referenced", *COLUMNS, "wer"]
    assert table.schema.metadata == {b"normaliser": normaliser().encode()}
    rows = table.to_pylist()
    assert [row["utterance"] for row in rows] == sorted([*one.utterance, *names])
    of_two = [row for row in rows if row["partition"] == "test2"][::-1]
    assert [tuple(row[name] for name in COLUMNS) for row in of_two] == [row[2] for row in TABLE]
    assert [row["wer"] for row in of_two] == [0, 0.4, None, None, None, 1, 1, 0, 1]
    assert [row["referenced"] for row in of_two] == [human is not None for human in HUMAN]
    sums = {name: sum(row[name] for row in rows) for name in COLUMNS}
    assert sums == {name: getattr(one, name) + getattr(two, name) for name in COLUMNS}
    before = path.read_bytes()
    write_utterances(path, {"test2": two, "test1": one})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["wer.parquet"]
