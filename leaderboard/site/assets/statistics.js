// The paired comparison of ser_bench/scoring/compare.py and resampling.py, from the blocks that records publish.
// A test holds the two together. Letters: S seeds, K clusters.
"use strict";

window.serBench.statistics = (() => {
  const ATTRIBUTES = ["arousal", "valence", "dominance"];
  const DECIDABLE = 5; // clusters that a verdict needs
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const mean = (values) => sum(values) / values.length;

  // The delete-one-cluster jackknife's variance and its degrees of freedom.
  function jackknife(value, leftOut, sizes, step) {
    const squares = leftOut.map((out) => Math.max((out - value) ** 2, (step * step) / 12));
    const total = sum(sizes);
    const count = sizes.length;
    const largest = Math.max(...squares, 2.2250738585072014e-308);
    const relative = squares.map((square) => square / largest);
    const byInfluence = (3 * sum(relative) ** 2) / Math.max(sum(relative.map((r) => r * r)), 1) - 1;
    const bySize = 1 / sum(sizes.map((size) => (size / total) ** 2)) - 1;
    const freedom = Math.sqrt(Math.min(Math.max(byInfluence, 1), count - 1) * bySize);
    return { variance: ((count - 1) / count) * sum(squares), freedom };
  }

  // Add the variance that comes from the seeds. full: [S] of each system; leftOut: [S][K] of each.
  function withSeeds(byCluster, freedom, full, leftOut, sizes) {
    const seedFreedom = sum(full.map((values) => values.length - 1));
    if (seedFreedom === 0) return { variance: byCluster, freedom };
    let spread = 0;
    full.forEach((values, system) => {
      const centre = mean(values);
      const centreOut = sizes.map((_, k) => mean(leftOut[system].map((out) => out[k])));
      values.forEach((value, seed) => {
        const offOut = leftOut[system][seed].map((out, k) => out - centreOut[k]);
        const shared = jackknife(value - centre, offOut, sizes, 0).variance;
        spread += (value - centre) ** 2 - shared;
      });
    });
    const bySeed = (Math.max(spread, 0) / seedFreedom) * sum(full.map((values) => 1 / values.length));
    const variance = byCluster + bySeed;
    if (!(variance > 0)) return { variance, freedom };
    const inverse = (byCluster / variance) ** 2 / freedom + (bySeed / variance) ** 2 / seedFreedom;
    return { variance, freedom: 1 / (inverse > 0 ? inverse : 1) };
  }

  function difference(a, b, column, margin) {
    const both = [...a, ...b];
    if (both.some((block) => block[column] === null)) return null;
    const trained = new Set(both.map((block) => ATTRIBUTES.filter((name) => block[name] !== null).join()));
    if (column === "mean" && trained.size > 1) return null;
    const full = [a, b].map((blocks) => blocks.map((block) => block.full[column]));
    const leftOut = [a, b].map((blocks) => blocks.map((block) => block[column]));
    const value = mean(full[0]) - mean(full[1]);
    const sizes = a[0].sizes;
    const told = { a: mean(full[0]), b: mean(full[1]), value };
    if (sizes.length < 2) return { ...told, ci95: null, p: 1, verdict: "undecided", negligible: false };
    const apart = sizes.map((_, k) => mean(leftOut[0].map((out) => out[k])) - mean(leftOut[1].map((out) => out[k])));
    const grain = [-1, 0, 1].includes(value) || !apart.some((x) => x !== 0) ? 0 : 2 / sum(sizes);
    const cluster = jackknife(value, apart, sizes, grain);
    const { variance, freedom } = withSeeds(cluster.variance, cluster.freedom, full, leftOut, sizes);
    const error = Math.sqrt(variance);
    const reach = quantile(freedom, 0.95) * error;
    const reach90 = quantile(freedom, 0.9) * error;
    const [low, high] = [Math.max(value - reach, -2), Math.min(value + reach, 2)]; // two CCCs are no further apart
    const decidable = sizes.length >= DECIDABLE;
    const negligible = decidable && Math.abs(value) + reach90 < margin;
    let verdict = negligible ? "on par" : "undecided";
    if (decidable && (low > 0 || high < 0)) verdict = low > 0 ? "better" : "worse";
    const p = !decidable ? 1 : error === 0 ? Number(value === 0) : 2 * below(-Math.abs(value) / error, Math.max(freedom, 0.5));
    return { ...told, ci95: [low, high], p, verdict, negligible };
  }

  // What keeps two blocks from being paired; an empty string if nothing does.
  function unpaired(blocks) {
    for (const [key, word] of [["metric", "metric versions"], ["digest", "utterances or clusters"], ["sizes", "cluster sizes"]]) {
      if (new Set(blocks.map((block) => JSON.stringify(block[key]))).size > 1) return word;
    }
    return "";
  }

  function compare(a, b, margin) {
    return Object.fromEntries([...ATTRIBUTES, "mean"].map((column) => [column, difference(a, b, column, margin)]));
  }

  // Student's t: the share below t, by the incomplete beta function.
  function below(t, freedom) {
    const tail = 0.5 * incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5);
    return t < 0 ? tail : 1 - tail;
  }
  // The t that holds `level` between its two signs; freedom under 0.5 counts as 0.5.
  function quantile(given, level) {
    const freedom = Math.max(given, 0.5);
    const share = (1 - level) / 2;
    let low = 0;
    let high = 1;
    while (below(-high, freedom) > share) high *= 2;
    for (let step = 0; step < 200 && high - low > 1e-13 * high; step += 1) {
      const middle = (low + high) / 2;
      if (below(-middle, freedom) > share) low = middle; else high = middle;
    }
    return (low + high) / 2;
  }
  // Lanczos' approximation (g = 7, nine terms) of ln Gamma for x > 0.
  function logGamma(x) {
    const terms = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
      12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
    if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
    const shifted = x - 1;
    const series = terms.slice(1).reduce((total, term, i) => total + term / (shifted + i + 1), terms[0]);
    const base = shifted + 7.5;
    return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(base) - base + Math.log(series);
  }
  // The regularised incomplete beta function by Lentz's continued fraction (Numerical Recipes 6.4).
  function incompleteBeta(x, a, b) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
    const tiny = 1e-300;
    const away = (value) => (Math.abs(value) < tiny ? tiny : value);
    let c = 1;
    let d = 1 / away(1 - ((a + b) * x) / (a + 1));
    let fraction = d;
    for (let m = 1; m < 10000; m += 1) {
      const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / away(1 + even * d);
      c = away(1 + even / c);
      fraction *= d * c;
      const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / away(1 + odd * d);
      c = away(1 + odd / c);
      const step = d * c;
      fraction *= step;
      if (Math.abs(step - 1) < 1e-15) break;
    }
    return (front * fraction) / a;
  }

  return { compare, unpaired, quantile, below };
})();
