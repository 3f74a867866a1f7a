"""What can be wrong with a release: every kind of fault with its severity, its words and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "note"]
EXAMPLES = 3
LONG_TEXT = 1_000
"""Characters; a clip of the designed 11 s holds some 200, the longest transcript known has 2,940 (IS2025 subset)."""


class Kind(NamedTuple):
    """One kind of fault: ``error`` where a run would be wrong, else ``note``."""

    severity: Severity
    what: str
    remedy: str


_TABLE = "Take the file from the release again."
KINDS: dict[str, Kind] = {
    "version": Kind(
        "error",
        "the asked release is neither the folder's own nor kept in it",
        "Give the folder of that release, or leave --release out.",
    ),
    "table-unreadable": Kind("error", "label files that cannot be read", _TABLE),
    "table-encoding": Kind("note", "label files that are not UTF-8 (read as latin-1)", "Check names with accents."),
    "table-columns": Kind("error", "columns that the label table must have and has not", _TABLE),
    "table-row": Kind("error", "rows of the label table with another number of cells than the header", _TABLE),
    "utterance-name": Kind(
        "error",
        "names that are not MSP-PODCAST_<4 digits>_<4 digits>[_<4 digits>].wav, so that their podcast is unknown",
        "Use the release's own names.",
    ),
    "utterance-twice": Kind("error", "utterances listed more than once", "Keep one row of each."),
    "partition-word": Kind(
        "error",
        "unknown partition words",
        "Known are Train, Development or Validation, Test (v1.6), Test1, Test2, Test3.",
    ),
    "partition-test": Kind("note", "rows whose partition is called Test, as v1.6 does", "They are read as test1."),
    "label-value": Kind("error", "labels that are not a number in 1..7", _TABLE),
    "emotion-word": Kind("note", "emotion classes other than A S H U F D C N O X", "They are kept as they are."),
    "gender-word": Kind("note", "genders other than Male, Female, Unknown", "They are read as Unknown."),
    "csv-json": Kind(
        "error", "values that differ between the CSV and the JSON label table", "Take both files from one release."
    ),
    "partition-list": Kind(
        "error",
        "utterances whose partition differs between the partition list and the label table",
        "Take both files from one release.",
    ),
    "partition-line": Kind("note", "lines of the partition list that are not `<partition>; <name>.wav`", "Skipped."),
    "speaker-list": Kind(
        "note", "utterances whose speaker differs between the speaker list and the label table", "The table is used."
    ),
    "rater-line": Kind("note", "per-rater lines that cannot be understood", "They are left out."),
    "rater-unlisted": Kind("note", "per-rater lines for utterances that the label table has not", "They are left out."),
    "rater-twice": Kind("note", "raters that judged one utterance more than once", "Their values are averaged."),
    "audio-packed": Kind("note", "audio left in its archive", "Unpack it beside the label folder."),
    "audio-missing": Kind(
        "error",
        "listed utterances without audio",
        "Restore them, or score a partial partition with --allow-missing, which the record will say.",
    ),
    "audio-empty": Kind("error", "wav files without a sample", "Restore them."),
    "audio-cut": Kind("error", "wav files that are cut short", "Restore them."),
    "audio-unreadable": Kind("error", "wav files that cannot be read", "Restore them."),
    "audio-format": Kind("note", "wav files that are not 16 kHz mono", "They are mixed down and resampled when read."),
    "file-twice": Kind("error", "files of one name in two folders with different sizes", "Remove the wrong copy."),
    "file-copy": Kind("note", "files of one name in two folders with equal sizes", "The first is read."),
    "audio-unlisted": Kind("note", "wav files on disk that no label table lists", "They are left out."),
    "transcripts-packed": Kind("note", "transcripts left in their archive", "Unpack it beside the label folder."),
    "transcripts-absent": Kind(
        "note", "no transcripts (releases before v1.10 have none)", "Use --transcripts none or an ASR system's."
    ),
    "transcript-missing": Kind(
        "error",
        "listed utterances without a transcript",
        "Restore them, or use --transcripts none or an ASR system's.",
    ),
    "transcript-unreadable": Kind("error", "transcripts that cannot be read", "Restore them."),
    "transcript-encoding": Kind("note", "transcripts that are not UTF-8", "They are read as latin-1."),
    "transcript-lines": Kind("note", "transcripts of several lines", "The lines are joined with a blank."),
    "transcript-empty": Kind("note", "transcripts without a word", "They are allowed, and counted in the record."),
    "transcript-long": Kind(
        "note", f"transcripts over {LONG_TEXT:,} characters", "More than a clip can hold; a text encoder cuts them."
    ),
}
NEEDS_TRANSCRIPTS = ("transcripts-absent", "transcript-missing", "transcript-unreadable")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault as found in one release."""

    kind: str
    count: int
    examples: tuple[str, ...]
    """The first three."""
    where: str
    """The file or folder it was first found in, relative to the release."""

    @property
    def severity(self) -> Severity:
        """``error`` where a run would be wrong, else ``note``."""
        return KINDS[self.kind].severity

    @property
    def message(self) -> str:
        """One line: what, how many, where, the first three, what to do."""
        place = f" in {self.where}" if self.where else ""
        shown = f" (first: {'; '.join(self.examples)})" if self.examples else ""
        return f"{KINDS[self.kind].what}: {self.count:,}{place}{shown}. {KINDS[self.kind].remedy}"

    def as_dict(self) -> dict[str, object]:
        """Give the fault as JSON has it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "examples": list(self.examples),
            "where": self.where,
            "message": self.message,
        }


class Faults:
    """Collects faults, counting each kind and keeping its first examples, so that none hides another."""

    def __init__(self) -> None:
        self._found: dict[str, Fault] = {}

    def add(self, kind: str, example: str = "", where: str = "") -> None:
        """Count one fault of a kind named in ``KINDS``."""
        before = self._found.get(kind) or Fault(kind=kind, count=0, examples=(), where=where)
        more = (example,) if example and len(before.examples) < EXAMPLES else ()
        self._found[kind] = Fault(
            kind=kind, count=before.count + 1, examples=before.examples + more, where=before.where
        )

    def __iter__(self) -> Iterator[Fault]:
        """Errors first, then notes, each in the order of ``KINDS``."""
        order = list(KINDS)
        return iter(sorted(self._found.values(), key=lambda f: (f.severity == "note", order.index(f.kind))))


def joined(*collections: Iterable[Fault]) -> tuple[Fault, ...]:
    """Join collections, errors first."""
    return tuple(sorted((f for faults in collections for f in faults), key=lambda f: f.severity == "note"))
