"""The decision of an empty node: found, join or wait (DESIGN 8.5)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringhold.node.formation import FormationState, Found, Join, MalformedState, Wait, decide, seeds_hash

SEEDS = ("a:2", "b:2", "c:2")


def empty(name: str) -> FormationState:
    return FormationState(
        node_id=f"id-{name}",
        name=name,
        cluster="ringhold",
        cluster_id="",
        epoch=0,
        expect=3,
        partitions=64,
        replication_factor=3,
        seeds=seeds_hash(SEEDS),
        grpc_address=f"{name}:1",
        http_address=f"{name}:2",
        host=name,
        zone="",
        weight=1,
    )


A, B, C = empty("a"), empty("b"), empty("c")
ALL = {"a:2": A, "b:2": B, "c:2": C}


def test_the_first_seed_founds_when_all_are_empty_and_agree() -> None:
    """Only the node at the first seed founds, with all the expected nodes."""
    decision = decide(A, "a:2", ALL)
    assert isinstance(decision, Found)
    assert {state.name for state in decision.nodes} == {"a", "b", "c"}


def test_the_others_wait_for_the_first_seed() -> None:
    """A node that is not at the first seed founds nothing, however complete the picture is."""
    decision = decide(B, "a:2", ALL)
    assert isinstance(decision, Wait)
    assert "a:2" in decision.reason


def test_the_first_seed_may_be_reached_by_another_address_than_advertised() -> None:
    """Who the first seed is, is decided by the node id that answers there, not by comparing texts."""
    decision = decide(A, "localhost:2", {"localhost:2": A, "b:2": B, "c:2": C})
    assert isinstance(decision, Found)


def test_a_node_that_lost_its_disk_joins_and_never_founds() -> None:
    """One answer from a member is enough: the cluster exists."""
    member = replace(B, cluster_id="abc", epoch=1)
    assert decide(A, "a:2", {**ALL, "b:2": member}) == Join("b:2")


def test_the_newest_member_is_asked_for_the_topology() -> None:
    """Of several members, the one with the highest epoch knows best."""
    old, new = replace(B, cluster_id="abc", epoch=1), replace(C, cluster_id="abc", epoch=4)
    assert decide(A, "a:2", {"a:2": A, "b:2": old, "c:2": new}) == Join("c:2")


@pytest.mark.parametrize(
    "change",
    [
        {"expect": 4},
        {"partitions": 128},
        {"replication_factor": 2},
        {"cluster": "other"},
        {"seeds": seeds_hash(("b:2", "a:2", "c:2"))},
    ],
    ids=",".join,
)
def test_different_settings_are_named_and_found_nothing(change: dict[str, object]) -> None:
    """All founders must be told the same nodes, partitions, replicas, name and seeds; who differs in what is named."""
    decision = decide(A, "a:2", {**ALL, "c:2": replace(C, **change)})  # type: ignore[arg-type]
    flag = "--" + next(iter(change)).replace("_", "-")
    assert decision == Wait(f"settings that must be the same on all nodes are not the same as here (c: {flag})")


def test_every_difference_is_named() -> None:
    """Several nodes with several differences are one sentence, in the order of their names."""
    answers = {"a:2": A, "b:2": replace(B, replication_factor=1), "c:2": replace(C, partitions=2, replication_factor=5)}
    decision = decide(A, "a:2", answers)
    assert isinstance(decision, Wait)
    assert "(b: --replication-factor; c: --partitions, --replication-factor)" in decision.reason


def test_what_a_joining_node_was_told_is_no_obstacle() -> None:
    """A node without --expect takes the cluster as it is, so its settings are not compared."""
    assert isinstance(decide(A, "a:2", {**ALL, "d:2": replace(empty("d"), expect=0, replication_factor=9)}), Found)


def test_missing_nodes_are_counted() -> None:
    """Below the expected number it says how many are missing, and who is there."""
    decision = decide(A, "a:2", {"a:2": A, "b:2": B})
    assert decision == Wait("1 of 3 nodes have not answered yet (so far: b)")


def test_more_nodes_than_expected_found_nothing() -> None:
    """Which of four nodes are the three, nobody can say."""
    assert isinstance(decide(A, "a:2", {**ALL, "d:2": empty("d")}), Wait)


def test_two_nodes_of_one_name_found_nothing() -> None:
    """Names are unique in a cluster from the start."""
    assert isinstance(decide(A, "a:2", {**ALL, "c:2": replace(C, name="b")}), Wait)


def test_without_expect_a_node_forms_nothing() -> None:
    """A node with seeds and without --expect only ever joins."""
    assert isinstance(decide(replace(A, expect=0), "a:2", ALL), Wait)


def test_a_state_survives_the_wire() -> None:
    """What is encoded is decoded."""
    assert FormationState.decode(A.encode()) == A


@given(st.binary() | st.text().map(str.encode) | st.builds(lambda part: A.encode()[:part], st.integers(0, 200)))
def test_garbage_is_no_state(body: bytes) -> None:
    """Whatever is not a formation state raises MalformedState, and nothing else."""
    if body != A.encode():
        with pytest.raises(MalformedState):
            FormationState.decode(body)
