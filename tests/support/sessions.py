"""A transport whose sessions a test opens, ends and answers by hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from support.virtual_time import pass_time

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import (
    Beat,
    DescribeReply,
    Frame,
    RaftMessage,
    ReadRequest,
    Reply,
    Request,
    SnapshotChunk,
    SnapshotRequest,
)
from ringhold.node.peers.exchange import Exchange, ExchangeConfig, Respond
from ringhold.node.peers.transport import Chunks, SessionEnded, SessionHandler, SnapshotServer
from ringhold.node.supervisor import Supervisor


class HandSession:
    """Takes a frame at a time while `taking`; a test reads `sent`."""

    def __init__(self, peer_id: str) -> None:
        self.sent: list[Frame] = []
        self.is_closed = False
        self.is_broken = False
        self.taking = asyncio.Event()
        self.taking.set()
        self._peer_id = peer_id

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, frame: Frame) -> None:
        await self.taking.wait()
        if self.is_broken or self.is_closed:
            raise SessionEnded("cut")
        self.sent.append(frame)

    def close(self) -> None:
        self.is_closed = True

    @property
    def requests(self) -> list[Request]:
        return [request for frame in self.sent for request in frame.requests]

    @property
    def replies(self) -> list[Reply]:
        return [reply for frame in self.sent for reply in frame.replies]

    @property
    def terms(self) -> list[list[int]]:
        """The terms of the consensus messages in each frame."""
        return [[message.term for message in frame.raft] for frame in self.sent]


class HandTransport:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.handler: SessionHandler | None = None
        self.addresses: dict[str, str] = {}
        self.beats: list[tuple[str, Beat]] = []
        self.is_stopped = False

    def start(self, handler: SessionHandler) -> None:
        self.handler = handler

    def reach(self, addresses: Mapping[str, str]) -> None:
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
    """An exchange with what lies around it."""

    exchange: Exchange
    transport: HandTransport
    server: HandServer
    consensus: HandConsensus
    failures: list[BaseException]

    def connect(self, peer_id: str = "b") -> HandSession:
        session = HandSession(peer_id)
        self.exchange.session_began(session)
        return session

    def ask(self, number: int = 0, peer_id: str = "b", timeout_s: float = 1.0, size: int = 0) -> asyncio.Future[Reply]:
        return self.exchange.request(peer_id, question(number, size), timeout_s)

    def post(self, *terms: int, peer_id: str = "b", size: int = 0) -> None:
        for term in terms:
            self.exchange.post(peer_id, message(term, size))

    def answer(self, session: HandSession, *replies: Reply) -> None:
        self.exchange.frame_received(session, Frame(replies=replies))


@asynccontextmanager
async def exchanging(config: ExchangeConfig | None = None) -> AsyncIterator[Peers]:
    """An exchange that is started; no task of it is left at the end, and none has failed."""
    failures: list[BaseException] = []
    supervisor = Supervisor(lambda _, error: failures.append(error))
    transport, server, consensus = HandTransport(), HandServer(), HandConsensus()
    exchange = Exchange(transport, server, consensus, supervisor, config)
    exchange.start()
    yield Peers(exchange, transport, server, consensus, failures)
    await exchange.stop()
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


async def disturb(peers: Peers, sessions: list[HandSession], rng: Random) -> None:
    """Something happens between the last session and its peer, by chance."""
    session = sessions[-1]
    match rng.randrange(6):
        case 0:
            session.taking.clear()
        case 1:
            session.taking.set()
        case 2 if session.requests:
            peers.answer(rng.choice(sessions), reply_to(rng.choice(session.requests)))
        case 3 if rng.random() < 0.3:
            sessions.append(peers.connect())
        case 4 if rng.random() < 0.2:
            peers.exchange.session_ended(session)
            sessions.append(peers.connect())
        case 5:
            await pass_time(rng.uniform(0, 0.02))
