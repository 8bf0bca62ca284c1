"""Replicas that the log can't help: they get a snapshot of their leader, and are byte for byte like the others then."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from simulation.loop import simulate
from support.replicas import propose, rows_of
from support.ring_nodes import node_record
from support.rows import set_of
from support.trio import Loses, Trio, trio
from support.virtual_time import pass_time, reached, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import ReplicaRecord
from ringhold.node import keyspace
from ringhold.node.consensus.applying import SliceConfig
from ringhold.node.consensus.groups import Groups, GroupsConfig
from ringhold.node.consensus.states import LogBounds
from ringhold.node.consensus.tickets import NotLeader
from ringhold.node.machine.topology_machine import TopologyMachine, encode_change
from ringhold.node.peers.transport import SessionEnded
from ringhold.node.replica_record import HEALTHY, load_record
from ringhold.node.snapshots import chunks
from ringhold.node.snapshots.chunks import KINDS
from ringhold.node.snapshots.source import VIEW_KEPT_S
from ringhold.node.storage.engine import Engine, EngineFailed, Row, WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.ring.changes import TopologyChange
from ringhold.ring.topology import SYSTEM_GROUP

CONFIG = GroupsConfig(slices=SliceConfig(drop_min=8), log=LogBounds(entries_max=20))
COPIED = (keyspace.Kind.STATE, *KINDS)


def content_of(engine: Engine, group: int = 1) -> list[Row]:
    """All that replicas of a group have in common."""
    return [row for kind in COPIED for row in engine.scan(*keyspace.kind_range(kind, group), limit=100_000)]


async def write(nodes: Trio, count: int, prefix: bytes, value: bytes = b"v") -> None:
    """So many entries, one after the other."""
    for number in range(count):
        groups = nodes[nodes.leader_of(1) or ""].groups
        name = b"%b:%d" % (prefix, number)
        await propose(groups, 1, set_of(name, value, [("i", name)]), request_id=name)
        await pass_time(0.05)


def assert_equal(nodes: Trio) -> None:
    contents = [content_of(node.engine) for node in nodes.nodes.values()]
    assert contents[0]
    assert all(content == contents[0] for content in contents)


@virtual
async def test_a_replica_that_was_away_for_long_gets_a_snapshot() -> None:
    """What it lacks is in no log any more; afterwards it has every row, and the log goes on from there."""
    async with trio(1, config=CONFIG) as nodes:
        await write(nodes, 10, b"before")
        nodes.crash("n3")
        await write(nodes, 60, b"meanwhile")
        nodes.restart("n3")
        await reached(nodes.settled)
        assert nodes["n3"].installer.counts.done == 1
        assert_equal(nodes)
        await write(nodes, 10, b"after")
        await reached(nodes.settled)
        assert nodes["n3"].installer.counts.done == 1
        assert_equal(nodes)


@dataclass
class Journey:
    """What happens to the chunks on their way: `interrupt` is called with the number of each, from 1."""

    interrupt: Callable[[int], None]
    count: int = 0

    def __call__(self, chunk: SnapshotChunk) -> SnapshotChunk:
        self.count += 1
        self.interrupt(self.count)
        return chunk


async def be_away(nodes: Trio, prefix: bytes = b"meanwhile") -> None:
    """n3 is away for so long that it needs a snapshot."""
    await pass_time(0.5)  # until the leader knows that an earlier one has arrived, and keeps no more log for it
    nodes.crash("n3")
    await write(nodes, 40, prefix)


def events_of(nodes: Trio, node_id: str) -> list[str]:
    return [event for name, event, _ in nodes.events if name == node_id]


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows make many chunks."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES_MAX", 500)


@pytest.mark.usefixtures("_small_chunks")
def test_a_snapshot_that_is_interrupted_goes_on_where_it_was() -> None:
    """At whichever chunk: the view is kept, and nothing is sent twice but what was under way."""

    async def run(at: int) -> int:
        """The stream breaks at this chunk; how many came in all."""
        async with trio(1, config=CONFIG) as nodes:
            await be_away(nodes)

            def interrupt(number: int) -> None:
                if number == at:
                    raise SessionEnded("the wire is cut")

            journey = nodes.network.on_chunk = Journey(interrupt)
            nodes.restart("n3")
            await reached(nodes.settled)
            counts = nodes["n3"].installer.counts
            assert (counts.done, counts.given_up) == (1, 1 if at == 1 else 0)
            assert len({chunk.view for _, _, chunk in nodes.network.chunks}) == (2 if at == 1 else 1)
            assert_equal(nodes)
            return journey.count

    count = simulate(run(10_000))
    assert count > 10
    assert {simulate(run(at)) for at in range(1, count)} == {count + 1}


@pytest.mark.usefixtures("_small_chunks")
@virtual
async def test_a_view_that_is_gone_means_starting_over() -> None:
    """Who can't come back in time has begun for nothing; nothing of it is left."""
    async with trio(1, config=CONFIG) as nodes:
        await be_away(nodes)

        def interrupt(number: int) -> None:
            if number == 5:
                nodes.network.cut("n3", ["n1", "n2"])

        nodes.network.on_chunk = Journey(interrupt)
        nodes.restart("n3")
        await reached(lambda: nodes["n3"].installer.counts.running)
        await pass_time(VIEW_KEPT_S + 3)
        assert nodes["n1"].source.running == 0
        nodes.network.heal()
        await reached(nodes.settled)
        assert (nodes["n3"].installer.counts.given_up, nodes["n3"].installer.counts.done) == (1, 1)
        assert len({chunk.view for _, _, chunk in nodes.network.chunks}) == 2
        assert_equal(nodes)


@pytest.mark.usefixtures("_small_chunks")
@virtual
async def test_another_leader_sends_another_snapshot() -> None:
    """If the source dies in the middle, what has come of it is of no use; the next leader offers its own."""
    async with trio(1, config=CONFIG) as nodes:
        await be_away(nodes)

        def interrupt(number: int) -> None:
            if number == 5:
                nodes.crash("n1")

        nodes.network.on_chunk = Journey(interrupt)
        nodes.restart("n3")
        await reached(nodes.settled)
        assert {source for source, _, _ in nodes.network.chunks} == {"n1", "n2"}
        assert_equal(nodes)
        nodes.restart("n1")
        await reached(nodes.settled)
        assert_equal(nodes)


@pytest.mark.usefixtures("_small_chunks")
@virtual
async def test_a_damaged_chunk_is_not_installed() -> None:
    """What was damaged on its way is noticed, and the snapshot begins anew."""
    async with trio(1, config=CONFIG) as nodes:
        await be_away(nodes)

        def damage(chunk: SnapshotChunk) -> SnapshotChunk:
            if len(nodes.network.chunks) == 5:
                chunk.rows[0].value += b"x"
            return chunk

        nodes.network.on_chunk = damage
        nodes.restart("n3")
        await reached(nodes.settled)
        assert (nodes["n3"].installer.counts.given_up, nodes["n3"].installer.counts.done) == (1, 1)
        assert_equal(nodes)


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("share", [0, 1], ids=["nothing is lost", "what was not synced is lost"])
def test_a_crash_anywhere_leaves_no_half_snapshot(share: int) -> None:
    """After each write of an installation: the replica serves nothing, or all of it, and is rebuilt in the end."""

    async def run(at: int) -> bool:
        """The engine fails after so many writes; whether there were so many."""
        async with trio(1, config=CONFIG) as nodes:
            await write(nodes, 10, b"before")
            await be_away(nodes)
            nodes.restart("n3")
            fail_after(nodes["n3"].engine, at)
            await reached(lambda: nodes["n3"].has_failed or nodes.settled())
            if not nodes["n3"].has_failed:
                return False
            nodes.crash("n3", Loses(share))
            is_whole = load_record(nodes.disk("n3"), 1) == ReplicaRecord(status=HEALTHY)
            nodes.restart("n3")
            assert nodes["n3"].groups.hosting.is_healthy(1) is is_whole
            if not is_whole:
                assert_serves_nothing(nodes["n3"].groups)
            await reached(nodes.settled)
            assert_equal(nodes)
            return True

    writes = next(at for at in range(1_000) if not simulate(run(at)))
    assert writes > 15


def fail_after(engine: MemoryEngine, count: int) -> None:
    """So many batches more are written; with the next one the engine fails."""
    write = engine.write
    left = count

    def counted(batch: WriteBatch) -> None:
        nonlocal left
        if left == 0:
            engine.fail_next_write = EngineFailed("the power is off")
        left -= 1
        write(batch)

    engine.write = counted  # type: ignore[method-assign]


def assert_serves_nothing(groups: Groups) -> None:
    with pytest.raises(NotLeader) as caught:
        groups.read_stale(1, [b"before:0"])
    assert caught.value.is_lost


def damage(engine: Engine, key: bytes) -> None:
    """Another byte at the end of what is stored."""
    stored = engine.get(key)
    assert stored is not None
    batch = WriteBatch()
    batch.put(key, stored[:-1] + bytes([stored[-1] ^ 1]))
    engine.write(batch)


@virtual
async def test_damage_is_found_before_it_is_sent() -> None:
    """A leader whose row is damaged gives its rows up instead of spreading them; both are rebuilt from the third."""
    async with trio(1, config=CONFIG) as nodes:
        await write(nodes, 5, b"before")
        await be_away(nodes)
        damage(nodes["n1"].engine, keyspace.row_key(1, b"before:3"))
        nodes.restart("n3")
        await reached(nodes.settled)
        assert "rows are damaged" in events_of(nodes, "n1")
        assert nodes["n1"].installer.counts.done == nodes["n3"].installer.counts.done == 1
        assert_equal(nodes)
        assert len(rows_of(nodes["n1"].engine, 1)) == 45


@pytest.mark.parametrize("where", ["n1", "n3"], ids=["leader", "follower"])
def test_a_damaged_row_that_a_command_needs_is_rebuilt(where: str) -> None:
    """Neither does the command see it, nor does it stay: the rows are given up, and come anew from another replica."""

    @virtual
    async def run() -> None:
        async with trio(1, config=CONFIG) as nodes:
            await write(nodes, 5, b"k")
            await reached(nodes.settled)
            damage(nodes[where].engine, keyspace.row_key(1, b"k:3"))
            ticket = propose(nodes["n1"].groups, 1, set_of(b"k:3", b"new"), request_id=b"again")
            await asyncio.wait([ticket])
            assert (ticket.exception() is None) is (where == "n3")
            await reached(lambda: nodes[where].installer.counts.done and nodes.settled())
            assert_equal(nodes)
            assert rows_of(nodes[where].engine, 1)[b"k:3"].value == b"new"

    run()


@pytest.mark.parametrize("lost", ["vote", "vote missing", "log", "record"])
def test_a_replica_without_its_vote_or_log_comes_back_under_another_id(lost: str) -> None:
    """It says that it is gone, is replaced by a learner on the same node, and votes again once it has caught up."""

    @virtual
    async def run() -> None:
        async with trio(1, config=CONFIG) as nodes:
            await write(nodes, 5, b"k")
            await reached(nodes.settled)
            if lost == "log":
                await propose(nodes["n1"].groups, 1, set_of(b"last"), request_id=b"last")
            nodes.crash("n3", Loses(0))
            disk = nodes.disk("n3")
            if lost == "vote missing":
                batch = WriteBatch()
                batch.delete(keyspace.vote_key(1))
                disk.write(batch)
            elif lost == "log":
                damage(disk, disk.scan(*keyspace.kind_range(keyspace.Kind.LOG, 1), limit=1_000)[-1][0])
            else:
                damage(disk, keyspace.vote_key(1) if lost == "vote" else keyspace.replica_key(1))
            nodes.restart("n3")
            assert not nodes["n3"].groups.hosts(1)
            await reached(nodes.settled)
            await write(nodes, 5, b"more")
            await reached(nodes.settled)
            configuration = nodes["n1"].groups._replicas[1].configuration
            assert configuration.voting_nodes == ("n1", "n2", "n3")
            assert configuration.numbers["n3"] > 0
            assert_equal(nodes)

    run()


@virtual
async def test_the_topology_comes_by_snapshot_too() -> None:
    """The system group has one row, and a machine that keeps it in memory: made anew from what was installed."""
    async with trio(SYSTEM_GROUP, config=CONFIG) as nodes:
        nodes.crash("n3")
        groups = nodes["n1"].groups
        for number in range(40):
            machine = groups.machine(SYSTEM_GROUP)
            assert isinstance(machine, TopologyMachine)
            present = machine.topology
            change = TopologyChange.between(present, present.with_node(node_record(f"more-{number}")))
            await groups.propose(SYSTEM_GROUP, encode_change(change), groups.log_time_ms(SYSTEM_GROUP))
            await pass_time(0.05)
        nodes.restart("n3")
        await reached(nodes.settled)
        assert nodes["n3"].installer.counts.done == 1
        contents = [content_of(node.engine, SYSTEM_GROUP) for node in nodes.nodes.values()]
        assert contents[0] == contents[1] == contents[2]
        rebuilt = nodes["n3"].groups.machine(SYSTEM_GROUP)
        assert isinstance(rebuilt, TopologyMachine)
        assert rebuilt.topology.node("more-39") is not None
