"""Messages to a replica that is not the one here: which is gone, which is to come, and which nobody knows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from support.virtual_time import LoopClock, pass_time, reached, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftKind, RaftMessage
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import ReplicaRecord
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.messages import APPEND, CONFIRM, GONE, OFFER, VOTE
from ringhold.node.keyspace import replica_key
from ringhold.node.machine.records import RecordMachine
from ringhold.node.replica_record import INSTALLING, load_record, put_new_replica
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine

GROUP = 3
GENERATION = 7
REBORN_SINCE = 5


class Said:
    """A wire that keeps what was said."""

    def __init__(self) -> None:
        self.messages: list[RaftMessage] = []

    def post(self, peer_id: str, message: RaftMessage) -> None:
        assert peer_id == "leader"
        self.messages.append(message)

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        raise AssertionError("nobody is to be reached")

    def gone(self) -> list[tuple[int, int]]:
        """(id, generation) of the replicas that were said to be gone; forgets them."""
        said = [(each.source_replica, each.since) for each in self.messages if each.kind == GONE]
        self.messages.clear()
        return said


@asynccontextmanager
async def node(engine: MemoryEngine, *, reborn_since: int = 0) -> AsyncIterator[tuple[Groups, Said]]:
    """The groups of a node in its seventh life."""
    groups, said = Groups("n1", GENERATION, engine, LoopClock(), Random(1)), Said()
    groups.attach(said)
    groups.hosting.reborn_since = reborn_since
    groups.hosting.make_machines_by(RecordMachine)
    loops = [asyncio.ensure_future(loop) for loop in (groups.run(), groups.hosting.erase_buried())]
    try:
        yield groups, said
    finally:
        for each in loops:
            each.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


def tell(groups: Groups, number: int, kind: RaftKind = OFFER, since: int = 0) -> None:
    message = RaftMessage(kind=kind, group=GROUP, term=2, target_replica=number, source_replica=1, since=since)
    groups.receive("leader", [message], 0)


@virtual
async def test_a_reborn_node_takes_no_id_for_new_that_it_may_have_had() -> None:
    """Whichever of its lost ids a leader, maybe a stale one, names first: only the loss made good says what is new."""
    engine = MemoryEngine()
    async with node(engine, reborn_since=REBORN_SINCE) as (groups, said):
        for number, kind, since in (
            (40, APPEND, 0),
            (100, OFFER, 0),
            (100, CONFIRM, 0),
            (100, OFFER, REBORN_SINCE - 1),
        ):
            tell(groups, number, kind, since)
            await reached(lambda: said.messages)
            assert said.gone() == [(number, GENERATION)]
            assert not groups.hosts(GROUP)
        tell(groups, 200, OFFER, REBORN_SINCE)
        assert groups.hosting.replica_id(GROUP) == 200
        tell(groups, 100, OFFER, 0)
        await reached(lambda: said.gone() == [(100, GENERATION)])
        assert groups.hosting.replica_id(GROUP) == 200


@virtual
async def test_a_node_that_has_lost_nothing_makes_what_a_leader_offers_rows_to() -> None:
    """By an offer only; a founder that is late, and candidates, are nobody's business."""
    engine = MemoryEngine()
    async with node(engine) as (groups, said):
        for number, kind in ((5, APPEND), (5, CONFIRM), (5, VOTE), (0, OFFER)):
            tell(groups, number, kind)
            await pass_time(0.1)
            assert not groups.hosts(GROUP)
            assert said.gone() == []
        tell(groups, 5, OFFER)
        record = load_record(engine, GROUP)
        assert record is not None
        assert (record.status, record.replica_id) == (INSTALLING, 5)


@virtual
async def test_a_damaged_record_ends_every_replica_that_may_have_been_here() -> None:
    """Which it was is not known, in later lives neither; the next one is added to make good this very loss."""
    engine, batch = MemoryEngine(), WriteBatch()
    put_new_replica(batch, GROUP, ReplicaRecord(status=INSTALLING, replica_id=9))
    batch.put(replica_key(GROUP), b"\x01not what was written")
    engine.write(batch)
    async with node(engine) as (groups, said):
        groups.open(GROUP, RecordMachine)
        tell(groups, 9)
        await reached(lambda: said.gone() == [(9, GENERATION)])
    async with node(engine) as (groups, said):
        groups.open(GROUP, RecordMachine)
        tell(groups, 12, since=GENERATION - 1)
        await reached(lambda: said.gone() == [(12, GENERATION)])
        await pass_time(0.1)  # until nothing is left of the one before
        tell(groups, 15, since=GENERATION)
        assert groups.hosting.replica_id(GROUP) == 15


@pytest.mark.parametrize("kind", [APPEND, OFFER])
@virtual
async def test_an_earlier_id_than_the_one_here_is_gone(kind: RaftKind) -> None:
    """And a later one takes its place, once nothing is left of it."""
    engine = MemoryEngine()
    async with node(engine) as (groups, said):
        tell(groups, 5)
        tell(groups, 4, kind)
        await reached(lambda: said.gone() == [(4, GENERATION)])
        tell(groups, 6)
        assert not groups.hosts(GROUP)
        await pass_time(0.1)
        tell(groups, 6)
        assert groups.hosting.replica_id(GROUP) == 6
