"""The engine for production: RocksDB through rocksdict, with its own write-ahead log and bounded memory.

`write` goes to the log without a sync, `sync` is `flush_wal(True)` in a thread, where it releases the GIL. A log is
recovered to a point in time: to a prefix, never over a hole in it. See docs/durability.md.

Why this engine flushes its write buffer itself. With each buffer RocksDB begins a new log file and leaves the old one
unsynced. If power loss cuts the old one off between two records, recovery does not notice, and goes on with the new
one: over a hole (github.com/facebook/rocksdb/issues/12488). So a buffer is never left to fill up. A sync that finds it
large enough goes on to sync the rest at a gate, where writes wait, and has it flushed: a new log follows a synced one.
Whoever writes much and never syncs is held at the gate for that at twice the size.
"""

import asyncio
import errno
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import rocksdict
from rocksdict import Checkpoint, DbClosedError, DBRecoveryMode, Options, Rdict, RdictIter, ReadOptions
from rocksdict import WriteBatch as NativeBatch

from .engine import EngineFailed, EngineStats, KeyRange, Row, ViewGone, WriteBatch
from .failure import Latch, failure_of
from .folder import FolderLock, make_folder, sync_file, sync_folder
from .sync_thread import SyncThread

MIB = 1024 * 1024
LOCK_FILE = "engine.lock"
FILES = "rows.rocksdb"


@dataclass(frozen=True, slots=True)
class RocksdbConfig:
    """Memory of the engine: block cache (filters and indexes of the files included) + write buffers.

    A larger cache makes reads of cold rows cheaper; larger buffers make fewer files and longer recoveries. A buffer is
    flushed at `write_buffer_bytes`, or at twice that if no sync comes by. Indexes and filters are read in parts of
    `metadata_block_bytes`. Writes are slowed down at half of `unsorted_files_max`, files that compactions have not
    come to, and stopped at all of it. Above `views_max` the oldest view is given up.
    """

    block_cache_bytes: int = 8 * MIB
    write_buffer_bytes: int = 8 * MIB
    write_buffers_max: int = 3
    unsorted_files_max: int = 128
    open_files_max: int = 256
    background_jobs_max: int = 2
    bloom_bits_per_key: int = 10
    metadata_block_bytes: int = 4 * 1024
    views_max: int = 64


def options_of(config: RocksdbConfig) -> Options:
    """RocksDB's options; raw mode is bytes in, bytes out, without it rocksdict pickles."""
    blocks = rocksdict.BlockBasedOptions()
    blocks.set_block_cache(rocksdict.Cache(config.block_cache_bytes))
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_bloom_filter(config.bloom_bits_per_key, False)
    # In parts: else a lookup reads the whole filter of a file, a megabyte, once all of them outgrow the cache.
    blocks.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_metadata_block_size(config.metadata_block_bytes)
    blocks.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(4 * config.write_buffer_bytes)  # never reached: the engine flushes before
    options.set_max_write_buffer_number(config.write_buffers_max)
    options.set_level_zero_slowdown_writes_trigger(config.unsorted_files_max // 2)
    options.set_level_zero_stop_writes_trigger(config.unsorted_files_max)
    options.set_max_open_files(config.open_files_max)
    options.set_max_background_jobs(config.background_jobs_max)
    # Commands come first, see docs/decisions/0036-compactions-step-aside.md.
    environment = rocksdict.Env()
    environment.lower_thread_pool_cpu_priority()  # of the pool that compacts; another one flushes
    options.set_env(environment)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_bytes_per_sync(MIB)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(MIB)
    return options


class Translation:
    """Gives what rocksdict raises (a bare `Exception`, exactly) a type; any other exception is a bug's and passes."""

    def __init__(self, error_of: Callable[[Exception], Exception]) -> None:
        self._error_of = error_of

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception) and kind in {Exception, DbClosedError}:
            raise self._error_of(error) from error


class Guard(Translation):
    """Around every call of the engine: its errors are latched, and after the first there are no more calls."""

    def __init__(self, folder: Path, latch: Latch) -> None:
        super().__init__(lambda error: latch.fail(failure_of(error, folder)))
        self._latch = latch

    def __enter__(self) -> None:
        self._latch.check()


def scan_of(rows: RdictIter, start: bytes, end: bytes, limit: int, reverse: bool) -> list[Row]:
    """A scan by an iterator, row by row: `items()` of rocksdict ends silently on an error.

    A short answer must not pass for a complete one.
    """
    found: list[Row] = []
    key, step = _first_of(rows, start, end, reverse)
    for _ in range(limit):
        if key is None or not start <= key < end:
            break
        found.append((key, rows.value()))
        step()
        key = rows.key()
    rows.status()
    return found


def keys_of(rows: RdictIter, start: bytes, end: bytes, limit: int, reverse: bool) -> list[bytes]:
    """`scan_of` without the values."""
    found: list[bytes] = []
    key, step = _first_of(rows, start, end, reverse)
    for _ in range(limit):
        if key is None or not start <= key < end:
            break
        found.append(key)
        step()
        key = rows.key()
    rows.status()
    return found


def _first_of(rows: RdictIter, start: bytes, end: bytes, reverse: bool) -> tuple[bytes | None, Callable[[], None]]:
    """The first key of a walk through a range, perhaps beyond it; None: no more rows. And how to go on."""
    if not reverse:
        rows.seek(start)
        return rows.key(), rows.next
    rows.seek_for_prev(end)
    if rows.key() == end:
        rows.prev()
    return rows.key(), rows.prev


class RocksdbView:
    """One live iterator: it sees the moment of its creation. (Those of rocksdict's Snapshot see the present.)"""

    def __init__(self, database: Rdict, guard: Guard, views: "dict[RocksdbView, None]") -> None:
        self._rows: RdictIter | None = database.iter()
        self._guard = guard
        self._views = views
        views[self] = None

    def get(self, key: bytes) -> bytes | None:
        return self.get_many((key,))[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        rows = self._present()
        found: list[bytes | None] = []
        with self._guard:
            for key in keys:
                rows.seek(key)
                found.append(rows.value() if rows.valid() and rows.key() == key else None)
                rows.status()
        return found

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        rows = self._present()
        with self._guard:
            return scan_of(rows, start, end, limit, reverse)

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        rows = self._present()
        with self._guard:
            return [keys_of(rows, start, end, limit, reverse) for start, end in ranges]

    def close(self) -> None:
        self._rows = None
        self._views.pop(self, None)

    def _present(self) -> RdictIter:
        if self._rows is None:
            raise ViewGone("the view is closed")
        return self._rows


class RocksdbEngine:
    """An Engine in the folder `path`, which it locks. Raises FolderError, or EngineFailed if the files are no good."""

    def __init__(self, path: Path, config: RocksdbConfig | None = None) -> None:
        self._folder = path
        self._latch = Latch()
        self._guard = Guard(path, self._latch)
        self._config = config or RocksdbConfig()
        self._views: dict[RocksdbView, None] = {}  # oldest first
        self._gate = threading.Lock()  # held while a batch is written and counted, and while a log is begun
        self._syncs = SyncThread(self._flush, self._latch)
        with ExitStack() as opened:
            opened.callback(FolderLock(path, LOCK_FILE).release)
            with self._guard:
                self._database = Rdict(str(path / FILES), options_of(self._config))
            sync_folder(path)
            opened.callback(self._close_database)
            opened.callback(self._syncs.close)
            self._opened = opened.pop_all()

    def get(self, key: bytes) -> bytes | None:
        with self._guard:
            value: bytes | None = self._database.get(key)
            return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._guard:
            values = self._database.get(list(keys))
        assert isinstance(values, list), "a list of keys gives a list of values"
        return values

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        options = ReadOptions()
        options.set_iterate_lower_bound(start)
        options.set_iterate_upper_bound(end)
        with self._guard:
            return scan_of(self._database.iter(options), start, end, limit, reverse)

    def write(self, batch: WriteBatch) -> None:
        with self._gate, self._guard:
            if batch:
                if self._buffered_bytes() >= 2 * self._config.write_buffer_bytes:
                    self._begin_log()
                self._database.write(_native(batch))
                self._syncs.written += 1

    async def sync(self) -> None:
        await self._syncs.sync()

    def snapshot(self) -> RocksdbView:
        with self._guard:
            if len(self._views) >= self._config.views_max:
                next(iter(self._views)).close()
            return RocksdbView(self._database, self._guard, self._views)

    async def checkpoint(self, path: Path) -> None:
        self._latch.check()
        await asyncio.to_thread(self._copy, path)

    def stats(self) -> EngineStats:
        sizes = [file.stat().st_size for file in self._folder.rglob("*") if file.is_file()]
        return EngineStats(sum(sizes), self._syncs.written, self._syncs.synced)

    def reusable_bytes(self) -> int:
        """None: compaction gives the room of deleted rows back to the device."""
        return 0

    def close(self) -> None:
        with self._opened:  # releases what was opened, last first, whether or not the sync succeeds
            for view in list(self._views):
                view.close()  # a live iterator would keep the database open
            if self._latch.failure is None:
                self._syncs.sync_now()
        self._latch.fail(EngineFailed(f"the storage engine in {self._folder} is closed"))

    def _close_database(self) -> None:
        """After a failure the process is about to end: closing would write, and fail again."""
        if self._latch.failure is None:
            with self._guard:
                self._database.close()

    def _flush(self) -> None:
        """Runs in the thread of the syncs."""
        with self._guard:
            self._database.flush_wal(True)
            if self._buffered_bytes() >= self._config.write_buffer_bytes:
                with self._gate:
                    self._begin_log()

    def _begin_log(self) -> None:
        """With the gate held: sync the log, have the buffer flushed in the background, and so begin a new log."""
        self._database.flush_wal(True)
        self._database.flush(wait=False)

    def _buffered_bytes(self) -> int:
        size = self._database.property_int_value("rocksdb.cur-size-active-mem-table")
        assert size is not None, "every RocksDB has this property"
        return size

    def _copy(self, path: Path) -> None:
        """Hard links to the files, which never change, and a copy of the log, which is begun anew: writes wait."""
        make_folder(path.parent)
        path.mkdir()
        copy = path / FILES
        with self._gate:
            with self._guard:
                self._database.flush_wal(True)
            with Translation(lambda error: OSError(errno.EIO, f"the copy failed: {error}", str(copy))):
                Checkpoint(self._database).create_checkpoint(str(copy))
        for file in copy.iterdir():
            sync_file(file)
        for folder in (copy, path, path.parent):
            sync_folder(folder)


def _native(batch: WriteBatch) -> NativeBatch:
    native = NativeBatch(raw_mode=True)
    for key in batch.deletes:
        native.delete(key)
    for key, value in batch.puts.items():
        native.put(key, value)
    return native
