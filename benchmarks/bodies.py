"""What is sent: requests as gRPC frames in files, for keys whose owners are known."""

from collections.abc import Sequence
from struct import Struct

from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ringhold.ring.hashing import partition_of

VALUE = bytes(range(100))
INDEX = "colour"
INDEX_VALUE = b"red"

_FRAME_HEADER = Struct(">BI").pack


def framed(message: bytes) -> bytes:
    """A message as gRPC puts it into an HTTP/2 body: not compressed (0), its length, itself.

    >>> framed(b"ab")
    b'\\x00\\x00\\x00\\x00\\x02ab'
    """
    return _FRAME_HEADER(0, len(message)) + message


def key_of(number: int) -> bytes:
    """Keys of 16 bytes.

    >>> key_of(7)
    b'key-000000000007'
    """
    return b"key-%012d" % number


def owners_of(topology: cluster_pb2.TopologyResponse) -> list[int | None]:
    """For each partition the position of its leader's node; None where that is unknown."""
    return [partition.leader if partition.HasField("leader") else None for partition in topology.partitions]


def owner_of(topology: cluster_pb2.TopologyResponse, key: bytes) -> int | None:
    """The position of the node that owns a key now; None if that is unknown."""
    owners = owners_of(topology)
    return owners[partition_of(key, len(owners))]


def owned_keys(topology: cluster_pb2.TopologyResponse, per_node: int, first: int = 0) -> list[list[bytes]]:
    """For each node, in the topology's order, keys that it owns, each of another partition, from the `first` on.

    Raises ValueError if a node owns fewer partitions, or a partition's owner is unknown.
    """
    owners = owners_of(topology)
    if None in owners or any(owners.count(node) < per_node for node in range(len(topology.nodes))):
        raise ValueError(f"not every node is known to own {per_node} partitions: {owners}")
    keys: list[list[bytes]] = [[] for _ in topology.nodes]
    used: set[int] = set()
    number = first
    while any(len(own) < per_node for own in keys):
        key = key_of(number)
        number += 1
        partition = partition_of(key, len(owners))
        owner = owners[partition]
        if owner is not None and partition not in used and len(keys[owner]) < per_node:
            used.add(partition)
            keys[owner].append(key)
    return keys


def get_request(key: bytes) -> kv_pb2.GetRequest:
    return kv_pb2.GetRequest(key=key)


def set_request(key: bytes, value: bytes = VALUE) -> kv_pb2.SetRequest:
    """Without a request_id: the gateway makes one, so that each repetition is a write of its own."""
    return kv_pb2.SetRequest(key=key, value=value)


def batch_request(keys: Sequence[bytes]) -> kv_pb2.BatchRequest:
    return kv_pb2.BatchRequest(operations=[kv_pb2.Operation(set=set_request(key)) for key in keys])


def indexed_batch(keys: Sequence[bytes], value: bytes = INDEX_VALUE) -> kv_pb2.BatchRequest:
    """A batch whose records all match the query of `page_request` for that index value."""
    request = batch_request(keys)
    for operation in request.operations:
        operation.set.indexes.add(name=INDEX, value=value)
    return request


def page_request(limit: int, value: bytes = INDEX_VALUE) -> kv_pb2.GetByIndexRequest:
    return kv_pb2.GetByIndexRequest(index=INDEX, equals=value, limit=limit)
