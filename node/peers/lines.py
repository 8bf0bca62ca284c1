"""One end of a stream between two nodes, whatever carries it, from the peer's hello on."""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, RaftFrame
from .boots import Boot
from .transport import FrameKind, SessionEnded

STREAM_ERRORS = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, ConnectionError, DecodeError)
"""What reading and writing raise on a stream that has ended.

gRPC's clients the first and the third, its servers the second, sockets the fourth; the last if what came is no message.
"""

Message = TypeVar("Message", Frame, RaftFrame, Beat)
Written_contra = TypeVar("Written_contra", Frame, RaftFrame, Beat, contravariant=True)


class Stream(Protocol[Written_contra]):
    """What both ends of a stream of grpc.aio, or of a socket, have in common."""

    async def write(self, message: Written_contra, /) -> None: ...
    async def read(self) -> object: ...


class Caller(Stream[Written_contra], Protocol[Written_contra]):
    """A stream that this node has accepted, before it knows who called."""

    async def abort(self, code: grpc.StatusCode, details: str, /) -> object:
        """End it, and say why. May raise one of STREAM_ERRORS."""


@dataclass(eq=False, slots=True)
class Line(Generic[Message]):
    """One end of a stream, after the peer's hello. It is over, for this end, as soon as `ended` is set."""

    kind: type[Message]
    peer_id: str
    boot: Boot
    stream: Stream[Message]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class LineSession(Generic[FrameKind]):
    """A session over a line of frames. The contract is on `Session`."""

    def __init__(self, line: Line[FrameKind]) -> None:
        self._line: Line[FrameKind] = line

    @property
    def peer_id(self) -> str:
        return self._line.peer_id

    async def send(self, frame: FrameKind, /) -> None:
        try:
            await self._line.stream.write(frame)
        except STREAM_ERRORS as error:
            raise SessionEnded(str(error)) from error

    def close(self) -> None:
        self._line.ended.set()


class BeatSender:
    """Sends one beat at a time over a line; of those that wait meanwhile only the newest is kept."""

    def __init__(self, line: Line[Beat]) -> None:
        self._line = line
        self._newest = Beat()
        self._filled = asyncio.Event()

    def put(self, beat: Beat) -> None:
        """This is the newest beat."""
        self._newest = beat
        self._filled.set()

    async def run(self) -> None:
        """Send until the line is over."""
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                if self._line.ended.is_set():
                    return
                await self._line.stream.write(self._newest)
        except STREAM_ERRORS:
            self._line.ended.set()


async def next_message(stream: Stream[Message], kind: type[Message]) -> Message | None:
    """The next message; None when the stream has ended, in whatever way."""
    try:
        message = await stream.read()
    except STREAM_ERRORS:
        return None
    return message if isinstance(message, kind) else None


def end_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled; to be called after an error of a stream, before trying again.

    Where a refusal comes in the moment of a cancellation, a call of grpc.aio tells of the refusal alone.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
