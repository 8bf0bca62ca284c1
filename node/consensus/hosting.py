"""Which replicas a node has, from the first to the last of each: how they are made, opened, given up and buried.

A replica whose rows are bad keeps its log and vote, and waits for a snapshot. One whose log or vote is bad never speaks
again: its node says that it is gone, and the leader adds a new one under another id (DESIGN section 7).
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol, TypeAlias

from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState, ReplicaRecord
from .. import keyspace
from ..clock import Clock
from ..machine.machine import Machine, load_state
from ..replica_record import (
    GONE,
    HEALTHY,
    INSTALLING,
    given_up,
    load_record,
    put_new_replica,
    put_record,
)
from ..storage.engine import Engine, WriteBatch
from ..storage.envelope import Damaged, seal
from ..storage.erasing import erase
from . import messages
from .applying import Applier
from .configuration import Configuration
from .core import Replica
from .messages import OFFER
from .recovery import ReplicaLost, recovered
from .states import Installed, Recovered
from .tickets import Waiting
from .ticks import Ticks

MakeMachine: TypeAlias = Callable[[int, GroupState], Machine]
MakeReplica: TypeAlias = Callable[[int, Recovered, float], Replica[Waiting]]

ERASED_KINDS = tuple(kind for kind in keyspace.GROUP_KINDS if kind is not keyspace.Kind.REPLICA)


class HealthListener(Protocol):
    """Who is told of replicas that are given up, rebuilt or buried."""

    def __call__(self, event: str, /, **figures: object) -> None:
        """`event` happened to the replica that the figures name."""


class Hosting:
    """The replicas of a node by group, and the records of those that were here."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        replicas: dict[int, Replica[Waiting]],
        applier: Applier,
        ticks: Ticks,
        make: MakeReplica,
        generation: int,
    ) -> None:
        self.reborn_since = 0
        """The generation that began the engine anew, if an earlier one was lost: what that had is not known."""
        self.tell: HealthListener = lambda event, /, **figures: None
        self._engine = engine
        self._clock = clock
        self._replicas = replicas
        self._applier = applier
        self._ticks = ticks
        self._make = make
        self._generation = generation
        self._make_machines: dict[int, MakeMachine] = {}
        self._default_machine: MakeMachine | None = None
        self._records: dict[int, ReplicaRecord] = {}
        self._erasing: dict[int, None] = {}
        self._to_erase = asyncio.Event()
        ticks.on_configuration = self._configuration_applied
        ticks.on_damage = self.rows_damaged

    @property
    def records(self) -> dict[int, ReplicaRecord]:
        """By group, those that are gone included."""
        return self._records

    def make_machines_by(self, make_machine: MakeMachine) -> None:
        """How replicas that others ask this node to make get their machines."""
        self._default_machine = make_machine

    def is_healthy(self, group: int) -> bool:
        """Whether there is a replica of the group here, and its rows are good."""
        return group in self._replicas and self._records[group].status == HEALTHY

    def replica_id(self, group: int) -> int | None:
        """The id of the replica of the group that is here."""
        replica = self._replicas.get(group)
        return None if replica is None else replica.number

    # Opening

    def open(self, group: int, make_machine: MakeMachine, may_vote_from: float) -> None:
        """Take up what the engine holds of a group, whatever its health."""
        self._make_machines[group] = make_machine
        try:
            record = load_record(self._engine, group)
        except Damaged as error:
            self.bury(group, f"its record is damaged: {error}", since=self._generation)
            return
        assert record is not None, f"group {group} was opened and has no replica here"
        self._records[group] = record
        if record.status == GONE:
            self._bury(group, record)
            return
        try:
            self._open(group, record, may_vote_from)
        except ReplicaLost as error:
            self.bury(group, str(error))

    def _open(self, group: int, record: ReplicaRecord, may_vote_from: float) -> None:
        """Raises ReplicaLost."""
        state = record.before
        if record.status == HEALTHY:
            try:
                state = self._healthy_state(group)
                self._applier.machines[group] = self._make_machines[group](group, state)
            except Damaged as error:
                record = given_up(record, state, f"its state is damaged: {error}")
                self._write_record(group, record)
        found = recovered(self._engine, group, record, state)
        self._replicas[group] = self._make(group, found, may_vote_from)
        if record.status != HEALTHY:
            self.tell("replica without rows", group=group, reason=record.reason)

    def _healthy_state(self, group: int) -> GroupState:
        """Raises Damaged. Without a readable state the log is only of use from its very beginning."""
        if self._engine.get(keyspace.state_key(group)) is None:
            raise Damaged("it is missing")
        return load_state(self._engine, group)

    # Rows that can't be used

    def rows_damaged(self, group: int, reason: str) -> None:
        """Give the rows of a replica up: it keeps its log and its vote, and serves nothing until it has a snapshot."""
        if self._records[group].status == HEALTHY:
            self._give_up(group, reason, installing=False)
            self.tell("rows are damaged", group=group, reason=reason)

    def needs(self, group: int, index: int) -> bool:
        """Whether the replica here is better off with the rows of a snapshot that has everything up to `index`."""
        return self._replicas[group].following.wants(index)

    def snapshot_under_way(self, group: int, node_id: str, index: int) -> None:
        """A snapshot of `index` is being sent to a node, from here: if this replica leads, it keeps what follows."""
        replica = self._replicas.get(group)
        if replica is not None and replica.office is not None:
            replica.office.snapshot_under_way(node_id, index, self._clock.now())

    async def synced(self) -> None:
        """Return once all that is written by now is durable, with the sync of the next tick."""
        done = asyncio.get_running_loop().create_future()
        self._ticks.when_synced(lambda: None if done.done() else done.set_result(None))
        await done

    def begin_install(self, group: int) -> None:
        """The rows are about to be replaced by those of a snapshot; a crash from here on leaves none that are good."""
        if self._records[group].status != INSTALLING:
            self._give_up(group, "a snapshot is being installed", installing=True)

    def _give_up(self, group: int, reason: str, *, installing: bool) -> None:
        replica = self._replicas[group]
        self._applier.machines.pop(group, None)
        before = standing_of(replica) if replica.is_healthy else self._records[group].before
        replica.give_up_rows()
        self._write_record(group, given_up(self._records[group], before, reason, installing=installing))
        self._ticks.settle(replica)

    def _write_record(self, group: int, record: ReplicaRecord) -> None:
        """The group's state goes with its health: without one nobody takes the rows for what they are not."""
        batch = WriteBatch()
        put_record(batch, group, record)
        batch.delete(keyspace.state_key(group))
        self._engine.write(batch)
        self._records[group] = record

    def finish_install(self, group: int, state: GroupState) -> None:
        """All rows of a snapshot are written. In one batch they become the replica's: no crash leaves half of it."""
        replica = self._replicas[group]
        batch = WriteBatch()
        for index in replica.following.contradicted_by(state.applied_index, state.applied_term):
            batch.delete(keyspace.log_key(group, index))
        record = ReplicaRecord(status=HEALTHY, replica_id=replica.number)
        put_record(batch, group, record)
        batch.put(keyspace.state_key(group), seal(state.SerializeToString()))
        self._engine.write(batch)
        self._records[group] = record
        self._applier.machines[group] = self._make_machines[group](group, load_state(self._engine, group))
        replica.following.installed(
            Installed(
                state.applied_index,
                state.applied_term,
                state.log_time_ms,
                state.configuration_index,
                Configuration.decode(state.configuration),
            ),
            self._clock.now(),
        )
        self._ticks.settle(replica)
        self._applier.machines[group].written()
        self._configuration_applied(group, *replica.configurations.applied)

    # Replicas that are gone, and those that are to come

    def bury(self, group: int, reason: str, *, since: int = 0) -> None:
        """This replica never speaks again. `since`: which it was is not known; the next one says this generation."""
        known = self._records.get(group, ReplicaRecord())
        record = ReplicaRecord(status=GONE, replica_id=known.replica_id, reason=reason, since=since)
        batch = WriteBatch()
        put_record(batch, group, record)
        self._engine.write(batch)
        self._bury(group, record)
        self.tell("replica gone", group=group, replica=record.replica_id, reason=reason)

    def _bury(self, group: int, record: ReplicaRecord) -> None:
        self._records[group] = record
        replica = self._replicas.get(group)
        if replica is not None:
            replica.retire(self._clock.now())
            self._ticks.settle(replica)
            del self._replicas[group]
        self._applier.machines.pop(group, None)
        self._erasing[group] = None
        self._to_erase.set()

    def _configuration_applied(self, group: int, index: int, configuration: Configuration) -> None:
        """Drop a replica that a committed configuration, newer than itself, does without (DESIGN section 7)."""
        replica = self._replicas[group]
        if index > replica.number and configuration.numbers.get(replica.node_id) != replica.number:
            self.bury(group, f"the configuration of entry {index} does without it")

    def strange(self, peer_id: str, message: RaftMessage) -> Replica[Waiting] | None:
        """A message to a replica that is not the one here: make that if it is to come, and say so if it is gone.

        Only leaders are told, for only they can do anything about it. Who is gone says so durably before it says so.
        A replica is to come if a leader offers it rows, and its id is later than all that were here; where these are
        not known, if it was added to make good the very loss that made them forgotten, or a later one.
        """
        if message.kind not in messages.OF_LEADER:
            return None
        group, number = message.group, message.target_replica
        record = self._records.get(group, ReplicaRecord(status=GONE, since=self.reborn_since))
        is_known_gone = group in self._records and record.status == GONE and number <= record.replica_id
        if number < record.replica_id or is_known_gone or message.since < record.since:
            self._ticks.when_synced(lambda: self._say_gone(peer_id, message))
            return None
        if message.kind != OFFER or number == 0:
            return None
        if record.status != GONE:
            self.bury(group, f"replica {number} is to take its place")
        return self._newcomer(group, number)

    def _say_gone(self, peer_id: str, message: RaftMessage) -> None:
        self._ticks.send(
            peer_id,
            RaftMessage(
                kind=messages.GONE,
                group=message.group,
                source_replica=message.target_replica,
                target_replica=message.source_replica,
                since=self._generation,
            ),
        )

    def _newcomer(self, group: int, number: int) -> Replica[Waiting] | None:
        """Make a replica at its leader's word, once nothing is left of the one before; it will be spoken to again."""
        if group in self._erasing or not self._default_machine:
            return None
        record = ReplicaRecord(status=INSTALLING, replica_id=number, reason="it is new")
        batch = WriteBatch()
        put_new_replica(batch, group, record)
        self._engine.write(batch)
        self._records[group] = record
        self._make_machines.setdefault(group, self._default_machine)
        self._open(group, record, may_vote_from=-inf)  # it has promised nothing yet
        return self._replicas[group]

    async def erase_buried(self) -> None:
        """Delete for ever what replicas that are gone have left."""
        while True:
            await self._to_erase.wait()
            self._to_erase.clear()
            for group in list(self._erasing):
                await erase(self._engine, [keyspace.kind_range(kind, group) for kind in ERASED_KINDS])
                del self._erasing[group]


def standing_of(replica: Replica[Waiting]) -> GroupState:
    """Where the rows of a replica stand, as far as its log and its votes need it."""
    index, configuration = replica.configurations.applied
    return GroupState(
        applied_index=replica.applied_index,
        applied_term=replica.log.term(replica.applied_index) or 0,
        configuration=configuration.encode(),
        configuration_index=index,
    )
