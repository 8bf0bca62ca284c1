"""SQLite as the embedded engine sees it: one writer, through sqlitedict, and readers on connections of their own.

sqlitedict owns the file and its only writing connection, which lives in its thread. A read through that thread costs
ten times as much as one on an own read-only connection of the same WAL file. See docs/storage-format.md.
"""

import errno
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from sqlitedict import SqliteDict

from .engine import KeyRange, Row, WriteBatch
from .failure import Latch, failure_of
from .folder import make_folder, sync_file, sync_folder

FILE = "rows.sqlite"
TABLE = "rows"
FORMAT = 1
PAGE_BYTES = 4096
KEYS_PER_SELECT_MAX = 64
WATCH_S = 0.5

Statement: TypeAlias = tuple[str, list[bytes | None]]

_CREATE = "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_GET = "SELECT value FROM rows WHERE key = ?"
_SCAN_UP = "SELECT key, value FROM rows WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_SCAN_DOWN = "SELECT key, value FROM rows WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
_KEYS_UP = "SELECT key FROM rows WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_KEYS_DOWN = "SELECT key FROM rows WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?"

# How many rows one statement takes: few enough kinds for all to stay prepared (Python keeps 128 per connection), close
# enough that at most a quarter of a statement is padding (NULLs: 15 % of time), and 512 variables, below the 999
# that every SQLite allows.
_SIZES: tuple[int, ...] = (
    *range(1, 9),
    10,
    12,
    14,
    16,
    20,
    24,
    28,
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
)
_ROWS_MAX = _SIZES[-1]


def create_file(path: Path) -> None:
    """Make the database file, if it is missing, in WAL mode and with our table; sqlitedict then finds both.

    WITHOUT ROWID keeps the rows in one tree, in key order: against sqlitedict's own table a get takes 5 µs instead of
    6, a scan of 100 rows 40 µs instead of 120, for 15 % more time in writes. Raises sqlite3.Error.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchall()[0][0]
        if mode != "wal":
            raise sqlite3.NotSupportedError(f"the file system of {path} allows no write-ahead log, only {mode!r}")
        connection.execute(_CREATE)
    finally:
        connection.close()


def copy_file(path: Path, folder: Path) -> None:
    """Write a compact, durable copy of the database into a new folder, of one moment. Blocks; raises OSError.

    The log can't start over while this reads, and grows by what is written meanwhile.
    """
    make_folder(folder.parent)
    folder.mkdir()
    copy = folder / FILE
    try:
        _vacuum_into(path, copy)
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"the copy failed: {error}", str(copy)) from error
    sync_file(copy)
    sync_folder(folder)
    sync_folder(folder.parent)


def _vacuum_into(path: Path, copy: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("VACUUM INTO ?", (str(copy),))
    finally:
        connection.close()


@cache
def _put_of(size: int) -> str:
    """Upsert, not REPLACE, which deletes and inserts and so changes half as many pages again. Padding falls out."""
    rows = ",".join(["(?,?)"] * size)
    return (
        f"INSERT INTO rows(key, value) SELECT column1, column2 FROM (VALUES {rows}) WHERE column1 IS NOT NULL "  # noqa: S608 - question marks only
        "ON CONFLICT(key) DO UPDATE SET value = excluded.value"
    )


@cache
def _delete_of(size: int) -> str:
    return f"DELETE FROM rows WHERE key IN ({','.join('?' * size)})"  # noqa: S608 - question marks only


@cache
def _select_of(size: int) -> str:
    """One row with the values of `size` keys in their order: half the time of `size` single reads."""
    return f"SELECT {','.join([f'({_GET})'] * size)}"


def statements_of(batch: WriteBatch) -> Iterator[Statement]:
    """The SQL of a batch, in few statements of many rows."""
    for keys in _chunks(list(batch.deletes)):
        size = _size_for(len(keys))
        yield _delete_of(size), _padded(keys, size)
    for rows in _chunks(list(batch.puts.items())):
        size = _size_for(len(rows))
        yield _put_of(size), _padded(list(chain.from_iterable(rows)), 2 * size)


def _chunks(rows: list[Any]) -> Iterator[list[Any]]:
    return (rows[at : at + _ROWS_MAX] for at in range(0, len(rows), _ROWS_MAX))


def _size_for(count: int) -> int:
    return _SIZES[bisect_left(_SIZES, count)]


def _padded(values: Sequence[bytes], size: int) -> list[bytes | None]:
    return [*values, *[None] * (size - len(values))]


def _unchanged(value: bytes) -> bytes:
    return value


class Writer:
    """The one SqliteDict of the file, and the batches that go through the queue of its thread.

    Raises sqlite3.Error; then a transaction may be open, and must not be committed: `abandon` the writer.
    """

    def __init__(self, path: Path, cache_bytes: int, wal_bytes_kept: int, stall_s_max: float) -> None:
        self.path = path
        self._stall_s_max = stall_s_max
        self._dict = SqliteDict(
            str(path),
            tablename=TABLE,
            journal_mode="WAL",
            encode=_unchanged,
            decode=_unchanged,
            encode_key=_unchanged,
            decode_key=_unchanged,
            outer_stack=False,
        )
        self._thread = self._dict.conn
        self._configure("synchronous", 1)  # NORMAL; sqlitedict has set OFF
        self._configure("wal_autocheckpoint", 0)
        self._configure("cache_size", -cache_bytes // 1024)
        self._configure("temp_store", 2)  # the statement journal would go through a file in /tmp: 190 µs became 340
        self._configure("journal_size_limit", wal_bytes_kept)

    def _configure(self, pragma: str, value: int) -> None:
        """Set and read back: an unknown pragma is no error, and a mistake in these loses rows."""
        self._thread.execute(f"PRAGMA {pragma}={value}")
        answers = self._finish(f"PRAGMA {pragma}", [])
        if answers != [(value,)]:
            raise sqlite3.NotSupportedError(f"PRAGMA {pragma} is {answers}, not {value}")

    def commit(self, batch: WriteBatch) -> None:
        """Write a batch in one transaction.

        The thread runs all that is queued, whatever failed before. A single statement undoes itself when it fails, so
        the COMMIT may wait in the queue behind it; behind several it may not, or it would commit a part of them.
        """
        *first, last = statements_of(batch)
        for sql, values in first:
            self._thread.execute(sql, values)
        if first:
            self._finish(*last)
        else:
            self._thread.execute(*last)
        self._finish("COMMIT", [])

    def touch(self) -> None:
        """Commit a change of no meaning, from any thread, while no batch is being written."""
        self._finish(f"PRAGMA user_version={FORMAT}", [])

    def _finish(self, sql: str, values: list[bytes | None]) -> list[tuple[Any, ...]]:
        """Queue a statement and wait for it and all before it; its rows."""
        answers: SimpleQueue[Any] = SimpleQueue()
        self._thread.execute(sql, values, answers)
        rows = []
        while isinstance(answer := self._next(answers), tuple):
            rows.append(answer)
        self._thread.check_raise_error()
        return rows

    def _next(self, answers: "SimpleQueue[Any]") -> Any:
        """The watchdog: a thread that has died answers nobody, and sqlitedict would wait for it for ever."""
        waited_s = 0.0
        while True:
            try:
                return answers.get(timeout=WATCH_S)
            except Empty as error:
                waited_s += WATCH_S
                if not self._thread.is_alive():
                    raise sqlite3.OperationalError(f"the writing thread of {self.path} has died") from error
                if waited_s >= self._stall_s_max:
                    raise sqlite3.OperationalError(f"a write to {self.path} took over {waited_s} s") from error

    def close(self) -> None:
        """End the thread. SQLite's last connection copies the log to the file, and removes it."""
        self._dict.close(do_log=False, force=True)
        self._thread.join(self._stall_s_max)
        if self._thread.is_alive():
            raise sqlite3.OperationalError(f"closing {self.path} took over {self._stall_s_max} s")

    def abandon(self) -> None:
        """Leave the connection open until the process ends.

        Closing it would checkpoint, which after a failed sync could copy pages of the log that never reached the disk
        into the database; the recovery at the next start checks them instead. SqliteDict closes when it is collected,
        but not without its `conn`.
        """
        self._dict.conn = None


class Reader:
    """Reads of one read-only connection. A cursor is exhausted before the return: an open one pins an old version."""

    def __init__(self, path: Path, cache_bytes: int, latch: Latch) -> None:
        self._folder = path.parent
        self._latch = latch
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        self._connection.execute(f"PRAGMA cache_size={-cache_bytes // 1024}")
        self._point = self._connection.cursor()
        self.get(b"")  # the first read opens the log

    def get(self, key: bytes) -> bytes | None:
        rows = self._rows(_GET, (key,))
        return rows[0][0] if rows else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for at in range(0, len(keys), KEYS_PER_SELECT_MAX):
            some = keys[at : at + KEYS_PER_SELECT_MAX]
            size = _size_for(len(some))
            found += self._rows(_select_of(size), _padded(some, size))[0][: len(some)]
        return found

    def scan(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[Row]:
        return self._rows(_SCAN_DOWN if reverse else _SCAN_UP, (start, end, limit))

    def scan_keys(self, ranges: Sequence[KeyRange], limit: int, reverse: bool) -> list[list[bytes]]:
        sql = _KEYS_DOWN if reverse else _KEYS_UP
        execute = self._point.execute
        self._latch.check()
        try:
            return [[key for (key,) in execute(sql, (start, end, limit))] for start, end in ranges]
        except sqlite3.Error as error:
            raise self._latch.fail(failure_of(error, self._folder)) from error

    def free_pages(self) -> int:
        """Pages of the file that hold nothing and are filled before it grows."""
        return int(self._rows("PRAGMA freelist_count")[0][0])

    def begin(self) -> None:
        """Pin the version that is current; the read starts the transaction, BEGIN alone does not."""
        self._rows("BEGIN")
        self.get(b"")

    def end(self) -> None:
        """Let go of the version; a failed engine only closes the connection later."""
        if self._latch.failure is None:
            self._rows("ROLLBACK")

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, values: Sequence[bytes | int | None] = ()) -> list[Any]:
        self._latch.check()
        try:
            return self._point.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._latch.fail(failure_of(error, self._folder)) from error
