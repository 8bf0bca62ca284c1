"""Consensus over frames of its own: messages of all groups that two nodes share, in the order of their posting.

They have a connection to themselves, because they are the most and the smallest that nodes say to each other, and what
one costs is what a Set costs (docs/decisions/0031-consensus-travels-over-websockets.md).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftFrame, RaftMessage
from ..supervisor import Supervisor
from .channels import Budget, Channel, Channels
from .transport import Session


class ConsensusPort(Protocol):
    """Who is told what peers say of consensus; of these, only `heard_beat` is called from within `post`.

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


class BeatSender(Protocol):
    """Who sends beats."""

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        """As `Transport.send_beat`."""


@dataclass(frozen=True, slots=True)
class RaftExchangeConfig:
    """Bounds of the frames.

    frame_bytes_max: raising it makes fewer, larger messages, that hold back what comes after them.
    frame_messages_max: raising it makes the receiver's one callback per frame longer.
    waiting_bytes_max: of messages per peer that it does not take; at more its session is ended, and consensus begins
        again with the next one. Raising it costs memory when a peer hangs.
    """

    frame_bytes_max: int = 1024 * 1024
    frame_messages_max: int = 256
    waiting_bytes_max: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Posted:
    """A message that waits to be sent; `heard_beat` is as of when it was posted."""

    message: RaftMessage
    size: int
    heard_beat: int


class RaftChannel(Channel[RaftFrame]):
    """The messages that wait for one session.

    They never wait for company: the tick that wrote for all groups posts all at once.
    """

    def __init__(self, session: Session[RaftFrame], config: RaftExchangeConfig) -> None:
        super().__init__(session)
        self._config = config
        self._posted: deque[Posted] = deque()
        self.bytes = 0

    def unsent(self) -> int:
        return len(self._posted)

    def put(self, posted: Posted) -> None:
        self._posted.append(posted)
        self.bytes += posted.size
        self.fill()

    def take_frame(self) -> RaftFrame:
        budget = Budget(self._config.frame_messages_max, self._config.frame_bytes_max)
        leaving = [self._posted.popleft() for _ in range(budget.fit(posted.size for posted in self._posted))]
        self.bytes -= sum(posted.size for posted in leaving)
        return RaftFrame(messages=[posted.message for posted in leaving], heard_beat=leaving[0].heard_beat)


class RaftExchange:
    """Carries the consensus of this node's groups over the sessions of a transport."""

    def __init__(
        self,
        beats: BeatSender,
        consensus: ConsensusPort,
        supervisor: Supervisor,
        config: RaftExchangeConfig | None = None,
    ) -> None:
        self._beats = beats
        self._consensus = consensus
        self._config = config or RaftExchangeConfig()
        self.channels = Channels[RaftChannel](
            "consensus", supervisor, lambda broken: self.session_ended(broken.session)
        )

    def connected(self, peer_id: str) -> bool:
        return self.channels.open(peer_id) is not None

    @property
    def bytes_waiting(self) -> int:
        """Of messages that have not left."""
        return sum(channel.bytes for channel in self.channels.all())

    def post(self, peer_id: str, message: RaftMessage) -> None:
        """Send a message with the next frame, after those posted before; without a session it is dropped.

        The caller changes it no more.
        """
        channel = self.channels.open(peer_id)
        if channel is None:
            return
        size = message.ByteSize()
        if channel.bytes + size > self._config.waiting_bytes_max:
            self.channels.give_up(channel)
            return
        channel.put(Posted(message, size, self._consensus.heard_beat(peer_id)))

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        """As `Transport.send_beat`."""
        self._beats.send_beat(peer_id, beat)

    def session_began(self, session: Session[RaftFrame]) -> None:
        earlier = self.channels.at(session.peer_id)
        if earlier is not None:
            earlier.session.close()
            self.session_ended(earlier.session)
        self.channels.begin(RaftChannel(session, self._config))
        self._consensus.session_began(session.peer_id)

    def session_ended(self, session: Session[RaftFrame]) -> None:
        channel = self.channels.of(session)
        if channel is not None:
            self.channels.end(channel)
            self._consensus.session_ended(session.peer_id)

    def frame_received(self, session: Session[RaftFrame], frame: RaftFrame) -> None:
        if self.channels.of(session) is not None:
            self._consensus.receive(session.peer_id, frame.messages, frame.heard_beat)

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        self._consensus.beat_received(peer_id, beat)
