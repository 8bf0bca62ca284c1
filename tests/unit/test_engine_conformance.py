"""Every engine keeps the contract of node/storage/engine.py; what only one of them does is tested beside it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from ringhold.node.storage.cache import CachedEngine
from ringhold.node.storage.engine import Engine, EngineFailed, ViewGone, WriteBatch
from ringhold.node.storage.folder import FolderError
from ringhold.node.storage.mark import FileMark, Position, write_mark
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import NumberedEngine
from ringhold.node.storage.opening import ENGINES, open_engine

CACHED = "cached sqlite"
NUMBERED = {"numbered sqlite": "sqlite", "numbered rocksdb": "rocksdb"}
"""As a node has them: with their numbers, a mark in a file beside them, and a cache above."""


class Bench:
    """One engine under test, and how to open it again."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self.engine: Engine = MemoryEngine() if kind == "memory" else opened(kind, path)

    def reopen(self) -> Engine:
        self.engine.close()
        if isinstance(self.engine, MemoryEngine):
            self.engine = self.engine.crash(Random(0))
        else:
            self.engine = opened(self.kind, self.path)
        return self.engine

    def open_copy(self, path: Path) -> Engine:
        return self.engine.checkpoints[path] if isinstance(self.engine, MemoryEngine) else opened(self.kind, path)


def opened(kind: str, path: Path) -> Engine:
    if kind == CACHED:
        return CachedEngine(open_engine("sqlite", path))
    return numbered(kind, path) if kind in NUMBERED else open_engine(kind, path)


def numbered(kind: str, path: Path) -> Engine:
    mark = path.with_name(f"{path.name}.mark")
    if not mark.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mark(mark, Position(1, 0))
    return CachedEngine(NumberedEngine(open_engine(NUMBERED[kind], path), FileMark(mark)))


@pytest.fixture(params=["memory", CACHED, *NUMBERED, *ENGINES])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(request.param, tmp_path / "engine")
    yield made
    made.engine.close()


@pytest.fixture
def engine(bench: Bench) -> Engine:
    return bench.engine


def batch_of(*puts: tuple[bytes, bytes], deletes: tuple[bytes, ...] = ()) -> WriteBatch:
    batch = WriteBatch(dict(puts))
    for key in deletes:
        batch.delete(key)
    return batch


def test_a_read_sees_every_write_before_it(engine: Engine) -> None:
    """A row is there after its write, changed after the next, and gone after its delete."""
    assert engine.get(b"k") is None
    engine.write(batch_of((b"k", b"1")))
    assert engine.get(b"k") == b"1"
    engine.write(batch_of((b"k", b"2")))
    assert engine.get(b"k") == b"2"
    engine.write(batch_of(deletes=(b"k", b"absent")))
    assert engine.get(b"k") is None


def test_any_bytes_are_a_row(engine: Engine) -> None:
    """Empty values, zero bytes, 0xFF, long keys and values of a megabyte come back as they were."""
    rows = [(b"\0", b""), (b"\0\0", b"\0"), (b"a:_idx:", b":"), (b"\xff" * 4096, bytes(1 << 20)), (b"k", b"\xff")]
    engine.write(batch_of(*rows))
    assert engine.get_many([key for key, _ in rows]) == [value for _, value in rows]
    assert engine.scan(b"", b"\xff" * 5000, limit=10) == sorted(rows)


def test_get_many_keeps_the_order_of_its_keys(engine: Engine) -> None:
    """Values come in the order of the keys, None for an absent one, any number of them, the same one twice too."""
    engine.write(batch_of(*((b"%03d" % number, b"v%d" % number) for number in range(0, 300, 2))))
    keys = [b"%03d" % number for number in [*range(299, -1, -1), 4, 4]]
    expected = [b"v%d" % int(key) if int(key) % 2 == 0 else None for key in keys]
    assert engine.get_many(keys) == expected
    assert engine.get_many([]) == []


@pytest.mark.parametrize(
    ("start", "end", "limit", "found"),
    [
        (b"b", b"d", 9, [b"b", b"c"]),
        (b"a", b"e", 2, [b"a", b"b"]),
        (b"bb", b"cc", 9, [b"c"]),
        (b"", b"\xff", 9, [b"a", b"b", b"c", b"d"]),
        (b"c", b"c", 9, []),
        (b"d", b"a", 9, []),
        (b"a", b"e", 0, []),
    ],
)
def test_a_scan_is_half_open_sorted_and_limited(
    engine: Engine, start: bytes, end: bytes, limit: int, found: list[bytes]
) -> None:
    """A scan gives start <= key < end, ascending, at most `limit`."""
    engine.write(batch_of(*((key, key * 2) for key in (b"d", b"a", b"c", b"b"))))
    assert engine.scan(start, end, limit=limit) == [(key, key * 2) for key in found]


@pytest.mark.parametrize(
    ("start", "end", "limit", "found"),
    [
        (b"b", b"d", 9, [b"c", b"b"]),
        (b"a", b"e", 2, [b"d", b"c"]),
        (b"bb", b"cc", 9, [b"c"]),
        (b"d", b"a", 9, []),
        (b"a", b"e", 0, []),
    ],
)
def test_a_reverse_scan_begins_at_the_end(
    engine: Engine, start: bytes, end: bytes, limit: int, found: list[bytes]
) -> None:
    """A reverse scan gives the same range from its end, the end itself excluded."""
    engine.write(batch_of(*((key, b"") for key in (b"d", b"a", b"c", b"b"))))
    assert engine.scan(start, end, limit=limit, reverse=True) == [(key, b"") for key in found]


def test_a_batch_of_any_size_is_one_change(engine: Engine) -> None:
    """Thousands of puts and deletes take effect together, and a view sees all or none of them."""
    engine.write(batch_of(*((b"old%05d" % number, b"") for number in range(2_000))))
    before = engine.snapshot()
    batch = WriteBatch()
    for number in range(2_000):
        batch.delete(b"old%05d" % number)
        batch.put(b"new%05d" % number, b"x")
    engine.write(batch)
    assert len(before.scan(b"old", b"ole", limit=5_000)) == 2_000
    assert before.scan(b"new", b"nex", limit=1) == []
    before.close()
    assert engine.scan(b"old", b"ole", limit=1) == []
    assert len(engine.scan(b"new", b"nex", limit=5_000)) == 2_000


def test_a_view_never_changes(engine: Engine) -> None:
    """A view shows the moment it was made, by all three reads; views of different moments live side by side."""
    engine.write(batch_of((b"a", b"1"), (b"b", b"1")))
    first = engine.snapshot()
    engine.write(batch_of((b"a", b"2"), (b"c", b"2"), deletes=(b"b",)))
    second = engine.snapshot()
    engine.write(batch_of((b"a", b"3")))
    assert first.get_many([b"a", b"b", b"c"]) == [b"1", b"1", None]
    assert first.get(b"c") is None
    assert first.scan(b"", b"z", limit=9, reverse=True) == [(b"b", b"1"), (b"a", b"1")]
    assert second.scan(b"", b"z", limit=9) == [(b"a", b"2"), (b"c", b"2")]
    assert engine.get(b"a") == b"3"
    first.close()
    second.close()
    second.close()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 2, 9])
def test_keys_are_scanned_range_by_range(engine: Engine, limit: int, reverse: bool) -> None:
    """A view gives the keys of many ranges as so many scans do: empty, overlapping, in any order, of its moment."""
    engine.write(batch_of(*((key, key * 2) for key in (b"d", b"a", b"c", b"b", b"\x01z", b"\x02"))))
    view = engine.snapshot()
    engine.write(batch_of((b"bb", b""), deletes=(b"c",)))
    ranges = [(b"c", b"e"), (b"a", b"d"), (b"x", b"z"), (b"d", b"a"), (b"", b"\xff"), (b"b", b"b"), (b"a", b"d")]
    scans = [view.scan(start, end, limit=limit, reverse=reverse) for start, end in ranges]
    assert scans[1] == [(key, key * 2) for key in ([b"c", b"b", b"a"] if reverse else [b"a", b"b", b"c"])][:limit]
    assert view.scan_keys(ranges, limit=limit, reverse=reverse) == [[key for key, _ in rows] for rows in scans]
    assert view.scan_keys([], limit=limit, reverse=reverse) == []
    view.close()


def test_a_view_gets_what_is_there_under_the_very_key(engine: Engine) -> None:
    """Neither the next key nor one that begins alike stands for a key that is absent."""
    engine.write(batch_of((b"b", b"1"), (b"b\0", b"2")))
    view = engine.snapshot()
    assert view.get_many([b"b\0", b"a", b"b", b"c", b"b\0\0", b"b"]) == [b"2", None, b"1", None, None, b"1"]
    assert (view.get(b""), view.get(b"b")) == (None, b"1")
    view.close()


def test_a_closed_view_says_so(engine: Engine) -> None:
    """Reading a closed view raises ViewGone and does the engine no harm."""
    view = engine.snapshot()
    view.close()
    for read in (lambda: view.get(b"a"), lambda: view.scan_keys([(b"", b"z")], limit=1)):
        with pytest.raises(ViewGone):
            read()
    assert engine.get(b"a") is None


async def test_rows_are_there_after_closing_and_opening(bench: Bench) -> None:
    """Close syncs: what was written is there at the next opening."""
    bench.engine.write(batch_of((b"a", b"1")))
    await bench.engine.sync()
    bench.engine.write(batch_of((b"b", b"2")))
    assert bench.reopen().scan(b"", b"z", limit=9) == [(b"a", b"1"), (b"b", b"2")]


async def test_stats_count_batches_written_and_synced(engine: Engine) -> None:
    """A batch counts once written, and as synced after the next sync; an empty one never."""
    engine.write(batch_of((b"a", b"1")))
    engine.write(batch_of((b"b", b"1")))
    engine.write(WriteBatch())
    before = engine.stats()
    await engine.sync()
    after = engine.stats()
    assert (before.batches_written, before.batches_synced) == (2, 0)
    assert (after.batches_written, after.batches_synced) == (2, 2)
    assert after.disk_bytes > 0


async def test_syncs_run_beside_writes(engine: Engine) -> None:
    """Many syncs at once, with writes between them, each cover what was written before them."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            engine.write(batch_of((b"k", b"%d" % number)))
            tasks.create_task(engine.sync())
            await asyncio.sleep(0)
    assert engine.stats().batches_synced == 50


async def test_a_checkpoint_is_an_engine_of_its_own(bench: Bench, tmp_path: Path) -> None:
    """A copy opens by itself with the rows of its moment, and later writes to either do not touch the other."""
    bench.engine.write(batch_of(*((b"%04d" % number, bytes(100)) for number in range(1_000))))
    await bench.engine.checkpoint(tmp_path / "copies" / "first")
    bench.engine.write(batch_of((b"later", b"")))
    copy = bench.open_copy(tmp_path / "copies" / "first")
    copy.write(batch_of((b"other", b"")))
    assert len(copy.scan(b"", b"\xff", limit=2_000)) == 1_001
    assert copy.get(b"later") is None
    assert bench.engine.get(b"other") is None
    copy.close()


async def test_a_checkpoint_takes_a_new_folder_only(engine: Engine, tmp_path: Path) -> None:
    """A folder that is there already is refused, and the engine goes on."""
    await engine.checkpoint(tmp_path / "copy")
    with pytest.raises(FileExistsError):
        await engine.checkpoint(tmp_path / "copy")
    engine.write(batch_of((b"a", b"")))


CALLS: list[Callable[[Engine], object]] = [
    lambda engine: engine.get(b"a"),
    lambda engine: engine.get_many([b"a"]),
    lambda engine: engine.scan(b"", b"z", limit=1),
    lambda engine: engine.write(batch_of((b"a", b""))),
    lambda engine: engine.snapshot(),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_closed_engine_answers_nothing(engine: Engine, call: Callable[[Engine], object]) -> None:
    """After `close` every call raises EngineFailed, but for another `close`."""
    view = engine.snapshot()
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        call(engine)
    with pytest.raises(EngineFailed, match="closed"):
        await engine.sync()
    with pytest.raises((EngineFailed, ViewGone)):
        view.get(b"a")
    view.close()
    engine.close()


@pytest.mark.parametrize("kind", ENGINES)
def test_an_engine_has_its_folder_for_itself(kind: str, tmp_path: Path) -> None:
    """A folder in use is refused; `close` lets go of it, and so does an opening that failed."""
    first = open_engine(kind, tmp_path / "engine")
    for _ in range(2):
        with pytest.raises(FolderError, match="in use by process"):
            open_engine(kind, tmp_path / "engine")
    first.close()
    open_engine(kind, tmp_path / "engine").close()
