"""What README says of the demo release: valence is in the words alone, and a system that reads them learns it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ser_bench import records, runner


@pytest.mark.slow
def test_text_is_what_raises_valence(tmp_path: Path) -> None:
    folder = runner.run("logmel_words", corpus="demo", out=tmp_path / "run", cache=tmp_path / "cache", device="cpu")
    summary = records.read(folder / "record.json")["summary"]
    for partition in ("test1", "test2"):
        found = {name: cell["mean"] for name, cell in summary[partition]["ccc"].items()}
        # Audio alone reaches 0.0 to 0.1 for valence here, and over 0.5 for the others.
        assert min(found.values()) > 0.4, (partition, found)
