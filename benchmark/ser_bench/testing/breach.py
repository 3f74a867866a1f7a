"""How a contract check ends when it does not pass."""

from __future__ import annotations

import torch
from torch import Tensor


class BreachError(Exception):
    """The contract is broken: what was measured, and what was expected."""

    def __init__(self, measured: str, expected: str) -> None:
        super().__init__(f"{measured}; expected {expected}.")


class InapplicableError(Exception):
    """There is nothing to check; says why."""


def require(held: bool, measured: str, expected: str) -> None:
    """Raise unless it held."""
    if not held:
        raise BreachError(measured, expected)


def difference(found: Tensor, reference: Tensor) -> float:
    """Return the largest difference over the reference's largest value; infinite for another shape, or NaN."""
    if found.shape != reference.shape:
        return float("inf")
    gap = float((found.double() - reference.double()).abs().max())
    scale = max(float(reference.double().abs().max()), torch.finfo(torch.float32).tiny)
    return gap / scale if gap / scale >= 0 else float("inf")  # NaN compares false
