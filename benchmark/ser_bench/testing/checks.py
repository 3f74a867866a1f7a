"""The contract checks by name: which plugins each is for, and how one is run.

``described`` looks at what a plugin says of itself, ``behaviour`` at what comes out of it, ``learning`` at training and
saving. A check is a function of a ``Bench`` that returns what it measured, or raises ``BreachError``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ser_bench.errors import SerBenchError
from ser_bench.foreign import one_line
from ser_bench.interface import KINDS, Kind
from ser_bench.testing import behaviour, described, learning
from ser_bench.testing.bench import Bench, sheltered
from ser_bench.testing.breach import BreachError, InapplicableError

if TYPE_CHECKING:
    from ser_bench.testing.contract import Status


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    kinds: tuple[Kind, ...]
    function: Callable[[Bench], str]

    def run(self, bench: Bench) -> tuple[Status, str]:
        """Return how it ended, and what was measured and expected."""
        try:
            with sheltered():
                return "passed", f"{self.function(bench)}."
        except InapplicableError as reason:
            return "not applicable", f"{reason}."
        except BreachError as breach:
            return "failed", str(breach)
        except torch.OutOfMemoryError:
            raise
        except SerBenchError as error:
            return "failed", f"{str(error).splitlines()[0]} Expected no error."
        except Exception as error:  # a stranger's code
            return "failed", f"{bench.offer} failed: {one_line(error)}; expected no error."


_HEARS: tuple[Kind, ...] = ("audio", "system")
_READS: tuple[Kind, ...] = ("text", "system")

CHECKS = (
    Check("spec", KINDS, described.spec),
    Check("light_import", KINDS, described.light_import),
    Check("shapes", KINDS, behaviour.shapes),
    Check("lengths", _HEARS, behaviour.lengths),
    Check("padding", KINDS, behaviour.padding),
    Check("order", KINDS, behaviour.order),
    Check("determinism", KINDS, behaviour.determinism),
    Check("finite", KINDS, behaviour.finite),
    Check("modality", KINDS, behaviour.modality),
    Check("empty_text", _READS, behaviour.empty_text),
    Check("long_text", _READS, behaviour.long_text),
    Check("bfloat16", KINDS, behaviour.bfloat16),
    Check("devices", KINDS, behaviour.devices),
    Check("gradients", KINDS, learning.gradients),
    Check("learns", KINDS, learning.learns),
    Check("state", KINDS, learning.state),
)
NAMES = {kind: tuple(check.name for check in CHECKS if kind in check.kinds) for kind in KINDS}
