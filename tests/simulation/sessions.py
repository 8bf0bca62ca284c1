"""The fake `Transport`: frames go as bytes, in order, late, or not at all; a loss ends the session.

A partition holds frames back, as TCP does, until it heals or the keepalive gives the session up. Whoever dials, checks
and redials as node/peers/network_transport.py does. Requests and consensus have sessions of their own, which know
nothing of each other. Beats go one by one, without a session: each may be lost, late, out of order or there twice,
which is all that their contract allows.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeAlias

from xxhash import xxh3_64_hexdigest

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, Hello, RaftFrame, SnapshotRequest
from ringhold.node.peers.boots import Boot, Boots, boot_of
from ringhold.node.peers.transport import (
    Chunks,
    PeerAddress,
    RaftHandler,
    SessionEnded,
    SessionHandler,
    SnapshotServer,
)
from ringhold.node.supervisor import Supervisor

from .loop import Life
from .network import KEEPALIVE_S, Channel, Network
from .streams import SnapshotStream

REDIAL_S_MIN = 0.05
REDIAL_S_MAX = 1.0
HELLO_TIMEOUT_S = 2.0
NOTICE_S_MAX = 0.3
"""How long an end of a broken session may take to notice."""


class Wires:
    """All connections between nodes, and who listens where."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.listening: dict[str, SimulatedTransport] = {}
        self.links: dict[int, Link] = {}
        self.streams: dict[int, SnapshotStream] = {}
        self.on_consensus: Callable[[SimulatedTransport, str, RaftFrame], None] = lambda sender, peer_id, frame: None
        """Hears of each frame of consensus that leaves."""
        self._links_made = 0
        self._streams_made = 0
        network.on_blocked(self._block_changed)

    def connect(self, dialler: "SimulatedTransport", acceptor: "SimulatedTransport", channel: Channel) -> "Link":
        self._links_made += 1
        link = Link(self._links_made, self, channel)
        link.ends = (Session(link, dialler, acceptor), Session(link, acceptor, dialler))
        self.links[link.number] = link
        return link

    def machine_died(self, life: Life, *, silently: bool) -> None:
        """Its connections break: at once for the others if the machine still says so, else when keepalive tells."""
        for link in list(self.links.values()):
            if any(end.transport.life is life for end in link.ends):
                notice_s = KEEPALIVE_S if silently else (0.0, 0.05)
                link.sever(notice_s)
        for number, stream in list(self.streams.items()):
            if stream.source.life is life or stream.target.life is life:
                del self.streams[number]
                stream.sever(KEEPALIVE_S if silently else (0.0, 0.05))

    def open_stream(
        self, target: "SimulatedTransport", source: "SimulatedTransport", request: SnapshotRequest
    ) -> SnapshotStream:
        self._streams_made += 1
        stream = SnapshotStream(self._streams_made, self.network, source, target, request)
        self.streams[stream.number] = stream
        return stream

    def _block_changed(self, source: str, target: str, channel: Channel, blocked: bool) -> None:
        for link in list(self.links.values()):
            for end in link.ends:
                if (end.transport.machine, end.peer.machine, link.channel) == (source, target, channel):
                    end.hold() if blocked else end.flush()


@dataclass(eq=False)
class Link:
    """One connection: two ends, either of which may think it open while it is severed."""

    number: int
    wires: Wires
    channel: Channel
    ends: "tuple[Session, Session]" = field(init=False)
    is_severed: bool = False

    def sever(self, notice_s: tuple[float, float]) -> None:
        """Nothing arrives any more; each end notices within these bounds."""
        if self.is_severed:
            return
        self.is_severed = True
        network = self.wires.network
        network.trace.note("network", f"session {self.number} breaks")
        network.trace.count("session lost")
        del self.wires.links[self.number]
        for end in self.ends:
            network.after(network.rng.uniform(*notice_s), end.lose)

    def other(self, end: "Session") -> "Session":
        return self.ends[1] if end is self.ends[0] else self.ends[0]


AnyFrame: TypeAlias = Frame | RaftFrame
FRAMES: Mapping[Channel, type[Frame] | type[RaftFrame]] = {Channel.REQUESTS: Frame, Channel.RAFT: RaftFrame}
"""What sessions carry, by their channel."""


class Session:
    """One end of a link. The contract is on `ringhold.node.peers.transport.Session`."""

    def __init__(self, link: Link, transport: "SimulatedTransport", peer: "SimulatedTransport") -> None:
        self.transport = transport
        self.peer = peer
        self._link = link
        self._network = link.wires.network
        self._is_open = False
        self._is_lost = False
        self._arrival = 0.0
        self._held: list[bytes] = []
        self._keepalive: asyncio.TimerHandle | None = None

    @property
    def peer_id(self) -> str:
        return self.peer.node_id

    @property
    def channel(self) -> Channel:
        return self._link.channel

    async def send(self, frame: AnyFrame, /) -> None:
        if self._is_lost:
            raise SessionEnded("the session is over")
        encoded = frame.SerializeToString(deterministic=True)
        if isinstance(frame, RaftFrame):
            self._link.wires.on_consensus(self.transport, self.peer_id, frame)
        self._carry(encoded)
        await asyncio.sleep(self._network.delay_s() / 4)

    def close(self) -> None:
        self._link.sever((0.0, NOTICE_S_MAX))
        self._network.after(0, self.lose)

    def answer_hello(self, arrive: Callable[[], None]) -> None:
        """The accepting end's hello goes out, before all its frames."""
        self._arrival = self._network.now + self._network.delay_s()
        self._network.at(self._arrival, arrive)

    def begin(self) -> None:
        """This end learns that the session is up."""
        self._network.give(self.transport.life, self._begin)

    def _begin(self) -> None:
        if self._is_lost:
            return
        if not self.transport.meet(self.peer.node_id, self.peer.boot):
            self.close()
            return
        self._is_open = True
        self.transport.handlers[self.channel].session_began(self)

    def lose(self) -> None:
        """This end learns that the session is over."""
        self._network.give(self.transport.life, self._lose)

    def _lose(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        if self._is_open:
            self.transport.handlers[self.channel].session_ended(self)
        self.transport.lost(self.peer_id, self.channel)

    def hold(self) -> None:
        """The way to the peer is blocked: unless it opens soon, the session is given up."""
        if self._keepalive is None:
            patience_s = self._network.rng.uniform(*KEEPALIVE_S)
            self._keepalive = self._network.after(patience_s, self._link.sever, (0.0, 1.0))

    def flush(self) -> None:
        """The way is open again: what was held back arrives."""
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None
        held, self._held = self._held, []
        for encoded in held:
            self._arrive_later(encoded)

    def _carry(self, encoded: bytes) -> None:
        network = self._network
        digest = xxh3_64_hexdigest(encoded)
        what = f"frame of {self.channel.value} to {self.peer.machine}"
        network.trace.note(self.transport.machine, f"{what}: {len(encoded)} bytes, {digest}")
        if network.chance(network.weather.break_chance):
            network.trace.count("frame lost")
            self._link.sever((0.0, NOTICE_S_MAX))
        self._arrive_later(encoded)

    def _arrive_later(self, encoded: bytes) -> None:
        self._arrival = max(self._arrival, self._network.now + self._network.delay_s())
        self._network.at(self._arrival, self._arrive, encoded)

    def _arrive(self, encoded: bytes) -> None:
        if self._link.is_severed:
            return
        if self._network.is_blocked(self.transport.machine, self.peer.machine, self.channel):
            self._held.append(encoded)
            self.hold()
            return
        other = self._link.other(self)
        self._network.give(other.transport.life, other._receive, FRAMES[self.channel].FromString(encoded))

    def _receive(self, frame: AnyFrame) -> None:
        is_heard = self._is_open and not self._is_lost
        if is_heard and self.transport.meet(self.peer.node_id, self.peer.boot):
            self.transport.handlers[self.channel].frame_received(self, frame)


class SimulatedTransport:
    """One node's sessions. The contract is on `ringhold.node.peers.transport.Transport`."""

    handlers: Mapping[Channel, SessionHandler[Any]]
    raft: RaftHandler
    snapshot_server: SnapshotServer

    def __init__(
        self,
        wires: Wires,
        life: Life,
        machine: str,
        address: str,
        node_id: str,
        cluster_id: Callable[[], str],
        boots: Boots,
        supervisor: Supervisor,
    ) -> None:
        self.life = life
        self.supervisor = supervisor
        self.machine = machine
        self.node_id = node_id
        self.boot = boots.own
        self._wires = wires
        self._network = wires.network
        self._address = address
        self._cluster_id = cluster_id
        self._addresses: dict[str, PeerAddress] = {}
        self._pauses: dict[tuple[str, Channel], float] = {}
        """Seconds until the next attempt to dial, for each peer and channel that is dialled from here."""
        self._boots = boots

    def start(self, requests: SessionHandler[Frame], raft: RaftHandler) -> None:
        self.handlers = {Channel.REQUESTS: requests, Channel.RAFT: raft}
        self.raft = raft
        self._wires.listening[self._address] = self

    def reach(self, addresses: Mapping[str, PeerAddress]) -> None:
        self._addresses = dict(addresses)
        for peer_id, channel in product(addresses, FRAMES):
            if self.node_id < peer_id and (peer_id, channel) not in self._pauses:
                self._pauses[peer_id, channel] = REDIAL_S_MIN
                self._dial(peer_id, channel)

    def _listener(self, peer_id: str) -> "SimulatedTransport | None":
        """Who listens where the peer was last heard of."""
        address = self._addresses.get(peer_id)
        return self._wires.listening.get(address.grpc) if address is not None else None

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        target = self._listener(peer_id)
        if target is None or target.life.is_over or not target.accepts(self._hello(peer_id)):
            return
        self._boots.stamp(beat)
        encoded = beat.SerializeToString(deterministic=True)
        network, weather = self._network, self._network.weather
        for _ in range(2 if network.chance(weather.beat_repeat) else 1):
            if network.chance(weather.beat_loss):
                network.trace.count("beat lost")
            else:
                network.after(network.delay_s(), target.beat_arrives, self, encoded)

    def beat_arrives(self, sender: "SimulatedTransport", encoded: bytes) -> None:
        """A beat has reached this machine, if the way is open."""
        if self._network.is_blocked(sender.machine, self.machine, Channel.BEATS):
            self._network.trace.count("beat lost")
        else:
            self._network.give(self.life, self._hear_beat, sender, Beat.FromString(encoded))

    def _hear_beat(self, sender: "SimulatedTransport", beat: Beat) -> None:
        if sender.node_id in self._addresses and self.meet(sender.node_id, sender.boot):
            self._boots.beat_heard(sender.node_id, sender.boot, beat)
            self.raft.beat_received(sender.node_id, beat)

    def serve_snapshots(self, server: SnapshotServer) -> None:
        self.snapshot_server = server

    async def fetch_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        await asyncio.sleep(self._network.delay_s())
        source = self._listener(peer_id)
        if source is None or source.life.is_over:
            raise SessionEnded("nobody listens there")
        if self._network.is_blocked(self.machine, source.machine, Channel.REQUESTS):
            await asyncio.sleep(HELLO_TIMEOUT_S)
            raise SessionEnded("the peer can't be reached")
        request.hello.CopyFrom(self._hello(peer_id))
        if not source.accepts(request.hello):
            raise SessionEnded("the peer refuses this node")
        stream = self._wires.open_stream(self, source, request)
        stream.begin()
        try:
            while (chunk := await stream.next_chunk()) is not None:
                yield chunk
        finally:
            self._wires.streams.pop(stream.number, None)
            stream.sever((0.0, NOTICE_S_MAX))

    async def stop(self) -> None:
        for stream in list(self._wires.streams.values()):
            if stream.source is self:
                stream.sever((0.0, NOTICE_S_MAX))
        self._wires.listening.pop(self._address, None)
        self._addresses = {}
        for link in list(self._wires.links.values()):
            for end in link.ends:
                if end.transport is self:
                    end.close()

    def lost(self, peer_id: str, channel: Channel) -> None:
        """A session with the peer has ended, or did not come about."""
        pause_s = self._pauses.get((peer_id, channel))
        if pause_s is not None:
            self._pauses[peer_id, channel] = min(REDIAL_S_MAX, pause_s * 2)
            self._network.after(self._network.rng.uniform(pause_s / 2, pause_s), self._dial, peer_id, channel)

    def _dial(self, peer_id: str, channel: Channel) -> None:
        if self.life.is_over or peer_id not in self._addresses:
            self._pauses.pop((peer_id, channel), None)
            return
        self._network.after(self._network.delay_s(), self._call_in, peer_id, channel, self._addresses[peer_id].grpc)

    def _call_in(self, peer_id: str, channel: Channel, address: str) -> None:
        """The hello has reached the machine at the address, if anything does."""
        acceptor = self._wires.listening.get(address)
        if acceptor is None or acceptor.life.is_over:
            self.lost(peer_id, channel)
        elif self._network.is_blocked(self.machine, acceptor.machine, channel):
            self._network.after(HELLO_TIMEOUT_S, self.lost, peer_id, channel)
        elif not acceptor.accepts(self._hello(peer_id)):
            self._network.after(self._network.delay_s(), self._refused, peer_id, channel, acceptor)
        else:
            link = self._wires.connect(self, acceptor, channel)
            link.ends[1].begin()
            link.ends[1].answer_hello(lambda: self._answered(link, peer_id))

    def _refused(self, peer_id: str, channel: Channel, acceptor: "SimulatedTransport") -> None:
        """The acceptor has refused; to a member that runs on an old state of its disk it says so."""
        if self.node_id in acceptor._addresses:
            self._is_ghost(acceptor._hello(self.node_id))
        self.lost(peer_id, channel)

    def _is_ghost(self, hello: Hello) -> bool:
        """Whether this process itself is refused for good, as a peer's hello tells; then it stops."""
        is_ghost = self._boots.is_ghost(hello)
        if is_ghost:
            self._network.trace.count("ghost told")
            self._network.give(self.life, self._boots.give_up, hello)
        return is_ghost

    def accepts(self, hello: Hello) -> bool:
        """Whether a peer that says this is a member of this cluster that means this node, and no ghost."""
        same_cluster = bool(hello.cluster_id) and hello.cluster_id == self._cluster_id()
        is_member = hello.target_node_id == self.node_id and hello.node_id in self._addresses
        if not same_cluster or not is_member or self._is_ghost(hello):
            return False
        return not self._boots.contradiction(hello.node_id, boot_of(hello))

    def meet(self, peer_id: str, boot: Boot) -> bool:
        """A process of the peer is heard; False if another one is known that is newer, or contradicts it."""
        if self._boots.contradiction(peer_id, boot):
            self._network.trace.count("ghost refused")
            return False
        self._boots.meet(peer_id, boot)
        return True

    def _hello(self, peer_id: str) -> Hello:
        hello = Hello(cluster_id=self._cluster_id(), node_id=self.node_id, target_node_id=peer_id)
        return self._boots.hello(hello, peer_id)

    def _answered(self, link: Link, peer_id: str) -> None:
        """The acceptor's hello has come back to the dialling end."""
        dialling, accepting = link.ends
        if link.is_severed:
            return
        if self._network.is_blocked(accepting.transport.machine, self.machine, link.channel):
            self._network.after(HELLO_TIMEOUT_S, link.sever, (0.0, NOTICE_S_MAX))
            return
        self._pauses[peer_id, link.channel] = REDIAL_S_MIN
        dialling.begin()
