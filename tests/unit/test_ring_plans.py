"""Plans: what a change would move, where it would lead, how long it takes at least, and what it warns of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from support.ring_nodes import node_record, node_records, with_cordoned

from ringhold.ring.changes import admit, cordon, decommission, remove, settle, with_replication_factor
from ringhold.ring.placement import found
from ringhold.ring.plans import NodeLoad, PlannedMove, plan, with_added
from ringhold.ring.topology import SYSTEM_GROUP, InvalidTopology, NodeRecord, NodeState, Targets, Topology

A, B, C, D = (node_record(name) for name in "abcd")


def topology(nodes: Sequence[NodeRecord], targets: Targets, replication_factor: int = 2) -> Topology:
    founded = found("demo", "c1", len(targets), replication_factor, nodes)
    return replace(founded, targets=targets, system_voters=(nodes[0].id,))


def placed(before: Topology, targets: Targets) -> Topology:
    return before.with_targets(targets)


def bytes_of_all(topology: Topology, each: int) -> Mapping[int, int]:
    return dict.fromkeys(topology.groups, each)


def test_no_change_is_an_empty_plan() -> None:
    """Nothing is planned for a topology that stays as it is, and loads are the same before and after."""
    founded = found("demo", "c1", 64, 3, [A, B, C])
    planned = plan(founded, founded, bytes_of_all(founded, 10), 1)
    assert (planned.moves, planned.bytes, planned.seconds, planned.warnings) == ((), 0, 0.0, ())
    assert [load.node_id for load in planned.loads] == ["a", "b", "c"]
    assert {(load.replicas_before, load.replicas_after) for load in planned.loads} == {(64, 64)}
    assert {(load.bytes_before, load.bytes_after) for load in planned.loads} == {(650, 650)}
    assert sum(load.leaders_after for load in planned.loads) == 64


def test_moves_name_nodes_and_bytes() -> None:
    """A move counts its group's bytes once for each replica that is added, and none for one that is removed."""
    before = topology([A, B, C, D], (("a", "b"), ("a", "b"), ("b",), ("c", "d")))
    after = placed(before, (("a", "c"), ("c", "d"), ("b", "a"), ("c",)))
    planned = plan(before, after, {1: 100, 2: 10, 4: 7}, 0)
    assert planned.moves == (
        PlannedMove(1, ("c",), ("b",), 100),
        PlannedMove(2, ("c", "d"), ("a", "b"), 20),
        PlannedMove(3, ("a",), (), 0),
        PlannedMove(4, (), ("d",), 0),
    )
    assert (planned.bytes, planned.seconds) == (120, 0.0)


def test_loads_before_and_after() -> None:
    """Loads count the replicas and preferred leaderships of partitions, and the bytes of all groups."""
    before = topology([A, B, C], (("a", "b"), ("b", "a")))
    after = placed(before, (("a", "c"), ("c", "a")))
    assert plan(before, after, {SYSTEM_GROUP: 1, 1: 100, 2: 10}, 0).loads == (
        NodeLoad("a", 2, 2, 1, 1, 111, 111),
        NodeLoad("b", 2, 0, 1, 0, 110, 0),
        NodeLoad("c", 0, 2, 0, 1, 0, 110),
    )


@pytest.mark.parametrize(
    ("targets", "seconds"),
    [
        ((("a", "c"), ("b", "a")), 10.0),
        ((("a", "c"), ("b", "c")), 11.0),
        ((("a", "c"), ("b", "d")), 10.0),
        ((("c", "d"), ("b", "a")), 20.0),
    ],
    ids=["one-copy", "one-target", "two-pairs", "one-source"],
)
def test_the_busiest_node_sets_the_time(targets: Targets, seconds: float) -> None:
    """A node sends and receives so many bytes a second: the one with most of them in one direction sets the time."""
    before = topology([A, B, C, D], (("a", "b"), ("b", "a")))
    assert plan(before, placed(before, targets), {1: 100, 2: 10}, 10).seconds == seconds


def test_a_removed_leader_sends_nothing() -> None:
    """The copies of a removed node's partitions come from those who are left."""
    before = topology([A, B, C, D], (("a", "b"), ("a", "c")))
    after = replace(
        placed(before, (("b", "d"), ("c", "d"))),
        nodes=(replace(A, state=NodeState.REMOVED), B, C, D),
        system_voters=("b",),
    )
    assert plan(before, after, {1: 100, 2: 100}, 10).seconds == 20.0
    after = replace(after, targets=(("b", "d"), ("c", "b")))
    assert plan(before, after, {1: 100, 2: 100}, 10).seconds == 10.0


def test_moves_under_way_are_still_to_do() -> None:
    """What an earlier change began is part of the plan, from where the replicas are known to be."""
    founded = found("demo", "c1", 64, 3, [A, B, C])
    joining = admit(founded, [D])
    rest = plan(joining, joining, bytes_of_all(joining, 5), 0)
    assert rest.moves == plan(founded, joining, bytes_of_all(joining, 5), 0).moves
    assert rest.bytes == 5 * len(rest.moves) == 5 * rest.loads[-1].replicas_after
    assert rest.loads[-1].replicas_before == 0
    reached = joining.moving[0][0]
    some = settle(joining, {reached: frozenset(joining.targets_of(reached))})
    assert [move.group for move in plan(some, some, {}, 0).moves] == [move.group for move in rest.moves[1:]]


def test_a_node_that_leaves_and_one_that_is_gone() -> None:
    """A leaving node has nothing afterwards, and a node that was removed before is not in the plan."""
    founded = found("demo", "c1", 64, 3, node_records(5))
    after = decommission(remove(founded, "n0000"), "n0001")
    planned = plan(founded, after, {}, 0)
    assert [(load.node_id, load.replicas_after) for load in planned.loads[:2]] == [("n0000", 0), ("n0001", 0)]
    assert all("n0001" in move.removing or "n0000" in move.removing for move in planned.moves)
    assert "n0000" not in {load.node_id for load in plan(after, after, {}, 0).loads}


NO_ZONES = [A, B, C]
TWO_ZONES = [node_record("a", zone="x"), node_record("b", zone="x"), node_record("c", zone="y")]
ONE_HOST = [node_record(name, host="h") for name in "abc"]


@pytest.mark.parametrize(
    ("nodes", "replication_factor", "warnings"),
    [
        (NO_ZONES, 3, []),
        (NO_ZONES, 5, ["64 partitions have 3 of 5 replicas: there are too few nodes that may get one."]),
        (
            NO_ZONES,
            2,
            ["64 partitions have 2 replicas: the failure of either one stops the writes. One more would help."],
        ),
        (
            TWO_ZONES,
            3,
            ["64 partitions have replicas in the same zone: the nodes that may get replicas are in 2 zones."],
        ),
        (TWO_ZONES, 1, []),
        (ONE_HOST, 3, ["64 partitions have replicas on the same host: the nodes that may get replicas are on 1 host."]),
    ],
    ids=["none", "too-few-nodes", "two-replicas", "two-zones", "one-replica", "one-host"],
)
def test_warnings_of_what_the_nodes_allow(
    nodes: list[NodeRecord], replication_factor: int, warnings: list[str]
) -> None:
    """People are told of replicas that are missing, of two without a third, and of places that they share."""
    founded = found("demo", "c1", 64, replication_factor, nodes)
    assert list(plan(founded, founded, {}, 0).warnings) == warnings


def test_warnings_of_cordoned_nodes() -> None:
    """What can't be made because nodes are cordoned is told like what can't be made for want of nodes."""
    founded = found("demo", "c1", 64, 2, [A, B, C])
    after = with_replication_factor(cordon(founded, "a", is_on=True), 3)
    missing = sum(len(ids) == 2 for ids in after.targets)
    assert plan(founded, after, {}, 0).warnings[0] == (
        f"{missing} partitions have 2 of 3 replicas: there are too few nodes that may get one."
    )


def test_warnings_of_needless_crowding_and_load() -> None:
    """Targets that a placement would not choose are told: places shared for nothing, and too much on one node."""
    nodes = [node_record(name, zone=f"z{at % 3}", host=f"h{at % 3}") for at, name in enumerate("abcdef")]
    before = topology(nodes, (("a", "b", "d"), ("a", "b", "c"), ("a", "b", "c"), ("a", "b", "c")), 3)
    assert plan(before, before, {}, 0).warnings == (
        "1 partition has replicas in the same zone although they need not.",
        "1 partition has replicas on the same host although they need not.",
        "The node name-a has 4 replicas, more than its bound of 3.",
        "The node name-b has 4 replicas, more than its bound of 3.",
    )


def test_hypothetical_nodes() -> None:
    """Hypothetical nodes have hosts of their own, are dealt to the smallest zones, and take no name that is borne."""
    nodes = [replace(node, name=f"new-{at + 1}") for at, node in enumerate(node_records(4, zones=3))]
    founded = found("demo", "c1", 64, 3, nodes[:2] + nodes[3:])
    grown = with_added(founded, 3)
    newcomers = [node for node in grown.nodes if founded.node(node.id) is None]
    assert [(node.name, node.host, node.zone) for node in newcomers] == [
        ("new-3", "new-3", "z1"),
        ("new-5", "new-5", "z0"),
        ("new-6", "new-6", "z1"),
    ]
    assert {(node.state, node.weight) for node in newcomers} == {(NodeState.JOINING, 1)}
    assert with_added(founded, 0) is founded
    with pytest.raises(InvalidTopology):
        with_added(founded, 5_000)


def test_a_plan_for_two_nodes_more() -> None:
    """The plan for two nodes more says what they get, and that nothing moves but to them."""
    founded = found("demo", "c1", 256, 3, node_records(3))
    planned = plan(founded, with_added(founded, 2), bytes_of_all(founded, 1_000), 10_000)
    assert {ids for move in planned.moves for ids in move.adding} == {"new-1", "new-2"}
    assert planned.bytes == 1_000 * sum(load.replicas_after for load in planned.loads if load.node_id > "new")
    assert planned.seconds == max(load.bytes_after for load in planned.loads if load.node_id > "new") / 10_000


def test_cordoned_nodes_have_no_bound() -> None:
    """A cordoned node that holds more than its share is no reason for a warning: nothing can be done about it."""
    founded = found("demo", "c1", 64, 3, node_records(3))
    after = admit(replace(founded, nodes=tuple(with_cordoned(founded.nodes, "n0000"))), node_records(3, first=3))
    assert next(load for load in plan(founded, after, {}, 0).loads if load.node_id == "n0000").replicas_after == 64
    assert not [each for each in plan(founded, after, {}, 0).warnings if "bound" in each]
