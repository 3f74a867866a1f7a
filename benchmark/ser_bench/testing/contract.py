"""Check any installed plugin against what the rest of ser-bench relies on.

A plugin's own test, whole::

    import pytest
    from ser_bench.testing import Outcome, check

    @pytest.mark.parametrize("outcome", check("head", "mine"), ids=lambda outcome: outcome.check)
    def test_the_contract(outcome: Outcome) -> None:
        assert outcome.ok, outcome.detail
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ser_bench.host import Host, host
from ser_bench.interface import Kind, Weights

Status = Literal["passed", "failed", "known", "stale", "not applicable"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one check found."""

    check: str
    status: Status
    """``known``: it failed, as the spec declares; ``stale``: it passed, though the spec declares that it fails."""
    detail: str
    """What was measured and, after a failure, what was expected."""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return self.status not in ("failed", "stale")

    def __str__(self) -> str:
        return f"{self.status:<14}  {self.check:<12}  {self.detail}"


def check(
    kind: Kind,
    name: str,
    *,
    weights: Weights = "tiny",
    device: str = "cpu",
    found: Host | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Outcome]:
    """Run every contract check on an installed plugin.

    An encoder is checked alone, a head between made-up vectors or states, a system composed as it is run. What is heard
    and read is made up, and the same each time.

    Args:
        kind, name: the plugin.
        weights: what its encoders are built with.
        device: where the checks run, as torch names it.
        found: where the plugin is looked for; None: all that is installed.
        progress: told of each check.

    Raises:
        PluginError: there is no such plugin, or it (or a part of the system) cannot be built; names the distribution.
    """
    from ser_bench.testing.bench import Bench
    from ser_bench.testing.checks import CHECKS

    where = found or host()
    offer = where.get(kind, name)
    own, all_known = offer.spec.known_failures, where.known_failures(offer)
    applicable = [one for one in CHECKS if kind in one.kinds]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="ser-bench-check-") as folder:
        bench = Bench(offer, where, weights=weights, device=device, folder=Path(folder))
        for done, one in enumerate(applicable, start=1):
            status, detail = one.run(bench)
            if status == "failed" and one.name in all_known:
                status, detail = "known", f"{detail} Declared: {all_known[one.name]}"
            elif status == "passed" and one.name in own:
                status = "stale"
                detail = f"{detail} Yet the spec declares that it fails: {own[one.name]} Take the declaration away."
            outcomes.append(Outcome(check=one.name, status=status, detail=detail))
            if progress is not None:
                progress(f"checking {kind}:{name}", done, len(applicable))
    return outcomes
