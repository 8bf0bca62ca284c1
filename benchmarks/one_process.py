"""Three whole nodes in one process over a wire in memory, to count what they do without gRPC's threads and sockets.

Frames and beats are serialised and parsed as on a real wire, and requests of clients come in as bytes. All that knows
how nodes speak with each other is `MemoryTransport` and `MemorySession`. Time is virtual (benchmarks/virtual_loop.py).
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeAlias

import grpc
from google.protobuf.message import Message

from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import (
    Beat,
    Frame,
    RaftFrame,
    SnapshotChunk,
    SnapshotRequest,
)
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.gossip.config import local
from ringhold.gossip.ports import FakeExchange, Handler
from ringhold.node.faces.calls import Calls
from ringhold.node.faces.kv import KV
from ringhold.node.introduction import NodeSettings
from ringhold.node.node import Node, NodeParts
from ringhold.node.peers.boots import Boots
from ringhold.node.peers.transport import (
    Chunks,
    FrameKind,
    PeerAddress,
    RaftHandler,
    SessionEnded,
    SessionHandler,
    SnapshotServer,
    Transport,
)
from ringhold.node.storage.cache import CachedEngine
from ringhold.node.storage.engine import Engine
from ringhold.node.storage.mark import MemoryMark, Position
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import NumberedEngine
from ringhold.node.storage.opening import open_engine
from ringhold.node.storage.space import FakeDevice
from ringhold.node.supervisor import Supervisor
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import Topology, group_of_partition

from .bodies import key_of
from .failure import BenchmarkFailed
from .virtual_loop import THREAD_S, LoopClock

NODES = ("n1", "n2", "n3")
PARTITIONS = 64
MEMORY = "memory"
WIRE_S = 0.0003
"""Virtual seconds until a frame arrives, and until the next one may leave."""

SETTLE_PAUSE_S = 0.05
SETTLE_S_MAX = 120.0
"""Of virtual time."""


Kind: TypeAlias = type[Frame] | type[RaftFrame]
"""What a session carries."""


class MemorySession(Generic[FrameKind]):
    """One end of a connection. The contract is on `ringhold.node.peers.transport.Session`."""

    def __init__(self, wires: "Wires", kind: type[FrameKind], node_id: str, peer_id: str) -> None:
        self._wires = wires
        self._kind: type[FrameKind] = kind
        self._node_id = node_id
        self._peer_id = peer_id

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, frame: FrameKind, /) -> None:
        self._wires.frames += 1
        asyncio.get_running_loop().call_later(WIRE_S, self._arrive, frame.SerializeToString())
        await asyncio.sleep(WIRE_S)

    def close(self) -> None:
        """Nothing here is ever slow enough to be given up."""

    def _arrive(self, encoded: bytes) -> None:
        other = self._wires.sessions[self._kind, self._peer_id, self._node_id]
        self._wires.handlers[self._kind, self._peer_id].frame_received(other, self._kind.FromString(encoded))


class MemoryTransport:
    """One node's sessions. The contract is on `ringhold.node.peers.transport.Transport`."""

    def __init__(self, wires: "Wires", node_id: str, boots: Boots) -> None:
        self._wires = wires
        self._node_id = node_id
        self._boots = boots

    def start(self, requests: SessionHandler[Frame], raft: RaftHandler) -> None:
        self._wires.handlers[Frame, self._node_id] = requests
        self._wires.handlers[RaftFrame, self._node_id] = raft

    def reach(self, addresses: Mapping[str, PeerAddress]) -> None:
        """Sessions are up as soon as both ends want them."""
        for peer_id in addresses:
            self._wires.want(self._node_id, peer_id)

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        self._boots.stamp(beat)
        asyncio.get_running_loop().call_later(WIRE_S, self._beat_arrives, peer_id, beat.SerializeToString())

    def _beat_arrives(self, peer_id: str, encoded: bytes) -> None:
        self._wires.handlers[RaftFrame, peer_id].beat_received(self._node_id, Beat.FromString(encoded))

    def serve_snapshots(self, server: SnapshotServer) -> None:
        """Nobody asks for any."""

    async def fetch_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        chunks: list[SnapshotChunk] = []
        for chunk in chunks:
            yield chunk
        raise SessionEnded("no node falls behind here")

    async def stop(self) -> None:
        """Whoever stops a node here ends the process."""


@dataclass
class Wires:
    """All connections between the nodes, and how many frames they have carried."""

    handlers: dict[tuple[Kind, str], Any] = field(default_factory=dict)
    """Who is told, by what the sessions carry and the node."""
    wanted: set[tuple[str, str]] = field(default_factory=set)
    sessions: dict[tuple[Kind, str, str], MemorySession[Any]] = field(default_factory=dict)
    frames: int = 0

    def want(self, node_id: str, peer_id: str) -> None:
        """A node means to have sessions with another."""
        self.wanted.add((node_id, peer_id))
        if (peer_id, node_id) in self.wanted and (Frame, peer_id, node_id) not in self.sessions:
            self._connect(Frame, node_id, peer_id)
            self._connect(RaftFrame, node_id, peer_id)

    def _connect(self, kind: Kind, *pair: str) -> None:
        loop = asyncio.get_running_loop()
        for node_id, peer_id in (pair, reversed(pair)):
            session = self.sessions[kind, node_id, peer_id] = MemorySession[Any](self, kind, node_id, peer_id)
            loop.call_soon(self.handlers[kind, node_id].session_began, session)


@dataclass(frozen=True)
class Called(grpc.HandlerCallDetails):
    """What gRPC tells of a call before its handler is known."""

    method: str
    invocation_metadata: tuple[()] = ()


class Context:
    """A call without a deadline, which must not fail."""

    def time_remaining(self) -> None:
        """The caller waits as long as it takes."""

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        raise BenchmarkFailed(f"a request was refused: {status.details}")


class Face:
    """A node as its clients call it: bytes in, bytes out, through the handlers that gRPC would call."""

    def __init__(self, node: Node, limits: Limits, clock: LoopClock) -> None:
        calls = Calls(node.check_ready, limits, clock, node.supervisor)
        gateway = node.gateway
        self._context = Context()
        self._service = calls.handler(
            KV,
            {
                "Get": (kv_pb2.GetRequest, gateway.get),
                "Set": (kv_pb2.SetRequest, gateway.set),
                "Batch": (kv_pb2.BatchRequest, gateway.batch),
                "GetByIndex": (kv_pb2.GetByIndexRequest, gateway.get_by_index),
            },
        )

    def method(self, name: str) -> Callable[[bytes], Any]:
        """A coroutine function: the encoded answer to an encoded request. Raises BenchmarkFailed."""
        handler: Any = self._service.service(Called(f"/{KV}/{name}"))
        answer, encode, context = handler.unary_unary, handler.response_serializer, self._context

        async def call(request: bytes) -> bytes:
            encoded: bytes = encode(await answer(request, context))
            return encoded

        return call


@dataclass(frozen=True)
class OneProcess:
    """The nodes, their engines and faces by node id, and the wires between them."""

    nodes: Mapping[str, Node]
    engines: Mapping[str, Engine]
    faces: Mapping[str, Face]
    wires: Wires
    failures: list[BaseException]

    @property
    def topology(self) -> Topology:
        return self.nodes[NODES[0]].store.known

    @property
    def batches_written(self) -> int:
        """By all engines so far."""
        return sum(engine.stats().batches_written for engine in self.engines.values())

    def is_settled(self) -> bool:
        """Whether all serve, and every partition is led by its preferred node."""
        if not all(node.ready for node in self.nodes.values()):
            return False
        leaders = ((group_of_partition(number), targets[0]) for number, targets in enumerate(self.topology.targets))
        return all(self.nodes[leader].groups.leads(group) for group, leader in leaders)

    def refuse_failures(self) -> None:
        """Raises BenchmarkFailed if a node has failed."""
        if self.failures:
            raise BenchmarkFailed("a node has failed") from self.failures[0]

    def keys_led_by(self, node_id: str, count: int) -> list[bytes]:
        """Keys whose partitions the node leads, each of another partition. Raises ValueError if it leads fewer."""
        led = {number for number, targets in enumerate(self.topology.targets) if targets[0] == node_id}
        if len(led) < count:
            raise ValueError(f"node {node_id} leads {len(led)} partitions, not {count}")
        keys: list[bytes] = []
        for key in map(key_of, itertools.count()):
            if len(keys) == count:
                break
            partition = partition_of(key, self.topology.partitions)
            if partition in led:
                led.remove(partition)
                keys.append(key)
        return keys

    async def call(self, node_id: str, method: str, request: Message) -> bytes:
        """The encoded answer of a node to a request, for what is not measured."""
        answer: bytes = await self.faces[node_id].method(method)(request.SerializeToString())
        return answer


def engine_of(kind: str, folder: Path) -> NumberedEngine:
    """As a node has it, but for the mark, which is in memory."""
    clock = LoopClock()
    if kind == MEMORY:
        engine: Engine = MemoryEngine(before_sync=lambda: clock.sleep(THREAD_S))
    else:
        folder.mkdir()
        engine = open_engine(kind, folder)
    return NumberedEngine(engine, MemoryMark(Position(1, 0), clock.now))


def settings_of(node_id: str, engine: str, limits: Limits) -> NodeSettings:
    return NodeSettings(
        node_id=node_id,
        generation=1,
        name=node_id,
        cluster="one-process",
        grpc_address=f"{node_id}:50051",
        http_address=http_address_of(node_id),
        host=node_id,
        zone="",
        weight=1,
        seeds=tuple(map(http_address_of, NODES)),
        expect=len(NODES),
        partitions=PARTITIONS,
        replication_factor=len(NODES),
        engine=engine,
        disk_reserve_bytes=0,
        snapshot_bytes_per_s_max=0,
        reads="lease",
        limits=limits,
        gossip=local(),
    )


def http_address_of(node_id: str) -> str:
    return f"{node_id}:50052"


def node_over(
    node_id: str,
    engine: NumberedEngine,
    settings: NodeSettings,
    wires: Wires,
    servers: dict[str, Handler],
    failures: list[BaseException],
) -> Node:
    """The node, not started, that answers the gossip of the `servers` as one of them."""

    def transport(cluster_id: Callable[[], str], boots: Boots, supervisor: Supervisor) -> Transport:
        return MemoryTransport(wires, node_id, boots)

    async def remember(cluster_id: str) -> None:
        """Nobody starts again here."""

    parts = NodeParts(
        engine=CachedEngine(engine),
        progress=engine,
        device=FakeDevice(),
        remember_cluster=remember,
        transport=transport,
        gossip_exchange=FakeExchange(servers, settings.http_address, lambda source, target: False),
        known_members=(),
        persist_member=lambda member: None,
        forget_member=lambda member: None,
        clock=LoopClock(),
        rng=random.Random(node_id),
        log=lambda event, /, **figures: None,
        on_failure=lambda part, error: failures.append(error),
    )
    node = Node(settings, parts)
    servers[settings.http_address] = node.handle_exchange
    return node


@asynccontextmanager
async def one_process(kind: str, folder: Path) -> AsyncIterator[OneProcess]:
    """A new cluster on engines of a kind in `folder`, settled; to be run by `run_virtually`. Raises BenchmarkFailed."""
    limits, wires = Limits(), Wires()
    servers: dict[str, Handler] = {}
    failures: list[BaseException] = []
    engines = {node_id: engine_of(kind, folder / node_id) for node_id in NODES}
    nodes = {
        node_id: node_over(node_id, engines[node_id], settings_of(node_id, kind, limits), wires, servers, failures)
        for node_id in NODES
    }
    faces = {node_id: Face(node, limits, LoopClock()) for node_id, node in nodes.items()}
    cluster = OneProcess(nodes, engines, faces, wires, failures)
    try:
        for node in nodes.values():
            await node.start()
        async with asyncio.timeout(SETTLE_S_MAX):
            while not cluster.is_settled():
                await asyncio.sleep(SETTLE_PAUSE_S)
                cluster.refuse_failures()
        yield cluster
        cluster.refuse_failures()
    finally:
        for node in nodes.values():
            await node.supervisor.stop()
        for engine in engines.values():
            engine.close()
