"""Write a distribution that offers one plugin, for a contributor to start from.

It is whole: hooks, a small model that works, a test that runs the contract checks, and what surrounds them. The files
are made of ``templates/``, in which ``$name`` and its like are filled in.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import keyword
import re
import secrets
import shutil
import string
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ser_bench.errors import PluginError, StoreError
from ser_bench.host import Host, host
from ser_bench.interface import Kind
from ser_bench.version import VERSION

_NAME = re.compile(r"[a-z]([a-z0-9_.-]{0,62}[a-z0-9])?")
_WHAT = {"audio": "An audio encoder", "text": "A text encoder", "head": "A fusion head", "system": "A system"}
_SURROUNDINGS = {
    "pyproject.toml": "pyproject.toml.in",
    "README.md": "README.md.in",
    ".gitignore": "gitignore.in",
    ".github/workflows/test.yml": "test.yml.in",
    "tests/test_contract.py": "test_contract.py.in",
}


@dataclass(frozen=True, kw_only=True)
class Written:
    """A distribution that has been written."""

    folder: Path
    distribution: str
    """Its name, as pip knows it."""
    module: str
    """The package that holds the hooks."""
    plugins: tuple[str, ...]
    """``KIND:NAME`` of what it offers."""
    files: tuple[Path, ...]
    """Relative to the folder."""


def write(name: str, *, kind: Kind = "audio", folder: Path | None = None, found: Host | None = None) -> Written:
    """Write a distribution that offers an encoder or head called ``name`` and a system of that name which uses it.

    Args:
        name: of the plugin; the distribution and its package are named after it.
        kind: ``audio``, ``text``, ``head`` or ``system``.
        folder: where it goes, new or empty (None: a folder of that name here).
        found: what is installed already (None: all that is).

    Raises:
        PluginError: the name is malformed, or a plugin, a distribution or a Python module has it; or the folder holds
            something.
        StoreError: the folder cannot be written. Nothing is left behind then.
    """
    module = re.sub("[-.]", "_", name)
    _check_name(name, module)
    plugins = tuple(f"{one}:{name}" for one in dict.fromkeys((kind, "system")))
    distribution = re.sub("[-_.]+", "-", name)
    _check_free(name, module, distribution, plugins, found or host())
    target = Path(name) if folder is None else folder
    contents = _contents(kind, name=name, module=module, distribution=distribution, plugins=plugins)
    _write(target, contents)
    return Written(
        folder=target, distribution=distribution, module=module, plugins=plugins, files=tuple(map(Path, contents))
    )


def _check_name(name: str, module: str) -> None:
    if not _NAME.fullmatch(name):
        like = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:64].strip("_")
        hint = f" Did you mean '{like}'?" if _NAME.fullmatch(like) else ""
        raise PluginError(
            f"a plugin cannot be called {name!r}: a new one has 1 to 64 of a-z, 0-9, '_', '-', '.', starts with a "
            f"letter and ends with a letter or digit.{hint}"
        )
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        what = "a word of Python's own" if keyword.iskeyword(module) else "in Python's standard library"
        raise PluginError(f"'{name}' would name the Python package '{module}', which is {what}. Choose another name.")


def _check_free(name: str, module: str, distribution: str, plugins: tuple[str, ...], found: Host) -> None:
    """Refuse a name that something installed has."""
    for plugin in plugins:
        one, _, _ = plugin.partition(":")
        offers = found.offers.get((one, name), [])
        if offers:
            who = " and ".join(f"{offer.distribution} {offer.version}" for offer in offers)
            raise PluginError(f"{one} '{name}' is offered by {who} already. Choose another name, or uninstall that.")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version(distribution)
        raise PluginError(
            f"a distribution '{distribution}' is installed already ({version}). Choose another name, or uninstall it."
        )
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:  # a folder that happens to lie here has no origin
        raise PluginError(
            f"'{name}' would name the Python package '{module}', and there is one ({spec.origin}). Choose another name."
        )


def _contents(kind: Kind, *, name: str, module: str, distribution: str, plugins: tuple[str, ...]) -> dict[str, str]:
    """Return path inside the distribution -> content."""
    root = resources.files("ser_bench") / "templates"
    model = f"src/{module}/model.py"
    values = {
        "name": name,
        "module": module,
        "distribution": distribution,
        "what": _WHAT[kind],
        "shown": " and ".join(plugins),
        "where": f"The hooks are in `src/{module}/__init__.py`"
        + (f", the model in `{model}`." if kind != "system" else "."),
        "version": VERSION,
    }
    sources = {path: root / "common" / template for path, template in _SURROUNDINGS.items()}
    sources[f"src/{module}/__init__.py"] = root / kind / "__init__.py.in"
    if kind != "system":
        sources[model] = root / kind / "model.py.in"
    return {
        path: string.Template(source.read_text(encoding="utf-8")).substitute(values) for path, source in sources.items()
    }


def _write(target: Path, contents: dict[str, str]) -> None:
    """Write all files beside the target first, so that the folder is whole or absent."""
    try:
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            what = "is a file" if target.is_file() else "is there and not empty"
            raise PluginError(
                f"{target} {what}; a new plugin goes into a new folder. Name one, such as "
                f"--out {target.with_name(f'{target.name}-new')}."
            )
        part = target.absolute().with_name(f".{target.absolute().name}.{secrets.token_hex(4)}.tmp")
        try:
            for path, content in contents.items():
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                (part / path).write_text(content, encoding="utf-8")
            part.replace(target)  # also onto an empty folder
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {target} ({error.strerror}). Name a folder that can be written with --out DIR."
        ) from error
