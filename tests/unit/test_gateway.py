"""What a node does for a client: checks first, one command per partition and request_id in a batch, honest results."""

import pytest
from support.small_cluster import NOT_SENT, REQUEST_LOST, SmallCluster, small_cluster
from support.virtual_time import virtual

from ringhold.api.commands import MUTATIONS_PER_COMMAND_MAX
from ringhold.api.errors import InDoubt, InvalidRequest, KeyNotFound, Overloaded, RingholdError
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Request
from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.consensus.tickets import Applied
from ringhold.node.gateway import accepted
from ringhold.ring.hashing import partition_of


def set_of(key: bytes, value: bytes = b"v", **fields: bytes | int) -> kv_pb2.Operation:
    return kv_pb2.Operation(set=kv_pb2.SetRequest(key=key, value=value, **fields))  # type: ignore[arg-type]


def get_of(key: bytes) -> kv_pb2.Operation:
    return kv_pb2.Operation(get=kv_pb2.GetRequest(key=key))


def delete_of(key: bytes, **fields: bytes) -> kv_pb2.Operation:
    return kv_pb2.Operation(delete=kv_pb2.DeleteRequest(key=key, **fields))  # type: ignore[arg-type]


async def batch(
    cluster: SmallCluster, *operations: kv_pb2.Operation, request_id: bytes = b""
) -> list[kv_pb2.OperationResult]:
    request = kv_pb2.BatchRequest(operations=operations, request_id=request_id)
    response = await cluster.nodes["a"].gateway.batch(request, cluster.deadline)
    assert len(response.results) == len(operations)
    return list(response.results)


def commands_to(cluster: SmallCluster, node_id: str) -> list[stored.Command]:
    return [command for _, target, request in cluster.asked if target == node_id for command in commands_in(request)]


def commands_in(request: Request) -> list[stored.Command]:
    """The commands that a request proposes, alone or together."""
    return [stored.Command.FromString(encoded) for encoded in request.propose.commands]


@pytest.mark.parametrize("owner", ["a", "b"])
@virtual
async def test_a_record_is_set_read_and_deleted_wherever_it_lives(owner: str) -> None:
    """Every response says where and when it was made; a delete of nothing is no error."""
    async with small_cluster() as cluster:
        gateway, key = cluster.nodes["a"].gateway, cluster.key_at(owner)
        entry = kv_pb2.IndexEntry(name="i", value=b"x")
        written = await gateway.set(kv_pb2.SetRequest(key=key, value=b"v", indexes=[entry]), cluster.deadline)
        assert (written.version, written.header.partition) == (1, partition_of(key, cluster.topology.partitions))
        assert written.header.topology_epoch == 1
        assert written.header.log_time_ms > 0
        read = await gateway.get(kv_pb2.GetRequest(key=key), cluster.deadline)
        assert (read.value, read.version, list(read.indexes)) == (b"v", 1, [entry])
        for existed in (True, False):
            removed = await gateway.delete(kv_pb2.DeleteRequest(key=key), cluster.deadline)
            assert removed.existed is existed
        with pytest.raises(KeyNotFound) as caught:
            await gateway.get(kv_pb2.GetRequest(key=key), cluster.deadline)
        assert int(caught.value.details["log_time_ms"]) > 0


@virtual
async def test_mutations_without_an_id_are_one_command_per_partition() -> None:
    """They share the batch's request_id, in their order; those with an id of their own are commands of their own."""
    async with small_cluster() as cluster:
        partition = cluster.partitions_of("b")[0]
        keys = [cluster.key_in(partition, number) for number in range(4)]
        elsewhere = cluster.key_in(cluster.partitions_of("b")[1])
        operations = [
            set_of(keys[0]),
            set_of(keys[1], request_id=b"own"),
            delete_of(keys[2]),
            set_of(elsewhere),
            set_of(keys[3]),
        ]
        results = await batch(cluster, *operations, request_id=b"shared")
        assert not any(result.HasField("error") for result in results)
        commands = {(command.request_id, len(command.mutations)) for command in commands_to(cluster, "b")}
        assert commands == {(b"shared", 3), (b"own", 1), (b"shared", 1)}
        shared = next(command for command in commands_to(cluster, "b") if len(command.mutations) == 3)
        assert [m.set.key or m.delete.key for m in shared.mutations] == [keys[0], keys[2], keys[3]]
        assert (results[0].set.version, results[4].set.version) == (1, 2)


@virtual
async def test_a_batch_without_an_id_gets_one_that_its_commands_share() -> None:
    """The gateway makes it, new for each batch."""
    async with small_cluster() as cluster:
        keys = [cluster.key_in(partition) for partition in cluster.partitions_of("b")[:2]]
        for _ in range(2):
            await batch(cluster, *(set_of(key) for key in keys))
        ids = [command.request_id for command in commands_to(cluster, "b")]
        assert len(ids[0]) == 16
        assert ids[0] == ids[1] != ids[2] == ids[3]


@virtual
async def test_mutations_of_one_key_keep_their_order_though_the_first_is_repeated() -> None:
    """A command whose first attempt failed is not overtaken by a later one of the same key."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")

        def weather(source: str, target: str, request: Request) -> str | None:
            return NOT_SENT if len(cluster.asked) <= 2 else None

        cluster.weather = weather
        operations = [set_of(key, b"%d" % number, request_id=b"id:%d" % number) for number in range(5)]
        results = await batch(cluster, *operations)
        assert [result.set.version for result in results] == [1, 2, 3, 4, 5]
        (read,) = await batch(cluster, get_of(key))
        assert read.get.value == b"4"


@virtual
async def test_commands_of_different_keys_run_side_by_side() -> None:
    """One that gets no answer does not hold up the others of its partition."""
    async with small_cluster() as cluster:
        partition = cluster.partitions_of("b")[0]
        slow, quick = cluster.key_in(partition, 0), cluster.key_in(partition, 1)

        def weather(source: str, target: str, request: Request) -> str | None:
            is_slow = any(command.request_id == b"slow" for command in commands_in(request))
            return REQUEST_LOST if is_slow else None

        cluster.weather = weather
        results = await batch(cluster, set_of(slow, request_id=b"slow"), set_of(quick, request_id=b"quick"))
        assert results[0].error.reason == "IN_DOUBT"
        assert results[1].set.version == 1
        first, *again = [[command.request_id for command in commands_in(asked)] for _, _, asked in cluster.asked]
        assert first == [b"slow", b"quick"]
        assert again.count([b"quick"]) == 1


@virtual
async def test_a_failure_in_a_batch_concerns_its_own_operations() -> None:
    """A wrong operation is refused alone, with its reason; the rest is done."""
    async with small_cluster() as cluster:
        good = cluster.key_at("a")
        results = await batch(
            cluster,
            set_of(b""),
            set_of(good),
            get_of(b"no such key"),
            kv_pb2.Operation(),
            set_of(good, bytes(1024 * 1024 + 1)),
            set_of(good, request_id=bytes(65)),
            delete_of(bytes(4097)),
            get_of(b""),
        )
        reasons = [result.error.reason for result in results]
        assert reasons == [
            "KEY_EMPTY",
            "",
            "KEY_NOT_FOUND",
            "BATCH_OPERATION_EMPTY",
            "VALUE_TOO_LARGE",
            "REQUEST_ID_TOO_LARGE",
            "KEY_TOO_LARGE",
            "KEY_EMPTY",
        ]
        assert results[1].set.version == 1


@virtual
async def test_a_partition_without_a_leader_fails_its_operations_only() -> None:
    """Reads there are unavailable, mutations that may have arrived in doubt, with id and anchor to repeat them."""
    async with small_cluster() as cluster:
        here, there = cluster.key_at("a"), cluster.key_at("c")
        cluster.weather = lambda source, target, request: REQUEST_LOST
        results = await batch(cluster, set_of(here), get_of(there), set_of(there), request_id=b"shared")
        assert [result.error.reason for result in results] == ["", "NO_QUORUM", "IN_DOUBT"]
        assert results[2].error.metadata["request_id"] == b"shared".hex()
        assert int(results[2].error.metadata["anchor"]) > 0


@virtual
async def test_a_repeated_batch_takes_effect_once() -> None:
    """P3: with the same request_id and anchors the results are those of the first time."""
    async with small_cluster() as cluster:
        keys = [cluster.key_at(owner) for owner in ("a", "b", "c")]
        first = await batch(cluster, *(set_of(key, anchor=1) for key in keys), request_id=b"once")
        again = await batch(cluster, *(set_of(key, anchor=1) for key in keys), request_id=b"once")
        assert [result.set.version for result in again] == [result.set.version for result in first] == [1, 1, 1]
        other = await batch(cluster, *(set_of(key, b"other", anchor=1) for key in keys), request_id=b"once")
        assert {result.error.reason for result in other} == {"REQUEST_ID_REUSED"}


@virtual
async def test_many_mutations_of_one_partition_become_several_commands() -> None:
    """P8: no command is larger than can be applied in one piece; a repetition finds every one of them."""
    async with small_cluster() as cluster:
        key = cluster.key_in(cluster.partitions_of("b")[0])
        operations = [set_of(key, b"%d" % number, anchor=1) for number in range(2 * MUTATIONS_PER_COMMAND_MAX + 5)]
        first = await batch(cluster, *operations, request_id=b"many")
        commands = commands_to(cluster, "b")
        assert [command.request_id for command in commands] == [b"many", b"many/1", b"many/2"]
        assert [len(command.mutations) for command in commands] == [MUTATIONS_PER_COMMAND_MAX] * 2 + [5]
        versions = [result.set.version for result in first]
        assert versions == list(range(1, len(operations) + 1))
        again = await batch(cluster, *operations, request_id=b"many")
        assert [result.set.version for result in again] == versions


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(batch_operations_max=2), "BATCH_TOO_LARGE"), (Limits(batch_bytes_max=10), "BATCH_TOO_LARGE")],
    ids=["operations", "bytes"],
)
@virtual
async def test_a_batch_over_a_limit_does_nothing(limits: Limits, reason: str) -> None:
    """P9: the call as a whole is refused before any operation is looked at."""
    async with small_cluster(limits=limits) as cluster:
        with pytest.raises(InvalidRequest) as caught:
            await batch(cluster, *(set_of(b"key:%d" % number) for number in range(3)))
        assert caught.value.reason == reason
        assert cluster.asked == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (kv_pb2.SetRequest(key=b""), "KEY_EMPTY"),
        (kv_pb2.SetRequest(key=bytes(4097)), "KEY_TOO_LARGE"),
        (kv_pb2.SetRequest(key=b"k", value=bytes(1024 * 1024 + 1)), "VALUE_TOO_LARGE"),
        (kv_pb2.SetRequest(key=b"k", request_id=bytes(65)), "REQUEST_ID_TOO_LARGE"),
        (kv_pb2.SetRequest(key=b"k", indexes=[kv_pb2.IndexEntry(name="")]), "INDEX_NAME_INVALID"),
        (
            kv_pb2.SetRequest(key=b"k", indexes=[kv_pb2.IndexEntry(name="i", value=b"%d" % n) for n in range(33)]),
            "TOO_MANY_INDEX_ENTRIES",
        ),
        (kv_pb2.SetRequest(key=b"k", indexes=[kv_pb2.IndexEntry(name="i")] * 2), "DUPLICATE_INDEX_ENTRY"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@virtual
async def test_a_set_over_a_limit_changes_nothing(request_: kv_pb2.SetRequest, reason: str) -> None:
    """P9: refused with its reason before anything is proposed."""
    async with small_cluster() as cluster:
        with pytest.raises(InvalidRequest) as caught:
            await cluster.nodes["a"].gateway.set(request_, cluster.deadline)
        assert caught.value.reason == reason
        assert cluster.asked == []
        assert all(
            node.groups.machine(group).state.keys == 0 for node in cluster.nodes.values() for group in node.groups.led
        )


@pytest.mark.parametrize(
    ("verdict", "error", "reason"),
    [
        (stored.VERDICT_EXPIRED, InvalidRequest, "REQUEST_EXPIRED"),
        (stored.VERDICT_REUSED, InvalidRequest, "REQUEST_ID_REUSED"),
        (stored.VERDICT_ABORTED, InvalidRequest, "REQUEST_ABORTED"),
        (stored.VERDICT_DEDUPE_FULL, Overloaded, "DEDUPE_FULL"),
    ],
)
def test_a_verdict_other_than_applied_is_its_error(
    verdict: stored.Verdict, error: type[RingholdError], reason: str
) -> None:
    """What a logged command met is told as what it is."""
    with pytest.raises(error) as caught:
        accepted(Applied(stored.Outcome(verdict=verdict).SerializeToString(), 1, 1))
    assert caught.value.reason == reason


@virtual
async def test_a_single_mutation_in_doubt_can_be_repeated_with_what_the_error_carries() -> None:
    """P3: the repetition finds the first one's outcome."""
    async with small_cluster() as cluster:
        gateway, key = cluster.nodes["a"].gateway, cluster.key_at("b")
        cluster.weather = lambda source, target, request: "reply lost"
        with pytest.raises(InDoubt) as caught:
            await gateway.set(kv_pb2.SetRequest(key=key, value=b"v"), cluster.clock.now() + 2)
        cluster.weather = lambda *_: None
        again = kv_pb2.SetRequest(key=key, value=b"v", request_id=caught.value.request_id, anchor=caught.value.anchor)
        assert (await gateway.set(again, cluster.deadline)).version == 1
