"""The embedded engine: an ordered map in one SQLite file, made for the event loop's thread.

`write` commits to the write-ahead log without a sync, `sync` is one fdatasync of that log in a thread, and copying the
log into the database file (a checkpoint) has a thread of its own. See docs/storage-format.md.

Why a batch written before `sync` began is durable when it returns. Its pages are in the log, or the log has started
over since. In the first case the fdatasync covers them: same file, written before, and the recovery reads frames as
long as their chained checksums fit, so later, half-written ones take nothing away. In the second case the writer found
that all frames had been copied; a checkpoint says so only after it has synced the log, copied the pages and synced the
database file (NORMAL and FULL both do), so the batch is in the synced database. Before the first new frame the writer
syncs the log's new header, so that old and new frames can't be mixed.

How the log stays small without the event loop waiting for a disk. A checkpoint without locks (PASSIVE) copies what is
there, but a writer that goes on is ahead of it for ever, and only a log copied to its end can start over. So the
checkpoint's thread copies in two rounds, the second what was written during the first, and the next `sync` does the
rest: its caller waits for it anyway, and writes nothing meanwhile. It also makes the first commit to the new log, whose
header has to be synced. Who does write during its syncs, or never syncs, is held at a gate for that last step once the
log has four times its usual length. (RESTART would wait in SQLite's busy handler, which sleeps for milliseconds.)
A view of the past keeps the log from starting over; at `wal_bytes_max` the views are given up (ViewGone) rather than
the disk filled.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .engine import EngineFailed, EngineStats, KeyRange, Row, ViewGone, WriteBatch
from .failure import Latch, failure_of
from .folder import FolderLock, sync_folder
from .sqlite_connections import FILE, PAGE_BYTES, Reader, Writer, copy_file, create_file
from .sync_thread import SyncThread

MIB = 1024 * 1024
LOCK_FILE = "engine.lock"


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """Memory and upkeep of the engine.

    Raising the caches helps little: SQLite drops a reader's after every write, and the system caches the file anyway.
    Raising `checkpoint_bytes` copies a page that changes often less often, but a log that is reused sooner stays in the
    system's cache, and reads look pages up in a shorter list. `wal_bytes_max` is the disk that views of the past may
    cost; above `views_max` the oldest is given up. A write that takes `write_stall_s_max` is a broken device.
    """

    write_cache_bytes: int = 4 * MIB
    read_cache_bytes: int = 4 * MIB
    view_cache_bytes: int = MIB // 2
    idle_views_max: int = 4
    views_max: int = 64
    checkpoint_bytes: int = 8 * MIB
    wal_bytes_max: int = 256 * MIB
    write_stall_s_max: float = 30.0


class Checkpointer:
    """Copies the log into the database file whenever it has grown by `checkpoint_bytes`, and lets it start over."""

    def __init__(self, writer: Writer, config: SqliteConfig, batches_written: Callable[[], int], latch: Latch) -> None:
        self.gate = threading.Lock()  # held while a batch is written and counted
        self.log_too_long = False
        self._writer = writer
        self._latch = latch
        self._batches_written = batches_written
        self._pages_between = config.checkpoint_bytes // PAGE_BYTES
        self._log_pages_max = config.wal_bytes_max // PAGE_BYTES
        self._pages = 0
        self._pages_in_log = 0
        self._turn = threading.Lock()  # held while the connection is in use
        self._may_finish = False
        self._round: Future[None] | None = None
        self._connection = sqlite3.connect(writer.path, isolation_level=None, check_same_thread=False)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine-checkpoint")

    def note(self, pages: int) -> None:
        """Count pages that may have gone to the log, and start a round if it is time and none is running."""
        self._pages += pages
        if self._pages >= self._pages_between and (self._round is None or self._round.done()):
            self._pages = 0
            self._round = self._executor.submit(self._run)

    def finish(self) -> None:
        """If a round has left little: copy it and start the log over. Blocks; raises sqlite3.Error."""
        if not self._may_finish or not self._turn.acquire(blocking=False):
            return
        try:
            self._may_finish = False
            before = self._batches_written()
            if self._copy():
                self._start_over(before)
        finally:
            self._turn.release()

    def close(self) -> None:
        self._executor.shutdown()
        self._connection.close()

    def _run(self) -> None:
        try:
            with self._turn:
                self._copy_most()
        except sqlite3.Error as error:
            self._latch.fail(failure_of(error, self._writer.path.parent))

    def _copy_most(self) -> None:
        """Two rounds beside the writer. What they leave is for `finish`, or, if that never comes, for the gate."""
        self._may_finish = self._copy() and self._copy()
        if self._may_finish and self._pages_in_log >= 4 * self._pages_between:
            with self.gate:
                self._may_finish = False
                self._copy()
                self._writer.touch()

    def _start_over(self, batches: int) -> None:
        """Commit to the new log, unless batches after number `batches` have made it go on with the old one."""
        with self.gate:
            if self._batches_written() == batches:
                self._writer.touch()

    def _copy(self) -> bool:
        """Copy what no view keeps back; whether that was all there was at the start. Waits for no lock of SQLite's."""
        _, in_log, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
        self._pages_in_log = in_log
        self.log_too_long = in_log >= self._log_pages_max
        return bool(in_log == copied)


class SqliteView:
    """A read transaction on a connection of the engine's pool."""

    def __init__(self, reader: Reader, release: Callable[["SqliteView", Reader], None]) -> None:
        self._reader: Reader | None = reader
        self._release = release
        reader.begin()

    def get(self, key: bytes) -> bytes | None:
        return self._present().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._present().get_many(keys)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        return self._present().scan(start, end, limit, reverse)

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        return self._present().scan_keys(ranges, limit, reverse)

    def close(self) -> None:
        if self._reader is None:
            return
        reader, self._reader = self._reader, None
        reader.end()
        self._release(self, reader)

    def _present(self) -> Reader:
        if self._reader is None:
            raise ViewGone("the view kept too much of the log alive, or was closed")
        return self._reader


class SqliteEngine:
    """An Engine in the folder `path`, which it locks. Raises FolderError, or EngineFailed if the file is no good."""

    def __init__(self, path: Path, config: SqliteConfig | None = None) -> None:
        self._folder = path
        self._path = path / FILE
        self._config = config or SqliteConfig()
        self._latch = Latch()
        self._views: dict[SqliteView, None] = {}  # oldest first
        self._idle: list[Reader] = []
        self._syncs = SyncThread(self._flush, self._latch)
        with ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()

    def get(self, key: bytes) -> bytes | None:
        return self._reader.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._reader.get_many(keys)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        return self._reader.scan(start, end, limit, reverse)

    def write(self, batch: WriteBatch) -> None:
        self._latch.check()
        if not batch:
            return
        if self._checkpointer.log_too_long:
            self._give_up_views()
        with self._checkpointer.gate:
            self._commit(batch)
            self._syncs.written += 1
        self._checkpointer.note(pages_of(batch))

    async def sync(self) -> None:
        await self._syncs.sync()

    def snapshot(self) -> SqliteView:
        self._latch.check()
        if len(self._views) >= self._config.views_max:
            next(iter(self._views)).close()
        view = SqliteView(self._idle.pop() if self._idle else self._new_view_reader(), self._take_back)
        self._views[view] = None
        return view

    async def checkpoint(self, path: Path) -> None:
        self._latch.check()
        await asyncio.to_thread(copy_file, self._path, path)

    def stats(self) -> EngineStats:
        sizes = [file.stat().st_size for file in self._folder.iterdir()]
        return EngineStats(sum(sizes), self._syncs.written, self._syncs.synced)

    def reusable_bytes(self) -> int:
        """The free pages of the file, which never shrinks."""
        return self._reader.free_pages() * PAGE_BYTES

    def close(self) -> None:
        with self._opened:  # releases what was opened, last first, whether or not the sync succeeds
            if self._latch.failure is None:
                self._syncs.sync_now()
            self._give_up_views()
        self._latch.fail(EngineFailed(f"the storage engine in {self._folder} is closed"))

    def _open(self, opened: ExitStack) -> None:
        """Open what `close` releases in the opposite order: the writer goes last but one, the lock last."""
        opened.callback(FolderLock(self._folder, LOCK_FILE).release)
        try:
            create_file(self._path)
            self._writer = self._open_writer(opened)
            self._reader = Reader(self._path, self._config.read_cache_bytes, self._latch)
            opened.callback(self._reader.close)
            self._log = self._open_log(opened)
            self._checkpointer = Checkpointer(self._writer, self._config, lambda: self._syncs.written, self._latch)
            opened.callback(self._checkpointer.close)
            opened.callback(self._close_idle)
            opened.callback(self._syncs.close)
        except (sqlite3.Error, OSError) as error:
            raise self._latch.fail(failure_of(error, self._folder)) from error

    def _open_writer(self, opened: ExitStack) -> Writer:
        config = self._config
        writer = Writer(self._path, config.write_cache_bytes, 4 * config.checkpoint_bytes, config.write_stall_s_max)
        opened.callback(self._close_writer)
        return writer

    def _close_writer(self) -> None:
        if self._latch.failure is None:
            self._writer.close()
        else:
            self._writer.abandon()

    def _open_log(self, opened: ExitStack) -> int:
        """The file that `sync` syncs: made by the first read, and the same until the last connection is closed.

        SQLite would sync the folder with its own first sync of the log, but here nobody else may ever sync it. (Never
        open the database file itself like this: closing it would drop the locks that SQLite holds on it.)
        """
        log = os.open(f"{self._path}-wal", os.O_RDWR)
        opened.callback(os.close, log)
        sync_folder(self._folder)
        return log

    def _commit(self, batch: WriteBatch) -> None:
        try:
            self._writer.commit(batch)
        except sqlite3.Error as error:
            raise self._latch.fail(failure_of(error, self._folder)) from error

    def _flush(self) -> None:
        """Runs in the thread of the syncs."""
        try:
            os.fdatasync(self._log)
            self._checkpointer.finish()
        except (sqlite3.Error, OSError) as error:
            raise self._latch.fail(failure_of(error, self._folder)) from error

    def _new_view_reader(self) -> Reader:
        try:
            return Reader(self._path, self._config.view_cache_bytes, self._latch)
        except sqlite3.Error as error:
            raise self._latch.fail(failure_of(error, self._folder)) from error

    def _take_back(self, view: SqliteView, reader: Reader) -> None:
        del self._views[view]
        if len(self._idle) < self._config.idle_views_max:
            self._idle.append(reader)
        else:
            reader.close()

    def _give_up_views(self) -> None:
        self._checkpointer.log_too_long = False
        for view in list(self._views):
            view.close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def pages_of(batch: WriteBatch) -> int:
    """At most how many pages of the table a batch changes, but for the tree above the rows.

    >>> pages_of(WriteBatch(puts={b"a": b"", b"b": bytes(10_000)}, deletes={b"c"}))
    5
    """
    return len(batch.puts) + len(batch.deletes) + sum(map(len, batch.puts.values())) // PAGE_BYTES
