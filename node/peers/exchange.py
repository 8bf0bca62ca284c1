"""Requests and replies over frames: many to a frame; replies matched by number, requests with a timeout.

Many operations share one message because a message costs more than an operation (docs/protocols/peers.md). The exchange
knows nothing of what is said; it says truthfully whether a request that failed may have arrived.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import Frame, Reply, Request
from ..supervisor import Supervisor
from .channels import Budget, Channel, Channels
from .transport import Session

Respond = Callable[[Reply], None]
Message = TypeVar("Message", Request, Reply)


class RequestNotSent(Exception):
    """The request did not leave this node: certainly nothing happened."""


class RequestLost(Exception):
    """No answer came (timeout, session ended): the request may or may not have been carried out."""


class RequestServer(Protocol):
    """What answers the requests of peers."""

    def serve(self, request: Request, respond: Respond) -> None:
        """Call `respond` once, now or later; its reply need not carry the request's id."""


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """Bounds of the frames.

    frame_bytes_max: raising it makes fewer, larger messages, that hold back what comes after them.
    frame_messages_max: raising it makes the receiver's one callback per frame longer.
    requests_waiting_max: requests per peer without an answer; more are refused.
    replies_waiting_max: replies per peer that it does not take; at more its session is ended.
    """

    frame_bytes_max: int = 1024 * 1024
    frame_messages_max: int = 256
    requests_waiting_max: int = 4_096
    replies_waiting_max: int = 8_192


@dataclass(slots=True)
class Waiting:
    """A request without an answer."""

    answer: asyncio.Future[Reply]
    timer: asyncio.TimerHandle
    sent: bool = False


class RequestChannel(Channel[Frame]):
    """What waits on one session: to be sent, and for an answer."""

    def __init__(self, session: Session[Frame], config: ExchangeConfig) -> None:
        super().__init__(session)
        self._config = config
        self.waiting: dict[int, Waiting] = {}
        self.requests: list[Request] = []
        self.replies: list[Reply] = []

    @property
    def has_company(self) -> bool:
        return len(self.waiting) > 1 or len(self.replies) > 1

    def unsent(self) -> int:
        return len(self.requests) + len(self.replies)

    def take_frame(self) -> Frame:
        """Replies go first: others have waited for them."""
        budget = Budget(self._config.frame_messages_max, self._config.frame_bytes_max)
        replies = taken(self.replies, budget.fit(reply.ByteSize() for reply in self.replies))
        return Frame(replies=replies, requests=self._take_requests(budget))

    def _take_requests(self, budget: Budget) -> list[Request]:
        """Remove and return the first requests that fit; from now on they may have arrived."""
        leaving = taken(self.requests, budget.fit(request.ByteSize() for request in self.requests))
        for request in leaving:
            self.waiting[request.id].sent = True
        return leaving


class Exchange:
    """Asks peers and answers them over the sessions of a transport."""

    def __init__(self, server: RequestServer, supervisor: Supervisor, config: ExchangeConfig | None = None) -> None:
        self._server = server
        self._config = config or ExchangeConfig()
        self._last_id = 0
        self.channels = Channels[RequestChannel](
            "frames", supervisor, lambda broken: self.session_ended(broken.session)
        )

    def connected(self, peer_id: str) -> bool:
        return self.channels.open(peer_id) is not None

    @property
    def requests_waiting(self) -> int:
        return sum(len(channel.waiting) for channel in self.channels.all())

    def request(self, peer_id: str, request: Request, timeout_s: float) -> asyncio.Future[Reply]:
        """The peer's reply, to be awaited. Sets the request's id and timeout.

        Raises RequestNotSent; the future raises RequestNotSent or RequestLost.
        """
        channel = self.channels.open(peer_id)
        if channel is None:
            raise RequestNotSent(f"no session with node {peer_id}")
        if len(channel.waiting) >= self._config.requests_waiting_max:
            raise RequestNotSent(f"{len(channel.waiting)} requests to node {peer_id} wait for answers already")
        loop = asyncio.get_running_loop()
        self._last_id += 1
        request.id = self._last_id
        request.timeout_ms = max(1, int(timeout_s * 1000))
        timer = loop.call_later(timeout_s, self._timed_out, channel, request.id)
        waiting = Waiting(loop.create_future(), timer)
        channel.waiting[request.id] = waiting
        channel.requests.append(request)
        channel.fill()
        return waiting.answer

    def session_began(self, session: Session[Frame]) -> None:
        earlier = self.channels.at(session.peer_id)
        if earlier is not None:
            earlier.session.close()
            self.session_ended(earlier.session)
        self.channels.begin(RequestChannel(session, self._config))

    def session_ended(self, session: Session[Frame]) -> None:
        channel = self.channels.of(session)
        if channel is None:
            return
        self.channels.end(channel)
        for number, waiting in list(channel.waiting.items()):
            lost = RequestLost("the session ended") if waiting.sent else RequestNotSent("the session ended")
            self._fail(channel, number, lost)

    def frame_received(self, session: Session[Frame], frame: Frame) -> None:
        channel = self.channels.of(session)
        if channel is None:
            return
        for reply in frame.replies:
            waiting = channel.waiting.pop(reply.id, None)
            if waiting is not None:
                waiting.timer.cancel()
                if not waiting.answer.done():
                    waiting.answer.set_result(reply)
        for request in frame.requests:
            self._server.serve(request, self._responder(channel, request.id))

    def _responder(self, channel: RequestChannel, number: int) -> Respond:
        def respond(reply: Reply) -> None:
            if len(channel.replies) >= self._config.replies_waiting_max:
                self.channels.give_up(channel)
                return
            reply.id = number
            channel.replies.append(reply)
            channel.fill()

        return respond

    def _timed_out(self, channel: RequestChannel, number: int) -> None:
        if channel.waiting[number].sent:
            self._fail(channel, number, RequestLost("no answer in time"))
        else:
            channel.requests[:] = [request for request in channel.requests if request.id != number]
            self._fail(channel, number, RequestNotSent("the connection did not take the request in time"))

    @staticmethod
    def _fail(channel: RequestChannel, number: int, error: Exception) -> None:
        waiting = channel.waiting.pop(number)
        waiting.timer.cancel()
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


def taken(waiting: list[Message], count: int) -> list[Message]:
    """Remove and return the first `count`."""
    first = waiting[:count]
    del waiting[:count]
    return first
