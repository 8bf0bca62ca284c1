"""Requests and replies over frames: many to a frame, matched by number, each with a timeout.

Many operations share one message because a message costs more than an operation (docs/protocols/peers.md). The exchange
knows nothing of what is asked; it says truthfully whether a request that failed may have arrived.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import Frame, Reply, Request
from ..gathering import gathered
from ..supervisor import Supervisor
from .transport import Session, SessionEnded, Transport

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
    """Bounds and pace of the frames.

    frame_bytes_max: raising it makes fewer, larger messages, that hold back what comes after them.
    frame_messages_max: raising it makes the receiver's one callback per frame longer.
    requests_waiting_max: requests per peer without an answer; more are refused.
    flush_s_max: at a stop, how long to wait for what is unsent; raising it delays the stop when a peer hangs.
    replies_waiting_max: replies per peer that it does not take; at more its session is ended.
    """

    frame_bytes_max: int = 1024 * 1024
    frame_messages_max: int = 256
    requests_waiting_max: int = 4_096
    replies_waiting_max: int = 8_192
    flush_s_max: float = 1.0


@dataclass(slots=True)
class Waiting:
    """A request without an answer."""

    answer: asyncio.Future[Reply]
    timer: asyncio.TimerHandle
    sent: bool = False


@dataclass(slots=True)
class Channel:
    """What waits on one session: to be sent, and for an answer."""

    session: Session
    waiting: dict[int, Waiting] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    flushed: asyncio.Event = field(default_factory=asyncio.Event)
    pump: asyncio.Task[None] | None = None

    @property
    def has_company(self) -> bool:
        """Whether more than one message is under way, so that others may be about to come."""
        return len(self.waiting) > 1 or len(self.replies) > 1

    def fill(self) -> None:
        """Something waits to be sent."""
        self.flushed.clear()
        self.filled.set()

    def unsent(self) -> int:
        return len(self.requests) + len(self.replies)


class Exchange:
    """Asks peers and answers them, over the sessions of a transport."""

    def __init__(
        self,
        transport: Transport,
        server: RequestServer,
        supervisor: Supervisor,
        config: ExchangeConfig | None = None,
    ) -> None:
        self._transport = transport
        self._server = server
        self._supervisor = supervisor
        self._config = config or ExchangeConfig()
        self._channels: dict[str, Channel] = {}
        self._last_id = 0

    def start(self) -> None:
        self._transport.start(self)

    def reach(self, addresses: Mapping[str, str]) -> None:
        """Keep sessions up with these nodes (gRPC address by node id)."""
        self._transport.reach(addresses)

    def connected(self, peer_id: str) -> bool:
        return peer_id in self._channels

    @property
    def requests_waiting(self) -> int:
        return sum(len(channel.waiting) for channel in self._channels.values())

    async def stop(self) -> None:
        """End all sessions, after what waits in them has been handed over; at the latest after `flush_s_max`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.flush_s_max):
                for channel in list(self._channels.values()):
                    await channel.flushed.wait()
        await self._transport.stop()
        for channel in list(self._channels.values()):
            self.session_ended(channel.session)

    def request(self, peer_id: str, request: Request, timeout_s: float) -> asyncio.Future[Reply]:
        """The peer's reply, to be awaited. Sets the request's id and timeout.

        Raises RequestNotSent; the future raises RequestNotSent or RequestLost.
        """
        channel = self._channels.get(peer_id)
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

    def session_began(self, session: Session) -> None:
        earlier = self._channels.get(session.peer_id)
        if earlier is not None:
            earlier.session.close()
            self.session_ended(earlier.session)
        channel = Channel(session)
        channel.flushed.set()
        self._channels[session.peer_id] = channel
        channel.pump = self._supervisor.spawn(f"frames to {session.peer_id}", self._pump(channel))

    def session_ended(self, session: Session) -> None:
        channel = self._channels.get(session.peer_id)
        if channel is None or channel.session is not session:
            return
        del self._channels[session.peer_id]
        if channel.pump is not None:
            channel.pump.cancel()
        for number, waiting in list(channel.waiting.items()):
            lost = RequestLost("the session ended") if waiting.sent else RequestNotSent("the session ended")
            self._fail(channel, number, lost)

    def frame_received(self, session: Session, frame: Frame) -> None:
        channel = self._channels.get(session.peer_id)
        if channel is None or channel.session is not session:
            return
        for reply in frame.replies:
            waiting = channel.waiting.pop(reply.id, None)
            if waiting is not None:
                waiting.timer.cancel()
                if not waiting.answer.done():
                    waiting.answer.set_result(reply)
        for request in frame.requests:
            self._server.serve(request, self._responder(channel, request.id))

    def _responder(self, channel: Channel, number: int) -> Respond:
        def respond(reply: Reply) -> None:
            reply.id = number
            channel.replies.append(reply)
            channel.fill()
            if len(channel.replies) > self._config.replies_waiting_max:
                channel.session.close()
                self.session_ended(channel.session)

        return respond

    def _timed_out(self, channel: Channel, number: int) -> None:
        if channel.waiting[number].sent:
            self._fail(channel, number, RequestLost("no answer in time"))
        else:
            channel.requests[:] = [request for request in channel.requests if request.id != number]
            self._fail(channel, number, RequestNotSent("the connection did not take the request in time"))

    @staticmethod
    def _fail(channel: Channel, number: int, error: Exception) -> None:
        waiting = channel.waiting.pop(number)
        waiting.timer.cancel()
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    async def _pump(self, channel: Channel) -> None:
        """Send what waits, one frame at a time: a frame fills while the one before it is in flight."""
        try:
            while True:
                await channel.filled.wait()
                if channel.has_company:
                    await gathered(channel.unsent)
                await channel.session.send(self._take_frame(channel))
                if not channel.unsent():
                    channel.flushed.set()
        except SessionEnded:
            self.session_ended(channel.session)
        finally:
            channel.flushed.set()

    def _take_frame(self, channel: Channel) -> Frame:
        """Everything that waits, up to the bounds of a frame; at least one message."""
        frame = Frame()
        budget = Budget(self._config.frame_messages_max, self._config.frame_bytes_max)
        replies = budget.take(channel.replies)
        frame.replies.extend(replies)
        requests = budget.take(channel.requests)
        frame.requests.extend(requests)
        for request in requests:
            channel.waiting[request.id].sent = True
        if not channel.replies and not channel.requests:
            channel.filled.clear()
        return frame


@dataclass(slots=True)
class Budget:
    """What still fits into a frame."""

    messages: int
    size: int

    def take(self, waiting: list[Message]) -> list[Message]:
        """Remove and return the first messages that fit; the very first always does."""
        count = 0
        for message in waiting:
            if self.messages <= 0 or self.size <= 0:
                break
            self.messages -= 1
            self.size -= message.ByteSize()
            count += 1
        taken = waiting[:count]
        del waiting[:count]
        return taken
