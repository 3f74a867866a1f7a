"""Predictions on disk: one Parquet file a seed, and the challenge's CSV for partitions without labels."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.interface import ATTRIBUTES, PARTITIONS
from ser_bench.pages import unfolded_bytes
from ser_bench.strict import read_bytes

COLUMNS = ("utterance", "partition", *ATTRIBUTES)
MOST_BYTES = 64 * 2**20
MOST_ROWS = 500_000
"""The largest release has 268,000 utterances."""
MOST_GROUPS = 100
MOST_UNFOLDED = 64 * 2**20
"""Bytes; ``MOST_ROWS`` of predictions take 25 MB."""
MOST_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
Columns = dict[str, list[Any]]
"""By column: an entry for each row."""


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


def read_predictions(path: Path) -> Columns:
    """Read a predictions file, column by column, as something that a stranger may have written.

    Raises:
        RecordError: as ``read_content`` and ``parse_predictions``.
    """
    return parse_predictions(read_content(path), where=str(path))


def read_content(path: Path) -> bytes:
    """Read a predictions file's bytes.

    Raises:
        RecordError: missing, a link, no file, or larger than predictions are.
    """
    try:
        return read_bytes(path, most=MOST_BYTES)
    except FileNotFoundError as error:
        raise RecordError(
            f"{path} cannot be read as predictions (there is no such file). Restore it, or run again."
        ) from error


def parse_predictions(content: bytes, *, where: str) -> Columns:
    """Parse a predictions file; what it would unfold to is known before it is unfolded.

    Raises:
        RecordError: not Parquet, other columns, more rows or bytes than any release has, an utterance that is no name
            or is there twice, an unknown partition, or a value that is missing or not finite (values outside 1..7 are
            allowed).
    """
    import pyarrow
    import pyarrow.parquet

    limits = {"thrift_string_size_limit": 2**20, "thrift_container_size_limit": 100_000}
    try:
        about = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), **limits).metadata
        _check_shape(about, content, where)
        # One string for each name, however often it stands there.
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), read_dictionary=list(COLUMNS[:2]), **limits)
        table = file.read(use_threads=False)
        for name in COLUMNS[:2]:
            _check_lengths(table[name], where)
        columns: Columns = {name: _decoded(table[name]).to_pylist() for name in COLUMNS}
    except (OSError, ValueError, pyarrow.ArrowException) as error:  # ValueError: text that is not UTF-8
        raise RecordError(f"{where} cannot be read as predictions ({error}). Restore it, or run again.") from error
    _check_content(columns, where)
    return columns


def _check_shape(about: Any, content: bytes, where: str) -> None:
    """Refuse other columns, and more rows or bytes than predictions have; decompresses nothing."""
    leaves = [about.schema.column(number) for number in range(min(about.num_columns, 100))]
    if tuple(leaf.path for leaf in leaves) != COLUMNS:
        raise RecordError(f"{where} has the columns {[leaf.path for leaf in leaves]}, expected {list(COLUMNS)}.")
    for leaf in leaves:
        kind = "BYTE_ARRAY" if leaf.path in COLUMNS[:2] else "DOUBLE"
        text = leaf.logical_type.type == "STRING" or kind == "DOUBLE"
        if leaf.physical_type != kind or leaf.max_repetition_level or leaf.max_definition_level > 1 or not text:
            raise RecordError(
                f"{where} has a column {leaf.path} of type {leaf.physical_type}, expected {kind}, one value a row."
            )
    groups = [about.row_group(number) for number in range(min(about.num_row_groups, MOST_GROUPS))]
    rows = max(about.num_rows, sum(group.num_rows for group in groups))
    if rows > MOST_ROWS or about.num_row_groups > MOST_GROUPS:
        raise RecordError(
            f"{where} has {rows:,} rows in {about.num_row_groups:,} groups, expected {MOST_ROWS:,} and {MOST_GROUPS} "
            "at most; no release has as many utterances."
        )
    unfolded = 0
    for chunk in (group.column(number) for group in groups for number in range(group.num_columns)):
        pages, first = chunk.data_page_offset, chunk.dictionary_page_offset
        start = first if chunk.has_dictionary_page and first is not None and 0 < first < pages else pages
        size = unfolded_bytes(content, start, start + chunk.total_compressed_size, where=where)
        unfolded += max(size, chunk.total_uncompressed_size)
        if unfolded > MOST_UNFOLDED:
            raise RecordError(
                f"{where} ({len(content):,} bytes) unfolds to more than {MOST_UNFOLDED:,} bytes; predictions do not."
            )


def _check_lengths(column: Any, where: str) -> None:
    """Refuse long strings before they stand in every row."""
    import pyarrow.compute

    for chunk in column.chunks:
        longest = pyarrow.compute.max(pyarrow.compute.binary_length(chunk.dictionary)).as_py() or 0
        if longest > MOST_NAME:
            raise RecordError(f"{where} has a name of {longest:,} bytes, expected {MOST_NAME} at most.")


def _decoded(column: Any) -> Any:
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        return column
    return pyarrow.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], type=pyarrow.string())


def _check_content(columns: Columns, where: str) -> None:
    names = columns["utterance"]
    bad = next((name for name in names if name is None or not _NAME.fullmatch(name)), "")
    if bad != "":
        raise RecordError(
            f"{where} has an utterance called {bad!r}, expected a file name such as MSP-PODCAST_0001.wav."
        )
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise RecordError(
            f"{where} has {len(twice):,} utterances more than once (first: {twice[0]}). Predict each exactly once."
        )
    unknown = next((p for p in columns["partition"] if p not in PARTITIONS), "")
    if unknown != "":
        raise RecordError(f"{where} has the partition {unknown!r}, expected one of {', '.join(PARTITIONS)}.")
    for attribute in ATTRIBUTES:
        values = columns[attribute]
        if all(value is None for value in values):  # not trained
            continue
        wrong = next((n for n, value in enumerate(values) if value is None or not math.isfinite(value)), None)
        if wrong is not None:
            raise RecordError(
                f"{where} predicts {values[wrong]} for {attribute} of {names[wrong]}, expected a number for every "
                "utterance. Find out what the model gives there; nothing is left out or filled in."
            )


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
