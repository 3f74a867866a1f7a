"""Measure what a Parquet file unfolds to, before it is unfolded.

The footer says how large columns are, and a hostile one lies. Memory is taken by what stands before each page: its own
header gives the size that it unfolds to and the encoding. So headers are walked here, which decompresses nothing.
Format: parquet-format's ``parquet.thrift`` (PageHeader), in Thrift's compact protocol.
"""

from __future__ import annotations

from typing import Any

from ser_bench.errors import RecordError

_ENCODINGS = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 8: "RLE_DICTIONARY"}
"""The others may unfold a few bytes to any length (DELTA_BYTE_ARRAY repeats prefixes)."""
_MOST_PAGES = 100_000
_MOST_NESTED = 8
_MOST_FIELDS = 64


def unfolded_bytes(content: bytes, start: int, end: int, *, where: str) -> int:
    """Return how many bytes the pages of one column chunk unfold to.

    Args:
        content: the whole file.
        start: where the chunk's first page begins.
        end: where the chunk ends.
        where: the file, for messages.

    Raises:
        RecordError: the chunk's headers cannot be read, leave the chunk, or name an encoding without a bound.
    """
    if not 0 <= start <= end <= len(content):
        raise RecordError(f"{where} is no sound Parquet file: a column lies outside it. Write it with `ser-bench run`.")
    total, place, pages = 0, start, 0
    while place < end:
        pages += 1
        try:
            header, place = _Compact(content, place, end).struct()
            unfolded, packed = header[2], header[3]
            kinds = [part[2 if field in (5, 7) else 4] for field, part in header.items() if field in (5, 7, 8)]
            sound = unfolded >= 0 and 0 <= packed <= end - place and len(kinds) == 1 and pages <= _MOST_PAGES
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise _unsound(where) from error
        if not sound:
            raise _unsound(where)
        if kinds[0] not in _ENCODINGS:
            raise RecordError(
                f"{where} has a column in encoding {kinds[0]}, expected {', '.join(_ENCODINGS.values())}, whose size "
                "is known beforehand. Write it with `ser-bench run`."
            )
        total, place = total + unfolded, place + packed
    return total


def _unsound(where: str) -> RecordError:
    return RecordError(f"{where} is no sound Parquet file: a page's header is damaged. Write it with `ser-bench run`.")


class _Compact:
    """A reader of Thrift's compact protocol: structs of numbers, strings and structs, within bounds."""

    def __init__(self, content: bytes, place: int, end: int) -> None:
        self._content, self._place, self._end = content, place, end

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Return the fields of a struct by number, and where it ends."""
        if depth > _MOST_NESTED:
            raise ValueError("nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            step, kind = kind >> 4, kind & 0x0F
            number = number + step if step else self._zigzag()
            if len(fields) >= _MOST_FIELDS:
                raise ValueError("too many fields")
            fields[number] = self._value(kind, depth)
        return fields, self._place

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # true, false: the value is the kind
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):  # a double; bytes of a stated length
            return self._skip(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            if count > self._end - self._place:
                raise ValueError("a list longer than its chunk")
            return [self._element(head & 0x0F, depth) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)[0]
        raise ValueError(f"unknown kind {kind}")

    def _element(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # in a list a truth takes a byte
            return self._byte()
        if kind in (9, 10) and depth >= _MOST_NESTED:
            raise ValueError("nested too deep")
        return self._value(kind, depth + 1)

    def _byte(self) -> int:
        if self._place >= self._end:
            raise IndexError("beyond the chunk")
        self._place += 1
        return self._content[self._place - 1]

    def _skip(self, count: int) -> None:
        if count > self._end - self._place:
            raise IndexError("beyond the chunk")
        self._place += count

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
