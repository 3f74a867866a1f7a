"""Check any installed plugin against what the rest of ser-bench relies on.

A distribution's own test, whole::

    import pytest
    from ser_bench.testing import check, offered_by

    @pytest.mark.parametrize(("kind", "name"), offered_by("my-plugins"))
    def test_it_keeps_the_contract(kind, name):
        assert [str(outcome) for outcome in check(kind, name) if not outcome.ok] == []
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ser_bench.errors import PluginError
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


def offered_by(distribution: str, *, found: Host | None = None) -> list[tuple[Kind, str]]:
    """Return kind and name of all that a distribution offers, for its tests to run over; not of families.

    Args:
        distribution: its name, as pip knows it.
        found: where it is looked for; None: all that is installed.

    Raises:
        PluginError: it offers nothing, one of its entry points does not load, or another distribution offers one of its
            names too. A test that is given nothing would pass.
    """
    where = found or host()
    broken = [str(failure) for failure in where.failures if _same(failure.distribution, distribution)]
    theirs = [offers for offers in where.offers.values() if any(_same(o.distribution, distribution) for o in offers)]
    twice = [f"{offers[0].spec.kind}:{offers[0].spec.name}" for offers in theirs if len(offers) > 1]
    if twice:
        broken.append(f"{', '.join(twice)} of {distribution} is offered more than once, which makes it unusable")
    if broken:
        raise PluginError("; ".join(broken))
    if not theirs:
        raise PluginError(
            f"{distribution} offers nothing. Install it (`pip install --editable .`), and give its pyproject.toml an "
            "entry point of the group ser_bench that names the module with the hooks."
        )
    usable = [offer.spec for offer in where.usable() if _same(offer.distribution, distribution)]
    if not usable:
        raise PluginError(f"{distribution} offers families alone; check what one describes, as KIND:FAMILY:ADDRESS.")
    return sorted((spec.kind, spec.name) for spec in usable)


def _same(one: str, other: str) -> bool:
    """Compare names of distributions as pip does."""
    plain, like = (re.sub("[-_.]+", "-", name).lower() for name in (one, other))
    return plain == like
