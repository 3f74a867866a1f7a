from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_bench.corpus import Release
from ser_bench.errors import CorpusError
from ser_bench.testing import write_release

VERSIONS = ("1.6", "1.7", "1.8", "1.9", "1.10", "1.11", "1.12", "2.0")
SMALL = {"train": 12, "development": 6, "test1": 6, "test2": 6}


def release(folder: Path, **options: object) -> Path:
    """Write a small release without audio unless asked for."""
    return write_release(folder, **{"utterances": SMALL, "audio": False, **options})  # type: ignore[arg-type]


def kinds(opened: Release) -> set[str]:
    return {fault.kind for fault in opened.faults(raters=True)}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("version", VERSIONS)
def test_each_layout_round_trips(tmp_path: Path, version: str) -> None:
    wanted = {name: count for name, count in SMALL.items() if version != "1.6" or name != "test2"}
    root = write_release(tmp_path, version=version, utterances=wanted, seconds=(0.2, 0.4))
    opened = Release.open(root)
    assert (opened.root, opened.version, opened.counts) == (root, version, wanted)
    old = version in ("1.6", "1.7", "1.8", "1.9")
    assert kinds(opened) == ({"transcripts-absent"} if old else set()) | (
        {"partition-test"} if version == "1.6" else set()
    )
    opened.require_sound(need_transcripts=not old)
    with next(root.rglob("labels_con[cs]ensus.csv")).open() as file:
        table = {row["FileName"]: row for row in csv.DictReader(file)}
    for partition in wanted:
        rows = opened.rows(partition)
        assert list(rows.utterance) == sorted(rows.utterance)
        assert np.all((rows.duration >= 0.19) & (rows.duration <= 0.4))
        assert all(Path(path).is_file() for path in rows.path)
        for i, name in enumerate(rows.utterance):
            row = table.pop(name)
            assert rows.labels[i].tolist() == [float(row[c]) for c in ("EmoAct", "EmoVal", "EmoDom")]
            assert (rows.emotion[i], rows.speaker[i], rows.gender[i]) == (row["EmoClass"], row["SpkrID"], row["Gender"])
            assert rows.podcast[i] == name.split("_")[1]
            text = root / "Transcripts" / name.replace(".wav", ".txt")
            assert rows.transcript[i] == (None if old else text.read_text().strip())
    assert not table


def test_the_same_release_has_the_same_digests_in_every_layout(tmp_path: Path) -> None:
    opened = [Release.open(release(tmp_path, version=version)) for version in VERSIONS[1:]]
    assert len({r.labels_sha256 for r in opened}) == 1
    assert len({r.clusters_sha256 for r in opened}) == 1
    assert opened[0].labels_sha256 != Release.open(release(tmp_path / "other", seed=1)).labels_sha256


def test_the_label_digest_is_the_documented_one(tmp_path: Path) -> None:
    opened = Release.open(release(tmp_path))
    with (opened.root / "Labels" / "labels_consensus.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["FileName"])
    lines = [
        f"{r['FileName']},{r['Split_Set'].lower()},{float(r['EmoAct']):.4f},{float(r['EmoVal']):.4f},{float(r['EmoDom']):.4f}\n"
        for r in rows
    ]
    assert opened.labels_sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    clusters = [
        f"{r['FileName']},"
        + (f"podcast:{r['FileName'][12:16]}" if r["SpkrID"] == "Unknown" else f"speaker:{r['SpkrID']}")
        + "\n"
        for r in rows
    ]
    assert any("podcast:" in line for line in clusters)
    assert opened.clusters_sha256 == hashlib.sha256("".join(clusters).encode()).hexdigest()


@pytest.mark.parametrize("table", ["csv", "json", "txt"])
def test_every_table_gives_the_same_digest_and_rows(tmp_path: Path, table: str) -> None:
    full = Release.open(release(tmp_path / "full", version="1.11"))
    alone = Release.open(release(tmp_path / "alone", version="1.11", tables=[table]))
    assert alone.labels_sha256 == full.labels_sha256
    assert alone.clusters_sha256 == full.clusters_sha256
    assert alone.labels.gender == full.labels.gender
    assert alone.labels.emotion == full.labels.emotion


@pytest.mark.parametrize(("version", "tables"), [("1.6", "csv"), ("2.0", "csv"), ("1.10", "json"), ("1.10", "txt")])
def test_raters_are_equal_in_every_form(tmp_path: Path, version: str, tables: str) -> None:
    counts = {"train": 12, "test1": 6}
    plain = Release.open(release(tmp_path, version="1.10", utterances=counts, raters=3))
    other = Release.open(release(tmp_path / "x", version=version, utterances=counts, raters=3, tables=[tables]))
    assert len(plain.raters) == len(other.raters) == 18 * 3
    for name, values in zip(plain.labels.utterance, plain.labels.values, strict=True):
        ours, theirs = plain.raters[name], other.raters[name]
        assert ours.rater == theirs.rater
        assert ours.emotion == theirs.emotion
        assert "Other-tired; a bit" in ours.emotion  # free text with a semicolon
        np.testing.assert_array_equal(ours.values, theirs.values)
        np.testing.assert_allclose(ours.values.mean(axis=0), values, atol=1e-6)  # the mean of raters is the label


def test_a_rater_who_judged_twice_is_averaged(tmp_path: Path) -> None:
    root = release(tmp_path, utterances={"train": 1}, raters=2)
    detailed = root / "Labels" / "labels_detailed.csv"
    name = "MSP-PODCAST_0001_0001.wav"
    detailed.write_text(
        "FileName,EmoDetail\n"
        f"{name},WORKER2; Sad; ; A:1.000000; V:2.000000; D:3.000000;\n"
        f'{name},"WORKER1; Other-a, ""b"" (c): d; e; Sad,Dissapointed; A:4.000000; V:4.000000; D:4.000000;"\n'
        f"{name},WORKER2; Happy; Sad; A:2.000000; V:2.000000; D:7.000000;\n"
        f"{name},12; Sad; Sad; A:9.000000; V:2.000000; D:7.000000;\n"
        "MSP-PODCAST_0009_0001.wav,WORKER2; Sad; Sad; A:2.000000; V:2.000000; D:7.000000;\n"
    )
    opened = Release.open(root)
    said = opened.raters[name]
    assert said.rater == ["WORKER1", "WORKER2"]
    assert said.values.tolist() == [[4, 4, 4], [1.5, 2, 5]]
    assert said.emotion == ['Other-a, "b" (c): d; e', "Sad"]
    messages = {fault.kind: fault.message for fault in opened.faults(audio=False, raters=True)}
    assert "raters that judged one utterance more than once: 1 in Labels/labels_detailed.csv" in messages["rater-twice"]
    assert "per-rater lines that cannot be understood: 1" in messages["rater-line"]
    assert "(first: MSP-PODCAST_0009_0001.wav)" in messages["rater-unlisted"]


def test_a_bare_worker_number_is_a_rater(tmp_path: Path) -> None:
    root = release(tmp_path, utterances={"train": 1}, raters=1)
    line = "MSP-PODCAST_0001_0001.wav,12; Sad; A:4.000000; V:4.000000; D:4.000000;\n"
    (root / "Labels" / "labels_detailed.csv").write_text("FileName,EmoDetail\n" + line)
    said = Release.open(root).raters["MSP-PODCAST_0001_0001.wav"]
    assert (said.rater, said.emotion) == (["12"], ["Sad"])


def test_an_earlier_release_is_read_out_of_a_later_one(tmp_path: Path) -> None:
    early = write_release(tmp_path, version="1.10", utterances=SMALL, seconds=(0.2, 0.3), seed=1)
    direct = Release.open(early)
    late = write_release(tmp_path, version="1.12", utterances=30, seconds=(0.2, 0.3), seed=2)
    history = late / "Previous_releases_information"
    shutil.copytree(early / "Labels", history / "previous_releases_info" / "v1.10" / "Labels")
    removed = history / "files_removed_from_prev_versions" / "v1.10_removed_files"
    removed.mkdir(parents=True)
    names = sorted(direct.labels.utterance)
    for number, name in enumerate(names):
        target = removed if number % 3 == 0 else late / "Audios"
        if number != 4:  # in neither place
            shutil.copy(early / "Audio" / name, target / name)
    (late / "Audios" / names[4]).unlink(missing_ok=True)
    opened = Release.open(late, version="v1.10")
    assert (opened.version, opened.counts) == ("1.10", SMALL)
    assert opened.labels_sha256 == direct.labels_sha256
    missing = [fault for fault in opened.faults() if fault.kind == "audio-missing"]
    assert [(fault.count, fault.examples[0].split()[0]) for fault in missing] == [(1, names[4])]
    assert "audio-unlisted" not in kinds(opened)
    paths = {Path(path) for partition in opened.partitions for path in opened.rows(partition).path}
    assert late / "Audios" / names[1] in paths
    only_removed = [n for n in names[::3] if not (late / "Audios" / n).exists()]
    assert all(removed / name in paths for name in only_removed)
    assert len(opened.raters) == len(direct.raters)
    now = Release.open(late)
    assert (now.version, now.labels_sha256 == opened.labels_sha256) == ("1.12", False)


def test_a_version_that_the_folder_contradicts_is_an_error(tmp_path: Path) -> None:
    opened = Release.open(release(tmp_path, version="1.12"), version="1.10")
    with pytest.raises(CorpusError, match=r"asked for 1\.10, the folder is MSP-PODCAST-Publish-1\.12"):
        opened.require_sound()


@pytest.mark.parametrize(
    ("folder", "given", "expected"),
    [
        ("MSP-Podcast-1.10", None, "1.10"),
        ("MSP_PODCAST", None, None),
        ("corpus", "v1.10", "1.10"),
        ("x", "1.10", "1.10"),
    ],
)
def test_the_version_is_claimed_or_named_by_the_folder(
    tmp_path: Path, folder: str, given: str | None, expected: str | None
) -> None:
    root = release(tmp_path).rename(tmp_path / folder)
    assert Release.open(root, version=given).version == expected


def test_a_root_one_level_too_high_and_nested_copies_are_found(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances={"train": 4}, seconds=(0.1, 0.2))
    digest = Release.open(root).labels_sha256
    assert Release.open(tmp_path).root == root
    for name in ("Labels", "Audio", "Transcripts"):
        (root / name).rename(root / "moved")
        (root / name).mkdir()
        (root / "moved").rename(root / name / name)
    nested = Release.open(tmp_path)
    assert nested.labels_sha256 == digest
    assert kinds(nested) == set()


def test_several_releases_in_a_folder_are_not_chosen_between(tmp_path: Path) -> None:
    release(tmp_path, version="1.10")
    release(tmp_path, version="1.11")
    with pytest.raises(CorpusError, match=r"holds 2 releases: MSP-PODCAST-Publish-1\.10, MSP-PODCAST-Publish-1\.11"):
        Release.open(tmp_path)


def test_test3_is_found_by_its_audio_and_has_no_labels(tmp_path: Path) -> None:
    counts = {"train": 3, "test3": 2}
    opened = Release.open(write_release(tmp_path, version="2.0", utterances=counts, seconds=(0.1, 0.2)))
    assert opened.partitions == ("train", "test3")
    rows = opened.rows("test3")
    assert list(rows.utterance) == ["MSP-PODCAST_test3_0001.wav", "MSP-PODCAST_test3_0002.wav"]
    assert np.isnan(rows.labels).all()
    assert np.isfinite(rows.duration).all()
    assert (rows.emotion, rows.speaker, rows.gender) == (["", ""], ["Unknown"] * 2, ["Unknown"] * 2)
    assert (rows.podcast, rows.transcript) == (["", ""], [None, None])
    assert kinds(opened) == set()
    without = Release.open(write_release(tmp_path / "x", version="2.0", utterances={"train": 3}, audio=False))
    assert opened.labels_sha256 == without.labels_sha256


def test_an_absent_partition_is_told_with_those_there(tmp_path: Path) -> None:
    opened = Release.open(release(tmp_path, utterances={"train": 2, "test1": 2}))
    with pytest.raises(CorpusError, match="has no partition 'test2'; it has train, test1"):
        opened.rows("test2")


def test_columns_are_found_by_name_and_cells_stripped(tmp_path: Path) -> None:
    root = release(tmp_path, tables=["csv"])
    before = Release.open(root)
    path = root / "Labels" / "labels_consensus.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    shuffled = ["Split_Set", "EmoDom", "FileName", "EmoVal", "SpkrID", "EmoAct", "Gender", "EmoClass"]
    lines = [" , ".join(shuffled), *(" , ".join(row[c] for c in shuffled) for row in rows)]
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n\r\n").encode())
    after = Release.open(root)
    assert after.labels_sha256 == before.labels_sha256
    assert after.labels.speaker == before.labels.speaker
    assert {f.kind for f in after.faults(audio=False)} == set()


def test_identity_needs_a_claim_and_the_known_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ser_bench.corpus import known

    root = release(tmp_path)
    assert Release.open(root).identity == "unconfirmed"
    monkeypatch.setitem(known.COUNTS, "1.10", SMALL)
    assert Release.open(root).identity == "counts match"
    assert Release.open(root.rename(tmp_path / "plain")).identity == "unconfirmed"
    digest = Release.open(tmp_path / "plain").labels_sha256
    monkeypatch.setitem(known.DIGESTS, digest, "demo")
    opened = Release.open(tmp_path / "plain")
    assert (opened.identity, opened.corpus_name) == ("digest known", "demo")


def test_nothing_is_written_to_the_release(tmp_path: Path) -> None:
    root = write_release(tmp_path, utterances=10, seconds=(0.1, 0.2))

    def snapshot() -> list[tuple[str, int, int]]:
        return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))]

    before = snapshot()
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        opened = Release.open(root)
        opened.require_sound(need_transcripts=True)
        opened.faults(raters=True)
        opened.rows("train")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert snapshot() == before


def test_writing_is_deterministic(tmp_path: Path) -> None:
    a, b = (write_release(tmp_path / x, utterances={"train": 3, "test3": 1}, seconds=(0.1, 0.2)) for x in "ab")
    files = [p.relative_to(a) for p in sorted(a.rglob("*")) if p.is_file()]
    assert len(files) == 4 + 3 + 5 + 1
    assert all((a / f).read_bytes() == (b / f).read_bytes() for f in files)


def test_write_release_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot write version '1\.5'; known are 1\.6, 1\.7"):
        write_release(tmp_path, version="1.5")
    with pytest.raises(CorpusError, match=r"release 1\.6 has no partition test2"):
        write_release(tmp_path, version="1.6", utterances={"test2": 1})
    with pytest.raises(CorpusError, match=r"release 1\.10 has no partition dev\."):
        write_release(tmp_path, utterances={"dev": 1})


def test_opening_a_release_imports_nothing_heavy(tmp_path: Path) -> None:
    root = release(tmp_path, utterances={"train": 2})
    code = (
        "import sys, pathlib; from ser_bench.corpus import Release, check, stats; import ser_bench.testing\n"
        f"r = Release.open(pathlib.Path({str(root)!r})); check(r); stats(r)\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'pandas', 'scipy', 'soundfile', 'torchaudio'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_table_of_many_rows_stays_aligned(tmp_path: Path) -> None:
    opened = Release.open(release(tmp_path, utterances=2_000, raters=2, transcripts=False))
    consensus = json.loads((opened.root / "Labels" / "labels_consensus.json").read_text())
    values = np.array([[consensus[n][c] for c in ("EmoAct", "EmoVal", "EmoDom")] for n in opened.labels.utterance])
    np.testing.assert_allclose(opened.labels.values, values, atol=1e-6)
    means = np.array([opened.raters[name].values.mean(axis=0) for name in opened.labels.utterance])
    np.testing.assert_allclose(means, values, atol=1e-6)
