"""What is published gives no label away: the attack of someone with public predictions and all published blocks."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ser_bench.scoring import cluster_ids, leave_one_out, score_partition
from ser_bench.scoring.resampling import join_small
from ser_bench.scoring.slices import DURATION_EDGES, band
from ser_bench.scoring.utterances import grain

SYSTEMS = 9


def ccc_and_slope(prediction, label, masks):
    """Return each subset's CCC [M] and its derivative by each label [M, n]."""
    n = masks.sum(1, keepdims=True)
    mean_p, mean_t = masks @ prediction[:, None] / n, masks @ label[:, None] / n
    p, t = prediction - mean_p, label - mean_t
    top = 2 * (masks * p * t).sum(1, keepdims=True) / n
    bottom = (masks * (p * p + t * t)).sum(1, keepdims=True) / n + (mean_p - mean_t) ** 2
    slope = masks * (2 * p - top / bottom * (2 * t - 2 * (mean_p - mean_t))) / n / bottom
    return (top / bottom)[:, 0], slope


def standard_error(prediction, labels):
    """Return the standard error of the CCC over utterances by its influence values: labels [B, n] -> [B]."""
    p, t = prediction - prediction.mean(), labels - labels.mean(1, keepdims=True)
    gap = (prediction - labels).mean(1, keepdims=True)
    top, p2, t2 = 2 * p * t, p * p - (p * p).mean(), t * t - (t * t).mean(1, keepdims=True)
    bottom = (p * p).mean() + (t * t).mean(1, keepdims=True) + gap**2
    mean = top.mean(1, keepdims=True)
    influence = (top - mean - mean / bottom * (p2 + t2 + 2 * gap * (p - t))) / bottom
    return np.sqrt((influence**2).mean(1) / len(p))


def error_and_slope(prediction, label, step=1e-4):
    """Return the standard error and its derivative by each label [n]."""
    moved = standard_error(prediction, label + step * np.concatenate([np.zeros((1, len(label))), np.eye(len(label))]))
    return moved[0], (moved[1:] - moved[0]) / step


def solve(predictions, published, bins, widths):
    """Find the labels that fit best what is published, and how sure of each one may be (Gauss-Newton, Laplace).

    Args:
        predictions: [S, n].
        published: for each system, (masks [M, n], values [M], rounding unit [M]).
        bins: for each system, (masks [B, n], mean labels [B], rounding unit [B]).
        widths: for each system, (width of its interval over utterances, rounding unit); None where there is none.

    Returns:
        Estimates [n] and their standard deviations [n]; a label's prior is N(mean prediction, 1).
    """
    start = predictions.mean(0)
    label, n = start.copy(), predictions.shape[1]
    for loosen in np.geomspace(1e4, 1, 40):
        design, residual = [np.eye(n)], [start - label]
        for p, (masks, values, unit), (bin_masks, bin_means, bin_unit), width in zip(
            predictions, published, bins, widths, strict=True
        ):
            found, slope = ccc_and_slope(p, label, masks)
            error = loosen * unit / np.sqrt(12)  # the standard deviation of rounding to a unit
            design.append(slope / error[:, None])
            residual.append((values - found) / error)
            share = bin_masks / bin_masks.sum(1, keepdims=True)
            bin_error = bin_unit / np.sqrt(12)
            design.append(share / bin_error[:, None])
            residual.append((bin_means - share @ label) / bin_error)
            if width is not None:  # 3.92 standard errors, of two rounded limits
                found, slope = error_and_slope(p, label)
                error = loosen * width[1] * np.sqrt(2 / 12) / 3.92
                design.append(slope[None] / error)
                residual.append(np.array([(width[0] / 3.92 - found) / error]))
        matrix, wanted = np.concatenate(design), np.concatenate(residual)
        step = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        label = label + np.clip(step, -1, 1)
    return label, np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix)))


def attack(make_rows, make_scored, sizes, *, as_published):
    """Attack the arousal labels; return the errors and their claimed standard deviations, [n] each.

    With ``as_published`` False, leave-one-out values stand in for the published ones as they would be without joining
    and with six decimals.
    """
    labels, predictions, speaker = make_scored(sizes, np.linspace(0.2, 0.5, SYSTEMS))
    rows, n = make_rows(labels, speaker), len(labels)
    published, bins, widths = [], [], []
    for p in predictions:
        score = score_partition(p, labels, rows=rows, attributes=("arousal",))
        if as_published:
            groups = join_small(Counter(cluster_ids(speaker, rows.podcast)))
            of, values, unit = [groups[f"speaker:{s}"] for s in speaker], score.resampling["arousal"], 2 / n
        else:
            loo = leave_one_out(p[:, :1], labels[:, :1], speaker)
            of, values, unit = speaker, loo.left_out[:, 0].round(6), 1e-6
        masks = [np.ones(n, dtype=bool), *(np.array(of) != name for name in sorted(set(of)))]
        numbers, units = [score.ccc["arousal"]["value"], *values], [1e-6] + [unit] * len(values)
        durations = band(rows.duration, DURATION_EDGES, unit=" s")
        for kind, key in {"gender": rows.gender, "emotion": rows.emotion, "duration": durations}.items():
            for name, entry in score.slices[kind].items():
                masks.append(np.array(key) == name)
                numbers.append(entry["arousal"])
                units.append(max(2 / entry["count"], 1e-3))
        known = [i for i, number in enumerate(numbers) if number is not None]
        published.append(
            (np.array(masks)[known].astype(float), np.array(numbers, float)[known], np.array(units)[known])
        )
        entries = score.calibration["arousal"]
        parts = np.array_split(np.argsort(p[:, 0], kind="stable"), len(entries))
        bin_masks = np.array([np.isin(np.arange(n), part) for part in parts], dtype=float)
        means = np.array([entry["label"] for entry in entries])
        bins.append((bin_masks, means, np.array([max(2 / len(part), 1e-2) for part in parts])))
        low, high = score.ccc["arousal"]["ci95_utterances"]
        widths.append((high - low, grain(n)) if as_published else None)
    estimate, claimed = solve(predictions[:, :, 0], published, bins, widths)
    return np.abs(estimate - labels[:, 0]), claimed


def test_unjoined_single_utterances_are_found_back(make_rows, make_scored) -> None:
    errors, claimed = attack(make_rows, make_scored, [25] * 10 + [3] * 3 + [1] * 8, as_published=False)
    assert (errors[-8:] < 0.01).all()
    assert (claimed[-8:] < 0.01).all()


def test_nothing_is_found_back_from_what_is_published(make_rows, make_scored) -> None:
    errors, claimed = attack(make_rows, make_scored, [25] * 10 + [3] * 3 + [1] * 8, as_published=True)
    # Labels come in steps of 0.2 and spread by about 0.9; no label is known to better than a step.
    assert claimed.min() > 0.2
    assert np.sqrt((errors[-8:] ** 2).mean()) > 0.2


def test_coarseness_is_what_protects_clusters_of_ten(make_rows, make_scored) -> None:
    _, exact = attack(make_rows, make_scored, [10] * 25, as_published=False)
    errors, coarse = attack(make_rows, make_scored, [10] * 25, as_published=True)
    assert (exact < 0.05).mean() > 0.2  # joined or not: six decimals give many labels away
    assert coarse.min() > 0.15
    assert np.sqrt((errors**2).mean()) > 0.2
