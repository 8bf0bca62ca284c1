"""The contract of what carries frames, beats and snapshots between nodes; grpc in production, a fake network in tests.

grpc's C core can't be made deterministic, so it stays on the other side of this page.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, RaftFrame, SnapshotChunk, SnapshotRequest

FrameKind = TypeVar("FrameKind", Frame, RaftFrame)
FrameKind_contra = TypeVar("FrameKind_contra", Frame, RaftFrame, contravariant=True)

Chunks: TypeAlias = AsyncGenerator[SnapshotChunk, None]


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a node's servers are now, as `host:port`."""

    grpc: str
    http: str


class SessionEnded(Exception):
    """The session is over; what was handed to it may or may not have arrived."""


class Refusal(StrEnum):
    """Why a node sends no snapshot, or no more of one."""

    NOT_HERE = "not here"
    """It has no good copy of the group."""
    BUSY = "busy"
    """It sends as many as it may already."""
    VIEW_GONE = "view gone"
    """What was begun can't be gone on with, only begun anew."""
    DAMAGED = "damaged"
    """Its own copy turned out to be no good."""


class SnapshotRefused(Exception):
    """The other side says that it sends no more."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(f"{refusal}: {message}")
        self.refusal = refusal


class Session(Protocol[FrameKind_contra]):
    """One connection's life between this node and a peer. Frames arrive in order, at most once, or not at all.

    There is one for each kind of frames, and they know nothing of each other: one may be up while the other is not, and
    what goes over one may overtake what went over the other.
    """

    @property
    def peer_id(self) -> str:
        """Node id of the other side, as its hello said."""

    async def send(self, frame: FrameKind_contra, /) -> None:
        """Return when the transport has taken the frame over (flow control). Raises SessionEnded."""

    def close(self) -> None:
        """End the session: its handler is told soon, but not within this call, and the other side some time."""


class SessionHandler(Protocol[FrameKind]):
    """Who is told of the sessions of one kind; called on the event loop's thread, never re-entered.

    Nothing is told of a process of the peer once a later one (a higher generation) has been heard of.
    """

    def session_began(self, session: Session[FrameKind], /) -> None:
        """A session is up; an earlier one with the same peer has ended or will not be heard of again."""

    def frame_received(self, session: Session[FrameKind], frame: FrameKind, /) -> None:
        """A frame came."""

    def session_ended(self, session: Session[FrameKind], /) -> None:
        """Nothing more comes by this session."""


class RaftHandler(SessionHandler[RaftFrame], Protocol):
    """Who is told of consensus: its sessions, and beats."""

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        """A beat came: whether there is a session or not, perhaps out of order, perhaps again."""


class SnapshotServer(Protocol):
    """Who sends snapshots to peers."""

    def serve_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        """What the peer asked for, chunk by chunk, each made when it is asked for.

        Ends after the chunk that says so. Raises SnapshotRefused, EngineFailed. Closed early, it can be gone on with.
        """


class Transport(Protocol):
    """Keeps a session of each kind up with every peer that it was told to reach."""

    def start(self, requests: SessionHandler[Frame], raft: RaftHandler) -> None:
        """Accept and open sessions from now on."""

    def reach(self, addresses: Mapping[str, PeerAddress]) -> None:
        """Keep sessions up with these nodes (by their ids), and with no others. After `stop` it does nothing."""

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        """Send a beat if it can leave now, beside all frames; else it waits until the next one takes its place.

        Dropped without a word when the peer can't be reached. The caller changes it no more, and leaves `hello` empty.
        """

    def serve_snapshots(self, server: SnapshotServer) -> None:
        """Have peers that ask for snapshots, and belong to this cluster, served by it from now on."""

    def fetch_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        """What a peer's `SnapshotServer` sends, in order and without a gap, up to some point.

        Little is on its way at once: the peer makes chunks as fast as they are taken. No session is needed. The caller
        leaves `hello` empty, and closes what it does not take to its end. Raises SnapshotRefused, and SessionEnded when
        the connection broke or there is none.
        """

    async def stop(self) -> None:
        """End all sessions, and all snapshots that are sent; whoever takes one closes it."""
