"""What a record and its predictions must be before they are published: checked without labels, as hostile input.

``ser_bench.records`` checks a record for itself; here is what matters once others see it: nothing in it that nobody can
check, nothing private, nothing that gives labels away, and no score that its own predictions contradict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ser_bench import records, tables
from ser_bench.consistency import trained_attributes
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES
from ser_bench.scoring.ceiling import mean_of
from ser_bench.scoring.partition import HIGHEST, LOWEST
from ser_bench.scoring.resampling import LEAST, coarsen
from ser_bench.scoring.slices import LEAST_SPEAKERS, coarse_score, predicted_bins
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
        RecordError: a field is unknown; something is private; values are finer than what keeps labels in; or no run
            says such things of its weights, modalities or corpus.
    """
    fault = _unknown_field(record) or _private(record, names) or _too_fine(record) or _untrue(record)
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
    trained = trained_attributes(record)
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
    record: Mapping[str, Any], columns: tables.Columns, known: dict[tuple[str, str], set[str]], *, where: str
) -> None:
    """Compare the utterances with those of records that were scored on the same ones.

    Args:
        record: a valid record.
        columns: predictions of one of its runs, which were checked.
        known: (partition, digest of its clusters) -> utterances; takes those of this record that are not there yet, so
            whoever is trusted most comes first.
        where: for messages.

    Raises:
        RecordError: some are missing or unknown.
    """
    mine = names_by_partition(columns)
    keys = {name: (name, block["digest"]) for name, block in record["runs"][0]["resampling"].items()}
    for name, key in keys.items():
        expected = known.get(key, mine[name])
        if mine[name] == expected:
            continue
        missing, unknown = sorted(expected - mine[name]), sorted(mine[name] - expected)
        raise RecordError(
            f"{where} does not hold the utterances of {name} that other records of these labels hold: "
            f"{len(missing):,} missing (first: {(missing or ['-'])[0]}), {len(unknown):,} unknown (first: "
            f"{(unknown or ['-'])[0]}). Predict each utterance of the partition exactly once."
        )
    for name, key in keys.items():
        known.setdefault(key, mine[name])


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


def _untrue(record: Mapping[str, Any]) -> str | None:
    """Find what a record says of itself that no run says."""
    system = record["system"]
    kinds, weights = [p["kind"] for p in system["parts"]], {p["kind"]: p["weights"] for p in system["parts"]}
    if kinds != ["system"] and kinds != system["reads"]:
        told = ", ".join(system["reads"]), ", ".join(kinds)
        return f"system/reads is {told[0]}, and its parts are {told[1]}. Add the run as it was made."
    distinct = sorted(set(weights.values()))
    made = distinct[0] if len(distinct) == 1 else "+".join(f"{part}={weights[part]}" for part in kinds)
    if system["weights"] != made:
        return f"system/weights is {system['weights']}, and its parts have {made}. Add the run as it was made."
    for place, corpus in (("corpus", record["corpus"]), ("trained/corpus", record.get("trained", {}).get("corpus"))):
        if corpus is None:
            continue
        fault = _unlike_known(corpus)
        if fault is not None:
            return f"{place} {fault}. Add the run as it was made."
    return None


def _unlike_known(corpus: Mapping[str, Any]) -> str | None:
    """Find where a corpus is called more than what is known of releases says; an older version may have known less."""
    from ser_bench.corpus import known  # here, since it costs those who only render

    name = known.DIGESTS.get(corpus["labels_sha256"])
    if corpus["name"] != (name or "msp-podcast"):
        return f"has the name {corpus['name']}, and its labels are those of {name or 'no made-up release'}"
    counts = {part: count["listed"] for part, count in corpus["partitions"].items() if part != "test3"}
    confirmed = {"unconfirmed": True, "digest known": name is not None}
    confirmed["counts match"] = counts == known.labelled(corpus["release"])
    if not confirmed[corpus["identity"]]:
        told = f"release {corpus['release']}, its labels and its counts do not say so"
        return f"has the identity '{corpus['identity']}', and {told}"
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
    """Find values with more digits than a run leaves (docs/statistics.md): those are equations in the labels."""
    again = "which keeps labels in. Score again with `ser-bench score`."
    for name, found in record.get("ceiling", {}).items():
        for place, value, expected in _raters(found) if found else ():
            if value != expected:
                return f"ceiling/{name}/{place} is {value}, expected {expected}, {again}"
    for number, one in enumerate(record["runs"]):
        for name, block in one["resampling"].items():
            place, sizes = f"runs/{number}/resampling/{name}", block["sizes"]
            if len(sizes) > 1 and min(sizes) < LEAST:
                return f"{place} leaves out a cluster of {min(sizes)} utterances, expected {LEAST} at least, {again}"
            for column in (*ATTRIBUTES, "mean"):
                known = [value for value in (block["full"][column], *(block[column] or ())) if value is not None]
                if any(round(value, 6) != value for value in known):
                    return f"{place}/{column} has values of more than 6 decimals, {again}"
            half = sum(sizes) / 2
            for attribute in ATTRIBUTES:
                if block[attribute]:
                    steps = (np.array(block[attribute]) - block["full"][attribute]) * half
                    if np.abs(steps - np.rint(steps)).max() > _MILLIONTHS * half + 1e-6:
                        return f"{place}/{attribute} has values finer than 2 / {sum(sizes)}, {again}"
        for name, scores in one["scores"].items():
            count = sum(one["resampling"][name]["sizes"])
            for column, cell in scores["ccc"].items():
                limits = (cell or {}).get("ci95_utterances")
                if limits != coarse_limits(limits, count):
                    return (
                        f"runs/{number}/scores/{name}/ccc/{column}/ci95_utterances is {limits}, expected multiples of "
                        f"1 / (4 sqrt {count}) in three decimals, {again}"
                    )
            for place, value, expected in (*_slices(scores), *_speakers(scores), *_bins(scores)):
                if value != expected:
                    return f"runs/{number}/scores/{name}/{place} is {value}, expected {expected}, {again}"
    return None


Found = Iterator[tuple[str, float | None, float | None]]
"""Place, what stands there, and what a run makes of it: the same."""


def _raters(found: Mapping[str, Any]) -> Found:
    for word in ("one", "simulated"):
        values = [(found[attribute] or {}).get(word) for attribute in ATTRIBUTES]
        for attribute, value in zip(ATTRIBUTES, values, strict=True):
            yield f"{attribute}/{word}", value, coarse_score(value, found["utterances"])
        yield f"mean/{word}", (found["mean"] or {}).get(word), mean_of(values)


def _slices(scores: Mapping[str, Any]) -> Found:
    for kind, slices in scores["slices"].items():
        for key, entry in slices.items() if kind != "speakers" else ():
            for attribute in ATTRIBUTES:
                value = entry.get(attribute)
                yield f"slices/{kind}/{key}/{attribute}", value, coarse_score(value, entry["count"])


def _speakers(scores: Mapping[str, Any]) -> Found:
    spread = scores["slices"]["speakers"]
    for attribute in ATTRIBUTES:
        for quantile, value in (spread.get(attribute) or {}).items():
            enough = spread["count"] >= LEAST_SPEAKERS
            yield f"slices/speakers/{attribute}/{quantile}", value, round(value, 2) if enough else None


def _bins(scores: Mapping[str, Any]) -> Found:
    for attribute, bins in scores["calibration"].items():
        for k, entry in enumerate(bins or ()):
            place, label = f"calibration/{attribute}/{k}", entry["label"]
            yield f"{place}/prediction", entry["prediction"], round(entry["prediction"], 2)
            yield f"{place}/label", label, round(float(coarsen(np.array(label), entry["count"])), 2)


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
