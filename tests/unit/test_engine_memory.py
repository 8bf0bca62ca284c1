"""The fake engine fails and forgets as it is told, and in no other way."""

import asyncio
from functools import partial
from random import Random

import pytest

from ringhold.node.storage.engine import EngineFailed, EngineFull, WriteBatch
from ringhold.node.storage.memory import MemoryEngine


def write(engine: MemoryEngine, *numbers: int) -> None:
    for number in numbers:
        engine.write(WriteBatch({b"last": b"%d" % number, b"%03d" % number: b""}, {b"%03d" % (number - 3)}))


def rows(engine: MemoryEngine) -> list[tuple[bytes, bytes]]:
    return engine.scan(b"", b"z", limit=100)


def expected(last: int) -> list[tuple[bytes, bytes]]:
    fresh = MemoryEngine()
    write(fresh, *range(last + 1))
    return rows(fresh)


async def test_a_crash_keeps_a_prefix_with_all_that_was_synced() -> None:
    """Whatever the rng says, whole batches survive, in order, the synced ones all; every length happens."""
    survivors = set()
    for seed in range(60):
        engine = MemoryEngine()
        write(engine, *range(5))
        await engine.sync()
        write(engine, *range(5, 10))
        found = rows(engine.crash(Random(seed)))
        last = int(dict(found)[b"last"])
        survivors.add(last)
        assert found == expected(last)
    assert survivors == {4, 5, 6, 7, 8, 9}


def test_a_crash_repeats_from_its_seed() -> None:
    """The same calls and the same rng leave the same rows."""
    engines = [MemoryEngine(), MemoryEngine()]
    for engine in engines:
        write(engine, *range(20))
    assert rows(engines[0].crash(Random(7))) == rows(engines[1].crash(Random(7)))


async def test_a_crashed_engine_is_dead_and_so_are_its_syncs() -> None:
    """Nothing is acknowledged after a crash: a sync under way raises, and so does every later call."""
    may_go_on = asyncio.Event()

    async def wait() -> None:
        await may_go_on.wait()

    engine = MemoryEngine(before_sync=wait)
    write(engine, 1)
    syncing = asyncio.ensure_future(engine.sync())
    await asyncio.sleep(0)
    view = engine.snapshot()
    survivor = engine.crash(Random(0))
    may_go_on.set()
    with pytest.raises(EngineFailed, match="crashed"):
        await syncing
    for call in (engine.snapshot, partial(write, engine, 2), partial(engine.get, b"last"), partial(view.get, b"last")):
        with pytest.raises(EngineFailed, match="crashed"):
            call()
    write(survivor, 2)
    await survivor.sync()


async def test_a_sync_covers_what_was_written_before_it_only() -> None:
    """A batch written while a sync takes its time is not covered by it."""
    engine: MemoryEngine

    async def write_meanwhile() -> None:
        write(engine, 2)

    engine = MemoryEngine(before_sync=write_meanwhile)
    write(engine, 1)
    await engine.sync()
    assert (engine.stats().batches_written, engine.stats().batches_synced) == (2, 1)


@pytest.mark.parametrize("failure", [EngineFailed("broken"), EngineFull("full")])
async def test_a_failure_is_final(failure: EngineFailed) -> None:
    """An injected failure is raised by the next call of its kind, then by every call, with its own type."""
    on_read, on_write, on_sync = MemoryEngine(), MemoryEngine(), MemoryEngine()
    on_read.fail_next_read = failure
    with pytest.raises(type(failure)):
        rows(on_read)
    on_write.fail_next_write = failure
    with pytest.raises(type(failure)):
        write(on_write, 1)
    on_sync.fail_next_sync = failure
    write(on_sync, 1)
    with pytest.raises(type(failure)):
        await on_sync.sync()
    for engine in (on_read, on_write, on_sync):
        engine.fail_next_read = engine.fail_next_write = engine.fail_next_sync = None
        with pytest.raises(type(failure)):
            engine.get(b"last")
        with pytest.raises(type(failure)):
            await engine.sync()
    assert rows(on_write.crash(Random(0))) == []


async def test_a_view_fails_with_its_engine() -> None:
    """A read through a view that finds the disk broken is the end of the engine as well."""
    engine = MemoryEngine()
    write(engine, 1)
    view = engine.snapshot()
    engine.fail_next_read = EngineFailed("broken")
    with pytest.raises(EngineFailed, match="broken"):
        view.get(b"last")
    engine.fail_next_read = None
    with pytest.raises(EngineFailed, match="broken"):
        write(engine, 2)


async def test_a_crash_may_lose_synced_batches_only_if_told_to() -> None:
    """The newest of them go, with everything after them: what is left is a prefix again."""
    engine = MemoryEngine()
    write(engine, *range(5))
    await engine.sync()
    write(engine, *range(5, 7))
    assert rows(engine.crash(Random(1), lost_synced=2)) == expected(2)


async def test_rotten_bytes_are_in_no_batch() -> None:
    """What was altered is read by all but older views, survives a crash, and can be written over."""
    engine = MemoryEngine()
    write(engine, 1, 2)
    await engine.sync()
    view = engine.snapshot()
    engine.alter(b"002", b"rot")
    engine.alter(b"001", None)
    assert rows(engine) == [(b"002", b"rot"), (b"last", b"2")]
    assert (view.get(b"002"), engine.stats().batches_written) == (b"", 2)
    after = engine.crash(Random(1))
    after.write(WriteBatch({b"002": b"new"}))
    assert rows(after) == [(b"002", b"new"), (b"last", b"2")]


def test_a_copy_goes_its_own_way() -> None:
    """Neither of the two engines sees what is written to the other."""
    engine = MemoryEngine()
    write(engine, 1)
    copy = engine.copied()
    write(engine, 2)
    copy.write(WriteBatch({b"copy": b""}))
    assert (engine.get(b"copy"), copy.get(b"002"), copy.get(b"last")) == (None, None, b"1")
