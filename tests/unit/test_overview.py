"""What `Cluster` answers, also while nodes are silent."""

from collections.abc import Callable

import pytest
from support.gossip import member
from support.small_cluster import NOT_SENT, PARTITIONS, REPLY_LOST, SmallCluster, small_cluster
from support.virtual_time import virtual

from ringhold.api.errors import InvalidRequest
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ringhold.gossip.member import Member, MemberState
from ringhold.node.moving.mover import Surveyor
from ringhold.node.moving.placements import Placements
from ringhold.node.overview import Overview
from ringhold.node.snapshots.installer import InstallCounts
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.hashing import key_hash, partition_of


async def overview(cluster: SmallCluster, known: Callable[[str], Member | None] = lambda _: None) -> Overview:
    """That of node a."""
    node = cluster.nodes["a"]
    store = TopologyStore("a", MemoryEngine())
    await store.adopt(cluster.topology)
    surveyor = Surveyor("a", node.router, Placements(node.groups, store, InstallCounts()))
    return Overview("a", store, node.routes, node.router, known, node.describe, surveyor, cluster.clock, Limits())


@virtual
async def test_the_topology_names_leaders_and_their_log_times() -> None:
    """Clients route by it and take their anchors from it; what a node reports counts more than the plan."""
    async with small_cluster() as cluster:
        response = await (await overview(cluster)).topology(cluster.deadline)
        assert (response.cluster_name, response.cluster_id, response.epoch) == ("c", "c1", 1)
        assert [node.id for node in response.nodes] == ["a", "b", "c"]
        owners = [response.nodes[partition.leader].id for partition in response.partitions]
        assert owners == [targets[0] for targets in cluster.topology.targets]
        assert all(partition.log_time_ms > 0 for partition in response.partitions)


@virtual
async def test_gossip_has_the_word_on_addresses_and_liveness() -> None:
    """An address is an attribute of a running process; without gossip's word the liveness is not claimed."""
    async with small_cluster() as cluster:
        known = {"b": member("b", state=MemberState.SUSPECT, grpc_address="moved:1")}
        response = await (await overview(cluster, known.get)).topology(cluster.deadline)
        assert response.nodes[1].grpc_address == "moved:1"
        assert response.nodes[1].liveness == cluster_pb2.LIVENESS_SUSPECT
        assert response.nodes[2].grpc_address == "c:50051"
        assert response.nodes[2].liveness == cluster_pb2.LIVENESS_UNSPECIFIED


@virtual
async def test_the_status_shows_silent_nodes_and_the_partitions_without_a_leader() -> None:
    """A node that does not answer is listed as unreachable, and what only it leads as unavailable (P5)."""
    async with small_cluster() as cluster:
        whole = await (await overview(cluster)).status(cluster.deadline)
        assert [node.reachable for node in whole.nodes] == [True, True, True]
        assert list(whole.unavailable_partitions) == []
        assert sum(node.partitions_led for node in whole.nodes) == PARTITIONS
        cluster.weather = lambda source, target, request: NOT_SENT if target == "c" else None
        response = await (await overview(cluster)).status(cluster.deadline)
        assert [node.reachable for node in response.nodes] == [True, True, False]
        assert list(response.unavailable_partitions) == cluster.partitions_of("c")


@virtual
async def test_a_silent_node_does_not_hold_the_answer_past_the_deadline() -> None:
    """It is waited for a second at most, and no longer than the caller listens."""
    async with small_cluster() as cluster:
        cluster.weather = lambda source, target, request: REPLY_LOST if target == "c" else None
        shown = await overview(cluster)
        for patience_s, waited_s in ((10.0, 1.0), (0.3, 0.3)):
            began = cluster.clock.now()
            response = await shown.status(began + patience_s)
            assert [node.reachable for node in response.nodes] == [True, True, False]
            assert cluster.clock.now() - began <= waited_s + 0.001


@virtual
async def test_explain_tells_where_a_key_lives_and_what_is_there() -> None:
    """Also for a key that is not there; an impossible key is refused."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        shown = await overview(cluster)
        absent = await shown.explain(key, cluster.deadline)
        assert (absent.exists, absent.leader, absent.hash) == (False, "name-b", key_hash(key))
        entry = kv_pb2.IndexEntry(name="i", value=b"x")
        record = kv_pb2.SetRequest(key=key, value=b"four", indexes=[entry])
        await cluster.nodes["c"].gateway.set(record, cluster.deadline)
        there = await shown.explain(key, cluster.deadline)
        assert (there.exists, there.version, there.value_bytes) == (True, 1, 4)
        assert there.partition == partition_of(key, PARTITIONS)
        assert list(there.replicas) == ["name-b"]
        assert [(found.name, found.value) for found in there.indexes] == [("i", b"x")]
        with pytest.raises(InvalidRequest):
            await shown.explain(b"", cluster.deadline)
