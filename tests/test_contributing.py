"""CONTRIBUTING.md's five commands, as they stand there: from nothing to a row on a leaderboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fresh import Fresh

REPOSITORY = Path(__file__).resolve().parent.parent


def five_commands() -> str:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = [
        block
        for block in re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        if "plugins new" in block
    ]
    assert "it is five commands" in text
    assert len(block.splitlines()) == 5
    return str(block)


def test_the_five_commands_end_in_a_row(tmp_path: Path) -> None:
    fresh = Fresh(tmp_path / "environment", cache=tmp_path / "cache")
    here = tmp_path / "here"
    here.mkdir()
    done = fresh.run(five_commands(), folder=here)
    (path,) = (here / "runs/leaderboard/records").glob("*.json")
    record: dict[str, Any] = json.loads(path.read_text())
    assert record["system"]["distribution"] == "my-model"
    assert record["system"]["weights"] == "scratch"
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("| my_model ")]
    assert row in (here / "runs/leaderboard/README.md").read_text()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "audio"
    # The demo's arousal can be heard: a model that learned nothing would be at 0.
    assert record["summary"]["test1"]["ccc"]["arousal"]["mean"] > 0.3
    assert f"{record['summary']['test1']['ccc']['arousal']['mean']:.3f}" in cells
