"""The command line's contract: exit codes, one line for a fault, JSON alone on stdout, and what is said in --help."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from transcripts import made

import ser_bench
from ser_bench import cli, host
from ser_bench.cli import main
from ser_bench.testing import write_release, write_wav

# As the console script, but heeding SIGINT also where the tests were started in the background, which ignores it.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ser_bench.cli import main
sys.exit(main())
"""
FEW = ["--set", "recipe.epochs=1", "recipe.batch_size=4"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), utterances=40, seconds=(0.2, 0.5))


@pytest.fixture(scope="module")
def runs(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of an audio system and of one that reads text."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name in ("logmel", "logmel_words"):
        made[name] = ser_bench.run(
            name,
            corpus=release,
            weights=["tiny"],
            changes={"epochs": 1, "batch_size": 4},
            seeds=[3, 4],
            device="cpu",
            out=folder / name,
            cache=folder / "cache",
        )
    return made


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """A stereo file of 8 kHz."""
    path = tmp_path / "speech.wav"
    write_wav(path, np.random.default_rng(0).normal(0, 0.1, (4_000, 2)), rate=8_000)
    return path


def process(words: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def fault(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail as a fault of the user's, and return what it says after ``error: ``."""
    capfd.readouterr()
    assert main(words) == 1
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def only_json(words: list[str], capfd: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    capfd.readouterr()
    assert main([*words, "--json"]) == code
    found: dict[str, Any] = json.loads(capfd.readouterr().out)  # fails if anything else is there
    return found


# --- help ------------------------------------------------------------------------------------------------------------


def commands(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command that does something, with its words."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words.strip(), parser
    for action in below:
        for name, sub in action.choices.items():
            yield from commands(sub, f"{words} {name}")


COMMANDS = dict(commands(cli._parser()))


def test_the_commands_of_this_version_are_there() -> None:
    assert set(COMMANDS) == {
        "run", "score", "predict", "corpus check", "corpus stats", "corpus demo", "transcribe", "wer", "plugins list",
        "plugins check", "leaderboard render", "leaderboard add", "cache list", "cache remove", "suite", "runs",
        "speed", "study", "plugins new", "leaderboard check", "leaderboard verify", "leaderboard compare", "card",
        "push", "record merge",
    }  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_is_documented(words: str) -> None:
    parser = COMMANDS[words]
    undocumented = [action.option_strings or action.dest for action in parser._actions if not action.help]
    assert undocumented == []
    assert parser.description
    shown = parser.format_help()
    for option in ("--help", "--debug", "--json", "--cache"):
        assert option in shown


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (
            "run",
            "--plugin --audio --text --head --depth --corpus --release --transcripts --seed --strategy --weights --set "
            "--device --frames --frames-dtype --allow-missing --out --resume --tracker",
        ),
        ("suite", "--dry-run --jobs --cluster"),
        ("speed", "--plugin --hours --device"),
        ("score", "--run --transcripts --condition --corpus --release --device --out"),
        ("predict", "--run --seed --text --asr --window --device"),
        ("transcribe", "--corpus --asr --condition --window --name --shard --merge --device --beam --compute-type"),
        ("wer", "--corpus --asr --condition"),
        ("corpus check", "--release"),
        ("plugins list", "--kind"),
        ("leaderboard render", "--out --leaderboard"),
        ("leaderboard add", "--withhold-predictions --leaderboard"),
    ],
)
def test_the_contracts_options_are_in_help(words: str, options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words.split(), "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for option in options.split():
        assert re.search(rf"(?m)^  {option}\b", shown), option


def test_defaults_are_told_as_they_are() -> None:
    """A default that --help names is the one that is used."""
    for parser in COMMANDS.values():
        for action in parser._actions:
            named = re.search(r"\(default: ([\w.-]+)[);]", action.help or "")
            if named and action.default is not None and action.default != []:
                assert str(action.default) == named[1], action.option_strings


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such-command"],
        ["plugins"],
        ["run", "--plugin", "logmel"],
        ["run", "--plugin", "logmel", "--corpus", "demo", "--seed", "one"],
        ["run", "--plugin", "logmel", "--corpus", "demo", "--strategy", "magic"],
        ["run", "--plugin", "logmel", "--corpus", "demo", "--frames-dtype", "int8"],
        ["score", "--corpus", "demo"],
        ["predict", "--run", "x"],
        ["plugins", "list", "--kind", "voice"],
        ["transcribe", "--corpus", "demo"],
        ["transcribe", "--corpus", "demo", "--asr", "whisper-tiny", "--shard", "3/2"],
        ["transcribe", "--corpus", "demo", "--asr", "whisper-tiny", "--shard", "0/2"],
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: ser-bench")


def test_a_fault_is_one_line_on_stderr_and_debug_shows_where() -> None:
    words = ["cache", "remove", "nothing"]
    done = process(words)
    out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (1, "")
    assert err == "error: the cache holds nothing called 'nothing'. `ser-bench cache list` shows the keys.\n"
    done = process([*words, "--debug"])
    out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (1, "")
    assert "Traceback (most recent call last)" in err
    assert "ser_bench.errors.StoreError: the cache holds nothing called 'nothing'." in err


RUN = ["run", "--corpus", "nowhere"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            [*RUN, "--plugin", "logmal"],
            "plugin 'logmal' is not installed. Did you mean 'logmel'? `ser-bench plugins list` shows all ",
        ),
        (RUN, "no system was named; give --plugin SYSTEM, or --audio ENC and/or --text ENC."),
        (
            [*RUN, "--plugin", "logmel", "--set", "epochs=3"],
            "--set epochs=3 was given, expected recipe.KEY=VALUE, such as recipe.epochs=10.",
        ),
        (
            [*RUN, "--plugin", "logmel", "--set", "recipe.epochs"],
            "--set recipe.epochs was given, expected recipe.KEY=VALUE, such as recipe.epochs=10.",
        ),
        (
            [*RUN, "--plugin", "logmel", "--set", "recipe.epoch=3", "--set", "recipe.patience=x"],
            "the recipe cannot be changed so: recipe.epoch is unknown (did you mean recipe.epochs?); recipe.patience "
            "was given 'x', expected a whole number.",
        ),
        (
            [*RUN, "--plugin", "logmel", "--head", "linear"],
            "--plugin logmel and --audio, --text or --head were both given; a run is of one system. Give one of them.",
        ),
        ([*RUN, "--head", "linear"], "no system was named; give --plugin SYSTEM, or --audio ENC and/or --text ENC."),
        (
            [*RUN, "--plugin", "logmel", "--transcripts", "human"],
            "logmel reads no text, and --transcripts human was given. Leave it out.",
        ),
        (
            [*RUN, "--plugin", "logmel", "--weights", "audio=absent"],
            "--weights audio=absent: there is no folder absent; give a folder, pretrained, random or tiny.",
        ),
        (
            [*RUN, "--plugin", "logmel", "--device", "toaster"],
            "--device toaster is not a device that this runs on; give cpu, cuda or cuda:N.",
        ),
        (["score", "--run", "nowhere", "--corpus", "demo"], "holds no finished seed; expected a folder that"),
        (["predict", "--run", "nowhere", "a.wav"], "nowhere holds no finished seed; expected a folder that"),
        (
            ["cache", "remove", "../.."],
            "the cache holds nothing called '../..'. `ser-bench cache list` shows the keys.",
        ),
    ],
)
def test_faults_of_the_user_exit_with_1(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in fault(words, capfd)
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_an_unsound_release_exits_with_1_and_still_reports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    release = write_release(tmp_path, utterances=10, seconds=(0.1, 0.2))
    assert only_json(["corpus", "check", str(release)], capfd)
    next(release.rglob("*.wav")).unlink()
    assert only_json(["corpus", "check", str(release)], capfd, code=1)
    assert main(["corpus", "check", str(release)]) == 1


# --- run, score, predict ---------------------------------------------------------------------------------------------


def test_run_prints_a_table_the_signature_and_the_record(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--plugin", "logmel", "--corpus", str(release), "--weights", "tiny", *FEW, "--device", "cpu"]
    words += ["--out", str(tmp_path / "run")]
    assert main(words) == 0
    shown = capfd.readouterr()
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["signature"] in shown.out.splitlines()
    assert f"record: {tmp_path / 'run' / 'record.json'}" in shown.out.splitlines()
    assert "valence" in shown.out
    assert "audio front end: 40/40" in shown.err
    assert record["recipe"]["epochs"] == 1 and record["recipe"]["batch_size"] == 4

    found = only_json(words, capfd)  # all is done already
    assert found == {"run": str(tmp_path / "run"), "signature": record["signature"], "summary": record["summary"]}


def test_options_that_take_several_values_may_be_repeated(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--audio", "logmel", "--text", "words", "--corpus", str(release), "--device", "cpu"]
    words += ["--weights", "audio=tiny", "--weights", "text=tiny"]
    words += ["--set", "recipe.epochs=1", "--set", "recipe.batch_size=4", "--seed", "5", "--seed", "6"]
    only_json([*words, "--out", str(tmp_path)], capfd)
    record = json.loads((tmp_path / "record.json").read_text())
    assert [run["seed"] for run in record["runs"]] == [5, 6]
    assert (record["recipe"]["epochs"], record["recipe"]["batch_size"]) == (1, 4)
    assert record["system"]["weights"] == "tiny"
    assert record["system"]["name"] == "logmel+words>concat"


def test_the_options_of_run_reach_the_run(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default folder, the first seed, another depth and strategy, and frames computed on the fly."""
    monkeypatch.chdir(tmp_path)
    words = [
        "run",
        "--audio",
        "logmel",
        "--head",
        "linear",
        "--depth",
        "1",
        "--corpus",
        str(release),
        "--weights",
        "tiny",
    ]
    words += [*FEW, "--strategy", "frozen", "--frames", "off", "--frames-dtype", "float32", "--device", "cpu"]
    found = only_json([*words, "--cache", str(tmp_path / "mine")], capfd)
    folder = Path(found["run"])
    assert folder.parent == Path("runs") and folder.name.startswith("logmel-1-linear-")
    record = json.loads((folder / "record.json").read_text())
    assert [run["seed"] for run in record["runs"]] == [1]
    assert (record["system"]["head"], record["system"]["depth"], record["strategy"]) == ("linear", 1, "frozen")
    assert record["frames"] == "f32-off"
    assert (tmp_path / "mine").is_dir() and not (tmp_path / "mine" / "frames").exists()


def test_score_leaves_its_record_beside_the_run(
    release: Path, runs: dict[str, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs["logmel"])
    found = only_json(["score", "--run", ".", "--corpus", str(release), "--device", "cpu"], capfd)
    assert Path(found["run"]) == runs["logmel"].parent / f"logmel-on-{release.name}-same"
    assert len(json.loads((Path(found["run"]) / "record.json").read_text())["runs"]) == 2


def test_predict_prints_a_row_or_an_entry_for_each_wav(
    runs: dict[str, Path], wav: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--run", str(runs["logmel"]), str(wav), str(wav)]
    found = only_json(words, capfd)["predictions"]
    assert [entry.keys() for entry in found] == [{"wav", "arousal", "valence", "dominance"}] * 2
    assert found[0] == found[1]
    assert found[0]["wav"] == str(wav)
    assert main(words) == 0
    table = capfd.readouterr().out
    assert table.splitlines()[0].split() == ["wav", "arousal", "valence", "dominance"]
    assert table.count(f"{found[0]['valence']:.2f}") >= 2
    assert only_json([*words, "--seed", "4"], capfd)["predictions"] != found  # the other seed is another model
    assert only_json([*words, "--seed", "3"], capfd)["predictions"] == found


def test_predict_reads_the_text_where_the_system_does(
    runs: dict[str, Path], wav: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--run", str(runs["logmel_words"]), str(wav)]
    bad, good = (only_json([*words, "--text", f"a {word} day"], capfd) for word in ("horrible", "wonderful"))
    assert bad != good
    assert fault(words, capfd) == "logmel_words reads text: give what is said (--text), or what hears it (--asr)."
    alone = ["predict", "--run", str(runs["logmel"]), str(wav), "--text", "well"]
    assert fault(alone, capfd) == "logmel reads no text: leave it out (--text, --asr)."


def test_predict_cuts_long_files_into_pieces(
    runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.wav"
    write_wav(path, np.random.default_rng(0).normal(0, 0.1, int(16_000 * 3.4)).astype(np.float32))
    words = ["predict", "--run", str(runs["logmel"]), str(path)]
    whole = only_json(words, capfd)["predictions"]
    found = only_json([*words, "--window", "1"], capfd)["predictions"]
    assert [(one["start"], one["end"]) for one in found] == [(0, 1), (1, 2), (2, 3.4)]
    assert len({one["arousal"] for one in found} | {whole[0]["arousal"]}) == 4
    assert main([*words, "--window", "2"]) == 0
    assert capfd.readouterr().out.splitlines()[0].split() == ["wav", "start", "end", "arousal", "valence", "dominance"]
    assert "--window 0.5 was given; expected seconds of a piece, 1 or more." in fault(
        [*words, "--window", "0.5"], capfd
    )


@pytest.mark.shared
def test_predict_hears_what_is_said(
    runs: dict[str, Path], wav: Path, shared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--run", str(runs["logmel_words"]), str(wav)]
    folder = shared / "models" / "whisper-tiny.en-ct2"
    heard = only_json([*words, "--asr", str(folder)], capfd)["predictions"][0]
    said = only_json([*words, "--text", heard["text"]], capfd)["predictions"][0]
    assert {key: heard[key] for key in said} == said
    assert fault([*words, "--asr", str(folder), "--text", "well"], capfd) == (
        "--text and --asr were both given; what is said is given or heard. Leave one out."
    )


def test_what_predict_cannot_do_is_told(runs: dict[str, Path], wav: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "--run", str(runs["logmel"])]
    assert fault([*words, "absent.wav"], capfd).startswith("cannot read absent.wav (No such file or directory).")
    assert fault([*words, str(wav), "--seed", "9"], capfd).endswith("has no finished seed 9; it has 3, 4.")
    assert fault([*words, str(wav), "--device", "toaster"], capfd) == (
        "--device toaster is not a device that this runs on; give cpu, cuda or cuda:N."
    )


def wait_for_lines(path: Path, count: int, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") >= count):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interrupted_run_exits_with_130_and_prints_what_resumes_it(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a run"  # a name that must be quoted
    words = ["run", "--plugin", "logmel", "--corpus", str(release), "--weights", "tiny", "--device", "cpu"]
    words += ["--set", "recipe.epochs=15", "recipe.patience=15", "recipe.batch_size=4", "--out", str(out)]
    running = process(words)
    wait_for_lines(out / "seed-1" / "log.jsonl", 3, running)
    running.send_signal(signal.SIGINT)
    shown, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert shown == ""
    assert "Traceback" not in err
    told = re.search(r"interrupted; `(.*)` goes on$", err.strip())
    assert told is not None, err
    assert not (out / "record.json").exists()

    command = shlex.split(told[1])
    assert command == ["ser-bench", *words, "--resume"]
    done_before = (out / "seed-1" / "log.jsonl").read_text().splitlines()
    assert fault(words, capfd).startswith(f"{out} holds an unfinished seed 1. Go on with it by adding --resume")
    resumed = process([*command[1:], "--json"])
    shown, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert json.loads(shown)["run"] == str(out)
    lines = (out / "seed-1" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(16))
    # It went on, and did not begin again: only what came after the last checkpoint may have other times.
    assert lines[: len(done_before) - 1] == done_before[:-1]


def test_an_interrupted_command_without_resume_is_told_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(host, "host", interrupted)
    assert main(["plugins", "list", "--kind", "audio"]) == 130
    assert capfd.readouterr().err.endswith("interrupted; `ser-bench plugins list --kind audio` goes on\n")
    monkeypatch.setattr("ser_bench.task.host", interrupted)
    words = ["run", "--plugin", "logmel", "--corpus", "demo", "--resume"]
    assert main(words) == 130
    assert capfd.readouterr().err.endswith(f"interrupted; `ser-bench {' '.join(words)}` goes on\n")


# --- the other commands ----------------------------------------------------------------------------------------------


def test_plugins_list_shows_what_is_usable_and_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = host.Host.discover()
    found.failures.append(host.Failure("bad", "stranger", "1.0", "ImportError: no"))
    monkeypatch.setattr(host, "host", lambda: found)
    listed = only_json(["plugins", "list"], capfd)
    offered = [(o.spec.kind, o.spec.name) for o in found.usable()]
    families = [(o.spec.kind, f"{o.spec.name}:ADDRESS") for o in found.families()]
    assert sorted((p["kind"], p["name"]) for p in listed["plugins"]) == sorted(offered + families)
    assert listed["broken"] == ["plugin 'bad' of stranger 1.0 is not usable: ImportError: no"]
    assert {p["kind"] for p in only_json(["plugins", "list", "--kind", "head"], capfd)["plugins"]} == {"head"}
    assert main(["plugins", "list", "--no-count"]) == 0
    shown = capfd.readouterr()
    assert "whisper_base_minilm" in shown.out
    assert shown.err == "plugin 'bad' of stranger 1.0 is not usable: ImportError: no\n"


def test_cache_list_and_remove(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from test_frames import Front, open_store

    cache = ["--cache", str(tmp_path)]
    assert only_json(["cache", "list", *cache], capfd) == {"frames": [], "transcripts": []}
    assert main(["cache", "list", *cache]) == 0
    assert capfd.readouterr().out == "the cache holds no frames store and no transcripts\n"
    open_store(tmp_path, Front())
    open_store(tmp_path, Front(), dtype="float32")
    (tmp_path / "frames" / "killed-at-birth").mkdir()
    listed = only_json(["cache", "list", *cache], capfd)["frames"]
    assert [(entry["modality"], entry["complete"]) for entry in listed] == [("audio", True)] * 2
    for entry in listed:
        folder = tmp_path / "frames" / entry["key"]
        assert entry["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    gone, kept = (entry["key"] for entry in listed)
    (tmp_path / "frames" / kept / "index.npz").unlink()
    assert only_json(["cache", "remove", gone, *cache], capfd) == {"removed": gone}
    left = only_json(["cache", "list", *cache], capfd)["frames"]
    assert [(entry["key"], entry["complete"]) for entry in left] == [(kept, False)]
    assert fault(["cache", "remove", gone, *cache], capfd) == (
        f"the cache holds nothing called '{gone}'. `ser-bench cache list` shows the keys."
    )


def test_the_cache_lists_transcripts_too(release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    label = made.write(release, tmp_path)
    cache = ["--cache", str(tmp_path)]
    (found,) = only_json(["cache", "list", *cache], capfd)["transcripts"]
    assert (found["key"], found["modality"], found["complete"]) == (label, "text", None)
    assert only_json(["wer", "--corpus", str(release), *cache], capfd)["sources"][0]["source"] == label
    (found,) = only_json(["cache", "list", *cache], capfd)["transcripts"]
    assert found["bytes"] > 1_000
    assert main(["cache", "list", *cache]) == 0
    assert label in capfd.readouterr().out
    assert only_json(["cache", "remove", label, *cache], capfd) == {"removed": label}
    assert only_json(["cache", "list", *cache], capfd)["transcripts"] == []


def test_wer_prints_tables_for_every_complete_source(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["wer", "--corpus", str(release), "--cache", str(tmp_path)]
    assert fault(words, capfd) == (
        f"no ASR source holds all of {release} in the condition clean. Make one with `ser-bench transcribe --corpus "
        f"{release} --asr whisper-tiny --cache {tmp_path}`."
    )
    labels = [made.write(release, tmp_path, made=made.source(beam=beam)) for beam in (1, 5)]
    made.write(release, tmp_path, made=made.source("partial"), without=("train",))
    assert main(words) == 0
    shown = capfd.readouterr().out
    assert all(f"{label}, clean" in shown for label in labels)
    assert "partial" not in shown
    assert "Normaliser: whisper-normalizer-" in shown
    found = only_json([*words, "--asr", labels[0]], capfd)["sources"]
    assert [one["source"] for one in found] == [labels[0]]
    train = found[0]["partitions"]["train"]
    assert train["value"] == pytest.approx(train["errors"] / train["words"], abs=1e-6)
    table = pyarrow.parquet.read_table(found[0]["utterances"]).to_pydict()
    assert sum(table["words"]) == sum(part["words"] for part in found[0]["partitions"].values())
    assert "have no transcript of partial@" in fault([*words, "--asr", "partial"], capfd)


def test_the_command_that_a_damaged_store_names_works(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from test_frames import Front, assert_whole, open_store

    from ser_bench.errors import StoreError

    open_store(tmp_path, Front())
    next(tmp_path.glob("frames/*/data.bin")).write_bytes(b"")
    with pytest.raises(StoreError) as told:
        open_store(tmp_path, Front())
    command = re.findall(r"`(ser-bench cache remove .*?)`", str(told.value))
    assert main(shlex.split(command[0])[1:]) == 0
    assert_whole(open_store(tmp_path, Front()))


def test_leaderboard_add_and_render(runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    board = ["--leaderboard", str(tmp_path / "board")]
    added = only_json(["leaderboard", "add", str(runs["logmel"]), *board], capfd)
    assert Path(added["record"]).is_file()
    written = only_json(["leaderboard", "render", *board], capfd)
    place = tmp_path / "board"
    made = {path.relative_to(place).as_posix() for path in map(Path, written["written"])}
    assert {"README.md", "site/index.html", "site/compare.html", "site/tables/board.csv"} < made
    assert all((place / name).is_file() for name in made)
    assert main(["leaderboard", "render", *board, "--out", str(tmp_path / "elsewhere")]) == 0
    shown = capfd.readouterr().out
    assert "logmel" in shown
    assert (tmp_path / "elsewhere" / "README.md").is_file()
    fault(["leaderboard", "add", str(tmp_path), *board], capfd)


def test_corpus_stats_and_demo_give_json(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert only_json(["corpus", "stats", str(release)], capfd)
    assert main(["corpus", "stats", str(release)]) == 0
    assert "test1" in capfd.readouterr().out
    monkeypatch.setattr("ser_bench.corpus.demo.unpack_demo", lambda folder: folder / "unpacked")
    assert only_json(["corpus", "demo", str(tmp_path)], capfd) == {"folder": str(tmp_path / "unpacked")}
    assert fault(["corpus", "check", str(tmp_path / "nothing")], capfd)
