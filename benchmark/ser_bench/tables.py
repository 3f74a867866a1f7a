"""Predictions on disk: one Parquet file a seed, and the challenge's CSV for partitions without labels."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES

COLUMNS = ("utterance", "partition", *ATTRIBUTES)


def write_predictions(
    path: Path,
    utterances: Mapping[str, Sequence[str]],
    values: Mapping[str, NDArray[np.float64]],
    attributes: Sequence[str],
) -> str:
    """Write one seed's predictions and return their digest.

    Args:
        path: the Parquet file.
        utterances: by partition.
        values: by partition, [n, 3] on 1..7.
        attributes: those trained; the others' column is null.
    """
    import pyarrow
    import pyarrow.parquet

    partitions = list(values)
    columns: dict[str, Any] = {
        "utterance": [name for p in partitions for name in utterances[p]],
        "partition": [p for p in partitions for _ in utterances[p]],
    }
    stacked = np.concatenate([values[p] for p in partitions])
    for number, name in enumerate(ATTRIBUTES):
        column = stacked[:, number] if name in attributes else [None] * len(stacked)
        columns[name] = pyarrow.array(column, type=pyarrow.float64())
    table = pyarrow.table(columns)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    atomic_write(path, buffer.getvalue())
    return digest(table.to_pydict())


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """Read a predictions file, column by column.

    Raises:
        RecordError: missing, not Parquet, or with other columns.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"{path} cannot be read as predictions ({error}). Restore it, or run again.") from error
    if tuple(table.column_names) != COLUMNS:
        raise RecordError(f"{path} has the columns {table.column_names}, expected {list(COLUMNS)}.")
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def digest(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return the SHA-256 of the predictions' content: sorted lines, whatever the file's metadata or order."""
    lines = sorted("\t".join(map(repr, row)) for row in zip(*(columns[c] for c in COLUMNS), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_challenge(
    path: Path, utterances: Sequence[str], values: NDArray[np.float64], attributes: Sequence[str]
) -> None:
    """Write a partition without labels as the challenges take it: clipped to 1..7, columns of what was trained."""
    heads = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
    trained = [number for number, name in enumerate(ATTRIBUTES) if name in attributes]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["FileName", *(heads[ATTRIBUTES[number]] for number in trained)])
    for name, row in zip(utterances, np.clip(values[:, trained], 1, 7), strict=True):
        writer.writerow([name, *(f"{value:.6f}" for value in row)])
    atomic_write(path, buffer.getvalue())
