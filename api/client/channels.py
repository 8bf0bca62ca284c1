"""What both shells need of gRPC: the methods by the type of their request, channel options, the clock."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from ..proto.ringhold.v1 import cluster_pb2, kv_pb2
from .config import ClientConfig

RECONNECT_MS_MIN = 100
RECONNECT_MS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the contract, by its full name, and the type of its answer."""

    path: str
    response: type[Message]


METHODS: Final[Mapping[type[Message], Method]] = {
    kv_pb2.GetRequest: Method("/ringhold.v1.KV/Get", kv_pb2.GetResponse),
    kv_pb2.SetRequest: Method("/ringhold.v1.KV/Set", kv_pb2.SetResponse),
    kv_pb2.DeleteRequest: Method("/ringhold.v1.KV/Delete", kv_pb2.DeleteResponse),
    kv_pb2.GetByIndexRequest: Method("/ringhold.v1.KV/GetByIndex", kv_pb2.GetByIndexResponse),
    kv_pb2.BatchRequest: Method("/ringhold.v1.KV/Batch", kv_pb2.BatchResponse),
    kv_pb2.ResolveRequest: Method("/ringhold.v1.KV/Resolve", kv_pb2.ResolveResponse),
    cluster_pb2.TopologyRequest: Method("/ringhold.v1.Cluster/Topology", cluster_pb2.TopologyResponse),
    cluster_pb2.StatusRequest: Method("/ringhold.v1.Cluster/Status", cluster_pb2.StatusResponse),
    cluster_pb2.ChangeRequest: Method("/ringhold.v1.Cluster/Change", cluster_pb2.ChangeResponse),
    cluster_pb2.ExplainRequest: Method("/ringhold.v1.Cluster/Explain", cluster_pb2.ExplainResponse),
}

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts while the machine is suspended, where the system has such a clock."""


def now_s() -> float:
    return time.clock_gettime(CLOCK)


def channel_options(config: ClientConfig) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.max_send_message_length", config.message_bytes_max),
        ("grpc.max_receive_message_length", config.message_bytes_max),
        ("grpc.max_metadata_size", config.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", config.metadata_bytes_max),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(config.keepalive_timeout_s * 1000)),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
        ("grpc.enable_http_proxy", 0),  # the addresses of nodes are meant as they are
        ("grpc.enable_retries", 0),  # repeating is our business: it needs to know what was in doubt
    )
