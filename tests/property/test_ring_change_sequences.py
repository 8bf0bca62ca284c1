"""Properties of changes: whatever becomes of a topology, in any order, it is valid and says what is on the move."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st
from support.ring_nodes import node_record

from ringhold.node.machine.topology_machine import decode_change, encode_change
from ringhold.ring.changes import (
    ChangeRefused,
    TopologyChange,
    admit,
    cordon,
    decommission,
    describe_anew,
    keep,
    remove,
    settle,
    with_replication_factor,
)
from ringhold.ring.placement import found
from ringhold.ring.plans import plan, with_added
from ringhold.ring.topology import NodeRecord, NodeState, Topology

STEPS_MAX = 12

Members = dict[int, frozenset[str]]


@dataclass
class Cluster:
    """A topology, the members that each group really has, and every topology and members that there were."""

    topology: Topology
    members: Members = field(default_factory=dict)
    steps: list[tuple[str, Topology, Topology, Members]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = targets(self.topology)

    def change(self, name: str, order: Callable[[Topology], Topology]) -> None:
        """Change the topology, unless the order is refused."""
        try:
            after = order(self.topology)
        except ChangeRefused:
            return
        self.steps.append((name, self.topology, after, dict(self.members)))
        self.topology = after


def targets(topology: Topology) -> Members:
    return {group: frozenset(topology.targets_of(group)) for group in topology.groups}


def with_state(topology: Topology, *states: NodeState) -> set[str]:
    return {node.id for node in topology.nodes if node.state in states}


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    zones, partitions = draw(st.integers(1, 3)), draw(st.sampled_from([1, 4, 16]))
    nodes = [drawn_node(draw, f"n{at:02}", zones) for at in range(draw(st.integers(1, 6)))]
    cluster = Cluster(found("demo", "c1", partitions, draw(st.integers(1, 5)), nodes))
    for at in range(draw(st.integers(1, STEPS_MAX))):
        take_a_step(draw, cluster, at, zones)
    return cluster


def drawn_node(draw: st.DrawFn, name: str, zones: int) -> NodeRecord:
    zone, host = draw(st.integers(1, zones)), draw(st.integers(1, 6))
    return node_record(name, zone=f"z{zone}", host=f"h{host}", weight=draw(st.sampled_from([1, 1, 2])))


def take_a_step(draw: st.DrawFn, cluster: Cluster, at: int, zones: int) -> None:
    kinds = ["admit", "decommission", "keep", "remove", "cordon", "factor", "describe", "move", "settle"]
    kind = draw(st.sampled_from(kinds))
    node_id = draw(st.sampled_from([node.id for node in cluster.topology.nodes]))
    match kind:
        case "admit":
            names = [f"x{at:02}{letter}" for letter in "ab"[: draw(st.integers(1, 2))]]
            newcomers = [drawn_node(draw, name, zones) for name in names]
            lost = [node_id] if draw(st.booleans()) else []
            cluster.change(kind, lambda topology: admit(topology, newcomers, lost))
        case "decommission" | "keep" | "remove":
            order = {"decommission": decommission, "keep": keep, "remove": remove}[kind]
            cluster.change(kind, lambda topology: order(topology, node_id))
        case "cordon":
            is_on = draw(st.booleans())
            cluster.change(kind, lambda topology: cordon(topology, node_id, is_on=is_on))
        case "factor":
            factor = draw(st.integers(1, 5))
            cluster.change(kind, lambda topology: with_replication_factor(topology, factor))
        case "describe":
            described = replace(drawn_node(draw, node_id, zones), name=f"name-{node_id}")
            cluster.change(kind, lambda topology: describe_anew(topology, [described]))
        case "move":
            move_some(draw, cluster)
        case "settle":
            known = draw(
                st.sets(st.sampled_from(list(cluster.topology.groups))) | st.just(set(cluster.topology.groups))
            )
            seen = {group: cluster.members[group] for group in known}
            cluster.change(kind, lambda topology: settle(topology, seen))


def move_some(draw: st.DrawFn, cluster: Cluster) -> None:
    """Some groups get all or some of the members that they should have, others lose some that they should not."""
    for group in draw(st.sets(st.sampled_from(list(cluster.topology.groups)))):
        wanted = frozenset(cluster.topology.targets_of(group))
        present = cluster.members[group]
        cluster.members[group] = draw(st.sampled_from([wanted, present | wanted, (present & wanted) or present]))


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_every_change_is_valid_and_comes_back(cluster: Cluster) -> None:
    """Each topology comes back from its JSON, and each change and its encoding reproduce the topology after it."""
    for _, before, after, _ in cluster.steps:
        assert Topology.from_json(after.to_json()) == after
        if after is not before:
            change = TopologyChange.between(before, after)
            assert change.applied_to(before) == after
            assert decode_change(encode_change(change)) == change


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_who_goes_is_in_no_target(cluster: Cluster) -> None:
    """No LEAVING or REMOVED node is in a target, a removed one is among no holders, and a cordoned one gets nothing."""
    for name, before, after, _ in cluster.steps:
        placed = frozenset[str]().union(*targets(after).values())
        assert not placed & with_state(after, NodeState.LEAVING, NodeState.REMOVED)
        assert not with_state(after, NodeState.REMOVED).intersection(
            chain.from_iterable(ids for _, ids in after.moving)
        )
        cordoned = {node.id for node in after.nodes if node.cordoned and name != "keep"}
        for group in after.groups:
            assert not (targets(after)[group] - targets(before)[group]) & cordoned


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_whatever_differs_is_on_the_move(cluster: Cluster) -> None:
    """A group whose members are not its targets is on the move, and all its members, removed nodes aside, are named."""
    for _, _, after, members in cluster.steps:
        holders = dict(after.moving)
        gone = with_state(after, NodeState.REMOVED)
        for group, wanted in targets(after).items():
            if members[group] != wanted:
                assert group in holders
                assert members[group] - gone <= wanted.union(holders[group])


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_in_the_end_all_is_settled(cluster: Cluster) -> None:
    """Once every group has the members that it should, one note of it settles the topology, and no more is noted."""
    members = targets(cluster.topology)
    settled = settle(cluster.topology, members)
    assert settled.is_settled
    assert settled.targets == cluster.topology.targets
    assert settle(settled, members) is settled


@settings(max_examples=60, deadline=None)
@given(clusters())
def test_noting_twice_is_noting_once(cluster: Cluster) -> None:
    """What has been noted once is not noted again."""
    once = settle(cluster.topology, cluster.members)
    assert settle(once, cluster.members) is once


@settings(max_examples=60, deadline=None)
@given(clusters(), st.data())
def test_to_keep_a_node_undoes_its_leaving(cluster: Cluster, data: st.DataObject) -> None:
    """In a settled topology, to keep a node that was told to leave gives every group the nodes that it had."""
    before = settle(cluster.topology, targets(cluster.topology))
    node_id = data.draw(st.sampled_from(sorted(with_state(before, NodeState.NORMAL))))
    try:
        leaving = decommission(before, node_id)
    except ChangeRefused:
        return
    assert targets(keep(leaving, node_id)) == targets(before)


@settings(max_examples=40, deadline=None)
@given(clusters(), st.integers(0, 3))
def test_plans_add_up(cluster: Cluster, added: int) -> None:
    """What a plan adds and removes leads from the loads before to those after, and the bytes are those of its moves."""
    before, after = cluster.topology, with_added(cluster.topology, added)
    planned = plan(before, after, dict.fromkeys(before.groups, 10), 100)
    assert planned.bytes == sum(move.bytes for move in planned.moves) == 10 * sum(len(m.adding) for m in planned.moves)
    assert 0 <= planned.seconds <= planned.bytes / 100
    for load in planned.loads:
        came = sum(load.node_id in move.adding for move in planned.moves)
        went = sum(load.node_id in move.removing for move in planned.moves)
        assert load.bytes_after - load.bytes_before == 10 * (came - went)
    assert sum(load.leaders_after for load in planned.loads) == after.partitions
