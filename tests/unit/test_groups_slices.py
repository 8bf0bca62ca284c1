"""How much the groups of a node do at once: what one turn of the loop applies, and what one tick stores (P8)."""

import asyncio

import pytest
from support.replicas import leading, propose
from support.rows import set_of
from support.virtual_time import turns, virtual

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus import ticks
from ringhold.node.consensus.applying import SliceConfig
from ringhold.node.consensus.groups import GroupsConfig
from ringhold.node.machine.records import RecordMachine
from ringhold.node.machine.staged import Staged
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine


class CountingMachine(RecordMachine):
    """Notes how many commands it applied in which turn of the loop."""

    applied: list[tuple[int, int]]
    turn: list[int]

    def apply(self, index: int, entry: stored.LogEntry, staged: Staged) -> list[bytes]:
        self.applied.append((self.turn[0], len(entry.commands)))
        return super().apply(index, entry, staged)


@pytest.mark.parametrize("groups", [1, 5])
@virtual
async def test_a_slice_applies_no_more_than_its_bound(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: between two turns of the loop no more is applied than `reads_max` allows, however they came."""
    monkeypatch.setattr(ticks, "PACE_S", 0.0)  # time stands still while turns are counted
    CountingMachine.applied, CountingMachine.turn = [], [0]
    config = GroupsConfig(slices=SliceConfig(reads_max=8))
    engine = MemoryEngine(before_sync=lambda: turns(1))
    async with leading(engine, range(1, groups + 1), config, CountingMachine) as replicas:
        spinning = asyncio.ensure_future(spin(CountingMachine.turn))
        tickets = [
            propose(replicas, 1 + number % groups, set_of(b"%d" % number), request_id=b"%d" % number)
            for number in range(50)
        ]
        await asyncio.gather(*tickets)
        spinning.cancel()
    by_turn: dict[int, int] = {}
    for turn, commands in CountingMachine.applied:
        by_turn[turn] = by_turn.get(turn, 0) + commands
    assert sum(by_turn.values()) == 50
    assert max(by_turn.values()) <= 4


async def spin(turn: list[int]) -> None:
    while True:
        turn[0] += 1
        await asyncio.sleep(0)


@virtual
async def test_a_slice_is_bounded_in_bytes_too() -> None:
    """P8: large commands make small entries; one above the bound goes alone."""
    CountingMachine.applied, CountingMachine.turn = [], [0]
    config = GroupsConfig(slices=SliceConfig(bytes_max=100))
    async with leading(MemoryEngine(), [1], config, CountingMachine) as replicas:
        sizes = (10, 10, 300, 10)
        tickets = [
            propose(replicas, 1, set_of(b"k", bytes(size)), request_id=b"%d" % number)
            for number, size in enumerate(sizes)
        ]
        await asyncio.gather(*tickets)
    assert [commands for _, commands in CountingMachine.applied if commands] == [2, 1, 1]


class SizingEngine(MemoryEngine):
    """Notes how many bytes of log each batch brings."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[int] = []

    def write(self, batch: WriteBatch) -> None:
        logged = (len(value) for key, value in batch.puts.items() if keyspace.kind_of(key) is keyspace.Kind.LOG)
        self.appended.append(sum(logged))
        super().write(batch)


@virtual
async def test_a_tick_appends_a_bounded_amount_for_all_groups_together() -> None:
    """P8: groups that find no room wait for the next tick, and then come first."""
    engine = SizingEngine()
    groups = range(1, 21)
    async with leading(engine, groups, GroupsConfig(bytes_per_tick_max=2_000)) as replicas:
        engine.appended.clear()
        tickets = [
            propose(replicas, group, set_of(b"k", bytes(500)), request_id=b"%d:%d" % (group, number))
            for number in range(3)
            for group in groups
        ]
        await asyncio.gather(*tickets)
    assert 1_000 < max(engine.appended) < 2_000 + 2_500
    assert sum(engine.appended) > 60 * 500
