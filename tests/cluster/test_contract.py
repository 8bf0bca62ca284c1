"""What any gateway answers, over real gRPC: the contract, its errors, the older contract, health and reflection."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from support.nodes import NodeProcess, metrics_of, wait_until

from ringhold import Change, Client, Fate, InvalidRequest, Resolution
from ringhold.api.errors import in_doubt
from ringhold.api.proto.api import distributed_storage_engine_pb2 as legacy_pb2
from ringhold.api.proto.api.distributed_storage_engine_pb2_grpc import DistributedStorageEngineStub
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ringhold.api.proto.ringhold.v1.cluster_pb2_grpc import ClusterStub
from ringhold.api.proto.ringhold.v1.kv_pb2_grpc import KVStub

KIB = 1024
TIMEOUT_S = 10


@pytest.fixture(scope="module")
def channels(shared_three: Sequence[NodeProcess]) -> Iterator[list[grpc.Channel]]:
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    opened = [grpc.insecure_channel(node.grpc, options=options) for node in shared_three]
    yield opened
    for channel in opened:
        channel.close()


@pytest.fixture(scope="module")
def gateways(channels: list[grpc.Channel]) -> list[KVStub]:
    return [KVStub(channel) for channel in channels]


def entry(name: str, value: bytes) -> kv_pb2.IndexEntry:
    return kv_pb2.IndexEntry(name=name, value=value)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, ErrorInfo]:
    """The status code and the one ErrorInfo of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None, caught.value
    assert len(status.details) == 1
    detail = ErrorInfo()
    assert status.details[0].Unpack(detail)
    assert detail.domain == "ringhold"
    return caught.value.code(), detail


def has_caught_up(gateway: KVStub, request: kv_pb2.GetRequest) -> bool:
    """Whether the replica that a gateway reads has the record, and somebody has vouched for its age."""
    try:
        header: kv_pb2.Header = gateway.Get(request).header
    except grpc.RpcError:
        return False
    return header.HasField("behind_ms")


def have_caught_up(gateway: KVStub, request: kv_pb2.GetByIndexRequest, count: int) -> bool:
    """Whether the replicas that a gateway reads have so many records, and somebody has vouched for their age."""
    page = gateway.GetByIndex(request)
    return len(page.matches) == count and page.HasField("behind_ms")


def test_every_gateway_answers_for_every_key(gateways: list[KVStub]) -> None:
    """What one gateway sets, any other reads at once, wherever the key lives."""
    for number in range(30):
        key = b"every:%d" % number
        gateways[number % 3].Set(kv_pb2.SetRequest(key=key, value=b"v%d" % number))
        for gateway in gateways:
            assert gateway.Get(kv_pb2.GetRequest(key=key)).value == b"v%d" % number


def test_answers_say_where_and_when(gateways: list[KVStub]) -> None:
    """Responses carry version, partition, topology epoch and log time."""
    stored = gateways[0].Set(kv_pb2.SetRequest(key=b"where", value=b""))
    read = gateways[1].Get(kv_pb2.GetRequest(key=b"where"))
    assert stored.version == read.version == read.create_version > 0
    assert stored.header.partition == read.header.partition
    assert read.header.topology_epoch == 1
    assert 0 < stored.header.log_time_ms <= read.header.log_time_ms


def test_a_stale_read_is_marked_and_says_its_age(gateways: list[KVStub]) -> None:
    """Through any gateway, alone, in a batch, or not found; it has no log time, and a linearizable answer no age."""
    gateways[0].Set(kv_pb2.SetRequest(key=b"stale", value=b"v"))
    asked = kv_pb2.GetRequest(key=b"stale", consistency=kv_pb2.CONSISTENCY_STALE)
    batch = kv_pb2.BatchRequest(operations=[kv_pb2.Operation(get=asked)])
    for gateway in gateways:
        wait_until(partial(has_caught_up, gateway, asked), "the replica of this gateway has the record")
        for answer in (gateway.Get(asked), gateway.Batch(batch).results[0].get):
            assert (answer.value, answer.header.stale, answer.header.log_time_ms) == (b"v", True, 0)
            assert answer.header.HasField("behind_ms")
        header = gateway.Get(kv_pb2.GetRequest(key=b"stale")).header
        assert (header.stale, header.HasField("behind_ms"), header.log_time_ms > 0) == (False, False, True)
    missing = kv_pb2.GetRequest(key=b"not there", consistency=kv_pb2.CONSISTENCY_STALE)
    code, info = refused(lambda: gateways[0].Get(missing))
    assert (code, info.reason, info.metadata["stale"]) == (grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND", "true")
    assert "log_time_ms" not in info.metadata


def test_a_stale_query_is_marked_and_says_its_age(gateways: list[KVStub]) -> None:
    """A page of all shards, as old as the oldest; a linearizable one is neither stale nor behind."""
    for number in range(20):
        gateways[0].Set(kv_pb2.SetRequest(key=b"sq:%02d" % number, value=b"", indexes=[entry("sq", b"x")]))
    for gateway in gateways:
        stale = kv_pb2.GetByIndexRequest(index="sq", equals=b"x", consistency=kv_pb2.CONSISTENCY_STALE)
        wait_until(partial(have_caught_up, gateway, stale, 20), "the replicas have all records")
        page = gateway.GetByIndex(stale)
        assert (page.stale, page.HasField("behind_ms")) == (True, True)
        page = gateway.GetByIndex(kv_pb2.GetByIndexRequest(index="sq", equals=b"x"))
        assert (page.stale, page.HasField("behind_ms")) == (False, False)


def test_delete_says_whether_there_was_a_record(gateways: list[KVStub]) -> None:
    """Deleting an absent key is no error."""
    gateways[0].Set(kv_pb2.SetRequest(key=b"gone", value=b"x"))
    assert gateways[1].Delete(kv_pb2.DeleteRequest(key=b"gone")).existed
    assert not gateways[2].Delete(kv_pb2.DeleteRequest(key=b"gone")).existed
    code, info = refused(lambda: gateways[0].Get(kv_pb2.GetRequest(key=b"gone")))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND")


def test_a_repeated_mutation_takes_effect_once(gateways: list[KVStub]) -> None:
    """The same request_id and anchor give the first outcome, through whichever gateway (P3)."""
    first = gateways[0].Set(kv_pb2.SetRequest(key=b"once", value=b"1"))
    request = kv_pb2.SetRequest(key=b"once", value=b"2", request_id=b"r" * 16, anchor=first.header.log_time_ms)
    versions = {gateway.Set(request).version for gateway in gateways}
    assert versions == {first.version + 1}
    request.value = b"3"
    code, info = refused(lambda: gateways[0].Set(request))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")


def test_an_anchor_outside_the_window_is_refused(gateways: list[KVStub]) -> None:
    """An anchor from far outside the log time can't be deduplicated, and the answer says what log time it is."""
    request = kv_pb2.SetRequest(key=b"late", value=b"", request_id=b"q", anchor=2**60)
    code, info = refused(lambda: gateways[0].Set(request))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_EXPIRED")
    assert int(info.metadata["log_time_ms"]) > 0


def test_a_request_is_resolved_through_any_gateway(gateways: list[KVStub]) -> None:
    """What was applied is told with its outcome; what was not never is, and says so to who sends it late."""
    anchor = gateways[0].Set(kv_pb2.SetRequest(key=b"resolved", value=b"0")).header.log_time_ms
    request = kv_pb2.SetRequest(key=b"resolved", value=b"1", request_id=b"applied", anchor=anchor)
    version = gateways[0].Set(request).version
    question = kv_pb2.ResolveRequest(key=b"resolved", request_id=b"applied", anchor=anchor)
    answers = [gateway.Resolve(question) for gateway in gateways]
    assert {answer.fate for answer in answers} == {kv_pb2.FATE_APPLIED}
    assert [list(answer.outcomes) for answer in answers] == [
        [kv_pb2.MutationOutcome(version=version, existed=True)]
    ] * 3
    question.request_id = request.request_id = b"aborted"
    assert {gateway.Resolve(question).fate for gateway in gateways} == {kv_pb2.FATE_ABORTED}
    code, info = refused(lambda: gateways[1].Set(request))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ABORTED")
    assert int(info.metadata["log_time_ms"]) >= anchor
    operation = kv_pb2.Operation(set=request)
    (result,) = gateways[2].Batch(kv_pb2.BatchRequest(operations=[operation])).results
    assert (result.error.code, result.error.reason) == (9, "REQUEST_ABORTED")
    assert gateways[2].Get(kv_pb2.GetRequest(key=b"resolved")).version == version


def test_a_client_resolves_what_it_names(shared_three: Sequence[NodeProcess]) -> None:
    """By the error, or by its parts; the way a program takes."""
    with Client([node.grpc for node in shared_three]) as client:
        client.set("named", "0")
        doubt = in_doubt("the answer was lost", b"of a program", 1, b"named")
        assert client.resolve(doubt).fate is Fate.ABORTED
        with pytest.raises(InvalidRequest, match="never will be"):
            client.set("named", "1", request_id=doubt.request_id, anchor=doubt.anchor)
        version = client.set("named", "2", request_id=b"another", anchor=1)
        resolution = client.resolve(request_id=b"another", anchor=1, key="named")
        assert resolution == Resolution(Fate.APPLIED, (Change(version, existed=True),))


def test_a_query_merges_all_shards_in_order(gateways: list[KVStub]) -> None:
    """Pages of all shards together are complete, ordered by (value, key), without repetition."""
    wanted = []
    for number in range(60):
        key, value = b"q:%02d" % number, b"%d" % (number % 7)
        gateways[number % 3].Set(kv_pb2.SetRequest(key=key, value=b"", indexes=[entry("seven", value)]))
        wanted.append((value, key))
    for descending in (False, True):
        found: list[tuple[bytes, bytes]] = []
        token = b""
        while True:
            request = kv_pb2.GetByIndexRequest(
                index="seven", prefix=b"", descending=descending, limit=7, page_token=token
            )
            page = gateways[len(found) % 3].GetByIndex(request)
            found += [(match.index_value, match.key) for match in page.matches]
            token = page.next_page_token
            if not token:
                break
        assert found == sorted(wanted, reverse=descending)


def test_a_query_by_range_and_equality(gateways: list[KVStub]) -> None:
    """Range bounds are start-inclusive and end-exclusive; records come on request."""
    for number in range(10):
        key = b"r:%d" % number
        gateways[0].Set(kv_pb2.SetRequest(key=key, value=b"v", indexes=[entry("n", b"%d" % number)]))
    page = gateways[1].GetByIndex(
        kv_pb2.GetByIndexRequest(index="n", range=kv_pb2.Range(start=b"3", end=b"6"), with_records=True)
    )
    assert [match.record.key for match in page.matches] == [b"r:3", b"r:4", b"r:5"]
    assert all(match.record.value == b"v" for match in page.matches)
    page = gateways[2].GetByIndex(kv_pb2.GetByIndexRequest(index="n", equals=b"4"))
    assert [(match.key, match.HasField("record")) for match in page.matches] == [(b"r:4", False)]


def test_a_set_replaces_the_whole_set_of_index_entries(gateways: list[KVStub]) -> None:
    """Entries that a Set does not name are gone with it."""
    gateways[0].Set(kv_pb2.SetRequest(key=b"i", value=b"", indexes=[entry("a", b"1"), entry("b", b"1")]))
    gateways[1].Set(kv_pb2.SetRequest(key=b"i", value=b"", indexes=[entry("b", b"2")]))
    for name, matches in (("a", []), ("b", [(b"2", b"i")])):
        page = gateways[2].GetByIndex(kv_pb2.GetByIndexRequest(index=name, prefix=b""))
        assert [(match.index_value, match.key) for match in page.matches] == matches


def test_a_batch_gives_each_operation_its_result(gateways: list[KVStub]) -> None:
    """Results come in the order of the operations; a failure concerns only its own operation."""
    gateways[0].Set(kv_pb2.SetRequest(key=b"b:old", value=b"old"))
    operations = [
        kv_pb2.Operation(set=kv_pb2.SetRequest(key=b"b:1", value=b"1")),
        kv_pb2.Operation(get=kv_pb2.GetRequest(key=b"b:old")),
        kv_pb2.Operation(get=kv_pb2.GetRequest(key=b"b:absent")),
        kv_pb2.Operation(delete=kv_pb2.DeleteRequest(key=b"b:absent")),
        kv_pb2.Operation(set=kv_pb2.SetRequest(key=b"", value=b"")),
        kv_pb2.Operation(),
    ]
    results = gateways[1].Batch(kv_pb2.BatchRequest(operations=operations)).results
    assert results[0].set.version > 0
    assert results[1].get.value == b"old"
    assert results[2].error.reason == "KEY_NOT_FOUND"
    assert not results[3].delete.existed
    assert [result.error.reason for result in results[4:]] == ["KEY_EMPTY", "BATCH_OPERATION_EMPTY"]
    assert gateways[2].Get(kv_pb2.GetRequest(key=b"b:1")).value == b"1"


def test_a_repeated_batch_takes_effect_once(gateways: list[KVStub]) -> None:
    """The batch's request_id stands for all its mutations, which need their anchors to be repeated."""
    log_times = {}
    for number in range(20):
        answer = gateways[0].Set(kv_pb2.SetRequest(key=b"bb:%d" % number, value=b"0"))
        log_times[b"bb:%d" % number] = answer.header.log_time_ms
    operations = [
        kv_pb2.Operation(set=kv_pb2.SetRequest(key=key, value=b"1", anchor=anchor)) for key, anchor in log_times.items()
    ]
    request = kv_pb2.BatchRequest(operations=operations, request_id=b"batch-1")
    first, second = ([result.set.version for result in gateway.Batch(request).results] for gateway in gateways[:2])
    assert first == second
    assert min(first) > 0


RECORD = kv_pb2.SetRequest(key=b"k", value=b"v")
BAD_REQUESTS = {
    "KEY_EMPTY": lambda kv: kv.Get(kv_pb2.GetRequest()),
    "KEY_TOO_LARGE": lambda kv: kv.Set(kv_pb2.SetRequest(key=b"k" * (4 * KIB + 1))),
    "VALUE_TOO_LARGE": lambda kv: kv.Set(kv_pb2.SetRequest(key=b"k", value=b"v" * (KIB * KIB + 1))),
    "TOO_MANY_INDEX_ENTRIES": lambda kv: kv.Set(
        kv_pb2.SetRequest(key=b"k", indexes=[entry("n", b"%d" % number) for number in range(33)])
    ),
    "INDEX_NAME_INVALID": lambda kv: kv.Set(kv_pb2.SetRequest(key=b"k", indexes=[entry("", b"")])),
    "INDEX_VALUE_TOO_LARGE": lambda kv: kv.Set(kv_pb2.SetRequest(key=b"k", indexes=[entry("n", b"v" * 1025)])),
    "DUPLICATE_INDEX_ENTRY": lambda kv: kv.Set(kv_pb2.SetRequest(key=b"k", indexes=[entry("n", b"v")] * 2)),
    "REQUEST_ID_EMPTY": lambda kv: kv.Resolve(kv_pb2.ResolveRequest(key=b"k", anchor=1)),
    "ANCHOR_INVALID": lambda kv: kv.Resolve(kv_pb2.ResolveRequest(key=b"k", request_id=b"r", anchor=2**60)),
    "REQUEST_ID_TOO_LARGE": lambda kv: kv.Delete(kv_pb2.DeleteRequest(key=b"k", request_id=b"r" * 65)),
    "MESSAGE_TOO_LARGE": lambda kv: kv.Set(kv_pb2.SetRequest(key=b"k", value=b"v" * (5 * KIB * KIB))),
    "BATCH_TOO_LARGE": lambda kv: kv.Batch(kv_pb2.BatchRequest(operations=[kv_pb2.Operation()] * 1001)),
    "PAGE_LIMIT_TOO_LARGE": lambda kv: kv.GetByIndex(kv_pb2.GetByIndexRequest(index="n", equals=b"", limit=1001)),
    "QUERY_INVALID": lambda kv: kv.GetByIndex(kv_pb2.GetByIndexRequest(index="n")),
    "CONSISTENCY_INVALID": lambda kv: kv.Get(kv_pb2.GetRequest.FromString(b"\x0a\x01k\x10\x07")),
    "BAD_PAGE_TOKEN": lambda kv: kv.GetByIndex(kv_pb2.GetByIndexRequest(index="n", equals=b"", page_token=b"x")),
}


@pytest.mark.parametrize("reason", BAD_REQUESTS)
def test_bad_input_gets_its_own_reason(gateways: list[KVStub], reason: str) -> None:
    """Wrong input of any size or shape gets a clear error (P9)."""
    code, info = refused(lambda: BAD_REQUESTS[reason](gateways[0]))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_bad_input_changes_nothing(gateways: list[KVStub]) -> None:
    """After a refused Set the old record and its index entries stand as before."""
    gateways[0].Set(kv_pb2.SetRequest(key=b"kept", value=b"old", indexes=[entry("kept", b"1")]))
    too_many = [entry("kept", b"%d" % number) for number in range(33)]
    refused(lambda: gateways[0].Set(kv_pb2.SetRequest(key=b"kept", value=b"new", indexes=too_many)))
    assert gateways[1].Get(kv_pb2.GetRequest(key=b"kept")).value == b"old"
    page = gateways[2].GetByIndex(kv_pb2.GetByIndexRequest(index="kept", prefix=b""))
    assert [match.index_value for match in page.matches] == [b"1"]


def test_the_largest_record_that_is_allowed(gateways: list[KVStub]) -> None:
    """Limits are inclusive: key, value, index entries at their limits are stored and read back."""
    key, value = b"k" * 4 * KIB, bytes(KIB * KIB)
    indexes = [entry("n" * 128, bytes([number]) * KIB) for number in range(32)]
    gateways[0].Set(kv_pb2.SetRequest(key=key, value=value, indexes=indexes))
    record = gateways[1].Get(kv_pb2.GetRequest(key=key))
    assert (record.value, list(record.indexes)) == (value, indexes)
    gateways[2].Delete(kv_pb2.DeleteRequest(key=key))


def test_a_token_of_another_query_is_refused(gateways: list[KVStub]) -> None:
    """A page token belongs to one query."""
    for number in range(3):
        gateways[0].Set(kv_pb2.SetRequest(key=b"t:%d" % number, value=b"", indexes=[entry("t", b"x")]))
    page = gateways[0].GetByIndex(kv_pb2.GetByIndexRequest(index="t", equals=b"x", limit=1))
    other = kv_pb2.GetByIndexRequest(index="t", equals=b"y", limit=1, page_token=page.next_page_token)
    _, info = refused(lambda: gateways[1].GetByIndex(other))
    assert info.reason == "BAD_PAGE_TOKEN"


def test_a_malformed_message_is_refused(channels: list[grpc.Channel]) -> None:
    """Bytes that are no protobuf message get an error, not a crash."""
    call: Callable[..., object] = channels[0].unary_unary("/ringhold.v1.KV/Get")
    code, info = refused(lambda: call(b"\xff\xff\xff", timeout=TIMEOUT_S))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


def test_the_older_contract_works_unchanged(channels: list[grpc.Channel], gateways: list[KVStub]) -> None:
    """api.DistributedStorageEngine on the same port: Set removes index entries, a missing key is NOT_FOUND."""
    engine = DistributedStorageEngineStub(channels[0])
    gateways[1].Set(kv_pb2.SetRequest(key=b"legacy", value=b"new", indexes=[entry("legacy", b"1")]))
    assert engine.Get(legacy_pb2.GetRequest(key=b"legacy")).value == b"new"
    engine.Set(legacy_pb2.SetRequest(key=b"legacy", value=b"old"))
    assert gateways[2].Get(kv_pb2.GetRequest(key=b"legacy")).value == b"old"
    assert not gateways[2].GetByIndex(kv_pb2.GetByIndexRequest(index="legacy", prefix=b"")).matches
    engine.Delete(legacy_pb2.DeleteRequest(key=b"legacy"))
    engine.Delete(legacy_pb2.DeleteRequest(key=b"legacy"))
    code, _ = refused(lambda: engine.Get(legacy_pb2.GetRequest(key=b"legacy")))
    assert code is grpc.StatusCode.NOT_FOUND


def test_health_and_reflection(channels: list[grpc.Channel]) -> None:
    """Orchestrators and grpcurl find the services."""
    health: Any = health_pb2_grpc.HealthStub(channels[0])
    for service in ("", "ringhold.v1.KV"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channels[0])
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"ringhold.v1.KV", "ringhold.v1.Cluster", "api.DistributedStorageEngine", "grpc.health.v1.Health"} <= names


def test_cluster_topology_status_and_explain(
    channels: list[grpc.Channel], gateways: list[KVStub], shared_three: Sequence[NodeProcess]
) -> None:
    """Every node tells the same of nodes, leaders and the place of a key."""
    gateways[0].Set(kv_pb2.SetRequest(key=b"explained", value=b"12345", indexes=[entry("e", b"1")]))
    explained = set()
    for channel in channels:
        cluster = ClusterStub(channel)
        topology = cluster.Topology(cluster_pb2.TopologyRequest())
        assert {node.grpc_address for node in topology.nodes} == {node.grpc for node in shared_three}
        assert all(partition.HasField("leader") and partition.log_time_ms for partition in topology.partitions)
        status = cluster.Status(cluster_pb2.StatusRequest())
        assert all(node.reachable and node.node.state == cluster_pb2.NODE_STATE_NORMAL for node in status.nodes)
        assert sum(node.partitions_led for node in status.nodes) == len(topology.partitions) == 64
        assert not status.unavailable_partitions
        answer = cluster.Explain(cluster_pb2.ExplainRequest(key=b"explained"))
        assert (answer.exists, answer.value_bytes, len(answer.indexes)) == (True, 5, 1)
        explained.add((answer.partition, answer.leader, tuple(answer.replicas), answer.hash))
    assert len(explained) == 1


def test_metrics_count_requests(shared_three: Sequence[NodeProcess], gateways: list[KVStub]) -> None:
    """/metrics is there and counts finished calls by method and reason."""
    gateways[0].Set(RECORD)
    text = metrics_of(shared_three[0])
    assert 'ringhold_requests_total{method="ringhold.v1.KV/Set",reason="OK"}' in text
    assert 'ringhold_members{state="ALIVE"} 3.0' in text


def test_a_batch_whose_answer_is_too_large_says_so(gateways: list[KVStub]) -> None:
    """Records that fit are answered, the others refused one by one: no answer is over the limit of a message (P8)."""
    keys = [b"big:%d" % number for number in range(6)]
    for key in keys:
        gateways[0].Set(kv_pb2.SetRequest(key=key, value=bytes(KIB * KIB)))
    operations = [kv_pb2.Operation(get=kv_pb2.GetRequest(key=key)) for key in keys]
    answer = gateways[1].Batch(kv_pb2.BatchRequest(operations=operations))
    reasons = [result.error.reason for result in answer.results]
    assert set(reasons) == {"", "ANSWER_TOO_LARGE"}
    assert answer.ByteSize() <= 4 * KIB * KIB
    for key in keys:
        gateways[0].Delete(kv_pb2.DeleteRequest(key=key))


def posted(http: str, route: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of a POST to a gossip route."""
    request = urllib.request.Request(f"http://{http}/gossip/v1/{route}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


ROUTES = ("ping", "indirect-ping", "sync", "push", "formation", "topology")
OURS = {"Ringhold-Cluster": "ringhold"}


@pytest.mark.parametrize("route", ROUTES)
def test_every_gossip_route_is_guarded(shared_three: Sequence[NodeProcess], route: str) -> None:
    """Another cluster, no cluster, too large or encoded bodies are refused; garbage changes nothing."""
    http = shared_three[0].http
    refusals = [
        (400, b"", {}),
        (403, b"", {"Ringhold-Cluster": "other"}),
        (403, b"", {**OURS, "Ringhold-Cluster-Id": "ffff"}),
        (413, bytes(256 * KIB + 1), OURS),
        (415, b"x", {**OURS, "Content-Encoding": "gzip"}),
    ]
    for status, body, headers in refusals:
        assert posted(http, route, body, headers)[0] == status
    for garbage in (b"\xff\x00", b"[]", b"{}", b'{"sender": 1}', b"[" * 10_000):
        status, answer = posted(http, route, garbage, OURS)
        if route in {"formation", "topology"}:  # they ask for nothing, and look at no body
            assert (status, b"cluster_id" in answer) == (200, True)
        else:
            assert status == 400
    assert shared_three[0].is_ready()
