"""A transport whose sessions a test opens, ends and answers by hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Generic

from support.virtual_time import pass_time

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import (
    Beat,
    DescribeReply,
    Frame,
    RaftFrame,
    RaftMessage,
    ReadRequest,
    Reply,
    Request,
    SnapshotChunk,
    SnapshotRequest,
)
from ringhold.node.peers.exchange import Exchange, ExchangeConfig, Respond
from ringhold.node.peers.peering import Peering
from ringhold.node.peers.raft_exchange import RaftExchange, RaftExchangeConfig
from ringhold.node.peers.transport import (
    Chunks,
    FrameKind,
    PeerAddress,
    RaftHandler,
    SessionEnded,
    SessionHandler,
    SnapshotServer,
)
from ringhold.node.supervisor import Supervisor


class HandSession(Generic[FrameKind]):
    """Takes a frame at a time while `taking`; a test reads `sent`."""

    def __init__(self, peer_id: str) -> None:
        self.sent: list[FrameKind] = []
        self.is_closed = False
        self.is_broken = False
        self.taking = asyncio.Event()
        self.taking.set()
        self._peer_id = peer_id

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, frame: FrameKind, /) -> None:
        await self.taking.wait()
        if self.is_broken or self.is_closed:
            raise SessionEnded("cut")
        self.sent.append(frame)

    def close(self) -> None:
        self.is_closed = True


class RequestSession(HandSession[Frame]):
    """One of requests and replies."""

    @property
    def requests(self) -> list[Request]:
        return [request for frame in self.sent for request in frame.requests]

    @property
    def replies(self) -> list[Reply]:
        return [reply for frame in self.sent for reply in frame.replies]


class RaftSession(HandSession[RaftFrame]):
    """One of consensus."""

    @property
    def terms(self) -> list[list[int]]:
        """The terms of the messages in each frame."""
        return [[message.term for message in frame.messages] for frame in self.sent]


class HandTransport:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.handlers: tuple[SessionHandler[Frame], RaftHandler] | None = None
        self.addresses: dict[str, PeerAddress] = {}
        self.beats: list[tuple[str, Beat]] = []
        self.is_stopped = False

    def start(self, requests: SessionHandler[Frame], raft: RaftHandler) -> None:
        self.handlers = requests, raft

    def reach(self, addresses: Mapping[str, PeerAddress]) -> None:
        self.addresses = dict(addresses)

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        self.beats.append((peer_id, beat))

    def serve_snapshots(self, server: SnapshotServer) -> None:
        self.snapshot_server = server

    async def fetch_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        """Nobody is there."""
        chunks: list[SnapshotChunk] = []
        for chunk in chunks:
            yield chunk
        raise SessionEnded("nobody is there")

    async def stop(self) -> None:
        self.is_stopped = True


@dataclass
class HandServer:
    """Keeps the requests of peers until the test answers them."""

    asked: list[tuple[Request, Respond]] = field(default_factory=list)

    def serve(self, request: Request, respond: Respond) -> None:
        self.asked.append((request, respond))


@dataclass
class HandConsensus:
    """Remembers what it was told, in order, and has heard the beat that the test says."""

    told: list[tuple[str, str]] = field(default_factory=list)
    received: list[tuple[str, list[int], int]] = field(default_factory=list)
    """(peer, terms of the messages, heard_beat) of each call."""
    beats: list[tuple[str, Beat]] = field(default_factory=list)
    heard: int = 0

    def session_began(self, peer_id: str) -> None:
        self.told.append((peer_id, "began"))

    def session_ended(self, peer_id: str) -> None:
        self.told.append((peer_id, "ended"))

    def receive(self, peer_id: str, messages: Sequence[RaftMessage], heard_beat: int) -> None:
        self.told.append((peer_id, "received"))
        self.received.append((peer_id, [message.term for message in messages], heard_beat))

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        self.beats.append((peer_id, beat))

    def heard_beat(self, peer_id: str) -> int:
        return self.heard


@dataclass
class Peers:
    """Both exchanges with what lies around them."""

    peering: Peering
    transport: HandTransport
    server: HandServer
    consensus: HandConsensus
    failures: list[BaseException]

    @property
    def exchange(self) -> Exchange:
        return self.peering.requests

    @property
    def raft(self) -> RaftExchange:
        return self.peering.raft

    def connect(self, peer_id: str = "b") -> RequestSession:
        session = RequestSession(peer_id)
        self.exchange.session_began(session)
        return session

    def connect_raft(self, peer_id: str = "b") -> RaftSession:
        session = RaftSession(peer_id)
        self.raft.session_began(session)
        return session

    def ask(self, number: int = 0, peer_id: str = "b", timeout_s: float = 1.0, size: int = 0) -> asyncio.Future[Reply]:
        return self.exchange.request(peer_id, question(number, size), timeout_s)

    def post(self, *terms: int, peer_id: str = "b", size: int = 0) -> None:
        for term in terms:
            self.raft.post(peer_id, message(term, size))

    def answer(self, session: RequestSession, *replies: Reply) -> None:
        self.exchange.frame_received(session, Frame(replies=replies))


@asynccontextmanager
async def exchanging(
    config: ExchangeConfig | None = None, raft_config: RaftExchangeConfig | None = None
) -> AsyncIterator[Peers]:
    """Both exchanges, started; no task of theirs is left at the end, and none has failed."""
    failures: list[BaseException] = []
    supervisor = Supervisor(lambda _, error: failures.append(error))
    transport, server, consensus = HandTransport(), HandServer(), HandConsensus()
    raft = RaftExchange(transport, consensus, supervisor, raft_config)
    peering = Peering(transport, Exchange(server, supervisor, config), raft)
    peering.start()
    yield Peers(peering, transport, server, consensus, failures)
    await peering.stop()
    await supervisor.stop()
    assert failures == []


def question(number: int, size: int = 0) -> Request:
    """A request that can be told from others."""
    return Request(read=ReadRequest(group=number, keys=[bytes(size)]))


def message(term: int, size: int = 0) -> RaftMessage:
    """A consensus message that can be told from others."""
    return RaftMessage(term=term, entries=[bytes(size)] if size else [])


def reply_to(request: Request) -> Reply:
    """The reply that repeats the number of the question."""
    return Reply(id=request.id, describe=DescribeReply(replicas=request.read.group))


async def disturb(peers: Peers, sessions: list[RequestSession], rng: Random) -> None:
    """Something happens between the last session and its peer, by chance."""
    session = sessions[-1]
    match rng.randrange(5):
        case 0 if session.requests:
            peers.answer(rng.choice(sessions), reply_to(rng.choice(session.requests)))
        case 1 if rng.random() < 0.3:
            sessions.append(peers.connect())
        case 2 if rng.random() < 0.2:
            peers.exchange.session_ended(session)
            sessions.append(peers.connect())
        case _:
            await stall(session, rng)


async def disturb_raft(peers: Peers, sessions: list[RaftSession], rng: Random) -> None:
    """As `disturb`, for a session of consensus."""
    session = sessions[-1]
    match rng.randrange(5):
        case 0 if rng.random() < 0.3:
            sessions.append(peers.connect_raft())
        case 1 if rng.random() < 0.2:
            peers.raft.session_ended(session)
            sessions.append(peers.connect_raft())
        case _:
            await stall(session, rng)


async def stall(session: RequestSession | RaftSession, rng: Random) -> None:
    """The connection takes no more, or takes something again, or time passes."""
    match rng.randrange(3):
        case 0:
            session.taking.clear()
        case 1:
            session.taking.set()
        case _:
            await pass_time(rng.uniform(0, 0.02))
