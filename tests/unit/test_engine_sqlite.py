"""What the SQLite engine does beyond the contract: its settings, its log's size, its failures."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlitedict import SqliteDict
from support.engine_writer import starts_of_log

from ringhold.node.storage.engine import EngineFailed, ViewGone, WriteBatch
from ringhold.node.storage.folder import FolderError
from ringhold.node.storage.sqlite import SqliteConfig, SqliteEngine
from ringhold.node.storage.sqlite_connections import PAGE_BYTES, Writer, statements_of

KIB = 1024
MIB = 1024 * KIB
SMALL = SqliteConfig(checkpoint_bytes=64 * KIB, wal_bytes_max=1024 * KIB, views_max=3)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(tmp_path, SMALL)
    yield made
    made.close()


def batch_number(number: int) -> WriteBatch:
    return WriteBatch({b"last": b"%d" % number} | {b"%06d" % (number * 7 % 1_000): bytes(300)})


def log_bytes(folder: Path) -> int:
    return (folder / "rows.sqlite-wal").stat().st_size


def unchanged(value: bytes) -> bytes:
    return value


def test_sqlitedict_reads_the_file(engine: SqliteEngine, tmp_path: Path) -> None:
    """A plain SqliteDict gets a row of the file, while the engine has it open."""
    engine.write(WriteBatch({b"k": b"v"}))
    path = str(tmp_path / "rows.sqlite")
    with SqliteDict(path, "rows", journal_mode="WAL", encode_key=unchanged, decode=unchanged) as rows:
        assert rows[b"k"] == b"v"
        assert b"absent" not in rows


def test_the_writer_has_our_settings(engine: SqliteEngine) -> None:
    """sqlitedict's synchronous=OFF is undone, checkpoints are ours, and no statement writes a temporary file."""
    settings = {name: engine._writer._finish(f"PRAGMA {name}", []) for name in ("synchronous", "wal_autocheckpoint")}
    assert settings == {"synchronous": [(1,)], "wal_autocheckpoint": [(0,)]}
    assert engine._writer._finish("PRAGMA journal_mode", []) == [("wal",)]
    assert engine._writer._finish("PRAGMA temp_store", []) == [(2,)]


def test_what_is_deleted_is_room_for_what_comes(engine: SqliteEngine, tmp_path: Path) -> None:
    """Free pages are told as reusable, and filled before the file grows."""
    assert engine.reusable_bytes() == 0
    rows = {b"%04d" % number: bytes(10_000) for number in range(200)}
    engine.write(WriteBatch(rows))
    engine.write(WriteBatch(deletes=set(rows)))
    freed = engine.reusable_bytes()
    assert freed > 180 * 10_000
    engine.write(WriteBatch({b"again": bytes(1_000_000)}))
    assert freed - 1_100_000 < engine.reusable_bytes() < freed - 1_000_000


@pytest.mark.parametrize("count", [1, 9, 40, 256, 257, 1_000])
def test_a_batch_is_few_statements_below_every_limit(count: int) -> None:
    """Rows go in statements of up to 256, with fewer variables than any SQLite allows, from a small set of texts."""
    statements = list(statements_of(WriteBatch({b"%d" % number: b"" for number in range(count)}, {b"x"})))
    assert len(statements) == 1 + -(-count // 256)
    assert all(len(values) == sql.count("?") <= 999 for sql, values in statements)


def test_the_texts_of_statements_stay_prepared() -> None:
    """All sizes of batches together need fewer texts than Python keeps prepared for a connection (128)."""
    keys = [b"%d" % number for number in range(256)]
    batches = [WriteBatch(dict.fromkeys(keys[:size], b""), set(keys[:size])) for size in range(1, 257)]
    assert len({sql for batch in batches for sql, _ in statements_of(batch)}) < 100


def test_a_batch_that_fails_half_way_leaves_nothing(engine: SqliteEngine, tmp_path: Path) -> None:
    """When a later statement of a batch fails, the earlier ones are not committed; the engine is done for."""
    engine.write(WriteBatch({b"k": b"before"}))
    broken: dict[bytes, bytes] = {b"%04d" % number: b"" for number in range(256)} | {b"k": b"after"}
    broken[b"bad"] = None  # type: ignore[assignment] # the table takes no NULL
    with pytest.raises(EngineFailed, match="NOT NULL"):
        engine.write(WriteBatch(broken, {b"gone"}))
    with pytest.raises(EngineFailed, match="NOT NULL"):
        engine.get(b"k")
    engine.close()
    reader = sqlite3.connect(tmp_path / "rows.sqlite")
    assert reader.execute("SELECT key, value FROM rows").fetchall() == [(b"k", b"before")]
    reader.close()


def test_a_dead_writing_thread_is_noticed(engine: SqliteEngine) -> None:
    """sqlitedict's thread can die without an answer: the write then fails instead of waiting for ever."""
    engine._writer._thread.close(force=True)
    with pytest.raises(EngineFailed, match="writing thread"):
        engine.write(batch_number(1))


async def test_a_failed_sync_is_never_retried(engine: SqliteEngine) -> None:
    """After one fdatasync that failed, every call fails, and the log is not synced again."""
    real = engine._log
    reading, writing = os.pipe()
    engine.write(batch_number(1))
    engine._log = writing  # a pipe can't be synced: EINVAL
    with pytest.raises(EngineFailed):
        await engine.sync()
    engine._log = real
    with pytest.raises(EngineFailed):
        await engine.sync()
    with pytest.raises(EngineFailed):
        engine.write(batch_number(2))
    assert engine.stats().batches_synced == 0
    os.close(reading)
    os.close(writing)


def quiet(engine: SqliteEngine) -> None:
    """Wait for the round of checkpoints under way."""
    if engine._checkpointer._round is not None:
        engine._checkpointer._round.result()


async def test_the_log_stays_small_when_every_write_is_synced(engine: SqliteEngine, tmp_path: Path) -> None:
    """Write, sync, read, time after time, with short views: the log starts over again and again."""
    longest = 0
    for number in range(3_000):
        engine.write(batch_number(number))
        view = engine.snapshot()
        view.scan(b"", b"z", limit=5)
        view.close()
        await engine.sync()
        longest = max(longest, log_bytes(tmp_path))
    assert starts_of_log(tmp_path) >= 20
    assert longest < 2 * MIB  # of about 30 MiB in all
    assert engine.get(b"last") == b"2999"


def test_the_log_stays_small_when_no_write_is_synced(engine: SqliteEngine, tmp_path: Path) -> None:
    """A writer that never lets go is held at the gate: its log starts over too."""
    number = 0
    while starts_of_log(tmp_path) < 5 and number < 100_000:
        engine.write(batch_number(number))
        number += 1
    assert starts_of_log(tmp_path) >= 5
    assert engine.get(b"last") == b"%d" % (number - 1)


def test_a_view_that_stays_is_given_up_before_the_log_fills_the_disk(engine: SqliteEngine, tmp_path: Path) -> None:
    """A view holds the log up to `wal_bytes_max`, then it is gone, and the log becomes small again."""
    engine.write(batch_number(0))
    view = engine.snapshot()
    number = longest = 0
    while view in engine._views:
        number += 1
        engine.write(batch_number(number))
        if number % 50 == 0:
            quiet(engine)
        longest = max(longest, log_bytes(tmp_path))
    assert SMALL.wal_bytes_max <= longest < 2 * SMALL.wal_bytes_max
    with pytest.raises(ViewGone):
        view.get(b"last")
    for _ in range(200):
        number += 1
        engine.write(batch_number(number))
        quiet(engine)
    assert log_bytes(tmp_path) < SMALL.wal_bytes_max // 2
    assert engine.get(b"last") == b"%d" % number


def test_a_view_too_many_costs_the_oldest_one(engine: SqliteEngine) -> None:
    """Above `views_max` the oldest view is given up, the newer ones stay."""
    views = [engine.snapshot() for _ in range(SMALL.views_max + 1)]
    with pytest.raises(ViewGone):
        views[0].get(b"k")
    assert [view.get(b"k") for view in views[1:]] == [None] * SMALL.views_max
    for view in views:
        view.close()


def test_a_log_at_closing_goes_into_the_file(tmp_path: Path) -> None:
    """After a clean close the database is one file without a log."""
    engine = SqliteEngine(tmp_path)
    engine.write(batch_number(1))
    engine.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["engine.lock", "rows.sqlite"]
    assert (tmp_path / "rows.sqlite").stat().st_size % PAGE_BYTES == 0


def test_an_opening_that_fails_releases_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock does not stay behind a failed opening."""

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Writer, "_configure", fail)
    for _ in range(2):
        with pytest.raises(EngineFailed, match="disk I/O error"):
            SqliteEngine(tmp_path)
    monkeypatch.undo()
    SqliteEngine(tmp_path).close()


def test_a_folder_that_takes_no_lock_is_refused(tmp_path: Path) -> None:
    """A lock file that is a folder is a sentence, not a traceback of another layer."""
    (tmp_path / "engine.lock").mkdir()
    with pytest.raises(FolderError, match="can't be used"):
        SqliteEngine(tmp_path)
