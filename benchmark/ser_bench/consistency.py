"""Whether a well-formed record says one thing: its recipe, scores, resampling values, seeds and counts agree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.resampling import FEW
from ser_bench.scoring.seeds import over_seeds

COLUMNS = (*ATTRIBUTES, "mean")
TOLERANCE = 2e-6  # scores have six decimals; another machine may round the last of them the other way
_PAIRED = ("metric", "digest", "sizes")
"""What the resampling blocks of all seeds share: the same utterances, in the same clusters, by the same metric."""


def trained_attributes(record: Mapping[str, Any]) -> list[str]:
    """Return the attributes that a run was trained on, which alone have scores: those of its last stage."""
    recipe: Mapping[str, Any] = record.get("head_recipe", record["recipe"])
    return list(recipe["attributes"])


def contradiction(record: Mapping[str, Any]) -> str | None:
    """Find where a well-formed record says two things; returns the place and what stands there."""
    first, listed = record["runs"][0], record["corpus"]["partitions"]
    names, trained = first["scores"].keys(), trained_attributes(record)
    seeds: set[int] = set()
    for number, run in enumerate(record["runs"]):
        if run["seed"] in seeds:
            return f"runs/{number}/seed: {run['seed']} is there twice"
        seeds.add(run["seed"])
        if not (run["scores"].keys() == run["resampling"].keys() == names and names <= listed.keys()):
            of = [", ".join(keys) for keys in (run["scores"], run["resampling"], names, listed)]
            return (
                f"runs/{number}: scores of {of[0]}, resampling of {of[1]}, the first run's of {of[2]}, out of {of[3]}"
            )
        for name in names:
            block, own = run["resampling"][name], first["resampling"][name]
            for key in _PAIRED:
                if block[key] != own[key]:
                    told = f"{str(block[key])[:60]}, and the first run's is {str(own[key])[:60]}"
                    return f"runs/{number}/resampling/{name}/{key}: {told}; the seeds of a run share it"
            what = _block_contradiction(run["scores"][name], block, listed[name]["scored"], trained)
            if what is not None:
                return f"runs/{number}/scores/{name}: {what}"
    return _counts_contradiction(record) or _wer_contradiction(record)


def _block_contradiction(
    scores: Mapping[str, Any], block: Mapping[str, Any], scored: int, trained: Sequence[str]
) -> str | None:
    sizes, clusters = block["sizes"], scores["clusters"]
    if sum(sizes) != scored or not len(sizes) == block["clusters"] == clusters["count"]:
        return (
            f"{sum(sizes)} utterances in {len(sizes)} clusters, expected {scored} (scored) in {block['clusters']} "
            f"(resampling) and {clusters['count']} (clusters)"
        )
    if clusters["few"] != (clusters["count"] < FEW):
        return f"{clusters['count']} clusters are {'' if clusters['few'] else 'not '}called few, and under {FEW} are"
    for column in COLUMNS:
        cell, left_out = scores["ccc"][column], block[column]
        absent = cell is None and left_out is None and block["full"][column] is None
        if not absent and (cell is None or left_out is None or len(left_out) != (len(sizes) if len(sizes) > 1 else 0)):
            return f"{column} has a score without one resampling value for each cluster, or the reverse"
        if absent == (column in trained or column == "mean"):
            return f"{column} has {'no' if absent else 'a'} score, and the recipe trains {', '.join(trained)}"
        if absent:
            continue
        made = {"value": block["full"][column], "ci95": rounded(over_seeds([block], column))}
        differing = edited({key: cell[key] for key in made}, made, column, by="its resampling")
        if differing:
            return differing[0]
    # What is ranked is the mean, so it must follow from the attributes, whose values the predictions can refute.
    of_each = np.array([[block["full"][a], *block[a]] for a in trained])
    apart = np.abs(of_each.mean(axis=0) - [block["full"]["mean"], *block["mean"]])
    if apart.max() > TOLERANCE:
        place = int(apart.argmax())
        which = f"without cluster {place - 1}" if place else "over all utterances"
        return f"mean is no mean of {', '.join(trained)} {which} in its resampling ({apart.max():.6f} away)"
    return None


def _counts_contradiction(record: Mapping[str, Any]) -> str | None:
    listed = record["corpus"]["partitions"]
    for name, counts in listed.items():
        # A system that reads text leaves test3, which has none, out.
        left_out = name == "test3" and counts["scored"] == 0
        if counts["listed"] != counts["scored"] + counts["missing"] and not left_out:
            told = f"{counts['listed']} listed, {counts['scored']} scored, {counts['missing']} missing"
            return f"corpus/partitions/{name}: {told}, which do not add up"
        outside = sum(run["scores"][name]["outside_range"] for run in record["runs"] if name in run["scores"])
        if counts["outside_range"] != outside:
            return f"corpus/partitions/{name}/outside_range: {counts['outside_range']}, and its runs have {outside}"
    for name, found in record.get("ceiling", {}).items():
        scored = listed.get(name, {"scored": 0})["scored"]
        if found is not None and found["utterances"] > scored:
            return f"ceiling/{name}/utterances: {found['utterances']}, and {scored} were scored"
    return None


def _wer_contradiction(record: Mapping[str, Any]) -> str | None:
    for name, wer in (record["transcripts"]["wer"] or {}).items():
        kinds = [wer[kind] for kind in ("substitutions", "deletions", "insertions")]
        value = round(wer["errors"] / wer["words"], 6) if wer["words"] else None
        if sum(kinds) != wer["errors"] or wer["value"] != value:
            return f"transcripts/wer/{name}: {wer['value']} of {wer['errors']} errors ({kinds}) in {wer['words']} words"
    return None


def rounded(interval: Sequence[float] | None) -> list[float] | None:
    """Round limits as records hold them: six decimals."""
    return None if interval is None else [round(limit, 6) for limit in interval]


def edited(stands: dict[str, Any], made: dict[str, Any], place: str, *, by: str) -> list[str]:
    """Say where what a record holds differs from what it must be by another part of it."""
    return differences(stands, made, place, words=("in it", f"by {by}"), tolerance=TOLERANCE)


def differences(
    old: Any, new: Any, place: str = "", *, words: tuple[str, str] = ("there", "here"), tolerance: float = 0.0
) -> list[str]:
    """Say where two JSON values differ; numbers may, by the tolerance."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys: list[Any] = sorted(old.keys() | new.keys())
        pairs = [(f"{place}.{key}".lstrip("."), old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{place}[{number}]", *pair) for number, pair in enumerate(zip(old, new, strict=True))]
    else:
        close = isinstance(old, float) and isinstance(new, float) and abs(old - new) <= tolerance
        differ = f"{place} is {json.dumps(old)} {words[0]} and {json.dumps(new)} {words[1]}"
        return [] if old == new or close else [differ]
    return [line for at, a, b in pairs for line in differences(a, b, at, words=words, tolerance=tolerance)]
