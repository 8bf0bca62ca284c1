"""All groups of a node: many logs that share one write, one sync and one frame per peer and tick (DESIGN section 7).

Here are the groups as the rest of the node sees them, with their timers; the tick itself is in ticks.py.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from ...api.errors import DataLoss, Unavailable
from ...api.limits import KIB, MIB, too_large
from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftMessage
from ...ring.topology import SYSTEM_GROUP, partition_of_group
from .. import keyspace
from ..clock import Clock
from ..machine.dedupe import DEDUPE_WINDOW_MS
from ..machine.machine import Machine
from ..replica_record import HEALTHY
from ..storage.engine import Engine, View
from ..storage.envelope import Damaged, unseal
from .applying import Applier, SliceConfig
from .core import Replica
from .foreground import Foreground
from .handover import Handovers, disk_full
from .heart import Heart
from .hosting import Hosting, MakeMachine
from .messages import GONE
from .reconfiguring import Reconfiguring
from .repair import Repairs
from .states import LogBounds, Recovered
from .support import BEAT_S, DRIFT_MAX, RESTART_HOLD_S, Support
from .tickets import Admission, AnchorOutOfRange, Applied, NotLeader, ReadAnswer, Waiting
from .ticks import LeaderListener, OfferListener, Ticks, Wire, not_leader

ANCHOR_AHEAD_MS_MAX = 24 * 3600 * 1000
"""How far an anchor may lie ahead of the log time, which falls back when an idle group changes its leader."""

PULSE_S = 0.05
"""Between two looks at every replica's timers."""

PULSES_PER_SLICE = 256

SYNC_STUCK_S = 1.0
"""A sync that takes longer makes the node hand its leaderships over (DESIGN section 7)."""

SYNC_CALM_S = 5.0
"""So long after a stuck sync it leads no more: a disk that hung may hang again, and each time its writes wait."""


@dataclass(frozen=True, slots=True)
class GroupsConfig:
    """Bounds of a node's groups.

    commands_waiting_max, bytes_waiting_max: commands without an outcome on this node; more are refused as overload.
    bytes_per_tick_max: stored by all groups together in one write; groups that find no room wait for the next tick.
    answer_bytes_max: rows read for one batch from one group; more are refused, for answers have a limit too.
    log: how much of its log each group keeps for members that are behind.
    leases: False: every read asks a majority, as it must where a hypervisor may stop the clock (DESIGN section 7).
    """

    commands_waiting_max: int = 16_384
    bytes_waiting_max: int = 64 * MIB
    bytes_per_tick_max: int = 512 * KIB
    answer_bytes_max: int = 3 * MIB
    log: LogBounds = field(default_factory=LogBounds)
    leases: bool = True
    slices: SliceConfig = field(default_factory=SliceConfig)


class Groups:
    """The replicas of this node. `run` and `pulse` are its loops; everything else is called between their awaits."""

    def __init__(
        self,
        node_id: str,
        generation: int,
        engine: Engine,
        clock: Clock,
        rng: random.Random,
        config: GroupsConfig | None = None,
    ) -> None:
        self._node_id = node_id
        self._engine = engine
        self._clock = clock
        self._rng = rng
        self._config = config or GroupsConfig()
        self._may_vote_from = clock.now() + RESTART_HOLD_S
        self._support = Support(generation)
        self._replicas: dict[int, Replica[Waiting]] = {}
        self._applier = Applier(engine, self._config.slices)
        self._admission = Admission(self._config.commands_waiting_max, self._config.bytes_waiting_max)
        self.foreground = Foreground(clock.now())
        self._heart = Heart(self._support, self._replicas.values)
        self._handovers = Handovers(node_id, self._support)
        self._ticks = Ticks(
            engine,
            clock,
            self._replicas,
            self._applier,
            self._admission,
            self.foreground,
            self._config.bytes_per_tick_max,
        )
        self._ticks.leader_listeners.append(self._leader_changed)
        self.hosting = Hosting(
            engine, clock, self._replicas, self._applier, self._ticks, self._make_replica, generation
        )
        self.reconfiguring = Reconfiguring(self._replicas, self._handovers, self._ticks, clock)
        self.repairs = Repairs(engine, self._replicas, self.hosting.records)
        self._peers: Sequence[str] = ()
        self._calm_at = -inf
        self._closed = False
        self._is_full = False

    # What the node tells it

    def attach(self, wire: Wire) -> None:
        """Send by this from now on."""
        self._ticks.wire = wire

    def reach(self, peers: Iterable[str]) -> None:
        """Exchange heartbeats with these nodes."""
        self._peers = tuple(peers)

    def prefer(self, leaders: Mapping[int, str]) -> None:
        """Which node should lead each group, while it can."""
        self._handovers.preferred = leaders

    def set_reluctant(self, reason: str, is_on: bool) -> None:
        """Begin or end a reason not to lead: leaderships are handed over, and none are taken."""
        self._handovers.set_reluctant(reason, is_on)

    def set_full(self, is_full: bool) -> None:
        """Begin or end to refuse commands that grow, for want of room; leaderships go to nodes that have some."""
        self._is_full = is_full
        self.set_reluctant("disk full", is_full)

    def on_leader(self, listener: LeaderListener) -> None:
        """Call `listener(group, leader or None, term)` whenever a replica here learns who leads."""
        self._ticks.leader_listeners.append(listener)

    def on_offer(self, listener: OfferListener) -> None:
        """Call `listener(group, leader)` whenever a leader offers a snapshot that a replica here needs."""
        self._ticks.on_offer = listener

    def open(self, group: int, make_machine: MakeMachine, *, is_new: bool = False) -> None:
        """Take up the replica of a group from what the engine holds. `is_new`: it was founded in this process.

        What was there before may be bound by promises that were forgotten, so it waits before it votes (DESIGN
        section 7).
        """
        self.hosting.open(group, make_machine, -inf if is_new else self._may_vote_from)
        replica = self._replicas.get(group)
        if replica is not None and replica.is_sole_voter:
            replica.campaign(self._clock.now())
            self._ticks.settle(replica)

    def _make_replica(self, group: int, found: Recovered, may_vote_from: float) -> Replica[Waiting]:
        return Replica(
            group,
            self._node_id,
            found,
            self._support,
            self._rng,
            may_vote_from=may_vote_from,
            leases=self._config.leases,
            bounds=self._config.log,
        )

    # What others ask

    @property
    def hosted(self) -> Sequence[int]:
        return list(self._replicas)

    @property
    def led(self) -> Sequence[int]:
        """The groups whose reads this node may answer."""
        now = self._clock.now()
        return [group for group, replica in self._replicas.items() if replica.may_read(now)]

    def is_lost(self, group: int) -> bool:
        """Whether this node had, may have had or was to have a copy of the group, and has none that is good."""
        record = self.hosting.records.get(group)
        return record.status != HEALTHY if record is not None else self.hosting.reborn_since > 0

    def row_damaged(self, group: int, reason: str) -> bool:
        """A row of the group can't be read here: the rows are given up, to be rebuilt from another replica's.

        False, and nothing changes, if this is the sole voter: nobody else has the rows, and most of them are good.
        """
        replica = self._replicas.get(group)
        if replica is not None and replica.is_sole_voter:
            return False
        if replica is not None:
            self.hosting.rows_damaged(group, reason)
        return True

    @property
    def leaderless(self) -> int:
        """How many replicas here know of no leader."""
        return sum(replica.leader is None for replica in self._replicas.values())

    @property
    def longest_log(self) -> int:
        """Entries of the longest log here: it grows while a replica is away, up to its bounds."""
        return max((replica.log.last_index - replica.log.first_index for replica in self._replicas.values()), default=0)

    @property
    def log_bytes(self) -> int:
        """Of the entries of all logs here."""
        return sum(replica.log.bytes for replica in self._replicas.values())

    @property
    def commands_waiting(self) -> int:
        return self._admission.commands

    @property
    def bytes_waiting(self) -> int:
        return self._admission.bytes

    @property
    def reluctant_for(self) -> Sequence[str]:
        """Why this node wants no leaderships; empty: it takes them."""
        return self._handovers.reasons

    @property
    def sync_running_s(self) -> float:
        """How long the sync under way has taken so far; 0 if there is none."""
        return self._ticks.sync_running_s

    @property
    def sync_s_max(self) -> float:
        """The longest that a sync has taken in this life, the one under way included."""
        return self._ticks.sync_s_max

    def machine(self, group: int) -> Machine:
        return self._applier.machines[group]

    def term(self, group: int) -> int:
        return self._replicas[group].term

    def log_time_ms(self, group: int) -> int:
        return self._replicas[group].log_time_ms(self._clock.now())

    def hosts(self, group: int) -> bool:
        """Whether a replica of the group is here."""
        return group in self._replicas

    def leader(self, group: int) -> tuple[str | None, int]:
        """Who leads the group as far as the replica here knows, and its term; (None, 0) without a replica."""
        replica = self._replicas.get(group)
        return (replica.leader, replica.term) if replica is not None else (None, 0)

    def is_leader(self, group: int) -> bool:
        """Whether the replica here leads, or believes so: it takes commands, and reads once they are confirmed."""
        replica = self._replicas.get(group)
        return replica is not None and replica.leads and replica.is_healthy

    def leads(self, group: int) -> bool:
        """Whether this node may answer reads of the group now: the clock is looked at before any row is."""
        replica = self._replicas.get(group)
        return replica is not None and replica.may_read(self._clock.now())

    def led_of(self, groups: Iterable[int]) -> list[int]:
        """Those of `groups` that `leads` says yes to; the clock is looked at once, before any row is."""
        now, replica_of = self._clock.now(), self._replicas.get
        return [group for group in groups if (replica := replica_of(group)) is not None and replica.may_read(now)]

    async def confirm(self, group: int) -> None:
        """Return once reads that begin before that return see everything acknowledged before the call (ReadIndex).

        Raises NotLeader. Waits for as long as no majority answers: the caller sets the time.
        """
        replica = self._replicas.get(group)
        if replica is None or not replica.leads or not replica.is_healthy:
            raise self._not_leader(group)
        now = self._clock.now()
        ticket = Waiting(asyncio.get_running_loop().create_future(), 0, now)
        replica.confirm(ticket, now)
        self._ticks.settle(replica)
        await ticket.future

    def read(self, group: int, keys: Sequence[bytes]) -> ReadAnswer:
        """The newest rows under `keys`, for a group that `leads`. Raises NotLeader, DataLoss, InvalidRequest.

        NotLeader also if one of them is damaged, for then the group's rows are given up; DataLoss in a sole voter.
        """
        now = self._clock.now()
        replica = self._replicas.get(group)
        if replica is None or not replica.may_read(now):
            raise self._not_leader(group)
        return ReadAnswer(self._rows(group, keys), replica.term, replica.log_time_ms(now))

    def read_confirmed(self, group: int, keys: Sequence[bytes]) -> ReadAnswer:
        """The rows under `keys` right after `confirm` has returned, before anything else was awaited.

        Raises NotLeader if the office was lost in that very moment: a follower may apply what its new leader has not
        applied yet, and nobody must be shown that before it is sure to be seen by all. Also DataLoss, InvalidRequest.
        """
        replica = self._replicas.get(group)
        if replica is None or not replica.has_applied_own_term:
            raise self._not_leader(group)
        return ReadAnswer(self._rows(group, keys), replica.term, replica.log_time_ms(self._clock.now()))

    def read_stale(self, group: int, keys: Sequence[bytes]) -> ReadAnswer:
        """The rows that this replica has. Raises NotLeader if there is no good one here, DataLoss, InvalidRequest."""
        replica = self._replicas.get(group)
        if replica is None or not replica.is_healthy:
            raise self._not_leader(group)
        now = self._clock.now()
        return ReadAnswer(self._rows(group, keys), replica.term, replica.log_time_ms(now), self.behind_ms(group))

    def behind_ms(self, group: int) -> int | None:
        """How old the rows here may be, at most; None if nobody has vouched for them yet.

        Since a moment of this clock after which the leader, by a lease, named a commit index that is applied here. The
        clocks' difference is added, for whoever measures by another one. Raises NotLeader if there is no good one here.
        """
        replica = self._replicas.get(group)
        if replica is None or not replica.is_healthy:
            raise self._not_leader(group)
        now = self._clock.now()
        if replica.may_read(now):
            return 0
        as_of = replica.freshness.as_of(replica.applied_index)
        return None if as_of is None else ceil((now - as_of) * 1000 * (1 + DRIFT_MAX))

    def view(self) -> View:
        """The engine as it is now, for queries over groups that `leads` says yes to in the same breath."""
        return self._engine.snapshot()

    def propose(
        self, group: int, command: bytes, anchor_ms: int, mutations: int = 1, *, grows: bool = True
    ) -> "asyncio.Future[Applied]":
        """Append a command to the group's log; the future is its outcome once it is committed and applied.

        `mutations` is how many it has: an entry and a slice of applying take only so many. `grows`: it may leave more
        stored than before; a full node refuses it, but for the system group's, since a new node may be what it needs.
        The future raises NotLeader (never appended) or Deposed (in doubt). Raises NotLeader, AnchorOutOfRange,
        Overloaded, Unavailable: then nothing was appended, nor ever will be.
        """
        if self._closed:
            raise Unavailable("DRAINING", "this node is stopping")
        replica = self._replicas.get(group)
        if replica is None or not replica.leads or not replica.is_healthy:
            raise self._not_leader(group)
        if self._is_full and grows and group != SYSTEM_GROUP:
            raise disk_full(self._handovers.has_willing_heir(replica, self._clock.now()))
        now = self._clock.now()
        log_time_ms = replica.log_time_ms(now)
        if not log_time_ms - DEDUPE_WINDOW_MS < anchor_ms <= log_time_ms + ANCHOR_AHEAD_MS_MAX:
            raise AnchorOutOfRange(log_time_ms)
        waiting = self._admission.admit(len(command), now)
        replica.propose(command, waiting, mutations)
        self._ticks.touch(group)
        return waiting.future

    # What other nodes say

    def session_began(self, peer_id: str) -> None:
        """Frames flow between this node and the peer from now on; what was under way before may be lost."""
        self._session_changed(peer_id)

    def session_ended(self, peer_id: str) -> None:
        self._session_changed(peer_id)

    def _session_changed(self, peer_id: str) -> None:
        now = self._clock.now()
        self._support.break_off(peer_id, now)
        for replica in self._replicas.values():
            replica.session_changed(peer_id, now)

    def receive(self, peer_id: str, messages: Sequence[RaftMessage], heard_beat: int) -> None:
        """The consensus messages of a frame. None was made before the peer had heard our beat of that number."""
        now = self._clock.now()
        sent_after = self._support.sent_at(peer_id, heard_beat) if heard_beat else None
        for message in messages:
            replica = self._replicas.get(message.group)
            if replica is None or message.target_replica != replica.number:
                replica = self.hosting.strange(peer_id, message)
            if replica is None:
                continue
            if message.kind == GONE:
                replica.member_gone(peer_id, message, now)
            else:
                replica.step(peer_id, message, now, sent_after)
            self._ticks.settle(replica)

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        now = self._clock.now()
        self._heart.hear(peer_id, beat, now)
        if beat.differs:
            for replica in self._replicas.values():
                if replica.office is not None and replica.office.wake(peer_id, now):
                    self._ticks.settle(replica)

    def hears(self, peer_id: str) -> bool:
        """Whether the peer's heartbeats come: it does not hang, as far as this node knows."""
        return self._support.is_alive(peer_id, self._clock.now())

    def heard_beat(self, peer_id: str) -> int:
        """The number of the newest beat heard of the peer in this session."""
        return self._support.heard_beat(peer_id)

    # Its loops

    async def run(self) -> None:
        """Tick for ever. Raises EngineFailed, Damaged (the node stops); what was accepted by then stays unanswered."""
        try:
            await self._ticks.run()
        finally:
            self._closed = True

    async def pulse(self) -> None:
        """Look at the replicas' timers for ever, and at the sync under way."""
        while True:
            await self._clock.sleep(PULSE_S)
            for count, replica in enumerate(list(self._replicas.values()), 1):
                if replica.pulse(self._clock.now()):
                    self._ticks.settle(replica)
                if self._applier.may_drop_log(replica):
                    self._ticks.touch(replica.group)  # a group whose log is full has no other reason for a tick
                if count % PULSES_PER_SLICE == 0:
                    await asyncio.sleep(0)
            now = self._clock.now()
            if self.sync_running_s >= SYNC_STUCK_S:
                self._calm_at = now + SYNC_CALM_S
            self._handovers.set_reluctant("sync stuck", now < self._calm_at)
            self._ticks.catch_up()
            for replica in self._handovers.begin(self._replicas.values(), now):
                self._ticks.settle(replica)

    async def beat(self) -> None:
        """Send heartbeats for ever."""
        while True:
            now = self._clock.now()
            reluctant = self._handovers.is_reluctant
            for peer in self._peers:
                if self._ticks.wire is not None:
                    self._ticks.wire.send_beat(peer, self._heart.beat(peer, now, reluctant=reluctant))
            await self._clock.sleep(BEAT_S)

    async def hand_over(self) -> None:
        """Return when no group is led here that another node could lead; for ever refuse to lead from now on."""
        self.set_reluctant("draining", True)
        while any(
            replica.leads and self._handovers.has_successor(replica, self._clock.now())
            for replica in self._replicas.values()
        ):
            await self._clock.sleep(PULSE_S / 2)

    async def drain(self) -> None:
        """Refuse new commands and return when all accepted ones are answered, or `run` has ended and none will be."""
        self._closed = True
        await self._admission.none_left.wait()

    def _leader_changed(self, group: int, leader: str | None, term: int) -> None:
        if leader == self._node_id:
            self._handovers.took_office(group, self._clock.now())

    def _not_leader(self, group: int) -> NotLeader:
        replica = self._replicas.get(group)
        if replica is None:
            return NotLeader(group, None, 0, is_lost=self.is_lost(group))
        return not_leader(replica)

    def _rows(self, group: int, keys: Sequence[bytes]) -> list[bytes | None]:
        if len(keys) == 1:
            stored: Sequence[bytes | None] = (self._engine.get(keyspace.row_key(group, keys[0])),)
        else:
            stored = self._engine.get_many([keyspace.row_key(group, key) for key in keys])
            check_answer_size(stored, self._config.answer_bytes_max)
        try:
            return [None if sealed is None else unseal(sealed) for sealed in stored]
        except Damaged as error:
            if self.row_damaged(group, f"a row that was read is damaged: {error}"):
                raise self._not_leader(group) from error
            raise only_copy_damaged(group, error) from error


def check_answer_size(stored: Sequence[bytes | None], bytes_max: int) -> None:
    """Raises InvalidRequest if many rows together are too much for an answer; one row never is."""
    size = sum(len(sealed) for sealed in stored if sealed is not None)
    if size > bytes_max:
        raise too_large("ANSWER_TOO_LARGE", "the answer to this batch", size, bytes_max)


def only_copy_damaged(group: int, error: Damaged) -> DataLoss:
    """The error of a stored row that is damaged, and that nobody else has."""
    details = {"partition": str(partition_of_group(group)), "records": "some"}
    return DataLoss("NO_HEALTHY_REPLICA", f"the only copy of a record is damaged: {error}", details)
