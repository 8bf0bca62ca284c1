"""The groups of a node that replicates with nobody: what is acknowledged when, what is refused, how it ends."""

import asyncio
from random import Random

import pytest
from support.gate import Gate
from support.replicas import leading, opened, propose, rows_of, unapplied_of
from support.rows import set_of
from support.virtual_time import pass_time, reached, turns, virtual

from ringhold.api.errors import DataLoss, Overloaded, Unavailable
from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus.applying import SliceConfig
from ringhold.node.consensus.groups import ANCHOR_AHEAD_MS_MAX, GroupsConfig
from ringhold.node.consensus.tickets import AnchorOutOfRange, NotLeader
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS
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


@virtual
async def test_a_new_leader_reads_nothing_before_the_first_entry_of_its_term() -> None:
    """Section 6.4: it does not know what was acknowledged before; commands it takes, and they come after that entry."""
    gate = Gate()
    gate.close()
    replicas = opened(MemoryEngine(before_sync=gate.wait), [1])
    running = asyncio.ensure_future(replicas.run())
    await turns()
    assert replicas.leader(1) == (None, 1)
    with pytest.raises(NotLeader):
        propose(replicas, 1, set_of(b"k"), request_id=b"1")
    gate.let_through()  # the vote is durable
    await reached(lambda: replicas.is_leader(1))
    assert replicas.leader(1) == ("n1", 1)
    assert not replicas.leads(1)
    with pytest.raises(NotLeader) as caught:
        replicas.read(1, [b"k"])
    assert (caught.value.leader, caught.value.term) == (None, 1)
    written = propose(replicas, 1, set_of(b"k"), request_id=b"1")
    gate.open()
    await written
    assert len(replicas.read(1, [b"k"]).rows) == 1
    running.cancel()


@virtual
async def test_a_group_without_a_replica_here_is_refused() -> None:
    """Whatever is asked of it: this node does not lead it, and does not know who does."""
    async with leading(MemoryEngine(), [1]) as replicas:
        for refused in (
            lambda: replicas.read(9, [b"k"]),
            lambda: replicas.read_stale(9, [b"k"]),
            lambda: replicas.behind_ms(9),
            lambda: replicas.propose(9, b"", 1),
        ):
            with pytest.raises(NotLeader) as caught:
                refused()
            assert (caught.value.group, caught.value.leader) == (9, None)
        with pytest.raises(NotLeader):
            await replicas.confirm(9)
        assert not replicas.leads(9)
        assert not replicas.hosts(9)
        assert replicas.leader(9) == (None, 0)


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
    async with leading(
        MemoryEngine(before_sync=gate.wait), [1], GroupsConfig(slices=SliceConfig(reads_max=4))
    ) as replicas:
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
        assert caught.value.details["partition"] == "2"
