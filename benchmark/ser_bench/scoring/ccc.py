"""Lin's concordance correlation coefficient (CCC): of two columns, and of many subsets of them at once.

Letters: n utterances, k attributes, m = 7 moment sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ser_bench.errors import ScoreError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

METRIC = "ccc-1"
"""The metric's version, part of every signature: raise the number when any score would change."""

_LOST = 1e-13
"""A subset whose denominator is this share of the whole's has lost its digits to rounding: it counts as constant."""


def concordance(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return Lin's concordance correlation coefficient.

    2 cov(p, t) / (var p + var t + (mean p - mean t)^2), population moments, float64
    (Lin 1989, Biometrics 45(1), 255). Range -1..1, higher is better. A constant prediction of varying labels gives
    exactly 0.

    Args:
        prediction: [n], any unit.
        target: [n], the same unit.

    Raises:
        ScoreError: lengths differ, fewer than two values, a value is not finite, or both are constant
            (the ratio is 0/0; a number here would hide a dead model).
    """
    p = np.asarray(prediction, dtype=np.float64)
    t = np.asarray(target, dtype=np.float64)
    if p.ndim != 1 or p.shape != t.shape:
        raise ScoreError(
            f"predictions have shape {list(p.shape)} and labels {list(t.shape)}; the CCC takes two columns of one"
            " length. Match them by utterance first."
        )
    check_columns(p[:, None], t[:, None], names=("this column",))
    dp, dt, gap = centre(p, t)
    return float(2 * (dp @ dt) / (dp @ dp + dt @ dt + len(p) * gap * gap))


def check_columns(prediction: NDArray[np.float64], target: NDArray[np.float64], *, names: tuple[str, ...]) -> None:
    """Refuse columns for which no CCC is defined.

    Args:
        prediction: [n, k].
        target: [n, k].
        names: k words for the messages.

    Raises:
        ScoreError: fewer than two values, a value is not finite, or prediction and label are both constant.
    """
    if len(prediction) < 2:
        raise ScoreError(
            f"the CCC needs two values or more, {len(prediction)} given. Score a larger set of utterances."
        )
    for word, values in (("prediction", prediction), ("label", target)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise ScoreError(
                f"{len(bad)} {word} values are not finite (first: {values[row, column]} in row {row} of"
                f" {names[column]}); the CCC needs a number for every utterance. Find out where they come"
                " from; none is left out."
            )
    for name, p, t in zip(names, prediction.T, target.T, strict=True):
        if np.ptp(p) == 0 and np.ptp(t) == 0:
            raise ScoreError(
                f"predictions ({p[0]:g}) and labels ({t[0]:g}) of {name} are both constant over {len(p)} utterances;"
                " the CCC is 0/0 there. Score utterances whose labels differ."
            )


def centre(
    prediction: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return both less their means, and the difference of the means, over axis 0.

    The first value is taken off before the mean: a constant column then is exactly 0 everywhere, and a large offset
    costs no digits.
    """
    p, t = prediction - prediction[0], target - target[0]
    return p - p.mean(axis=0), t - t.mean(axis=0), (prediction - target).mean(axis=0)


def moments(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each utterance's terms of the moment sums: [n, k] twice -> [n, k, m].

    1, p, t, p^2, t^2, p t of columns that are each centred by themselves (see ``centre``), so that sums over subsets
    and differences of sums keep their digits; then prediction - label as given, whose mean is the
    difference of the means.
    """
    p, t, _ = centre(prediction, target)
    return np.stack([np.ones_like(p), p, t, p * p, t * t, p * t, prediction - target], axis=-1)


def concordance_of_sums(sums: NDArray[np.float64], *, whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the CCC of each subset from its moment sums; NaN where prediction and label are both constant.

    Args:
        sums: [..., k, m], sums of ``moments`` over a subset.
        whole: [k, m], the sums over all utterances, the scale against which rounding is judged.

    Returns:
        [..., k].
    """
    numerator, denominator = _ratio(sums)
    limit = _LOST * _ratio(whole)[1]
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > limit)


def _ratio(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n = np.maximum(sums[..., 0], 1)  # an empty subset has a denominator of 0
    p, t, pp, tt, pt, gap = (sums[..., i] / n for i in range(1, 7))
    return 2 * (pt - p * t), (pp - p * p) + (tt - t * t) + gap * gap
