"""Scores in a table: the paper's, ours with its interval, and the difference."""

from __future__ import annotations

from typing import Any

from ser_bench.interface import ATTRIBUTES
from ser_bench.records import Json
from ser_bench.studies.paper import SIDES
from ser_bench.studies.report import number

COLUMNS = ("partition", "attribute", "paper", "ours", "difference", "low", "high", "std", "seeds")


def cells(record: Json, partition: str, paper: dict[str, float | None]) -> list[dict[str, Any]]:
    """Return one row of numbers for each attribute of a partition that the record has."""
    found = record["summary"].get(partition, {}).get("ccc", {})
    rows = []
    for attribute in ATTRIBUTES:
        cell, stated = found.get(attribute), paper.get(attribute)
        if cell is None:
            continue
        low, high = cell["ci95"] or (None, None)
        rows.append(
            {
                "partition": partition,
                "attribute": attribute,
                "paper": stated,
                "ours": cell["mean"],
                "difference": None if stated is None else round(cell["mean"] - stated, 6),
                "low": low,
                "high": high,
                "std": cell["std"],
                "seeds": len(record["runs"]),
            }
        )
    return rows


def shown(row: dict[str, Any]) -> str:
    """Return a cell of a Markdown table."""
    between = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['ours']:.3f}{between}"


def against(row: dict[str, Any]) -> str:
    """Return the paper's number, and how far ours is from it."""
    return "-" if row["paper"] is None else f"{number(row['paper'])} ({row['difference']:+.3f})"


def side(partition: str) -> str:
    """Return what a partition is called in the paper."""
    return SIDES.get(partition, partition)
