"""Numbers the batches of an engine, and notes in a mark beside it how far it has come at each sync.

A number is in the mark only if its batch was written before a sync began that has succeeded: so an engine that opens
with a lower number than its mark has lost something that may have been acknowledged. See docs/storage-format.md.

It lies directly on the real engine, below the cache: reads that the cache answers never come here, and the cache has no
use for the number's row, which changes with every batch and is read at the opening only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..keyspace import node_key
from .engine import Engine, EngineStats, KeyRange, Row, View, WriteBatch
from .mark import NOWHERE, Mark, Position

BATCH_KEY = node_key("~batch")
"""Reserved: its row, an encoded Position, is put into each batch and left out of all scans.

It sorts behind the node's other records, beside the groups' states, which most batches change: so SQLite has no page
more to write.
"""


def stored_position(engine: Engine) -> Position | None:
    """How far an engine has come; None if it never took a numbered batch. Raises Damaged, EngineFailed."""
    stored = engine.get(BATCH_KEY)
    return None if stored is None else Position.decode(stored)


def without_number(view: View | Engine, start: bytes, end: bytes, limit: int, reverse: bool) -> list[Row]:
    """A scan that does not show the row of the number."""
    if not start <= BATCH_KEY < end:
        return view.scan(start, end, limit=limit, reverse=reverse)
    rows = view.scan(start, end, limit=limit + 1, reverse=reverse)
    return [row for row in rows if row[0] != BATCH_KEY][:limit]


class Progress(Protocol):
    """How far a node's engine has come, as others may be told."""

    @property
    def opened(self) -> Position:
        """What this process has found."""

    @property
    def synced(self) -> Position:
        """What is durable for sure: no later start finds less, unless somebody puts an old state of the disk back."""


@dataclass(frozen=True, slots=True)
class Unnumbered:
    """The progress of an engine that counts nothing, as those of tests."""

    opened: Position = NOWHERE
    synced: Position = NOWHERE


class NumberedView:
    """A View of a NumberedEngine."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.get = view.get
        self.get_many = view.get_many
        self.close = view.close

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        return without_number(self._view, start, end, limit, reverse)

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        if any(start <= BATCH_KEY < end for start, end in ranges):
            return [[key for key, _ in self.scan(*each, limit=limit, reverse=reverse)] for each in ranges]
        return self._view.scan_keys(ranges, limit=limit, reverse=reverse)


class NumberedEngine:
    """An Engine over another one, with the same contract; each batch that it is given gets one row more.

    Raises Damaged if the engine's own number can't be read, and EngineFailed also when the mark can't be kept.
    """

    def __init__(self, engine: Engine, mark: Mark) -> None:
        self._engine = engine
        self._mark = mark
        self._position = stored_position(engine) or Position(mark.position.engine_id, 0)
        self._encoded = self._position.encode()
        self.opened = self._position
        self.synced = mark.position

    @property
    def position(self) -> Position:
        """Of the last batch that was written."""
        return self._position

    def get(self, key: bytes) -> bytes | None:
        return self._engine.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._engine.get_many(keys)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        return without_number(self._engine, start, end, limit, reverse)

    def write(self, batch: WriteBatch) -> None:
        if not batch:
            self._engine.write(batch)
            return
        position = Position(self._position.engine_id, self._position.number + 1)
        encoded = position.encode()
        batch.put(BATCH_KEY, encoded)
        self._engine.write(batch)
        self._position, self._encoded = position, encoded

    async def sync(self) -> None:
        """Note, once the sync has succeeded, what was written before it began; then return to who waits for it."""
        position, encoded = self._position, self._encoded
        await self._engine.sync()
        if position > self.synced:
            self._mark.note(encoded)
            self.synced = position

    def snapshot(self) -> NumberedView:
        return NumberedView(self._engine.snapshot())

    async def checkpoint(self, path: Path) -> None:
        await self._engine.checkpoint(path)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def reusable_bytes(self) -> int:
        return self._engine.reusable_bytes()

    def close(self) -> None:
        """The last batches are synced, but not noted: a mark may be behind, and is then only less watchful."""
        try:
            self._engine.close()
        finally:
            self._mark.close()
