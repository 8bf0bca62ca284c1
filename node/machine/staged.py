"""Reads that see the writes of a batch that is still being filled, so that entries applied together see each other."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from ..storage.engine import Row, WriteBatch

CACHED_KEYS_MAX = 8_192


class Reader(Protocol):
    """The reading side that an Engine and a View have in common."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, None if there is none."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order."""

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        """At most `limit` rows with start <= key < end, ascending by key (descending from the end if `reverse`)."""


class Staged:
    """`reader` as it will be once `batch` is written. Good for one batch: make a new one for the next.

    `reader` must not change meanwhile: what `prefetch` has loaded is not read again.
    """

    __slots__ = ("_batch", "_cache", "_reader", "delete", "put")

    def __init__(self, reader: Reader, batch: WriteBatch) -> None:
        self._reader = reader
        self._batch = batch
        self._cache: dict[bytes, bytes | None] = {}
        self.put = batch.put
        self.delete = batch.delete

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, a pending one first; None if there is none or it is to be deleted."""
        pending = self._batch.puts.get(key)
        if pending is not None or key in self._batch.deletes:
            return pending
        if key in self._cache:
            return self._cache[key]
        return self._reader.get(key)

    def prefetch(self, keys: Iterable[bytes]) -> None:
        """Load in one read what later calls of `get` will ask for."""
        puts, deletes, cache = self._batch.puts, self._batch.deletes, self._cache
        unknown = [key for key in keys if key not in cache and key not in puts and key not in deletes]
        if len(cache) + len(unknown) > CACHED_KEYS_MAX:
            cache.clear()
        cache.update(zip(unknown, self._reader.get_many(unknown), strict=True))

    def scan(self, start: bytes, end: bytes, *, limit: int) -> list[Row]:
        """At most `limit` rows with start <= key < end, ascending. Costs a pass over the batch: not for every entry."""
        puts, deletes = self._batch.puts, self._batch.deletes
        hidden = sum(start <= key < end for key in deletes)
        rows = dict(self._reader.scan(start, end, limit=limit + hidden))
        rows.update((key, value) for key, value in puts.items() if start <= key < end)
        return sorted((key, value) for key, value in rows.items() if key not in deletes)[:limit]
