"""Find the files of a release, in every layout from v1.6 to v2.0.

Folders and files are addressed by the spellings that public readers of the corpus reveal: ``Audio`` or ``Audios``,
flat, nested once, or with one level of sub-folders; ``Labels``, ``labels`` or ``label``, flat or nested once;
``consensus`` or (up to v1.9) ``concensus``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ser_bench.corpus.faults import Faults
from ser_bench.errors import CorpusError

_LABEL_FOLDERS = ("labels", "label")
_AUDIO_FOLDERS = ("audio", "audios")
_CONSENSUS = ("labels_consensus", "labels_concensus")
_TABLES = (*(f"{stem}.{kind}" for stem in _CONSENSUS for kind in ("csv", "json")), "labels.txt")
_GIVE = "Give the folder that holds the release's audio and label folders."
_PREVIOUS = "Previous_releases_information"
_VERSION = re.compile(r"(?:^|[-_ v])(\d+\.\d+)$", re.IGNORECASE)

Files = dict[str, "os.DirEntry[str]"]
"""File name -> where it is."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of one release are; None for a part that it does not have."""

    root: Path
    version: str | None
    """What the caller or the folder's name claims."""
    labels: Path
    """The folder of the label tables."""
    consensus_csv: Path | None
    consensus_json: Path | None
    labels_txt: Path | None
    detailed_csv: Path | None
    detailed_json: Path | None
    partition_list: Path | None
    speaker_list: Path | None
    audio: tuple[Path, ...]
    removed_audio: Path | None
    """Audio that later releases dropped, where an earlier release is read out of a later one."""
    transcripts: Path | None
    previous: bool
    """Whether an earlier release is read out of a later one's folder."""

    @property
    def label_files(self) -> tuple[Path, ...]:
        """All files that labels are read from."""
        files = (self.consensus_csv, self.consensus_json, self.labels_txt, self.detailed_csv, self.detailed_json)
        return tuple(f for f in (*files, self.partition_list, self.speaker_list) if f is not None)

    def where(self, path: Path) -> str:
        """Name a file or folder relative to the release, as messages do."""
        return str(path.relative_to(self.root))


def find_layout(root: Path, version: str | None, faults: Faults) -> Layout:
    """Find the parts of the release in a folder, in its one sub-folder that holds a release, or kept by a later one.

    Raises:
        CorpusError: the folder does not exist, cannot be listed, or holds no release or several.
    """
    base, labels = _find_labels(root)
    named = _VERSION.search(base.name)
    own = named[1] if named else None
    claim = version.strip().removeprefix("v") if version else own
    parts, previous = base, False
    if claim is not None and claim != own:
        kept = _previous_labels(base, claim)
        if kept is not None:
            parts, labels, previous = kept.parent, kept, True
        elif own is not None:
            faults.add("version", f"asked for {claim}, the folder is {base.name}, and {_PREVIOUS}/ does not keep it")
    found = _names(labels)
    beside = _names(parts)
    stem = next((s for s in _CONSENSUS if f"{s}.csv" in found or f"{s}.json" in found), _CONSENSUS[0])
    lists = ("partitions.txt", "partition.txt")
    removed = base / _PREVIOUS / "files_removed_from_prev_versions" / f"v{claim}_removed_files"
    layout = Layout(
        root=base,
        version=claim,
        labels=labels,
        consensus_csv=found.get(f"{stem}.csv"),
        consensus_json=found.get(f"{stem}.json"),
        labels_txt=found.get("labels.txt"),
        detailed_csv=found.get("labels_detailed.csv"),
        detailed_json=found.get("labels_detailed.json"),
        partition_list=next((names[n] for names in (beside, found) for n in lists if n in names), None),
        speaker_list=beside.get("speaker_ids.txt") or found.get("speaker_ids.txt"),
        audio=tuple(path for name, path in sorted(_names(base).items()) if name in _AUDIO_FOLDERS and path.is_dir()),
        removed_audio=removed if previous and removed.is_dir() else None,
        transcripts=_folder(_names(base).get("transcripts")),
        previous=previous,
    )
    _note_packed(layout, faults)
    return layout


def list_files(folders: Iterable[Path], suffix: str, layout: Layout, faults: Faults) -> Files:
    """List files by name, down to two levels of sub-folders (a folder nested in itself, then speakers or podcasts).

    A name that is in two places is a fault, and the one nearest to the top is kept.

    Raises:
        CorpusError: a folder cannot be listed.
    """
    files: Files = {}
    level = [str(folder) for folder in folders]
    for _ in range(3):
        entries = [entry for folder in level for entry in _scan(folder)]
        for entry in entries:
            if not entry.name.endswith(suffix) or not entry.is_file():
                continue
            kept = files.setdefault(entry.name, entry)
            if kept is not entry:
                same = kept.stat().st_size == entry.stat().st_size
                both = f"{layout.where(Path(kept.path))} and {layout.where(Path(entry.path))}"
                faults.add("file-copy" if same else "file-twice", both)
        level = [entry.path for entry in entries if not entry.name.endswith(suffix) and entry.is_dir()]
    return files


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """List a folder in sorted order; hidden names are other programs' own (such as ``._NAME.wav``)."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as cause:
        raise CorpusError(f"cannot list {folder} ({cause.strerror}). Make it readable.") from cause


def _find_labels(root: Path) -> tuple[Path, Path]:
    """Return the release's folder and its label folder."""
    if not root.is_dir():
        raise CorpusError(f"there is no folder {root}. {_GIVE}")
    root = root.resolve()
    own = _label_folder(root)  # first, since its sub-folders may hold hundreds of thousands of files
    if own is not None:
        return root, own
    try:
        below = sorted(path for path in _names(root).values() if path.is_dir())
    except OSError as cause:
        raise CorpusError(f"cannot list {root} ({cause.strerror}). Make it readable.") from cause
    found = [(base, labels) for base in below if (labels := _label_folder(base)) is not None]
    if len(found) > 1:
        names = ", ".join(base.name for base, _ in found)
        raise CorpusError(f"{root} holds {len(found)} releases: {names}. Give the folder of one of them.")
    if not found:
        names = ", ".join([path.name for path in below][:8]) or "no folder"
        raise CorpusError(
            f"{root} is not an MSP-Podcast release: expected a label table, looked for {', '.join(_TABLES)} under"
            f" Labels/, labels/ and label/ (each also nested once), here and in each sub-folder; found {names}. {_GIVE}"
        )
    return found[0]


def _label_folder(base: Path) -> Path | None:
    try:
        for name in _LABEL_FOLDERS:
            outer = _folder(_names(base).get(name))
            for folder in (outer, outer and _folder(_names(outer).get(name))):
                if folder is not None and any(table in _names(folder) for table in _TABLES):
                    return folder
    except OSError:  # a sub-folder that we may not list is not the release
        return None
    return None


def _previous_labels(base: Path, version: str) -> Path | None:
    return _label_folder(base / _PREVIOUS / "previous_releases_info" / f"v{version}")


def _names(folder: Path) -> dict[str, Path]:
    """Map lower-cased names in a folder to paths (spellings differ in case between releases)."""
    names = sorted((path.name for path in folder.iterdir()), reverse=True) if folder.is_dir() else []
    return {name.lower(): folder / name for name in names}


def _folder(path: Path | None) -> Path | None:
    return path if path is not None and path.is_dir() else None


def _note_packed(layout: Layout, faults: Faults) -> None:
    for archive in sorted(layout.root.iterdir()):
        name = archive.name.lower()
        if not name.endswith((".zip", ".tar.gz", ".tar", ".tgz")):
            continue
        if name.startswith("audio") and not layout.audio:
            faults.add("audio-packed", archive.name)
        if name.startswith("transcripts") and layout.transcripts is None:
            faults.add("transcripts-packed", archive.name)
