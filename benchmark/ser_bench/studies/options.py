"""What a study is asked for, and what it asks of the runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_bench.errors import StudyError
from ser_bench.scoring.compare import MARGIN
from ser_bench.studies.paper import LAYERS_OF
from ser_bench.suite import RunSpec


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may be chosen of a study."""

    corpus: str
    release: str | None = None
    seeds: int = 3
    """How many: 1 to this."""
    systems: tuple[str, ...] = ()
    """None: the paper's."""
    audio: str = LAYERS_OF
    """The encoder whose layers are studied."""
    exact: bool = False
    """Whether layers are summed before they are pooled, as in the paper."""
    weights: tuple[str, ...] = ()
    transcripts: tuple[str, ...] = ()
    """None: what the study needs."""
    conditions: tuple[str, ...] = ()
    """Degradations of the audio that trained systems are scored under too."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    head_changes: Mapping[str, Any] = field(default_factory=dict)
    """Of recipes that train a head alone."""
    device: str | None = None
    frames: str = "store"
    margin: float = MARGIN
    """CCC; differences inside it are of no importance."""
    runs: Path = Path("runs")
    """Where run folders are: those of all studies in one place share what they have in common."""
    cache: Path | None = None

    @property
    def only_transcripts(self) -> str | None:
        """The one source that systems which read text are trained and scored on; None: the human one.

        Raises:
            StudyError: several are named.
        """
        if len(self.transcripts) > 1:
            raise StudyError(
                f"--transcripts {' '.join(self.transcripts)} was given; this study reads one source. Give one, or make "
                "table2, which compares them."
            )
        return self.transcripts[0] if self.transcripts else None

    def spec(self, plugin: str | None = None, **given: Any) -> RunSpec:
        """Return a run's options: what is said here for all, and what is given."""
        return RunSpec(
            plugin=plugin,
            corpus=self.corpus,
            release=self.release,
            seeds=tuple(range(1, self.seeds + 1)),
            device=self.device,
            **{"changes": dict(self.changes), "frames": self.frames, **given},
        )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run that a study needs."""

    key: str
    """What the study knows it by."""
    spec: RunSpec
    shares: str = ""
    """What it does not do again, in words."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A run that is scored again elsewhere, without training."""

    key: str
    of: str
    """The cell whose run is scored."""
    transcripts: str
    condition: str = "clean"
