"""Time the interval over utterances beside scipy.stats.bootstrap of the same statistic on the same data, in one run.

    python tests/speed/utterances.py [--utterances 17000] [--resamples 10000]

The statistic is the mean CCC of three attributes. scipy's is vectorised, paired and by percentile, in batches of the
size that is fastest here; its time is taken over a tenth of the resamples and told for all of them.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from scipy import stats

from ser_bench.scoring import utterance_interval

SHARE = 10


def ccc(p: np.ndarray, t: np.ndarray, axis: int) -> np.ndarray:
    gap = p.mean(axis) - t.mean(axis)
    covariance = (p * t).mean(axis) - p.mean(axis) * t.mean(axis)
    return 2 * covariance / (p.var(axis) + t.var(axis) + gap**2)


def mean_ccc(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    pairs = zip(columns[::2], columns[1::2], strict=True)
    return sum(ccc(p, t, axis) for p, t in pairs) / 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Print seconds of both, their ratio, and both intervals.")
    parser.add_argument("--utterances", type=int, default=17_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    target = rng.normal(4, 1, (options.utterances, 3))
    prediction = 0.5 * target + 2 + rng.normal(0, 0.5, target.shape)
    data = [column for pair in zip(prediction.T.copy(), target.T.copy(), strict=True) for column in pair]

    def theirs(resamples: int, batch: int) -> stats._resampling.BootstrapResult:
        return stats.bootstrap(
            data,
            mean_ccc,
            n_resamples=resamples,
            batch=batch,
            paired=True,
            method="percentile",
            rng=np.random.default_rng(1),
        )

    seconds = {}
    for batch in (1, 10, 100):
        start = time.process_time()
        theirs(200, batch)
        seconds[batch] = time.process_time() - start
    batch = min(seconds, key=lambda size: seconds[size])
    for turn in (1, 2, 3):
        start, began = time.process_time(), time.perf_counter()
        ours = utterance_interval(prediction, target, resamples=options.resamples)[-1]
        used, took = time.process_time() - start, time.perf_counter() - began
        start = time.process_time()
        found = theirs(options.resamples // SHARE, batch)
        scipy_used = (time.process_time() - start) * SHARE
        sys.stdout.write(
            f"run {turn}: ours {used:.2f} s of processor ({took:.2f} s in all), scipy {scipy_used:.1f} s (batches of "
            f"{batch}), ratio {scipy_used / used:.0f}\n"
        )
    low, high = found.confidence_interval
    sys.stdout.write(
        f"ours {ours[0]:.4f} .. {ours[1]:.4f}, scipy {low:.4f} .. {high:.4f}, "
        f"standard error {found.standard_error:.5f}\n"
    )


if __name__ == "__main__":
    main()
