"""Deletes ranges in slices that the event loop can bear (P8): an engine has no range delete that a view survives."""

import asyncio
from collections.abc import Iterable

from ..keyspace import Bounds
from .engine import Engine, WriteBatch

ROWS_PER_SLICE_MIN = 4
"""Of the first slice, when it is not known how large the rows are."""

ROWS_PER_SLICE_MAX = 128
BYTES_PER_SLICE_MAX = 256 * 1024

REST_PER_WORK = 3.0
"""How long others have the event loop to themselves for each second that a slice took: nobody waits for the room."""


async def erase(engine: Engine, ranges: Iterable[Bounds]) -> int:
    """Delete all rows in the ranges, and return how many they were. Not synced: the next sync covers it.

    Nobody may write into the ranges meanwhile: each slice begins behind the one before, for RocksDB walks over what has
    been deleted, the longer the more that was.
    """
    loop = asyncio.get_running_loop()
    erased = 0
    limit = ROWS_PER_SLICE_MIN
    for begin, end in ranges:
        start, began = begin, loop.time()
        while rows := engine.scan(start, end, limit=limit):
            start = rows[-1][0] + b"\x00"
            batch = WriteBatch()
            for key, _ in rows:
                batch.delete(key)
            engine.write(batch)
            erased += len(rows)
            size = sum(len(value) for _, value in rows)
            limit = max(1, limit // 2) if size > BYTES_PER_SLICE_MAX else min(ROWS_PER_SLICE_MAX, limit * 2)
            await asyncio.sleep(REST_PER_WORK * (loop.time() - began))
            began = loop.time()
    return erased
