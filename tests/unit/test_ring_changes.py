"""Changes of the topology: what each order and each thing that happened makes of it, and what is refused."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from math import ceil

import pytest
from support.ring_nodes import node_record, node_records

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
from ringhold.ring.topology import SYSTEM_GROUP, InvalidTopology, NodeRecord, NodeState, Targets, Topology

FOUNDED = found("demo", "c1", 64, 3, node_records(5))


def newcomer(name: str) -> NodeRecord:
    """A node in the zone of the others."""
    return node_record(name, zone=FOUNDED.nodes[0].zone)


def sets(targets: Targets) -> list[set[str]]:
    return [set(ids) for ids in targets]


def moves(before: Topology, after: Topology) -> int:
    return sum(len(new - old) for old, new in zip(sets(before.targets), sets(after.targets), strict=True))


def load(topology: Topology, node_id: str) -> int:
    return sum(node_id in ids for ids in topology.targets)


def state(topology: Topology, node_id: str) -> NodeState:
    node = topology.node(node_id)
    assert node is not None
    return node.state


def arrived(topology: Topology, groups: Collection[int] | None = None) -> dict[int, frozenset[str]]:
    """Members as they are once these groups, or all, are where they should be."""
    return {
        group: frozenset(topology.targets_of(group)) for group in topology.groups if groups is None or group in groups
    }


def settled(topology: Topology) -> Topology:
    return settle(topology, arrived(topology))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_newcomers_get_their_share(count: int) -> None:
    """Nodes that come in are JOINING and get their share, and nothing moves between the others."""
    after = admit(FOUNDED, node_records(count, first=5))
    share = 64 * 3 / (5 + count)
    for node in node_records(count, first=5):
        assert state(after, node.id) is NodeState.JOINING
        assert int(share) <= load(after, node.id) <= ceil(1.1 * share)
    assert moves(FOUNDED, after) == sum(load(after, node.id) for node in node_records(count, first=5))
    assert after.epoch == FOUNDED.epoch + 1


def test_a_join_in_a_join_keeps_what_is_on_its_way() -> None:
    """The second newcomer takes from the first no more than the balance asks for, and nothing moves elsewhere."""
    first = admit(FOUNDED, [newcomer("x")])
    second = admit(first, [newcomer("y")])
    on_x = [{at for at, ids in enumerate(topology.targets) if "x" in ids} for topology in (first, second)]
    assert on_x[1] <= on_x[0]
    assert load(second, "x") >= int(64 * 3 / 7)
    assert all(new - old <= {"y"} for old, new in zip(sets(first.targets), sets(second.targets), strict=True))
    assert dict(second.moving).keys() >= dict(first.moving).keys()
    assert all(
        set(ids) == set(FOUNDED.targets_of(group)) | set(first.targets_of(group))
        for group, ids in second.moving
        if group in dict(first.moving)
    )


def test_a_replacement_takes_the_place_of_the_lost() -> None:
    """A newcomer in the place of a lost node gets what that held, and nothing else moves."""
    after = admit(FOUNDED, [replace(newcomer("x"), name="name-n0002")], lost=["n0002"])
    assert state(after, "n0002") is NodeState.REMOVED
    assert moves(FOUNDED, after) <= ceil(1.1 * load(FOUNDED, "n0002"))
    assert not any("n0002" in ids for _, ids in after.moving)
    assert load(after, "n0002") == 0


def test_who_was_there_is_not_admitted_again() -> None:
    """A node is admitted once under its id, whatever became of it."""
    for topology in (FOUNDED, remove(FOUNDED, "n0002")):
        with pytest.raises(InvalidTopology):
            admit(topology, [replace(node_record("n0002"), name="other")])


def test_a_leaving_node_is_in_no_target() -> None:
    """What a leaving node held moves, hardly anything else does, and the node is named among the holders."""
    after = decommission(FOUNDED, "n0002")
    assert state(after, "n0002") is NodeState.LEAVING
    assert load(after, "n0002") == 0
    assert moves(FOUNDED, after) <= ceil(1.1 * load(FOUNDED, "n0002"))
    assert {group for group, ids in after.moving if "n0002" in ids} == {
        group for group in FOUNDED.groups if "n0002" in FOUNDED.targets_of(group)
    }
    assert decommission(after, "n0002") is after


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_a_node_that_stays_after_all_moves_nothing(count: int) -> None:
    """When a node that was to leave stays and nothing has moved, every target holds the nodes that it held before."""
    founded = found("demo", "c1", 64, 3, node_records(count, zones=2))
    after = keep(decommission(founded, "n0001"), "n0001")
    assert sets(after.targets) == sets(founded.targets)
    assert set(after.system_voters) == set(founded.system_voters)
    assert state(settled(after), "n0001") is NodeState.NORMAL
    assert keep(founded, "n0001") is founded


def test_a_node_that_stays_gets_no_replica_back_that_has_moved() -> None:
    """What had moved already when a node was told to stay remains where it is now, as far as the balance allows."""
    leaving = decommission(FOUNDED, "n0001")
    gone = [group for group, _ in leaving.moving if group != SYSTEM_GROUP][:3]
    after = keep(settle(leaving, arrived(leaving, gone)), "n0001")
    assert all(set(after.targets_of(group)) == set(leaving.targets_of(group)) for group in gone)
    others = [group for group in FOUNDED.groups if group not in gone]
    assert all(set(after.targets_of(group)) == set(FOUNDED.targets_of(group)) for group in others)


def test_a_node_that_stays_does_not_turn_back_a_join() -> None:
    """When another node is told to stay, a newcomer still gets its share, and most of it as it was on its way."""
    joining = admit(FOUNDED, [newcomer("x")])
    after = keep(decommission(joining, "n0001"), "n0001")
    kept = sum("x" in old & new for old, new in zip(sets(joining.targets), sets(after.targets), strict=True))
    assert kept >= 0.75 * load(joining, "x")
    assert load(after, "x") >= int(64 * 3 / 6 / 1.1)


def test_a_removed_node_holds_nothing() -> None:
    """A removed node is in no target and among no holders, and its replicas are made elsewhere."""
    after = remove(FOUNDED, "n0003")
    assert state(after, "n0003") is NodeState.REMOVED
    assert load(after, "n0003") == 0
    assert not any("n0003" in ids for _, ids in after.moving)
    assert {group for group, _ in after.moving} == {
        group for group in FOUNDED.groups if set(after.targets_of(group)) != set(FOUNDED.targets_of(group))
    }
    assert moves(FOUNDED, after) <= ceil(1.1 * load(FOUNDED, "n0003"))
    with pytest.raises(ChangeRefused, match="has been removed"):
        remove(after, "n0003")


def test_a_removal_in_a_move_falls_back_on_who_has_it() -> None:
    """If the node that was to get a replica is removed, its former holder keeps it."""
    joining = admit(FOUNDED, [newcomer("x")])
    after = remove(joining, "x")
    assert sets(after.targets) == sets(FOUNDED.targets)


def test_a_cordoned_node_gets_nothing_more() -> None:
    """A cordoned node keeps its replicas, gets none of a removed node's, and gets some again once it may."""
    cordoned = cordon(FOUNDED, "n0000", is_on=True)
    assert (cordoned.targets, cordoned.moving) == (FOUNDED.targets, ())
    after = remove(cordoned, "n0003")
    assert all(("n0000" in old) >= ("n0000" in new) for old, new in zip(FOUNDED.targets, after.targets, strict=True))
    assert load(cordon(after, "n0000", is_on=False), "n0000") >= load(after, "n0000")
    assert cordon(after, "n0000", is_on=True) is after


def test_a_cordoned_newcomer_is_normal_with_nothing() -> None:
    """A node that comes in cordoned waits for nothing."""
    after = admit(FOUNDED, [node_record("x", cordoned=True)])
    assert load(after, "x") == 0
    assert settled(after).is_settled


def test_what_could_be_nowhere_is_refused() -> None:
    """A node can't go if only cordoned nodes could get what it alone holds."""
    one = cordon(cordon(found("demo", "c1", 8, 1, node_records(3)), "n0001", is_on=True), "n0002", is_on=True)
    for order in (decommission, remove):
        with pytest.raises(ChangeRefused, match="cordoned"):
            order(one, "n0000")


@pytest.mark.parametrize("order", [decommission, remove])
def test_the_last_node_stays(order: Callable[[Topology, str], Topology]) -> None:
    """The last node that may hold anything can't go."""
    alone = found("demo", "c1", 8, 3, node_records(1))
    with pytest.raises(ChangeRefused, match="no node would be left"):
        order(alone, "n0000")


@pytest.mark.parametrize(
    "order", [decommission, keep, remove, lambda topology, node: cordon(topology, node, is_on=True)]
)
def test_orders_for_nobody_are_refused(order: Callable[[Topology, str], Topology]) -> None:
    """An order for a node that is not there, or no longer, is refused by name."""
    with pytest.raises(ChangeRefused, match="no node nobody"):
        order(FOUNDED, "nobody")
    with pytest.raises(ChangeRefused, match="name-n0004 has been removed"):
        order(remove(FOUNDED, "n0004"), "n0004")


def test_more_replicas_are_added_to_those_there_are() -> None:
    """A higher replication factor adds a replica to each partition and takes none away."""
    after = with_replication_factor(FOUNDED, 4)
    assert all(len(new) == 4 and new > old for old, new in zip(sets(FOUNDED.targets), sets(after.targets), strict=True))
    assert max(load(after, node.id) for node in after.nodes) <= ceil(1.1 * 64 * 4 / 5)
    assert len(after.system_voters) == 3
    assert len(with_replication_factor(FOUNDED, 5).system_voters) == 5


def test_fewer_replicas_are_of_those_there_are() -> None:
    """A lower replication factor leaves the preferred leaders where they are and moves hardly anything."""
    after = with_replication_factor(FOUNDED, 2)
    assert all(len(ids) == 2 for ids in after.targets)
    assert moves(FOUNDED, after) <= 0.05 * 64 * 2
    assert len(with_replication_factor(FOUNDED, 1).system_voters) == 1
    assert len(after.moving) >= 64


def test_up_and_down_again_is_as_before() -> None:
    """A replication factor that is raised and lowered before anything moved hardly moves anything."""
    after = with_replication_factor(with_replication_factor(FOUNDED, 4), 3)
    assert moves(FOUNDED, after) <= 0.05 * 64 * 3


@pytest.mark.parametrize("replication_factor", [0, -1, 10])
def test_replication_factors_have_limits(replication_factor: int) -> None:
    """A replication factor outside its limits is refused, and the one that there is changes nothing."""
    with pytest.raises(ChangeRefused):
        with_replication_factor(FOUNDED, replication_factor)
    assert with_replication_factor(FOUNDED, 3) is FOUNDED


def test_descriptions_that_place_nothing() -> None:
    """Another address or name changes no target; state and cordon are not taken from a description."""
    described = replace(FOUNDED.nodes[0], name="other", grpc_address="b:1", state=NodeState.LEAVING, cordoned=True)
    after = describe_anew(FOUNDED, [described])
    assert after.nodes[0] == replace(FOUNDED.nodes[0], name="other", grpc_address="b:1")
    assert (after.targets, after.moving, after.epoch) == (FOUNDED.targets, (), FOUNDED.epoch + 1)
    assert describe_anew(FOUNDED, [FOUNDED.nodes[0], node_record("nobody")]) is FOUNDED
    with pytest.raises(InvalidTopology):
        describe_anew(FOUNDED, [replace(FOUNDED.nodes[0], name="name-n0001")])


def test_descriptions_that_place_anew() -> None:
    """A node of more weight gets more, and one in a zone of its own gets a replica of each partition."""
    heavy = describe_anew(FOUNDED, [replace(FOUNDED.nodes[0], weight=2)])
    assert load(heavy, "n0000") > load(FOUNDED, "n0000")
    apart = describe_anew(FOUNDED, [replace(FOUNDED.nodes[0], zone="other")])
    assert load(apart, "n0000") == 64


def test_settling_step_by_step() -> None:
    """Groups that have arrived no longer move; a node is NORMAL once it waits for none, and nothing is noted twice."""
    joining = admit(FOUNDED, [newcomer("x")])
    waited_for = [group for group in joining.groups if "x" in joining.targets_of(group)]
    some = settle(joining, arrived(joining, waited_for[:-1]))
    assert [group for group, _ in some.moving if group in waited_for] == waited_for[-1:]
    assert state(some, "x") is NodeState.JOINING
    assert settle(some, arrived(joining, waited_for[:-1])) is some
    done = settle(some, arrived(joining, waited_for))
    assert state(done, "x") is NodeState.NORMAL
    assert settled(done).is_settled
    assert settled(settled(done)) == settled(done)


def test_leaving_ends_when_no_group_names_the_node() -> None:
    """A leaving node is REMOVED only when all groups are known and none of them has it as a member."""
    leaving = decommission(FOUNDED, "n0002")
    members = arrived(leaving)
    assert state(settle(leaving, {group: members[group] for group in list(members)[1:]}), "n0002") is NodeState.LEAVING
    late = {**members, 7: members[7] | {"n0002"}}
    assert state(settle(leaving, late), "n0002") is NodeState.LEAVING
    assert state(settle(leaving, members), "n0002") is NodeState.REMOVED
    assert settle(leaving, members).is_settled


def test_who_has_left_is_no_holder_of_what_still_moves() -> None:
    """A group without the node may be on its way still; nobody asks a node for it that is out."""
    leaving = decommission(FOUNDED, "n0002")
    members = arrived(leaving)
    group = next(group for group, holders in leaving.moving if "n0002" in holders)
    kept = members[group] & set(dict(leaving.moving)[group])
    left = settle(leaving, {**members, group: kept})
    assert state(left, "n0002") is NodeState.REMOVED
    assert [each for each, _ in left.moving] == [group]
    assert "n0002" not in dict(left.moving)[group]


def test_a_change_is_what_differs() -> None:
    """A change carries the nodes and targets that differ, and makes the next epoch out of the one it was made for."""
    after = decommission(FOUNDED, "n0002")
    change = TopologyChange.between(FOUNDED, after)
    assert [node.id for node in change.nodes] == ["n0002"]
    assert Counter(at for at, _ in change.targets) == Counter(
        at for at in range(64) if FOUNDED.targets[at] != after.targets[at]
    )
    assert change.applied_to(FOUNDED) == after


def test_a_removed_node_stays_removed() -> None:
    """A change that would bring a removed node back, or name a partition that is not there, is refused."""
    removed = remove(FOUNDED, "n0002")
    change = TopologyChange.between(removed, cordon(removed, "n0001", is_on=True))
    with pytest.raises(InvalidTopology, match="removed"):
        replace(change, nodes=(FOUNDED.nodes[2],)).applied_to(removed)
    with pytest.raises(InvalidTopology, match="no partition"):
        replace(change, targets=((64, ("n0001",)),)).applied_to(removed)
