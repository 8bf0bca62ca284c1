"""The contract of a storage engine: an ordered map of bytes with atomic batches and an explicit sync.

There is one engine per node; all groups share it. One conformance suite holds every implementation to this page
(tests/unit/test_engine_conformance.py); see docs/storage-format.md for what is kept in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

Row: TypeAlias = tuple[bytes, bytes]

KeyRange: TypeAlias = tuple[bytes, bytes]
"""start <= key < end."""


class EngineFailed(Exception):
    """The engine can't be trusted any more (I/O error, failed sync, damage). The node stops; nothing is retried."""


class EngineFull(EngineFailed):
    """The device has no space left."""


class EngineDamaged(EngineFailed):
    """The engine's files are not what it wrote. The next start must not use them, see `storage/health.py`."""


class ViewGone(Exception):
    """The engine has given the view up, because it kept too many old versions alive. Start over with a new one."""


@dataclass(slots=True)
class WriteBatch:
    """Puts and deletes that become visible, and survive, together. Later ones of a key win."""

    puts: dict[bytes, bytes] = field(default_factory=dict)
    deletes: set[bytes] = field(default_factory=set)

    def put(self, key: bytes, value: bytes) -> None:
        self.deletes.discard(key)
        self.puts[key] = value

    def delete(self, key: bytes) -> None:
        self.puts.pop(key, None)
        self.deletes.add(key)

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Figures of an engine: bytes on disk, and the batches written and synced since it was opened."""

    disk_bytes: int
    batches_written: int
    batches_synced: int


class View(Protocol):
    """An unchanging view of the engine at one moment. Close it soon: it keeps old versions alive.

    Like the engine, it is used on the event loop's thread. Reads raise ViewGone once the engine had to give it up, and
    EngineFailed. Views must be closed before their engine.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, None if there is none."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order."""

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        """At most `limit` rows with start <= key < end, ascending by key (descending from the end if `reverse`)."""

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        """The keys alone of one `scan` of each range, in the order of the ranges: for many short scans at once."""

    def close(self) -> None:
        """Release the view; no call but another `close` may follow."""


class Engine(Protocol):
    """Reads see every `write` that returned before them. Raises EngineFailed, ever after, once it can't be trusted.

    All calls but `sync` are made on the event loop's thread and take microseconds per row; `sync` and the engine's own
    upkeep (checkpoints, compactions) run beside it. Opening, `stats` and `close` touch the file system.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, None if there is none."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order."""

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        """At most `limit` rows with start <= key < end, ascending by key (descending from the end if `reverse`)."""

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch, atomically. After a crash the engine holds a prefix of the batches, all synced ones included.

        An empty batch is nothing and is not counted. Of a batch whose write failed, nothing is kept. Raises EngineFull
        on a full device, which is as final as any other failure.
        """

    async def sync(self) -> None:
        """Return when every batch written before the call survives power loss. A failed sync is never retried.

        Being cancelled leaves the sync running.
        """

    def snapshot(self) -> View:
        """A view of the engine as it is now."""

    async def checkpoint(self, path: Path) -> None:
        """Write a durable copy of the engine, openable by itself, into the new folder `path`.

        Raises FileExistsError, or another OSError if the copy can't be written; the engine itself goes on.
        """

    def stats(self) -> EngineStats:
        """What `ringhold status` and the metrics show."""

    def reusable_bytes(self) -> int:
        """About how much the engine can store before its files grow, in places that deleted rows have left."""

    def close(self) -> None:
        """Sync and release everything, the lock on the folder included; every later call but `close` fails.

        Raises EngineFailed if the sync fails. After a failure it only releases.
        """


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that start with `prefix`, which must not be all 0xFF.

    >>> prefix_end(b"a\\xff")
    b'b'
    """
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])
