"""Changes of the cluster through Client and AsyncClient: orders in, plain values out, doubts apart from refusals."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.client_core import error, fail_attempts, next_send, told_core, topology
from support.fake_server import FakeCluster, Fault, Stage, fake_cluster

from ringhold import (
    AddNodes,
    AsyncClient,
    ChangeRefused,
    Client,
    ClusterChange,
    CordonNode,
    DecommissionNode,
    InDoubt,
    InvalidRequest,
    KeepNode,
    Move,
    NodeLoad,
    PlannedMove,
    RemoveNode,
    SetReplicationFactor,
    TimedOut,
    Unavailable,
    UncordonNode,
)
from ringhold.api.changes import CHANGES_MAX, check_change
from ringhold.api.client.calls import Answered, Fail, Failed, Finish, Sleep, Slept
from ringhold.api.errors import error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.ring.topology import NODES_MAX, REPLICATION_FACTOR_MAX

TOPOLOGY = cluster_pb2.TopologyRequest
PLANNED = cluster_pb2.ChangeResponse(
    moves=[
        cluster_pb2.PlannedMove(adding=["node-2"], removing=["node-1"], bytes=10),
        cluster_pb2.PlannedMove(partition=0, adding=["node-2", "node-3"], bytes=20),
    ],
    loads=[
        cluster_pb2.NodeLoad(
            name="node-1",
            host="h",
            zone="z",
            replicas_before=9,
            replicas_after=8,
            leaders_before=7,
            leaders_after=6,
            bytes_before=5,
            bytes_after=4,
        )
    ],
    bytes=30,
    seconds=1.5,
    warnings=["two replicas share a host"],
)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as running:
        running.planned = PLANNED
        yield running


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    with Client(cluster.endpoints, timeout_s=5) as opened:
        yield opened


def sent(cluster: FakeCluster) -> list[tuple[list[tuple[str, object]], bool]]:
    """The changes that reached a node: their orders, and whether they were dry runs."""
    return [
        ([(kind := str(each.WhichOneof("kind")), getattr(each, kind)) for each in call.request.changes], dry_run)
        for call in cluster.calls_of("Change")
        for dry_run in [call.request.dry_run]
    ]


def test_a_change_says_what_moves(client: Client, cluster: FakeCluster) -> None:
    """Its answer is a plain value; partition None is the system group."""
    assert client.change(DecommissionNode("node-1")) == ClusterChange(
        epoch=2,
        moves=(
            PlannedMove(None, ("node-2",), ("node-1",), 10),
            PlannedMove(0, ("node-2", "node-3"), (), 20),
        ),
        loads=(NodeLoad("node-1", "h", "z", 9, 8, 7, 6, 5, 4),),
        bytes=30,
        seconds=1.5,
        warnings=("two replicas share a host",),
    )


def test_orders_of_one_change_go_together(client: Client, cluster: FakeCluster) -> None:
    """All of them or none take effect."""
    client.change(DecommissionNode("node-1"), CordonNode("node-1"), SetReplicationFactor(2))
    orders: list[tuple[str, object]] = [("decommission", "node-1"), ("cordon", "node-1"), ("replication_factor", 2)]
    assert sent(cluster) == [(orders, False)]
    assert (cluster.cordoned, cluster.replication_factor) == ({"node-1"}, 2)
    with pytest.raises(InvalidRequest, match="nobody"):
        client.change(SetReplicationFactor(3), UncordonNode("nobody"))
    assert cluster.replication_factor == 2


def test_each_order_has_a_method(client: Client, cluster: FakeCluster) -> None:
    """It sends that one order, and not as a dry run."""
    cluster.dead.add("node-3")
    client.decommission("node-1")
    client.keep("node-1")
    client.cordon("node-1")
    client.uncordon("node-1")
    client.set_replication_factor(5)
    client.remove_node("node-3")
    assert sent(cluster) == [
        ([("decommission", "node-1")], False),
        ([("keep", "node-1")], False),
        ([("cordon", "node-1")], False),
        ([("uncordon", "node-1")], False),
        ([("replication_factor", 5)], False),
        ([("remove", "node-3")], False),
    ]


async def test_both_shells_change_alike(cluster: FakeCluster) -> None:
    """AsyncClient has the same methods, which send the same."""
    cluster.dead.add("node-3")
    async with AsyncClient(cluster.endpoints, timeout_s=5) as client:
        changed = await client.change(DecommissionNode("node-1"), dry_run=True)
        assert (changed.epoch, changed.bytes) == (1, 30)
        await client.plan(add=1)
        await client.decommission("node-1")
        await client.keep("node-1")
        await client.cordon("node-1")
        await client.uncordon("node-1")
        await client.set_replication_factor(5)
        await client.remove_node("node-3")
    assert [(orders[0][0], dry_run) for orders, dry_run in sent(cluster)] == [
        ("decommission", True),
        ("add", True),
        ("decommission", False),
        ("keep", False),
        ("cordon", False),
        ("uncordon", False),
        ("replication_factor", False),
        ("remove", False),
    ]


def test_a_plan_changes_nothing(client: Client, cluster: FakeCluster) -> None:
    """It is a dry run of all that is given, one name or several."""
    planned = client.plan(add=2, remove=["node-3"], decommission="node-1", replication_factor=5)
    assert planned.epoch == 1
    orders = [("add", 2), ("remove", "node-3"), ("decommission", "node-1"), ("replication_factor", 5)]
    assert sent(cluster) == [(orders, True)]
    assert (cluster.states, cluster.replication_factor) == ({}, 1)


def test_status_says_what_moves(client: Client, cluster: FakeCluster) -> None:
    """Moves, whether the cluster is settled, its replication factor and who is cordoned are plain values."""
    quiet = client.status()
    assert (quiet.is_settled, quiet.moves, quiet.replication_factor) == (True, (), 1)
    client.cordon("node-2")
    copying = cluster_pb2.Move(
        partition=0, adding=["a"], removing=["b"], step=cluster_pb2.MOVE_STEP_COPYING, bytes_done=1, bytes_total=2
    )
    cluster.stages.append(Stage([copying, cluster_pb2.Move(step=cluster_pb2.MOVE_STEP_WAITING)]))
    client.status()
    busy = client.status()
    assert busy.moves == (Move(0, ("a",), ("b",), "COPYING", 1, 2), Move(None, (), (), "WAITING"))
    assert not busy.is_settled
    assert [each.node.cordoned for each in busy.nodes] == [False, True, False]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (lambda client: client.change(), "no change is asked for"),
        (lambda client: client.plan(), "no change is asked for"),
        (lambda client: client.decommission(""), "the name of a node is missing"),
        (lambda client: client.plan(remove=["a", ""]), "the name of a node is missing"),
        (lambda client: client.keep("x" * 257), "no node can be called 'xxx"),
        (lambda client: client.cordon("\udcff"), "no node can be called"),
        (lambda client: client.uncordon("a\nb"), "no node can be called"),
        (lambda client: client.set_replication_factor(0), "from 1 to 9, not 0"),
        (lambda client: client.set_replication_factor(REPLICATION_FACTOR_MAX + 1), "from 1 to 9, not 10"),
        (lambda client: client.plan(replication_factor=2**40), "from 1 to 9"),
        (lambda client: client.plan(add=-1), "from 1 to 4096 nodes"),
        (lambda client: client.plan(add=NODES_MAX + 1), "from 1 to 4096 nodes"),
        (lambda client: client.change(AddNodes(1)), "by starting it"),
        (lambda client: client.change(AddNodes(1), AddNodes(1), dry_run=True), "in one order"),
        (lambda client: client.plan(remove="a", decommission="a"), "a can't have both: decommission and remove"),
        (lambda client: client.change(DecommissionNode("a"), KeepNode("a")), "both: decommission and keep"),
        (lambda client: client.change(CordonNode("a"), UncordonNode("a")), "both: cordon and uncordon"),
        (lambda client: client.change(RemoveNode("a"), CordonNode("a")), "both: cordon and remove"),
        (lambda client: client.change(SetReplicationFactor(3), SetReplicationFactor(5)), "not 3 and 5"),
        (lambda client: client.change(*[KeepNode("a")] * (CHANGES_MAX + 1)), "1000 orders at most"),
    ],
)
def test_what_can_t_be_right_is_refused_at_once(
    client: Client, cluster: FakeCluster, order: Callable[[Client], object], words: str
) -> None:
    """Without a call."""
    with pytest.raises(InvalidRequest, match=words) as caught:
        order(client)
    assert caught.value.reason == "CHANGE_INVALID"
    assert cluster.calls == []


def test_orders_that_agree_are_no_contradiction(client: Client, cluster: FakeCluster) -> None:
    """The same order twice, and orders for different nodes, are taken."""
    client.change(CordonNode("node-1"), CordonNode("node-1"), KeepNode("node-1"), UncordonNode("node-2"))
    client.change(SetReplicationFactor(3), SetReplicationFactor(3))
    assert (cluster.cordoned, cluster.replication_factor) == ({"node-1"}, 3)


@pytest.mark.parametrize(
    "order",
    [
        lambda client: client.decommission(7),
        lambda client: client.decommission(None),
        lambda client: client.keep(b"node-1"),
        lambda client: client.set_replication_factor("5"),
        lambda client: client.set_replication_factor(True),
        lambda client: client.plan(add=1.5),
        lambda client: client.change("decommission"),
    ],
)
def test_other_types_are_refused(client: Any, cluster: FakeCluster, order: Callable[[Any], object]) -> None:
    """Nothing is converted silently."""
    with pytest.raises(TypeError):
        order(client)
    assert cluster.calls == []


def test_an_order_that_a_node_does_not_know_is_invalid() -> None:
    """A newer client's order, which this version reads as none, is refused as a whole."""
    newer = cluster_pb2.Change.FromString(b"\xa2\x06\x01x")
    with pytest.raises(InvalidRequest, match="does not know"):
        check_change(cluster_pb2.ChangeRequest(changes=[cluster_pb2.Change(keep="a"), newer]))


def test_refusals_are_raised_as_they_are(client: Client, cluster: FakeCluster) -> None:
    """A node that is not there is an invalid request; what the cluster can't do is ChangeRefused."""
    with pytest.raises(InvalidRequest, match="no node is named node-9") as unknown:
        client.decommission("node-9")
    assert (unknown.value.reason, unknown.value.details) == ("NODE_UNKNOWN", {"node": "node-9"})
    with pytest.raises(ChangeRefused, match="alive") as refused:
        client.remove_node("node-1")
    assert refused.value.reason == "CHANGE_REFUSED"
    with pytest.raises(ChangeRefused, match="no node would be left"):
        client.change(*(DecommissionNode(f"node-{number}") for number in (1, 2, 3)))
    assert len(cluster.calls_of("Change")) == 3


@pytest.mark.parametrize("applied", [False, True])
def test_a_lost_answer_is_asked_for_again(client: Client, cluster: FakeCluster, *, applied: bool) -> None:
    """An order is idempotent: whether it was taken before the answer got lost or not, the repetition succeeds."""
    cluster.faults.append(Fault("Change", applied=applied))
    assert client.decommission("node-1").epoch == 2
    assert len(cluster.calls_of("Change")) == 2


def test_a_cluster_without_a_leader_is_waited_for(client: Client, cluster: FakeCluster) -> None:
    """Nothing was changed: it is tried until the deadline, and is then Unavailable, not in doubt."""
    refusal = error_for("NO_QUORUM", "the system group has no leader", {"needed": "2", "alive": "1"})
    cluster.faults.append(Fault("Change", times=2, error=refusal))
    assert client.decommission("node-1").epoch == 2
    cluster.faults.append(Fault("Change", times=1_000, error=refusal))
    with pytest.raises(Unavailable, match="no leader") as caught:
        client.decommission("node-2", timeout_s=0.3)
    assert caught.value.reason == "NO_QUORUM"


def test_without_any_answer_a_change_is_in_doubt() -> None:
    """It may have been taken, and the error says that it can be given again; a dry run only timed out."""
    core = told_core()
    for orders, dry_run, kind in (
        ([DecommissionNode("a")], False, InDoubt),
        ([DecommissionNode("a")], True, TimedOut),
    ):
        call = core.change(orders, dry_run, None)
        asked, end = fail_attempts(call, call.start(0.0), error("NO_ANSWER"))
        assert isinstance(end, Fail)
        assert type(end.error) is kind
        assert len(asked) > 1
        assert ("to give it again is safe" in str(end.error)) is not dry_run


def test_a_doubt_outlives_refusals() -> None:
    """After an attempt that may have been taken, a refusal ends nothing: the attempt may be the reason for it."""
    core = told_core()
    call = core.change([RemoveNode("a")], False, None)
    next_send(call, call.start(0.0), 0.0)
    assert isinstance(next_send(call, call.handle(Failed(error("CONNECTION_LOST")), 0.0), 0.0).request, TOPOLOGY)
    next_send(call, call.handle(Answered(topology()), 0.0), 0.0)
    end = call.handle(Failed(error("NODE_UNKNOWN")), 0.0)
    assert isinstance(end, Fail)
    assert isinstance(end.error, InDoubt)
    assert "why NODE_UNKNOWN" in str(end.error)
    assert end.error.request_id == b""


def test_a_refusal_without_a_doubt_is_final() -> None:
    """Attempts that certainly did nothing do not make one."""
    core = told_core()
    call = core.change([RemoveNode("a")], False, None)
    effect = call.handle(Failed(error("NO_QUORUM")), 0.0) if call.start(0.0) else None
    assert isinstance(effect, Sleep)
    next_send(call, call.handle(Slept(), 0.1), 0.1)
    end = call.handle(Failed(error("CHANGE_REFUSED")), 0.1)
    assert isinstance(end, Fail)
    assert isinstance(end.error, ChangeRefused)


@pytest.mark.parametrize(("timeout_s", "attempt_s"), [(3.0, 3.0), (9.0, 3.0), (60.0, 20.0)])
@pytest.mark.parametrize("dry_run", [False, True])
def test_an_attempt_has_a_third_of_a_long_deadline(timeout_s: float, attempt_s: float, *, dry_run: bool) -> None:
    """To place thousands of partitions takes its time; who gives more of it gets longer attempts."""
    call = told_core().change([SetReplicationFactor(5)], dry_run, timeout_s)
    assert next_send(call, call.start(0.0), 0.0).timeout_s == pytest.approx(attempt_s)


def test_after_a_change_the_topology_is_asked_for() -> None:
    """The epoch of the answer is newer than the one that is known, so that the next call learns it first."""
    core = told_core()
    call = core.change([DecommissionNode("a")], False, None)
    next_send(call, call.start(0.0), 0.0)
    assert isinstance(call.handle(Answered(cluster_pb2.ChangeResponse(epoch=2)), 0.0), Finish)
    later = core.get(b"k", None)
    assert isinstance(next_send(later, later.start(5.0), 5.0).request, TOPOLOGY)
