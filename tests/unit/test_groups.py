"""All groups of a node: what is acknowledged when, what a crash leaves, and the bounds of a tick."""

import asyncio
from random import Random

import pytest
from support.gate import Gate
from support.replicas import entries_of, leading, opened, propose, rows_of, unapplied_of
from support.rows import delete_of, set_of
from support.virtual_time import pass_time, reached, turns, virtual

from ringhold.api.errors import DataLoss, Overloaded, Unavailable
from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus.groups import ANCHOR_AHEAD_MS_MAX, AnchorOutOfRange, Groups, GroupsConfig, NotLeader
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.records import RecordMachine
from ringhold.node.machine.staged import Staged
from ringhold.node.storage.engine import EngineFailed, WriteBatch
from ringhold.node.storage.memory import MemoryEngine


@virtual
async def test_a_write_is_acknowledged_and_visible_only_after_its_sync() -> None:
    """P1: neither the answer nor the row is there before the log entry is durable."""
    gate = Gate()
    engine = MemoryEngine(before_sync=gate.wait)
    async with leading(engine) as replicas:
        gate.close()
        ticket = propose(replicas, 1, set_of(b"k", b"v"), request_id=b"1")
        await turns()
        assert gate.waiting
        assert not ticket.done()
        assert replicas.read(1, [b"k"]).rows == [None]
        gate.open()
        applied = await ticket
        row = replicas.read(1, [b"k"]).rows[0]
    assert row is not None
    assert stored.Row.FromString(row).value == b"v"
    assert stored.Outcome.FromString(applied.outcome).results[0].version == 1


@virtual
async def test_what_was_acknowledged_survives_a_crash_at_that_very_moment() -> None:
    """P1: the answer promises durability, so a crash that drops all unsynced batches takes nothing acknowledged."""
    engine = MemoryEngine()
    async with leading(engine) as replicas:
        await propose(replicas, 1, set_of(b"k", b"v"), request_id=b"1")
        recovered = engine.crash(DropsAll())
    async with leading(recovered) as replicas:
        assert list(rows_of(recovered, 1)) == [b"k"]


class DropsAll(Random):
    """The chance that loses most."""

    def randint(self, a: int, b: int) -> int:
        return b


@virtual
async def test_one_entry_per_group_and_tick() -> None:
    """What comes during a sync is one entry per group at the next tick, in the order of the proposals."""
    gate = Gate()
    engine = MemoryEngine(before_sync=gate.wait)
    async with leading(engine) as replicas:
        gate.close()
        first = propose(replicas, 1, set_of(b"first"), request_id=b"0")
        await reached(lambda: gate.waiting)
        more = [
            propose(replicas, 1 + number % 2, set_of(b"%d" % number), request_id=b"id:%d" % number)
            for number in range(6)
        ]
        gate.let_through()
        await first
        await reached(lambda: gate.waiting)
        assert [len(entry.commands) for entry in unapplied_of(engine, 1)] == [3]
        assert [len(entry.commands) for entry in unapplied_of(engine, 2)] == [3]
        gate.open()
        versions = [stored.Outcome.FromString((await ticket).outcome).results[0].version for ticket in more]
        assert versions == [2, 1, 3, 2, 4, 3]


class CountingMachine(RecordMachine):
    """Notes how many commands it applied in which turn of the loop."""

    applied: list[tuple[int, int]]
    turn: list[int]

    def apply(self, index: int, entry: stored.LogEntry, staged: Staged) -> list[bytes]:
        self.applied.append((self.turn[0], len(entry.commands)))
        return super().apply(index, entry, staged)


@pytest.mark.parametrize("groups", [1, 5])
@virtual
async def test_a_slice_applies_no_more_than_its_bound(groups: int) -> None:
    """P8: between two turns of the loop no more is applied than `reads_per_slice_max` allows, however they came."""
    CountingMachine.applied, CountingMachine.turn = [], [0]
    config = GroupsConfig(reads_per_slice_max=8)
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
    config = GroupsConfig(bytes_per_slice_max=100)
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


@virtual
async def test_reads_are_refused_before_the_first_entry_of_the_term() -> None:
    """A new leader names itself but reads nothing until its own first entry is applied."""
    gate = Gate()
    gate.close()
    replicas = opened(MemoryEngine(before_sync=gate.wait), [1])
    running = asyncio.ensure_future(replicas.run())
    await turns()
    for refused in (lambda: replicas.read(1, [b"k"]), lambda: propose(replicas, 1, set_of(b"k"), request_id=b"1")):
        with pytest.raises(NotLeader) as caught:
            refused()
        assert (caught.value.leader, caught.value.term) == ("n1", 1)
    assert not replicas.leads(1)
    gate.open()
    await reached(lambda: replicas.leads(1))
    assert replicas.read(1, [b"k"]).rows == [None]
    with pytest.raises(NotLeader) as caught:
        replicas.read(9, [b"k"])
    assert caught.value.leader is None
    running.cancel()


@pytest.mark.parametrize(
    ("offset_ms", "accepted"),
    [
        (-DEDUPE_WINDOW_MS, False),
        (-DEDUPE_WINDOW_MS + 1, True),
        (ANCHOR_AHEAD_MS_MAX, True),
        (ANCHOR_AHEAD_MS_MAX + 1, False),
    ],
)
@virtual
async def test_an_anchor_outside_the_window_is_refused_with_the_log_time(offset_ms: int, accepted: bool) -> None:
    """Beyond either end nothing is appended, and the refusal says where the window is."""
    engine = MemoryEngine()
    async with leading(engine, [1]) as replicas:
        await pass_time(1_000)
        log_time_ms = replicas.log_time_ms(1)
        if accepted:
            await propose(replicas, 1, set_of(b"k"), request_id=b"1", anchor_ms=log_time_ms + offset_ms)
        else:
            with pytest.raises(AnchorOutOfRange) as caught:
                propose(replicas, 1, set_of(b"k"), request_id=b"1", anchor_ms=log_time_ms + offset_ms)
            assert caught.value.log_time_ms == log_time_ms
        assert bool(rows_of(engine, 1)) is accepted
        assert replicas.commands_waiting == 0


@pytest.mark.parametrize("config", [GroupsConfig(commands_waiting_max=3), GroupsConfig(bytes_waiting_max=3 * 1_000)])
@virtual
async def test_too_many_commands_are_overload_until_some_are_answered(config: GroupsConfig) -> None:
    """P8: commands and bytes that wait are bounded; more is refused with a time to come back, and taken again later."""
    async with leading(MemoryEngine(), [1], config) as replicas:
        tickets = [propose(replicas, 1, set_of(b"k", bytes(1_000)), request_id=b"%d" % number) for number in range(3)]
        with pytest.raises(Overloaded) as caught:
            propose(replicas, 1, set_of(b"k"), request_id=b"x")
        assert int(caught.value.details["retry_after_ms"]) > 0
        await asyncio.gather(*tickets)
        assert (replicas.commands_waiting, replicas.bytes_waiting) == (0, 0)
        await propose(replicas, 1, set_of(b"k"), request_id=b"y")


@virtual
async def test_a_drain_answers_what_was_accepted_and_refuses_the_rest() -> None:
    """No accepted command is left without an answer; a later one is told that nothing was appended."""
    gate = Gate()
    async with leading(MemoryEngine(before_sync=gate.wait), [1], GroupsConfig(reads_per_slice_max=4)) as replicas:
        gate.close()
        tickets = [propose(replicas, 1, set_of(b"%d" % number), request_id=b"%d" % number) for number in range(7)]
        draining = asyncio.ensure_future(replicas.drain())
        await turns()
        assert not draining.done()
        with pytest.raises(Unavailable) as caught:
            propose(replicas, 1, set_of(b"late"), request_id=b"late")
        assert caught.value.reason == "DRAINING"
        gate.open()
        await draining
        assert all(ticket.done() for ticket in tickets)
        assert len({stored.Outcome.FromString(ticket.result().outcome).results[0].version for ticket in tickets}) == 7


@pytest.mark.parametrize("fault", ["fail_next_write", "fail_next_sync"])
@virtual
async def test_a_failed_engine_ends_the_loop_unacknowledged(fault: str) -> None:
    """Nothing is retried or acknowledged after a failure; new commands are refused, and a drain does not hang."""
    engine = MemoryEngine()
    replicas = opened(engine, [1])
    running = asyncio.ensure_future(replicas.run())
    await reached(lambda: replicas.leads(1))
    setattr(engine, fault, EngineFailed("EIO"))
    ticket = propose(replicas, 1, set_of(b"k"), request_id=b"1")
    with pytest.raises(EngineFailed, match="EIO"):
        await running
    assert not ticket.done()
    with pytest.raises(Unavailable):
        propose(replicas, 1, set_of(b"k"), request_id=b"2")
    await replicas.drain()


@virtual
async def test_the_log_keeps_a_bounded_number_of_applied_entries() -> None:
    """Applied entries are dropped together, those of before a restart too."""
    engine = MemoryEngine()
    config = GroupsConfig(applied_log_max=8)
    log = keyspace.kind_range(keyspace.Kind.LOG, 1)
    for life in range(4):
        async with leading(engine, [1], config) as replicas:
            for number in range(20):
                await propose(replicas, 1, set_of(b"k"), request_id=b"%d:%d" % (life, number))
                assert len(engine.scan(*log, limit=1_000)) <= 9


@virtual
async def test_a_repeated_command_has_the_stored_outcome() -> None:
    """P3: the same request_id and anchor take effect once, also over a restart."""
    engine = MemoryEngine()
    async with leading(engine, [1]) as replicas:
        anchor = replicas.log_time_ms(1)
        first = await propose(replicas, 1, set_of(b"k", b"v"), request_id=b"1", anchor_ms=anchor)
        await propose(replicas, 1, set_of(b"k", b"w"), request_id=b"2")
        again = await propose(replicas, 1, set_of(b"k", b"v"), request_id=b"1", anchor_ms=anchor)
        assert again.outcome == first.outcome
    async with leading(engine, [1]) as replicas:
        again = await propose(replicas, 1, set_of(b"k", b"v"), request_id=b"1", anchor_ms=anchor)
        assert again.outcome == first.outcome
    assert rows_of(engine, 1)[b"k"].value == b"w"


@virtual
async def test_a_damaged_row_is_data_loss_that_names_the_partition() -> None:
    """A row whose checksum is wrong is never served, not even as absent."""
    engine = MemoryEngine()
    async with leading(engine, [3]) as replicas:
        await propose(replicas, 3, set_of(b"k", b"v"), request_id=b"1")
        batch = WriteBatch()
        batch.put(keyspace.row_key(3, b"k"), b"\x01garbage-garbage")
        engine.write(batch)
        with pytest.raises(DataLoss) as caught:
            replicas.read(3, [b"k"])
        assert caught.value.details == {"partition": "2"}


class Writer:
    """Proposes numbered pairs of keys to one group and knows which were acknowledged."""

    def __init__(self, replicas: Groups, group: int, rng: Random) -> None:
        self.group = group
        self.tickets: list[asyncio.Future[object]] = []
        self._replicas = replicas
        self._rng = rng

    def write(self) -> None:
        """A command of several mutations, so that half of it would show."""
        number = len(self.tickets)
        value = b"%d" % number
        mutations = [set_of(name, value, [("number", value), ("side", name)]) for name in (b"left", b"right")]
        mutations.append(set_of(b"only:%d" % number, value, [("only", value)]))
        if number and self._rng.random() < 0.5:
            mutations.append(delete_of(b"only:%d" % (number - 1)))
        ticket = propose(self._replicas, self.group, *mutations, request_id=b"%d" % number)
        self.tickets.append(asyncio.ensure_future(ticket))

    @property
    def acknowledged(self) -> int:
        """How many of the first commands were acknowledged."""
        done = [number for number, ticket in enumerate(self.tickets, 1) if ticket.done() and not ticket.cancelled()]
        return done[-1] if done else 0


@pytest.mark.parametrize("seed", range(60))
@virtual
async def test_a_crash_at_any_point_leaves_a_prefix_with_all_that_was_acknowledged(seed: int) -> None:
    """P1, P4: whole commands in their order, all acknowledged ones among them, and index entries equal to the rows."""
    rng = Random(seed)
    engine = MemoryEngine(before_sync=lambda: turns(rng.randint(0, 3)))
    config = GroupsConfig(reads_per_slice_max=rng.choice((2, 4, 200)))
    async with leading(engine, [1, 2], config) as replicas:
        writers = [Writer(replicas, group, rng) for group in (1, 2)]
        for _ in range(rng.randint(1, 60)):
            rng.choice(writers).write()
            await turns(rng.randint(0, 2))
        acknowledged = [writer.acknowledged for writer in writers]
        engine = engine.crash(rng)
    for _ in range(rng.randint(0, 2)):  # a crash while it recovers
        replicas = opened(engine, [1, 2], config)
        running = asyncio.ensure_future(replicas.run())
        await turns(rng.randint(0, 6))
        engine = engine.crash(rng)
        running.cancel()
    async with leading(engine, [1, 2], config):
        for writer, count in zip(writers, acknowledged, strict=True):
            survived = check_group(engine, writer.group)
            assert count <= survived <= len(writer.tickets)


def check_group(engine: MemoryEngine, group: int) -> int:
    """How many commands survived, after a check that they are whole and that all records agree."""
    rows = rows_of(engine, group)
    state = load_state(engine, group)
    assert state.keys == len(rows)
    assert entries_of(engine, group) == {(e.name, e.value, key) for key, row in rows.items() for e in row.indexes}
    assert unapplied_of(engine, group) == []
    if not rows:
        return 0
    assert rows[b"left"].value == rows[b"right"].value
    last = int(rows[b"left"].value)
    assert max(int(key[5:]) for key in rows if key.startswith(b"only:")) == last
    assert state.dedupe_records == last + 1
    return last + 1
