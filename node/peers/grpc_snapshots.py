"""Snapshots between real nodes: one gRPC stream each, on a connection of its own, so that nothing else waits for it.

The reader's windows are small and do not grow: what it has not taken stays with the sender, who makes a chunk when the
one before it has left.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc

from ...api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk, SnapshotRequest
from ...api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerStub
from ..supervisor import Supervisor
from .lines import end_if_cancelled
from .transport import Chunks, Refusal, SessionEnded, SnapshotRefused, SnapshotServer

Context: TypeAlias = "grpc.aio.ServicerContext[SnapshotRequest, SnapshotChunk]"

WINDOW_BYTES = 256 * 1024
"""What may be on its way to a reader; larger only where the way is long."""

CHANNEL_OPTIONS = (
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

STATUS_OF = {
    Refusal.NOT_HERE: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.BUSY: grpc.StatusCode.ABORTED,
    Refusal.VIEW_GONE: grpc.StatusCode.NOT_FOUND,
    Refusal.DAMAGED: grpc.StatusCode.DATA_LOSS,
}
"""None of them is the library's own."""

REFUSAL_OF = {status: refusal for refusal, status in STATUS_OF.items()}


@dataclass(eq=False, slots=True)
class Sending:
    """One stream that is being sent, and how it ended; with neither, it was cut off."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: SnapshotRefused | None = None
    is_complete: bool = False


class SnapshotSenders:
    """The streams that this node's server sends."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.server: SnapshotServer | None = None
        self._supervisor = supervisor
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def serve(self, request: SnapshotRequest, context: Context) -> None:
        """Send a peer, whose hello is known to be good, what it asks for, until it is all sent or either side ends."""
        sending = Sending()
        task = self._supervisor.spawn(f"snapshot for {request.hello.node_id}", self._send(request, context, sending))
        task.add_done_callback(lambda _: sending.ended.set())
        self._tasks[task] = None
        try:
            await sending.ended.wait()
        finally:
            task.cancel()
            del self._tasks[task]
        if sending.refusal is not None:
            await context.abort(STATUS_OF[sending.refusal.refusal], str(sending.refusal))
        if not sending.is_complete:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node is stopping")

    def stop(self) -> None:
        """End all streams."""
        for task in self._tasks:
            task.cancel()

    async def _send(self, request: SnapshotRequest, context: Context, sending: Sending) -> None:
        """Raises EngineFailed."""
        assert self.server is not None, "a stream came before the transport was started"
        try:
            async with aclosing(self.server.serve_snapshot(request.hello.node_id, request)) as chunks:
                async for chunk in chunks:
                    await context.write(chunk)
            sending.is_complete = True
        except SnapshotRefused as refusal:
            sending.refusal = refusal
        except (grpc.RpcError, grpc.aio.BaseError):
            return  # the reader is gone, or its connection


async def fetched(address: str, request: SnapshotRequest) -> Chunks:
    """What the node at the address sends. The contract is on `Transport.fetch_snapshot`."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        call = PeerStub(channel).Snapshot(request)
        try:
            while isinstance(chunk := await call.read(), SnapshotChunk):
                yield chunk
        except grpc.aio.AioRpcError as error:
            end_if_cancelled()
            raise failure_of(error) from error
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise SessionEnded(str(error)) from error
        finally:
            call.cancel()


def failure_of(error: grpc.aio.AioRpcError) -> SnapshotRefused | SessionEnded:
    """What the end of a stream means to its reader."""
    refusal = REFUSAL_OF.get(error.code())
    details = error.details() or error.code().name
    return SessionEnded(details) if refusal is None else SnapshotRefused(refusal, details.partition(": ")[2])
