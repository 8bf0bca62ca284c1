"""All rows of a range, a slice of them in memory at a time."""

from collections.abc import Iterator
from typing import Protocol

from .engine import Row

ROWS_PER_SLICE = 256


class Scannable(Protocol):
    """An engine, or a view of one."""

    def scan(self, start: bytes, end: bytes, *, limit: int) -> list[Row]: ...


def scanned(reader: Scannable, start: bytes, end: bytes) -> Iterator[Row]:
    """The rows with start <= key < end, ascending. What is written meanwhile behind the slice just read is met, too."""
    while start < end and (rows := reader.scan(start, end, limit=ROWS_PER_SLICE)):
        yield from rows
        start = rows[-1][0] + b"\x00"
