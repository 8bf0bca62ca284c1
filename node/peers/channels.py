"""What waits for the sessions with peers, of one kind of frames: a frame fills while the one before it is in flight."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import Frame, RaftFrame
from ..gathering import gathered
from ..supervisor import Supervisor
from .transport import Session, SessionEnded

FrameKind = TypeVar("FrameKind", Frame, RaftFrame)


class Channel(ABC, Generic[FrameKind]):
    """What waits to be sent on one session. One that is given up takes nothing more."""

    def __init__(self, session: Session[FrameKind]) -> None:
        self.session: Session[FrameKind] = session
        self.is_given_up = False
        self._filled = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()

    @property
    def has_company(self) -> bool:
        """Whether more than one message is under way, so that others may be about to come: a frame waits for them."""
        return False

    @abstractmethod
    def unsent(self) -> int:
        """How many messages wait."""

    @abstractmethod
    def take_frame(self) -> FrameKind:
        """Remove what waits, up to the bounds of a frame; at least one message."""

    def fill(self) -> None:
        """Something waits to be sent."""
        self._flushed.clear()
        self._filled.set()

    async def filled(self) -> None:
        """Return when something waits, and company has been waited for."""
        await self._filled.wait()
        if self.has_company:
            await gathered(self.unsent)

    async def send(self) -> None:
        """Send one frame. Raises SessionEnded."""
        frame = self.take_frame()
        if not self.unsent():
            self._filled.clear()
        await self.session.send(frame)
        if not self.unsent():
            self._flushed.set()

    async def flushed(self) -> None:
        """Return when nothing waits, or nothing will be sent any more."""
        await self._flushed.wait()

    def end(self) -> None:
        """Nothing will be sent any more."""
        self._flushed.set()


OwnChannel = TypeVar("OwnChannel", bound="Channel[Frame] | Channel[RaftFrame]")


class Channels(Generic[OwnChannel]):
    """The channels of this node, one to each peer with a session."""

    def __init__(self, name: str, supervisor: Supervisor, on_broken: Callable[[OwnChannel], None]) -> None:
        """`on_broken` is told of a channel whose session turned out to be over when a frame was sent."""
        self._name = name
        self._supervisor = supervisor
        self._on_broken = on_broken
        self._channels: dict[str, OwnChannel] = {}
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self.given_up = 0
        self.frames_sent = 0

    def all(self) -> list[OwnChannel]:
        return list(self._channels.values())

    def at(self, peer_id: str) -> OwnChannel | None:
        """The channel to a peer, also if it takes nothing any more."""
        return self._channels.get(peer_id)

    def open(self, peer_id: str) -> OwnChannel | None:
        """The channel to a peer, if there is one that takes anything."""
        channel = self._channels.get(peer_id)
        return None if channel is None or channel.is_given_up else channel

    def of(self, session: Session[Frame] | Session[RaftFrame]) -> OwnChannel | None:
        """The channel of just this session, as long as it is its peer's."""
        channel = self._channels.get(session.peer_id)
        return channel if channel is not None and channel.session is session else None

    def begin(self, channel: OwnChannel) -> None:
        """From now on what fills the channel is sent."""
        peer_id = channel.session.peer_id
        self._channels[peer_id] = channel
        self._pumps[peer_id] = self._supervisor.spawn(f"{self._name} to {peer_id}", self._pump(channel))

    def end(self, channel: OwnChannel) -> None:
        """Forget the channel of a session that is over."""
        peer_id = channel.session.peer_id
        del self._channels[peer_id]
        self._pumps.pop(peer_id).cancel()

    def give_up(self, channel: OwnChannel) -> None:
        """Close the session of a peer that takes too little; that it has ended is told by the transport."""
        if not channel.is_given_up:
            channel.is_given_up = True
            self.given_up += 1
            channel.session.close()

    async def flushed(self) -> None:
        """Return when what waits has been handed over."""
        for channel in self.all():
            await channel.flushed()

    async def _pump(self, channel: OwnChannel) -> None:
        try:
            while True:
                await channel.filled()
                await channel.send()
                self.frames_sent += 1
        except SessionEnded:
            self._on_broken(channel)
        finally:
            channel.end()


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
