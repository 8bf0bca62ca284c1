"""A node's copy of the topology: durable before it counts, never older, never another cluster's."""

import asyncio
from random import Random

import pytest
from support.gate import Gate
from support.ring_nodes import node_record, node_records
from support.virtual_time import turns, virtual

from ringhold.node.machine.topology_machine import load_topology
from ringhold.node.storage.engine import EngineFailed
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import ForeignTopology, TopologyStore
from ringhold.ring.placement import found
from ringhold.ring.topology import Topology

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


@virtual
async def test_the_system_groups_founding_replica_is_made_once_by_its_voter() -> None:
    """It comes with epoch 1 in the same batch, on a voter only, and a later epoch makes none."""
    voter = FIRST.system_voters[0]
    other = next(node.id for node in FIRST.nodes if node.id != voter)
    for node_id, topology, expected in ((voter, FIRST, FIRST), (other, FIRST, None), (voter, SECOND, None)):
        engine = MemoryEngine()
        await TopologyStore(node_id, engine).adopt(topology)
        assert load_topology(engine) == expected


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
