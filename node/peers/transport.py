"""The contract of what carries frames and beats between nodes; grpc behind it in production, a fake network in tests.

grpc's C core can't be made deterministic, so it stays on the other side of this page.
"""

from collections.abc import Mapping
from typing import Protocol

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame


class SessionEnded(Exception):
    """The session is over; what was handed to it may or may not have arrived."""


class Session(Protocol):
    """One connection's life between this node and a peer. Frames arrive in order, at most once, or not at all."""

    @property
    def peer_id(self) -> str:
        """Node id of the other side, as its hello said."""

    async def send(self, frame: Frame) -> None:
        """Return when the transport has taken the frame over (flow control). Raises SessionEnded."""

    def close(self) -> None:
        """End the session: its handler is told soon, but not within this call, and the other side some time."""


class SessionHandler(Protocol):
    """Who is told of sessions, frames and beats; called on the event loop's thread, never re-entered.

    Nothing is told of a process of the peer once a later one (a higher generation) has been heard of.
    """

    def session_began(self, session: Session) -> None:
        """A session is up; an earlier one with the same peer has ended or will not be heard of again."""

    def frame_received(self, session: Session, frame: Frame) -> None:
        """A frame came."""

    def session_ended(self, session: Session) -> None:
        """Nothing more comes by this session."""

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        """A beat came: whether there is a session or not, perhaps out of order, perhaps again."""


class Transport(Protocol):
    """Keeps one session up with every peer that it was told to reach."""

    def start(self, handler: SessionHandler) -> None:
        """Accept and open sessions from now on."""

    def reach(self, addresses: Mapping[str, str]) -> None:
        """Keep sessions up with these nodes (gRPC address by node id), and with no others."""

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        """Send a beat if it can leave now, beside all frames; else it waits until the next one takes its place.

        Dropped without a word when the peer can't be reached. The caller changes it no more, and leaves `hello` empty.
        """

    async def stop(self) -> None:
        """End all sessions."""
