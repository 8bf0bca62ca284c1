"""Syncs beside the event loop: one thread, one sync at a time, each for every batch written before it began."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .failure import Latch


class SyncThread:
    """Counts the batches written and synced, and runs the blocking `flush` of an engine in a thread of its own.

    `flush` makes durable all that was written before its call; it raises EngineFailed, once the latch holds it.
    """

    def __init__(self, flush: Callable[[], None], latch: Latch) -> None:
        self.written = 0
        self.synced = 0
        self._flush = flush
        self._latch = latch
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine-sync")

    async def sync(self) -> None:
        """Return when all batches counted in `written` are durable. Being cancelled does not stop the sync."""
        self._latch.check()
        if self.synced < self.written:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._sync, self.written)

    def sync_now(self) -> None:
        """The same on the caller's thread, for closing."""
        self._executor.shutdown()
        self._sync(self.written)

    def close(self) -> None:
        """Wait for the sync under way."""
        self._executor.shutdown()

    def _sync(self, wanted: int) -> None:
        """Flush, unless a flush that began after batch `wanted` has made it durable while we queued."""
        self._latch.check()
        if self.synced >= wanted:
            return
        begun_after = self.written
        self._flush()
        self.synced = begun_after
