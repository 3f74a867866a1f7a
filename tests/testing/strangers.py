"""Put a stranger's distribution onto ``sys.path``: a folder with a module and a ``*.dist-info``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., None]


def installer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Yield a function that writes a distribution of version 1.5 with one module and one entry point.

    ``code`` None: the entry point names a module that is there already.
    """
    site = folder / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def write(
        module: str,
        code: str | None = None,
        *,
        distribution: str | None = None,
        target: str | None = None,
        entry: bool = True,
    ) -> None:
        if code is not None:
            (site / f"{module}.py").write_text(textwrap.dedent(code))
        if not entry:
            return
        name = distribution or module.replace("_", "-")
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        line = f"{module} = {target or module}\n"
        points = info / "entry_points.txt"
        points.write_text((points.read_text() if points.exists() else "[ser_bench]\n") + line)

    yield write
    for loaded in set(sys.modules) - before:
        if str(getattr(sys.modules[loaded], "__file__", "")).startswith(str(site)):
            del sys.modules[loaded]
