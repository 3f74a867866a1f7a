"""Measure how often the 95 % intervals of word error rates hold the truth, beside other formulas.

    python tools/simulate_wer_coverage.py [--draws 3000] [--seed 1]

Prints the tables of docs/statistics.md (a few minutes on one core). Truth is known because counts come from a model: a
cluster (speaker) has a rate of its own, log-normal over clusters; an utterance has a negative binomial number of words,
and errors that are Poisson about its cluster's rate times a gamma variable of its own. Sums over a cluster's utterances
are drawn directly, which is the same in law. Clusters under 10 utterances are joined as in the package.

Letters: D draws, K clusters (padded with empty ones), S = 2 sources, R resamples.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from simulate_coverage import MEAN_SIZE, RESAMPLES, SIZE_LAWS, draw_sizes

from ser_bench.scoring.resampling import jackknife, join_small, t_quantile

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
CLUSTERS = (10, 20, 40, 100)
WORDS, WORDS_SHAPE = 16, 3.0
"""Mean and shape of the number of words of an utterance."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The law of the counts."""

    rates: tuple[float, float] = (0.2, 0.18)
    """Word error rates of the two sources."""
    spread: float = 0.4
    """Standard deviation over clusters of the log of a cluster's rate."""
    within: float = 1.0
    """Standard deviation over utterances of what multiplies the cluster's rate."""
    alike: float = 0.8
    """Correlation of the sources' log rates over clusters, and share of what multiplies them over utterances."""
    tie: float = 0.0
    """The rate goes with (cluster size) ** -tie: those who speak more are understood better."""
    size: int = MEAN_SIZE
    """Mean utterances of a cluster."""

    def truth(self, sigma: float) -> Array:
        """Return the rates over infinitely many clusters of log-normal size, [S]."""
        power = 1 - self.tie
        mean_of_power = np.exp(power * (np.log(self.size) - sigma**2 / 2) + power**2 * sigma**2 / 2)
        rates: Array = np.array(self.rates) * mean_of_power / self.size**power
        return rates


WORLDS = {
    "speakers differ much": World(spread=0.8, within=1.5),
    "speakers differ": World(),
    "few errors": World(rates=(0.03, 0.035), spread=0.6, within=2.0),
    "many errors, sources unlike": World(rates=(0.6, 0.55), spread=0.3, alike=0.5),
    "small clusters": World(size=15),
    "large clusters have lower rates": World(tie=0.1),
    "speakers do not differ": World(spread=0.0),
}


def draw(rng: np.random.Generator, sizes: Counts, world: World) -> tuple[Counts, Counts]:
    """Return words [D, K] and errors [D, K, S] of clusters of these sizes [D, K]."""
    words = np.maximum(1, rng.poisson(rng.gamma(WORDS_SHAPE * sizes, WORDS / WORDS_SHAPE)))
    root = np.linalg.cholesky(np.array([[1, world.alike], [world.alike, 1]]))
    effect = world.spread * rng.normal(size=(*sizes.shape, 2)) @ root.T - world.spread**2 / 2
    rate = np.array(world.rates) * np.exp(effect) * ((sizes / world.size) ** -world.tie)[..., None]
    shape = sizes[..., None] / world.within**2
    shared = rng.gamma(world.alike * shape)
    own = rng.gamma(np.broadcast_to((1 - world.alike) * shape, rate.shape))
    return words, rng.poisson(rate * words[..., None] * (shared + own) / shape)


def join(sizes: Counts, words: Counts, errors: Counts) -> tuple[Counts, Counts]:
    """Join clusters under 10 utterances in each draw, by the shipped rule; empty places are filled with zeros."""
    joined_words, joined_errors = np.zeros_like(words), np.zeros_like(errors)
    for d, row in enumerate(sizes.tolist()):
        into = join_small({f"{k:04}": size for k, size in enumerate(row)})
        _, place = np.unique(list(into.values()), return_inverse=True)
        np.add.at(joined_words[d], place, words[d])
        np.add.at(joined_errors[d], place, errors[d])
    usable = ((joined_words > 0).sum(1) > 1) & joined_errors.sum(1).all(1)
    return joined_words[usable], joined_errors[usable]


def rates(words: Counts, errors: Array | Counts, least: float = 0.5) -> tuple[Array, Array]:
    """Return the rate over all clusters [D], and without each [D, K] (the full rate in empty places)."""
    value = errors.sum(1) / words.sum(1)
    left = np.maximum(errors.sum(1, keepdims=True) - errors, least) / (words.sum(1, keepdims=True) - words)
    return value, np.where(words > 0, left, value[:, None])


Limits = tuple[Array, Array]
SHIPPED = "**jackknife-t, log scale, freedom the lesser (shipped)**"
RUNNER_UP = "jackknife-t, log scale, freedom the geometric mean"
DIFFERENCE = "**difference: jackknife-t, plain scale, freedom the geometric mean (shipped)**"
SCALES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "plain": (lambda x: x, lambda x: x),
    "square root": (np.sqrt, lambda x: np.maximum(x, 0) ** 2),
    "log": (np.log, np.exp),
}


def formulas(words: Counts, errors: Counts) -> dict[str, Limits]:
    """Return the lower and upper limits [D] of each candidate for one source's rate."""
    value, left = rates(words, errors)
    share = words / words.sum(1, keepdims=True)
    by_size = 1 / (share**2).sum(1) - 1
    found: dict[str, Limits] = {}
    for scale, (forth, back) in SCALES.items():
        variance, both = jackknife(forth(value), forth(left), words)  # the geometric mean of the two counts of freedom
        candidates = {"the geometric mean": both, "the lesser": np.minimum(by_size, both**2 / by_size)}
        if scale == "log":
            candidates = {"K - 1": (words > 0).sum(1) - 1.0, "by size": by_size, **candidates}
        for name, freedom in candidates.items():
            reach = t_quantile(freedom, 0.95) * np.sqrt(variance)
            title = f"jackknife-t, {scale} scale, freedom {name}"
            found[SHIPPED if title in SHIPPED else title] = back(forth(value) - reach), back(forth(value) + reach)
    return found | {"Fieller's, K - 1": fieller(words, errors)}


def fieller(words: Counts, errors: Counts) -> Limits:
    """Return the rates r for which the sum of errors - r words is within t of its own standard error."""
    count = (words > 0).sum(1)
    scale = stdtrit(count - 1, 0.975) ** 2 * count / (count - 1)
    a = words.sum(1) ** 2 - scale * (words**2).sum(1)
    b = words.sum(1) * errors.sum(1) - scale * (words * errors).sum(1)
    c = errors.sum(1) ** 2 - scale * (errors**2).sum(1)
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    bounded = a > 0
    safe = np.where(bounded, a, 1)
    return np.where(bounded, (b - root) / safe, 0), np.where(bounded, (b + root) / safe, np.inf)


def bootstrap(rng: np.random.Generator, words: Counts, errors: Counts) -> Limits:
    """Return the percentile interval over resampled clusters."""
    limits = []
    for w, e in zip(words, errors, strict=True):
        w, e = w[w > 0], e[w > 0]
        picked = rng.integers(0, len(w), (RESAMPLES, len(w)))
        limits.append(np.quantile(e[picked].sum(1) / w[picked].sum(1), [0.025, 0.975]))
    low, high = np.array(limits).T
    return low, high


def difference(words: Counts, errors: Counts) -> Limits:
    """Return the limits of the first source's rate less the second's: ``transcripts.wer.paired_difference``."""
    value, left = rates(words, (errors[..., 0] - errors[..., 1]).astype(float), -np.inf)
    variance, freedom = jackknife(value, left, words)
    reach = t_quantile(freedom, 0.95) * np.sqrt(variance)
    return value - reach, value + reach


def held(limits: Limits, truth: float) -> str:
    """Return how often (%) the interval holds the truth, and how often the truth lies above it and below."""
    low, high = limits
    above, below = 100 * (truth > high).mean(), 100 * (truth < low).mean()
    return f"{100 - above - below:.1f} ({above:.1f} / {below:.1f})"


def coverage(world: World, sigma: float, *, draws: int, seed: int) -> dict[str, list[str]]:
    """Return, by formula, what ``held`` says at each number of clusters."""
    truth = world.truth(sigma)
    rows: dict[str, list[str]] = {}
    for clusters in CLUSTERS:
        rng = np.random.default_rng([seed, clusters, int(10 * sigma)])
        sizes = np.maximum(1, draw_sizes(rng, draws, clusters, sigma) * world.size // MEAN_SIZE)
        words, errors = join(sizes, *draw(rng, sizes, world))
        found = {"percentile bootstrap of clusters": bootstrap(rng, words, errors[..., 0])}
        for name, limits in (found | formulas(words, errors[..., 0])).items():
            rows.setdefault(name, []).append(held(limits, truth[0]))
        rows.setdefault(DIFFERENCE, []).append(held(difference(words, errors), truth[0] - truth[1]))
    return rows


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description="Print coverage tables of word error rates (Markdown).")
    parser.add_argument("--draws", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = time.perf_counter()
    error = 100 * np.sqrt(0.95 * 0.05 / options.draws)
    print(f"{options.draws:,} draws, seed {options.seed}; Monte-Carlo standard error {error:.1f} at 95 %.")
    print("Cells: coverage (truth above the interval / below it), %.")
    for number, (title, world) in enumerate(WORLDS.items()):
        print(f"\n#### {title[0].upper()}{title[1:]}\n\n`{world}`\n")
        print(
            "| sizes | formula \\ clusters | "
            + " | ".join(map(str, CLUSTERS))
            + " |\n|---|---|"
            + "---|" * len(CLUSTERS)
        )
        for law, sigma in SIZE_LAWS.items():
            for name, cells in coverage(world, sigma, draws=options.draws, seed=options.seed).items():
                if number == 0 or name in (SHIPPED, RUNNER_UP, DIFFERENCE):
                    print(f"| {law} | {name} | " + " | ".join(cells) + " |")
    print(f"\nTook {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
