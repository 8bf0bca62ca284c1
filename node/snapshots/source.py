"""Sends snapshots: a group's rows as one engine view holds them, to a replica that the log can't help any more.

A view whose stream broke is kept for a while, so that the stream can go on where it ended. Each row is checked before
it is sent: damage does not spread, and is known from then on (docs/protocols/consensus.md).
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...api.proto.ringhold.internal.v1.peer_pb2 import SnapshotRequest
from .. import keyspace
from ..clock import Clock
from ..consensus.groups import Groups
from ..machine.machine import load_state
from ..peers.transport import Chunks, Refusal, SnapshotRefused
from ..storage.engine import Engine, View, ViewGone
from ..storage.envelope import Damaged
from .chunks import RowCutter, made
from .throttle import Throttle

VIEWS_MAX = 4
"""Snapshots that a node sends at once; each keeps a view open, and with it what was deleted or replaced since."""

VIEW_KEPT_S = 10.0
"""So long a view waits for its stream to go on. Raising it saves starting over, and keeps old versions alive."""

LOOK_S = 1.0


@dataclass(eq=False)
class ServedView:
    """A view that somebody reads, or that waits for its reader to come back."""

    number: int
    peer_id: str
    group: int
    view: View
    state: bytes
    """The group's state in it, as it is stored."""
    applied_index: int
    stream: object = field(default_factory=object)
    """The one that reads it now; an earlier one must not."""
    left_at: float | None = None
    """Since when nobody reads it."""


class SnapshotSource:
    """Serves the snapshots of this node's groups. `run` is its loop."""

    def __init__(self, engine: Engine, groups: Groups, clock: Clock, rng: random.Random, throttle: Throttle) -> None:
        self._engine = engine
        self._groups = groups
        self._clock = clock
        self._rng = rng
        self._throttle = throttle
        self._views: dict[int, ServedView] = {}
        self._is_closed = False
        self.bytes_sent = 0

    @property
    def running(self) -> int:
        """Snapshots that are being sent now, or may be gone on with."""
        return len(self._views)

    async def run(self) -> None:
        """Close for ever what nobody has come back to."""
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._clock.now()
            for served in list(self._views.values()):
                if served.left_at is not None and now - served.left_at >= VIEW_KEPT_S:
                    self._close(served)

    def close(self) -> None:
        """Let go of all views, for ever; streams that still read them are refused more."""
        self._is_closed = True
        for served in list(self._views.values()):
            self._close(served)

    async def serve_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        """The contract is on `SnapshotServer`."""
        served = self._taken_up(peer_id, request) if request.view else self._begun(peer_id, request.group)
        stream = served.stream = object()
        served.left_at = None
        rows = RowCutter(
            served.group, lambda start, end, limit: served.view.scan(start, end, limit=limit), request.after
        )
        before, state, is_last = request.checksum, b"" if request.after else served.state, False
        try:
            while not is_last:
                began = self._clock.now()
                with self._refusing(served, stream):
                    chunk = made(served.number, rows.next_rows(), before, state=state, last=rows.is_at_end)
                worked_s = self._clock.now() - began
                self._groups.hosting.snapshot_under_way(served.group, peer_id, served.applied_index)
                yield chunk
                before, state, is_last = chunk.checksum, b"", chunk.last
                self.bytes_sent += chunk.ByteSize()
                await self._throttle.spend(chunk.ByteSize(), worked_s)
        finally:
            if served.stream is stream:
                served.left_at = self._clock.now()
                if is_last:
                    self._close(served)

    def _begun(self, peer_id: str, group: int) -> ServedView:
        """A new view for a peer, who has no use for an earlier one. Raises SnapshotRefused."""
        for earlier in list(self._views.values()):
            if (earlier.peer_id, earlier.group) == (peer_id, group):
                self._close(earlier)
        if self._is_closed or not self._groups.hosting.is_healthy(group):
            raise SnapshotRefused(Refusal.NOT_HERE, f"there is no good copy of group {group} here")
        if len(self._views) >= VIEWS_MAX:
            raise SnapshotRefused(Refusal.BUSY, f"{len(self._views)} snapshots are being sent already")
        view = self._engine.snapshot()
        stored = view.get(keyspace.state_key(group))
        try:
            state = load_state(view, group)
        except Damaged as error:
            view.close()
            raise self._damaged(group, f"its state is damaged: {error}") from error
        number = self._rng.getrandbits(62) + 1  # so that no other life of this node has used it
        served = ServedView(number, peer_id, group, view, stored or b"", state.applied_index)
        self._views[number] = served
        return served

    def _taken_up(self, peer_id: str, request: SnapshotRequest) -> ServedView:
        """The view that a peer wants to go on with. Raises SnapshotRefused."""
        served = self._views.get(request.view)
        is_its_own = served is not None and (served.peer_id, served.group) == (peer_id, request.group)
        if served is None or not is_its_own or not request.after:
            raise SnapshotRefused(Refusal.VIEW_GONE, "what was begun was kept for so long, and is not any more")
        return served

    @contextmanager
    def _refusing(self, served: ServedView, stream: object) -> Iterator[None]:
        """Where a chunk is made: what stands in the way ends the stream, with a word to whoever reads it."""
        try:
            if served.stream is not stream:
                raise SnapshotRefused(Refusal.VIEW_GONE, "a later stream reads the view")
            yield
        except ViewGone as error:
            self._close(served)
            raise SnapshotRefused(Refusal.VIEW_GONE, str(error)) from error
        except Damaged as error:
            self._close(served)
            raise self._damaged(served.group, f"a row that was to be sent is damaged: {error}") from error

    def _damaged(self, group: int, reason: str) -> SnapshotRefused:
        """The copy here is no good: nobody must be served from it any more."""
        self._groups.hosting.rows_damaged(group, reason)
        return SnapshotRefused(Refusal.DAMAGED, reason)

    def _close(self, served: ServedView) -> None:
        served.view.close()
        self._views.pop(served.number, None)
