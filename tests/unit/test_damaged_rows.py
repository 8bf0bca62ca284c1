"""A damaged row is never served: others answer in its place, and where nobody can, that is said at once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.damage import flip_row, replace
from support.replicas import leading, propose
from support.rows import set_of
from support.small_cluster import PARTITIONS, SmallCluster, small_cluster
from support.virtual_time import pass_time, reached, turns, virtual

from ringhold.api.errors import DataLoss, Incomplete, InDoubt, Unavailable
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node import keyspace
from ringhold.node.consensus.tickets import NotLeader
from ringhold.node.losses import LOST_S_MAX
from ringhold.node.replica_record import DAMAGED, HEALTHY, load_record
from ringhold.node.router import failure_of, raised_by
from ringhold.node.storage.memory import MemoryEngine
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import group_of_partition

STALE = kv_pb2.CONSISTENCY_STALE


def group_of(key: bytes) -> int:
    return group_of_partition(partition_of(key, PARTITIONS))


async def put(cluster: SmallCluster, key: bytes, value: bytes = b"v", through: str = "a") -> None:
    entry = kv_pb2.IndexEntry(name="i", value=b"x")
    request = kv_pb2.SetRequest(key=key, value=value, indexes=[entry])
    await cluster.nodes[through].gateway.set(request, cluster.deadline)


async def put_everywhere(cluster: SmallCluster, key: bytes) -> None:
    await put(cluster, key)
    row = keyspace.row_key(group_of(key), key)
    await reached(lambda: all(cluster.nodes[node].engine.get(row) for node in holders(cluster, key)))


def holders(cluster: SmallCluster, key: bytes) -> tuple[str, ...]:
    return cluster.topology.targets[partition_of(key, PARTITIONS)]


async def value_of(cluster: SmallCluster, key: bytes, through: str, consistency: int = 0) -> bytes:
    request = kv_pb2.GetRequest(key=key, consistency=consistency)  # type: ignore[arg-type]
    return (await cluster.nodes[through].gateway.get(request, cluster.deadline)).value


async def page(cluster: SmallCluster, through: str = "a", **fields: Any) -> kv_pb2.GetByIndexResponse:
    request = kv_pb2.GetByIndexRequest(index="i", equals=b"x", with_records=True, **fields)
    return await cluster.nodes[through].gateway.get_by_index(request, cluster.deadline)


def give_up_everywhere(cluster: SmallCluster, key: bytes, but: str = "") -> None:
    for node in holders(cluster, key):
        if node != but:
            cluster.nodes[node].groups.hosting.rows_damaged(group_of(key), "a test says so")


@pytest.mark.parametrize("through", ["a", "b", "c"])
@virtual
async def test_a_damaged_row_of_the_leader_is_served_by_the_next_leader(through: str) -> None:
    """The rows are given up, the leadership is handed over, and the client only waits for that, at any gateway."""
    async with small_cluster(replication_factor=3) as cluster:
        key = cluster.key_at("a")
        await put_everywhere(cluster, key)
        flip_row(cluster.nodes["a"].engine, group_of(key), key)
        began = cluster.clock.now()
        assert await value_of(cluster, key, through) == b"v"
        assert cluster.clock.now() - began < 2
        record = load_record(cluster.nodes["a"].engine, group_of(key))
        assert record is not None
        assert (record.status, "row" in record.reason) == (DAMAGED, True)
        await put(cluster, key, b"w", through)
        assert await value_of(cluster, key, "a") == b"w"


@pytest.mark.parametrize("through", ["a", "b", "c"])
@virtual
async def test_a_stale_read_of_a_damaged_row_is_answered_by_another_replica(through: str) -> None:
    """Whichever gateway is asked; the replica that had it gives its rows up."""
    async with small_cluster(replication_factor=3) as cluster:
        key = cluster.key_at("a")
        await put_everywhere(cluster, key)
        flip_row(cluster.nodes[through].engine, group_of(key), key)
        assert await value_of(cluster, key, through, STALE) == b"v"
        assert cluster.nodes[through].groups.is_lost(group_of(key))
        assert await value_of(cluster, key, through, STALE) == b"v"


@pytest.mark.parametrize("fields", [{}, {"consistency": STALE}])
@pytest.mark.parametrize("missing", [False, True])
@virtual
async def test_a_query_that_meets_a_damaged_row_is_complete(missing: bool, fields: dict[str, Any]) -> None:
    """Only the group of the row is asked for again; an index entry without its row is damage, too."""
    async with small_cluster(replication_factor=3) as cluster:
        keys = [cluster.key_at(node, number) for node in "abc" for number in range(3)]
        for key in keys:
            await put_everywhere(cluster, key)
        bad = keys[0]
        if missing:
            replace(cluster.nodes["a"].engine, keyspace.row_key(group_of(bad), bad), None)
        else:
            flip_row(cluster.nodes["a"].engine, group_of(bad), bad)
        found = await page(cluster, **fields)
        assert sorted(match.key for match in found.matches) == sorted(keys)
        assert all(match.record.value == b"v" for match in found.matches)
        lost = [group for group in cluster.nodes["a"].groups.hosted if cluster.nodes["a"].groups.is_lost(group)]
        assert lost == [group_of(bad)]


@virtual
async def test_a_query_of_a_peer_refuses_only_the_group_that_is_damaged() -> None:
    """What else the peer leads is in the same answer."""
    async with small_cluster(replication_factor=3) as cluster:
        keys = [cluster.key_at("b", number) for number in range(4)]
        for key in keys:
            await put_everywhere(cluster, key)
        flip_row(cluster.nodes["b"].engine, group_of(keys[0]), keys[0])
        cluster.asked.clear()
        assert len((await page(cluster)).matches) == len(keys)
        first, *later = cluster.asked_of("b", "query")
        assert all(set(request.groups) == {group_of(keys[0])} for request in later if request is not first)


@virtual
async def test_a_sole_voter_loses_the_row_and_serves_the_rest() -> None:
    """There is nobody to rebuild from, so nothing is given up; reads of that row say that it is lost, at once."""
    async with small_cluster() as cluster:
        bad, good = cluster.key_at("b"), cluster.key_in(partition_of(cluster.key_at("b"), PARTITIONS), 1)
        for key in (bad, good):
            await put(cluster, key)
        flip_row(cluster.nodes["b"].engine, group_of(bad), bad)
        for through in "abc":
            for consistency in (0, STALE):
                began = cluster.clock.now()
                with pytest.raises(DataLoss) as caught:
                    await value_of(cluster, bad, through, consistency)
                assert caught.value.details["partition"] == str(partition_of(bad, PARTITIONS))
                assert cluster.clock.now() - began < 0.1
                assert await value_of(cluster, good, through, consistency) == b"v"
        record = load_record(cluster.nodes["b"].engine, group_of(bad))
        assert record is not None
        assert record.status == HEALTHY


@virtual
async def test_a_batch_of_reads_loses_only_the_damaged_row() -> None:
    """The others of the same partition are answered."""
    async with small_cluster() as cluster:
        partition = partition_of(cluster.key_at("b"), PARTITIONS)
        keys = [cluster.key_in(partition, number) for number in range(5)]
        for key in keys:
            await put(cluster, key)
        flip_row(cluster.nodes["b"].engine, group_of(keys[2]), keys[2])
        operations = [kv_pb2.Operation(get=kv_pb2.GetRequest(key=key)) for key in keys]
        response = await cluster.nodes["a"].gateway.batch(kv_pb2.BatchRequest(operations=operations), cluster.deadline)
        assert [result.error.reason for result in response.results] == ["", "", "NO_HEALTHY_REPLICA", "", ""]
        cluster.nodes["b"].groups.hosting.rows_damaged(group_of(keys[0]), "a test says so")
        cluster.asked.clear()
        response = await cluster.nodes["a"].gateway.batch(kv_pb2.BatchRequest(operations=operations), cluster.deadline)
        assert [result.error.reason for result in response.results] == ["NO_HEALTHY_REPLICA"] * 5
        assert len(cluster.asked) == 1


@virtual
async def test_a_query_over_a_row_that_only_a_sole_voter_had_is_lost_or_partial() -> None:
    """A page with a hole is never taken for a whole one; who allows it gets the other partitions."""
    async with small_cluster() as cluster:
        keys = [cluster.key_at(node) for node in "abc"]
        for key in keys:
            await put(cluster, key)
        flip_row(cluster.nodes["b"].engine, group_of(keys[1]), keys[1])
        began = cluster.clock.now()
        with pytest.raises(DataLoss) as caught:
            await page(cluster)
        assert cluster.clock.now() - began < 0.1
        assert caught.value.details == {"partition": str(partition_of(keys[1], PARTITIONS))}
        partial = await page(cluster, allow_partial=True)
        assert list(partial.missing_partitions) == [partition_of(keys[1], PARTITIONS)]
        assert sorted(match.key for match in partial.matches) == sorted([keys[0], keys[2]])


@virtual
async def test_a_command_that_needs_the_row_costs_a_sole_voter_its_group() -> None:
    """What it has appended is in doubt; from then on every request for the group is lost, at once."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        await put(cluster, key)
        flip_row(cluster.nodes["b"].engine, group_of(key), key)
        began = cluster.clock.now()
        with pytest.raises(InDoubt):
            await put(cluster, key)
        for attempt in (put(cluster, key), value_of(cluster, key, "c"), value_of(cluster, key, "c", STALE)):
            with pytest.raises(DataLoss):
                await attempt
        assert cluster.clock.now() - began < 2


async def get_newest(cluster: SmallCluster, key: bytes) -> object:
    return await value_of(cluster, key, "d")


async def get_stale(cluster: SmallCluster, key: bytes) -> object:
    return await value_of(cluster, key, "d", STALE)


async def set_one(cluster: SmallCluster, key: bytes) -> None:
    await put(cluster, key, through="d")


async def find(cluster: SmallCluster, key: bytes) -> object:
    return await page(cluster, "d")


async def find_stale(cluster: SmallCluster, key: bytes) -> object:
    return await page(cluster, "d", consistency=STALE)


OPERATIONS = [get_newest, get_stale, set_one, find, find_stale]


@pytest.mark.parametrize("operation", OPERATIONS)
@virtual
async def test_where_no_copy_is_good_that_is_said_long_before_the_deadline(
    operation: Callable[[SmallCluster, bytes], "asyncio.Future[object]"],
) -> None:
    """All who should have one have been asked, and waiting would bring nothing."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, _ = cluster.key_elsewhere("d")
        await put_everywhere(cluster, key)
        give_up_everywhere(cluster, key)
        began = cluster.clock.now()
        with pytest.raises(DataLoss) as caught:
            await operation(cluster, key)
        assert caught.value.details == {"partition": str(partition_of(key, PARTITIONS))}
        assert cluster.clock.now() - began < 2


@pytest.mark.parametrize("operation", OPERATIONS)
@virtual
async def test_a_copy_out_of_reach_may_be_good(
    operation: Callable[[SmallCluster, bytes], "asyncio.Future[object]"],
) -> None:
    """While one of those who should have a copy does not answer, nothing is given up for lost."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (_, _, away) = cluster.key_elsewhere("d")
        await put_everywhere(cluster, key)
        give_up_everywhere(cluster, key, but=away)
        cluster.network.silence(away)
        cluster.cut_off.add(away)
        with pytest.raises((Unavailable, Incomplete)):
            await operation(cluster, key)


@virtual
async def test_one_good_copy_is_enough_for_stale_reads() -> None:
    """It is found wherever it is."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (_, _, good) = cluster.key_elsewhere("d")
        await put_everywhere(cluster, key)
        give_up_everywhere(cluster, key, but=good)
        assert await value_of(cluster, key, "d", STALE) == b"v"


@virtual
async def test_what_was_said_of_a_copy_does_not_count_for_ever() -> None:
    """Two replicas are rebuilt one after the other: a request that has met both is not told of a loss."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, targets = cluster.key_elsewhere("d")
        router = cluster.nodes["d"].router
        attempts = router._attempts(group_of(key), cluster.clock.now() + 60)
        for target in targets[:2]:
            attempts.aimed_at = target
            await attempts.failed(NotLeader(group_of(key), None, 0, is_lost=True))
        await pass_time(LOST_S_MAX + 0.1)
        attempts.aimed_at = targets[2]
        await attempts.failed(NotLeader(group_of(key), None, 0, is_lost=True))
        attempts.aimed_at = targets[0]
        await attempts.failed(NotLeader(group_of(key), None, 0, is_lost=True))
        attempts.aimed_at = targets[1]
        with pytest.raises(DataLoss):
            await attempts.failed(NotLeader(group_of(key), None, 0, is_lost=True))


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_refusal_tells_other_nodes_whether_the_copy_is_lost(is_lost: bool) -> None:
    """Through the wire and back."""
    error = raised_by(failure_of(NotLeader(3, "b", 7, is_lost=is_lost)), 3)
    assert isinstance(error, NotLeader)
    assert (error.group, error.leader, error.term, error.is_lost) == (3, "b", 7, is_lost)


@virtual
async def test_a_node_without_its_engine_has_no_copy_of_anything() -> None:
    """What it had in an earlier life is lost, also where nobody has spoken to it yet."""
    engine = MemoryEngine()
    async with leading(engine, [3]) as replicas:
        await propose(replicas, 3, set_of(b"k", b"v"), request_id=b"1")
        assert not replicas.is_lost(7)
        replicas.hosting.reborn_since = 1
        assert replicas.is_lost(7)
        assert not replicas.is_lost(3)
        await turns()
