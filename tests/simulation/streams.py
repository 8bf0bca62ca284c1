"""Snapshots on their way between simulated nodes: chunks late, in order and few at a time, or cut off at any of them.

Each has a connection of its own, as in node/peers/grpc_snapshots.py. What has been made and not taken is bounded by the
window; a partition holds chunks back until it heals or the keepalive gives the connection up.
"""

import asyncio
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from xxhash import xxh3_64_hexdigest

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk, SnapshotRequest
from ringhold.node.peers.transport import SessionEnded, SnapshotRefused

from .network import KEEPALIVE_S, Channel, Network

if TYPE_CHECKING:
    from .sessions import SimulatedTransport

WINDOW_CHUNKS = 2
LOOK_AGAIN_S = 0.25
"""Between two looks at whether a blocked way is open."""

NOTICE_S = (0.0, 0.3)
"""How long an end may take to notice that the connection broke."""

Parcel: TypeAlias = "bytes | SnapshotRefused | None"
"""An encoded chunk, a refusal, or the end of the stream."""


@dataclass(eq=False)
class SnapshotStream:
    """One request for a snapshot and what comes of it. Methods with an underscore run as the network's own doing."""

    number: int
    network: Network
    source: "SimulatedTransport"
    target: "SimulatedTransport"
    request: SnapshotRequest
    is_severed: bool = False
    has_begun: bool = False
    """Something has come."""
    _sending: "asyncio.Task[None] | None" = None
    _credit: int = WINDOW_CHUNKS
    _credited: asyncio.Event = field(default_factory=asyncio.Event)
    _arrival: float = 0.0
    _held: list[Parcel] = field(default_factory=list)
    _held_until: float = 0.0
    _here: "deque[Parcel | SessionEnded]" = field(default_factory=deque)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """Send the request on its way."""
        self.network.after(self.network.delay_s(), self.network.give, self.source.life, self._serve)

    async def next_chunk(self) -> SnapshotChunk | None:
        """The next that comes; None at the end. Raises SnapshotRefused, SessionEnded."""
        while not self._here:
            self._came.clear()
            await self._came.wait()
        parcel = self._here.popleft()
        if isinstance(parcel, Exception):
            raise parcel
        if parcel is None:
            return None
        self.network.after(self.network.delay_s(), self.network.give, self.source.life, self._add_credit)
        return SnapshotChunk.FromString(parcel)

    def sever(self, notice_s: tuple[float, float]) -> None:
        """Nothing arrives any more; each end notices within these bounds."""
        if self.is_severed:
            return
        self.is_severed = True
        network = self.network
        network.trace.note("network", f"snapshot stream {self.number} ends")
        ended = SessionEnded("the connection broke")
        network.after(network.rng.uniform(*notice_s), network.give, self.target.life, self._deliver, ended)
        network.after(network.rng.uniform(*notice_s), network.give, self.source.life, self._stop_sending)

    def _serve(self) -> None:
        """The request has reached the source."""
        if not self.is_severed:
            work = self._send()
            self._sending = self.source.supervisor.spawn(f"snapshot for {self.target.node_id}", work)

    async def _send(self) -> None:
        server = self.source.snapshot_server
        try:
            async with aclosing(server.serve_snapshot(self.target.node_id, self.request)) as chunks:
                async for chunk in chunks:
                    self._carry(chunk.SerializeToString(deterministic=True))
                    await self._wait_for_credit()
            self._carry(None)
        except SnapshotRefused as refusal:
            self._carry(refusal)

    async def _wait_for_credit(self) -> None:
        self._credit -= 1
        while self._credit < 0:
            self._credited.clear()
            await self._credited.wait()

    def _add_credit(self) -> None:
        self._credit += 1
        self._credited.set()

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()

    def _carry(self, parcel: Parcel) -> None:
        network = self.network
        what = f"{len(parcel)} bytes, {xxh3_64_hexdigest(parcel)}" if isinstance(parcel, bytes) else str(parcel)
        network.trace.note(self.source.machine, f"snapshot {self.number} to {self.target.machine}: {what}")
        if isinstance(parcel, bytes):
            network.trace.count("snapshot chunk")
            if network.chance(network.weather.break_chance):
                network.trace.count("snapshot cut off")
                self.sever(NOTICE_S)
        self._arrival = max(self._arrival, network.now + network.delay_s())
        network.at(self._arrival, self._arrive, parcel)

    def _arrive(self, parcel: Parcel) -> None:
        if self.is_severed:
            return
        if not self._held and not self._is_blocked():
            self.network.give(self.target.life, self._deliver, parcel)
            return
        if not self._held:
            self._held_until = self.network.now + self.network.rng.uniform(*KEEPALIVE_S)
            self.network.after(LOOK_AGAIN_S, self._look_again)
        self._held.append(parcel)

    def _look_again(self) -> None:
        """What is held back arrives if the way is open by now, or never does."""
        if self.is_severed:
            return
        if self._is_blocked():
            if self.network.now >= self._held_until:
                self.network.trace.count("snapshot cut off")
                self.sever(NOTICE_S)
            else:
                self.network.after(LOOK_AGAIN_S, self._look_again)
            return
        held, self._held = self._held, []
        for parcel in held:
            self.network.give(self.target.life, self._deliver, parcel)

    def _is_blocked(self) -> bool:
        ends = (self.source.machine, self.target.machine)
        return any(self.network.is_blocked(*way, Channel.REQUESTS) for way in (ends, ends[::-1]))

    def _deliver(self, parcel: "Parcel | SessionEnded") -> None:
        self._here.append(parcel)
        self.has_begun = True
        self._came.set()
