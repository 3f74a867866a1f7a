"""Find a Whisper model: on the hub by name, or in a folder that CTranslate2 can read."""

from __future__ import annotations

import difflib
import hashlib
import os
import shlex
from pathlib import Path
from typing import NamedTuple

from ser_bench.errors import TranscriptError

_PREFIX = "whisper-"
_NEEDED = ("config.json", "model.bin", "tokenizer.json")
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
_CONTENT = f"{', '.join(_NEEDED)} and {' or '.join(_VOCABULARIES)}"


class Model(NamedTuple):
    """A model on this machine."""

    folder: Path
    asr: str
    """What it was asked for as: a name, or the last part of a folder's path."""
    local: bool
    """Whether it was asked for as a folder."""

    def digest(self) -> str:
        """Return the SHA-256 over name and content of all files that decoding reads.

        Raises:
            TranscriptError: one cannot be read.
        """
        digest = hashlib.sha256()
        for name in sorted((*_NEEDED, *_VOCABULARIES)):
            try:
                with (self.folder / name).open("rb") as file:
                    digest.update(f"{name}\t{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
            except FileNotFoundError:  # one of the two vocabularies
                continue
            except OSError as cause:
                raise TranscriptError(
                    f"cannot read {self.folder / name} ({cause.strerror}). Make it readable."
                ) from cause
        return digest.hexdigest()


def find_model(asr: str | Path) -> Model:
    """Return the model that ``asr`` names: ``whisper-`` and one of faster-whisper's names, or a folder.

    A string that is a name is never taken for a folder; a ``Path``, or a string such as ``./whisper-tiny``, always is.

    Raises:
        TranscriptError: there is no such model, its folder lacks a file, or the hub cannot be reached.
    """
    if isinstance(asr, str) and asr.startswith(_PREFIX) and asr in known_names():
        found = Model(_fetched(asr), asr, local=False)
    else:
        folder = Path(asr).expanduser()
        if not folder.is_dir():
            raise _unknown(asr)
        found = Model(folder, folder.absolute().name, local=True)
    _check(found.folder)
    return found


def known_names() -> list[str]:
    """Return the names of models that the hub has."""
    from faster_whisper import available_models

    return [_PREFIX + name for name in available_models()]


def _unknown(asr: str | Path) -> TranscriptError:
    if isinstance(asr, Path) or os.sep in asr:
        return TranscriptError(
            f"there is no folder {asr}; expected one with {_CONTENT}, or a model's name such as whisper-tiny. Correct"
            " --asr."
        )
    names = known_names()
    bare = {name.removeprefix(_PREFIX): name for name in names}
    near = difflib.get_close_matches(asr, [*names, *bare], n=1)
    hint = f" Did you mean '{bare.get(near[0], near[0])}'?" if near else ""
    return TranscriptError(
        f"'{asr}' is neither a folder nor a model that is known by name: {', '.join(names)}.{hint} Correct --asr."
    )


def _fetched(asr: str) -> Path:
    from faster_whisper import download_model

    try:
        return Path(download_model(asr.removeprefix(_PREFIX)))
    except Exception as cause:  # the hub's client raises its own, its transport's and the system's
        raise TranscriptError(
            f"cannot fetch {asr} from the hub ({type(cause).__name__}: {first_line(cause)}). Without a network give"
            f" --asr the folder of a CTranslate2 Whisper model: one with {_CONTENT}."
        ) from cause


def _check(folder: Path) -> None:
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        missing.append(" or ".join(_VOCABULARIES))
    if "model.bin" in missing and any([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        words = ["ct2-transformers-converter", "--model", str(folder), "--output_dir", f"{folder.name}-ct2"]
        convert = shlex.join([*words, "--copy_files", "tokenizer.json", "--quantization", "float16"])
        raise TranscriptError(
            f"{folder} is a transformers checkpoint, expected a CTranslate2 model. Convert it with"
            f" `{convert}`, and give --asr that folder."
        )
    if missing:
        raise TranscriptError(
            f"{folder} is not the folder of a CTranslate2 Whisper model: it has no {', no '.join(missing)}; expected"
            f" are {_CONTENT}. Copy what is missing from where the model came from (tokenizer.json also stands beside"
            " the checkpoint that it was converted from)."
        )


def first_line(cause: BaseException) -> str:
    """Return what an error says, in one line."""
    return next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__
