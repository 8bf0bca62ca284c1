"""How a cluster begins, with all that may go wrong: one cluster, founded once, served not too early (DESIGN 8.5)."""

import asyncio
from dataclasses import replace
from random import Random

import pytest
from support.founders import Founder, Street
from support.gate import Gate
from support.virtual_time import pass_time, reached, virtual

from ringhold.gossip.ports import OtherCluster
from ringhold.node.founding import ASK_FOR_FOUNDING, FORMATION_ROUTE, TOPOLOGY_ROUTE, node_record
from ringhold.node.replica_record import hosted_groups
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.reborn import REBORN_KEY, Reborn
from ringhold.node.topology_store import ForeignTopology, TopologyStore
from ringhold.ring.topology import NodeRecord, NodeState


@virtual
async def test_a_node_alone_founds_at_once_and_only_once() -> None:
    """Without seeds it waits for nobody; its next life finds the cluster on its disk."""
    street = Street()
    alone = Founder(street, "a", expect=1, seeds=())
    await alone.start()
    cluster_id = alone.store.cluster_id
    assert cluster_id
    assert asyncio.get_running_loop().time() == 0
    await alone.crash()
    await alone.start()
    assert (alone.store.cluster_id, alone.store.formed) == (cluster_id, True)
    await street.stop(alone)


@pytest.mark.parametrize("seed", range(20))
@virtual
async def test_three_nodes_form_one_cluster_whatever_happens_on_the_way(seed: int) -> None:
    """They start in any order, are killed at any moment and come back: at the end one cluster holds all three."""
    rng = Random(seed)
    street = Street()
    founders = [Founder(street, name) for name in "abc"]
    for founder in rng.sample(founders, 3):
        founder.engine = MemoryEngine(before_sync=lambda: pass_time(rng.uniform(0, 0.05)))
        founder.start()
        await pass_time(rng.uniform(0, 1))
    for _ in range(rng.randint(0, 6)):
        victim = rng.choice(founders)
        await victim.crash()
        await pass_time(rng.uniform(0, 0.3))
        victim.start()
        await pass_time(rng.uniform(0, 0.3))
    await reached(lambda: all(founder.is_formed for founder in founders))
    assert len({founder.store.cluster_id for founder in founders}) == 1
    assert [node.name for node in founders[0].store.known.nodes] == ["a", "b", "c"]
    assert {node.state for node in founders[0].store.known.nodes} == {NodeState.NORMAL}
    assert {founder.store.founding for founder in founders} == {founders[0].store.known}
    for founder in founders:
        assert hosted_groups(founder.engine) == list(range(9))
    await street.stop(*founders)


@virtual
async def test_until_all_answer_every_node_says_for_whom_it_waits() -> None:
    """Two of three form nothing, however long they wait; then the third comes."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b):
        founder.start()
    await pass_time(60)
    assert "1 of 3 nodes have not answered yet (so far: b)" in a.founding.waiting_for
    assert a.store.current is b.store.current is None
    c.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    assert a.founding.waiting_for == ""
    assert [figures["reason"] for event, figures in a.logged if event == "waiting"].count(a.founding.waiting_for) == 0
    await street.stop(a, b, c)


@virtual
async def test_epoch_1_is_durable_before_anybody_hears_of_it() -> None:
    """A founder that dies before its sync has founded nothing; it founds again, and the others adopt that one."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    gate = Gate()
    gate.close()
    a.engine = MemoryEngine(before_sync=gate.wait)
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: gate.waiting)
    await pass_time(5)
    assert [founder.store.cluster_id for founder in (a, b, c)] == ["", "", ""]
    await a.crash()
    gate.open()
    a.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    assert len({founder.store.cluster_id for founder in (a, b, c)}) == 1
    await street.stop(a, b, c)


@virtual
async def test_nothing_is_served_until_a_majority_has_adopted() -> None:
    """A founder that nobody can reach any more waits, and names who is missing."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (b, c):
        founder.start()
    a.start()
    street.cut = lambda source, target: bool(a.store.cluster_id) and "a:2" in (source, target)
    await pass_time(60)
    assert a.store.cluster_id
    assert not a.is_formed
    assert "missing: b, c" in a.founding.waiting_for
    street.cut = lambda source, target: "c:2" in (source, target)
    await reached(lambda: a.is_formed and b.is_formed)
    await street.stop(a, b, c)


@virtual
async def test_a_node_that_lost_its_disk_never_founds_a_second_cluster() -> None:
    """The first seed comes back empty, with a new id, and hears of one member: it waits to be let in."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    cluster_id = a.store.cluster_id
    await a.crash()
    a.engine, a.node_id = MemoryEngine(), "id-new"
    street.cut = lambda source, target: "c:2" in (source, target)
    a.start()
    await pass_time(60)
    assert a.store.current is None
    assert "has not admitted this node yet; its name a belongs to another node, id-a" in a.founding.waiting_for
    assert b.store.cluster_id == cluster_id
    await street.stop(a, b, c)


@virtual
async def test_a_later_node_joins_once_the_topology_lists_it() -> None:
    """It adopts the epoch that names it, from whoever has it; the founders need not be asked again."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    late = Founder(street, "late", expect=0, seeds=("b:2",))
    late.start()
    await pass_time(3)
    assert "has not admitted this node yet" in late.founding.waiting_for
    listed = b.store.known.with_node(record_of(late))
    await b.store.adopt(listed)
    await reached(lambda: late.is_formed)
    assert late.store.known == listed
    assert (late.store.founding, late.store.founded_here) == (b.store.founding, frozenset())
    await street.stop(a, b, c, late)


@virtual
async def test_a_founder_that_hears_of_the_cluster_late_makes_its_founding_replicas() -> None:
    """It was silent while others joined; its replicas are those of epoch 1, once, and its next life makes none."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    street.cut = lambda source, target: bool(a.store.cluster_id) and "c:2" in (source, target)
    await reached(lambda: a.is_formed and b.is_formed)
    assert c.store.current is None
    newcomer = replace(record_of(c), id="id-late", name="late")
    newest = b.store.known.with_node(newcomer).with_targets(tuple(("id-a",) for _ in range(8)))
    await b.store.adopt(newest)
    street.cut = lambda source, target: False
    await reached(lambda: c.is_formed)
    assert (c.store.known, c.store.founding) == (newest, a.store.founding)
    assert c.store.founded_here == set(hosted_groups(c.engine)) == set(range(9))
    await c.crash()
    c.start()
    await reached(lambda: c.is_formed)
    assert (c.store.known, c.store.founded_here) == (newest, frozenset())
    await street.stop(a, b, c)


def reborn_engine(cluster_id: str) -> MemoryEngine:
    """What a node of that cluster begins with after it has lost its engine."""
    engine = MemoryEngine()
    engine.write(WriteBatch({REBORN_KEY: Reborn(cluster_id, 2, "it is empty", None).encode()}))
    engine.close()
    return engine.crash(Random(0))


@pytest.mark.parametrize("moved_on", [False, True])
@virtual
async def test_a_reborn_founder_returns_without_its_replicas(moved_on: bool) -> None:
    """It adopts its cluster, also from epoch 1, and makes no replica again: the old ones' promises are forgotten."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    await c.crash()
    if moved_on:
        await b.store.adopt(b.store.known.with_node(replace(record_of(a), zone="z")))
    c.engine = reborn_engine(a.store.cluster_id)
    c.start()
    await reached(lambda: c.is_formed)
    assert (c.store.known.epoch, c.store.founding) == (2 if moved_on else 1, a.store.founding)
    assert (c.store.founded_here, hosted_groups(c.engine)) == (frozenset(), [])
    await c.crash()
    c.start()
    await reached(lambda: c.is_formed)
    assert (hosted_groups(c.engine), c.store.reborn is not None) == ([], True)
    await street.stop(a, b, c)


@virtual
async def test_a_reborn_node_never_founds() -> None:
    """Neither as the first seed of empty nodes, nor alone: it waits for its own cluster, and says so."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    alone = Founder(street, "x", expect=1, seeds=())
    for founder in (a, alone):
        founder.engine = reborn_engine("c-1")
    for founder in (a, b, c, alone):
        founder.start()
    await pass_time(30)
    for founder in (a, alone):
        assert founder.store.current is None
        assert "is rebuilt by the cluster with id c-1, of which no node answers yet" in founder.founding.waiting_for
    await street.stop(a, b, c, alone)


@virtual
async def test_a_reborn_node_joins_no_other_cluster() -> None:
    """P10: one that answers with another id is named and left, whatever its topology says; then its own comes."""
    street = Street()
    other = Founder(street, "a", expect=1, seeds=())
    await other.start()
    own = Founder(street, "b", expect=1, seeds=())
    await own.start()
    lost = Founder(street, "c", seeds=("a:2", "b:2"))
    for founder in (other, own):
        await founder.store.adopt(founder.store.known.with_node(record_of_unstarted(lost)))
    lost.engine = reborn_engine(own.store.cluster_id)
    street.cut = lambda source, target: "b:2" in (source, target)
    lost.start()
    await pass_time(10)
    assert lost.store.current is None
    assert "(these are of another cluster: a)" in lost.founding.waiting_for
    with pytest.raises(ForeignTopology, match="was offered to a node of"):
        await lost.store.adopt(other.store.founding or other.store.known)
    street.cut = lambda source, target: False
    await reached(lambda: lost.is_formed)
    assert lost.store.cluster_id == own.store.cluster_id
    await street.stop(other, own, lost)


@virtual
async def test_what_a_member_says_of_its_cluster_is_checked_against_its_topology() -> None:
    """One that claims the right id and gives another cluster's topology is not believed."""
    street = Street()
    other = Founder(street, "a", expect=1, seeds=())
    await other.start()
    lost = Founder(street, "c", seeds=("a:2",))
    await other.store.adopt(other.store.known.with_node(record_of_unstarted(lost)))
    lost.engine = reborn_engine("c-1")
    answer = street.handlers["a:2"]

    async def liar(route: str, body: bytes) -> bytes:
        return (
            replace(other.state(), cluster_id="c-1").encode() if route == FORMATION_ROUTE else await answer(route, body)
        )

    street.handlers["a:2"] = liar
    lost.start()
    await pass_time(5)
    assert lost.store.current is None
    assert "is not that of this node, which is c-1" in lost.founding.waiting_for
    await street.stop(other, lost)


@virtual
async def test_a_node_that_joins_needs_no_founder_to_be_alive() -> None:
    """A later epoch proves that the cluster has served: only the member that is asked must answer."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    late = Founder(street, "late", expect=0, seeds=("b:2",))
    late.start()
    await b.store.adopt(b.store.known.with_node(record_of(late)))
    for founder in (a, c):
        await founder.crash()
    await reached(lambda: late.is_formed)
    await street.stop(a, b, c, late)


@virtual
async def test_a_founder_that_was_removed_before_it_heard_of_the_cluster_stays_outside() -> None:
    """Its replicas have been replaced: it makes none, and says why it does not serve."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    street.cut = lambda source, target: bool(a.store.cluster_id) and "c:2" in (source, target)
    await reached(lambda: a.is_formed and b.is_formed)
    removed = replace(record_of(c), state=NodeState.REMOVED)
    for founder in (a, b):
        await founder.store.adopt(founder.store.known.with_node(removed))
    street.cut = lambda source, target: False
    await pass_time(10)
    assert (c.store.current, hosted_groups(c.engine)) == (None, [])
    assert "has removed this node" in c.founding.waiting_for
    await street.stop(a, b, c)


@virtual
async def test_a_member_that_gives_no_epoch_1_is_not_joined() -> None:
    """Without it nobody knows what this node founds: garbage, a later epoch, another cluster's are refused."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    street.cut = lambda source, target: bool(a.store.cluster_id) and "c:2" in (source, target)
    await reached(lambda: a.is_formed and b.is_formed)
    other = Founder(street, "x", expect=1, seeds=())
    await other.start()
    later = a.store.known.with_node(replace(record_of(c), zone="z"))
    wrong = [b"{}", b"nonsense", other.store.known.to_json(), later.to_json()]

    async def liar(route: str, body: bytes) -> bytes:
        if route == TOPOLOGY_ROUTE and body == ASK_FOR_FOUNDING and wrong:
            assert c.store.current is None
            return wrong.pop()
        return await a._answer(route, body)

    street.handlers["a:2"] = liar
    street.cut = lambda source, target: {"b:2", "c:2"} == {source, target}
    await reached(lambda: c.is_formed)
    assert wrong == []
    assert c.store.founding == a.store.founding
    await street.stop(a, b, c, other)


@virtual
async def test_founders_that_want_different_numbers_of_replicas_found_nothing() -> None:
    """Every node names who was told what else, until all are told the same."""
    street = Street()
    a, b = Founder(street, "a"), Founder(street, "b")
    c = Founder(street, "c", replication_factor=1)
    for founder in (a, b, c):
        founder.start()
    await pass_time(5)
    assert a.store.current is None
    assert "(c: --replication-factor)" in a.founding.waiting_for
    assert "(a: --replication-factor; b: --replication-factor)" in c.founding.waiting_for
    await c.crash()
    c.replication_factor = 3
    c.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    assert a.store.known.replication_factor == 3
    await street.stop(a, b, c)


@virtual
async def test_founders_that_no_topology_can_hold_found_nothing() -> None:
    """P9: a weight from elsewhere that no rule allows is told of and harms nobody; the loop goes on."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    answer = street.handlers["c:2"]

    async def heavy(route: str, body: bytes) -> bytes:
        return replace(c.state(), weight=10**9).encode() if route == FORMATION_ROUTE else await answer(route, body)

    street.handlers["c:2"] = heavy
    await pass_time(5)
    assert "these nodes can't found a cluster: a node's weight" in a.founding.waiting_for
    street.handlers["c:2"] = answer
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    await street.stop(a, b, c)


def record_of(founder: Founder) -> NodeRecord:
    return node_record(founder.state())


def record_of_unstarted(founder: Founder) -> NodeRecord:
    founder.store = TopologyStore(founder.node_id, MemoryEngine())
    return record_of(founder)


@virtual
async def test_a_node_of_another_cluster_is_told_of_once_and_never_joined() -> None:
    """P10: its answers count for nothing, and whoever reads the log learns of the wrong seed."""
    street = Street()
    a = Founder(street, "a")

    async def foreign(route: str, body: bytes) -> bytes:
        raise OtherCluster("b:2 answers for another cluster")

    street.handlers["b:2"] = foreign
    a.start()
    await pass_time(30)
    assert [event for event, _ in a.logged].count("other cluster") == 1
    assert a.store.current is None
    await street.stop(a)


@virtual
async def test_garbage_is_no_answer() -> None:
    """P9: a seed that speaks nonsense counts as silent, on every route."""
    street = Street()
    a = Founder(street, "a")

    async def nonsense(route: str, body: bytes) -> bytes:
        return b"\xff{nonsense"

    street.handlers["b:2"] = street.handlers["c:2"] = nonsense
    a.start()
    await pass_time(10)
    assert "2 of 3 nodes have not answered yet" in a.founding.waiting_for
    assert await a.founding.fetch("b:2") is None
    await street.stop(a)


@virtual
async def test_a_member_of_one_cluster_never_adopts_another() -> None:
    """A data directory belongs to its cluster for ever: a node that was removed and finds another cluster stops."""
    street = Street()
    alone = Founder(street, "x", expect=1, seeds=())
    await alone.start()
    other = Founder(street, "y", expect=1, seeds=())
    await other.start()
    with pytest.raises(ForeignTopology):
        await alone.store.adopt(other.store.known.with_node(record_of(alone)))
    await street.stop(alone, other)


@virtual
async def test_seeds_are_checked_until_each_has_answered() -> None:
    """A member that restarts tells of seeds that belong elsewhere, and asks silent ones ever more rarely."""
    street = Street()
    a, b, c = (Founder(street, name) for name in "abc")
    for founder in (a, b, c):
        founder.start()
    await reached(lambda: all(founder.is_formed for founder in (a, b, c)))
    street.handlers.pop("c:2")
    checking = asyncio.ensure_future(a.founding.check_seeds())
    await pass_time(100)
    assert not checking.done()
    street.handlers["c:2"] = c._answer
    await reached(checking.done, 70)
    await street.stop(a, b, c)
