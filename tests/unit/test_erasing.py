"""What a replica leaves behind is deleted beside everything else that a node does (P8)."""

import asyncio

import pytest

from ringhold.node.keyspace import Bounds
from ringhold.node.storage.engine import Row, WriteBatch
from ringhold.node.storage.erasing import ROWS_PER_SLICE_MAX, erase
from ringhold.node.storage.memory import MemoryEngine

ROWS = 1_000


class Watched(MemoryEngine):
    """Notes where scans begin, and how much they are to find at most."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[bytes] = []
        self.limits: list[int] = []

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        self.begun.append(start)
        self.limits.append(limit)
        return super().scan(start, end, limit=limit, reverse=reverse)


def filled() -> Watched:
    engine = Watched()
    batch = WriteBatch()
    for kind in (b"a", b"b", b"c"):
        for number in range(ROWS):
            batch.put(kind + b"/%04d" % number, b"value")
    engine.write(batch)
    return engine


async def test_all_rows_of_the_ranges_go_and_no_others() -> None:
    """What lies between two ranges stays."""
    engine = filled()
    assert await erase(engine, [Bounds(b"a/", b"a0"), Bounds(b"c/", b"c0")]) == 2 * ROWS
    assert [key[:1] for key, _ in engine.scan(b"", b"z", limit=4 * ROWS)] == [b"b"] * ROWS


async def test_no_slice_walks_over_what_is_deleted_already() -> None:
    """RocksDB keeps a mark of each deleted row: from the start on again, the whole would take quadratic time."""
    engine = filled()
    await erase(engine, [Bounds(b"a/", b"a0")])
    assert engine.begun == sorted(set(engine.begun))
    assert len(engine.begun) < 2 * ROWS / ROWS_PER_SLICE_MAX
    assert max(engine.limits) == ROWS_PER_SLICE_MAX


async def test_others_have_the_event_loop_for_longer_than_the_deleting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow as an engine may be: others get three times what each slice takes."""
    engine, loop, sleep = filled(), asyncio.get_running_loop(), asyncio.sleep
    slept: list[float] = []

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(loop, "time", lambda: 0.002 * len(engine.begun))  # each slice takes two milliseconds
    monkeypatch.setattr(asyncio, "sleep", noted)
    await erase(engine, [Bounds(b"a/", b"a0")])
    assert slept == pytest.approx([0.006] * (len(engine.begun) - 1))
