"""A transport whose sessions a test opens, ends and answers by hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, Frame, ReadRequest, Reply, Request
from ringhold.node.peers.exchange import Exchange, ExchangeConfig, Respond
from ringhold.node.peers.transport import SessionEnded, SessionHandler
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


class HandTransport:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.handler: SessionHandler | None = None
        self.addresses: dict[str, str] = {}
        self.is_stopped = False

    def start(self, handler: SessionHandler) -> None:
        self.handler = handler

    def reach(self, addresses: Mapping[str, str]) -> None:
        self.addresses = dict(addresses)

    async def stop(self) -> None:
        self.is_stopped = True


@dataclass
class HandServer:
    """Keeps the requests of peers until the test answers them."""

    asked: list[tuple[Request, Respond]] = field(default_factory=list)

    def serve(self, request: Request, respond: Respond) -> None:
        self.asked.append((request, respond))


@dataclass
class Peers:
    """An exchange with what lies around it."""

    exchange: Exchange
    transport: HandTransport
    server: HandServer
    failures: list[BaseException]

    def connect(self, peer_id: str = "b") -> HandSession:
        session = HandSession(peer_id)
        self.exchange.session_began(session)
        return session

    def ask(self, number: int = 0, peer_id: str = "b", timeout_s: float = 1.0, size: int = 0) -> asyncio.Future[Reply]:
        return self.exchange.request(peer_id, question(number, size), timeout_s)

    def answer(self, session: HandSession, *replies: Reply) -> None:
        self.exchange.frame_received(session, Frame(replies=replies))


@asynccontextmanager
async def exchanging(config: ExchangeConfig | None = None) -> AsyncIterator[Peers]:
    """An exchange that is started; no task of it is left at the end, and none has failed."""
    failures: list[BaseException] = []
    supervisor = Supervisor(lambda _, error: failures.append(error))
    transport, server = HandTransport(), HandServer()
    exchange = Exchange(transport, server, supervisor, config)
    exchange.start()
    yield Peers(exchange, transport, server, failures)
    await exchange.stop()
    await supervisor.stop()
    assert failures == []


def question(number: int, size: int = 0) -> Request:
    """A request that can be told from others."""
    return Request(read=ReadRequest(group=number, keys=[bytes(size)]))


def reply_to(request: Request) -> Reply:
    """The reply that repeats the number of the question."""
    return Reply(id=request.id, describe=DescribeReply(replicas=request.read.group))
