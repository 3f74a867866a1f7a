"""A recogniser without a model, and a source, for the tests of what lies around one."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_bench.transcripts.rows import Transcript
from ser_bench.transcripts.source import Source

OPTIONS = {"window": 8, "beam": 5, "compute_type": "int8", "device": "cpu"}


def source(
    name: str = "toy", *, model: str = "0" * 64, asr: str = "toy", folder: bool = False, **options: Any
) -> Source:
    """Make a source; ``options`` replace the default ones."""
    return Source(name=name, asr=asr, folder=folder, model_sha256=model, options=OPTIONS | options)


def heard(text: str, **changes: Any) -> Transcript:
    """Make what was heard."""
    plain = Transcript(text, "en", None, -0.25, 0.01, 12, False, False, len(text.split()), "toy 1.0, cpu")
    return plain._replace(**changes)


class Ear:
    """A recogniser that hears the digest of a wave's samples, and writes down when it decodes."""

    def __init__(self, *, batch: int = 4, log: Path | None = None, pause: float = 0.0, **options: Any) -> None:
        self.source = source(**options)
        self.batch = batch
        self.calls: list[int] = []
        self._log, self._pause = log, pause

    def window(self, seconds: float) -> int:
        return min(30, math.ceil(seconds + 8))

    def prepare(self, wave: Any) -> Any:
        assert wave.dtype == np.float32 and wave.ndim == 1
        return wave

    def transcribe(self, utterances: Sequence[Any]) -> list[Transcript]:
        self.calls.append(len(utterances))
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{len(utterances)}\n")
                file.flush()
                os.fsync(file.fileno())
        time.sleep(self._pause)
        return [self.hear(wave) for wave in utterances]

    def hear(self, wave: Any) -> Transcript:
        number = int.from_bytes(hashlib.sha256(wave.tobytes()).digest()[:4], "big")
        return heard(
            f"utterance {number} of {len(wave)} samples" if number % 10 else "",
            language="cy" if number % 7 == 0 else "en",
            language_probability=number % 1000 / 1000,
            window_seconds=self.window(len(wave) / 16_000),
            repeated=number % 5 == 0,
            looping=number % 15 == 0,
        )
