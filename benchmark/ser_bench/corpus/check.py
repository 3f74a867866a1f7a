"""Report what a release is found to hold against what is known of it, and every fault (``ser-bench corpus check``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from ser_bench.corpus import known
from ser_bench.corpus.faults import Fault
from ser_bench.corpus.release import Release
from ser_bench.interface import PARTITIONS


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in one release."""

    root: str
    version: str | None
    corpus: str
    identity: str
    labels_sha256: str
    clusters_sha256: str
    found: dict[str, int]
    """Partition -> listed utterances."""
    expected: dict[str, int] | None
    """The same as known of the claimed version, or None."""
    resembles: str | None
    """Another version whose known partition sizes are exactly those found, or None."""
    ratings: int
    """Per-rater lines understood."""
    faults: tuple[Fault, ...]
    """Errors first."""

    @property
    def sound(self) -> bool:
        """Whether nothing that was found would make a run wrong."""
        return not any(fault.severity == "error" for fault in self.faults)

    def text(self) -> str:
        """Give the report as it is printed."""
        lines = [
            f"{self.root}: {self.corpus} {self.version or '(version unknown)'}, {self.identity}",
            f"labels {self.labels_sha256}",
            f"clusters {self.clusters_sha256}",
            "",
            self._table(),
            f"{self.ratings:,} ratings by single raters",
        ]
        if self.resembles is not None:
            lines.append(f"These are the partition sizes of release {self.resembles}: say --release {self.resembles}.")
        errors = [f"error: {fault.message}" for fault in self.faults if fault.severity == "error"]
        notes = [f"note: {fault.message}" for fault in self.faults if fault.severity == "note"]
        verdict = "No fault that would make a run wrong." if self.sound else f"{len(errors)} kinds of error."
        return "\n".join([*lines, "", *errors, *notes, verdict])

    def as_dict(self) -> dict[str, Any]:
        """Give the report as JSON has it."""
        return {
            "root": self.root,
            "version": self.version,
            "corpus": self.corpus,
            "identity": self.identity,
            "labels_sha256": self.labels_sha256,
            "clusters_sha256": self.clusters_sha256,
            "partitions": self.found,
            "expected": self.expected,
            "resembles": self.resembles,
            "ratings": self.ratings,
            "sound": self.sound,
            "faults": [fault.as_dict() for fault in self.faults],
        }

    def _table(self) -> str:
        names = [name for name in PARTITIONS if name in self.found or name in (self.expected or {})]
        table = []
        for name in names:
            found = self.found.get(name, 0)
            expected = None if self.expected is None else self.expected.get(name, 0)
            difference = "" if expected is None else "same" if found == expected else f"{found - expected:+,}"
            table.append([name, f"{found:,}", "unknown" if expected is None else f"{expected:,}", difference])
        return tabulate(
            table, headers=["partition", "found", "known", ""], colalign=("left", "right", "right", "right")
        )


def check(release: Release) -> Report:
    """Read all of a release (labels, raters, wav headers, transcripts) and report what was found."""
    found = {name: release.counts[name] for name in release.partitions}
    expected = known.COUNTS.get(release.version.lower()) if release.version else None
    alike = [version for version, counts in known.COUNTS.items() if counts == found and counts != expected]
    return Report(
        root=str(release.root),
        version=release.version,
        corpus=release.corpus_name,
        identity=release.identity,
        labels_sha256=release.labels_sha256,
        clusters_sha256=release.clusters_sha256,
        found=found,
        expected=expected,
        resembles=alike[0] if alike else None,
        ratings=len(release.raters),
        faults=release.faults(raters=True),
    )
