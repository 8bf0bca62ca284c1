"""What the RocksDB engine does beyond the contract: views, errors of rocksdict, files after a failure."""

import re
from pathlib import Path

import pytest
import rocksdict
from support.nodes import wait_until

from ringhold.node.storage.engine import EngineDamaged, EngineFailed, EngineFull, ViewGone, WriteBatch
from ringhold.node.storage.failure import Latch
from ringhold.node.storage.rocksdb import Guard, RocksdbConfig, RocksdbEngine


def test_a_view_survives_flush_and_compaction(tmp_path: Path) -> None:
    """A view still shows its moment when its rows have moved to other files."""
    engine = RocksdbEngine(tmp_path)
    engine.write(WriteBatch({b"%04d" % number: b"old" for number in range(1_000)}))
    view = engine.snapshot()
    engine.write(WriteBatch({}, {b"%04d" % number for number in range(1_000)}))
    engine._database.flush()
    engine._database.compact_range(None, None)
    assert len(view.scan(b"", b"z", limit=2_000)) == 1_000
    assert view.get(b"0500") == b"old"
    assert engine.scan(b"", b"z", limit=1) == []
    view.close()
    engine.close()


def nice_values_of(thread_name: str) -> set[int]:
    """Those of the threads of this process that are called so (proc(5), fields 2 and 19 of stat)."""
    stats = [path.read_text() for path in Path("/proc/self/task").glob("*/stat")]
    return {int(stat.rpartition(")")[2].split()[16]) for stat in stats if f"({thread_name})" in stat}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_compactions_have_the_lowest_priority(tmp_path: Path) -> None:
    """What commands wait for comes first: the node's own threads, and the flushes of write buffers."""
    engine = RocksdbEngine(tmp_path)
    for round_number in range(5):
        engine.write(WriteBatch({b"%04d" % number: b"%d" % round_number for number in range(1_000)}))
        engine._database.flush()
    wait_until(lambda: 19 in nice_values_of("rocksdb:low"), "a compaction has begun")
    assert nice_values_of("rocksdb:low") == {19}
    assert nice_values_of("rocksdb:high") <= {0}
    engine.close()


def test_writes_wait_neither_for_a_limit_of_rates_nor_soon_for_compactions(tmp_path: Path) -> None:
    """What waits holds the event loop, see decision 36: by the options as RocksDB has understood them."""
    RocksdbEngine(tmp_path, RocksdbConfig(unsorted_files_max=100)).close()
    (log,) = tmp_path.rglob("LOG")
    told = dict(re.findall(r"Options\.(\w+): *(\S+)", log.read_text()))
    assert told["rate_limiter"] == "(nil)"
    assert (told["level0_slowdown_writes_trigger"], told["level0_stop_writes_trigger"]) == ("50", "100")


def test_a_view_too_many_costs_the_oldest_one(tmp_path: Path) -> None:
    """Above `views_max` the oldest view is given up, the newer ones stay."""
    engine = RocksdbEngine(tmp_path, RocksdbConfig(views_max=2))
    views = [engine.snapshot() for _ in range(3)]
    with pytest.raises(ViewGone):
        views[0].get(b"k")
    assert [view.get(b"k") for view in views[1:]] == [None, None]
    engine.close()


def test_open_views_do_not_keep_the_files_open(tmp_path: Path) -> None:
    """An engine closed with a view open can be opened again."""
    engine = RocksdbEngine(tmp_path)
    engine.snapshot()
    engine.close()
    RocksdbEngine(tmp_path).close()


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Exception("IO error: No space left on device: While appending to file: 000004.log"), EngineFull),
        (Exception("Corruption: block checksum mismatch"), EngineDamaged),
        (Exception("IO error: No such file or directory: While opening a file: MANIFEST-000005"), EngineDamaged),
        (Exception("IO error: Input/output error: While pread offset 0 len 4096: 000009.sst"), EngineFailed),
        (rocksdict.DbClosedError("DB instance already closed"), EngineFailed),
    ],
)
def test_an_error_of_rocksdict_is_latched(tmp_path: Path, error: Exception, failure: type[EngineFailed]) -> None:
    """rocksdict raises bare exceptions: they become EngineFailed or EngineFull, for ever."""
    latch = Latch()
    guard = Guard(tmp_path, latch)
    with pytest.raises(EngineFailed) as caught, guard:
        raise error
    assert type(caught.value) is failure
    with pytest.raises(failure), guard:
        pass


def test_a_bug_is_no_failure_of_the_engine(tmp_path: Path) -> None:
    """A wrong argument raises what it always does, and latches nothing."""
    engine = RocksdbEngine(tmp_path)
    with pytest.raises(AttributeError):
        engine.write("no batch")  # type: ignore[arg-type]
    assert engine.get(b"k") is None
    engine.close()


def test_a_missing_table_file_is_found_at_the_opening(tmp_path: Path) -> None:
    """Rows that are gone with their file are a failure, not an empty answer."""
    engine = RocksdbEngine(tmp_path)
    engine.write(WriteBatch({b"k": b"v"}))
    engine._database.flush()
    engine.close()
    for table in tmp_path.rglob("*.sst"):
        table.unlink()
    with pytest.raises(EngineFailed):
        RocksdbEngine(tmp_path)


def test_filters_and_indexes_are_read_in_parts(tmp_path: Path) -> None:
    """A lookup costs the same whether or not the filters of all files fit into the cache: it reads a part of one.

    Whole filters, read again and again among ten million rows, took 40 times the time of all else.
    """
    engine = RocksdbEngine(tmp_path)
    engine.close()
    (stated,) = (tmp_path / "rows.rocksdb").glob("OPTIONS-*")
    options = {line.strip() for line in stated.read_text().splitlines()}
    assert {"index_type=kTwoLevelIndexSearch", "partition_filters=true", "metadata_block_size=4096"} <= options
    assert {"cache_index_and_filter_blocks=true", "pin_top_level_index_and_filter=true"} <= options
