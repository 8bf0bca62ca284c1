"""The transport between real nodes: one long-lived bidirectional gRPC stream per pair, dialled by the lower node id.

Each side says in its first frame who it is and whom it means to speak to, so that a stream that reached another
cluster, or a node that took over an address, is refused before anything is asked (P10).
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol

import grpc

from ...api.proto.ringhold.internal.v1.peer_pb2 import Frame, Hello
from ...api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerServicer, PeerStub
from ..supervisor import Supervisor
from .transport import Session, SessionEnded, SessionHandler

REDIAL_S_MIN = 0.05
REDIAL_S_MAX = 1.0
HELLO_TIMEOUT_S = 2.0

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)

STREAM_ERRORS = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""What reading and writing raise on a stream that has ended: clients the first and last, servers the others."""


class HelloRefused(Exception):
    """The other side is not who this node means to speak to."""


class FrameStream(Protocol):
    """What both ends of a grpc.aio stream have in common."""

    async def write(self, frame: Frame, /) -> None: ...
    async def read(self) -> object: ...


class GrpcSession:
    """A session over one end of a stream. The contract is on `Session`."""

    def __init__(self, peer_id: str, stream: FrameStream, close: Callable[[], None]) -> None:
        self._peer_id = peer_id
        self._stream = stream
        self._close = close

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def send(self, frame: Frame) -> None:
        try:
            await self._stream.write(frame)
        except STREAM_ERRORS as error:
            raise SessionEnded(str(error)) from error

    def close(self) -> None:
        self._close()


class GrpcTransport(PeerServicer):
    """Both ends: accepts streams as a servicer, dials the peers whose ids are higher than its own."""

    def __init__(
        self,
        node_id: str,
        generation: int,
        cluster_id: Callable[[], str],
        supervisor: Supervisor,
        rng: random.Random,
    ) -> None:
        self._node_id = node_id
        self._generation = generation
        self._cluster_id = cluster_id
        self._supervisor = supervisor
        self._rng = rng
        self._handler: SessionHandler | None = None
        self._addresses: dict[str, str] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._accepted: dict[str, asyncio.Event] = {}

    def start(self, handler: SessionHandler) -> None:
        self._handler = handler

    def reach(self, addresses: Mapping[str, str]) -> None:
        for peer_id, task in list(self._dialling.items()):
            if addresses.get(peer_id) != self._addresses.get(peer_id):
                task.cancel()
                del self._dialling[peer_id]
        self._addresses = dict(addresses)
        for peer_id, ended in self._accepted.items():
            if peer_id not in self._addresses:
                ended.set()
        for peer_id, address in self._addresses.items():
            if self._node_id < peer_id and peer_id not in self._dialling:
                self._dialling[peer_id] = self._supervisor.spawn(f"dial {peer_id}", self._dial(peer_id, address))

    async def stop(self) -> None:
        self._addresses = {}  # so that nobody is let in any more
        for task in self._dialling.values():
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        self._dialling.clear()
        for ended in self._accepted.values():
            ended.set()

    async def Exchange(  # noqa: N802 - the name in the contract
        self, request_iterator: object, context: "grpc.aio.ServicerContext[Frame, Frame]"
    ) -> None:
        """The accepting end: runs until either side ends the stream."""
        assert self._handler is not None, "a stream came before the transport was started"
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await next_frame(context)
            if first is None:
                return
            self._check(first.hello, expected_id=None)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello came within {HELLO_TIMEOUT_S} s")
        except HelloRefused as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        await context.write(Frame(hello=self._hello(first.hello.node_id)))
        ended = asyncio.Event()
        session = GrpcSession(first.hello.node_id, context, ended.set)
        self._accepted[session.peer_id] = ended
        await self._live(session, context, ended)

    async def _dial(self, peer_id: str, address: str) -> None:
        """Keep a stream up with a peer, for ever."""
        pause_s = REDIAL_S_MIN
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            stub = PeerStub(channel)
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._converse(stub.Exchange(), peer_id)
                except (*STREAM_ERRORS, HelloRefused, TimeoutError):
                    pause_s = min(REDIAL_S_MAX, pause_s * 2)
                if asyncio.get_running_loop().time() - began > REDIAL_S_MAX:
                    pause_s = REDIAL_S_MIN
                await asyncio.sleep(self._rng.uniform(pause_s / 2, pause_s))

    async def _converse(self, call: "grpc.aio.StreamStreamCall[Frame, Frame]", peer_id: str) -> None:
        """One stream's life, from the dialling end."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await call.write(Frame(hello=self._hello(peer_id)))
                first = await next_frame(call)
            if first is None:
                return
            self._check(first.hello, expected_id=peer_id)
            ended = asyncio.Event()
            await self._live(GrpcSession(peer_id, call, ended.set), call, ended)
        finally:
            call.cancel()

    async def _live(self, session: Session, stream: FrameStream, ended: asyncio.Event) -> None:
        """A session's life: until it is closed here, which sets `ended`, or the stream ends."""
        assert self._handler is not None, "a session began before the transport was started"
        self._handler.session_began(session)
        reading = asyncio.ensure_future(self._read(session, stream))
        reading.add_done_callback(lambda _: ended.set())
        try:
            await ended.wait()
        finally:
            reading.cancel()
            self._handler.session_ended(session)

    async def _read(self, session: Session, stream: FrameStream) -> None:
        assert self._handler is not None, "a frame came before the transport was started"
        with self._supervisor.guard("frames"):
            while (frame := await next_frame(stream)) is not None:
                self._handler.frame_received(session, frame)

    def _hello(self, peer_id: str) -> Hello:
        return Hello(
            cluster_id=self._cluster_id(),
            node_id=self._node_id,
            generation=self._generation,
            target_node_id=peer_id,
        )

    def _check(self, hello: Hello, expected_id: str | None) -> None:
        """Raises HelloRefused unless the other side is a member of this cluster that means this node."""
        if not hello.cluster_id or hello.cluster_id != self._cluster_id():
            raise HelloRefused(f"cluster id {hello.cluster_id or '(none)'} is not {self._cluster_id() or '(none yet)'}")
        if hello.target_node_id != self._node_id:
            raise HelloRefused(f"this is node {self._node_id}, not {hello.target_node_id}")
        if expected_id is not None and hello.node_id != expected_id:
            raise HelloRefused(f"node {hello.node_id} answered instead of {expected_id}")
        if hello.node_id not in self._addresses:
            raise HelloRefused(f"node {hello.node_id} is not a member")


async def next_frame(stream: FrameStream) -> Frame | None:
    """The next frame; None when the stream has ended, in whatever way."""
    try:
        frame = await stream.read()
    except STREAM_ERRORS:
        return None
    return frame if isinstance(frame, Frame) else None
