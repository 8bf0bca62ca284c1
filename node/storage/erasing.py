"""Deletes ranges in slices that the event loop can bear (P8): an engine has no range delete that a view survives."""

import asyncio
from collections.abc import Iterable

from ..keyspace import Bounds
from .engine import Engine, WriteBatch

ROWS_PER_SLICE_MIN = 4
"""Of the first slice, when it is not known how large the rows are."""

ROWS_PER_SLICE_MAX = 128
BYTES_PER_SLICE_MAX = 256 * 1024


async def erase(engine: Engine, ranges: Iterable[Bounds]) -> int:
    """Delete all rows in the ranges, and return how many they were. Not synced: the next sync covers it."""
    erased = 0
    limit = ROWS_PER_SLICE_MIN
    for start, end in ranges:
        while rows := engine.scan(start, end, limit=limit):
            batch = WriteBatch()
            for key, _ in rows:
                batch.delete(key)
            engine.write(batch)
            erased += len(rows)
            size = sum(len(value) for _, value in rows)
            limit = max(1, limit // 2) if size > BYTES_PER_SLICE_MAX else min(ROWS_PER_SLICE_MAX, limit * 2)
            await asyncio.sleep(0)
    return erased
