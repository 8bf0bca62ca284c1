"""The client's core by hand: a picture of two nodes, and calls driven step by step. Events in, effects out."""

import random
from typing import Any

from ringhold.api.client.calls import Answered, Call, Failed, Finish, Send, Sleep, Slept
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.core import Core
from ringhold.api.errors import RingholdError, error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ringhold.api.status import to_operation_error
from ringhold.ring.hashing import partition_of

PARTITIONS = 4
ENDPOINTS = ("a:1", "b:1")


def topology(epoch: int = 1, log_time_ms: int = 7_000) -> cluster_pb2.TopologyResponse:
    """Two nodes: a leads the even partitions, b the odd ones."""
    normal = cluster_pb2.NODE_STATE_NORMAL
    return cluster_pb2.TopologyResponse(
        cluster_id="c",
        epoch=epoch,
        nodes=[cluster_pb2.Node(id=name, name=name, grpc_address=f"{name}:1", state=normal) for name in ("a", "b")],
        partitions=[
            cluster_pb2.Partition(replicas=[p % 2], leader=p % 2, log_time_ms=log_time_ms) for p in range(PARTITIONS)
        ],
    )


def new_core(config: ClientConfig | None = None) -> Core:
    return Core(ENDPOINTS, 10.0, config or ClientConfig(), random.Random(7))


def told_core(now: float = 0.0, log_time_ms: int = 7_000) -> Core:
    """A core that knows the topology."""
    core = new_core()
    call = core.topology(None)
    assert isinstance(call.start(now), Send)
    assert isinstance(call.handle(Answered(topology(log_time_ms=log_time_ms)), now), Finish)
    return core


def error(reason: str, **details: str) -> RingholdError:
    return error_for(reason, f"why {reason}", details)


def header(key: bytes, log_time_ms: int = 8_000, epoch: int = 1) -> kv_pb2.Header:
    return kv_pb2.Header(partition=partition_of(key, PARTITIONS), topology_epoch=epoch, log_time_ms=log_time_ms)


def key_led_by(address: str) -> bytes:
    return next(
        key
        for key in (b"k%d" % number for number in range(100))
        if ENDPOINTS[partition_of(key, PARTITIONS) % 2] == address
    )


def next_send(call: Call[Any], effect: Any, now: float) -> Send:
    """The next thing sent, pauses skipped."""
    while isinstance(effect, Sleep):
        effect = call.handle(Slept(), now)
    assert isinstance(effect, Send), effect
    return effect


def fail_attempts(call: Call[Any], effect: Any, reason: RingholdError, now: float = 0.0) -> tuple[list[Any], Any]:
    """Let every attempt fail in the same way and take the time it may: what was sent, and how it ended."""
    sent = []
    while isinstance(effect, Send | Sleep):
        if isinstance(effect, Sleep):
            now += effect.seconds
            effect = call.handle(Slept(), now)
        else:
            sent.append(effect)
            now += effect.timeout_s
            effect = call.handle(Failed(reason), now)
    return [send for send in sent if not isinstance(send.request, cluster_pb2.TopologyRequest)], effect


def batch_results(request: Any, ill: dict[bytes, RingholdError]) -> kv_pb2.BatchResponse:
    """Success for all operations but those on keys in `ill`."""
    results = []
    for operation in request.operations:
        asked = getattr(operation, str(operation.WhichOneof("kind")))
        if asked.key in ill:
            results.append(kv_pb2.OperationResult(error=to_operation_error(ill[asked.key])))
        elif operation.HasField("get"):
            results.append(kv_pb2.OperationResult(get=kv_pb2.GetResponse(value=b"v", header=header(asked.key))))
        else:
            results.append(kv_pb2.OperationResult(set=kv_pb2.SetResponse(version=1, header=header(asked.key))))
    return kv_pb2.BatchResponse(results=results)


def keys_of(request: Any) -> list[bytes]:
    return [getattr(op, str(op.WhichOneof("kind"))).key for op in request.operations]
