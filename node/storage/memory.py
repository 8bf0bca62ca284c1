"""The fake engine: rows in memory, and a crash that loses what a real one may lose. It ships beside its Protocol.

Also what no engine should ever do, for tests of what recognises it: synced batches that vanish, bytes that rot.

Deterministic: the same calls and the same `rng` give the same result, so a simulation can be repeated from its seed.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeAlias

from .engine import EngineFailed, EngineStats, KeyRange, Row, ViewGone, WriteBatch
from .failure import Latch

Undo: TypeAlias = list[tuple[bytes, bytes | None]]
"""What stood under the keys of a batch before it."""

UNDONE_SYNCED_MAX = 32
"""Synced batches that a crash can be told to lose all the same."""


class Rows:
    """An ordered map of bytes. `readers` counts the views that share it: then it must be copied, not changed."""

    def __init__(self, content: dict[bytes, bytes], keys: list[bytes]) -> None:
        self.readers = 0
        self._content = content
        self._keys = keys

    def copy(self) -> "Rows":
        return Rows(self._content.copy(), self._keys.copy())

    def get(self, key: bytes) -> bytes | None:
        return self._content.get(key)

    def scan(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[Row]:
        low, high = bisect_left(self._keys, start), bisect_left(self._keys, end)
        found = range(low, min(high, low + limit)) if not reverse else range(high - 1, max(low, high - limit) - 1, -1)
        return [(self._keys[at], self._content[self._keys[at]]) for at in found]

    def put(self, key: bytes, value: bytes | None) -> bytes | None:
        """Store a value, or remove the row (None); what was there before."""
        before = self._content.get(key)
        if value is None:
            self._remove(key)
            return before
        if before is None:
            insort(self._keys, key)
        self._content[key] = value
        return before

    def _remove(self, key: bytes) -> None:
        if self._content.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self._content.items())


class MemoryView:
    """A view that shares the rows until the next write copies them. `check` raises if the engine can't be read."""

    def __init__(self, rows: Rows, check: Callable[[], None]) -> None:
        self._rows: Rows | None = rows
        self._check = check
        rows.readers += 1

    def get(self, key: bytes) -> bytes | None:
        return self._present().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        rows = self._present()
        return [rows.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        return self._present().scan(start, end, limit, reverse)

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        rows = self._present()
        return [[key for key, _ in rows.scan(start, end, limit, reverse)] for start, end in ranges]

    def close(self) -> None:
        if self._rows is not None:
            self._rows.readers -= 1
            self._rows = None

    def _present(self) -> Rows:
        self._check()
        if self._rows is None:
            raise ViewGone("the view is closed")
        return self._rows


class MemoryEngine:
    """An Engine whose disk is imaginary. `crash` gives the engine that the next process would find.

    `before_sync` is awaited by every sync, so that a simulator can make it take virtual time. `fail_next_read`,
    `fail_next_write` and `fail_next_sync`, once set to an EngineFailed (EngineFull for a write), are raised by the next
    such call, and then by every call ever after. A view's reads are reads too.
    """

    def __init__(self, *, before_sync: Callable[[], Awaitable[None]] | None = None, rows: Rows | None = None) -> None:
        self.fail_next_read: EngineFailed | None = None
        self.fail_next_write: EngineFailed | None = None
        self.fail_next_sync: EngineFailed | None = None
        self.checkpoints: dict[Path, MemoryEngine] = {}
        self._before_sync = before_sync
        self._rows = rows or Rows({}, [])
        self._latch = Latch()
        self._written = 0
        self._synced = 0
        self._undo: deque[Undo] = deque()  # one entry per unsynced batch, oldest first
        self._undo_synced: deque[Undo] = deque(maxlen=UNDONE_SYNCED_MAX)

    def get(self, key: bytes) -> bytes | None:
        self._check_read()
        return self._rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check_read()
        return [self._rows.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        self._check_read()
        return self._rows.scan(start, end, limit, reverse)

    def write(self, batch: WriteBatch) -> None:
        self._latch.check()
        if not batch:
            return
        self._fail_if(self.fail_next_write)
        changes: list[tuple[bytes, bytes | None]] = [*dict.fromkeys(batch.deletes).items(), *batch.puts.items()]
        rows = self._rows_to_change()
        self._undo.append([(key, rows.put(key, value)) for key, value in changes])
        self._written += 1

    async def sync(self) -> None:
        self._latch.check()
        wanted = self._written
        if self._before_sync is not None:
            await self._before_sync()
        self._latch.check()
        self._fail_if(self.fail_next_sync)
        self._mark_synced(wanted)

    def snapshot(self) -> MemoryView:
        self._latch.check()
        return MemoryView(self._rows, self._check_read)

    async def checkpoint(self, path: Path) -> None:
        """The copy is no file but an engine, under its path in `checkpoints`."""
        self._latch.check()
        if path in self.checkpoints:
            raise FileExistsError(str(path))
        self.checkpoints[path] = self.copied()

    def stats(self) -> EngineStats:
        return EngineStats(self._rows.bytes(), self._written, self._synced)

    def reusable_bytes(self) -> int:
        return 0

    def close(self) -> None:
        if self._latch.failure is None:
            self._mark_synced(self._written)
        self._latch.fail(EngineFailed("the engine is closed"))

    def crash(self, rng: Random, *, lost_synced: int = 0) -> "MemoryEngine":
        """Power loss: the engine that the next process opens. Any suffix of the unsynced batches is gone, `rng` says
        how long; this engine fails from now on, and so do the syncs under way.

        `lost_synced`: so many synced batches, of the last UNDONE_SYNCED_MAX, are gone as well, and all after them.
        """
        self._latch.fail(EngineFailed("the engine has crashed"))
        for _ in range(len(self._undo) if lost_synced else rng.randint(0, len(self._undo))):
            self._take_back(self._undo.pop())
        for _ in range(min(lost_synced, len(self._undo_synced))):
            self._take_back(self._undo_synced.pop())
        return MemoryEngine(before_sync=self._before_sync, rows=self._rows)

    def alter(self, key: bytes, value: bytes | None) -> None:
        """Have the disk hold something else than was written; None: nothing. No batch, and no sync, says so."""
        self._rows_to_change().put(key, value)

    def copied(self, *, before_sync: Callable[[], Awaitable[None]] | None = None) -> "MemoryEngine":
        """An engine on a copy of the disk as it is now."""
        return MemoryEngine(before_sync=before_sync, rows=self._rows.copy())

    def _take_back(self, undo: Undo) -> None:
        rows = self._rows_to_change()
        for key, before in reversed(undo):
            rows.put(key, before)

    def _check_read(self) -> None:
        self._latch.check()
        self._fail_if(self.fail_next_read)

    def _fail_if(self, failure: EngineFailed | None) -> None:
        if failure is not None:
            raise self._latch.fail(failure)

    def _rows_to_change(self) -> Rows:
        if self._rows.readers:
            self._rows = self._rows.copy()
        return self._rows

    def _mark_synced(self, wanted: int) -> None:
        while self._synced < wanted:
            self._synced += 1
            self._undo_synced.append(self._undo.popleft())
