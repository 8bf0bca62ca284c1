"""The client's picture of the cluster: which endpoint comes first, which log time is an anchor."""

import random

import pytest

from ringhold.api.client.config import ClientConfig
from ringhold.api.client.routing import Routing
from ringhold.api.errors import error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.api.proto.ringhold.v1.kv_pb2 import Header

NORMAL = cluster_pb2.NODE_STATE_NORMAL
REMOVED = cluster_pb2.NODE_STATE_REMOVED
DEAD = cluster_pb2.LIVENESS_DEAD
ALIVE = cluster_pb2.LIVENESS_ALIVE


def new_routing(*endpoints: str) -> Routing:
    return Routing(endpoints or ("a:1",), ClientConfig(), random.Random(3))


def node(name: str, state: cluster_pb2.NodeState = NORMAL, liveness: cluster_pb2.Liveness = ALIVE) -> cluster_pb2.Node:
    return cluster_pb2.Node(id=name, name=name, grpc_address=f"{name}:1", state=state, liveness=liveness)


def topology(*nodes: cluster_pb2.Node, leader: int | None = 0, epoch: int = 1) -> cluster_pb2.TopologyResponse:
    """One partition, led by the node at `leader`."""
    partition = cluster_pb2.Partition(log_time_ms=5_000)
    if leader is not None:
        partition.leader = leader
    return cluster_pb2.TopologyResponse(cluster_id="c", epoch=epoch, nodes=nodes, partitions=[partition])


def chosen(routing: Routing, now: float = 0.0, partition: int | None = None) -> set[str]:
    return {routing.choose(partition, (), now) for _ in range(60)}


def test_endpoints_of_the_topology_join_the_given_ones() -> None:
    """Load is spread over both, each once."""
    routing = new_routing("a:1", "x:1")
    routing.adopt(topology(node("a"), node("b"), leader=None), 0.0)
    assert chosen(routing) == {"a:1", "b:1", "x:1"}


@pytest.mark.parametrize("gone", [node("b", REMOVED), node("b", liveness=DEAD), cluster_pb2.Node(state=NORMAL)])
def test_nodes_that_do_not_serve_are_not_asked(gone: cluster_pb2.Node) -> None:
    """Neither as gateways nor as the leaders that they are said to be."""
    routing = new_routing()
    routing.adopt(topology(node("a"), gone, leader=1), 0.0)
    assert chosen(routing, partition=0) == {"a:1"}


def test_a_failed_endpoint_comes_last_for_a_while_and_then_returns() -> None:
    """Longer at each failure in a row, at most the limit; one answer makes it well."""
    routing = new_routing("a:1", "b:1")
    for turn in range(100):
        routing.failed("a:1", 30.0 * (turn - 99))
    assert chosen(routing, now=10.0) == {"b:1"}
    assert chosen(routing, now=30.1) == {"a:1", "b:1"}
    routing.failed("a:1", 40.0)
    routing.answered("a:1")
    assert chosen(routing, now=40.0) == {"a:1", "b:1"}


def test_calls_that_fail_together_are_one_failure() -> None:
    """However many were under way to an endpoint that hung, it is tried again soon."""
    routing = new_routing("a:1", "b:1")
    for _ in range(100):
        routing.failed("a:1", 0.0)
    assert chosen(routing, now=0.2) == {"b:1"}
    assert chosen(routing, now=0.5) == {"a:1", "b:1"}


def test_an_endpoint_that_nodes_do_not_hear_comes_last() -> None:
    """A program that gave it does not wait for it at every call; it is asked again once it answers or is well."""
    for liveness in (cluster_pb2.LIVENESS_SUSPECT, DEAD):
        routing = new_routing("a:1", "b:1")
        routing.adopt(topology(node("a"), node("b", liveness=liveness), leader=1), 0.0)
        assert chosen(routing, partition=0) == {"a:1"}
        assert routing.choose(0, {"a:1"}, 0.0) == "b:1"
        routing.answered("b:1")
        assert chosen(routing) == {"a:1", "b:1"}
        routing.adopt(topology(node("a"), node("b", liveness=liveness)), 1.0)
        assert chosen(routing) == {"a:1"}
        routing.adopt(topology(node("a"), node("b")), 2.0)
        assert chosen(routing) == {"a:1", "b:1"}


def test_when_all_have_failed_the_one_due_first_is_asked() -> None:
    """There is always an endpoint."""
    routing = new_routing("a:1", "b:1")
    routing.failed("a:1", 0.0)
    routing.failed("b:1", 10.0)
    assert chosen(routing, now=10.0) <= {"a:1", "b:1"}
    routing.failed("a:1", 10.0)
    routing.failed("a:1", 10.0)
    assert chosen(routing, now=10.0) == {"b:1"}


def test_what_was_tried_comes_last() -> None:
    """Also the leader, and if all were tried they are asked again."""
    routing = new_routing("a:1", "b:1")
    routing.adopt(topology(node("a"), node("b")), 0.0)
    assert routing.choose(0, {"a:1"}, 0.0) == "b:1"
    assert routing.choose(0, {"a:1", "b:1"}, 0.0) in {"a:1", "b:1"}


def test_a_replica_that_is_well_is_chosen_in_order() -> None:
    """Neither a gone, nor an avoided, nor a tried one; without any the choice is as for other calls."""
    routing = new_routing("x:1")
    told = topology(node("a"), node("b", liveness=DEAD), node("c"), node("d"))
    told.partitions[0].replicas[:] = [1, 3, 2]
    assert routing.choose_replica(0, (), 0.0) == "x:1"
    routing.adopt(told, 0.0)
    assert routing.choose_replica(0, (), 0.0) == "d:1"
    routing.failed("d:1", 0.0)
    assert routing.choose_replica(0, (), 0.0) == "c:1"
    assert routing.choose_replica(0, {"c:1"}, 0.0) == "a:1", "the leader, which is no replica any more"
    assert routing.choose_replica(7, {"a:1", "c:1"}, 0.0) == "x:1"


def test_a_refresh_is_claimed_once_a_second_and_only_when_wanted() -> None:
    """At first, after a failure, at a higher epoch, and when the topology is old."""
    routing = new_routing()
    assert routing.claim_refresh(0.0)
    assert not routing.claim_refresh(0.9), "another one asks already"
    routing.adopt(topology(node("a")), 0.9)
    assert not routing.claim_refresh(5.0)
    routing.failed("a:1", 5.0)
    assert routing.claim_refresh(5.0)
    routing.adopt(topology(node("a")), 5.0)
    routing.heard(Header(topology_epoch=2), 6.0)
    assert routing.claim_refresh(6.0)
    routing.adopt(topology(node("a"), epoch=2), 6.0)
    assert routing.claim_refresh(36.1)


def test_log_times_of_leaders_are_anchors_until_they_are_old() -> None:
    """The newest counts; an older one that arrives late does not, unless the known one has aged."""
    routing = new_routing()
    routing.adopt(topology(node("a")), 0.0)
    assert routing.log_time_ms(0, 0.0) == 5_000
    routing.heard(Header(partition=0, log_time_ms=9_000), 10.0)
    routing.heard(Header(partition=0, log_time_ms=8_000), 11.0)
    assert routing.log_time_ms(0, 11.0) == 9_000
    assert routing.log_time_ms(0, 70.1) is None
    routing.heard(Header(partition=0, log_time_ms=8_500), 71.0)
    assert routing.log_time_ms(0, 71.0) == 8_500


def test_a_repeated_rumour_does_not_make_a_log_time_young() -> None:
    """A gateway may say the same old time of an idle group for ever; only a newer one is news."""
    routing = new_routing()
    routing.adopt(topology(node("a")), 0.0)
    routing.adopt(topology(node("a")), 59.0)
    assert routing.log_time_ms(0, 61.0) is None


def test_partitions_beyond_the_topology_are_not_remembered() -> None:
    """Answers can't make the client's memory grow."""
    routing = new_routing()
    routing.heard(Header(partition=2**31, log_time_ms=1), 0.0)
    assert routing.log_time_ms(2**31, 0.0) is None
    assert routing.log_time_ms(None, 0.0) is None


def test_another_cluster_at_the_same_addresses_starts_anew() -> None:
    """A recreated cluster has lower epochs and log times of its own."""
    routing = new_routing()
    routing.adopt(topology(node("a"), epoch=9), 0.0)
    fresh = topology(node("a"))
    fresh.cluster_id = "another"
    fresh.partitions[0].log_time_ms = 0
    routing.adopt(fresh, 1.0)
    assert routing.log_time_ms(0, 1.0) is None


def test_the_leader_is_prompt_until_its_partition_does_not_answer() -> None:
    """Then again once it has answered, with a record or a refusal of its own."""
    routing = new_routing()
    assert not routing.is_prompt(None, "a:1"), "where the key lives is unknown"
    assert not routing.is_prompt(0, "a:1")
    routing.adopt(topology(node("a"), node("b")), 0.0)
    assert routing.is_prompt(0, "a:1")
    assert not routing.is_prompt(0, "b:1"), "it would have to ask the leader"
    for reason in ("NO_QUORUM", "IN_DOUBT", "TIMED_OUT"):
        routing.heard_failure(0, error_for(reason, "why"))
        assert not routing.is_prompt(0, "a:1")
        routing.heard(Header(partition=0, topology_epoch=1, stale=True), 1.0)
        assert not routing.is_prompt(0, "a:1"), "a stale read needs no leader"
        routing.heard(Header(partition=0, topology_epoch=1), 1.0)
        assert routing.is_prompt(0, "a:1")
    routing.heard_failure(0, error_for("NO_QUORUM", "why"))
    routing.heard_failure(0, error_for("KEY_NOT_FOUND", "why"))
    assert routing.is_prompt(0, "a:1")


def test_any_replica_is_prompt_for_a_stale_read() -> None:
    """Other nodes would have to ask one."""
    routing = new_routing()
    told = topology(node("a"), node("b"), node("c"), leader=None)
    told.partitions[0].replicas.extend([0, 1])
    routing.adopt(told, 0.0)
    assert [routing.has_replica(0, address) for address in ("a:1", "b:1", "c:1")] == [True, True, False]
    assert not routing.has_replica(None, "a:1")
    assert not routing.is_prompt(0, "a:1")
