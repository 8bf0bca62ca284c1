"""AsyncClient with many callers, against real gRPC servers: they share calls, and notice nothing of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from support.fake_server import FakeCluster, Fault, fake_cluster
from support.fake_store import asked_of
from support.polling import until

from ringhold import AsyncClient, ClientConfig, InDoubt, InvalidRequest, KeyNotFound, Record, RingholdError, Unavailable
from ringhold.api.errors import error_for
from ringhold.ring.hashing import partition_of

CALLERS = 60
SHORT = ClientConfig(attempt_timeout_s=0.3, refresh_interval_s_min=0.05)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[AsyncClient]:
    """It knows the topology, so that calls go to their leaders."""
    async with AsyncClient(cluster.endpoints, timeout_s=5) as client:
        await client.topology()
        yield client


@pytest.fixture
async def hasty_client(cluster: FakeCluster) -> AsyncIterator[AsyncClient]:
    """Its attempts are short."""
    async with AsyncClient(cluster.endpoints, timeout_s=5, config=SHORT) as client:
        await client.topology()
        yield client


def keys(count: int = CALLERS) -> list[bytes]:
    return [b"k%d" % number for number in range(count)]


def keys_of_one_leader(cluster: FakeCluster, count: int) -> list[bytes]:
    return [key for key in keys(1_000) if cluster.leader_of(key) is cluster.nodes[0]][:count]


async def has_batch(cluster: FakeCluster) -> bool:
    return bool(cluster.calls_of("Batch"))


async def all_set(client: AsyncClient, keys: list[bytes]) -> list[int]:
    return await asyncio.gather(*(client.set(key, b"of " + key) for key in keys))


async def test_concurrent_operations_share_calls(client: AsyncClient, cluster: FakeCluster) -> None:
    """Sets, gets and deletes; every caller has the answer to its own."""
    assert all(version > 0 for version in await all_set(client, keys()))
    records = await asyncio.gather(*(client.get(key) for key in keys()))
    assert [(record.key, record.value) for record in records] == [(key, b"of " + key) for key in keys()]
    assert all(await asyncio.gather(*(client.delete(key) for key in keys())))
    assert not cluster.calls_of("Set") + cluster.calls_of("Get") + cluster.calls_of("Delete")
    assert len(cluster.calls_of("Batch")) == 3 * len(cluster.nodes)
    for call in cluster.calls_of("Batch"):
        assert {cluster.leader_of(asked_of(operation).key).address for operation in call.request.operations} == {
            call.address
        }


async def test_what_would_be_a_batch_of_one_is_no_batch(client: AsyncClient, cluster: FakeCluster) -> None:
    """A caller that is alone makes plain calls."""
    await client.set("k", "v")
    await client.get("k")
    await client.delete("k")
    assert [call.method for call in cluster.calls][-3:] == ["Set", "Get", "Delete"]
    assert not cluster.calls_of("Batch")


async def test_it_can_be_switched_off(cluster: FakeCluster) -> None:
    """Then every operation is a call of its own."""
    async with AsyncClient(cluster.endpoints, timeout_s=5, config=ClientConfig(coalesce=False)) as client:
        await all_set(client, keys())
    assert len(cluster.calls_of("Set")) == CALLERS
    assert not cluster.calls_of("Batch")


async def test_each_caller_has_its_own_error(client: AsyncClient) -> None:
    """An absent key, one that is refused, a stale read, and one that is well, side by side."""
    await client.set("there", "v")
    gathered = await asyncio.gather(
        client.get("there"),
        client.get("absent"),
        client.get("absent", consistency="stale"),
        client.get("there", consistency="stale"),
        client.set("", "v"),
        client.delete("absent"),
        return_exceptions=True,
    )
    found, absent, stale, stale_record, refused, removed = gathered
    assert found == Record(b"there", b"v", 1, 1)
    assert isinstance(absent, KeyNotFound)
    assert not absent.stale
    assert isinstance(stale, KeyNotFound)
    assert (stale.stale, stale.behind_ms) == (True, 40)
    assert isinstance(stale_record, Record)
    assert (stale_record.stale, stale_record.behind_ms) == (True, 40)
    assert isinstance(refused, InvalidRequest)
    assert removed == 0


async def test_a_lost_batch_takes_effect_once(client: AsyncClient, cluster: FakeCluster) -> None:
    """Each mutation is repeated with its own id and anchor, by itself."""
    cluster.faults.append(Fault("Batch", times=3, applied=True))
    assert all(version > 0 for version in await all_set(client, keys()))
    assert cluster.store.applied == CALLERS
    assert len(cluster.calls_of("Set")) == CALLERS


async def test_a_request_id_given_twice_takes_effect_once(client: AsyncClient, cluster: FakeCluster) -> None:
    """At the same time as well: both callers have the one version; another payload under it is refused."""
    anchor = cluster.store.log_time_ms
    calls = [client.set("k", "v", request_id=b"one", anchor=anchor) for _ in range(5)]
    versions = await asyncio.gather(*calls, all_set(client, keys()))
    assert versions[:5] == [versions[0]] * 5
    assert cluster.store.applied == CALLERS + 1
    with pytest.raises(InvalidRequest) as caught:
        await asyncio.gather(
            client.set("k", "other", request_id=b"one", anchor=anchor), all_set(client, keys()), return_exceptions=False
        )
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_doubt_is_about_the_callers_own_mutation(hasty_client: AsyncClient, cluster: FakeCluster) -> None:
    """Its request_id, its anchor, its key; who has more time finds out."""
    client, (hurried, *others) = hasty_client, keys_of_one_leader(cluster, 10)
    cluster.faults += [Fault("Batch", times=1, hangs=True), Fault("Set", times=1_000, hangs=True)]
    patient = asyncio.create_task(all_set(client, others))
    with pytest.raises(InDoubt) as caught:
        await client.set(hurried, "v", request_id=b"mine", timeout_s=0.15)
    assert (caught.value.key, caught.value.request_id) == (hurried, b"mine")
    assert caught.value.anchor == cluster.store.log_time_ms
    cluster.faults.clear()
    assert len(await patient) == len(others)


async def test_a_cancelled_caller_leaves_the_others_alone(client: AsyncClient, cluster: FakeCluster) -> None:
    """Before the departure or on the way."""
    mine = keys_of_one_leader(cluster, 30)
    calls = [asyncio.create_task(client.set(key, b"v")) for key in mine]
    await asyncio.sleep(0)
    for call in calls[:10]:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended[:10])
    assert all(isinstance(each, int) for each in ended[10:])
    assert cluster.store.applied == 20, "what was cancelled before the departure was not sent"


async def test_a_hanging_batch_holds_up_nobody_else(cluster: FakeCluster) -> None:
    """With as many operations as may be under way hanging, those that come later go on."""
    config = ClientConfig(attempt_timeout_s=5.0, coalesced_above=1)
    async with AsyncClient(cluster.endpoints, timeout_s=10, config=config) as client:
        await client.topology()
        mine = keys_of_one_leader(cluster, 20)
        cluster.faults.append(Fault("Batch", times=1, hangs=True))
        stuck = asyncio.create_task(all_set(client, mine[:10]))
        await until(lambda: has_batch(cluster))
        assert len(await all_set(client, mine[10:])) == 10
        assert not stuck.done()
        stuck.cancel()


async def test_a_partition_that_does_not_answer_is_asked_alone(client: AsyncClient, cluster: FakeCluster) -> None:
    """It would hold up the others in its calls; once it has answered it may share them again."""
    ill = partition_of(b"k0", cluster.store.partitions)
    of_ill = [key for key in keys(300) if partition_of(key, cluster.store.partitions) == ill][:10]
    cluster.partition_errors[ill] = error_for("NO_QUORUM", "no quorum")
    cluster.faults.append(Fault("Set", times=10, error=error_for("NO_QUORUM", "no quorum")))
    assert len(await all_set(client, of_ill)) == 10
    assert len(cluster.calls_of("Batch")) == 1
    assert len(cluster.calls_of("Set")) == 20, "each was repeated by itself, twice"
    await all_set(client, of_ill)
    assert len(cluster.calls_of("Batch")) == 2


async def test_a_record_too_large_for_the_answer_is_read_alone(client: AsyncClient, cluster: FakeCluster) -> None:
    """The program notices nothing."""
    mine = keys_of_one_leader(cluster, 10)
    await all_set(client, mine)
    partition = partition_of(mine[0], cluster.store.partitions)
    cluster.partition_errors[partition] = error_for("ANSWER_TOO_LARGE", "no room")
    records = await asyncio.gather(*(client.get(key) for key in mine))
    assert [record.value for record in records] == [b"of " + key for key in mine]
    apart = [key for key in mine if partition_of(key, cluster.store.partitions) == partition]
    assert sorted(call.request.key for call in cluster.calls_of("Get")) == sorted(apart)


async def test_callers_of_a_node_that_is_gone_are_told_so(cluster: FakeCluster) -> None:
    """All of them in their time; nothing was applied."""
    async with AsyncClient(cluster.endpoints, timeout_s=0.5, config=SHORT) as client:
        await client.topology()
        for node in cluster.nodes:
            await asyncio.to_thread(node.stop)
        ended = await asyncio.gather(*(client.set(key, "v") for key in keys()), return_exceptions=True)
    assert all(isinstance(each, Unavailable | InDoubt) for each in ended)
    assert {each.reason for each in ended if isinstance(each, RingholdError)} <= {"NO_ENDPOINT", "IN_DOUBT"}


async def test_a_read_sees_what_was_set_before_it_began(client: AsyncClient) -> None:
    """However many others share its call."""

    async def writer(name: int) -> None:
        for turn in range(10):
            value = b"%d %d" % (name, turn)
            await client.set(b"w%d" % name, value)
            assert (await client.get(b"w%d" % name)).value == value
        await client.delete(b"w%d" % name)
        with pytest.raises(KeyNotFound):
            await client.get(b"w%d" % name)

    await asyncio.gather(*(writer(name) for name in range(40)))


async def test_closing_ends_what_is_under_way(client: AsyncClient, cluster: FakeCluster) -> None:
    """No caller waits for ever."""
    cluster.faults.append(Fault("Batch", times=1_000, hangs=True))
    calls = [asyncio.create_task(client.set(key, "v")) for key in keys()]
    await until(lambda: has_batch(cluster))
    await client.close()
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError | ValueError) for each in ended)
