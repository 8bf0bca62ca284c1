"""Client and AsyncClient against real gRPC servers: both do the same, and find their way around faults."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.fake_server import FakeCluster, Fault, fake_cluster

from ringhold import (
    AsyncClient,
    Change,
    Client,
    ClientConfig,
    Delete,
    Fate,
    Get,
    Incomplete,
    InDoubt,
    InvalidRequest,
    KeyNotFound,
    Match,
    Overloaded,
    Record,
    Resolution,
    RingholdError,
    Set,
    TimedOut,
    Unavailable,
    Unsupported,
)
from ringhold.api.errors import error_for
from ringhold.ring.hashing import partition_of

QUICK = ClientConfig(refresh_interval_s_min=0.05)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as cluster:
        yield cluster


class Threaded:
    """A blocking client with the face of the asynchronous one: each call runs in a thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            return await asyncio.to_thread(getattr(self._client, name), *args, **options)

        return call

    def find(self, *args: Any, **options: Any) -> Any:
        return ThreadedMatches(self._client.find(*args, **options))


class ThreadedMatches:
    def __init__(self, matches: Any) -> None:
        self._matches = matches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._matches, name)

    def __aiter__(self) -> "ThreadedMatches":
        return self

    async def __anext__(self) -> Match:
        match: Match | None = await asyncio.to_thread(next, self._matches, None)
        if match is None:
            raise StopAsyncIteration
        return match


@asynccontextmanager
async def shell(kind: str, cluster: FakeCluster, config: ClientConfig) -> AsyncIterator[Any]:
    if kind == "blocking":
        with Client(cluster.endpoints, timeout_s=5, config=config) as blocking:
            yield Threaded(blocking)
    else:
        async with AsyncClient(cluster.endpoints, timeout_s=5, config=config) as asynchronous:
            yield asynchronous


@pytest.fixture(params=["blocking", "asynchronous"])
async def client(request: pytest.FixtureRequest, cluster: FakeCluster) -> AsyncIterator[Any]:
    async with shell(request.param, cluster, QUICK) as opened:
        yield opened


@pytest.fixture(params=["blocking", "asynchronous"])
async def patient_client(request: pytest.FixtureRequest, cluster: FakeCluster) -> AsyncIterator[Any]:
    """Its first attempt has all the time there is: on a busy machine megabytes take long, and would be in doubt."""
    async with shell(request.param, cluster, ClientConfig(attempt_timeout_s=5.0)) as opened:
        yield opened


async def test_what_is_set_is_read_and_removed(client: Any) -> None:
    """Records come back as they were set, versions count per partition, str is UTF-8."""
    assert await client.set("Köln", "value", indexes={"city": b"Paris", "tag": ["a", b"b"]}) == 1
    expected = Record("Köln".encode(), b"value", 1, 1, {"city": [b"Paris"], "tag": [b"a", b"b"]})
    assert await client.get("Köln".encode()) == expected
    assert await client.set("Köln", b"") == 2
    assert await client.get("Köln") == Record("Köln".encode(), b"", 2, 1, {})
    assert await client.delete("Köln") == 3
    assert await client.delete("Köln") == 0
    with pytest.raises(KeyNotFound, match="no record"):
        await client.get("Köln")


@pytest.mark.parametrize("behind_ms", [0, 40, None])
async def test_what_a_stale_read_gives_says_its_age(client: Any, cluster: FakeCluster, behind_ms: int | None) -> None:
    """A record, a missing one, a batch's and a page's: marked as stale, the age known or not; others are neither."""
    cluster.store.behind_ms = behind_ms
    await client.set("k", "v", indexes={"i": "x"})
    stale = Record(b"k", b"v", 1, 1, {"i": [b"x"]}, stale=True, behind_ms=behind_ms)
    assert await client.get("k", consistency="stale") == stale
    assert (await client.batch([Get("k", "stale"), Get("k")]))[0] == stale
    for missing in (
        (await client.batch([Get("none", "stale")]))[0],
        await error_of(client.get("none", consistency="stale")),
    ):
        assert isinstance(missing, KeyNotFound)
        assert (missing.stale, missing.behind_ms) == (True, behind_ms)
    pages = client.find("i", "x", consistency="stale")
    assert [found async for found in pages] == [Match(b"k", b"x", stale, stale=True, behind_ms=behind_ms)]
    assert (pages.stale, pages.behind_ms) == (True, behind_ms)


async def test_what_a_linearizable_read_gives_is_not_behind(client: Any) -> None:
    """It can't be taken for a stale one, found or not."""
    await client.set("k", "v", indexes={"i": "x"})
    record = await client.get("k", consistency="linearizable")
    assert (record.stale, record.behind_ms) == (False, 0)
    pages = client.find("i", "x")
    assert [found async for found in pages] == [Match(b"k", b"x", record)]
    assert (pages.stale, pages.behind_ms) == (False, 0)
    missing = await error_of(client.get("none"))
    assert isinstance(missing, KeyNotFound)
    assert (missing.stale, missing.behind_ms) == (False, 0)


async def test_another_consistency_is_refused_before_anything_is_sent(client: Any, cluster: FakeCluster) -> None:
    """A word that is none of the two never means one of them."""
    for wrong in ("STALE", "", None):
        assert (await error_of(client.get("k", consistency=wrong))).reason == "CONSISTENCY_INVALID"
        assert (await error_of(client.batch([Get("k", wrong)]))).reason == "CONSISTENCY_INVALID"  # type: ignore[arg-type]
    assert cluster.calls == []


async def error_of(call: Awaitable[object]) -> RingholdError:
    with pytest.raises(RingholdError) as caught:
        await call
    return caught.value


async def test_every_call_goes_to_the_owner(client: Any, cluster: FakeCluster) -> None:
    """With all nodes well, no gateway is in between."""
    keys = [b"k%d" % number for number in range(20)]
    for key in keys:
        await client.set(key, b"v")
        await client.get(key)
        await client.delete(key)
    for call in cluster.calls_of("Get") + cluster.calls_of("Set") + cluster.calls_of("Delete"):
        assert call.address == cluster.leader_of(call.request.key).address
    assert len(cluster.calls_of("Topology")) == 1


async def test_a_moved_leader_is_found_by_the_epoch(client: Any, cluster: FakeCluster) -> None:
    """An answer of a higher epoch makes the client ask for the topology, and then call the new owner."""
    await client.set("k", "v")
    partition = partition_of(b"k", cluster.store.partitions)
    cluster.leaders[partition] = (cluster.leaders[partition] + 1) % 3
    cluster.store.epoch += 1

    async def asked_at_new_owner() -> bool:
        await client.get("k")
        return cluster.calls_of("Get")[-1].address == cluster.leader_of(b"k").address

    async with asyncio.timeout(5):
        while not await asked_at_new_owner():
            pass


async def test_a_stopped_node_fails_no_call(client: Any, cluster: FakeCluster) -> None:
    """Others are asked instead, for reads and mutations, and it is used again when it is back."""
    keys = [b"k%d" % number for number in range(12)]
    for key in keys:
        await client.set(key, b"1")
    await asyncio.to_thread(cluster.nodes[0].stop)
    for key in keys:
        assert await client.set(key, b"2") > 0
        assert (await client.get(key)).value == b"2"
    cluster.nodes[0].start()
    mark = len(cluster.calls)

    async def is_used_again() -> bool:
        for key in keys:
            await client.get(key)
        return any(call.address == cluster.nodes[0].address for call in cluster.calls[mark:])

    async with asyncio.timeout(10):
        while not await is_used_again():
            pass


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("applied", [False, True])
async def test_a_lost_mutation_takes_effect_once(
    client: Any, cluster: FakeCluster, *, hangs: bool, applied: bool
) -> None:
    """Whether it was applied before the answer got lost or not: it is repeated and applied exactly once."""
    await client.set("k", "0")
    before = cluster.store.applied
    cluster.faults.append(Fault("Set", applied=applied, hangs=hangs))
    assert await client.set("k", "1") == 2
    assert cluster.store.applied == before + 1
    sent = cluster.calls_of("Set")[1:]
    assert len(sent) == 2
    assert len({(call.request.request_id, call.request.anchor) for call in sent}) == 1


async def test_a_mutation_in_doubt_can_be_repeated_by_the_program(client: Any, cluster: FakeCluster) -> None:
    """InDoubt carries what is needed, and the repetition finds out without a second effect."""
    cluster.faults.append(Fault("Set", times=1_000, applied=True))
    with pytest.raises(InDoubt) as caught:
        await client.set("k", "1", timeout_s=0.6)
    cluster.faults.clear()
    doubt = caught.value
    assert await client.set("k", "1", request_id=doubt.request_id, anchor=doubt.anchor) == 1
    assert cluster.store.applied == 1


async def test_a_request_id_of_the_program_is_used(client: Any, cluster: FakeCluster) -> None:
    """Also for another payload, which is then refused."""
    await client.set("k", "1", request_id=b"mine", anchor=cluster.store.log_time_ms)
    with pytest.raises(InvalidRequest) as caught:
        await client.set("k", "2", request_id=b"mine", anchor=cluster.store.log_time_ms)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_refusals_are_repeated_and_then_raised(client: Any, cluster: FakeCluster) -> None:
    """A passing one costs time only; a lasting one is Unavailable, at the deadline."""
    refusal = error_for("NO_QUORUM", "one of three is alive", {"needed": "2", "alive": "1"})
    cluster.faults.append(Fault("Set", times=3, error=refusal))
    assert await client.set("k", "1") == 1
    cluster.faults.append(Fault("Set", times=1_000, error=refusal))
    with pytest.raises(Unavailable) as caught:
        await client.set("k", "2", timeout_s=0.5)
    assert caught.value.details == {"needed": "2", "alive": "1"}


async def test_overload_is_waited_for(client: Any, cluster: FakeCluster) -> None:
    """For as long as the node says, within the deadline."""
    overload = error_for("OVERLOADED", "too many", {"retry_after_ms": "100"})
    cluster.faults.append(Fault("Get", times=2, error=overload))
    with pytest.raises(KeyNotFound):
        await client.get("k")
    cluster.faults.append(Fault("Get", error=error_for("OVERLOADED", "too many", {"retry_after_ms": "60000"})))
    with pytest.raises(Overloaded):
        await client.get("k")


async def test_an_idle_group_costs_one_more_call(client: Any, cluster: FakeCluster) -> None:
    """An expired anchor is replaced by the group's log time if nothing is in doubt."""
    await client.set("k", "1")
    cluster.store.log_time_ms += 1_000_000
    assert await client.set("k", "2") == 2
    assert [call.request.anchor for call in cluster.calls_of("Set")] == [1_000_000, 1_000_000, 2_000_000]


async def test_without_log_times_mutations_still_work(client: Any, cluster: FakeCluster) -> None:
    """The oldest anchor is tried, after a Get that taught none, and the refusal teaches one."""
    cluster.store.knows_log_times = False
    assert await client.set("k", "1") == 1
    assert len(cluster.calls_of("Get")) == 1
    assert [call.request.anchor for call in cluster.calls_of("Set")] == [1, cluster.store.log_time_ms]
    cluster.faults.append(Fault("Set", applied=True))
    assert await client.set("k", "2") == 2


async def test_a_doubt_can_be_resolved(client: Any, cluster: FakeCluster) -> None:
    """It names all that is needed; what was applied is told, what was not never is, what is too old is unknown."""
    fates = []
    for applied in (True, False):
        cluster.faults = [Fault("Set", times=1_000, applied=applied)]
        with pytest.raises(InDoubt) as caught:
            await client.set("k", "1", timeout_s=0.2)
        cluster.faults.clear()
        fates.append(await client.resolve(caught.value))
        fates.append(await client.resolve(request_id=caught.value.request_id, anchor=caught.value.anchor, key="k"))
    once, never = Resolution(Fate.APPLIED, (Change(1, existed=False),)), Resolution(Fate.ABORTED)
    assert fates == [once, once, never, never]
    with pytest.raises(InvalidRequest) as refused:
        await client.set("k", "1", request_id=caught.value.request_id, anchor=caught.value.anchor)
    assert refused.value.reason == "REQUEST_ABORTED"
    cluster.store.log_time_ms += 1_000_000
    old = caught.value.anchor
    assert await client.resolve(request_id=b"other", anchor=old, key="k") == Resolution(Fate.UNKNOWN)


async def test_a_lost_answer_to_who_resolves_is_asked_for_again(client: Any, cluster: FakeCluster) -> None:
    """To ask is harmless; in the end the doubt stands, and the error says so."""
    cluster.faults = [Fault("Resolve", times=2)]
    assert await client.resolve(request_id=b"id", anchor=999_999, key="k") == Resolution(Fate.ABORTED)
    cluster.faults = [Fault("Resolve", times=1_000)]
    with pytest.raises(Unavailable, match="the doubt stands"):
        await client.resolve(request_id=b"id", anchor=999_999, key="k", timeout_s=0.2)


@pytest.mark.parametrize(
    ("reason", "details"),
    [
        ("REQUEST_ID_EMPTY", {}),
        ("ANCHOR_INVALID", {"request_id": "00"}),
        ("ANCHOR_INVALID", {"request_id": "00", "anchor": "0", "key": "00"}),
        ("KEY_EMPTY", {"request_id": "00", "anchor": "1"}),
    ],
)
async def test_a_doubt_that_names_too_little_can_t_be_resolved(
    client: Any, cluster: FakeCluster, reason: str, details: dict[str, str]
) -> None:
    """Each missing part has its own reason, and nothing is sent."""
    with pytest.raises(InvalidRequest) as caught:
        await client.resolve(InDoubt("IN_DOUBT", "why", details))
    assert caught.value.reason == reason
    assert cluster.calls == []


async def test_nothing_but_a_doubt_can_be_resolved(client: Any) -> None:
    """Another error has nothing to resolve."""
    with pytest.raises(TypeError, match="InDoubt"):
        await client.resolve(Unavailable("NO_QUORUM", "why"))


async def test_a_read_without_answer_times_out(client: Any, cluster: FakeCluster) -> None:
    """It is not in doubt, and a retry is safe."""
    cluster.faults.append(Fault("Get", times=1_000, hangs=True))
    with pytest.raises(TimedOut):
        await client.get("k", timeout_s=0.5)
    cluster.faults.clear()


async def test_queries_run_over_pages(client: Any, cluster: FakeCluster) -> None:
    """Equality, prefix, range, order, limit: everything once, in order, in pages of the size asked for."""
    for number in range(10):
        await client.set(f"k{number}", "v", {"n": f"{number // 2:02}", "all": "x"})

    async def keys(*args: Any, **options: Any) -> list[bytes]:
        return [match.key async for match in client.find(*args, **options)]

    every = [b"k%d" % number for number in range(10)]
    assert await keys("n", "02") == [b"k4", b"k5"]
    assert await keys("n", prefix="0", page_size=3) == every
    assert [call.request.limit for call in cluster.calls_of("GetByIndex")[-4:]] == [3, 3, 3, 3]
    assert await keys("n", start="01", end=b"03") == every[2:6]
    assert await keys("n", start="03") == every[6:]
    assert await keys("n", end="01") == every[:2]
    assert await keys("n", descending=True) == every[::-1]
    assert await keys("all", "x", limit=7, page_size=5) == every[:7]
    assert [call.request.limit for call in cluster.calls_of("GetByIndex")[-2:]] == [5, 2]
    assert await keys("all", "x", limit=0) == []
    assert await keys("nothing", "x") == []


async def test_matches_carry_records_when_asked(client: Any) -> None:
    """By default they do."""
    await client.set("k", "v", {"n": "1"})
    with_records = [match async for match in client.find("n", "1")]
    assert with_records == [Match(b"k", b"1", Record(b"k", b"v", 1, 1, {"n": [b"1"]}))]
    without = [match async for match in client.find("n", "1", with_records=False)]
    assert without == [Match(b"k", b"1", None)]


async def test_missing_shards_are_an_error_unless_allowed(client: Any, cluster: FakeCluster) -> None:
    """Incomplete names them; with allow_partial the iterator does."""
    incomplete = error_for("INCOMPLETE", "3 is missing", {"missing": "3"})
    cluster.faults.append(Fault("GetByIndex", times=1_000, error=incomplete))
    with pytest.raises(Incomplete) as caught:
        [match async for match in client.find("n", "1", timeout_s=0.3)]
    assert caught.value.details["missing"] == "3"
    cluster.faults.clear()
    matches = client.find("n", "1", allow_partial=True)
    assert [match async for match in matches] == []
    assert matches.missing_partitions == (3,)


@pytest.mark.parametrize(
    "query",
    [{"value": "a", "prefix": "b"}, {"prefix": "a", "start": "b"}, {"limit": -1}, {"page_size": 0}],
)
async def test_a_query_that_makes_no_sense_is_refused_at_once(client: Any, query: Any) -> None:
    """Without a call."""
    with pytest.raises(InvalidRequest):
        client.find("n", **query)


async def test_a_batch_has_a_result_for_each_operation(client: Any, cluster: FakeCluster) -> None:
    """Records, versions and errors, in the order of the operations, by one call."""
    await client.set("old", "v")
    results = await client.batch([Set("new", "1", {"n": "1"}), Get("old"), Get("none"), Delete("old"), Set("", "x")])
    assert results[0] > 0
    assert isinstance(results[2], KeyNotFound)
    assert results[3] > 0
    assert isinstance(results[4], InvalidRequest)
    assert len(cluster.calls_of("Batch")) == 1
    assert await client.batch([]) == []


async def test_a_lost_batch_takes_effect_once(client: Any, cluster: FakeCluster) -> None:
    """All its commands are repeated under their ids and anchors."""
    cluster.faults.append(Fault("Batch", times=2, applied=True))
    operations = [Set(f"k{number}", "v") for number in range(30)]
    results = await client.batch(operations)
    assert all(isinstance(result, int) for result in results)
    assert cluster.store.applied == 30
    assert len(cluster.calls_of("Batch")) == 3


async def test_partitions_that_refuse_are_asked_again(client: Any, cluster: FakeCluster) -> None:
    """Only theirs, and the program sees nothing of it."""
    ill = partition_of(b"k0", cluster.store.partitions)
    cluster.partition_errors[ill] = error_for("NO_QUORUM", "no quorum")
    results = await client.batch([Set(f"k{number}", "v") for number in range(30)])
    assert all(isinstance(result, int) for result in results)
    assert cluster.store.applied == 30
    again = [op.set.key for op in cluster.calls_of("Batch")[1].request.operations]
    assert again
    assert {partition_of(key, cluster.store.partitions) for key in again} == {ill}


async def test_the_cluster_can_be_looked_at(client: Any, cluster: FakeCluster) -> None:
    """Topology, status and explanation are plain values with names of nodes."""
    await client.set("k", "val", {"n": "1"})
    topology = await client.topology()
    assert [node.name for node in topology.nodes] == ["node-1", "node-2", "node-3"]
    assert topology.nodes[0].state == "NORMAL"
    assert topology.nodes[0].liveness == "ALIVE"
    assert topology.partitions[1].leader == "node-2"
    status = await client.status()
    assert sum(node.partitions_led for node in status.nodes) == cluster.store.partitions
    explanation = await client.explain("k")
    assert explanation.partition == partition_of(b"k", cluster.store.partitions)
    assert explanation.indexes == {"n": [b"1"]}
    assert explanation.value_bytes == 3


async def test_too_large_and_unknown_calls_are_final(patient_client: Any, cluster: FakeCluster) -> None:
    """Neither gets better by repeating."""
    with pytest.raises(InvalidRequest) as caught:
        await patient_client.set("k", b"v" * 5_000_000)
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
    cluster.faults.append(Fault("Explain", error=error_for("UNIMPLEMENTED", "not here")))
    with pytest.raises(Unsupported):
        await patient_client.explain("k")


@pytest.mark.parametrize("key", [bytearray(b"k"), 7, None])
async def test_other_types_are_refused(client: Any, key: Any) -> None:
    """Nothing is converted silently."""
    with pytest.raises(TypeError, match="bytes or str"):
        await client.get(key)


async def test_nobody_there_is_unavailable(client: Any, cluster: FakeCluster) -> None:
    """With every node stopped, reads and mutations say that nothing was applied."""
    await client.set("k", "v")
    for node in cluster.nodes:
        await asyncio.to_thread(node.stop)
    with pytest.raises(Unavailable) as caught:
        await client.get("k", timeout_s=0.5)
    assert caught.value.reason == "NO_ENDPOINT"
    with pytest.raises(Unavailable) as caught:
        await client.set("k", "w", timeout_s=0.5)
    assert caught.value.reason == "NO_ENDPOINT"


async def test_a_closed_client_says_so(client: Any) -> None:
    """Like a closed file."""
    await client.close()
    with pytest.raises(ValueError, match="closed"):
        await client.get("k")


async def test_many_calls_at_once_share_one_client(client: Any, cluster: FakeCluster) -> None:
    """From threads and from tasks alike, none disturbs another."""
    await asyncio.gather(*(client.set(f"k{number}", str(number)) for number in range(60)))
    records = await asyncio.gather(*(client.get(f"k{number}") for number in range(60)))
    assert [record.value for record in records] == [str(number).encode() for number in range(60)]
    assert cluster.store.applied == 60
