"""The transport between real nodes: for each pair two gRPC streams and a WebSocket, dialled by the lower node id.

One stream carries requests and replies, the other beats; the WebSocket, on the HTTP port, carries consensus, for a
message on it costs a third of one on a gRPC stream. All three live long and end each by itself; the two streams share
a connection and nothing else, so that a beat waits for no frame. Snapshots have connections of their own
(grpc_snapshots.py). Each side says in its first message who it is and whom it means to speak to, so that a stream that
reached another cluster, a node that took over an address, or a process that is no more, is refused before anything is
asked (P10).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial

import grpc
from aiohttp import ClientSession

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, Hello, RaftFrame, SnapshotChunk, SnapshotRequest
from ...api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerServicer
from ..supervisor import Supervisor
from .boots import Boot, Boots, boot_of
from .grpc_snapshots import SnapshotSenders, fetched
from .lines import STREAM_ERRORS, BeatSender, Caller, Line, LineSession, Message, Stream, end_if_cancelled, next_message
from .peer_channel import PeerChannel
from .raft_sockets import RaftSocket, dialled, socket_client
from .transport import (
    Chunks,
    FrameKind,
    PeerAddress,
    RaftHandler,
    SessionEnded,
    SessionHandler,
    SnapshotServer,
)

REDIAL_S_MIN = 0.05
REDIAL_S_MAX = 1.0
HELLO_TIMEOUT_S = 2.0


class HelloRefused(Exception):
    """The other side is not who this node means to speak to."""


class GhostRefused(HelloRefused):
    """The other side runs on an old state of its disk; it must be told."""

    def __init__(self, message: str, peer_id: str) -> None:
        super().__init__(message)
        self.peer_id = peer_id


class NetworkTransport(PeerServicer):
    """Both ends: accepts streams as a servicer, dials the peers whose ids are higher than its own."""

    def __init__(
        self,
        node_id: str,
        cluster_id: Callable[[], str],
        boots: Boots,
        supervisor: Supervisor,
        rng: random.Random,
    ) -> None:
        self._node_id = node_id
        self._boots = boots
        self._cluster_id = cluster_id
        self._supervisor = supervisor
        self._rng = rng
        self._requests: SessionHandler[Frame] | None = None
        self._raft: RaftHandler | None = None
        self._client: ClientSession | None = None
        self._snapshots = SnapshotSenders(supervisor)
        self._addresses: dict[str, PeerAddress] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._given_up: set[asyncio.Task[None]] = set()
        """Dials that were cancelled and have not ended yet: until then they use what `stop` closes."""
        self._is_stopped = False
        self._lines: dict[Line[Frame] | Line[RaftFrame] | Line[Beat], None] = {}
        self._beat_senders: dict[str, BeatSender] = {}

    def start(self, requests: SessionHandler[Frame], raft: RaftHandler) -> None:
        self._requests, self._raft = requests, raft

    def reach(self, addresses: Mapping[str, PeerAddress]) -> None:
        if self._is_stopped:
            return  # the topology goes on changing while a node stops
        moved = {peer_id for peer_id in self._dialling if addresses.get(peer_id) != self._addresses.get(peer_id)}
        for peer_id in moved:
            self._give_up(peer_id)
        self._addresses = dict(addresses)
        for line in self._lines:
            if line.peer_id in moved or line.peer_id not in self._addresses:
                line.ended.set()
        for peer_id, address in self._addresses.items():
            if self._node_id < peer_id and peer_id not in self._dialling:
                self._dialling[peer_id] = self._supervisor.spawn(f"dial {peer_id}", self._dial(peer_id, address))

    def _give_up(self, peer_id: str) -> None:
        task = self._dialling.pop(peer_id)
        task.cancel()
        self._given_up.add(task)
        task.add_done_callback(self._given_up.discard)

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        sender = self._beat_senders.get(peer_id)
        if sender is not None:
            self._boots.stamp(beat)
            sender.put(beat)

    def serve_snapshots(self, server: SnapshotServer) -> None:
        self._snapshots.server = server

    async def fetch_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        address = self._addresses.get(peer_id)
        if address is None:
            raise SessionEnded(f"node {peer_id} is not a member")
        request.hello.CopyFrom(self._hello(peer_id))
        async with aclosing(fetched(address.grpc, request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stop(self) -> None:
        self._is_stopped = True
        self._addresses = {}  # so that nobody is let in any more
        self._snapshots.stop()
        for peer_id in list(self._dialling):
            self._give_up(peer_id)
        await asyncio.gather(*self._given_up, return_exceptions=True)
        for line in self._lines:
            line.ended.set()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def Exchange(  # noqa: N802 - the name in the contract
        self, request_iterator: object, context: "grpc.aio.ServicerContext[Frame, Frame]"
    ) -> None:
        """The accepting end of a stream of requests and replies: runs until either side ends it."""
        await self._accept(context, Frame, self._exchange_requests)

    async def Beats(  # noqa: N802 - the name in the contract
        self, request_iterator: object, context: "grpc.aio.ServicerContext[Beat, Beat]"
    ) -> None:
        """The accepting end of a stream of beats: runs until either side ends it."""
        await self._accept(context, Beat, self._exchange_beats)

    async def accept_raft(self, socket: RaftSocket) -> None:
        """The accepting end of a socket of consensus: runs until either side ends it."""
        await self._accept(socket, RaftFrame, self._exchange_raft)

    async def Snapshot(  # noqa: N802 - the name in the contract
        self, request: SnapshotRequest, context: "grpc.aio.ServicerContext[SnapshotRequest, SnapshotChunk]"
    ) -> None:
        """The sending end of a snapshot: runs until all is sent or either side ends it."""
        try:
            self._check(request.hello, expected_id=None)
        except HelloRefused as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        await self._snapshots.serve(request, context)

    async def _accept(
        self,
        caller: Caller[Message],
        kind: type[Message],
        live: Callable[[Line[Message]], Awaitable[None]],
    ) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await next_message(caller, kind)
            if first is None:
                return
            self._check(first.hello, expected_id=None)
        except TimeoutError:
            await caller.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello came within {HELLO_TIMEOUT_S} s")
            return
        except HelloRefused as error:
            if isinstance(error, GhostRefused):
                await caller.write(kind(hello=self._hello(error.peer_id)))
            await caller.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            return
        line = Line(kind, first.hello.node_id, boot_of(first.hello), caller)
        await caller.write(kind(hello=self._hello(line.peer_id)))
        await self._live(line, live)

    async def _dial(self, peer_id: str, address: PeerAddress) -> None:
        """Keep all three up with a peer, for ever, each for itself."""
        channel = PeerChannel(address.grpc)
        calls = partial(
            self._converse,
            lambda: channel.stream(lambda stub: stub.Exchange()),
            Frame,
            peer_id,
            self._exchange_requests,
        )
        beats = partial(
            self._converse, lambda: channel.stream(lambda stub: stub.Beats()), Beat, peer_id, self._exchange_beats
        )
        raft = partial(
            self._converse, lambda: dialled(self._http, address.http), RaftFrame, peer_id, self._exchange_raft
        )
        async with asyncio.TaskGroup() as lines:
            for converse in (calls, beats, raft):
                lines.create_task(self._keep_up(converse))

    async def _keep_up(self, converse: Callable[[], Awaitable[None]]) -> None:
        """Begin one conversation after the other, sooner after one that was long."""
        pause_s = REDIAL_S_MIN
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await converse()
            except (*STREAM_ERRORS, HelloRefused, TimeoutError):
                pause_s = min(REDIAL_S_MAX, pause_s * 2)
            end_if_cancelled()
            if asyncio.get_running_loop().time() - began > REDIAL_S_MAX:
                pause_s = REDIAL_S_MIN
            await asyncio.sleep(self._rng.uniform(pause_s / 2, pause_s))

    async def _converse(
        self,
        opened: Callable[[], AbstractAsyncContextManager[Stream[Message]]],
        kind: type[Message],
        peer_id: str,
        live: Callable[[Line[Message]], Awaitable[None]],
    ) -> None:
        """One stream's life, from the dialling end."""
        async with opened() as stream:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await stream.write(kind(hello=self._hello(peer_id)))
                first = await next_message(stream, kind)
            if first is None:
                return
            self._check(first.hello, expected_id=peer_id)
            await self._live(Line(kind, peer_id, boot_of(first.hello), stream), live)

    async def _live(self, line: Line[Message], live: Callable[[Line[Message]], Awaitable[None]]) -> None:
        """A line's life, unless something newer has come while the hellos were on their way."""
        if line.peer_id not in self._addresses or self._boots.contradiction(line.peer_id, line.boot):
            return
        for other in self._lines:
            if other.peer_id == line.peer_id and other.kind is line.kind:
                other.ended.set()
        self._lines[line] = None
        try:
            await live(line)
        finally:
            del self._lines[line]

    async def _exchange_requests(self, line: Line[Frame]) -> None:
        assert self._requests is not None, "a stream came before the transport was started"
        await self._exchange(line, self._requests)

    async def _exchange_raft(self, line: Line[RaftFrame]) -> None:
        await self._exchange(line, self._told)

    async def _exchange(self, line: Line[FrameKind], handler: SessionHandler[FrameKind]) -> None:
        session = LineSession(line)
        handler.session_began(session)
        try:
            await self._listen(line, lambda frame: handler.frame_received(session, frame))
        finally:
            handler.session_ended(session)

    async def _exchange_beats(self, line: Line[Beat]) -> None:
        handler = self._told
        sender = self._beat_senders[line.peer_id] = BeatSender(line)
        sending = asyncio.ensure_future(sender.run())
        try:
            await self._listen(line, partial(self._beat_received, handler, line))
        finally:
            sending.cancel()
            if self._beat_senders.get(line.peer_id) is sender:
                del self._beat_senders[line.peer_id]

    def _beat_received(self, handler: RaftHandler, line: Line[Beat], beat: Beat) -> None:
        self._boots.beat_heard(line.peer_id, line.boot, beat)
        handler.beat_received(line.peer_id, beat)

    async def _listen(self, line: Line[Message], tell: Callable[[Message], None]) -> None:
        """Pass on what comes until the line is over, by this end's will or because the stream has ended."""
        reading = asyncio.ensure_future(self._read(line, tell))
        reading.add_done_callback(lambda _: line.ended.set())
        try:
            await line.ended.wait()
        finally:
            reading.cancel()

    async def _read(self, line: Line[Message], tell: Callable[[Message], None]) -> None:
        with self._supervisor.guard(f"{line.kind.__name__}s of {line.peer_id}"):
            while (message := await next_message(line.stream, line.kind)) is not None and not line.ended.is_set():
                tell(message)

    @property
    def _told(self) -> RaftHandler:
        assert self._raft is not None, "a stream came before the transport was started"
        return self._raft

    @property
    def _http(self) -> ClientSession:
        """Made with the first socket, for it wants a running loop."""
        if self._client is None:
            self._client = socket_client()
        return self._client

    def _hello(self, peer_id: str) -> Hello:
        hello = Hello(cluster_id=self._cluster_id(), node_id=self._node_id, target_node_id=peer_id)
        return self._boots.hello(hello, peer_id)

    def _check(self, hello: Hello, expected_id: str | None) -> None:
        """Raises HelloRefused unless the other side is a member of this cluster that means this node, and no ghost."""
        if not hello.cluster_id or hello.cluster_id != self._cluster_id():
            raise HelloRefused(f"cluster id {hello.cluster_id or '(none)'} is not {self._cluster_id() or '(none yet)'}")
        if hello.target_node_id != self._node_id:
            raise HelloRefused(f"this is node {self._node_id}, not {hello.target_node_id}")
        if expected_id is not None and hello.node_id != expected_id:
            raise HelloRefused(f"node {hello.node_id} answered instead of {expected_id}")
        if hello.node_id not in self._addresses:
            raise HelloRefused(f"node {hello.node_id} is not a member")
        if self._boots.is_ghost(hello):
            self._boots.give_up(hello)
            raise HelloRefused(f"node {self._node_id} runs on an old state of its disk, and stops")
        self._meet(hello.node_id, boot_of(hello))

    def _meet(self, peer_id: str, boot: Boot) -> None:
        """End what an earlier process of the peer left behind. Raises HelloRefused if this is itself an earlier one."""
        contradiction = self._boots.contradiction(peer_id, boot)
        if contradiction:
            is_old = self._boots.is_old(peer_id, boot)
            raise GhostRefused(contradiction, peer_id) if is_old else HelloRefused(contradiction)
        self._boots.meet(peer_id, boot)
        for line in self._lines:
            if line.peer_id == peer_id and line.boot != boot:
                line.ended.set()
