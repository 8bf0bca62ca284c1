"""Stale reads in the node: which replica answers, and what is said of its age (P2: the only, explicit, exception)."""

import pytest
from support.rows import set_of
from support.small_cluster import NOT_SENT, REPLY_LOST, SmallCluster, SmallNode, small_cluster
from support.virtual_time import reached, virtual

from ringhold.api.errors import DataLoss, InvalidRequest, KeyNotFound, Unavailable
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Request
from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.consensus.tickets import NotLeader, ReadAnswer
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import group_of_partition

STALE = kv_pb2.CONSISTENCY_STALE


def group_of(cluster: SmallCluster, key: bytes) -> int:
    return group_of_partition(partition_of(key, cluster.topology.partitions))


def hold(node: SmallNode, value: bytes | None, behind_ms: int | None) -> None:
    """The node has a replica of every group, with this value under each key."""
    row = None if value is None else stored.Row(value=value, version=1, create_version=1).SerializeToString()
    node.groups.read_stale = lambda group, keys: ReadAnswer([row] * len(keys), 3, 77, behind_ms)  # type: ignore[method-assign]


def lose(node: SmallNode) -> None:
    """The node's copy is damaged."""

    def read_stale(group: int, keys: object) -> ReadAnswer:
        raise DataLoss("NO_HEALTHY_REPLICA", "damaged")

    node.groups.read_stale = read_stale  # type: ignore[method-assign]


def age_of(answer: kv_pb2.Header | kv_pb2.GetByIndexResponse) -> tuple[bool, int | None]:
    return answer.stale, answer.behind_ms if answer.HasField("behind_ms") else None


async def get(cluster: SmallCluster, key: bytes, consistency: kv_pb2.Consistency = STALE) -> kv_pb2.GetResponse:
    request = kv_pb2.GetRequest(key=key, consistency=consistency)
    return await cluster.nodes["a"].gateway.get(request, cluster.deadline)


@pytest.mark.parametrize("behind_ms", [0, 12, None])
@virtual
async def test_the_replica_of_this_node_answers_without_a_message(behind_ms: int | None) -> None:
    """Its age goes with the answer, known or not; a log time does not, for it might be no anchor any more."""
    async with small_cluster(replication_factor=3) as cluster:
        hold(cluster.nodes["a"], b"mine", behind_ms)
        answer = await get(cluster, cluster.key_at("b"))
        assert (answer.value, age_of(answer.header), answer.header.log_time_ms) == (b"mine", (True, behind_ms), 0)
        assert cluster.asked == []


@pytest.mark.parametrize("behind_ms", [0, 12, None])
@virtual
async def test_without_a_replica_here_one_in_reach_is_asked(behind_ms: int | None) -> None:
    """It need not lead the group, and one without a session is not tried before it."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (leader, second, third) = cluster.key_elsewhere("a")
        cluster.cut_off = {leader, second}
        hold(cluster.nodes[third], b"theirs", behind_ms)
        answer = await get(cluster, key)
        assert (answer.value, age_of(answer.header)) == (b"theirs", (True, behind_ms))
        assert [(target, request.read.stale) for _, target, request in cluster.asked] == [(third, True)]


@virtual
async def test_a_replica_that_fails_is_followed_by_the_next_one() -> None:
    """Lost, not there, or damaged: another copy will do. The route to the leader is left as it is."""
    async with small_cluster("a", "b", "c", "d", replication_factor=3) as cluster:
        key, (leader, second, third) = cluster.key_elsewhere("a")
        cluster.weather = lambda source, target, request: REPLY_LOST if target == leader else None
        lose(cluster.nodes[second])
        hold(cluster.nodes[third], b"theirs", 5)
        routes = cluster.nodes["a"].routes
        before = routes.get(group_of(cluster, key))
        for _ in range(6):
            assert (await get(cluster, key)).value == b"theirs"
        assert {target for _, target, _ in cluster.asked} == {leader, second, third}
        assert routes.get(group_of(cluster, key)) == before


@virtual
async def test_no_replica_in_time_is_unavailable_and_one_would_have_been_enough() -> None:
    """The error says how many are in reach."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (leader, *_) = cluster.key_elsewhere("a")
        cluster.cut_off = {leader}
        cluster.weather = lambda *_: NOT_SENT
        began = cluster.clock.now()
        with pytest.raises(Unavailable) as caught:
            await get(cluster, key)
        details = caught.value.details
        assert (caught.value.reason, details["needed"], details["alive"]) == ("NO_QUORUM", "1", "2")
        assert cluster.clock.now() - began <= 10.01


@virtual
async def test_when_every_copy_is_damaged_that_is_said_at_once() -> None:
    """Waiting for the deadline would not bring it back."""
    async with small_cluster(replication_factor=3) as cluster:
        for node in cluster.nodes.values():
            lose(node)
        began = cluster.clock.now()
        with pytest.raises(DataLoss):
            await get(cluster, cluster.key_at("b"))
        assert cluster.clock.now() - began < 1


@pytest.mark.parametrize(("behind_ms", "said"), [(8, {"behind_ms": "8"}), (None, {})])
@virtual
async def test_a_missing_record_is_as_stale_as_a_found_one(behind_ms: int | None, said: dict[str, str]) -> None:
    """The error says that only a replica has none, and how old that is; it gives no log time for an anchor."""
    async with small_cluster() as cluster:
        key = cluster.key_at("a")
        hold(cluster.nodes["a"], None, behind_ms)
        with pytest.raises(KeyNotFound) as caught:
            await get(cluster, key)
        partition = str(partition_of(key, cluster.topology.partitions))
        assert caught.value.details == {"partition": partition, "stale": "true", **said}
        assert (caught.value.stale, caught.value.behind_ms) == (True, behind_ms)
        with pytest.raises(KeyNotFound) as fresh:
            await get(cluster, key, kv_pb2.CONSISTENCY_LINEARIZABLE)
        assert (fresh.value.stale, fresh.value.behind_ms) == (False, 0)


@pytest.mark.parametrize("consistency", [kv_pb2.CONSISTENCY_UNSPECIFIED, kv_pb2.CONSISTENCY_LINEARIZABLE])
@virtual
async def test_what_is_not_asked_to_be_stale_never_is(consistency: kv_pb2.Consistency) -> None:
    """It comes from the leader, with the log time and without an age."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        hold(cluster.nodes["a"], b"old", 5)
        await cluster.nodes["a"].gateway.set(kv_pb2.SetRequest(key=key, value=b"new"), cluster.deadline)
        answer = await get(cluster, key, consistency)
        assert (answer.value, age_of(answer.header)) == (b"new", (False, None))
        assert answer.header.log_time_ms > 0


@virtual
async def test_a_consistency_that_is_not_known_is_refused() -> None:
    """P9: a node never guesses what a newer client meant."""
    async with small_cluster() as cluster:
        unknown = kv_pb2.GetRequest.FromString(b"\x0a\x01k\x10\x07")
        query = kv_pb2.GetByIndexRequest.FromString(b"\x0a\x01i\x12\x01x\x50\x07")
        gateway = cluster.nodes["a"].gateway
        for call in (gateway.get(unknown, cluster.deadline), gateway.get_by_index(query, cluster.deadline)):
            with pytest.raises(InvalidRequest) as caught:
                await call
            assert caught.value.reason == "CONSISTENCY_INVALID"
        batch = kv_pb2.BatchRequest(operations=[kv_pb2.Operation(get=unknown)])
        results = (await gateway.batch(batch, cluster.deadline)).results
        assert results[0].error.reason == "CONSISTENCY_INVALID"
        assert cluster.asked == []


@virtual
async def test_each_get_of_a_batch_has_its_own_consistency() -> None:
    """Also two of the same key."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        await cluster.nodes["a"].gateway.set(kv_pb2.SetRequest(key=key, value=b"new"), cluster.deadline)
        hold(cluster.nodes["a"], b"old", 5)
        gets = [kv_pb2.Operation(get=kv_pb2.GetRequest(key=key, consistency=level)) for level in (STALE, 0)]  # type: ignore[arg-type]
        answer = await cluster.nodes["a"].gateway.batch(kv_pb2.BatchRequest(operations=gets), cluster.deadline)
        read = [(result.get.value, age_of(result.get.header)) for result in answer.results]
        assert read == [(b"old", (True, 5)), (b"new", (False, None))]


@virtual
async def test_a_peer_is_told_the_age_of_what_it_is_given() -> None:
    """A replica that leads is not behind; a node without a replica refuses."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        group = group_of(cluster, key)
        command = stored.Command(request_id=b"id", mutations=[set_of(key, b"v")])
        await cluster.nodes["b"].router.propose(group, command, cluster.deadline)
        answer = await cluster.nodes["a"].router.read_stale(group, [key], cluster.deadline)
        assert stored.Row.FromString(answer.rows[0] or b"").value == b"v"
        assert answer.behind_ms == 0
        request = Request()
        request.read.group, request.read.stale = group, True
        with pytest.raises(NotLeader):
            await cluster.nodes["a"].router.ask("c", group, request, 1.0)


RECORDS = 40


async def fill(cluster: SmallCluster) -> list[bytes]:
    keys = [b"key:%03d" % number for number in range(RECORDS)]
    entry = kv_pb2.IndexEntry(name="i", value=b"x")
    for key in keys:
        record = kv_pb2.SetRequest(key=key, value=b"v", indexes=[entry])
        await cluster.nodes["a"].gateway.set(record, cluster.deadline)
    await reached(cluster.is_level)
    cluster.asked.clear()
    return keys


async def page(cluster: SmallCluster, *, allow_partial: bool = False) -> kv_pb2.GetByIndexResponse:
    request = kv_pb2.GetByIndexRequest(
        index="i", equals=b"x", limit=1_000, consistency=STALE, allow_partial=allow_partial
    )
    return await cluster.nodes["a"].gateway.get_by_index(request, cluster.deadline)


def be_behind(node: SmallNode, behind_ms: int | None) -> None:
    own = node.groups.behind_ms

    def age(group: int) -> int | None:
        own(group)
        return behind_ms

    node.groups.behind_ms = age  # type: ignore[method-assign]


@pytest.mark.parametrize(("ages", "age"), [((0, 0, 0), 0), ((3, 12, 5), 12), ((3, None, 5), None)])
@virtual
async def test_a_stale_page_is_as_old_as_its_oldest_shard(ages: tuple[int | None, ...], age: int | None) -> None:
    """Unknown if one shard does not know. What is here is read here, the rest in one request per node."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        for node_id, behind_ms in zip("abc", ages, strict=True):
            be_behind(cluster.nodes[node_id], behind_ms)
        answer = await page(cluster)
        assert [match.key for match in answer.matches] == keys
        assert age_of(answer) == (True, age)
        assert sorted((target, request.query.stale) for _, target, request in cluster.asked) == [
            ("b", True),
            ("c", True),
        ]


@virtual
async def test_a_stale_page_needs_no_leader() -> None:
    """No node may answer as a leader, and each answers for what it has."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        for node in cluster.nodes.values():
            node.groups.leads = lambda group: False  # type: ignore[method-assign]
        assert [match.key for match in (await page(cluster)).matches] == keys


@virtual
async def test_what_one_replica_refuses_is_asked_of_another() -> None:
    """Until one has it; each shard is read once, and the routes to the leaders are left as they are."""
    async with small_cluster(replication_factor=3) as cluster:
        keys = await fill(cluster)
        groups = [group_of_partition(number) for number in range(cluster.topology.partitions)]
        before = [cluster.nodes["a"].routes.get(group) for group in groups]
        answer = await page(cluster)
        assert [match.key for match in answer.matches] == keys
        assert [cluster.nodes["a"].routes.get(group) for group in groups] == before


@virtual
async def test_a_stale_page_without_a_replica_names_what_is_missing() -> None:
    """P5 holds for stale pages, too: an error, or marked if it may be partial."""
    async with small_cluster() as cluster:
        await fill(cluster)
        cluster.cut_off = {"c"}
        answer = await page(cluster, allow_partial=True)
        assert list(answer.missing_partitions) == cluster.partitions_of("c")
        assert age_of(answer) == (True, 0)
