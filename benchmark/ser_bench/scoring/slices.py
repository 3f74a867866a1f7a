"""Scores of parts of a partition, and calibration: aggregates that give no label away.

They are computed while labels are at hand and published in the record. What keeps a label in: no slice under 10
utterances, no calibration bin under 50, no single speaker's figure, and all of them coarse (``resampling.coarsen``).

Letters: n utterances, k attributes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_bench.scoring.ccc import concordance
from ser_bench.scoring.resampling import coarsen

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ser_bench.interface import Rows

LEAST_UTTERANCES = 10
LEAST_SPEAKERS = 10
LEAST_IN_BIN = 50
MOST_BINS = 10
DURATION_EDGES = (3.0, 5.0, 8.0)
"""Seconds; turns are 2 to 12 s long by design of the corpus."""
WER_EDGES = (0.1, 0.3, 0.6)
"""Share of words; 0.23 to 0.38 is what recognisers reach on this corpus on the whole."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SLICE_DECIMALS = 3
_COARSE_DECIMALS = 2

Columns = Mapping[str, tuple["NDArray[np.float64]", "NDArray[np.float64]"]]
"""Prediction [n] and label [n] on 1..7, by attribute."""


def slices(columns: Columns, rows: Rows, *, wer: ArrayLike | None = None) -> dict[str, Any]:
    """Score parts of a partition: by gender, emotion class, duration and WER, and the spread over speakers.

    Args:
        columns: the trained attributes.
        rows: n utterances.
        wer: [n] word error rate of each utterance's transcript, 0 or more; NaN where its reference is empty.

    Returns:
        ``{"gender" | "emotion" | "duration" | "wer": {slice: {"count", attribute: CCC or None, ...}},
        "speakers": ...}``; a CCC is None under 10 utterances or where labels (or both) are constant.
    """
    keys: dict[str, list[str | None]] = {
        "gender": list(rows.gender),
        "emotion": [name or None for name in rows.emotion],
        "duration": band(rows.duration, DURATION_EDGES, unit=" s"),
    }
    if wer is not None:
        keys["wer"] = band(np.asarray(wer, dtype=np.float64), WER_EDGES)
    found: dict[str, Any] = {kind: _by_key(columns, of) for kind, of in keys.items()}
    return found | {"speakers": _speakers(columns, rows.speaker)}


def calibration(columns: Columns) -> dict[str, list[dict[str, float]] | None]:
    """Set mean label against mean prediction in bins of equal counts, ordered by prediction.

    At most 10 bins of at least 50 utterances each (counts differ by one at most); None under 50 utterances.

    Returns:
        ``{attribute: [{"prediction", "label", "count"}, ...] or None}``, means on 1..7.
    """
    return {name: _bins(prediction, label) for name, (prediction, label) in columns.items()}


def band(values: NDArray[np.float64], edges: Sequence[float], *, unit: str = "") -> list[str | None]:
    """Name each value's band: ``<3 s``, ``3-5 s``, ..., ``>=8 s``; a value on an edge belongs above; NaN to none."""
    names = [f"<{edges[0]:g}{unit}"]
    names += [f"{low:g}-{high:g}{unit}" for low, high in itertools.pairwise(edges)]
    names.append(f">={edges[-1]:g}{unit}")
    places = np.searchsorted(np.asarray(edges), values, side="right")
    return [None if np.isnan(value) else names[place] for value, place in zip(values, places, strict=True)]


def _by_key(columns: Columns, keys: Sequence[str | None]) -> dict[str, dict[str, Any]]:
    of = np.array(["" if key is None else key for key in keys])
    return {
        key: {"count": int((of == key).sum())}
        | {name: _score(p[of == key], t[of == key]) for name, (p, t) in columns.items()}
        for key in sorted({key for key in keys if key})
    }


def _speakers(columns: Columns, speaker: Sequence[str]) -> dict[str, Any]:
    """Give the quantiles over speakers of at least 10 utterances, if there are 10 of them; no single one's figure."""
    of = np.array(speaker)
    names, counts = np.unique(of, return_counts=True)
    known = ~np.isin(names, ("", "Unknown"))
    enough = names[known & (counts >= LEAST_UTTERANCES)]
    spread: dict[str, Any] = {"count": len(enough)}
    for attribute, (p, t) in columns.items():
        scores = [_score(p[of == name], t[of == name]) for name in enough]
        defined = [score for score in scores if score is not None]
        spread[attribute] = None
        if len(defined) >= LEAST_SPEAKERS:
            spread[attribute] = {f"{q:g}": _between(sorted(defined), q) for q in QUANTILES}
    return spread


def _between(ordered: Sequence[float], share: float) -> float:
    """Return a quantile that is no single speaker's score: halfway between the scores next to its place.

    Args:
        ordered: the scores of 10 speakers or more.
        share: 0.1 to 0.9.
    """
    place = share * (len(ordered) - 1)
    below, above = ordered[math.ceil(place) - 1], ordered[math.floor(place) + 1]
    return round((below + above) / 2, _COARSE_DECIMALS) + 0.0


def _score(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> float | None:
    if len(target) < LEAST_UTTERANCES or np.ptp(target) == 0:
        return None
    return coarse_score(concordance(prediction, target), len(target))


def coarse_score(value: float | None, count: int) -> float | None:
    """Round a CCC of ``count`` utterances as it is published: multiples of 2 / ``count``, in three decimals.

    Rounding again changes nothing, so whoever reads a value can tell whether it is as coarse.
    """
    if value is None:
        return None
    return round(float(np.clip(coarsen(np.array(value), count), -1, 1)), _SLICE_DECIMALS) + 0.0


def predicted_bins(prediction: NDArray[np.float64]) -> list[tuple[float, int]] | None:
    """Return what calibration's bins say of the predictions alone: (mean prediction, count) of each, or None."""
    parts = _parts(prediction)
    return None if parts is None else [(float(prediction[part].mean()), len(part)) for part in parts]


def _parts(prediction: NDArray[np.float64]) -> list[NDArray[np.int64]] | None:
    """Return the places of each bin's utterances, ordered by prediction; None for too few."""
    count = min(MOST_BINS, len(prediction) // LEAST_IN_BIN)
    return None if count == 0 else list(np.array_split(np.argsort(prediction, kind="stable"), count))


def _bins(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> list[dict[str, float]] | None:
    parts = _parts(prediction)
    if parts is None:
        return None
    return [
        {
            "prediction": round(float(prediction[part].mean()), _COARSE_DECIMALS),
            "label": round(float(coarsen(target[part].mean(), len(part))), _COARSE_DECIMALS),
            "count": len(part),
        }
        for part in parts
    ]
