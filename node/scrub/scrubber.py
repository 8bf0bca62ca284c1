"""Reads all that a node has stored, slowly and again and again, or at once if somebody asks (DESIGN section 7).

What it finds damaged is rebuilt from other replicas, or mended from memory, before a second copy is hit. One scrub at a
time: the one that was asked for comes before that in the background.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import NamedTuple

from ...api.errors import Conflict, Unavailable
from ...api.limits import KIB
from ...api.proto.ringhold.storage.v1.records_pb2 import ReplicaRecord
from ...ring.topology import SYSTEM_GROUP, partition_of_group
from .. import keyspace
from ..clock import Clock
from ..consensus.groups import Groups
from ..consensus.hosting import HealthListener
from ..replica_record import GONE, HEALTHY
from ..storage.engine import Engine
from ..topology_store import TopologyStore
from .checks import Counted, Finding, Part, Step, group_checked, is_damaged, log_and_vote_checked, node_checked

FIRST_PASS_S = 60.0
"""A node that has just started has other things to do."""

PAUSE_S = 3_600.0
"""Between two passes in the background: with little to read there is no need for more."""

RECORD_COST_BYTES = KIB
"""What a record counts for beside its bytes, when so many bytes are read per second: small ones cost time, too."""

COPYING_LOOK_S = 1.0

NEWS_S = 0.5
"""Between two reports on a scrub that somebody asked for."""

DAMAGE_REPORTED_MAX = 100
"""Of one pass; the rest is counted only."""


class Damage(NamedTuple):
    """What was found, and what was done about it. `group` None: a record of the node itself."""

    group: int | None
    what: str
    done: str


@dataclass(slots=True)
class Pass:
    """How far a scrub is, and what it has found."""

    began: float
    groups_in_all: int
    groups: int = 0
    records: int = 0
    bytes: int = 0
    uncounted: int = 0
    damage: int = 0
    found: list[Damage] = field(default_factory=list)
    seconds: float = 0.0
    is_done: bool = False


class Pace:
    """Holds a scrub back to so many bytes per second; 0: as fast as it goes, but for a turn of the loop each time."""

    def __init__(self, clock: Clock, bytes_per_s: int) -> None:
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._due = clock.now()

    async def spend(self, step: Step) -> None:
        """Return when the next slice may be read."""
        if not self._bytes_per_s:
            await asyncio.sleep(0)
            return
        now = self._clock.now()
        self._due = max(self._due, now) + (step.bytes + step.records * RECORD_COST_BYTES) / self._bytes_per_s
        await self._clock.sleep(self._due - now)


class Scrubber:
    """The scrubs of a node. `run` is its loop."""

    def __init__(
        self,
        engine: Engine,
        groups: Groups,
        store: TopologyStore,
        clock: Clock,
        tell: HealthListener,
        bytes_per_s: int,
    ) -> None:
        self.bytes = 0
        """Read since the process began."""
        self.damage = 0
        """Found since then."""
        self._engine = engine
        self._groups = groups
        self._store = store
        self._clock = clock
        self._tell = tell
        self._bytes_per_s = bytes_per_s
        self._began = clock.now()
        self._ended: float | None = None
        self._asked_for: Pass | None = None
        self._is_free = asyncio.Event()
        self._is_free.set()
        self._is_closed = False

    @property
    def age_s(self) -> float | None:
        """Seconds since the last full pass; None: there was none in this process."""
        return None if self._ended is None else self._clock.now() - self._ended

    @property
    def unscrubbed_s(self) -> float:
        """As `age_s`, from the start of the process on if there was no full pass yet."""
        return self._clock.now() - (self._began if self._ended is None else self._ended)

    @property
    def is_asked_for(self) -> bool:
        """Whether a scrub is under way that somebody has asked for."""
        return self._asked_for is not None

    def close(self) -> None:
        """Begin no scrub any more, and end the one that is under way: the node stops."""
        self._is_closed = True

    async def run(self) -> None:
        """Scrub in the background for ever. Raises EngineFailed: what can't even be read stops the node."""
        await self._clock.sleep(FIRST_PASS_S)
        while self._bytes_per_s and not self._is_closed:
            await self._is_free.wait()
            passing = self._new_pass()
            async with aclosing(self._steps(passing, self._bytes_per_s)) as steps:
                async for _ in steps:
                    await self._while_copying()
                    if self._asked_for is not None or self._is_closed:
                        break  # begins again from the start
            if passing.is_done:
                await self._clock.sleep(PAUSE_S)

    async def _while_copying(self) -> None:
        """Commands have to bear the copies that are under way already: a pass in the background can wait for these."""
        while not (self._groups.foreground.is_at_rest(self._clock.now()) or self._asked_for or self._is_closed):
            await self._clock.sleep(COPYING_LOOK_S)

    async def scrub(self, bytes_per_s: int) -> AsyncGenerator[Pass, None]:
        """Read everything once: how far it is, now and then, and at the end. What `found` has since is the caller's.

        Raises Conflict if another one is under way, Unavailable when the node stops.
        """
        if self._asked_for is not None:
            raise Conflict("SCRUB_RUNNING", "a scrub of this node is under way, and there is only one at a time")
        passing = self._asked_for = self._new_pass()
        self._is_free.clear()
        try:
            told_at = self._clock.now()
            async with aclosing(self._steps(passing, bytes_per_s)) as steps:
                async for _ in steps:
                    if self._is_closed:
                        raise Unavailable("DRAINING", "this node is stopping")
                    if self._clock.now() - told_at >= NEWS_S:
                        told_at = self._clock.now()
                        yield passing
            yield passing
        finally:
            self._asked_for = None
            self._is_free.set()

    def _new_pass(self) -> Pass:
        return Pass(self._clock.now(), len(self._groups.hosting.records))

    async def _steps(self, passing: Pass, bytes_per_s: int) -> AsyncGenerator[None, None]:
        """A whole pass; each step is a slice."""
        pace = Pace(self._clock, bytes_per_s)
        for group in (None, *sorted(self._groups.hosting.records)):
            with closing(self._group_steps(passing, group)) as steps:
                for step in steps:
                    passing.records += step.records
                    passing.bytes += step.bytes
                    passing.seconds = self._clock.now() - passing.began
                    self.bytes += step.bytes
                    yield
                    await pace.spend(step)
            passing.groups += group is not None
        if passing.damage:
            await self._engine.sync()  # what was mended
        self._end(passing)
        yield

    def _end(self, passing: Pass) -> None:
        passing.is_done = True
        self._ended = self._clock.now()
        passing.seconds = self._ended - passing.began
        self._tell(
            "scrubbed",
            records=passing.records,
            bytes=passing.bytes,
            seconds=round(passing.seconds, 1),
            damage=passing.damage,
            uncounted=passing.uncounted,
        )

    def _group_steps(self, passing: Pass, group: int | None) -> Generator[Step, None, None]:
        """One group, or the node's own records; what is found is dealt with in the same breath."""
        view, now = self._engine.snapshot, self._clock.now
        if group is None:
            yield from self._dealt_with(passing, None, None, node_checked(view))
            return
        record = self._groups.hosting.records[group]
        if record.status == HEALTHY:
            counted = Counted()
            yield from self._dealt_with(passing, group, record, group_checked(view, now, group, counted))
            passing.uncounted += not counted.in_one_view
        if record.status != GONE:
            yield from self._dealt_with(passing, group, None, log_and_vote_checked(view, group))

    def _dealt_with(
        self, passing: Pass, group: int | None, record: ReplicaRecord | None, steps: Generator[Step, None, None]
    ) -> Generator[Step, None, None]:
        """The steps. `record`: they end as soon as the rows are no longer those that it speaks of."""
        with closing(steps):
            for step in steps:
                if record is not None and self._groups.hosting.records[group or 0] is not record:
                    return
                for finding in step.findings:
                    self._deal_with(passing, group, finding)
                    if record is not None and self._groups.hosting.records[group or 0] is not record:
                        break
                yield step

    def _deal_with(self, passing: Pass, group: int | None, finding: Finding) -> None:
        done = self._mend(group, finding)
        if done is None:
            return
        self.damage += 1
        passing.damage += 1
        if passing.damage <= DAMAGE_REPORTED_MAX:
            passing.found.append(Damage(group, finding.what, done))
            self._tell("damage found", where=place_of(group), what=finding.what, done=done)

    def _mend(self, group: int | None, finding: Finding) -> str | None:
        """Do what can be done about it, and say what; None: it is not damaged any more, or does not matter."""
        if finding.part is Part.ROWS:
            assert group is not None
            is_given_up = self._groups.row_damaged(group, f"a scrub has found {finding.what}")
            return "to be rebuilt from another replica" if is_given_up else "kept: there is no other copy"
        if not is_damaged(self._engine, finding.stored_key):
            return None
        if finding.part is Part.NODE:
            return "written anew" if self._store.mend(finding.stored_key) else "left as it is"
        assert group is not None
        repairs = self._groups.repairs
        if finding.part is Part.VOTE:
            return "written anew" if repairs.mend_vote(group) else None
        if finding.part is Part.REPLICA:
            return "written anew" if repairs.mend_record(group) else None
        is_written = repairs.mend_entry(group, keyspace.split_log_key(finding.stored_key)[1])
        return None if is_written is None else "written anew" if is_written else "dropped: it is applied"


def place_of(group: int | None) -> str:
    """Where something was found, for people."""
    if group is None:
        return "the node itself"
    return "the system group" if group == SYSTEM_GROUP else f"partition {partition_of_group(group)}"
