from __future__ import annotations

from pathlib import Path

import pytest

from ser_bench.corpus import Release, known


def test_v1_10_sums_to_its_published_total() -> None:
    assert sum(known.COUNTS["1.10"].values()) == 104_267


def test_v2_0_sums_to_its_published_totals() -> None:
    assert sum(known.COUNTS["2.0"].values()) == 267_905
    labelled = known.labelled("2.0")
    assert labelled is not None
    assert sum(labelled.values()) == 264_705


def test_v1_11_sums_to_its_published_total() -> None:
    assert sum(known.COUNTS["1.11"].values()) == 151_654


def test_is2025_sums_to_its_published_total() -> None:
    labelled = known.labelled("IS2025")
    assert labelled is not None
    assert sum(labelled.values()) == 116_221


def test_an_unknown_release_has_no_counts() -> None:
    assert known.labelled("1.6") is None
    assert known.labelled(None) is None


def test_the_demo_is_known_by_its_digest(tmp_path: Path) -> None:
    demo = pytest.importorskip("ser_bench.corpus.demo")
    release = Release.open(demo.unpack_demo(tmp_path / "demo"))
    assert known.DIGESTS.get(release.labels_sha256) == "demo", f"put {release.labels_sha256} into known.DIGESTS"
    assert (release.identity, release.corpus_name) == ("digest known", "demo")
    release.require_sound(need_transcripts=True)
