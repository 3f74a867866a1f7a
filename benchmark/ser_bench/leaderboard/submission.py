"""What a record and its predictions must be before they are published: checked without labels, as hostile input.

``ser_bench.records`` checks a record for itself; here is what matters once others see it: nothing in it that nobody can
check, nothing private, nothing that gives labels away, and no score that its own predictions contradict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_bench import records, tables
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.partition import HIGHEST, LOWEST
from ser_bench.scoring.resampling import LEAST
from ser_bench.scoring.slices import predicted_bins
from ser_bench.scoring.utterances import coarse_limits
from ser_bench.strict import strings

_PRIVATE = {
    "an absolute path": re.compile(
        r"(?:^|[\s\"'=:(,])(?:~|/(?:home|Users|root|mnt|media|data|scratch|tmp|var|opt|srv|usr|work|private|gpfs|lustre))/"
        r"|^/[^/\s]|[\s\"'=(,]/\w[\w.-]*/\w|(?:^|[^A-Za-z])[A-Za-z]:[\\/](?!/)|\\\\[A-Za-z0-9]|file://"
    ),
    "an e-mail address": re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}"),
    "a host's name": re.compile(
        r"\b[a-z0-9-]+\.(?:local|lan|internal|localdomain|corp|intranet|cluster)\b", re.IGNORECASE
    ),
    "an utterance's name": re.compile(r"MSP-PODCAST_\w*\d{4}", re.IGNORECASE),
    "a rater's name": re.compile(r"\bWORKER\d+"),
}
_UTTERANCE = {"msp-podcast": re.compile(r"MSP-PODCAST_[A-Za-z0-9_]+\.wav")}
_OF_THE_MACHINE = ("environment", "speed")
_MILLIONTHS = 2e-6  # published values have six decimals


def check_record(record: Mapping[str, Any], *, where: str, names: Sequence[str] = ()) -> None:
    """Refuse a valid record that may not be published.

    Args:
        record: as ``records.validate`` accepts it.
        where: for messages.
        names: of this machine and its user, which it may not hold.

    Raises:
        RecordError: a field is unknown; something is private; values are finer than what keeps labels in.
    """
    fault = _unknown_field(record) or _private(record, names) or _too_fine(record)
    if fault is not None:
        raise RecordError(f"{where} cannot be published: {fault}")


def check_predictions(
    record: Mapping[str, Any], one: Mapping[str, Any], columns: tables.Columns, *, where: str
) -> None:
    """Refuse predictions that are not those of the record, or that contradict it.

    Args:
        record: a valid record.
        one: one of its runs.
        columns: that run's predictions.
        where: for messages.

    Raises:
        RecordError: another digest; partitions or utterances that are not the scored ones; attributes that were not
            trained; a score, a calibration or a count that these predictions cannot give.
    """
    if tables.digest(columns) != one["predictions_sha256"]:
        raise RecordError(
            f"{where} does not have the digest that the record gives. Run again; predictions are never edited."
        )
    partitions = np.array(columns["partition"])
    _check_utterances(record, one, columns, partitions, where)
    trained = record["recipe"]["attributes"]
    for attribute in ATTRIBUTES:
        given = bool(columns[attribute]) and columns[attribute][0] is not None
        if given != (attribute in trained):
            raise RecordError(
                f"{where} has {'' if given else 'no '}predictions of {attribute}, and the record trained "
                f"{', '.join(trained)}. Add the run as it was made."
            )
    for name, scores in one["scores"].items():
        here = np.flatnonzero(partitions == name)
        values = {a: np.array([columns[a][i] for i in here.tolist()], dtype=np.float64) for a in trained}
        fault = _contradiction(scores, values)
        if fault is not None:
            raise RecordError(f"{where} contradicts the record on {name}: {fault}. Add the run as it was made.")


def names_by_partition(columns: tables.Columns) -> dict[str, set[str]]:
    """Return the utterances of each partition."""
    found: dict[str, set[str]] = {}
    for name, partition in zip(columns["utterance"], columns["partition"], strict=True):
        found.setdefault(partition, set()).add(name)
    return found


def check_same_utterances(
    record: Mapping[str, Any], columns: tables.Columns, other: Mapping[str, Any], its: tables.Columns, *, where: str
) -> None:
    """Compare the utterances with those of a record that was scored on the same ones.

    Raises:
        RecordError: some are missing or unknown.
    """
    mine, known = names_by_partition(columns), names_by_partition(its)
    for name, block in record["runs"][0]["resampling"].items():
        same = other["runs"][0]["resampling"].get(name)
        if same is None or same["digest"] != block["digest"] or mine[name] == known.get(name):
            continue
        missing, unknown = sorted(known[name] - mine[name]), sorted(mine[name] - known[name])
        raise RecordError(
            f"{where} does not hold the utterances of {name} that other records of these labels hold: "
            f"{len(missing):,} missing (first: {(missing or ['-'])[0]}), {len(unknown):,} unknown (first: "
            f"{(unknown or ['-'])[0]}). Predict each utterance of the partition exactly once."
        )


def _unknown_field(record: Mapping[str, Any]) -> str | None:
    """Find a field that the schema does not know: nobody could check what stands in it."""
    known = records.schema()["properties"]
    corpus = records.schema()["$defs"]["corpus"]["properties"]
    places = [("its top", record, known), ("system", record["system"], known["system"]["properties"])]
    places += [("corpus", record["corpus"], corpus)]
    if "trained" in record:
        places.append(("trained/corpus", record["trained"]["corpus"], corpus))
    run = known["runs"]["items"]["properties"]
    places += [(f"runs/{number}", one, run) for number, one in enumerate(record["runs"])]
    for place, value, expected in places:
        for key in value.keys() - expected.keys():
            return f"{place} has the field {key[:40]!r}, which nobody can check. Take it out."
    return None


def _private(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    whole = [re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE) for name in names]
    for place, text in strings({key: value for key, value in record.items() if key != "signature"}):
        for what, pattern in _PRIVATE.items():
            if pattern.search(text):
                return f"{place} holds {what} ({text[:60]!r}). Take it out of what the run is made of, and run again."
        if place.startswith(_OF_THE_MACHINE) and any(name.search(text) for name in whole):
            return f"{place} holds the name of this machine or its user ({text[:60]!r}). Take it out, and run again."
    return None


def _too_fine(record: Mapping[str, Any]) -> str | None:
    """Find values with more digits than ``scoring.resampling.coarsen`` leaves: those are equations in the labels."""
    for number, one in enumerate(record["runs"]):
        for name, block in one["resampling"].items():
            place, sizes = f"runs/{number}/resampling/{name}", block["sizes"]
            if len(sizes) > 1 and min(sizes) < LEAST:
                return (
                    f"{place} leaves out a cluster of {min(sizes)} utterances, expected {LEAST} at least, which keeps "
                    "labels in. Score again with `ser-bench score`."
                )
            half = sum(sizes) / 2
            for attribute in ATTRIBUTES:
                if block[attribute]:
                    steps = (np.array(block[attribute]) - block["full"][attribute]) * half
                    if np.abs(steps - np.rint(steps)).max() > _MILLIONTHS * half + 1e-6:
                        return (
                            f"{place}/{attribute} has values finer than 2 / {sum(sizes)}, which gives labels away. "
                            "Score again with `ser-bench score`."
                        )
        for name, scores in one["scores"].items():
            count = sum(one["resampling"][name]["sizes"])
            for column, cell in scores["ccc"].items():
                limits = (cell or {}).get("ci95_utterances")
                if limits != coarse_limits(limits, count):
                    return (
                        f"runs/{number}/scores/{name}/ccc/{column}/ci95_utterances is {limits}, expected multiples of "
                        f"1 / (4 sqrt {count}) in three decimals, which keeps labels in. Score again with `ser-bench "
                        "score`."
                    )
            for place, value, digits in _rounded(scores):
                if round(value, digits) != value:
                    return (
                        f"runs/{number}/scores/{name}/{place} is {value}, expected {digits} decimals, which keeps "
                        "labels in. Score again with `ser-bench score`."
                    )
    return None


def _rounded(scores: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """Return (place, value, decimals it may have) of slices and calibration."""
    found = []
    for kind, slices in scores["slices"].items():
        if kind != "speakers":
            found += [
                (f"slices/{kind}/{key}/{a}", entry[a], 3)
                for key, entry in slices.items()
                for a in ATTRIBUTES
                if entry.get(a) is not None
            ]
    for attribute, bins in scores["calibration"].items():
        found += [
            (f"calibration/{attribute}/{k}/{word}", entry[word], 2)
            for k, entry in enumerate(bins or ())
            for word in ("prediction", "label")
        ]
    return found


def _check_utterances(
    record: Mapping[str, Any], one: Mapping[str, Any], columns: tables.Columns, partitions: Any, where: str
) -> None:
    counts = {name: int((partitions == name).sum()) for name in set(columns["partition"])}
    listed = record["corpus"]["partitions"]
    expected = {name: listed[name]["scored"] for name in one["scores"]}
    if listed.get("test3", {}).get("scored"):
        expected["test3"] = listed["test3"]["scored"]
    if counts != expected:
        told = [f"{counts.get(n, 0):,} of {n} (expected {expected.get(n, 0):,})" for n in sorted(counts | expected)]
        raise RecordError(f"{where} predicts {', '.join(told)} utterances. Predict each scored one exactly once.")
    form = _UTTERANCE.get(record["corpus"]["name"])
    strange = [name for name in columns["utterance"] if form is not None and not form.fullmatch(name)]
    if strange:
        raise RecordError(
            f"{where} predicts {len(strange):,} utterances that no release of MSP-Podcast has (first: {strange[0]})."
        )


def _contradiction(scores: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Find a statement of one partition's scores that predictions alone refute."""
    outside = sum(int(((v < LOWEST) | (v > HIGHEST)).sum()) for v in values.values())
    if outside != scores["outside_range"]:
        return f"{outside:,} values lie outside 1..7, and it says {scores['outside_range']:,}"
    for attribute, v in values.items():
        if np.ptp(v) == 0 and scores["ccc"][attribute]["value"] != 0:
            return (
                f"the predictions of {attribute} are constant, and it says a CCC of {scores['ccc'][attribute]['value']}"
            )
        made, stated = predicted_bins(v), scores["calibration"].get(attribute)
        if stated is None or made is None:
            if (stated is None) != (made is None):
                return f"{len(v):,} utterances have {'no ' if made is None else ''}calibration of {attribute}"
            continue
        for k, (bin_made, bin_stated) in enumerate(zip(made, stated, strict=False)):
            if bin_made[1] != bin_stated["count"] or abs(bin_made[0] - bin_stated["prediction"]) > 0.011:
                return (
                    f"bin {k} of {attribute} has a mean prediction of {bin_made[0]:.2f} over {bin_made[1]}, and it "
                    f"says {bin_stated['prediction']} over {bin_stated['count']}"
                )
        if len(made) != len(stated):
            return f"{attribute} has {len(made)} calibration bins, and it says {len(stated)}"
    return None
