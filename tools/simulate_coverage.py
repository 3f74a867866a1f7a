"""Measure how often the 95 % intervals of ``ser_bench.scoring`` hold the truth, beside other formulas.

    python tools/simulate_coverage.py [--draws 3000] [--seed 1]

Prints the tables of docs/statistics.md (a few minutes on one core). Truth is known because data come from a model: a
label is a cluster's mean plus noise, a prediction is slope x label + bias + the cluster's shift + noise whose size
differs by cluster. Moment sums of a cluster are drawn directly (normal means, Wishart scatter), which is the same in
law as drawing its utterances. Clusters under 10 utterances are joined as in a published score.

Letters: D draws, K clusters (padded with empty ones), S systems (or seeds), m moment sums, R resamples.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ser_bench.scoring.ccc import concordance_of_sums
from ser_bench.scoring.compare import with_seeds
from ser_bench.scoring.resampling import coarsen, jackknife, join_small, t_quantile

Array = NDArray[np.float64]
CLUSTERS = (10, 15, 20, 40, 80, 150)
SIZE_LAWS = {"equal": 0.0, "log-normal 1": 1.0, "log-normal 1.5": 1.5}
MEAN_SIZE = 100
RESAMPLES = 399


@dataclass(frozen=True, kw_only=True)
class World:
    """The law of the data; label variance is 1."""

    label_share: float = 0.3
    """Share of the label's variance that lies between clusters."""
    shift: float = 0.12
    """Variance over clusters of the prediction's shift."""
    noise: float = 0.25
    """Variance of the prediction's noise."""
    noise_spread: float = 0.3
    """Standard deviation over clusters of the log of the noise's size."""
    slopes: tuple[float, ...] = (0.6, 0.6)
    bias: float = 0.1
    alike: tuple[tuple[float, ...], ...] = ((1.0, 0.5), (0.5, 1.0))
    """Correlation of shifts and noise between systems."""

    def truth(self) -> Array:
        """Return the population CCC of each system, [S]."""
        slope = np.array(self.slopes)
        return 2 * slope / (slope**2 + self.shift + self.noise + 1 + self.bias**2)


WORLDS = {
    "strong cluster effects": World(),
    "weak cluster effects, low CCC": World(label_share=0.1, shift=0.03, noise=0.3, slopes=(0.35, 0.35)),
    "very uneven noise": World(noise_spread=0.7),
    "no cluster effects but in the noise": World(label_share=0.0, shift=0.0),
    "strong cluster effects, systems apart": World(slopes=(0.6, 0.45)),
}
DOUBLED = World(label_share=0.1, shift=0.03, noise=0.3, slopes=(0.35, 0.15))
"""Of a system whose CCC is twice another's, as valence with and without text."""


def draw_sizes(rng: np.random.Generator, draws: int, clusters: int, sigma: float) -> NDArray[np.int64]:
    """Return [D, K] utterances."""
    mean_of_log = np.log(MEAN_SIZE) - sigma**2 / 2
    return np.maximum(1, np.rint(rng.lognormal(mean_of_log, sigma, (draws, clusters)))).astype(np.int64)


def draw_sums(rng: np.random.Generator, sizes: NDArray[np.int64], world: World, slopes: Array | None = None) -> Array:
    """Return the moment sums of each cluster and system, [D, K, S, m] (see ``ser_bench.scoring.ccc.moments``)."""
    shape, systems = sizes.shape, len(world.slopes)
    slopes = np.broadcast_to(np.array(world.slopes) if slopes is None else slopes, (shape[0], systems))
    root = np.linalg.cholesky(np.array(world.alike))
    # Within a cluster (label, predictions) = mix @ standard normals.
    mix = np.zeros((*shape, 1 + systems, 1 + systems))
    mix[..., 0, 0] = within = np.sqrt(1 - world.label_share)
    mix[..., 1:, 0] = slopes[:, None] * within
    scale = rng.lognormal(-(world.noise_spread**2), world.noise_spread, shape)  # E scale^2 = 1
    mix[..., 1:, 1:] = np.sqrt(world.noise) * scale[..., None, None] * root
    centre = rng.normal(0, np.sqrt(world.label_share), shape)
    shift = np.sqrt(world.shift) * rng.normal(size=(*shape, systems)) @ root.T
    mean = np.einsum("dkij,dkj->dki", mix, rng.normal(size=(*shape, 1 + systems)) / np.sqrt(sizes)[..., None])
    mean[..., 0] += centre
    mean[..., 1:] += world.bias + slopes[:, None] * centre[..., None] + shift
    factor = mix @ _bartlett(rng, sizes - 1, 1 + systems)
    scatter = factor @ factor.swapaxes(-1, -2)
    n = sizes[..., None].astype(float)
    label, systems_mean = mean[..., :1], mean[..., 1:]
    square_label = scatter[..., :1, 0] + n * label**2
    square = np.diagonal(scatter, axis1=-2, axis2=-1)[..., 1:] + n * systems_mean**2
    product = scatter[..., 1:, 0] + n * label * systems_mean
    ones = np.ones(systems)
    return np.stack(
        [
            n * ones,
            n * systems_mean,
            n * label * ones,
            square,
            square_label * ones,
            product,
            n * (systems_mean - label),
        ],
        axis=-1,
    )


def _bartlett(rng: np.random.Generator, freedom: NDArray[np.int64], size: int) -> Array:
    """Return [..., size, size] lower triangular T with T T' Wishart of that freedom, singular ones included."""
    lower = np.zeros((*freedom.shape, size, size))
    for column in range(size):
        left = freedom - column
        lower[..., column, column] = np.where(left > 0, np.sqrt(rng.chisquare(np.maximum(left, 1))), 0)
        below = rng.normal(size=(*freedom.shape, size - column - 1))
        lower[..., column + 1 :, column] = np.where(left[..., None] > 0, below, 0)
    return lower


def join(sums: Array) -> Array:
    """Join clusters under 10 utterances in each draw, by the shipped rule; empty places are filled with zeros."""
    joined = np.zeros_like(sums)
    for d, sizes in enumerate(sums[:, :, 0, 0].astype(int).tolist()):
        into = join_small({f"{k:04}": size for k, size in enumerate(sizes)})
        _, place = np.unique(list(into.values()), return_inverse=True)
        np.add.at(joined[d], place, sums[d])
    scored: Array = joined[(joined[:, :, 0, 0] > 0).sum(1) >= 2]
    return scored


def scores(sums: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return CCC [D, S], published leave-one-out CCCs [D, S, K] (the full value in empty places), sizes [D, K]."""
    sizes = sums[:, :, 0, 0].astype(np.int64)
    whole = sums.sum(1)
    full = np.stack([concordance_of_sums(w, whole=w) for w in whole])
    out = np.stack([concordance_of_sums(w - s, whole=w) for w, s in zip(whole, sums, strict=True)])  # [D, K, S]
    # As coarse as published.
    out = full[:, None] + coarsen(out - full[:, None], sizes.sum(1)[:, None, None])
    out = np.where(sizes[..., None] > 0, out, full[:, None])
    return full, out.swapaxes(1, 2), sizes


def formulas(value: Array, out: Array, sizes: NDArray[np.int64], step: Array) -> dict[str, tuple[Array, Array]]:
    """Return variance and degrees of freedom [D] of the candidates that need what is published and no more.

    ``step`` [D] is what the values were rounded to multiples of, on their own scale.
    """
    share = sizes / sizes.sum(1, keepdims=True)
    count = (sizes > 0).sum(1)
    d = out - value[:, None]
    influence = (1 - share) * d
    plain = (count - 1) / count * (d**2).sum(1)
    total = (d**2).sum(1)
    by_influence = np.clip(3 * total**2 / np.maximum((d**4).sum(1), 1e-300) - 1, 1, count - 1)
    by_size = 1 / (share**2).sum(1) - 1
    safe = np.where(share > 0, share, 1)
    delete_m = np.where(share > 0, (1 / safe - 1) * d**2, 0).sum(1) / count
    cr2 = (1 / (1 - share) * influence**2).sum(1)
    factor, bell_mccaffrey = _bell_mccaffrey(share)
    return {
        "influence values as they are (CR0), K - 1": ((influence**2).sum(1), count - 1.0),
        "CR2, K - 1": (cr2, count - 1.0),
        "CR2 made unbiased for equal cluster variances, Bell-McCaffrey": (cr2 * factor, bell_mccaffrey),
        "delete-m_j jackknife (Busing et al.), K - 1": (delete_m, count - 1.0),
        "jackknife-t, K - 1": (plain, count - 1.0),
        "jackknife-t, freedom by size": (plain, by_size),
        "jackknife-t, freedom by influence": (plain, by_influence),
        "jackknife-t, the lesser of the two": (plain, np.minimum(by_size, by_influence)),
        "**jackknife-t, geometric mean of the two (shipped)**": jackknife(value, out, sizes, step=step),
    }


def _bell_mccaffrey(share: Array) -> tuple[Array, Array]:
    """Return what makes CR2 unbiased, and its Satterthwaite freedom, if all cluster means have one variance.

    With weights a = w^2 / (1 - w) on squared residuals of cluster means from their weighted mean, both follow from
    tr(B) and tr(B^2) of B = (I - 1 w')' diag(a) (I - 1 w') (Bell and McCaffrey 2002, Survey Methodology 28(2), 169).
    """
    a = share**2 / (1 - share)
    ww = (share**2).sum(1)
    sum_a, aw, aww, aaw, aa = (x.sum(1) for x in (a, a * share, a * share**2, a * a * share, a * a))
    trace = sum_a - 2 * aw + sum_a * ww
    trace_square = sum_a**2 * ww**2 + 2 * sum_a * aww + 2 * aw**2 - 4 * ww * sum_a * aw + aa * (1 + 2 * ww) - 4 * aaw
    return ww / trace, trace**2 / trace_square


def bootstrap(rng: np.random.Generator, sums: Array, truth_z: float, truth_difference: float) -> dict[str, Array]:
    """Return shares of draws held by percentile bootstrap and bootstrap-t, [2]: one score, difference."""
    held = {"percentile bootstrap of clusters": np.zeros(2), "bootstrap-t of clusters": np.zeros(2)}
    truth = np.array([truth_z, truth_difference])
    for cluster in sums:
        cluster = cluster[cluster[:, 0, 0] > 0]
        count = len(cluster)
        picked = rng.integers(0, count, (RESAMPLES, count)) + np.arange(RESAMPLES)[:, None] * count
        weights = np.bincount(picked.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(float)
        value, error = _linearised(np.ones((1, count)), cluster)
        again, errors = _linearised(weights, cluster)
        low, high = np.quantile(again, [0.025, 0.975], axis=0)
        held["percentile bootstrap of clusters"] += (low <= truth) & (truth <= high)
        low, high = np.quantile((again - value) / np.maximum(errors, 1e-12), [0.025, 0.975], axis=0)
        held["bootstrap-t of clusters"] += (value[0] - high * error[0] <= truth) & (truth <= value[0] - low * error[0])
    return {name: count / len(sums) for name, count in held.items()}


def _linearised(weights: Array, cluster: Array) -> tuple[Array, Array]:
    """Return Fisher's z of the first system and the difference of two, [R, 2], and their linearised errors."""
    mixed = np.einsum("rk,ksm->rsm", weights, cluster, optimize=True)  # [R, S, m]
    n = mixed[..., :1]
    mean = mixed / n
    _, p, t, pp, tt, pt, gap = np.moveaxis(mean, -1, 0)
    numerator, denominator = 2 * (pt - p * t), pp - p * p + tt - t * t + gap * gap
    ccc = numerator / denominator  # [R, S]
    zero, one = np.zeros_like(p), np.ones_like(p)
    slope_top = np.stack([zero, -2 * t, -2 * p, zero, zero, 2 * one, zero], -1)
    slope_bottom = np.stack([zero, -2 * p, -2 * t, one, one, zero, 2 * gap], -1)
    slope = (slope_top - ccc[..., None] * slope_bottom) / denominator[..., None]  # [R, S, m]
    level = np.einsum("rsm,rsm->rs", slope, mean)
    influence = np.einsum("rsm,ksm->rsk", slope, cluster, optimize=True) - level[..., None] * cluster[:, 0, 0]
    influence /= n
    of_z = influence[:, 0] / (1 - ccc[:, :1] ** 2)
    pair = np.stack([of_z, influence[:, 0] - influence[:, 1]], 1)  # [R, 2, K]
    error = np.sqrt(np.einsum("rk,rik->ri", weights, pair**2))
    return np.stack([np.arctanh(ccc[:, 0]), ccc[:, 0] - ccc[:, 1]], 1), error


def coverage(
    world: World, *, draws: int, seed: int, with_bootstrap: bool
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return, by size law and formula, the coverage (%) of one score and of a difference at each number of clusters."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    truth = world.truth()
    for law, sigma in SIZE_LAWS.items():
        rows = found.setdefault(law, {})
        for clusters in CLUSTERS:
            rng = np.random.default_rng([seed, clusters, int(10 * sigma)])
            sums = join(draw_sums(rng, draw_sizes(rng, draws, clusters, sigma), world))
            if with_bootstrap:
                for name, held in bootstrap(rng, sums, np.arctanh(truth[0]), truth[0] - truth[1]).items():
                    rows.setdefault(name, []).append((100 * held[0], 100 * held[1]))
            full, out, sizes = scores(sums)
            step = 2 / sizes.sum(1)
            on_z = step / (1 - full[:, 0] ** 2)
            one = _held(np.arctanh(full[:, 0]), np.arctanh(out[:, 0]), sizes, np.arctanh(truth[0]), on_z)
            two = _held(full[:, 0] - full[:, 1], out[:, 0] - out[:, 1], sizes, truth[0] - truth[1], step)
            for name in one:
                rows.setdefault(name, []).append((one[name], two[name]))
    return found


def _held(value: Array, out: Array, sizes: NDArray[np.int64], truth: float, step: Array) -> dict[str, float]:
    shares = {}
    for name, (variance, freedom) in formulas(value, out, sizes, step).items():
        reach = stdtrit(np.maximum(freedom, 0.5), 0.975) * np.sqrt(variance)
        shares[name] = 100 * float((np.abs(value - truth) <= reach).mean())
    return shares


def false_alarms(*, draws: int, seed: int, seeds: int, seed_spread: float, sigma: float) -> list[float]:
    """Return how often (%) two equal systems of several seeds are called different, by number of clusters.

    With two rows on a track, that is how often they do not share a rank. A seed changes a system's slope by
    ``seed_spread`` (standard deviation), and its shifts and noise in part.
    """
    one = np.full((2 * seeds, 2 * seeds), 0.5)
    one[:seeds, :seeds] = one[seeds:, seeds:] = 0.9
    np.fill_diagonal(one, 1)
    world = World(slopes=(0.6,) * (2 * seeds), alike=tuple(map(tuple, one.tolist())))
    alarms = []
    for clusters in CLUSTERS[:-1]:
        rng = np.random.default_rng([seed, clusters, seeds])
        slopes = rng.normal(0.6, seed_spread, (draws, 2 * seeds))
        sums = join(draw_sums(rng, draw_sizes(rng, draws, clusters, sigma), world, slopes))
        full, out, sizes = scores(sums)
        value = full[:, :seeds].mean(1) - full[:, seeds:].mean(1)
        value_out = out[:, :seeds].mean(1) - out[:, seeds:].mean(1)
        by_cluster, freedom = jackknife(value, value_out, sizes, step=2 / sizes.sum(1))
        halves = [full[:, :seeds], full[:, seeds:]], [out[:, :seeds], out[:, seeds:]]
        variance, freedom = with_seeds(by_cluster, freedom, *halves, sizes)
        alarms.append(100 * float((np.abs(value) > t_quantile(freedom, 0.95) * np.sqrt(variance)).mean()))
    return alarms


def ratios(*, draws: int, seed: int, sigma: float) -> dict[str, list[str]]:
    """Return what intervals of the ratio of two CCCs hold, and in brackets how often truth lies below and above, in %.

    By formula, at each number of clusters, over draws whose divisor is clearly above 0 (the others get no interval).
    ``contrast.relative`` holds a ratio r where a - r b is not told apart from 0: no limits need be found to count that.
    """
    over, under = DOUBLED.truth()
    rows: dict[str, list[str]] = {}
    for clusters in CLUSTERS:
        rng = np.random.default_rng([seed, clusters, int(10 * sigma)])
        full, out, sizes = scores(join(draw_sums(rng, draw_sizes(rng, draws, clusters, sigma), DOUBLED)))
        (a, b), (a_out, b_out), step = full.T, out.swapaxes(0, 1), 2 / sizes.sum(1)
        bounded = b > _reach(b, b_out, sizes, step)
        rows.setdefault("draws with an interval", []).append(f"{100 * bounded.mean():.1f}")
        truth = over / under
        ways = {
            "the ratio jackknifed, symmetric": (a / b - truth, a_out / b_out - truth, step * (1 + truth) / b),
            "**Fieller's (shipped)**": (a - truth * b, a_out - truth * b_out, step * max(1, truth)),
        }
        for name, (value, value_out, rounding) in ways.items():
            off = (value / _reach(value, value_out, sizes, rounding))[bounded]
            missed = [100 * float((side > 1).mean()) for side in (off, -off)]
            rows.setdefault(name, []).append(f"{100 - sum(missed):.1f} ({missed[0]:.1f} / {missed[1]:.1f})")
    return rows


def _reach(value: Array, out: Array, sizes: NDArray[np.int64], step: Array) -> Array:
    """Return half of the shipped 95 % interval's width, [D]."""
    variance, freedom = jackknife(value, out, sizes, step=step)
    reach: Array = t_quantile(freedom, 0.95) * np.sqrt(variance)
    return reach


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description="Print coverage tables (Markdown).")
    parser.add_argument("--draws", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = time.perf_counter()
    error = 100 * np.sqrt(0.95 * 0.05 / options.draws)
    print(f"{options.draws:,} draws, seed {options.seed}; Monte-Carlo standard error {error:.1f} at 95 %.")
    heads = [f"{c}" for c in CLUSTERS]
    for i, (title, world) in enumerate(WORLDS.items()):
        truth = ", ".join(f"{x:.3f}" for x in world.truth())
        print(f"\n### {title[0].upper()}{title[1:]} (population CCC {truth})")
        found = coverage(world, draws=options.draws, seed=options.seed, with_bootstrap=i == 0)
        for law, rows in found.items():
            print(f"\nCluster sizes {law}, mean {MEAN_SIZE}: coverage (%) of one score / of a difference.\n")
            print("| formula \\ clusters | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
            for name, cells in rows.items():
                if i == 0 or "jackknife-t" in name:
                    print(f"| {name} | " + " | ".join(f"{a:.1f} / {b:.1f}" for a, b in cells) + " |")
    for law in ("log-normal 1", "log-normal 1.5"):
        print(f"\n### Two equal systems called different (%), sizes {law}\n")
        print("| seeds each, spread of the slope | " + " | ".join(heads[:-1]) + " |\n|---|" + "---|" * (len(heads) - 1))
        for seeds, spread in ((1, 0.0), (3, 0.0), (3, 0.01), (3, 0.03), (5, 0.01)):
            alarms = false_alarms(
                draws=options.draws, seed=options.seed, seeds=seeds, seed_spread=spread, sigma=SIZE_LAWS[law]
            )
            print(f"| {seeds}, {spread} | " + " | ".join(f"{x:.1f}" for x in alarms) + " |")
    of = " and ".join(f"{x:.3f}" for x in DOUBLED.truth())
    for law in ("log-normal 1", "log-normal 1.5"):
        print(f"\n### The ratio of two CCCs, {of}: coverage (%), truth below / above it, sizes {law}\n")
        print("| formula \\ clusters | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
        for name, cells in ratios(draws=options.draws, seed=options.seed, sigma=SIZE_LAWS[law]).items():
            print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\nTook {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
