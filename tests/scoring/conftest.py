"""Made-up predictions and labels for the scoring tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ser_bench.interface import Rows


@pytest.fixture
def make_rows() -> Callable[..., Rows]:
    """Make n rows: ``make_rows(labels, speaker)``."""

    def make(labels: NDArray[np.float64], speaker: Sequence[str], **columns: object) -> Rows:
        n = len(labels)
        rng = np.random.default_rng(5)
        content: dict[str, object] = {
            "partition": "test1",
            "utterance": [f"MSP-PODCAST_{i // 100:04}_{i % 100:04}.wav" for i in range(n)],
            "path": [f"Audios/{i}.wav" for i in range(n)],
            "duration": rng.uniform(2, 12, n),
            "labels": labels,
            "emotion": rng.choice(list("NHASX"), n).tolist(),
            "speaker": list(speaker),
            "gender": rng.choice(["Male", "Female"], n).tolist(),
            "podcast": [f"{i // 100:04}" for i in range(n)],
            "transcript": [None] * n,
        }
        return Rows(**(content | columns))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_scored() -> Callable[..., tuple[NDArray[np.float64], NDArray[np.float64], list[str]]]:
    """Make labels, several systems' predictions of them, and speakers: ``make_scored(sizes, noises)``.

    Returns labels [n, 3] in fifths on 1..7, predictions [systems, n, 3], speakers [n].
    """

    def make(
        sizes: Sequence[int], noises: Sequence[float], *, seed: int = 0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
        rng = np.random.default_rng(seed)
        of = np.repeat(np.arange(len(sizes)), sizes)
        labels = 4 + rng.normal(0, 0.5, (len(sizes), 3))[of] + rng.normal(0, 0.8, (len(of), 3))
        labels = np.clip(np.rint(5 * labels) / 5, 1, 7)
        shared = 0.6 * (labels - 4) + 4 + rng.normal(0, 0.2, (len(sizes), 3))[of] + rng.normal(0, 0.3, labels.shape)
        own = [rng.normal(0, 0.15, (len(sizes), 3))[of] + noise * rng.normal(0, 1, labels.shape) for noise in noises]
        return labels, shared + np.array(own), [str(k) for k in of]

    return make
