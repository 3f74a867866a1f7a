"""Figure 2: how important each layer of a frozen encoder is for each attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_bench.interface import ATTRIBUTES
from ser_bench.records import Json
from ser_bench.studies import paper
from ser_bench.studies.claims import Claim, claim, over_seeds
from ser_bench.studies.draw import figure2 as draw
from ser_bench.studies.options import Cell, Options, Scoring
from ser_bench.studies.report import Report, number, table

POOLED, EXACT = "weighted_layers", "weighted_sequences"
RECIPE = {"learning_rate": 3e-4, "patience": 10}
"""Only a head is trained here, from nothing: with the paper's 1e-5, which is for fine-tuning, it would not leave its
start on a small corpus. The rate is ours; docs/studies/README.md has what others give. Layer weights move faster than
the rest of the head by a factor that the head has built in (``ser_bench_plugins.heads.GAIN``)."""
_ORDERS = {
    POOLED: "Each layer is pooled first and the pooled vectors are summed: the same as the paper's order for averages, "
    "not for maxima; an utterance leaves one vector a layer to store.",
    EXACT: "Layers are summed first and the sum is pooled, as in the paper.",
}


class Figure2:
    """The study."""

    name = "figure2"
    title = "Figure 2: importance of layers"
    takes = frozenset({"audio", "exact"})

    def cells(self, options: Options) -> list[Cell]:
        """Return a frozen run for each attribute, and with ``--exact`` for each order of summing and pooling."""
        found = []
        for head in (POOLED, EXACT) if options.exact else (POOLED,):
            for attribute in ATTRIBUTES:
                spec = options.spec(
                    audio=options.audio,
                    head=head,
                    strategy="frozen",
                    weights=tuple(word for word in options.weights if not word.startswith("text=")),
                    changes={**RECIPE, **options.changes, "attributes": [attribute]},
                    frames="store" if head == POOLED else options.frames,  # a few vectors an utterance always fit
                )
                shared = "one store of all layers, pooled" if head == POOLED else "one store of all layers' sequences"
                found.append(Cell(key=key_of(head, attribute), spec=spec, shares=shared))
        return found

    def scorings(self, options: Options) -> list[Scoring]:
        """Return none."""
        return []

    def report(self, found: Mapping[str, Json], options: Options) -> Report:
        """Make the report."""
        head = EXACT if options.exact else POOLED
        weights = {attribute: of_seeds(found[key_of(head, attribute)]) for attribute in ATTRIBUTES}
        rows = [row for attribute in ATTRIBUTES for row in _rows(attribute, weights[attribute])]
        depth = len(next(iter(weights.values()))[0]) - 1
        ranks = rank_correlations(weights)
        tables = [_table(weights, rows), _scores({a: found[key_of(head, a)] for a in ATTRIBUTES})]
        extra: dict[str, Any] = {"encoder": options.audio, "head": head, "rank_correlation": ranks}
        if options.exact:
            pooled = {attribute: of_seeds(found[key_of(POOLED, attribute)]) for attribute in ATTRIBUTES}
            extra["pooled_first"], text = _apart(weights, pooled)
            tables.append(text)
        return Report(
            study=self.name,
            title=f"{self.title} of {options.audio}",
            intro="Weights of a softmax over all states of a frozen encoder, learned with a regression head for one "
            f"attribute alone; index 0 is the input of the first of {depth} transformer layers. {_ORDERS[head]} Mean "
            "over seeds; bars reach from the lowest to the highest seed. States are standardised by "
            "the train rows first, so that their size does not stand in the weights.",
            tables=tuple(tables),
            columns=("attribute", "layer", "weight", "lowest", "highest", "paper_level", "seeds"),
            rows=tuple(rows),
            claims=tuple(claims(weights)),
            drawing=draw(rows, options.audio, head),
            notes=(_correlated(ranks),),
            extra=extra,
            varies=frozenset({"attributes"}),
            departs=() if options.exact else ("layers are pooled before they are summed, not after",),
            compares=False,
        )


def key_of(head: str, attribute: str) -> str:
    """Return what a run is known by."""
    return f"{attribute}, {'summed, then pooled' if head == EXACT else 'pooled, then summed'}"


def of_seeds(record: Json) -> NDArray[np.float64]:
    """Return the audio layers' weights of each seed, [S, L]."""
    return np.array([run["layer_weights"]["audio"] for run in record["runs"]], dtype=np.float64)


def rank_correlations(weights: Mapping[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Return Spearman's rank correlation of mean weights with the order that the paper tells (``paper.layer_levels``).

    With ties at their mean rank; None for an attribute of which the paper tells none, or constant weights.
    """
    found: dict[str, float | None] = {}
    for attribute, levels in paper.layer_levels(len(next(iter(weights.values()))[0]) - 1).items():
        mean = weights[attribute].mean(axis=0)
        found[attribute] = spearman([mean[layer] for layer in levels], list(levels.values()))
    return found


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the rank correlation; None where one of the two is constant."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (a, b)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, equal values sharing their mean rank."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    ranks: NDArray[np.float64] = below + (equal + 1) / 2
    return ranks


def claims(weights: Mapping[str, NDArray[np.float64]]) -> Iterator[Claim]:
    """Judge what the paper says of Figure 2, from each seed's weights [S, L] by attribute."""
    depth = weights["arousal"].shape[1] - 1
    levels = paper.layer_levels(depth)
    how = "A t-interval over seeds: it is about training again on this corpus, not about another corpus."
    arousal, valence = weights["arousal"], weights["valence"]
    early = [layer for layer, level in levels["arousal"].items() if level]
    late = [layer for layer, level in levels["arousal"].items() if not level]
    yield claim(
        "shallow layers for arousal",
        f"Shallow layers (up to {max(early)}) are more important for arousal than deeper ones",
        [over_seeds(_mean(arousal, early) - _mean(arousal, late), what="mean weight, shallow less deep")]
        if late
        else [],
        paper="the first layers up to layer 4 are more important",
        how=how,
    )
    first = [layer for layer, level in levels["valence"].items() if level == 0]
    deep = [layer for layer, level in levels["valence"].items() if level]
    yield claim(
        "deep layers for valence",
        "Deeper layers are more important for valence than the first ones",
        [over_seeds(_mean(valence, deep) - _mean(valence, first), what="mean weight, deep less first")]
        if first and deep
        else [],
        paper="lower importance in the first few blocks",
        how=how,
    )
    peak = [layer for layer, level in levels["valence"].items() if level == 2]
    top = max(peak, key=lambda layer: float(valence[:, layer].mean()), default=0)
    rest = [layer for layer in range(depth + 1) if layer not in peak] if peak else []
    yield claim(
        "valence peaks late",
        f"Valence peaks at layer{'s' * (len(peak) > 1)} {' and '.join(map(str, peak)) or '-'}",
        [over_seeds(valence[:, top] - valence[:, layer], what=f"weight of layer {top} less {layer}") for layer in rest],
        paper="a peak at layers 9 and 10 of 12",
        how=how,
    )
    layers = np.arange(depth + 1)
    yield claim(
        "the opposite trend",
        "Valence is taken from deeper layers than arousal",
        [over_seeds(valence @ layers - arousal @ layers, what="mean layer, valence less arousal", unit=" layers")]
        if len(arousal) == len(valence)
        else [],
        paper="layer importance follows an opposite trend for valence",
        how=how,
    )


def _mean(weights: NDArray[np.float64], layers: list[int]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = weights[:, layers].mean(axis=1)
    return mean


def _rows(attribute: str, weights: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    levels = paper.layer_levels(weights.shape[1] - 1).get(attribute, {})
    for layer, column in enumerate(weights.T):
        yield {
            "attribute": attribute,
            "layer": layer,
            "weight": round(float(column.mean()), 6),
            "lowest": round(float(column.min()), 6),
            "highest": round(float(column.max()), 6),
            "paper_level": levels.get(layer),
            "seeds": len(column),
        }


def _table(weights: Mapping[str, NDArray[np.float64]], rows: list[dict[str, Any]]) -> str:
    count = next(iter(weights.values())).shape[1]
    lines = []
    for attribute in ATTRIBUTES:
        own = [row for row in rows if row["attribute"] == attribute]
        lines.append([attribute, *(number(row["weight"]) for row in own)])
    return "## Weights (mean over seeds)\n\n" + table(["layer", *map(str, range(count))], lines)


def _scores(found: Mapping[str, Json]) -> str:
    sides = [side for side in (*paper.SIDES, "development") if side in next(iter(found.values()))["summary"]]
    lines = []
    for attribute, record in found.items():
        cells = [record["summary"][side]["ccc"][attribute] for side in sides]
        lines.append([attribute, *(number(cell["mean"]) for cell in cells)])
    return "## CCC of these frozen systems\n\n" + table(["attribute", *sides], lines)


def _apart(
    exact: Mapping[str, NDArray[np.float64]], pooled: Mapping[str, NDArray[np.float64]]
) -> tuple[dict[str, Any], str]:
    """Tell how far pooling first moves the weights."""
    told: dict[str, Any] = {}
    lines = []
    for attribute in ATTRIBUTES:
        a, b = exact[attribute].mean(axis=0), pooled[attribute].mean(axis=0)
        told[attribute] = {
            "largest_difference": round(float(np.abs(a - b).max()), 6),
            "rank_correlation": spearman(a.tolist(), b.tolist()),
            "weights": [round(float(x), 6) for x in b],
        }
        rank = told[attribute]["rank_correlation"]
        lines.append([attribute, number(told[attribute]["largest_difference"]), number(rank, 2)])
    heads = ["attribute", "largest difference of a weight", "rank correlation of the two"]
    return told, "## Pooled first, against the paper's order\n\n" + table(heads, lines)


def _correlated(ranks: Mapping[str, float | None]) -> str:
    said = ", ".join(f"{attribute} {number(rank, 2)}" for attribute, rank in ranks.items())
    return (
        f"Rank correlation of the weights with what the paper tells of HuBERT base's layers: {said}. Its text orders "
        "them in levels alone (arousal: up to 4 before the others; valence: 9 and 10, then deep ones, then 1 to 4); "
        "those of an encoder with other than 12 layers are taken at the same share of its depth."
    )
