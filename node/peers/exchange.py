"""Consensus, requests and replies over frames: many to a frame; replies matched by number, requests with a timeout.

Many operations share one message because a message costs more than an operation (docs/protocols/peers.md). The exchange
knows nothing of what is said; it says truthfully whether a request that failed may have arrived.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, RaftMessage, Reply, Request
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


class ConsensusPort(Protocol):
    """Who is told what peers say of consensus; of these, only `heard_beat` is called from within `post` or a `respond`.

    For each peer `session_began` and `session_ended` alternate; all of a session's messages come between the two. Beats
    know no sessions.
    """

    def session_began(self, peer_id: str) -> None:
        """What is posted from now on arrives in order, without a gap, up to some point: the end of the session."""

    def session_ended(self, peer_id: str) -> None:
        """What was posted in the session may have arrived or not; nothing more comes of it."""

    def receive(self, peer_id: str, messages: Sequence[RaftMessage], heard_beat: int) -> None:
        """All messages of one frame, in the order in which the peer posted them.

        The peer had heard this node's beat `heard_beat` (0: none that it vouches for) when it posted the first of them.
        """

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        """A beat came; perhaps out of order, perhaps again."""

    def heard_beat(self, peer_id: str) -> int:
        """The number of the newest beat heard of the peer; 0: none."""


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """Bounds and pace of the frames.

    frame_bytes_max: raising it makes fewer, larger messages, that hold back what comes after them.
    frame_messages_max: raising it makes the receiver's one callback per frame longer.
    requests_waiting_max: requests per peer without an answer; more are refused.
    flush_s_max: at a stop, how long to wait for what is unsent; raising it delays the stop when a peer hangs.
    replies_waiting_max: replies per peer that it does not take; at more its session is ended.
    raft_waiting_max: bytes of consensus messages per peer that it does not take; at more its session is ended, and
        consensus begins again with the next one. Raising it costs memory when a peer hangs.
    """

    frame_bytes_max: int = 1024 * 1024
    frame_messages_max: int = 256
    requests_waiting_max: int = 4_096
    replies_waiting_max: int = 8_192
    raft_waiting_max: int = 32 * 1024 * 1024
    flush_s_max: float = 1.0


@dataclass(slots=True)
class Waiting:
    """A request without an answer."""

    answer: asyncio.Future[Reply]
    timer: asyncio.TimerHandle
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Posted:
    """A consensus message that waits to be sent; `heard_beat` is as of when it was posted."""

    message: RaftMessage
    size: int
    heard_beat: int


@dataclass(slots=True)
class Channel:
    """What waits on one session: to be sent, and for an answer. One that is given up takes nothing more."""

    session: Session
    is_given_up: bool = False
    waiting: dict[int, Waiting] = field(default_factory=dict)
    raft: deque[Posted] = field(default_factory=deque)
    raft_bytes: int = 0
    requests: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    flushed: asyncio.Event = field(default_factory=asyncio.Event)
    pump: asyncio.Task[None] | None = None

    @property
    def has_company(self) -> bool:
        """Whether more than one message is under way, so that others may be about to come.

        Consensus messages don't count: they are posted all at once, by the tick that wrote for all groups.
        """
        return len(self.waiting) > 1 or len(self.replies) > 1

    def fill(self) -> None:
        """Something waits to be sent."""
        self.flushed.clear()
        self.filled.set()

    def unsent(self) -> int:
        return len(self.raft) + len(self.requests) + len(self.replies)

    def take_raft(self, budget: "Budget") -> list[Posted]:
        """Remove and return the first consensus messages that fit."""
        leaving = [self.raft.popleft() for _ in range(budget.fit(posted.size for posted in self.raft))]
        self.raft_bytes -= sum(posted.size for posted in leaving)
        return leaving

    def take_replies(self, budget: "Budget") -> list[Reply]:
        """Remove and return the first replies that fit."""
        return taken(self.replies, budget.fit(reply.ByteSize() for reply in self.replies))

    def take_requests(self, budget: "Budget") -> list[Request]:
        """Remove and return the first requests that fit; from now on they may have arrived."""
        leaving = taken(self.requests, budget.fit(request.ByteSize() for request in self.requests))
        for request in leaving:
            self.waiting[request.id].sent = True
        return leaving


class Exchange:
    """Asks peers and answers them, and carries their consensus, over the sessions of a transport."""

    def __init__(
        self,
        transport: Transport,
        server: RequestServer,
        consensus: ConsensusPort,
        supervisor: Supervisor,
        config: ExchangeConfig | None = None,
    ) -> None:
        self._transport = transport
        self._server = server
        self._consensus = consensus
        self._supervisor = supervisor
        self._config = config or ExchangeConfig()
        self._channels: dict[str, Channel] = {}
        self._last_id = 0
        self.sessions_given_up = 0
        self.frames_sent = 0

    def start(self) -> None:
        self._transport.start(self)

    def reach(self, addresses: Mapping[str, str]) -> None:
        """Keep sessions up with these nodes (gRPC address by node id)."""
        self._transport.reach(addresses)

    def connected(self, peer_id: str) -> bool:
        return self._open_channel(peer_id) is not None

    @property
    def requests_waiting(self) -> int:
        return sum(len(channel.waiting) for channel in self._channels.values())

    @property
    def raft_waiting(self) -> int:
        """Bytes of consensus messages that have not left."""
        return sum(channel.raft_bytes for channel in self._channels.values())

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
        channel = self._open_channel(peer_id)
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

    def post(self, peer_id: str, message: RaftMessage) -> None:
        """Send a consensus message with the next frame, after those posted before; without a session it is dropped.

        The caller changes it no more.
        """
        channel = self._open_channel(peer_id)
        if channel is None:
            return
        size = message.ByteSize()
        if channel.raft_bytes + size > self._config.raft_waiting_max:
            self._give_up(channel)
            return
        channel.raft.append(Posted(message, size, self._consensus.heard_beat(peer_id)))
        channel.raft_bytes += size
        channel.fill()

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        """As `Transport.send_beat`."""
        self._transport.send_beat(peer_id, beat)

    def session_began(self, session: Session) -> None:
        earlier = self._channels.get(session.peer_id)
        if earlier is not None:
            earlier.session.close()
            self.session_ended(earlier.session)
        channel = Channel(session)
        channel.flushed.set()
        self._channels[session.peer_id] = channel
        channel.pump = self._supervisor.spawn(f"frames to {session.peer_id}", self._pump(channel))
        self._consensus.session_began(session.peer_id)

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
        self._consensus.session_ended(session.peer_id)

    def frame_received(self, session: Session, frame: Frame) -> None:
        channel = self._channels.get(session.peer_id)
        if channel is None or channel.session is not session:
            return
        if frame.raft:
            self._consensus.receive(session.peer_id, frame.raft, frame.heard_beat)
        for reply in frame.replies:
            waiting = channel.waiting.pop(reply.id, None)
            if waiting is not None:
                waiting.timer.cancel()
                if not waiting.answer.done():
                    waiting.answer.set_result(reply)
        for request in frame.requests:
            self._server.serve(request, self._responder(channel, request.id))

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        self._consensus.beat_received(peer_id, beat)

    def _open_channel(self, peer_id: str) -> Channel | None:
        """The channel to a peer, if there is one that takes anything."""
        channel = self._channels.get(peer_id)
        return None if channel is None or channel.is_given_up else channel

    def _give_up(self, channel: Channel) -> None:
        """End the session of a peer that takes too little; `session_ended` follows from the transport."""
        if not channel.is_given_up:
            channel.is_given_up = True
            self.sessions_given_up += 1
            channel.session.close()

    def _responder(self, channel: Channel, number: int) -> Respond:
        def respond(reply: Reply) -> None:
            if len(channel.replies) >= self._config.replies_waiting_max:
                self._give_up(channel)
                return
            reply.id = number
            channel.replies.append(reply)
            channel.fill()

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
                self.frames_sent += 1
                if not channel.unsent():
                    channel.flushed.set()
        except SessionEnded:
            self.session_ended(channel.session)
        finally:
            channel.flushed.set()

    def _take_frame(self, channel: Channel) -> Frame:
        """What waits, up to the bounds of a frame and consensus first; at least one message."""
        frame = Frame()
        budget = Budget(self._config.frame_messages_max, self._config.frame_bytes_max)
        if posted := channel.take_raft(budget):
            frame.heard_beat = posted[0].heard_beat
            frame.raft.extend(item.message for item in posted)
        frame.replies.extend(channel.take_replies(budget))
        frame.requests.extend(channel.take_requests(budget))
        if not channel.unsent():
            channel.filled.clear()
        return frame


@dataclass(slots=True)
class Budget:
    """What still fits into a frame."""

    messages: int
    size: int

    def fit(self, sizes: Iterable[int]) -> int:
        """How many of the next messages still go in, which is then spent; the very first of a frame always does."""
        count = 0
        for size in sizes:
            if self.messages <= 0 or self.size <= 0:
                break
            self.messages -= 1
            self.size -= size
            count += 1
        return count


def taken(waiting: list[Message], count: int) -> list[Message]:
    """Remove and return the first `count`."""
    first = waiting[:count]
    del waiting[:count]
    return first
