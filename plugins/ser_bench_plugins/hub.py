"""Any checkpoint of a type that the built-in encoders are made of, from the hub or a folder."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers.utils.hub import extract_commit_hash

from ser_bench.errors import WeightsError
from ser_bench.interface import AudioEncoderSpec, Regularisation, Source, TextEncoderSpec, Weights
from ser_bench_plugins import bert, speech, whisper
from ser_bench_plugins.pretrained import Checkpoint, Family

FAMILIES: dict[str, dict[str, Family]] = {"audio": speech.FAMILIES | whisper.FAMILIES, "text": bert.FAMILIES}


# What ``build_any`` reads of a checkpoint beside its weights.
_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
_ADDRESS = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)?)(?:@([A-Za-z0-9][A-Za-z0-9_./-]*))?"
)


def describe(kind: Literal["audio", "text"], address: str) -> AudioEncoderSpec | TextEncoderSpec:
    """Describe the checkpoint at an address, from its configuration alone.

    Args:
        kind: what it is wanted for.
        address: a folder, or a repository on the hub, which may be followed by ``@`` and a commit, branch or tag; the
            spec's source names the commit that was found. A folder's name, not its place, is in the spec's name.

    Raises:
        WeightsError: it is not there, or of a type that no encoder of this kind is made of.
    """
    folder = Path(address).expanduser()
    local = folder.is_dir() or address.startswith(("/", ".", "~"))
    match = _ADDRESS.fullmatch(address)
    if not local and match is None:
        raise WeightsError(
            f"{address} is no folder and no repository's name; expected hf:DIR, hf:OWNER/NAME or hf:OWNER/NAME@COMMIT."
        )
    repo, wanted = (folder.resolve(), None) if local or match is None else (match[1], match[2])
    checkpoint = _checkpoint(kind, repo, wanted)
    settings = _settings(kind, checkpoint)
    family = FAMILIES[kind][settings["model_type"]]
    files = {name: path for name in _FILES if (path := checkpoint.file(name)) is not None}
    commit = None if local else extract_commit_hash(str(files.get("config.json")), None)
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", repo.name).strip("-.") if isinstance(repo, Path) else repo
    make = AudioEncoderSpec if kind == "audio" else TextEncoderSpec
    return make(
        name=f"hf:{label or 'folder'}{f'@{commit[:8]}' if commit else ''}",
        summary=f"{settings['model_type']} checkpoint {label}",
        dim=int(family.model.config_class.from_dict(settings).hidden_size),
        depth=int(settings[family.depth]),
        source=Source() if local else Source(repo=str(repo), revision=commit),
        build=partial(build_any, kind, repo=repo, revision=commit or wanted),
        home=repo if isinstance(repo, Path) else None,
        files=files,
    )


def build_any(
    kind: Literal["audio", "text"],
    weights: Weights,
    *,
    repo: str | Path,
    revision: str | None = None,
    depth: int | None = None,
    regularisation: Regularisation,
) -> speech.Speech | whisper.Whisper | bert.Bert:
    """Build an encoder around a checkpoint: its own configuration, wave scaling and tokenizer.

    Args:
        kind: ``audio`` (wav2vec2, hubert, wavlm, data2vec-audio, whisper) or ``text`` (bert, distilbert, roberta,
            xlm-roberta).
        weights: ``pretrained`` reads ``repo``; ``random`` and ``tiny`` take its configuration alone; a folder is read
            in its place.
        repo: a repository on the hub; a ``Path`` is a folder.
        revision: a commit, branch or tag of the repository; None: its main branch.
        depth: transformer layers kept; None: all.
        regularisation: for training.

    Raises:
        WeightsError: it is not there, of a type that no encoder of this kind is made of, does not say how its input
            is made (wave scaling, tokenizer), or its weights do not fit its configuration.
    """
    checkpoint = _checkpoint(kind, weights, None) if isinstance(weights, Path) else _checkpoint(kind, repo, revision)
    settings = _settings(kind, checkpoint)
    common: dict[str, Any] = {"name": checkpoint.place, "depth": depth, "regularisation": regularisation}
    filled = None if weights in ("random", "tiny") else checkpoint
    if settings["model_type"] in speech.FAMILIES:
        settings["normalise"] = _normalises(checkpoint)
        return speech.assemble(settings, weights, filled, **common)
    if settings["model_type"] in whisper.FAMILIES:
        return whisper.assemble(settings, weights, filled, **common)
    return bert.assemble(settings, weights, filled, bert.own_words(checkpoint, settings["vocab_size"]), **common)


def _checkpoint(kind: str, repo: str | Path, revision: str | None) -> Checkpoint:
    types = ", ".join(sorted(FAMILIES[kind]))
    return Checkpoint(
        place=str(repo),
        local=isinstance(repo, Path),
        revision=revision,
        expected=f"one of the types {types}",
        folder="hf:DIR",
    )


def _settings(kind: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the checkpoint's configuration with the defaults of its type filled in."""
    given = checkpoint.configuration()
    found = given.get("model_type")
    if found not in FAMILIES[kind]:
        raise WeightsError(
            f"{checkpoint.place} is of the type {found!r}; {kind} encoders can be made of "
            f"{', '.join(sorted(FAMILIES[kind]))}. Choose another checkpoint, or write a plugin for this one: "
            "ser-bench plugins new."
        )
    defaults: dict[str, Any] = FAMILIES[kind][found].model.config_class.from_dict(given).to_dict()
    return defaults | given


def _normalises(checkpoint: Checkpoint) -> bool:
    said = checkpoint.normalises()
    if said is None:
        raise WeightsError(
            f"{checkpoint.place} has no preprocessor_config.json, which says whether the wave is brought to zero mean "
            'and unit variance first. Put one beside its config.json, with {"do_normalize": true} or false, as the '
            "model was trained."
        )
    return said
