"""Score the predictions of one seed on one partition: all that its record says about them.

Letters: n utterances, k trained attributes, K clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_bench.errors import ScoreError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring import resampling as res
from ser_bench.scoring.ccc import METRIC, check_columns
from ser_bench.scoring.slices import calibration, slices
from ser_bench.scoring.utterances import coarse_limits, utterance_interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ser_bench.interface import Rows

LOWEST, HIGHEST = 1.0, 7.0
"""The scale of labels and predictions."""
_DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class PartitionScore:
    """The scores of one seed on one partition, in blocks that go into the record as they are (JSON types)."""

    ccc: dict[str, Any]
    """By attribute and ``mean``: ``{"value", "ci95", "ci95_utterances"}`` (the interval over clusters, and a coarse one
    as if utterances were independent); or None."""
    clusters: dict[str, Any]
    """``count`` after joining, ``joined`` (how many small clusters went into joined ones), ``few`` (under 20)."""
    slices: dict[str, Any]
    calibration: dict[str, Any]
    outside_range: int
    """Predicted values under 1 or over 7, over the trained attributes; none is clipped."""
    resampling: dict[str, Any]
    """What a paired comparison needs (``ser_bench.scoring.compare``): ``scheme``, ``metric``, ``digest`` (of which
    utterance is in which cluster), ``clusters``, ``sizes``, ``full`` values, and by attribute the leave-one-out
    values (as coarse as ``resampling.coarsen`` says)."""

    def as_dict(self) -> dict[str, Any]:
        """Return the blocks that stand under ``scores`` in the record; ``resampling`` stands beside them."""
        return {
            "ccc": self.ccc,
            "clusters": self.clusters,
            "slices": self.slices,
            "calibration": self.calibration,
            "outside_range": self.outside_range,
        }


def match(expected: Sequence[str], given: Sequence[str]) -> NDArray[np.int64]:
    """Find each expected utterance among the given ones, where it must be exactly once.

    Returns:
        [n] int64, so that ``given[result[i]] == expected[i]``.

    Raises:
        ScoreError: utterances are missing, given twice, or unknown; all three are told at once.
    """
    wanted, counts = set(expected), Counter(given)
    faults = {
        "missing": [name for name in expected if name not in counts],
        "given more than once": [name for name, count in counts.items() if count > 1],
        "unknown": [name for name in counts if name not in wanted],
    }
    told = [f"{len(names):,} {word} (first: {', '.join(names[:3])})" for word, names in faults.items() if names]
    if told:
        raise ScoreError(
            f"the predictions do not match the {len(expected):,} utterances to be scored: {'; '.join(told)}."
            " Predict each utterance of the partition exactly once."
        )
    place = {name: i for i, name in enumerate(given)}
    return np.array([place[name] for name in expected], dtype=np.int64)


def score_partition(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    rows: Rows,
    attributes: Sequence[str] = ATTRIBUTES,
    wer: ArrayLike | None = None,
) -> PartitionScore:
    """Score one seed's predictions of one partition.

    Args:
        prediction: [n, 3] arousal, valence, dominance on 1..7, in the order of ``rows`` (see ``match``); columns that
            are not in ``attributes`` are not looked at.
        target: [n, 3] labels on 1..7.
        rows: the n utterances, for clusters and slices.
        attributes: those trained; the others' scores are None, and the mean is over those trained.
        wer: [n] word error rate of each utterance's transcript, NaN where its reference is empty; None without slices
            by WER.

    Raises:
        ScoreError: shapes do not fit, a prediction or label is not finite, or no CCC is defined (see ``concordance``).
    """
    trained = [a for a in ATTRIBUTES if a in attributes]
    p, t = _columns(prediction, target, rows, trained)
    named = res.cluster_ids(rows.speaker, rows.podcast)
    joined = res.join_small(Counter(named))
    clusters = [joined[name] for name in named]
    loo = res.leave_one_out(p, t, clusters)
    few = len(loo.names) < res.FEW
    by_name = np.argsort(np.array(rows.utterance, dtype=str))  # the same draws in whatever order the rows come
    columns = {name: (p[:, i], t[:, i]) for i, name in enumerate(trained)}
    return PartitionScore(
        ccc=_ccc_block(trained, loo, utterance_interval(p[by_name], t[by_name])),
        clusters={"count": len(loo.names), "joined": sum(name != group for name, group in joined.items()), "few": few},
        slices=slices(columns, rows, wer=wer),
        calibration=calibration(columns),
        outside_range=int(((p < LOWEST) | (p > HIGHEST)).sum()),
        resampling=_resampling_block(trained, loo, res.digest(rows.utterance, clusters)),
    )


def _columns(
    prediction: ArrayLike, target: ArrayLike, rows: Rows, trained: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    expected = (len(rows), len(ATTRIBUTES))
    if p.shape != expected or t.shape != expected or not trained:
        raise ScoreError(
            f"predictions have shape {list(p.shape)} and labels {list(t.shape)}, and {len(trained)} attributes are"
            f" trained; expected {list(expected)} twice for the utterances of {rows.partition}, and one attribute or"
            f" more out of {', '.join(ATTRIBUTES)}."
        )
    chosen = [ATTRIBUTES.index(a) for a in trained]
    p, t = p[:, chosen], t[:, chosen]
    for word, values in (("prediction", p), ("label", t)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise ScoreError(
                f"the {word} of {rows.utterance[row]} is {values[row, column]} for {trained[column]}, the first of"
                f" {len(bad)} non-finite values in {rows.partition}; expected a number on 1..7 for every utterance."
                " Find out what the model gives there; nothing is left out or filled in."
            )
    check_columns(p, t, names=tuple(trained))
    return p, t


def _ccc_block(
    trained: Sequence[str], loo: res.LeaveOneOut, utterances: list[tuple[float, float] | None]
) -> dict[str, Any]:
    block: dict[str, Any] = dict.fromkeys((*ATTRIBUTES, "mean"))
    value, left_out = _published(loo)
    for i, name in enumerate((*trained, "mean")):
        block[name] = {
            "value": _round(value[i]),
            "ci95": _pair(
                res.interval(float(value[i]), left_out[:, i], loo.sizes, step=res.grain(float(value[i]), loo.sizes))
            ),
            "ci95_utterances": coarse_limits(utterances[i], int(loo.sizes.sum())),
        }
    return block


def _resampling_block(trained: Sequence[str], loo: res.LeaveOneOut, digest: str) -> dict[str, Any]:
    value, left_out = _published(loo)
    block: dict[str, Any] = {
        "scheme": res.SCHEME,
        "metric": METRIC,
        "digest": digest,
        "clusters": len(loo.names),
        "sizes": [int(size) for size in loo.sizes],
        "full": dict.fromkeys((*ATTRIBUTES, "mean")),
    } | dict.fromkeys((*ATTRIBUTES, "mean"))
    for i, name in enumerate((*trained, "mean")):
        block["full"][name] = _round(value[i])
        block[name] = [_round(v) for v in left_out[:, i]]
    return block


def _published(loo: res.LeaveOneOut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the full values [k + 1] and the leave-one-out values [K, k + 1] as coarse as they are published.

    Intervals are computed from these, so that every reader finds the same ones. The distance to the full value is what
    is coarsened: systems with equal scores stay equal.
    """
    left_out = loo.value + res.coarsen(loo.left_out - loo.value, int(loo.sizes.sum()))
    return res.with_mean(loo.value).round(_DECIMALS), res.with_mean(left_out).round(_DECIMALS)


def _pair(low_high: tuple[float, float] | None) -> list[float] | None:
    return None if low_high is None else [_round(v) for v in low_high]


def _round(value: float | np.float64) -> float:
    return round(float(value), _DECIMALS) + 0.0  # + 0.0: never -0.0
