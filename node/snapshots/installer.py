"""Gets snapshots and installs them: the rows of a replica that the log can't help any more are replaced by a leader's.

Before anything is deleted the first chunk is there and worth it. From then on the replica serves nothing until the last
row is written; log and vote stay. A crash anywhere leaves a replica that is known to have no good rows, and that is
offered a snapshot again (docs/protocols/consensus.md).
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from ...api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk, SnapshotRequest
from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState
from ..clock import Clock
from ..consensus.groups import Groups
from ..consensus.hosting import HealthListener
from ..peers.transport import Chunks, SessionEnded, SnapshotRefused
from ..storage.engine import Engine, WriteBatch
from ..storage.erasing import erase
from .chunks import BrokenChunk, check, ranges_of, state_in
from .throttle import Throttle

INSTALLS_MAX = 2
"""At once on a node; further groups wait. Each writes about as fast as the disk and the throttle allow."""

UNSYNCED_BYTES_MAX = 1024 * 1024
"""Written before the next sync is waited for: what a sync, and so a command, may have to wait for at most."""

CHUNK_S_MAX = 10.0
"""A chunk that takes longer is taken for lost, and with it its stream."""

PATIENCE_S = 30.0
"""Without a chunk for so long an installation is given up; the next offer begins another."""

RESUME_PAUSE_S = 0.2
"""Before a stream that broke is gone on with."""

Fetch = Callable[[str, SnapshotRequest], Chunks]


class GivenUp(Exception):
    """The installation ends here, for this reason; an offer will begin another one if it is still needed."""


@dataclass(eq=False)
class Installation:
    """One snapshot on its way into a replica: what of it has been taken so far."""

    group: int
    source: str
    replica_id: int
    state: GroupState | None = None
    view: int = 0
    after: bytes = b""
    checksum: int = 0
    is_complete: bool = False
    rows: int = 0
    bytes: int = 0
    unsynced: int = 0
    progress_at: float = 0.0

    @property
    def request(self) -> SnapshotRequest:
        """For the next chunk, and all that follow."""
        return SnapshotRequest(
            group=self.group, replica_id=self.replica_id, view=self.view, after=self.after, checksum=self.checksum
        )

    def take(self, chunk: SnapshotChunk) -> None:
        """A chunk has come that follows. Raises BrokenChunk if it does not."""
        check(chunk, self.group, self.view, self.after, self.checksum)
        if self.state is None:
            self.state = state_in(chunk)
        self.view, self.checksum, self.is_complete = chunk.view, chunk.checksum, chunk.last
        if chunk.rows:
            self.after = chunk.rows[-1].key
        self.rows += len(chunk.rows)
        self.bytes += chunk.ByteSize()


@dataclass
class InstallCounts:
    """What became of the installations of this life."""

    done: int = 0
    given_up: int = 0
    bytes_received: int = 0
    running: dict[int, Installation] = field(default_factory=dict)


class Installer:
    """Installs what the groups of this node are offered. `run` is its loop, of which `INSTALLS_MAX` run at once."""

    def __init__(
        self,
        engine: Engine,
        groups: Groups,
        fetch: Fetch,
        clock: Clock,
        throttle: Throttle,
        tell: HealthListener,
        *,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_full`: whether there is no room for rows now; an installation that finds none is given up."""
        self._engine = engine
        self._groups = groups
        self._hosting = groups.hosting
        self._fetch = fetch
        self._clock = clock
        self._throttle = throttle
        self._tell = tell
        self._is_full = is_full
        self._waiting: dict[int, str] = {}
        self._offered = asyncio.Event()
        self.counts = InstallCounts()

    @property
    def waiting(self) -> int:
        """Groups that have been offered a snapshot and wait for their turn."""
        return len(self._waiting)

    def offered(self, group: int, leader: str) -> None:
        """A leader offers a snapshot of a group that needs one here; an offer of an earlier leader is forgotten."""
        if group not in self.counts.running:
            self._waiting[group] = leader
            self._offered.set()

    async def run(self) -> None:
        """Install for ever, one after the other. Raises EngineFailed."""
        while True:
            await self._offered.wait()
            if not self._waiting:
                self._offered.clear()
                continue
            group = next(iter(self._waiting))
            await self._install(group, self._waiting.pop(group))

    async def _install(self, group: int, source: str) -> None:
        replica_id = self._hosting.replica_id(group)
        if replica_id is None:
            return
        installation = Installation(group, source, replica_id, progress_at=self._clock.now())
        self.counts.running[group] = installation
        began = self._clock.now()
        try:
            await self._run_to_end(installation)
        except GivenUp as reason:
            self.counts.given_up += 1
            if installation.state is not None:
                self._tell("snapshot given up", group=group, source=source, rows=installation.rows, reason=str(reason))
        else:
            self.counts.done += 1
            seconds = round(self._clock.now() - began, 3)
            figures = {"rows": installation.rows, "bytes": installation.bytes, "seconds": seconds}
            self._tell("snapshot complete", group=group, source=source, **figures)
        finally:
            del self.counts.running[group]

    async def _run_to_end(self, installation: Installation) -> None:
        """Stream after stream, until one has brought the last chunk. Raises GivenUp."""
        while True:
            try:
                await self._stream(installation)
            except (SessionEnded, TimeoutError) as error:
                broken = error
            except (SnapshotRefused, BrokenChunk) as error:
                raise GivenUp(str(error)) from error
            else:
                return
            if installation.state is None:
                raise GivenUp(f"nothing came: {broken}") from broken
            if self._clock.now() - installation.progress_at >= PATIENCE_S:
                raise GivenUp(f"nothing more comes: {broken}") from broken
            if self._groups.leader(installation.group)[0] not in {installation.source, None}:
                raise GivenUp("there is another leader") from broken
            await self._clock.sleep(RESUME_PAUSE_S)

    async def _stream(self, installation: Installation) -> None:
        """Take chunks until the last, and finish. Raises SessionEnded, TimeoutError, SnapshotRefused, BrokenChunk."""
        async with aclosing(self._fetch(installation.source, installation.request)) as chunks:
            while not installation.is_complete:
                chunk = await self._next(chunks)
                began = self._clock.now()
                is_first = installation.state is None
                installation.take(chunk)
                installation.progress_at = began
                checked_s = self._clock.now() - began
                self.counts.bytes_received += chunk.ByteSize()
                if is_first:
                    await self._begin(installation)
                await self._write(installation, chunk, checked_s)
            self._finish(installation)
            with suppress(SessionEnded, SnapshotRefused, TimeoutError):  # all is here, however the stream ends
                await self._next(chunks)  # which ends it in order: the source keeps the view of one that is cut off

    async def _next(self, chunks: Chunks) -> SnapshotChunk:
        async with asyncio.timeout(CHUNK_S_MAX):
            try:
                return await anext(chunks)
            except StopAsyncIteration as error:
                raise SessionEnded("the stream ended before the last chunk") from error

    async def _begin(self, installation: Installation) -> None:
        """The first chunk is there: nothing is lost by deleting what it is to replace. Raises GivenUp."""
        state, group = installation.state, installation.group
        assert state is not None
        self._check_wanted(installation)
        if not self._hosting.needs(group, state.applied_index):
            raise GivenUp(f"its index {state.applied_index} is nothing new here")
        figures = {"source": installation.source, "index": state.applied_index}
        self._tell("snapshot begins", group=group, replica=installation.replica_id, **figures)
        self._hosting.begin_install(group)
        await erase(self._engine, ranges_of(group))
        await self._hosting.synced()

    async def _write(self, installation: Installation, chunk: SnapshotChunk, worked_s: float) -> None:
        """Store the rows of a chunk, which has taken the event loop so long already. Raises GivenUp."""
        self._check_wanted(installation)
        if self._is_full():
            raise GivenUp("the disk is full")
        began = self._clock.now()
        batch = WriteBatch()
        for row in chunk.rows:
            batch.put(row.key, row.value)
        self._engine.write(batch)
        worked_s += self._clock.now() - began
        size = chunk.ByteSize()
        installation.unsynced += size
        if installation.unsynced >= UNSYNCED_BYTES_MAX:
            installation.unsynced = 0
            await self._hosting.synced()
        await self._throttle.spend(size, worked_s)

    def _finish(self, installation: Installation) -> None:
        """All rows are written: from this batch on they are the replica's. Raises GivenUp."""
        self._check_wanted(installation)
        assert installation.state is not None
        self._hosting.finish_install(installation.group, installation.state)

    def _check_wanted(self, installation: Installation) -> None:
        """Raises GivenUp if the replica is not there any more: then its rows are being deleted, or are another's."""
        if self._hosting.replica_id(installation.group) != installation.replica_id:
            raise GivenUp("the replica is gone")
