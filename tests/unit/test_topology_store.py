"""A node's copy of the topology: durable before it counts, never older, never another cluster's."""

import asyncio
from random import Random

import pytest
from support.gate import Gate
from support.ring_nodes import node_record, node_records
from support.virtual_time import turns, virtual

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.topology_machine import load_topology
from ringhold.node.replica_record import hosted_groups
from ringhold.node.storage.engine import EngineFailed
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import ForeignTopology, TopologyStore
from ringhold.ring.placement import found
from ringhold.ring.topology import SYSTEM_GROUP, Topology, group_of_partition

FIRST = found("c", "id-1", 8, 1, node_records(3))
SECOND = FIRST.with_node(node_record("later"))
THIRD = SECOND.with_node(node_record("latest"))


class KeepsAll(Random):
    """The chance that loses nothing."""

    def randint(self, a: int, b: int) -> int:
        return a


class DropsAll(Random):
    """The chance that loses all that was not synced."""

    def randint(self, a: int, b: int) -> int:
        return b


@virtual
async def test_a_topology_counts_only_once_it_is_durable() -> None:
    """Nobody hears of a cluster that a crash could make this node forget."""
    gate = Gate()
    engine = MemoryEngine(before_sync=gate.wait)
    store = TopologyStore("n0000", engine)
    heard: list[int] = []
    store.on_change(lambda topology: heard.append(topology.epoch))
    gate.close()
    adopting = asyncio.ensure_future(store.adopt(FIRST))
    await turns()
    assert (store.current, store.cluster_id, heard) == (None, "", [])
    gate.open()
    await adopting
    assert (store.known, store.cluster_id, heard) == (FIRST, "id-1", [1])
    assert TopologyStore("n0000", engine.crash(DropsAll())).current == FIRST


@virtual
async def test_an_older_topology_is_ignored() -> None:
    """Epochs only grow, and nobody is told of one twice."""
    store = TopologyStore("n0000", MemoryEngine())
    heard: list[int] = []
    store.on_change(lambda topology: heard.append(topology.epoch))
    for topology in (FIRST, THIRD, SECOND, THIRD, FIRST):
        await store.adopt(topology)
    assert (store.known, heard) == (THIRD, [1, 3])


@pytest.mark.parametrize("order", [(THIRD, SECOND), (SECOND, THIRD)])
@virtual
async def test_of_two_at_once_the_newer_is_kept_on_disk_too(order: tuple[Topology, ...]) -> None:
    """An older epoch is never written over a newer one, also while that is being synced."""
    gate = Gate()
    engine = MemoryEngine(before_sync=gate.wait)
    store = TopologyStore("n0000", engine)
    await store.adopt(FIRST)
    gate.close()
    adopting = [asyncio.ensure_future(store.adopt(topology)) for topology in order]
    await turns()
    gate.open()
    await asyncio.gather(*adopting)
    assert store.known == THIRD
    assert TopologyStore("n0000", engine.crash(KeepsAll())).known == THIRD


@virtual
async def test_another_clusters_topology_is_refused() -> None:
    """P10: once adopted, a cluster is for life."""
    store = TopologyStore("n0000", MemoryEngine())
    await store.adopt(FIRST)
    with pytest.raises(ForeignTopology, match="id-2"):
        await store.adopt(found("c", "id-2", 8, 1, node_records(3)).with_node(node_record("later")))
    assert store.known == FIRST


def state_rows(engine: MemoryEngine) -> dict[int, GroupState]:
    return {group: load_state(engine, group) for group in hosted_groups(engine)}


def expected_voters(node_id: str, topology: Topology) -> dict[int, tuple[str, ...]]:
    """By group of which epoch 1 gives the node a replica."""
    groups = {group_of_partition(partition): targets for partition, targets in enumerate(topology.targets)}
    groups[SYSTEM_GROUP] = topology.system_voters
    return {group: voters for group, voters in groups.items() if node_id in voters}


@pytest.mark.parametrize("replication_factor", [1, 2, 3, 5])
@virtual
async def test_every_founder_makes_its_replicas_with_epoch_1(replication_factor: int) -> None:
    """One per group that names the node, with the targets as voters in order; the system group's has a topology."""
    founding = found("c", "id-1", 8, replication_factor, node_records(4))
    for node in founding.nodes:
        engine = MemoryEngine()
        store = TopologyStore(node.id, engine)
        await store.adopt(founding)
        states, expected = state_rows(engine), expected_voters(node.id, founding)
        assert store.founded_here == states.keys() == expected.keys()
        for group, state in states.items():
            members = [(member.node_id, member.replica_id) for member in state.configuration.voters]
            assert members == [(voter, 0) for voter in expected[group]]
            assert (state.applied_index, state.configuration_index, len(state.configuration.learners)) == (0, 0, 0)
        assert load_topology(engine) == (founding if node.id in founding.system_voters else None)


class Memory:
    """What a node remembers outside of its engine: takes its time while `gate` is closed."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.cluster_ids: list[str] = []

    async def remember(self, cluster_id: str) -> None:
        await self.gate.wait()
        self.cluster_ids.append(cluster_id)


@virtual
async def test_an_adoption_counts_only_once_it_is_remembered_outside_of_the_engine() -> None:
    """First the engine, then the memory, then the node: a crash in between leaves what nobody has heard of."""
    memory, engine_gate = Memory(), Gate()
    engine = MemoryEngine(before_sync=engine_gate.wait)
    store = TopologyStore("n0000", engine, memory.remember)
    memory.gate.close()
    engine_gate.close()
    adopting = asyncio.ensure_future(store.adopt(FIRST))
    await turns()
    assert (engine_gate.waiting, memory.gate.waiting) == (1, 0)
    engine_gate.open()
    await turns()
    assert (memory.gate.waiting, store.current) == (1, None)
    memory.gate.open()
    await adopting
    assert (memory.cluster_ids, store.known) == (["id-1"], FIRST)
    await store.adopt(SECOND)
    assert memory.cluster_ids == ["id-1"]


@virtual
async def test_founding_replicas_come_with_epoch_1_or_not_at_all() -> None:
    """The topology, epoch 1 and the replicas are one batch: after a crash all are there, or the node is empty."""
    engine = MemoryEngine()
    await TopologyStore("n0000", engine).adopt(FIRST)
    assert engine.stats().batches_written == 1
    gate = Gate()
    gate.close()
    unsynced = MemoryEngine(before_sync=gate.wait)
    adopting = asyncio.ensure_future(TopologyStore("n0000", unsynced).adopt(FIRST))
    await turns()
    empty = unsynced.crash(DropsAll())
    assert hosted_groups(empty) == []
    assert TopologyStore("n0000", empty).founding is None
    adopting.cancel()


@virtual
async def test_founding_replicas_are_made_once() -> None:
    """The next life finds them, knows that they are not new, and a later epoch neither adds nor changes any."""
    engine = MemoryEngine()
    await TopologyStore("n0000", engine).adopt(FIRST)
    before = state_rows(engine)
    again = TopologyStore("n0000", engine)
    assert (again.founding, again.founded_here) == (FIRST, frozenset())
    everywhere = SECOND.with_targets(tuple(("n0000",) for _ in SECOND.targets))
    await again.join(FIRST, everywhere)
    assert again.known == everywhere
    assert (again.founding, again.founded_here, state_rows(engine)) == (FIRST, frozenset(), before)


@virtual
async def test_a_late_founder_makes_its_replicas_from_epoch_1() -> None:
    """It first hears of a later epoch with other targets: those say nothing about what it founds."""
    elsewhere = SECOND.with_targets(tuple(("later",) for _ in SECOND.targets))
    engine = MemoryEngine()
    store = TopologyStore("n0000", engine)
    await store.join(FIRST, elsewhere)
    assert (store.known, store.founding) == (elsewhere, FIRST)
    assert set(state_rows(engine)) == store.founded_here == expected_voters("n0000", FIRST).keys()
    again = TopologyStore("n0000", engine.crash(DropsAll()))
    assert (again.current, again.founding) == (elsewhere, FIRST)


@virtual
async def test_a_node_that_came_later_makes_no_replica() -> None:
    """Even if the targets name it by now, it gets replicas from leaders only; it keeps epoch 1 for others, though."""
    engine = MemoryEngine()
    store = TopologyStore("later", engine)
    await store.join(FIRST, SECOND.with_targets(tuple(("later",) for _ in SECOND.targets)))
    assert (store.founding, store.founded_here, hosted_groups(engine)) == (FIRST, frozenset(), [])
    assert TopologyStore("later", engine.crash(DropsAll())).founding == FIRST


@virtual
async def test_a_first_topology_without_its_epoch_1_is_a_bug() -> None:
    """Replicas are made from epoch 1 only, so nothing else can begin a node's membership."""
    engine = MemoryEngine()
    store = TopologyStore("n0000", engine)
    with pytest.raises(AssertionError, match="epoch 2"):
        await store.adopt(SECOND)
    assert (store.current, hosted_groups(engine)) == (None, [])


@virtual
async def test_a_failed_sync_adopts_nothing() -> None:
    """The failure goes up, for the node must stop; the topology does not count."""
    engine = MemoryEngine()
    store = TopologyStore("n0000", engine)
    engine.fail_next_sync = EngineFailed("EIO")
    with pytest.raises(EngineFailed):
        await store.adopt(FIRST)
    assert store.current is None


@virtual
async def test_that_the_cluster_has_formed_is_remembered() -> None:
    """A restarted node need not ask for a majority again."""
    engine = MemoryEngine()
    store = TopologyStore("n0000", engine)
    await store.adopt(FIRST)
    before = store.formed
    await store.mark_formed()
    assert (before, store.formed) == (False, True)
    assert TopologyStore("n0000", engine.crash(DropsAll())).formed
