"""What carries consensus between the groups of nodes in one process, as the exchange does: in order, without a gap."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import (
    Beat,
    RaftKind,
    RaftMessage,
    SnapshotChunk,
    SnapshotRequest,
)
from ringhold.node.peers.raft_exchange import ConsensusPort
from ringhold.node.peers.transport import Chunks, SessionEnded, SnapshotServer

LATENCY_S = 0.0005


@dataclass
class Line:
    """What one node has posted to another in their session and the other has not got."""

    messages: list[RaftMessage] = field(default_factory=list)
    heard_beat: int = 0


class Network:
    """Sessions and beats between `ConsensusPort`s. Messages are copied, as on a real wire.

    `sent` is everything that was posted, and `frames` how much of it arrived together from whom to whom, for tests to
    look at. Nothing gets lost within a session; `hold` delays it. `chunks` are those of snapshots that have left, and
    `on_chunk` may change one on its way, or raise SessionEnded in its place.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, RaftMessage]] = []
        self.frames: list[tuple[str, str, int]] = []
        self.chunks: list[tuple[str, str, SnapshotChunk]] = []
        self.on_chunk: Callable[[SnapshotChunk], SnapshotChunk] = lambda chunk: chunk
        self._ports: dict[str, ConsensusPort] = {}
        self._sources: dict[str, SnapshotServer] = {}
        self._lines: dict[tuple[str, str], Line] = {}
        self._held: set[tuple[str, str]] = set()
        self._cut: set[frozenset[str]] = set()
        self._deaf: set[tuple[str, str]] = set()

    def add(self, node_id: str, port: ConsensusPort) -> "NodeWire":
        """A node comes up; its sessions begin with `connect`."""
        self._ports[node_id] = port
        return NodeWire(node_id, self)

    def serve_snapshots(self, node_id: str, server: SnapshotServer) -> None:
        """The node sends snapshots as long as it is up."""
        self._sources[node_id] = server

    async def fetch_snapshot(self, target: str, source: str, request: SnapshotRequest) -> Chunks:
        """What the source sends the target, as long as a session between the two lasts."""
        if not self.connected(source, target) or source not in self._sources:
            raise SessionEnded("there is no way to the source")
        session = self._lines[source, target]
        await asyncio.sleep(LATENCY_S)
        async with aclosing(self._sources[source].serve_snapshot(target, request)) as chunks:
            async for chunk in chunks:
                self.chunks.append((source, target, chunk))
                carried = self.on_chunk(SnapshotChunk.FromString(chunk.SerializeToString()))
                await asyncio.sleep(LATENCY_S)
                if self._lines.get((source, target)) is not session:
                    raise SessionEnded("the session ended")
                yield carried

    def connect(self, node_id: str) -> None:
        """Begin the node's sessions with all others that can be reached."""
        for other in list(self._ports):
            self._begin(node_id, other)

    def remove(self, node_id: str) -> None:
        """A node is gone: the others notice it at once, as when its sockets are closed."""
        del self._ports[node_id]
        self._sources.pop(node_id, None)
        for other, port in list(self._ports.items()):
            if self._drop_lines(node_id, other):
                port.session_ended(node_id)

    def cut(self, node_id: str, others: Iterable[str]) -> None:
        """End the sessions of a node with some others and carry nothing between them, beats neither."""
        for other in others:
            self._cut.add(frozenset((node_id, other)))
            self.end_session(node_id, other)

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._cut.clear()
        self._deaf.clear()
        for pair in list(self._held):
            self.release(*pair)
        for node_id in list(self._ports):
            self.connect(node_id)

    def end_session(self, one: str, other: str) -> None:
        """What is on its way between the two is lost, and both know; `heal` or `connect` begins another session."""
        if self._drop_lines(one, other):
            self._ports[one].session_ended(other)
            self._ports[other].session_ended(one)

    def lose_beats(self, source: str, target: str) -> None:
        """From now on beats of the one do not come to the other; messages do."""
        self._deaf.add((source, target))

    def hold(self, source: str, target: str) -> None:
        """Messages from one to the other stay on their way until they are released."""
        self._held.add((source, target))

    def release(self, source: str, target: str) -> None:
        self._held.discard((source, target))
        self._deliver(source, target)

    def silence(self, node_id: str) -> None:
        """The node hangs: its sessions stay, and nothing gets through to it or comes of it."""
        for other in self._ports:
            for pair in ((node_id, other), (other, node_id)):
                self.hold(*pair)
                self.lose_beats(*pair)

    def connected(self, one: str, other: str) -> bool:
        return (one, other) in self._lines

    def kinds(self, source: str, target: str) -> list[RaftKind]:
        """The kinds of messages that one node has posted to another, in their order."""
        return [message.kind for sender, receiver, message in self.sent if (sender, receiver) == (source, target)]

    def post(self, source: str, target: str, message: RaftMessage) -> None:
        line = self._lines.get((source, target))
        if line is None:
            return
        self.sent.append((source, target, message))
        if not line.messages:
            line.heard_beat = self._ports[source].heard_beat(target)
            asyncio.get_running_loop().call_later(LATENCY_S, self._deliver, source, target)
        line.messages.append(RaftMessage.FromString(message.SerializeToString()))

    def send_beat(self, source: str, target: str, beat: Beat) -> None:
        if (source, target) not in self._deaf and frozenset((source, target)) not in self._cut:
            copy = Beat.FromString(beat.SerializeToString())
            asyncio.get_running_loop().call_later(LATENCY_S, self._bring_beat, source, target, copy)

    def _bring_beat(self, source: str, target: str, beat: Beat) -> None:
        if target in self._ports:
            self._ports[target].beat_received(source, beat)

    def _deliver(self, source: str, target: str) -> None:
        line = self._lines.get((source, target))
        if line is not None and line.messages and (source, target) not in self._held:
            arrived, line.messages = line.messages, []
            self.frames.append((source, target, len(arrived)))
            self._ports[target].receive(source, arrived, line.heard_beat)

    def _begin(self, one: str, other: str) -> None:
        if one == other or self.connected(one, other) or frozenset((one, other)) in self._cut:
            return
        self._lines[one, other], self._lines[other, one] = Line(), Line()
        self._ports[one].session_began(other)
        self._ports[other].session_began(one)

    def _drop_lines(self, one: str, other: str) -> bool:
        self._lines.pop((one, other), None)
        return self._lines.pop((other, one), None) is not None


class NodeWire:
    """The network as one node sees it: the `Wire` of its groups."""

    def __init__(self, node_id: str, network: Network) -> None:
        self._node_id = node_id
        self._network = network

    def post(self, peer_id: str, message: RaftMessage) -> None:
        self._network.post(self._node_id, peer_id, message)

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        self._network.send_beat(self._node_id, peer_id, beat)

    def serve_snapshots(self, server: SnapshotServer) -> None:
        self._network.serve_snapshots(self._node_id, server)

    def fetch_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        return self._network.fetch_snapshot(self._node_id, peer_id, request)

    def connected(self, peer_id: str) -> bool:
        return self._network.connected(self._node_id, peer_id)
