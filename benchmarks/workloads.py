"""What is asked of the cluster, and the echo's counterpart of each: the same bodies, answers of the same size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import grpc
from google.protobuf.message import Message

from ringhold.api.proto.ringhold.v1 import cluster_pb2, cluster_pb2_grpc, kv_pb2, kv_pb2_grpc

from .bodies import batch_request, framed, get_request, indexed_batch, key_of, owned_keys, page_request, set_request
from .echo import path_of
from .load import Stream

IN_FLIGHT = 64
KEYS_PER_NODE = 7
BATCH_KEYS = 100
BATCHES_IN_FLIGHT = 12
PAGE_LIMIT = 100
IMPORT_BATCH = 500
IMPORTS_IN_FLIGHT = 4
RPC_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one method. `rotations` are what runs at once, one after the other in successive rounds."""

    name: str
    title: str
    method: str
    rotations: Sequence[Sequence[Stream]]
    answer_bytes: int
    operations_per_request: int = 1
    with_latencies: bool = False

    def streams(self, number: int) -> Sequence[Stream]:
        """What runs in the round `number`."""
        return self.rotations[number % len(self.rotations)]

    def echoed(self, number: int, echo_of: dict[str, str]) -> list[Stream]:
        """The same for the echo servers; `echo_of` gives the one that stands for a node."""
        path = path_of(self.answer_bytes)
        return [replace(stream, address=echo_of[stream.address], path=path) for stream in self.streams(number)]


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
        title = f"Set in batches of {BATCH_KEYS}"
        return Workload("batch", title, "Batch", [streams], answer_bytes, operations_per_request=BATCH_KEYS)

    def get_alone(self) -> Workload:
        """One Get after the other at the owner, for its latency."""
        rotations = [
            [stream("Get", address, get_request(own[0]))]
            for address, own in zip(self._addresses, self._keys, strict=True)
        ]
        answer_bytes = self._gateway.call("Get", get_request(self._keys[0][0])).ByteSize()
        title = "Get at the owner, one at a time"
        return Workload("get_alone", title, "Get", rotations, answer_bytes, with_latencies=True)

    def page(self, matches: int) -> Workload:
        """One first page after the other, of all records that were imported."""
        request = page_request(PAGE_LIMIT)
        rotations = [[stream("GetByIndex", address, request)] for address in self._addresses]
        answer_bytes = self._gateway.call("GetByIndex", request).ByteSize()
        title = f"First page of {PAGE_LIMIT} from {matches:,} matches, one at a time"
        return Workload("page", title, "GetByIndex", rotations, answer_bytes, with_latencies=True)

    def _of_keys(
        self, name: str, title: str, method: str, request_of: Callable[[bytes], Message], *, distance: int
    ) -> Workload:
        """One stream per key, to the node `distance` places after the owner; IN_FLIGHT requests at a time in all."""
        places = list(self._placed(distance))
        shares = shared(IN_FLIGHT, len(places))
        streams = [
            stream(method, address, request_of(key), in_flight)
            for (address, key), in_flight in zip(places, shares, strict=True)
        ]
        answer_bytes = self._gateway.call(method, request_of(places[0][1])).ByteSize()
        return Workload(name, title, method, [streams], answer_bytes)

    def _placed(self, distance: int) -> Iterator[tuple[str, bytes]]:
        for owner, own in enumerate(self._keys):
            address = self._addresses[(owner + distance) % len(self._addresses)]
            for key in own:
                yield address, key


def stream(method: str, address: str, request: Message, in_flight: int = 1) -> Stream:
    return Stream(address, f"/ringhold.v1.KV/{method}", framed(request.SerializeToString()), in_flight)


def shared(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most.

    >>> shared(64, 21)[:3], sum(shared(64, 21))
    ([4, 3, 3], 64)
    """
    share, rest = divmod(total, parts)
    return [share + (number < rest) for number in range(parts)]
