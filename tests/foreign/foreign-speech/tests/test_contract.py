"""All that this distribution offers keeps ser-bench's contract."""

import pytest
from ser_bench.interface import Kind
from ser_bench.testing import check, offered_by


@pytest.mark.parametrize(("kind", "name"), offered_by("foreign-speech"))
def test_it_keeps_the_contract(kind: Kind, name: str) -> None:
    broken = [str(outcome) for outcome in check(kind, name) if not outcome.ok]
    assert not broken, "\n".join(broken)
