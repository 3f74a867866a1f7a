"""All four studies on the embedded release, as a user without any corpus would try them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from studies.conftest import Here, words
from transcripts import made

from ser_bench import cli
from ser_bench.corpus.demo import cached_demo

SYSTEMS = ("--systems", "logmel_words")
STUDIES = {
    "table1": SYSTEMS,
    "table2": (*SYSTEMS, "--transcripts", "human", "whisper-made", "--conditions", "telephone"),
    "figure2": ("--audio", "distilhubert", "--weights", "tiny"),
    "figure3": SYSTEMS,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache and runs of all four."""
    return tmp_path_factory.mktemp("demo")


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_of_the_demo_release(here: Here, place: Path, study: str) -> None:
    kept = place / "cache"
    if study == "table2":
        for condition in ("clean", "telephone"):
            made.write(cached_demo(kept), kept, condition=condition)
    line = [*words(study, Path("demo"), kept, place, *STUDIES[study]), "--seeds", "1"]
    assert cli.main(line) == 0
    told = json.loads((place / study / f"{study}.json").read_text())
    assert told["departures"][0] == "the corpus is demo"
    assert not told["comparable_with_the_paper"]
    assert len(told["rows"]) >= 4
    assert told["claims"]
    assert "**Not the paper's setting**: the corpus is demo; " in (place / study / f"{study}.md").read_text()
    here.words.clear()
    assert cli.main(line) == 0  # again: all is there
    assert here.words == []
