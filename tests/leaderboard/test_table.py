"""Tables: who stands with whom, who is ranked, and what a reader sees."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import made_up
import pytest

from ser_bench import cache, records
from ser_bench.errors import RecordError
from ser_bench.leaderboard.render import render
from ser_bench.leaderboard.rows import Row, from_record, ranks, read_reported, references, tracks
from ser_bench.leaderboard.table import run_table, table

HEADER = "system,modality,transcripts,release,release_note,parameters_m,partition,arousal,valence,dominance,source\n"


def row(name: str, *, noise: float = 0.5, seeds: Sequence[int] = (1,), audio: bool = False, **changes: Any) -> Row:
    """Make the row of a made-up record; ``changes`` as in ``made_up.settings``."""
    if audio:
        changes |= {"system__reads": ["audio"]}
        changes.setdefault("transcripts", {"train": "none", "test": "none"})
    return from_record(made_up.record(seeds=seeds, noise=noise, system__name=name, **changes))


def reported(tmp_path: Path, *lines: str) -> list[Row]:
    (tmp_path / "reported.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_reported(tmp_path / "reported.csv")


def names(found: dict[Any, list[Row]]) -> dict[tuple[str, ...], set[str]]:
    return {track: {one.system for one in members} for track, members in found.items()}


def cells(rendered: str) -> list[dict[str, str]]:
    """Read a Markdown table back, without the rows of what people reach."""
    lines = [line for line in rendered.splitlines() if line.startswith("|")]
    split = [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert set("".join(split[1])) <= {"-", ":"}
    every = [dict(zip(split[0], line, strict=True)) for line in split[2:]]
    return [line for line in every if line["status"] != "reference"]


WHISPER = {"train": "human", "test": "whisper-base"}
CLEAN = ("MSP-Podcast 1.10", "9c1f03ab", "clean")


def test_audio_rows_stand_in_every_text_track_of_their_corpus() -> None:
    found = tracks([row("a", audio=True), row("b"), row("c", transcripts=WHISPER), row("floor", system__reads=[])])
    assert names(found) == {
        (*CLEAN, "human"): {"a", "b", "floor"},
        (*CLEAN, "whisper-base"): {"a", "c", "floor"},
    }


def test_audio_rows_alone_have_a_track_of_their_own() -> None:
    assert names(tracks([row("a", audio=True)])) == {(*CLEAN, "none"): {"a"}}


@pytest.mark.parametrize(
    ("changes", "track"),
    [
        ({"corpus__release": "1.11"}, ("MSP-Podcast 1.11", "9c1f03ab", "clean", "human")),
        ({"corpus__release": None}, ("MSP-Podcast (unknown release)", "9c1f03ab", "clean", "human")),
        ({"corpus__name": "demo"}, ("demo", "9c1f03ab", "clean", "human")),
        ({"corpus__labels_sha256": 64 * "1"}, ("MSP-Podcast 1.10", "11111111", "clean", "human")),
        ({"corpus__condition": "noise:babble@10dB"}, ("MSP-Podcast 1.10", "9c1f03ab", "noise:babble@10dB", "human")),
        ({"transcripts": WHISPER}, (*CLEAN, "whisper-base")),
    ],
)
def test_what_differs_never_shares_a_table(changes: dict[str, Any], track: tuple[str, ...]) -> None:
    assert names(tracks([row("a"), row("b", **changes)])) == {(*CLEAN, "human"): {"a"}, track: {"b"}}


def test_the_source_trained_on_does_not_part_rows_and_is_shown() -> None:
    crossed = row("b", transcripts={"train": "whisper-base", "test": "human"})
    found = tracks([row("a"), crossed])
    assert names(found) == {(*CLEAN, "human"): {"a", "b"}}
    shown = {line["system"]: line["transcripts"] for line in cells(table(found[*CLEAN, "human"]))}
    assert shown == {"a": "human", "b": "whisper-base, scored on human"}


REPORTED = (
    "paper audio,audio,none,1.10,,24,test1,0.6,0.3,0.5,P",
    "paper audio,audio,none,1.10,,24,test2,0.5,0.2,0.4,P",
    "paper text,audio+text,human,1.10,,39,test1,0.6,0.5,0.5,P",
    "other release,audio,none,1.7,inferred,,test1,0.7,0.6,0.6,Q",
)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([], {("MSP-Podcast 1.10", "", "clean", "human"): {"paper audio", "paper text"}}),
        ([{"name": "b"}], {(*CLEAN, "human"): {"b", "paper audio", "paper text"}}),
        ([{"name": "a", "audio": True}], {(*CLEAN, "human"): {"a", "paper audio", "paper text"}}),
        (
            [{"name": "c", "transcripts": WHISPER}, {"name": "a", "audio": True}],
            {
                (*CLEAN, "human"): {"a", "paper audio", "paper text"},
                (*CLEAN, "whisper-base"): {"a", "c", "paper audio"},
            },
        ),
        (
            [{"name": "n", "corpus__condition": "noise"}],
            {
                ("MSP-Podcast 1.10", "", "clean", "human"): {"paper audio", "paper text"},
                ("MSP-Podcast 1.10", "9c1f03ab", "noise", "human"): {"n"},
            },
        ),
        (
            [{"name": "d", "corpus__name": "demo"}],
            {
                ("MSP-Podcast 1.10", "", "clean", "human"): {"paper audio", "paper text"},
                ("demo", "9c1f03ab", "clean", "human"): {"d"},
            },
        ),
    ],
)
def test_reported_rows_join_the_tracks_of_their_release(
    tmp_path: Path, ours: list[dict[str, Any]], expected: dict[tuple[str, ...], set[str]]
) -> None:
    """Whatever else is there, no row is lost, and none stands where it does not belong."""
    other = {("MSP-Podcast 1.7", "", "clean", "none"): {"other release"}}
    rows = [row(one.pop("name"), **one) for one in map(dict, ours)]
    assert names(tracks(rows + reported(tmp_path, *REPORTED))) == expected | other


def test_reported_rows_have_no_rank(tmp_path: Path) -> None:
    rows = [row("b", noise=3.0), *reported(tmp_path, *REPORTED[:3])]
    assert ranks(rows, "test1") == [1, None, None]
    shown = {line["system"]: line for line in cells(table(rows))}
    assert shown["paper audio"]["seen rank"] == shown["paper audio"]["unseen rank"] == "-"
    assert shown["paper audio"]["status"] == "reported (P)"
    assert shown["paper audio"]["seen mean"] == "0.467"
    assert shown["paper text"]["unseen mean"] == "-"
    assert shown["b"]["seen rank"] == "1"


def test_ranks_follow_the_paired_test() -> None:
    rows = [
        row("far", noise=2.5),
        row("good", noise=0.4),
        row("as-good", noise=0.4, seeds=(2,)),
        row("worse", noise=1.2),
    ]
    assert ranks(rows, "test1") == ranks(rows, "test2") == [4, 1, 1, 3]
    shown = cells(table(rows))
    assert [line["seen rank"] for line in shown] == ["1", "1", "3", "4"]
    means = [float(line["seen mean"].split()[0]) for line in shown]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"weights": "random"}, "random weights"),
        ({"weights": "tiny"}, "tiny weights"),
        ({"weights": "local-0123abcd"}, "local weights"),
        ({"missing": 2}, "6 without audio"),
    ],
)
def test_rows_that_may_not_be_ranked_stand_last_and_say_why(changes: dict[str, Any], mark: str) -> None:
    best, poor = row("best", noise=0.1, **changes), row("poor", noise=3.0)
    assert best.marks == (mark,)
    assert ranks([best, poor], "test1") == [None, 1]
    shown = cells(table([best, poor]))
    assert [line["system"] for line in shown] == ["poor", "best"]
    assert shown[1]["status"] == f"self-reported, {mark}"
    assert (shown[1]["seen rank"], shown[1]["unseen rank"]) == ("-", "-")


@pytest.mark.parametrize("name", ["MSP-Podcast", "MSP-PODCAST v1.7 train", "msp_podcast"])
def test_a_system_that_has_seen_the_corpus_is_marked(name: str) -> None:
    settings = made_up.settings()
    settings["system"]["parts"][0]["trained_on"] = ["LibriSpeech", name]
    seen = from_record(records.assemble(settings, [made_up.result(1)], created=made_up.CREATED))
    assert seen.marks == ("pre-trained on MSP-Podcast",)
    assert ranks([seen, row("other")], "test1") == [None, 1]
    settings["system"]["parts"][0]["trained_on"] = ["MSP-Improv"]
    assert not from_record(records.assemble(settings, [made_up.result(1)], created=made_up.CREATED)).marks


def test_a_run_scored_elsewhere_says_where_it_was_trained() -> None:
    trained = {"corpus": made_up.settings(corpus__release="1.7")["corpus"], "frames": "f16"}
    assert cells(table([row("a", trained=trained)]))[0]["status"] == "self-reported, trained on MSP-Podcast 1.7"


def test_a_row_without_predictions_says_so() -> None:
    made = made_up.record()
    assert from_record({**made, "predictions": "withheld"}).notes == ("not verifiable",)
    assert from_record({**made, "predictions": "published"}).notes == ()
    withheld = from_record({**made, "predictions": "withheld"})
    assert cells(table([withheld]))[0]["status"] == "self-reported, not verifiable"
    assert ranks([withheld], "test1") == [1]


def test_seen_and_unseen_side_by_side() -> None:
    one = row("a", seeds=(1, 2))
    shown = cells(table([one]))[0]
    assert list(shown) == [
        "system", "modality", "transcripts", "params (M)",
        "seen rank", "seen A", "seen V", "seen D", "seen mean",
        "unseen rank", "unseen A", "unseen V", "unseen D", "unseen mean",
        "seeds", "status",
    ]  # fmt: skip
    cell = made_up.record(seeds=(1, 2))["summary"]["test2"]["ccc"]
    assert shown["unseen V"] == f"{cell['valence']['mean']:.3f}"
    low, high = cell["mean"]["ci95"]
    assert shown["unseen mean"] == f"{cell['mean']['mean']:.3f} [{low:.3f}, {high:.3f}]"
    assert (shown["modality"], shown["params (M)"], shown["seeds"]) == ("audio+text", "0.131", "2")


def test_a_release_without_test_partitions_is_shown_by_development_and_not_ranked() -> None:
    rows = [row(name, noise=noise, partitions={"development": [12] * 6}) for name, noise in (("a", 0.4), ("b", 3.0))]
    shown = cells(table(rows))
    assert [line["system"] for line in shown] == ["a", "b"]
    assert "development mean" in shown[0]
    assert not [head for head in shown[0] if "rank" in head or "seen" in head]


def test_an_attribute_that_was_not_trained_is_a_dash_and_has_no_rank() -> None:
    settings = made_up.settings(recipe=made_up.settings()["recipe"] | {"attributes": ["valence"]})
    result = made_up.result(1, attributes=("valence",))
    one = from_record(records.assemble(settings, [result], created=made_up.CREATED))
    shown = {line["seen A"]: line for line in cells(table([one, row("whole")]))}["-"]
    assert shown["seen D"] == "-" != shown["seen V"]
    assert shown["seen rank"] == "-"


def test_a_bar_in_a_cell_does_not_break_the_table(tmp_path: Path) -> None:
    rows = reported(tmp_path, "a|b,audio,none,1.10,,24,test1,0.6,0.3,0.5,P | Q")
    assert cells(table(rows))[0]["system"] == "a|b"
    assert cells(table(rows))[0]["status"] == "reported (P | Q)"


BAD = "name,audio,none,1.10,,24,"


@pytest.mark.parametrize(
    ("lines", "line", "cause"),
    [
        ((REPORTED[0], BAD + "test1,0.5,x,0.5,P"), 3, "could not convert string to float: 'x'"),
        ((BAD + "test1,0.5,nan,0.5,P",), 2, "are not CCCs"),
        ((BAD + "test1,0.5,1.5,0.5,P",), 2, "are not CCCs"),
        ((BAD + "test1,0.5,0.5",), 2, "it has more or fewer cells than the first line"),
        ((REPORTED[0], "", REPORTED[1] + ",x"), 4, "it has more or fewer cells than the first line"),
        ((BAD + "test4,0.5,0.5,0.5,P",), 2, "partition 'test4' is unknown or there twice"),
        ((REPORTED[0], REPORTED[1], REPORTED[0]), 4, "partition 'test1' is unknown or there twice"),
        (('"two\nlines",audio,none,1.10,,24,test1,0.5,0.5,9,P',), 3, "it has the invisible character U\\+000A"),
        (("<b>x</b>,audio,none,1.10,,24,test1,0.5,0.5,0.5,P",), 2, "it has markup \\('<b'\\)"),
        ((BAD + "test1,0.5,0.5,0.5,[P](javascript:x)",), 2, "it has markup \\('javascript:'\\)"),
    ],
)
def test_malformed_csv_names_its_line(tmp_path: Path, lines: tuple[str, ...], line: int, cause: str) -> None:
    with pytest.raises(
        RecordError, match=rf"reported\.csv line {line} cannot be read: .*{cause}; expected.*Correct the line"
    ):
        reported(tmp_path, *lines)


def test_csv_without_a_column(tmp_path: Path) -> None:
    (tmp_path / "reported.csv").write_text("system,partition\na,test1\n")
    with pytest.raises(
        RecordError, match=r"line 1 cannot be read: it has no column arousal, no column dominance, .*; expected"
    ):
        read_reported(tmp_path / "reported.csv")


def put(leaderboard: Path, name: str, record: dict[str, Any]) -> None:
    cache.atomic_write(leaderboard / "records" / f"{name}.json", records.canonical(record))


def test_render(tmp_path: Path) -> None:
    put(tmp_path, "b", made_up.record(system__name="b", noise=0.4, seeds=(1, 2)))
    put(tmp_path, "a", made_up.record(system__name="a", noise=2.5))
    put(tmp_path, "n", made_up.record(system__name="n", corpus__condition="noise:babble@10dB"))
    reported(tmp_path, *REPORTED)
    text = render(tmp_path).readme
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text
    assert text.startswith("# Leaderboard\n\nCCC (")
    assert text.endswith("|\n")
    assert re.findall("^## .*", text, flags=re.MULTILINE) == [
        "## MSP-Podcast 1.10, labels 9c1f03ab (unconfirmed), human transcripts",
        "## MSP-Podcast 1.10, labels 9c1f03ab (unconfirmed), noise:babble@10dB, human transcripts",
        "## MSP-Podcast 1.7, no transcripts",
    ]
    first = cells(text.split("## ")[1])
    assert {line["system"] for line in first} == {"a", "b", "paper audio", "paper text"}
    # The same content gives the same bytes, in whatever order the records were written.
    assert render(tmp_path, tmp_path / "elsewhere").readme == text
    other = tmp_path / "other"
    for name in ("n", "a", "b"):
        put(other, name, records.read(tmp_path / "records" / f"{name}.json"))
    reported(other, *REPORTED)
    assert render(other).readme == text


def test_render_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a", made_up.record())
    (tmp_path / "README.md").write_text("old")

    def fail(*_: object) -> None:
        raise OSError(5, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Exception, match="cannot write"):
        render(tmp_path)
    assert (tmp_path / "README.md").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "records"]


def test_nothing_to_render(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as raised:
        render(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path} holds no record; expected {tmp_path / 'records'}/*.json or reported.csv. Put a run there with "
        "`ser-bench leaderboard add RUN`."
    )
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_is_not_rendered(tmp_path: Path) -> None:
    put(tmp_path, "a", made_up.record())
    put(tmp_path, "b", made_up.record() | {"signature": "corpus:mine"})
    with pytest.raises(RecordError, match=r"records/b\.json is signed 'corpus:mine'"):
        render(tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_run_table() -> None:
    text = run_table(made_up.record(seeds=(1, 2)))
    cell = made_up.record(seeds=(1, 2))["summary"]["test1"]["ccc"]["mean"]
    low, high = cell["ci95"]
    line = next(line for line in text.splitlines() if line.split()[:2] == ["test1", "mean"])
    shown = [f"{number:.3f}" for number in (cell["mean"], cell["std"], low)]
    assert line.split()[2:] == [*shown, "..", f"{high:.3f}"]
    lines = text.splitlines()
    few, unseen, outside = lines[2 + 3 * 4 :]  # after the table
    assert re.fullmatch(r"few clusters on seen \(\d+\) for an .*over utterances \[.*\] \(seed 1\)\.", few)
    assert unseen.startswith("few clusters on unseen (")
    assert re.fullmatch(r"Predictions outside 1\.\.7, over all seeds: \d+ on .*\.", outside)
    assert re.search(r"test1 +mean +0\.\d+ +- +0\.", run_table(made_up.record()))


def test_a_row_with_other_clusters_takes_nobodys_rank() -> None:
    from dataclasses import replace

    rows = [row(f"s{noise}", noise=noise) for noise in (0.3, 0.5, 0.9)]
    odd = replace(
        rows[2], blocks={p: [{**b, "digest": "0" * 64} for b in blocks] for p, blocks in rows[2].blocks.items()}
    )
    assert ranks([rows[0], rows[1], odd], "test1")[2] is None
    assert ranks([rows[0], rows[1], odd], "test1")[:2] == ranks(rows[:2], "test1")


def test_the_ranked_set_is_that_of_most_systems_then_of_the_oldest_record() -> None:
    """Many records of one system, or a digest that sorts first, take nobody's rank away."""
    from dataclasses import replace

    def other(one: Row, **changes: Any) -> Row:
        blocks = {p: [{**b, "digest": "0" * 64} for b in of] for p, of in one.blocks.items()}
        return replace(one, blocks=blocks, **changes)

    honest = [row("a", noise=0.3), row("b", noise=0.5)]
    many = [other(row("c", noise=0.1, seeds=(seed,))) for seed in (1, 2, 3)]
    assert ranks([*honest, *many], "test1")[2:] == [None] * 3
    late = other(row("c", noise=0.1), created="2026-06-01T00:00:00Z")
    assert ranks([honest[0], late], "test1") == [1, None]
    early = other(row("c", noise=0.1), created="2025-06-01T00:00:00Z")
    assert ranks([honest[0], early], "test1") == [None, 1]


def test_a_strategy_stands_behind_the_systems_name() -> None:
    strategies = ("finetune", "frozen", "none")
    rows = [row("x", noise=noise, strategy=told) for noise, told in zip((0.3, 0.5, 0.9), strategies, strict=True)]
    assert [line["system"] for line in cells(table(rows))] == ["x", "x, frozen", "x, as released"]


def test_people_are_what_most_ranked_rows_say() -> None:
    from dataclasses import replace

    def said(one: Row, value: float, utterances: int = 60) -> Row:
        found = {"utterances": utterances, **{c: {"one": value, "simulated": 0.7} for c in records.COLUMNS}}
        return replace(one, ceiling={"test1": found})

    honest = [said(row("a"), 0.6), said(row("b"), 0.6)]
    odd, marked = said(row("c"), 0.1, utterances=96), said(row("d", missing=2), 0.2, utterances=96)

    def shown(*rows: Row) -> list[float]:
        return [one.cells["test1"]["mean"]["mean"] for one in references(rows)]

    assert shown(*honest, odd, marked) == [0.6, 0.7]
    assert shown(marked) == []
    assert shown(honest[0], odd) == [0.1, 0.7]  # of two that nobody can decide between, what knows more


def test_a_model_trained_on_another_release_is_not_ranked() -> None:
    record = made_up.record(seeds=(1,))
    elsewhere = {"corpus": {**record["corpus"], "labels_sha256": "a" * 64}, "frames": "f16"}
    assert "trained on another release" in from_record({**record, "trained": elsewhere}).marks
    here = {"corpus": record["corpus"], "frames": "f16"}
    assert from_record({**record, "trained": here}).marks == ()
