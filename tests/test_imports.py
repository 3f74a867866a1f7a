"""What starts quickly must not import what starts slowly; each check in a fresh interpreter."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ser_bench
from ser_bench.testing import write_release

HEAVY = ("torch", "torchaudio", "transformers", "datasets", "evaluate", "accelerate", "sklearn", "matplotlib")
SLOW = (*HEAVY, "numpy", "pandas", "pyarrow", "scipy", "tabulate", "tqdm", "soundfile", "pluggy")

# Those that work with torch or datasets and say so at their top; whatever is added counts as light until listed here.
HEAVY_MODULES = {
    "ser_bench.cost",
    "ser_bench.speed",
    "ser_bench.synthetic",
    "ser_bench.foreign",
    "ser_bench.modules",
    "ser_bench.pooling",
    "ser_bench.prepare",
    "ser_bench.result",
    "ser_bench.runner",
    "ser_bench.saved",
    "ser_bench.stages",
    "ser_bench.system",
    "ser_bench.task",
    "ser_bench.trained",
    "ser_bench.corpus.msp_podcast",
    "ser_bench.scoring.metric",
}


def loaded(code: str, watched: tuple[str, ...]) -> list[str]:
    """Run code in a fresh interpreter and return which of the watched packages it imported."""
    tail = f"\nimport json, sys\nprint('\\n' + json.dumps([name for name in {watched!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def loaded_by_command(words: list[str], watched: tuple[str, ...], *, code: int = 0) -> list[str]:
    return loaded(
        f"""
import sys
from ser_bench.cli import main
try:
    code = main({words!r})
except SystemExit as left:
    code = left.code
assert code == {code}, code
""",
        watched,
    )


def test_the_check_itself_bites() -> None:
    assert loaded("import numpy", SLOW) == ["numpy"]


def test_the_package_alone_is_nearly_free() -> None:
    assert loaded("import ser_bench; ser_bench.__version__", SLOW) == []


@pytest.mark.parametrize(
    "words", [[], ["run"], ["score"], ["predict"], ["leaderboard", "render"], ["cache"], ["suite"], ["runs"]]
)
def test_help_imports_nothing_slow(words: list[str]) -> None:
    assert loaded_by_command([*words, "--help"], SLOW) == []


def test_wrong_usage_imports_nothing_slow() -> None:
    assert loaded_by_command(["run", "--no-such-option"], SLOW, code=2) == []


def test_listing_plugins_imports_no_torch() -> None:
    assert loaded_by_command(["plugins", "list", "--no-count"], HEAVY) == []


def test_listing_and_removing_stores_imports_no_torch(tmp_path: Path) -> None:
    from test_frames import Front, open_store

    open_store(tmp_path, Front())
    (folder,) = (tmp_path / "frames").iterdir()
    assert loaded_by_command(["cache", "list", "--cache", str(tmp_path)], HEAVY) == []
    assert loaded_by_command(["cache", "remove", folder.name, "--cache", str(tmp_path)], HEAVY) == []
    assert not folder.exists()


def test_listing_runs_imports_no_torch(tmp_path: Path) -> None:
    assert loaded_by_command(["runs", str(tmp_path)], HEAVY) == []


def test_checking_a_release_imports_no_torch(tmp_path: Path) -> None:
    release = write_release(tmp_path, utterances=10, seconds=(0.1, 0.2))
    assert loaded_by_command(["corpus", "check", str(release), "--cache", str(tmp_path / "cache")], HEAVY) == []


def test_the_leaderboard_imports_no_torch(tmp_path: Path) -> None:
    release = write_release(tmp_path, utterances=40, seconds=(0.1, 0.2))
    run, board = tmp_path / "run", tmp_path / "board"
    ser_bench.run("mean_only", corpus=release, out=run, cache=tmp_path / "cache", device="cpu")
    assert loaded_by_command(["leaderboard", "add", str(run), "--leaderboard", str(board)], HEAVY) == []
    assert list((board / "records").glob("*.json"))
    assert loaded_by_command(["leaderboard", "render", "--leaderboard", str(board)], HEAVY) == []
    assert loaded_by_command(["leaderboard", "check", "--leaderboard", str(board)], HEAVY) == []
    assert loaded_by_command(["leaderboard", "compare", str(run), str(run)], HEAVY) == []
    words = ["leaderboard", "verify", str(run), "--corpus", str(release), "--cache", str(tmp_path / "cache")]
    assert loaded_by_command(words, HEAVY) == []
    assert "mean_only" in (board / "README.md").read_text()


def test_light_modules_import_no_torch() -> None:
    """All in one interpreter: if any of them does, this fails, and the message says which came first."""
    found = [module.name for module in pkgutil.walk_packages(ser_bench.__path__, "ser_bench.")]
    assert set(found) >= HEAVY_MODULES, "a module listed as heavy is gone"
    # The contract checks run what plugins build; studies train.
    below = ("ser_bench.training", "ser_bench.testing.", "ser_bench.studies")
    light = [name for name in found if name not in HEAVY_MODULES and not name.startswith(below)]
    light.append("ser_bench.testing.releases")
    assert {"ser_bench.frames", "ser_bench.records", "ser_bench.leaderboard.table", "ser_bench.scoring.ccc"} <= set(
        light
    )
    code = f"""
import importlib, sys
for name in {[*light, "ser_bench_plugins.hooks"]!r}:
    importlib.import_module(name)
    for heavy in {HEAVY!r}:
        assert heavy not in sys.modules, f"{{name}} imports {{heavy}}"
"""
    assert loaded(code, HEAVY) == []


def test_training_runs_on_a_bare_gpu_machine() -> None:
    """With torch, accelerate and transformers: what reads corpora, tables and speech is not there."""
    absent = ("datasets", "pyarrow", "pandas", "evaluate", "jiwer", "faster_whisper", "ctranslate2", "soundfile")
    import ser_bench.training

    modules = [module.name for module in pkgutil.iter_modules(ser_bench.training.__path__, "ser_bench.training.")]
    assert {"ser_bench.training.fit", "ser_bench.training.step", "ser_bench.training.ranks"} <= set(modules)
    code = f"""
import importlib, sys
for name in {absent!r}:
    sys.modules[name] = None  # an import of it fails
for name in {modules!r}:
    importlib.import_module(name)
"""
    assert loaded(code, ("torch", "datasets.config", "pyarrow.lib")) == ["torch"]


def test_what_a_plugin_file_needs_is_light() -> None:
    assert loaded("import ser_bench.interface, ser_bench.errors", (*HEAVY, "numpy", "pandas", "pyarrow", "scipy")) == []


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("ser-bench")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ser-bench {ser_bench.__version__}\n", "")
