"""MSP-Podcast as released: found on disk, parsed, checked, described, and given as rows.

What comes from ``msp_podcast`` is imported when first used, so that opening a release does not pay for ``datasets``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ser_bench.corpus.check import Report, check
from ser_bench.corpus.faults import Fault
from ser_bench.corpus.release import Release
from ser_bench.corpus.stats import Stats, stats
from ser_bench.corpus.wavs import read_wave

if TYPE_CHECKING:
    from ser_bench.corpus.msp_podcast import MspPodcast, load, rows

__all__ = ["Fault", "MspPodcast", "Release", "Report", "Stats", "check", "load", "read_wave", "rows", "stats"]


def __getattr__(name: str) -> Any:
    if name in ("MspPodcast", "load", "rows"):
        from ser_bench.corpus import msp_podcast

        return getattr(msp_podcast, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
