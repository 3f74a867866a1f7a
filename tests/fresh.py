"""A fresh virtual environment that sees the packages of this one, so that distributions are installed as users do."""

from __future__ import annotations

import os
import site
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

SCRIPTS = {
    "pip": "from pip._internal.cli.main import main",
    "pytest": "from pytest import console_main as main",
    "ser-bench": "from ser_bench.cli import main",
}


class Fresh:
    """One environment, with ``pip``, ``pytest`` and ``ser-bench`` in it, and without a network."""

    def __init__(self, folder: Path, *, cache: Path) -> None:
        """Make it at ``folder``; ``cache`` is where ser-bench keeps what it can make again."""
        venv.EnvBuilder(symlinks=True).create(folder)
        self.scripts = folder / "bin"
        inner = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        # Not the folder alone: editable installs are found by .pth files of its own.
        lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
        Path(inner, "outer.pth").write_text("".join(lines))
        for name, line in SCRIPTS.items():
            script = self.scripts / name
            script.write_text(f"#!{self.scripts / 'python'}\nimport sys\n{line}\nsys.exit(main())\n")
            script.chmod(0o755)
        self.variables = {
            **os.environ,
            "PATH": f"{self.scripts}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(folder),
            "SER_BENCH_CACHE": str(cache),
            "HF_HUB_OFFLINE": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say --no-build-isolation: what builds is here already
            "PIP_ROOT_USER_ACTION": "ignore",
        }

    def run(self, words: Sequence[str] | str, *, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command there (a string: by a shell, line by line until one fails), which must end with ``code``."""
        command = ["bash", "-euo", "pipefail", "-c", words] if isinstance(words, str) else list(words)
        done = subprocess.run(command, cwd=folder, env=self.variables, capture_output=True, text=True, check=False)
        assert done.returncode == code, (
            f"{words} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
        return done
