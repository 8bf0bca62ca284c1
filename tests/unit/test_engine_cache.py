"""The cache of rows: what it holds, and that nothing stale is ever read from it."""

from collections.abc import Awaitable, Callable
from random import Random

import pytest

from ringhold.node.storage.cache import CACHED_ROW_BYTES_MAX, CachedEngine, entry_bytes
from ringhold.node.storage.engine import EngineFailed, WriteBatch
from ringhold.node.storage.memory import MemoryEngine


class CountingEngine(MemoryEngine):
    """Counts the point reads that reach it."""

    reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)


def filled(bytes_max: int = 1_000_000) -> tuple[CountingEngine, CachedEngine]:
    below = CountingEngine()
    below.write(WriteBatch({b"%d" % number: b"v" * 50 for number in range(20)}))
    return below, CachedEngine(below, bytes_max)


def test_a_row_is_read_from_the_engine_once() -> None:
    """The second read of a row costs no call into the engine."""
    below, cached = filled()
    assert cached.get(b"1") == cached.get(b"1") == b"v" * 50
    assert below.reads == 1


def test_a_write_replaces_what_it_touches() -> None:
    """Put and deleted rows are read anew; the others stay cached."""
    below, cached = filled()
    for key in (b"1", b"2", b"3"):
        cached.get(key)
    cached.write(WriteBatch({b"1": b"new"}, {b"2"}))
    assert (cached.get(b"1"), cached.get(b"2")) == (b"new", None)
    before = below.reads
    cached.get(b"3")
    assert below.reads == before


def test_its_size_is_bounded() -> None:
    """The row that came first goes first, and a large one never comes in."""
    below, cached = filled(bytes_max=3 * entry_bytes(b"1", b"v" * 50))
    for number in range(10):
        cached.get(b"%d" % number)
    before = below.reads
    cached.get(b"9")
    assert below.reads == before
    cached.get(b"0")
    assert below.reads == before + 1
    cached.write(WriteBatch({b"large": bytes(CACHED_ROW_BYTES_MAX + 1)}))
    before = below.reads
    cached.get(b"large")
    cached.get(b"large")
    assert below.reads == before + 2


async def failing_write(engine: CachedEngine) -> None:
    engine.write(WriteBatch({b"x": b""}))


async def failing_sync(engine: CachedEngine) -> None:
    await engine.sync()


@pytest.mark.parametrize("failing", [failing_write, failing_sync])
async def test_a_failed_engine_fails_every_read(failing: Callable[[CachedEngine], Awaitable[None]]) -> None:
    """Once the engine can't be trusted, what was cached is not served either."""
    below, cached = filled()
    cached.get(b"1")
    below.fail_next_write = below.fail_next_sync = EngineFailed("broken")
    with pytest.raises(EngineFailed):
        await failing(cached)
    with pytest.raises(EngineFailed):
        cached.get(b"1")


def test_it_agrees_with_the_engine_whatever_happens() -> None:
    """Random reads and writes through a small cache give what the engine below holds."""
    rng = Random(7)
    below, cached = filled(bytes_max=5 * entry_bytes(b"1", b"v" * 50))
    for _ in range(3_000):
        key = b"%d" % rng.randrange(20)
        match rng.randrange(4):
            case 0:
                cached.write(WriteBatch({key: rng.randbytes(rng.randrange(80))}))
            case 1:
                cached.write(WriteBatch({}, {key}))
            case _:
                assert cached.get(key) == below.get(key)
