"""An engine with recently read rows in memory, so that a hot key costs no call into the engine.

A read of one row is the commonest request, and half of what it costs below the network is the engine's own call. Only
point reads use the cache; a batch that is written replaces what it touches. See docs/decisions/0013-rows-in-memory.md.
"""

from collections.abc import Sequence
from pathlib import Path

from .engine import Engine, EngineFailed, EngineStats, Row, View, WriteBatch

CACHE_BYTES_MAX = 8 * 1024 * 1024
"""Raising it: more hot rows are served from memory; lowering it: a smaller process."""

CACHED_ROW_BYTES_MAX = 16 * 1024
"""A larger row would push many others out, and costs less in proportion to read."""

ENTRY_OVERHEAD_BYTES = 200


class CachedEngine:
    """An Engine over another one, with the same contract. The row that came first goes first."""

    def __init__(self, engine: Engine, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._engine = engine
        self._bytes_max = bytes_max
        self._rows: dict[bytes, bytes] = {}
        self._bytes = 0

    def get(self, key: bytes) -> bytes | None:
        cached = self._rows.get(key)
        if cached is not None:
            return cached
        value = self._engine.get(key)
        if value is not None and len(value) <= CACHED_ROW_BYTES_MAX:
            self._keep(key, value)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._engine.get_many(keys)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        return self._engine.scan(start, end, limit=limit, reverse=reverse)

    def write(self, batch: WriteBatch) -> None:
        """A cached row that the batch touches is forgotten first: if the write fails, nothing stale is left."""
        if self._rows:
            self._forget(batch)
        try:
            self._engine.write(batch)
        except EngineFailed:
            self._rows.clear()
            raise

    async def sync(self) -> None:
        try:
            await self._engine.sync()
        except EngineFailed:
            self._rows.clear()
            raise

    def snapshot(self) -> View:
        return self._engine.snapshot()

    async def checkpoint(self, path: Path) -> None:
        await self._engine.checkpoint(path)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def reusable_bytes(self) -> int:
        return self._engine.reusable_bytes()

    def close(self) -> None:
        self._rows.clear()
        self._engine.close()

    def _keep(self, key: bytes, value: bytes) -> None:
        self._rows[key] = value
        self._bytes += entry_bytes(key, value)
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._rows)))

    def _forget(self, batch: WriteBatch) -> None:
        rows = self._rows
        for key in batch.puts:
            if key in rows:
                self._drop(key)
        for key in batch.deletes:
            if key in rows:
                self._drop(key)

    def _drop(self, key: bytes) -> None:
        self._bytes -= entry_bytes(key, self._rows.pop(key))


def entry_bytes(key: bytes, value: bytes) -> int:
    """What an entry takes in memory, about."""
    return len(key) + len(value) + ENTRY_OVERHEAD_BYTES
