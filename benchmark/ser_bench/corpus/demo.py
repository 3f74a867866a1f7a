"""The demo release: a small synthetic one in MSP-Podcast's layout that comes with the package.

820 utterances of synthetic speech in ``demo.zip`` (Ogg/Opus and one JSON; made by ``tools/make_demo.py``, which says
what is in it), written out as a v1.10 tree: ``Audio/``, ``Labels/``, ``Transcripts/``, ``Partitions.txt``. For trying
things out; a score on it is no result.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ser_bench.cache import cache_root
from ser_bench.errors import CorpusError
from ser_bench.interface import SAMPLE_RATE

_ZIP = Path(__file__).with_name("demo.zip")
_CONSENSUS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
_WAV_HEADER = 44
"""Bytes before the samples of a PCM wav file."""


def demo_digest() -> str:
    """Return the SHA-256 of the packed demo release, 64 hexadecimal digits."""
    return hashlib.sha256(_ZIP.read_bytes()).hexdigest()


def cached_demo(cache: Path | None = None) -> Path:
    """Return the release unpacked in the cache, unpacking it the first time (see ``unpack_demo``)."""
    return unpack_demo(cache_root(cache) / f"demo-{demo_digest()[:12]}")


def unpack_demo(folder: Path) -> Path:
    """Write the demo release to ``folder``, and return ``folder``.

    The folder appears whole or not at all. Where the release already stands, nothing is touched; files beside its own
    are left alone.

    Args:
        folder: absent, empty, or an earlier copy; missing parents are made. About 90 MB.

    Raises:
        CorpusError: ``folder`` holds something else, or a copy that is incomplete or was changed.
    """
    with zipfile.ZipFile(_ZIP) as archive:
        content = json.loads(archive.read("demo.json"))
        if not _free(folder):
            _check(folder, content)
            return folder
        # Its own name, so that two processes never write to one folder; a sibling, so that it can be renamed.
        temporary = folder.with_name(f".{folder.name}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            _write(temporary, archive, content)
            temporary.replace(folder)
        except OSError:
            # Another process may have been faster; its copy serves as well.
            if _free(folder):
                raise
            _check(folder, content)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _free(folder: Path) -> bool:
    """Tell whether ``folder`` is absent or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _check(folder: Path, content: dict[str, Any]) -> None:
    """Refuse a folder that does not hold the whole release: texts by their bytes, wavs by their size."""
    texts = _texts(content)
    wrong = [name for name, data in texts.items() if not _holds(folder / name, data)]
    for row in content["utterances"]:
        path = folder / "Audio" / row["name"]
        if not path.is_file() or path.stat().st_size != _WAV_HEADER + 2 * row["samples"]:
            wrong.append(f"Audio/{row['name']}")
    if wrong:
        total = len(texts) + len(content["utterances"])
        raise CorpusError(
            f"{folder} exists and is not this version's demo release: {len(wrong):,} of its {total:,} files are missing"
            f" or differ (first: {wrong[0]}). Name another folder, or remove this one to have it written anew."
        )


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _write(folder: Path, archive: zipfile.ZipFile, content: dict[str, Any]) -> None:
    """Write all files of the release below ``folder``, which must not exist."""
    import soundfile

    for name, data in _texts(content).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "Audio").mkdir()

    def decode(row: dict[str, Any]) -> None:
        packed = io.BytesIO(archive.read(f"Opus/{row['name'][:-4]}.opus"))
        wave, _ = soundfile.read(
            packed, dtype="int16"
        )  # [samples], 16 kHz: Opus is decoded at the rate it was made from
        wav = io.BytesIO()  # by way of memory: soundfile syncs each file that it writes itself
        soundfile.write(wav, wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        (folder / "Audio" / row["name"]).write_bytes(wav.getvalue())

    with ThreadPoolExecutor() as pool:  # libsndfile decodes without the interpreter's lock
        for _ in pool.map(decode, content["utterances"]):
            pass
    # All at once: a rename must not reach the disk before what it stands for, and 1,600 files one by one take seconds.
    os.sync()


def _texts(content: dict[str, Any]) -> dict[str, bytes]:
    """Give every file but the audio: path in the release -> bytes."""
    rows = content["utterances"]
    consensus = [_consensus(row) for row in rows]
    keys = ("EmoClass", "EmoAct", "EmoDom", "EmoVal", "SpkrID", "Gender", "Split_Set")  # the corpus' own order
    table = {entry["FileName"]: {key: entry[key] for key in keys} for entry in consensus}
    detailed = [(row["name"], _rating(rater)) for row in rows for rater in row["raters"]]
    blocks = []
    for row, entry in zip(rows, consensus, strict=True):
        means = f"A:{entry['EmoAct']:.6f}; V:{entry['EmoVal']:.6f}; D:{entry['EmoDom']:.6f};"
        head = f"{row['name']}; {row['emotion']}; {means}"
        blocks.append("\n".join([head, *(_rating(rater) for rater in row["raters"])]) + "\n")
    texts = {
        "Labels/labels_consensus.csv": _csv(_CONSENSUS, [[entry[key] for key in _CONSENSUS] for entry in consensus]),
        "Labels/labels_consensus.json": json.dumps(table, indent=1) + "\n",
        "Labels/labels_detailed.csv": _csv(("FileName", "EmoDetail"), detailed),
        "Labels/labels.txt": "\n".join(blocks),
        "Partitions.txt": "".join(f"{row['split']}; {row['name']}\n" for row in rows),
        "readme.txt": content["note"] + "\n",
    }
    for row in rows:
        # A transcript without words is an empty file.
        texts[f"Transcripts/{row['name'][:-4]}.txt"] = row["transcript"] + "\n" if row["transcript"] else ""
    return {name: text.encode() for name, text in texts.items()}


def _consensus(row: dict[str, Any]) -> dict[str, Any]:
    """Give the row of the consensus table: attributes are the plain means of the raters, six decimals."""
    raters = row["raters"]  # worker, primary, secondaries, arousal, valence, dominance
    means = [round(sum(rater[column] for rater in raters) / len(raters), 6) for column in (3, 4, 5)]
    values = (row["name"], row["emotion"], *means, row["speaker"], row["gender"], row["split"])
    return dict(zip(_CONSENSUS, values, strict=True))


def _rating(rater: Sequence[Any]) -> str:
    """Give one rater's line, as in labels.txt and in the column EmoDetail."""
    worker, primary, secondary, arousal, valence, dominance = rater
    return f"{worker}; {primary}; {secondary}; A:{arousal:.6f}; V:{valence:.6f}; D:{dominance:.6f};"


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
