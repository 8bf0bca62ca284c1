"""A node that can't adopt a topology any more hears at its start that its cluster has removed it."""

from dataclasses import replace

import pytest
from support.founders import Founder, Street
from support.ring_nodes import node_record
from support.virtual_time import pass_time, reached, virtual

from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.reborn import REBORN_KEY, Reborn
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.changes import remove
from ringhold.ring.placement import found
from ringhold.ring.topology import NodeState


@virtual
async def test_a_founder_of_one_that_was_removed_founds_nothing_again() -> None:
    """Its topology says that it is REMOVED: without seeds there is nobody to ask, and no second cluster."""
    street = Street()
    founder = Founder(street, "a", expect=1, seeds=())
    store = TopologyStore("id-a", founder.engine)
    await store.adopt(found("c", "c-1", 8, 3, [node_record(name) for name in ("id-a", "id-b", "id-c")]))
    await store.adopt(remove(store.known, "id-a"))
    founder.start()
    await reached(lambda: founder.founding.heard_removed)
    assert "has removed this node" in founder.founding.waiting_for
    assert founder.store.known.epoch == 2
    await street.stop(founder)


@pytest.mark.parametrize("is_reborn", [False, True], ids=["never adopted", "reborn"])
@virtual
async def test_a_node_without_a_topology_hears_it_from_the_others(is_reborn: bool) -> None:
    """Its engine was lost, or it was removed before it had adopted anything: a member tells it, and that is all."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    cluster_id = a.store.cluster_id
    await a.crash()
    for founder in (b, c):
        await founder.store.adopt(remove(founder.store.known, "id-a"))
    a.engine = MemoryEngine()
    if is_reborn:
        batch = WriteBatch()
        batch.put(REBORN_KEY, Reborn(cluster_id, 2, "lost", None).encode())
        a.engine.write(batch)
        await a.engine.sync()
    a.start()
    await reached(lambda: a.founding.heard_removed)
    assert a.store.current is None
    await street.stop(a, b, c)


@virtual
async def test_another_cluster_removes_nobody() -> None:
    """A node that is to return to its own cluster does not believe what another one says of it."""
    street = Street()
    b, c = (Founder(street, name, expect=2, seeds=("b:2", "c:2")) for name in "bc")
    for founder in (b, c):
        founder.start()
    await reached(lambda: b.is_formed and c.is_formed)
    gone = replace(node_record("id-a", state=NodeState.REMOVED), name="a")
    topology = b.store.known
    nodes = tuple(sorted((*topology.nodes, gone), key=lambda node: node.id))
    await b.store.adopt(replace(topology, epoch=2, nodes=nodes))
    a = Founder(street, "a")
    batch = WriteBatch()
    batch.put(REBORN_KEY, Reborn("its-own", 2, "lost", None).encode())
    a.engine.write(batch)
    a.start()
    await pass_time(60)
    assert not a.founding.heard_removed
    await street.stop(a, b, c)
