"""The tick: what all groups of a node have to apply and to store goes into one engine write, and then one sync.

While a sync is under way commands and messages gather. The next tick applies what has been committed and stores what
has gathered in one engine write, and syncs again; whatever rests on a sync leaves after it (DESIGN section 7).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftMessage
from ..clock import Clock
from ..gathering import gathered
from ..storage.engine import Engine, WriteBatch
from .applying import Applier, Done, Work
from .configuration import Configuration
from .core import Replica
from .foreground import Foreground
from .messages import Outbound
from .recovery import put_writes
from .states import Writes
from .tickets import Admission, Applied, Deposed, NotLeader, Waiting

LeaderListener: TypeAlias = Callable[[int, str | None, int], None]
OfferListener: TypeAlias = Callable[[int, str], None]
Stored: TypeAlias = tuple[Replica[Waiting], Writes]

FOLLOWERS_BEHIND_MAX = 64
"""Committed entries of a group that a follower leaves for later: nobody waits for them, and many at once cost less."""


PACE_S = 0.0002
"""A tick follows the one before after so long for each command without an outcome.

That is about what a command takes of the processor on its way, so nobody waits who would not wait for the processor;
but what comes in this time shares one write, one sync and its frames, which are dear when they are many and small.
"""
PACE_S_MAX = 0.01
"""And after so long at the latest."""


class Wire(Protocol):
    """What carries messages to other nodes."""

    def post(self, peer_id: str, message: RaftMessage) -> None:
        """Send with the next frame; without a session the message is lost."""

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        """Send a heartbeat at once, if that is possible."""


class Ticks:
    """Carries out what the replicas of a node come to. `run` is its loop; all else is called between two awaits."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        replicas: Mapping[int, Replica[Waiting]],
        applier: Applier,
        admission: Admission,
        foreground: Foreground,
        bytes_per_tick_max: int,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._replicas = replicas
        self._applier = applier
        self._admission = admission
        self._foreground = foreground
        self._bytes_per_tick_max = bytes_per_tick_max
        self.wire: Wire | None = None
        self.leader_listeners: list[LeaderListener] = []
        self.on_offer: OfferListener = lambda group, leader: None
        self.on_damage: Callable[[int, str], None] = lambda group, reason: None
        self.on_configuration: Callable[[int, int, Configuration], None] = lambda group, index, configuration: None
        self._leaders_told: dict[int, tuple[str | None, int]] = {}
        self._dirty: dict[int, None] = {}
        self._left: dict[int, None] = {}
        """Followers that have left something for later, and below those that have been called to apply it."""
        self._behind: dict[int, None] = {}
        self._work = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None
        self._stored: Sequence[Stored] = ()
        self._to_call: list[Callable[[], None]] = []
        self._to_call_after_sync: Sequence[Callable[[], None]] = ()
        self._sync_began = 0.0
        self._sync_s_max = 0.0

    @property
    def sync_running_s(self) -> float:
        """How long the sync under way has taken so far; 0 if there is none."""
        return self._clock.now() - self._sync_began if self._syncing is not None else 0.0

    @property
    def sync_s_max(self) -> float:
        """The longest that a sync has taken in this life, the one under way included."""
        return max(self._sync_s_max, self.sync_running_s)

    async def run(self) -> None:
        """Tick for ever. Raises EngineFailed, UnknownCommand (the node stops); what was accepted stays unanswered."""
        last = self._clock.now()
        try:
            while True:
                await self._work.wait()
                self._end_sync()
                if self._admission.commands > 1 or len(self._dirty) > 1:
                    await gathered(lambda: self._admission.commands + len(self._dirty))
                    await self._paced(last)
                last = self._clock.now()
                self._work.clear()
                self._end_sync()
                await self._tick()
        finally:
            if self._syncing is not None:
                self._syncing.cancel()
            self._admission.none_left.set()

    async def _paced(self, last: float) -> None:
        """Return when a tick may follow the one that began at `last`: soon when little is under way."""
        under_way = self._admission.commands
        rest_s = min(PACE_S_MAX, under_way * PACE_S) - (self._clock.now() - last) if under_way > 1 else 0
        if rest_s > PACE_S:
            await self._clock.sleep(rest_s)

    async def _tick(self) -> None:
        """Apply what is committed, in slices; with the last one store what has gathered, unless a sync is under way."""
        dirty, self._dirty = self._dirty, {}
        replicas = [self._replicas[group] for group in dirty if group in self._replicas]
        slices = self._applier.slices(self._applicable(replicas))
        for slice_ in slices[:-1]:
            self._write(slice_, [], WriteBatch())
            await asyncio.sleep(0)
        replicas = [replica for replica in replicas if self._replicas.get(replica.group) is replica]
        if self._syncing is None:
            self._write(slices[-1], replicas, WriteBatch())
        else:
            self._write(slices[-1], [], WriteBatch())
            self._dirty |= dict.fromkeys(replica.group for replica in replicas if replica.has_work)  # after the sync

    def catch_up(self) -> None:
        """Have followers apply what they have left for later."""
        if self._left:
            self._behind |= self._left
            self._dirty |= self._left
            self._left = {}
            self._work.set()

    def _applicable(self, replicas: Sequence[Replica[Waiting]]) -> list[Replica[Waiting]]:
        """Which of these apply what is committed now: leaders at once, followers when it is much, or called for."""
        called, self._behind = self._behind, {}
        return [
            replica
            for replica in replicas
            if replica.leads or replica.group in called or replica.committed_left >= FOLLOWERS_BEHIND_MAX
        ]

    def _write(self, slice_: Sequence[Work], storing: Sequence[Replica[Waiting]], batch: WriteBatch) -> None:
        """One engine write; then the answers go out."""
        done, failed = self._applier.apply(slice_, batch)
        stored = self._take_writes(storing, batch)
        self._applier.drop_log(storing, batch)
        if batch:
            self._engine.write(batch)
        self._finish(done)
        for group, reason, tickets in failed:
            self._give_up(group, reason, tickets)
        if self._syncing is None and (stored or self._to_call):
            self._begin_sync(stored)

    def _take_writes(self, replicas: Sequence[Replica[Waiting]], batch: WriteBatch) -> list[Stored]:
        """Put what the replicas must store into the batch; what does not fit waits for the next tick."""
        now, slices = self._clock.now(), self._applier.config
        stored: list[Stored] = []
        size = 0
        for replica in replicas:
            if size < self._bytes_per_tick_max:
                writes = replica.take_writes(now, slices.reads_max // 2, slices.bytes_max)
                self.settle(replica)
                if writes is not None:
                    size += put_writes(batch, replica.group, writes)
                    stored.append((replica, writes))
            if replica.has_work:
                self.touch(replica.group)
        return stored

    def _finish(self, done: Sequence[Done]) -> None:
        """What was applied can be read now (P4): tell the replicas, and whoever waits."""
        now = self._clock.now()
        for group, committed, outcomes in done:
            replica = self._replicas[group]
            replica.applied(committed.entry.index, now)
            log_time_ms = committed.entry.content.log_time_ms
            for waiting, outcome in zip(committed.tickets, outcomes, strict=bool(committed.tickets)):
                self._admission.answer(waiting, Applied(outcome, replica.term, log_time_ms))
                self._foreground.took(now - waiting.since, now)
            self.settle(replica)
        for group in dict.fromkeys(each.group for each in done):
            self._applier.machines[group].written()
        for group, committed, _ in done:
            if committed.entry.content.HasField("configuration") and group in self._replicas:
                configuration = Configuration.decode(committed.entry.content.configuration)
                self.on_configuration(group, committed.entry.index, configuration)

    def _give_up(self, group: int, reason: str | None, tickets: Sequence[Waiting]) -> None:
        """A group's rows turned out to be damaged: what was to be applied here may be applied elsewhere."""
        for waiting in tickets:
            self._admission.answer(waiting, Deposed("the leader's rows are damaged"))
        if reason is not None and group in self._replicas:
            self.on_damage(group, reason)

    def when_synced(self, call: Callable[[], None]) -> None:
        """Call back once everything that is written by now is durable."""
        self._to_call.append(call)
        self._work.set()

    def send(self, peer_id: str, message: RaftMessage) -> None:
        """Send a message of no replica's."""
        self._post([Outbound(peer_id, message)])

    def _begin_sync(self, stored: Sequence[Stored]) -> None:
        self._stored = stored
        self._to_call_after_sync, self._to_call = self._to_call, []
        self._sync_began = self._clock.now()
        self._syncing = asyncio.get_running_loop().create_task(self._engine.sync())
        self._syncing.add_done_callback(lambda _: self._work.set())

    def _end_sync(self) -> None:
        """If the sync under way has ended, all that was stored is durable: what rests on it counts, and may leave.

        Raises EngineFailed: a failed sync is never retried, the node stops (DESIGN section 7).
        """
        if self._syncing is None or not self._syncing.done():
            return
        self._sync_s_max = self.sync_s_max
        syncing, self._syncing = self._syncing, None
        syncing.result()
        now = self._clock.now()
        for replica, writes in self._stored:
            if self._replicas.get(replica.group) is not replica:
                continue  # it was buried meanwhile, and speaks no more
            replica.persisted(writes.mark, now)
            self._post(writes.messages)
            self.settle(replica)
        calls, self._to_call_after_sync = self._to_call_after_sync, ()
        for call in calls:
            call()

    def settle(self, replica: Replica[Waiting]) -> None:
        """Carry out what a replica has come to: messages, answers, news of the leader, and what is left to a tick."""
        if replica.outbox:
            self._post(replica.outbox)
            replica.outbox.clear()
        if replica.confirmed or replica.unconfirmed:
            self._answer_reads(replica)
        if replica.offer is not None:
            leader, replica.offer = replica.offer, None
            self.on_offer(replica.group, leader)
        if replica.proposals.refused or replica.proposals.lost:
            self._disappoint(replica)
        if self._leaders_told.get(replica.group) != (replica.leader, replica.term):
            self._tell_leader(replica)
        left = replica.committed_left
        if replica.has_work or (left and (replica.leads or left >= FOLLOWERS_BEHIND_MAX)):
            self.touch(replica.group)
        elif left:
            self._left[replica.group] = None

    def touch(self, group: int) -> None:
        """Have the next tick look at the group."""
        self._dirty[group] = None
        self._work.set()

    def _post(self, outbound: Iterable[Outbound]) -> None:
        assert self.wire is not None, "a replica speaks before there is anything to speak by"
        for target, message in outbound:
            self.wire.post(target, message)

    def _answer_reads(self, replica: Replica[Waiting]) -> None:
        for ticket in replica.confirmed:
            if not ticket.future.done():
                ticket.future.set_result(None)
        for ticket in replica.unconfirmed:
            if not ticket.future.done():
                ticket.future.set_exception(not_leader(replica))
        replica.confirmed.clear()
        replica.unconfirmed.clear()

    def _disappoint(self, replica: Replica[Waiting]) -> None:
        """The leader lost its office: what it had not appended never happens, the rest is up to the next one."""
        for waiting in replica.proposals.refused:
            self._admission.answer(waiting, not_leader(replica))
        for waiting in replica.proposals.lost:
            self._admission.answer(waiting, Deposed("the leader lost its office before the command was committed"))
        replica.proposals.refused.clear()
        replica.proposals.lost.clear()

    def _tell_leader(self, replica: Replica[Waiting]) -> None:
        self._leaders_told[replica.group] = (replica.leader, replica.term)
        for listener in self.leader_listeners:
            listener(replica.group, replica.leader, replica.term)


def not_leader(replica: Replica[Waiting]) -> NotLeader:
    """What says that a replica does not lead, and who may."""
    leader = None if replica.leader == replica.node_id else replica.leader
    return NotLeader(replica.group, leader, replica.term, is_lost=not replica.is_healthy)
