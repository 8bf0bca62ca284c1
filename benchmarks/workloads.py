"""What is asked of the cluster: bodies, and the nodes that they go to."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from ringhold.api.proto.ringhold.v1 import cluster_pb2, cluster_pb2_grpc, kv_pb2, kv_pb2_grpc

from .bodies import (
    INDEX_VALUE,
    VALUE,
    batch_request,
    framed,
    get_request,
    key_of,
    owned_keys,
    owner_of,
    owners_of,
    page_request,
    set_request,
)
from .failure import BenchmarkFailed
from .load import Stream

Place = TypeVar("Place")

KEYS_PER_NODE = 7
BATCH_KEYS = 100
BATCHES_IN_FLIGHT = 12
PAGE_LIMIT = 100
IMPORT_BATCH = 500
IMPORTS_IN_FLIGHT = 4
IMPORT_ATTEMPTS_MAX = 5
RPC_TIMEOUT_S = 30.0
IN_DOUBT = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
"""With these a batch may or may not have been written."""
SETTLE_TIMEOUT_S = 60.0
SETTLE_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one method, by its full name, whose answers have so many bytes.

    `streams` gives what runs at once in the round of a number; it is asked right before each run, since owners move.
    """

    title: str
    method: str
    streams: Callable[[int], Sequence[Stream]]
    answer_bytes: int
    operations_per_request: int = 1


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

    def import_records(
        self, count: int, batch_of: Callable[[Sequence[bytes]], kv_pb2.BatchRequest], first: int = 0
    ) -> None:
        """Write so many records by batches, from the key of the `first` on.

        A batch in doubt is sent again, for it is the same records. Raises RuntimeError if one was refused.
        """
        numbers = iter(range(first, first + count))
        waiting: list[tuple[kv_pb2.BatchRequest, grpc.Future[kv_pb2.BatchResponse]]] = []
        while keys := [key_of(number) for number in islice(numbers, IMPORT_BATCH)]:
            batch = batch_of(keys)
            waiting.append((batch, self._kv.Batch.future(batch, timeout=RPC_TIMEOUT_S)))
            if len(waiting) == IMPORTS_IN_FLIGHT:
                self._imported(*waiting.pop(0))
        for batch, answer in waiting:
            self._imported(batch, answer)

    def _imported(self, batch: kv_pb2.BatchRequest, answer: "grpc.Future[kv_pb2.BatchResponse]") -> None:
        for _ in range(IMPORT_ATTEMPTS_MAX - 1):
            try:
                refuse_failures(answer.result())
            except grpc.RpcError as error:
                if error.code() not in IN_DOUBT:
                    raise
            else:
                return
            answer = self._kv.Batch.future(batch, timeout=RPC_TIMEOUT_S)
        refuse_failures(answer.result())


def refuse_failures(response: kv_pb2.BatchResponse) -> None:
    for result in response.results:
        if result.HasField("error"):
            raise RuntimeError(f"a record could not be imported: {result.error.message}")


class Workloads:
    """Makes the workloads for a running cluster whose nodes are the topology's, in its order."""

    def __init__(
        self, gateway: Gateway, keys_per_node: int = KEYS_PER_NODE, value: bytes = VALUE, first: int = 0
    ) -> None:
        """`value` is set under each key; keys begin with that of the `first`."""
        topology = gateway.topology()
        self._gateway = gateway
        self._value = value
        self._addresses = [node.grpc_address for node in topology.nodes]
        self._keys = list(chain.from_iterable(zip(*owned_keys(topology, keys_per_node, first), strict=True)))
        for key in self._keys:
            gateway.call("Set", self._set_request(key))

    def gets(self, in_flight: int, *, distance: int = 0) -> Workload:
        """To the owner of the key, or to the node so many places after it."""
        return self._of_keys("Get", get_request, in_flight, distance)

    def sets(self, in_flight: int, *, distance: int = 0) -> Workload:
        return self._of_keys("Set", self._set_request, in_flight, distance)

    def batches(self) -> Workload:
        """Over all partitions, to all nodes."""
        slots = zip(cycle(self._addresses), range(BATCHES_IN_FLIGHT), strict=False)
        requests = [
            (address, batch_request([key_of(BATCH_KEYS * slot + number) for number in range(BATCH_KEYS)]))
            for address, slot in slots
        ]
        streams = [stream("Batch", address, request) for address, request in requests]
        answer_bytes = self._gateway.call("Batch", requests[0][1]).ByteSize()
        return Workload("Batch", full_name("Batch"), lambda _: streams, answer_bytes, operations_per_request=BATCH_KEYS)

    def pages(self, in_flight: int, value: bytes = INDEX_VALUE) -> Workload:
        """First pages of all records that were imported with the index value, from all nodes in turn."""
        request = page_request(PAGE_LIMIT, value)
        answer_bytes = self._gateway.call("GetByIndex", request).ByteSize()
        circle = self._addresses * KEYS_PER_NODE

        def streams(number: int) -> list[Stream]:
            shares = spread(circle, in_flight, number)
            return [stream("GetByIndex", address, request, share) for address, share in shares]

        return Workload("GetByIndex", full_name("GetByIndex"), streams, answer_bytes)

    def _set_request(self, key: bytes) -> kv_pb2.SetRequest:
        return set_request(key, self._value)

    def _of_keys(self, method: str, request_of: Callable[[bytes], Message], in_flight: int, distance: int) -> Workload:
        """One stream per key, so many requests at a time in all; with fewer than keys, other keys in each round."""
        answer_bytes = self._gateway.call(method, request_of(self._keys[0])).ByteSize()

        def streams(number: int) -> list[Stream]:
            shares = dict(spread(self._keys, in_flight, number))
            placed = self._placed(list(shares), distance)
            return [stream(method, address, request_of(key), shares[key]) for address, key in placed]

        return Workload(method, full_name(method), streams, answer_bytes)

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


def spread(places: Sequence[Place], total: int, first: int) -> list[tuple[Place, int]]:
    """`total` over the places, from the `first` on, in shares that differ by one at most; no place without a share.

    >>> spread("abc", 4, 1)
    [('b', 2), ('c', 1), ('a', 1)]
    >>> spread("abc", 1, 5)
    [('c', 1)]
    """
    share, rest = divmod(total, len(places))
    start = first % len(places)
    turned = [*places[start:], *places[:start]]
    return [(place, share + (number < rest)) for number, place in enumerate(turned) if share or number < rest]
