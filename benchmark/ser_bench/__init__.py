"""A benchmark for speech emotion recognition: arousal, valence and dominance from speech and transcript.

``run`` trains and scores a system, ``load`` opens a trained one; both as the commands of the same name.
"""

from __future__ import annotations

from typing import Any

from ser_bench.version import VERSION

__version__ = VERSION
__all__ = ["load", "run"]


def __getattr__(name: str) -> Any:
    """Fetch what needs torch only when it is asked for."""
    if name == "run":
        from ser_bench.runner import run

        return run
    if name == "load":
        from ser_bench.trained import load

        return load
    raise AttributeError(f"module 'ser_bench' has no attribute {name!r}")
