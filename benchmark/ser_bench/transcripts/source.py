"""What makes texts: a model and how it decodes, with the name that runs, records and folders know it by."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ser_bench.cache import cache_root
from ser_bench.errors import TranscriptError

DEFAULT_WINDOW = 8
"""Seconds of silence after an utterance (see ``asr``). Of 250 stand-in utterances 12 looped with 2 s, 3 with 4 s, and
with 6 or 8 s none but one that truly says a thing three times."""
DEFAULT_COMPUTE_TYPE = {"cpu": "int8", "cuda": "float16"}
DEFAULT_BEAM = 5
"""As faster-whisper and OpenAI's Whisper."""
RESERVED = ("human", "none")
"""Transcript sources that are not made by machine."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,92}")
_SHOWN = ("window", "beam", "compute_type")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One transcript source; two that differ in model or options never share a row."""

    name: str
    """What it is called without the digest."""
    asr: str
    """The model as it was asked for: a name such as ``whisper-tiny``, or the last part of its folder's path."""
    folder: bool
    """Whether the model was given as a folder."""
    model_sha256: str
    """Digest of the model's files."""
    options: Mapping[str, Any]
    """How it decodes; JSON values."""

    def __post_init__(self) -> None:
        """Refuse a name that a file, a signature or a reader would misread."""
        if not _NAME.fullmatch(self.name) or self.name in RESERVED:
            raise TranscriptError(
                f"a transcript source cannot be called {self.name!r}: a name has 1 to 93 of A-Z, a-z, 0-9, '_', '.',"
                f" '+', '-', starts with a letter or digit, and is not {' or '.join(map(repr, RESERVED))}. Give another"
                " with --name NAME."
            )

    @cached_property
    def digest(self) -> str:
        """First 6 hex digits of the SHA-256 of model and options."""
        text = json.dumps([self.model_sha256, self.options], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:6]

    @property
    def label(self) -> str:
        """Its full name: ``NAME@<digest>``."""
        return f"{self.name}@{self.digest}"

    def described(self) -> str:
        """Return all of it as JSON, from which ``read`` makes it again."""
        fields = {key: getattr(self, key) for key in ("name", "asr", "folder", "model_sha256", "options")}
        return json.dumps({**fields, "label": self.label}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, text: bytes | str) -> Source:
        """Make a source from its description.

        Raises:
            ValueError, KeyError, TypeError: the text is no description.
            TranscriptError: it has a name that is not allowed.
        """
        fields = json.loads(text)
        del fields["label"]
        return cls(**fields)

    def remedy(self, corpus: str, condition: str, cache: Path) -> str:
        """Return what to do where texts are missing; ``condition`` is a condition's key."""
        where = f" (DIR being where {self.asr} lies)" if self.folder else ""
        return f"Make them with `{self.command(corpus, condition, cache)}`{where}"

    def command(self, corpus: str, condition: str = "clean", cache: Path | None = None) -> str:
        """Return the command that makes its texts; ``condition`` is a condition's key."""
        words = ["ser-bench", "transcribe", "--corpus", corpus, "--asr", f"DIR/{self.asr}" if self.folder else self.asr]
        if self.name != safe_name(self.asr):
            words += ["--name", self.name]
        if condition != "clean":
            words += ["--condition", shown(condition)]
        for option, default in (("window", DEFAULT_WINDOW), ("beam", DEFAULT_BEAM)):
            if self.options[option] != default:
                words += [f"--{option}", str(self.options[option])]
        device, kind = self.options["device"], self.options["compute_type"]
        words += ["--device", device]
        if kind != DEFAULT_COMPUTE_TYPE[device]:
            words += ["--compute-type", kind]
        if cache is not None and cache != cache_root():
            words += ["--cache", str(cache)]
        return shlex.join(words)


def shown(condition: str) -> str:
    """Return a condition's label from its key, which may name the version of its samples too."""
    return condition.partition("#")[0]


def listed(found: Iterable[Source]) -> str:
    """Return sources with what tells them apart, for a message."""
    told = ((source.label, ", ".join(f"{key} {source.options[key]}" for key in _SHOWN)) for source in found)
    return ", ".join(f"{label} ({options})" for label, options in told)


def safe_name(text: str) -> str:
    """Return what a model's or folder's name becomes as the name of a source; empty where nothing is left of it."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", text).lstrip("_.+-")[:93]
