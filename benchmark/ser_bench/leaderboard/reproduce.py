"""The command that makes a record again, read out of the record."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def commands(record: Mapping[str, Any]) -> list[str]:
    """Return the commands that make this record again; a release's folder is called ``DIR``.

    Every value of the recipe is given, also those that the system would choose by itself: what a system's recipe says
    may differ in another version of it.
    """
    trained = record.get("trained", {"corpus": record["corpus"], "frames": record["frames"]})
    reads_text = "text" in record["system"]["reads"]
    source = record["transcripts"]["test" if record["strategy"] == "none" else "train"]
    first = [
        ["ser-bench", "run", *_system(record["system"]), *_weights(record["system"])],
        [*_corpus(trained["corpus"]), *_missing(trained["corpus"])],
        ["--transcripts", source] if reads_text else [],
        ["--strategy", record["strategy"], "--seed", *(str(run["seed"]) for run in record["runs"])],
        _frames(record["first_stage"]["frames"] if "first_stage" in record else trained["frames"]),
        ["--set", *(word for key in ("recipe", "head_recipe") if key in record for word in _recipe(key, record[key]))],
    ]
    if not _scored_elsewhere(record):
        return [_joined(first)]
    condition = record["corpus"]["condition"]
    second = [
        ["ser-bench", "score", "--run", "RUN", *_corpus(record["corpus"]), *_missing(record["corpus"])],
        ["--transcripts", record["transcripts"]["test"]] if reads_text else [],
        ["--condition", condition] if condition != "clean" else [],
        _frames(record["frames"]),
    ]
    return [_joined([*first, ["--out", "RUN"]]), _joined(second)]


def _joined(groups: Sequence[Sequence[str]]) -> str:
    """Spell a command over several lines, a group of options on each."""
    return " \\\n  ".join(shlex.join(group) for group in groups if group)


def _scored_elsewhere(record: Mapping[str, Any]) -> bool:
    texts = {record["transcripts"][k] for k in ("train", "test")}
    other_text = "text" in record["system"]["reads"] and len(texts) > 1 and record["strategy"] != "none"
    return "trained" in record or other_text or record["corpus"]["condition"] != "clean"


def _system(system: Mapping[str, Any]) -> list[str]:
    """Return the options that name a system: ``name``, ``name[depth]``, or ``audio[depth]+text>head``."""
    cut = re.search(r"\[(\d+)\]", system["name"])
    depth = ["--depth", cut[1]] if cut else []
    if ">" not in system["name"]:
        return ["--plugin", re.sub(r"\[\d+\]$", "", system["name"]), *depth]
    parts = {part["kind"]: _address(part) for part in system["parts"]}
    named = [word for kind in ("audio", "text") if kind in parts for word in (f"--{kind}", parts[kind])]
    return [*named, "--head", system["head"] or "concat", *depth]


def _address(part: Mapping[str, Any]) -> str:
    """Return the name that a part is asked for by; of one that a family described, the whole commit or a folder."""
    family, colon, _ = part["name"].partition(":")
    if not colon:
        return str(part["name"])
    revision = f"@{part['revision']}" if part["revision"] else ""
    return f"{family}:{part['repo']}{revision}" if part["repo"] else f"{family}:DIR"


def _corpus(corpus: Mapping[str, Any]) -> list[str]:
    if corpus["name"] == "demo":
        return ["--corpus", "demo"]
    return ["--corpus", "DIR", *(["--release", corpus["release"]] if corpus["release"] else [])]


def _frames(frames: str) -> list[str]:
    kept = ["--frames", "off"] if frames.endswith("-off") else []
    return [*kept, *(["--frames-dtype", "float32"] if frames.startswith("f32") else [])]


def _missing(corpus: Mapping[str, Any]) -> list[str]:
    return ["--allow-missing"] if any(part["missing"] for part in corpus["partitions"].values()) else []


def _weights(system: Mapping[str, Any]) -> list[str]:
    """Return the weights that are not the default; a local folder is named by its digest."""
    found = {
        part["kind"]: part["weights"]
        for part in system["parts"]
        if part["weights"] not in ("pretrained", "scratch") and part["kind"] != "system" and not _is_folder(part)
    }
    whole = [part["weights"] for part in system["parts"] if part["kind"] == "system"]
    given = [word for word in whole if word not in ("pretrained", "scratch")]
    given += [f"{kind}={label}" for kind, label in found.items()]
    return ["--weights", *given] if given else []


def _is_folder(part: Mapping[str, Any]) -> bool:
    """Say whether the folder that names a part is also where its weights are from."""
    return ":" in part["name"] and part["repo"] is None


def _recipe(key: str, recipe: Mapping[str, Any]) -> list[str]:
    flat = {key: value for key, value in recipe.items() if key != "regularisation"}
    flat |= {f"regularisation.{key}": value for key, value in recipe["regularisation"].items()}
    return [f"{key}.{field}={_spelt(value)}" for field, value in sorted(flat.items())]


def _spelt(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)
