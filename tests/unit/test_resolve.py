"""What a gateway says of a request in doubt, and why nobody can prove it wrong later (P3)."""

from typing import Any

import pytest
from support.small_cluster import NOT_SENT, REPLY_LOST, REQUEST_LOST, SmallCluster, small_cluster
from support.virtual_time import pass_time, virtual

from ringhold.api.commands import MUTATIONS_PER_COMMAND_MAX
from ringhold.api.errors import InDoubt, InvalidRequest, Overloaded, Unavailable
from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.consensus.groups import ANCHOR_AHEAD_MS_MAX
from ringhold.node.consensus.tickets import Applied
from ringhold.node.gateway import resolved
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import group_of_partition

ID = b"id"


async def resolve(cluster: SmallCluster, key: bytes, anchor: int, request_id: bytes = ID) -> kv_pb2.ResolveResponse:
    request = kv_pb2.ResolveRequest(request_id=request_id, anchor=anchor, key=key)
    return await cluster.nodes["a"].gateway.resolve(request, cluster.deadline)


async def change(cluster: SmallCluster, key: bytes, anchor: int, value: bytes = b"v") -> kv_pb2.SetResponse:
    request = kv_pb2.SetRequest(key=key, value=value, request_id=ID, anchor=anchor)
    return await cluster.nodes["a"].gateway.set(request, cluster.deadline)


def log_time_ms(cluster: SmallCluster, owner: str, key: bytes) -> int:
    group = group_of_partition(partition_of(key, cluster.topology.partitions))
    return cluster.nodes[owner].groups.log_time_ms(group)


@pytest.mark.parametrize("owner", ["a", "b"])
@virtual
async def test_a_request_that_was_applied_is_told_with_its_outcome(owner: str) -> None:
    """Wherever it lives, by id, anchor and key alone, as often as it is asked."""
    async with small_cluster() as cluster:
        key = cluster.key_at(owner)
        anchor = log_time_ms(cluster, owner, key)
        await change(cluster, key, anchor)
        for _ in range(2):
            answer = await resolve(cluster, key, anchor)
            assert answer.fate == kv_pb2.FATE_APPLIED
            assert list(answer.outcomes) == [kv_pb2.MutationOutcome(version=1, existed=False)]
            assert answer.header.log_time_ms >= anchor


@pytest.mark.parametrize("owner", ["a", "b"])
@virtual
async def test_a_request_that_was_not_applied_never_is_again(owner: str) -> None:
    """One that comes late is refused for good, whatever it would change, and the question is answered the same."""
    async with small_cluster() as cluster:
        key = cluster.key_at(owner)
        anchor = log_time_ms(cluster, owner, key)
        assert (await resolve(cluster, key, anchor)).fate == kv_pb2.FATE_ABORTED
        for value in (b"v", b"other"):
            with pytest.raises(InvalidRequest) as caught:
                await change(cluster, key, anchor, value)
            assert caught.value.reason == "REQUEST_ABORTED"
            assert int(caught.value.details["log_time_ms"]) >= anchor
        assert (await resolve(cluster, key, anchor)).fate == kv_pb2.FATE_ABORTED


@pytest.mark.parametrize("owner", ["a", "b"])
@virtual
async def test_an_anchor_that_is_too_old_is_unknown_by_what_is_logged(owner: str) -> None:
    """Time in office binds no other leader: the entry that asks carries the log time that shuts the request out."""
    async with small_cluster() as cluster:
        key = cluster.key_at(owner)
        await pass_time(1_000)
        assert (await resolve(cluster, key, 5)).fate == kv_pb2.FATE_UNKNOWN
        group = group_of_partition(partition_of(key, cluster.topology.partitions))
        assert cluster.nodes[owner].groups.machine(group).state.log_time_ms - DEDUPE_WINDOW_MS > 5


@virtual
async def test_what_is_unknown_stays_out_under_the_next_leader() -> None:
    """Its own log time has fallen back to what is logged, and that is late enough."""
    async with small_cluster(replication_factor=3) as cluster:
        key = cluster.key_at("b")
        await pass_time(1_000)
        assert (await resolve(cluster, key, 5)).fate == kv_pb2.FATE_UNKNOWN
        cluster.hang("b", NOT_SENT)
        with pytest.raises(InvalidRequest) as caught:
            await change(cluster, key, 5)
        assert caught.value.reason == "REQUEST_EXPIRED"


@virtual
async def test_what_is_aborted_stays_so_under_the_next_leader() -> None:
    """The answer was in the log before it was given."""
    async with small_cluster(replication_factor=3) as cluster:
        key = cluster.key_at("b")
        assert (await resolve(cluster, key, 5)).fate == kv_pb2.FATE_ABORTED
        cluster.hang("b", NOT_SENT)
        with pytest.raises(InvalidRequest) as caught:
            await change(cluster, key, 5)
        assert caught.value.reason == "REQUEST_ABORTED"


@pytest.mark.parametrize("owner", ["a", "b"])
@virtual
async def test_an_anchor_far_ahead_is_invalid(owner: str) -> None:
    """What would keep a record for days is refused, with the log time; a little ahead is what a new leader may find."""
    async with small_cluster() as cluster:
        key = cluster.key_at(owner)
        now = log_time_ms(cluster, owner, key)
        assert (await resolve(cluster, key, now + ANCHOR_AHEAD_MS_MAX // 2)).fate == kv_pb2.FATE_ABORTED
        for anchor in (now + 2 * ANCHOR_AHEAD_MS_MAX, 2**64 - 1):
            with pytest.raises(InvalidRequest) as caught:
                await resolve(cluster, key, anchor)
            assert caught.value.reason == "ANCHOR_INVALID"
            assert int(caught.value.details["log_time_ms"]) >= now


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"request_id": b""}, "REQUEST_ID_EMPTY"),
        ({"request_id": bytes(69)}, "REQUEST_ID_TOO_LARGE"),
        ({"anchor": 0}, "ANCHOR_INVALID"),
        ({"key": b""}, "KEY_EMPTY"),
        ({"key": bytes(4097)}, "KEY_TOO_LARGE"),
    ],
)
@virtual
async def test_bad_input_gets_its_own_reason(fields: dict[str, Any], reason: str) -> None:
    """P9: nothing is proposed."""
    async with small_cluster() as cluster:
        with pytest.raises(InvalidRequest) as caught:
            await resolve(cluster, **{"key": b"k", "anchor": 1, **fields})
        assert caught.value.reason == reason
        assert cluster.asked == []


@pytest.mark.parametrize("trouble", [NOT_SENT, REQUEST_LOST, REPLY_LOST])
@virtual
async def test_a_lost_question_is_asked_again_and_is_never_in_doubt(trouble: str) -> None:
    """In the end it is unavailable: the doubt stands, and another attempt may end it."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        anchor = log_time_ms(cluster, "b", key)
        cluster.weather = lambda *_: trouble if len(cluster.asked) < 3 else None
        assert (await resolve(cluster, key, anchor)).fate == kv_pb2.FATE_ABORTED
        cluster.weather = lambda *_: trouble
        with pytest.raises(Unavailable, match="the doubt about the request stands") as caught:
            await resolve(cluster, key, anchor)
        assert caught.value.reason == "NO_QUORUM"


@virtual
async def test_a_request_is_resolved_on_a_full_disk() -> None:
    """Who is in doubt must get out of it just then; the reserve has room for the record."""
    async with small_cluster() as cluster:
        key = cluster.key_at("a")
        anchor = log_time_ms(cluster, "a", key)
        cluster.nodes["a"].groups.set_full(True)
        with pytest.raises(Overloaded):
            await change(cluster, key, anchor)
        assert (await resolve(cluster, key, anchor)).fate == kv_pb2.FATE_ABORTED


def test_a_full_table_of_requests_leaves_the_doubt() -> None:
    """Without room for the record nothing may be promised."""
    outcome = stored.Outcome(verdict=stored.VERDICT_DEDUPE_FULL).SerializeToString()
    with pytest.raises(Overloaded) as caught:
        resolved(Applied(outcome, 1, 7), kv_pb2.Header())
    assert (caught.value.reason, caught.value.details["log_time_ms"]) == ("DEDUPE_FULL", "7")


@virtual
async def test_a_single_doubt_names_what_resolves_it() -> None:
    """Id, anchor and key, though the client gave only a key: the answer was lost, and the change was made."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        cluster.weather = lambda *_: REPLY_LOST
        with pytest.raises(InDoubt) as caught:
            await cluster.nodes["a"].gateway.delete(kv_pb2.DeleteRequest(key=key), cluster.clock.now() + 2)
        cluster.weather = lambda *_: None
        doubt = caught.value
        assert doubt.key == key
        answer = await resolve(cluster, doubt.key, doubt.anchor, doubt.request_id)
        assert list(answer.outcomes) == [kv_pb2.MutationOutcome(version=0, existed=False)]


@virtual
async def test_each_doubt_of_a_batch_names_its_own_key_and_command() -> None:
    """Also where one operation among them was refused: it keeps its place, so that clients count alike."""
    async with small_cluster() as cluster:
        partition = cluster.partitions_of("b")[0]
        keys = [cluster.key_in(partition, number) for number in range(MUTATIONS_PER_COMMAND_MAX + 1)]
        operations = [kv_pb2.Operation(set=kv_pb2.SetRequest(key=key, anchor=1)) for key in keys]
        operations[0].set.indexes.add(name="")
        cluster.weather = lambda *_: REPLY_LOST
        request = kv_pb2.BatchRequest(operations=operations, request_id=ID)
        response = await cluster.nodes["a"].gateway.batch(request, cluster.clock.now() + 2)
        refused, *doubts = (result.error for result in response.results)
        assert refused.reason == "INDEX_NAME_INVALID"
        named = [(doubt.metadata["key"], doubt.metadata["request_id"]) for doubt in doubts]
        ids = [ID.hex()] * (MUTATIONS_PER_COMMAND_MAX - 1) + [(ID + b"/1").hex()]
        assert named == list(zip((key.hex() for key in keys[1:]), ids, strict=True))
        cluster.weather = lambda *_: None
        answer = await resolve(cluster, keys[1], 1)
        assert (answer.fate, len(answer.outcomes)) == (kv_pb2.FATE_APPLIED, MUTATIONS_PER_COMMAND_MAX - 1)
        assert len((await resolve(cluster, keys[1], 1, ID + b"/1")).outcomes) == 1
