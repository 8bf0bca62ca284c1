"""What status and metrics say of replicas that are to be rebuilt, and of what scrubs have found."""

from collections.abc import Callable

from support.damage import flip_row
from support.small_cluster import NOT_SENT, PARTITIONS, SmallCluster, SmallNode, small_cluster
from support.virtual_time import reached, virtual

from ringhold.api.client.results import ClusterStatus, UnhealthyReplica
from ringhold.api.client.wire import status_of
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, ScrubState
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import ReplicaRecord
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.cli.cluster_views import health_lines, unavailable_lines
from ringhold.node.moving.mover import Surveyor
from ringhold.node.moving.placements import Placements
from ringhold.node.overview import Overview, unhealthy_copies
from ringhold.node.replica_record import DAMAGED, GONE, HEALTHY, INSTALLING
from ringhold.node.snapshots.installer import InstallCounts
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import group_of_partition


def tell_health(cluster: SmallCluster) -> None:
    """The nodes describe their replicas as real ones do."""
    for node_id, node in cluster.nodes.items():
        node.describe = described(cluster, node_id, node)  # type: ignore[method-assign]


def described(cluster: SmallCluster, node_id: str, node: SmallNode) -> Callable[[], DescribeReply]:
    plain = node.describe

    def describe() -> DescribeReply:
        reply = plain()
        reply.unhealthy.extend(unhealthy_copies(node.groups.hosting.records, cluster.topology, node_id))
        reply.scrub.CopyFrom(ScrubState(age_s=7_300.0, damage=2) if node_id == "b" else ScrubState())
        return reply

    return describe


async def status(cluster: SmallCluster) -> ClusterStatus:
    """As node a tells it."""
    node, store = cluster.nodes["a"], TopologyStore("a", MemoryEngine())
    await store.adopt(cluster.topology)
    surveyor = Surveyor("a", node.router, Placements(node.groups, store, InstallCounts()))
    unknown = lambda _: None  # noqa: E731
    shown = Overview("a", store, node.routes, node.router, unknown, node.describe, surveyor, cluster.clock, Limits())
    return status_of(await shown.status(cluster.deadline))


@virtual
async def test_status_names_what_is_to_be_rebuilt_and_why() -> None:
    """Node by node, with what its scrubs have found."""
    async with small_cluster(replication_factor=3) as cluster:
        tell_health(cluster)
        key = cluster.key_at("a")
        partition = partition_of(key, PARTITIONS)
        request = kv_pb2.SetRequest(key=key, value=b"v")
        await cluster.nodes["a"].gateway.set(request, cluster.deadline)
        flip_row(cluster.nodes["a"].engine, group_of_partition(partition), key)
        await cluster.nodes["a"].gateway.get(kv_pb2.GetRequest(key=key), cluster.deadline)
        shown = await status(cluster)
        (replica,) = shown.nodes[0].unhealthy
        assert (replica.partition, replica.health, "damaged" in replica.reason) == (partition, "DAMAGED", True)
        assert (shown.nodes[1].scrub_age_s, shown.nodes[1].damage_found) == (7_300.0, 2)
        assert (shown.nodes[2].unhealthy, shown.nodes[2].scrub_age_s) == ((), None)
        assert (shown.unavailable_partitions, shown.lost_partitions) == ((), ())
        first, second, third = map(str, health_lines(shown))
        assert (first, second) == ("name-a rebuilds 1:", f"  partition {partition} damaged: {replica.reason}")
        assert third == "name-b has found damage on its disk 2 times; last read as a whole: 2 h ago"


@virtual
async def test_status_says_plainly_that_a_partition_has_no_healthy_copy() -> None:
    """Only once all who should have one have been asked: who is silent may have it."""
    async with small_cluster(replication_factor=3) as cluster:
        tell_health(cluster)
        for node in cluster.nodes.values():
            node.groups.hosting.rows_damaged(group_of_partition(5), "a test says so")
        await reached(lambda: not any(node.groups.leads(group_of_partition(5)) for node in cluster.nodes.values()))
        shown = await status(cluster)
        assert (shown.unavailable_partitions, shown.lost_partitions) == ((5,), (5,))
        assert [str(line) for line in unavailable_lines(shown)] == [
            "1 partitions without a reachable leader: 5",
            "1 of them have no healthy copy anywhere, and do not come back by themselves: 5",
        ]
        cluster.weather = lambda source, target, request: NOT_SENT if target == "c" else None
        shown = await status(cluster)
        assert 5 in shown.unavailable_partitions
        assert shown.lost_partitions == ()


@virtual
async def test_a_replica_that_is_gone_counts_while_it_is_to_be_replaced() -> None:
    """One that was moved away leaves a record, too, and is missed by nobody."""
    async with small_cluster(replication_factor=1) as cluster:
        own, other = (cluster.partitions_of(node)[0] for node in "ab")
        records = {
            0: ReplicaRecord(status=INSTALLING, reason="it is new"),
            group_of_partition(own): ReplicaRecord(status=GONE, reason="its vote is missing"),
            group_of_partition(other): ReplicaRecord(status=GONE, reason="moved"),
            group_of_partition(7): ReplicaRecord(status=HEALTHY),
        }
        copies = unhealthy_copies(records, cluster.topology, "a")
        assert [(copy.group, copy.status) for copy in copies] == [(0, INSTALLING), (group_of_partition(own), GONE)]
        assert unhealthy_copies({0: ReplicaRecord(status=DAMAGED)}, None, "a")[0].status == DAMAGED
        assert UnhealthyReplica(None, "GONE", "").partition is None
