"""NetworkTransports on free ports of this machine, with handlers that remember."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic

import grpc
from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, WSMessage, WSMsgType, web
from support.polling import until

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, Hello, RaftFrame, RaftMessage, Request
from ringhold.api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerStub, add_PeerServicer_to_server
from ringhold.node.peers.boots import Boot, Boots
from ringhold.node.peers.heard import Heard as HeardEngine
from ringhold.node.peers.heard import HeardEngines
from ringhold.node.peers.network_transport import NetworkTransport
from ringhold.node.peers.raft_sockets import RAFT_PATH, accepting
from ringhold.node.peers.transport import FrameKind, PeerAddress, Session
from ringhold.node.storage.mark import NOWHERE, Position
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.supervisor import Supervisor

Kind = type[Frame] | type[RaftFrame] | type[Beat]
KINDS: tuple[Kind, ...] = (Frame, RaftFrame, Beat)

ELSEWHERE = PeerAddress("127.0.0.1:1", "127.0.0.1:1")
"""Where nobody listens."""


@dataclass
class Heard(Generic[FrameKind]):
    """What a handler was told, in order."""

    began: list[Session[FrameKind]] = field(default_factory=list)
    ended: list[Session[FrameKind]] = field(default_factory=list)
    frames: list[tuple[str, int]] = field(default_factory=list)
    """Who sent, and the number of each request or the term of each message."""
    beats: list[tuple[str, int]] = field(default_factory=list)

    def session_began(self, session: Session[FrameKind], /) -> None:
        self.began.append(session)

    def frame_received(self, session: Session[FrameKind], frame: FrameKind, /) -> None:
        self.frames += [(session.peer_id, number) for number in numbers_of(frame)]

    def session_ended(self, session: Session[FrameKind], /) -> None:
        self.ended.append(session)

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        self.beats.append((peer_id, beat.number))

    @property
    def open(self) -> list[Session[FrameKind]]:
        """The sessions that have begun and not ended, oldest first."""
        return [session for session in self.began if session not in self.ended]


def numbers_of(frame: Frame | RaftFrame) -> list[int]:
    if isinstance(frame, Frame):
        return [request.id for request in frame.requests]
    return [message.term for message in frame.messages]


@dataclass
class Peer:
    """A node as far as the transport goes."""

    node_id: str
    cluster_id: str
    heard: Heard[Frame]
    raft: Heard[RaftFrame]
    transport: NetworkTransport
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
    runner: web.AppRunner
    address: PeerAddress

    def of(self, kind: Kind) -> "Heard[Any]":
        """What was heard by sessions of this kind."""
        return self.heard if kind is Frame else self.raft

    @property
    def ports(self) -> tuple[int, int]:
        """Of gRPC and HTTP."""
        return int(self.address.grpc.rpartition(":")[2]), int(self.address.http.rpartition(":")[2])

    async def crash(self) -> None:
        await self.server.stop(0)
        await self.stop()

    async def stop(self) -> None:
        await self.transport.stop()
        await self.runner.cleanup()
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
    ports: tuple[int, int] = (0, 0),
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
    transport = NetworkTransport(node_id, lambda: cluster_id, boots, supervisor, random.Random(1))
    heard, raft = Heard[Frame](), Heard[RaftFrame]()
    transport.start(heard, raft)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_PeerServicer_to_server(transport, server)
    grpc_port = server.add_insecure_port(f"127.0.0.1:{ports[0]}")
    await server.start()
    runner, http_address = await serve_http([accepting(transport.accept_raft)], ports[1])
    return Peer(
        node_id,
        cluster_id,
        heard,
        raft,
        transport,
        supervisor,
        known,
        engines,
        ghost,
        progress,
        failures,
        server,
        runner,
        PeerAddress(f"127.0.0.1:{grpc_port}", http_address),
    )


async def serve_http(routes: list[web.RouteDef], port: int = 0) -> tuple[web.AppRunner, str]:
    """A web server with these routes, and its address."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    host, port = runner.addresses[0]
    return runner, f"{host}:{port}"


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
        return (one.node_id, number) in other.raft.beats and (other.node_id, number) in one.raft.beats

    await until(have_come)


class Closed(Exception):
    """A socket was closed, with that code of gRPC's."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code


class SocketCall:
    """A socket of consensus that a test speaks by hand, as it does a call of gRPC's."""

    def __init__(self, client: ClientSession, address: str) -> None:
        self._client = client
        self._address = address
        self._socket: ClientWebSocketResponse | None = None

    async def write(self, frame: RaftFrame) -> None:
        if self._socket is None:
            self._socket = await self._client.ws_connect(f"http://{self._address}{RAFT_PATH}", autoclose=False)
        await self._socket.send_bytes(frame.SerializeToString())

    async def read(self) -> RaftFrame | None:
        """Raises Closed."""
        assert self._socket is not None
        received: WSMessage = await self._socket.receive()
        if received.type is WSMsgType.BINARY:
            return RaftFrame.FromString(received.data)
        if received.type is WSMsgType.CLOSE and received.data == WSCloseCode.POLICY_VIOLATION:
            raise Closed(grpc.StatusCode[str(received.extra).partition(":")[0]])
        return None

    def cancel(self) -> None:
        """Break the connection, without a word."""
        assert self._socket is not None
        self._socket._response.close()


@dataclass
class Caller:
    """A stream that a test dials, and speaks by hand."""

    call: Any
    kind: Kind
    hello: Hello

    async def greet(self) -> grpc.StatusCode:
        """How the stream ends that begins so; OK if it is let in."""
        try:
            await self.call.write(self.kind(hello=self.hello))
            answer = await self.call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
        except Closed as closed:
            return closed.code
        assert isinstance(answer, self.kind)
        return grpc.StatusCode.OK

    async def is_over(self) -> bool:
        """Wait until the other side ends the stream."""
        try:
            return not isinstance(await self.call.read(), self.kind)
        except (grpc.aio.AioRpcError, Closed):
            return True


@asynccontextmanager
async def calling(address: PeerAddress) -> AsyncIterator[Callable[[Kind, Hello], Caller]]:
    """Makes streams of any kind to an address."""
    async with grpc.aio.insecure_channel(address.grpc) as channel, ClientSession() as client:
        stub = PeerStub(channel)

        def caller(kind: Kind, hello: Hello) -> Caller:
            if kind is RaftFrame:
                return Caller(SocketCall(client, address.http), kind, hello)
            return Caller(stub.Exchange() if kind is Frame else stub.Beats(), kind, hello)

        yield caller


async def knock(address: PeerAddress, hello: Hello, kind: Kind = Frame) -> grpc.StatusCode:
    """How a stream ends that begins like this; OK if it is let in."""
    async with calling(address) as caller:
        return await caller(kind, hello).greet()


def numbered(number: int) -> Frame:
    return Frame(requests=[Request(id=number)])


def of_term(term: int) -> RaftFrame:
    return RaftFrame(messages=[RaftMessage(term=term)])


def frame_of(kind: Kind, number: int) -> Any:
    """One that can be told from others."""
    return numbered(number) if kind is Frame else of_term(number)


def beats_up(peer: Peer) -> bool:
    """Whether there is a stream of beats, of any peer."""
    return bool(peer.transport._beat_senders)


async def wait_for(condition: Callable[[], object]) -> None:
    """Return when it holds."""

    async def holds() -> bool:
        return bool(condition())

    await until(holds)
