"""What is asked of the cluster, and the echo's counterpart of each: the same bodies, answers of the same size."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import grpc
from google.protobuf.message import Message

from ringhold.api.proto.ringhold.v1 import cluster_pb2, cluster_pb2_grpc, kv_pb2, kv_pb2_grpc

from .bodies import (
    batch_request,
    framed,
    get_request,
    indexed_batch,
    key_of,
    owned_keys,
    owner_of,
    owners_of,
    page_request,
    set_request,
)
from .echo import path_of
from .failure import BenchmarkFailed
from .load import Stream

IN_FLIGHT = 64
KEYS_PER_NODE = 7
BATCH_KEYS = 100
BATCHES_IN_FLIGHT = 12
PAGE_LIMIT = 100
IMPORT_BATCH = 500
IMPORTS_IN_FLIGHT = 4
RPC_TIMEOUT_S = 30.0
SETTLE_TIMEOUT_S = 60.0
SETTLE_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one method, by its full name.

    `streams` gives what runs at once in the round of a number; it is asked right before each run, since owners move.
    """

    name: str
    title: str
    method: str
    streams: Callable[[int], Sequence[Stream]]
    answer_bytes: int
    operations_per_request: int = 1
    with_latencies: bool = False

    def echoed(self, streams: Sequence[Stream], echo_of: dict[str, str]) -> list[Stream]:
        """The same for the echo servers; `echo_of` gives the one that stands for a node."""
        path = path_of(self.answer_bytes)
        return [replace(stream, address=echo_of[stream.address], path=path) for stream in streams]


class Gateway:
    """One node, asked by plain gRPC, for what is not measured."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._kv = kv_pb2_grpc.KVStub(self._channel)
        self._cluster = cluster_pb2_grpc.ClusterStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def topology(self) -> cluster_pb2.TopologyResponse:
        answer: cluster_pb2.TopologyResponse = self._cluster.Topology(
            cluster_pb2.TopologyRequest(), timeout=RPC_TIMEOUT_S
        )
        return answer

    def is_settled(self) -> bool:
        """Whether every node answers and every partition is led by the node that should lead it."""
        try:
            status = self._cluster.Status(cluster_pb2.StatusRequest(), timeout=RPC_TIMEOUT_S)
            topology = self.topology()
        except grpc.RpcError:  # it is asked again
            return False
        everybody = all(node.reachable for node in status.nodes) and not status.unavailable_partitions
        return everybody and all(
            owner == partition.replicas[0]
            for owner, partition in zip(owners_of(topology), topology.partitions, strict=True)
        )

    def wait_until_settled(self) -> None:
        """Raises BenchmarkFailed."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while not self.is_settled():
            if time.monotonic() > deadline:
                raise BenchmarkFailed(
                    f"after {SETTLE_TIMEOUT_S:.0f} s not every partition is led by the node it should"
                )
            time.sleep(SETTLE_PAUSE_S)

    def call(self, method: str, request: Message) -> Message:
        answer: Message = getattr(self._kv, method)(request, timeout=RPC_TIMEOUT_S)
        return answer

    def import_records(self, count: int) -> None:
        """Write so many records that match the query of the page. Raises RuntimeError if one was refused."""
        numbers = iter(range(count))
        waiting = []
        while keys := [key_of(number) for number in islice(numbers, IMPORT_BATCH)]:
            waiting.append(self._kv.Batch.future(indexed_batch(keys), timeout=RPC_TIMEOUT_S))
            if len(waiting) == IMPORTS_IN_FLIGHT:
                refuse_failures(waiting.pop(0).result())
        for answer in waiting:
            refuse_failures(answer.result())


def refuse_failures(response: kv_pb2.BatchResponse) -> None:
    for result in response.results:
        if result.HasField("error"):
            raise RuntimeError(f"a record could not be imported: {result.error.message}")


class Workloads:
    """Makes the workloads for a running cluster whose nodes are the topology's, in its order."""

    def __init__(self, gateway: Gateway) -> None:
        topology = gateway.topology()
        self._gateway = gateway
        self._addresses = [node.grpc_address for node in topology.nodes]
        self._keys = owned_keys(topology, KEYS_PER_NODE)
        for key in (key for own in self._keys for key in own):
            gateway.call("Set", set_request(key))

    def get_owner(self) -> Workload:
        return self._of_keys("get_owner", "Get at the owner", "Get", get_request, distance=0)

    def get_forwarded(self) -> Workload:
        return self._of_keys("get_forwarded", "Get through another node", "Get", get_request, distance=1)

    def set_owner(self) -> Workload:
        return self._of_keys("set", "Set at the owner", "Set", set_request, distance=0)

    def set_forwarded(self) -> Workload:
        return self._of_keys("set_forwarded", "Set through another node", "Set", set_request, distance=1)

    def batch(self) -> Workload:
        """Batches over all partitions, to all nodes."""
        slots = zip(cycle(self._addresses), range(BATCHES_IN_FLIGHT), strict=False)
        requests = [
            (address, batch_request([key_of(BATCH_KEYS * slot + number) for number in range(BATCH_KEYS)]))
            for address, slot in slots
        ]
        streams = [stream("Batch", address, request) for address, request in requests]
        answer_bytes = self._gateway.call("Batch", requests[0][1]).ByteSize()
        title = f"Set in batches of {BATCH_KEYS} (keys)"
        method = full_name("Batch")
        return Workload("batch", title, method, lambda _: streams, answer_bytes, operations_per_request=BATCH_KEYS)

    def get_alone(self) -> Workload:
        """One Get after the other at the owner, for its latency."""
        keys = [own[0] for own in self._keys]
        answer_bytes = self._gateway.call("Get", get_request(keys[0])).ByteSize()

        def streams(number: int) -> list[Stream]:
            ((address, key),) = self._placed([keys[number % len(keys)]], distance=0)
            return [stream("Get", address, get_request(key))]

        title = "Get at the owner, one at a time"
        return Workload("get_alone", title, full_name("Get"), streams, answer_bytes, with_latencies=True)

    def page(self, matches: int) -> Workload:
        """One first page after the other, of all records that were imported."""
        request = page_request(PAGE_LIMIT)
        rotations = [[stream("GetByIndex", address, request)] for address in self._addresses]
        answer_bytes = self._gateway.call("GetByIndex", request).ByteSize()
        title = f"First page of {PAGE_LIMIT} from {matches:,} matches, one at a time"
        method = full_name("GetByIndex")
        return Workload(
            "page",
            title,
            method,
            lambda number: rotations[number % len(rotations)],
            answer_bytes,
            with_latencies=True,
        )

    def _of_keys(
        self, name: str, title: str, method: str, request_of: Callable[[bytes], Message], *, distance: int
    ) -> Workload:
        """One stream per key, to the node `distance` places after the owner; IN_FLIGHT requests at a time in all."""
        keys = [key for own in self._keys for key in own]
        shares = shared(IN_FLIGHT, len(keys))
        answer_bytes = self._gateway.call(method, request_of(keys[0])).ByteSize()

        def streams(_: int) -> list[Stream]:
            return [
                stream(method, address, request_of(key), in_flight)
                for (address, key), in_flight in zip(self._placed(keys, distance), shares, strict=True)
            ]

        return Workload(name, title, full_name(method), streams, answer_bytes)

    def _placed(self, keys: Sequence[bytes], distance: int) -> Iterator[tuple[str, bytes]]:
        """Each key with the address of the node `distance` places after its owner of now. Raises BenchmarkFailed."""
        topology = self._gateway.topology()
        for key in keys:
            owner = owner_of(topology, key)
            if owner is None:
                raise BenchmarkFailed(f"nobody is known to own {key!r}")
            yield self._addresses[(owner + distance) % len(self._addresses)], key


def full_name(method: str) -> str:
    return f"ringhold.v1.KV/{method}"


def stream(method: str, address: str, request: Message, in_flight: int = 1) -> Stream:
    return Stream(address, f"/{full_name(method)}", framed(request.SerializeToString()), in_flight)


def shared(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most.

    >>> shared(64, 21)[:3], sum(shared(64, 21))
    ([4, 3, 3], 64)
    """
    share, rest = divmod(total, parts)
    return [share + (number < rest) for number in range(parts)]
