"""GrpcTransports on free ports of this machine, with handlers that remember."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from support.polling import until

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, Hello, Request
from ringhold.api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerStub, add_PeerServicer_to_server
from ringhold.node.peers.boots import Boot, Boots
from ringhold.node.peers.grpc_transport import GrpcTransport
from ringhold.node.peers.heard import Heard as HeardEngine
from ringhold.node.peers.heard import HeardEngines
from ringhold.node.peers.transport import Session
from ringhold.node.storage.mark import NOWHERE, Position
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.supervisor import Supervisor


@dataclass
class Heard:
    """What a handler was told, in order."""

    began: list[Session] = field(default_factory=list)
    ended: list[Session] = field(default_factory=list)
    frames: list[tuple[str, int]] = field(default_factory=list)
    beats: list[tuple[str, int]] = field(default_factory=list)

    def session_began(self, session: Session) -> None:
        self.began.append(session)

    def frame_received(self, session: Session, frame: Frame) -> None:
        self.frames += [(session.peer_id, request.id) for request in frame.requests]

    def session_ended(self, session: Session) -> None:
        self.ended.append(session)

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        self.beats.append((peer_id, beat.number))

    @property
    def open(self) -> list[Session]:
        """The sessions that have begun and not ended, oldest first."""
        return [session for session in self.began if session not in self.ended]


@dataclass
class Peer:
    """A node as far as the transport goes."""

    node_id: str
    cluster_id: str
    heard: Heard
    transport: GrpcTransport
    supervisor: Supervisor
    known: dict[str, tuple[int, int]]
    """What gossip knows of the others' starts."""
    engines: HeardEngines
    """How far it has heard the others' engines to be."""
    ghost: list[HeardEngine]
    """What told it that it runs on an old state of its disk."""
    progress: "Came"
    failures: list[BaseException]
    server: grpc.aio.Server
    address: str

    async def crash(self) -> None:
        await self.server.stop(0)
        await self.stop()

    async def stop(self) -> None:
        await self.transport.stop()
        await self.supervisor.stop()
        await self.server.stop(0)
        assert self.failures == []


@dataclass
class Came:
    """How far the node's engine is, as a test says."""

    opened: Position
    synced: Position


async def start(
    node_id: str,
    *,
    cluster_id: str = "c1",
    port: int = 0,
    generation: int = 1,
    nonce: int = 0,
    engine: Position = NOWHERE,
    disk: MemoryEngine | None = None,
) -> Peer:
    """`engine`: how far it was when it was opened, and is. `disk`: where what it heard of others is kept."""
    known: dict[str, tuple[int, int]] = {}
    failures: list[BaseException] = []
    supervisor = Supervisor(lambda _, error: failures.append(error))
    engines, ghost = HeardEngines(disk or MemoryEngine()), list[HeardEngine]()
    progress = Came(engine, engine)
    boots = Boots(Boot(generation, nonce, engine), progress, known.get, engines, ghost.append)
    transport = GrpcTransport(node_id, lambda: cluster_id, boots, supervisor, random.Random(1))
    heard = Heard()
    transport.start(heard)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_PeerServicer_to_server(transport, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    address = f"127.0.0.1:{port}"
    return Peer(
        node_id, cluster_id, heard, transport, supervisor, known, engines, ghost, progress, failures, server, address
    )


@asynccontextmanager
async def peers(*node_ids: str) -> AsyncIterator[list[Peer]]:
    """Nodes of one cluster that do not know of each other yet."""
    started = [await start(node_id) for node_id in node_ids]
    try:
        yield started
    finally:
        for peer in started:
            await peer.stop()


def introduce(*members: Peer) -> None:
    """Each is told of all the others."""
    for peer in members:
        peer.transport.reach({other.node_id: other.address for other in members if other is not peer})


async def beating(one: Peer, other: Peer, number: int = 1) -> None:
    """Return when beats of this number have come both ways; they are sent until then."""

    async def have_come() -> bool:
        one.transport.send_beat(other.node_id, Beat(number=number))
        other.transport.send_beat(one.node_id, Beat(number=number))
        return (one.node_id, number) in other.heard.beats and (other.node_id, number) in one.heard.beats

    await until(have_come)


@dataclass
class Caller:
    """A stream that a test dials, and speaks by hand."""

    call: "grpc.aio.StreamStreamCall[Any, Any]"
    kind: type[Frame] | type[Beat]
    hello: Hello

    async def greet(self) -> grpc.StatusCode:
        """How the stream ends that begins so; OK if it is let in."""
        try:
            await self.call.write(self.kind(hello=self.hello))
            answer = await self.call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
        assert isinstance(answer, self.kind)
        return grpc.StatusCode.OK

    async def is_over(self) -> bool:
        """Wait until the other side ends the stream."""
        try:
            return not isinstance(await self.call.read(), self.kind)
        except grpc.aio.AioRpcError:
            return True


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Callable[[type[Frame] | type[Beat], Hello], Caller]]:
    """Makes streams of frames or of beats to an address."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = PeerStub(channel)

        def caller(kind: type[Frame] | type[Beat], hello: Hello) -> Caller:
            return Caller(stub.Exchange() if kind is Frame else stub.Beats(), kind, hello)

        yield caller


async def knock(address: str, hello: Hello, kind: type[Frame] | type[Beat] = Frame) -> grpc.StatusCode:
    """How a stream ends that begins like this; OK if it is let in."""
    async with calling(address) as caller:
        return await caller(kind, hello).greet()


def numbered(number: int) -> Frame:
    return Frame(requests=[Request(id=number)])
