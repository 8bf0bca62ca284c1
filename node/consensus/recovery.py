"""Replicas and the engine: how log entries and votes are stored, and what a replica finds when its node starts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState, HardState, ReplicaRecord
from .. import keyspace
from ..replica_record import HEALTHY
from ..storage.engine import Engine, WriteBatch
from ..storage.envelope import Damaged, seal, unseal
from ..storage.scanning import scanned
from .configuration import Configuration
from .log import Entry, EntryLost, Load, Log, received
from .states import Recovered, Writes


class ReplicaLost(Exception):
    """What a replica has promised is not known any more: its log or its vote is damaged or was lost."""


def put_writes(batch: WriteBatch, group: int, writes: Writes) -> int:
    """Stage what a replica has to store; its bytes, about."""
    for index in writes.removed:
        batch.delete(keyspace.log_key(group, index))
    size = 0
    for entry in writes.entries:
        batch.put(keyspace.log_key(group, entry.index), seal(entry.encoded))
        size += len(entry.encoded)
    if writes.hard_state is not None:
        batch.put(keyspace.vote_key(group), seal(writes.hard_state.SerializeToString()))
    return size


def recovered(engine: Engine, group: int, record: ReplicaRecord, state: GroupState) -> Recovered:
    """What a replica of the group finds. `state`: where its rows stand, or stood when they were given up.

    Raises ReplicaLost.
    """
    configurations = [(state.configuration_index, Configuration.decode(state.configuration))]
    log = stored_log(engine, group, state)
    log_time_ms = state.log_time_ms
    for entry in log.entries(state.applied_index + 1, log.last_index, 1 << 62):
        log_time_ms = max(log_time_ms, entry.content.log_time_ms)
        if entry.content.HasField("configuration"):
            configurations.append((entry.index, Configuration.decode(entry.content.configuration)))
    return Recovered(
        number=record.replica_id,
        hard_state=stored_vote(engine, group),
        applied_index=state.applied_index,
        log_time_ms=log_time_ms,
        log=log,
        configurations=configurations,
        is_healthy=record.status == HEALTHY,
    )


def stored_vote(engine: Engine, group: int) -> HardState:
    """Raises ReplicaLost."""
    vote = engine.get(keyspace.vote_key(group))
    if vote is None:
        raise ReplicaLost("its vote is missing")
    try:
        return HardState.FromString(unseal(vote))
    except Damaged as error:
        raise ReplicaLost(f"its vote is damaged: {error}") from error


@dataclass(slots=True)
class Run:
    """Readable entries without a gap, the newest last."""

    first: int
    last: int
    sizes: list[int] = field(default_factory=list)
    terms: list[tuple[int, int]] = field(default_factory=list)
    tail: list[Entry] = field(default_factory=list)

    def take(self, entry: Entry, *, is_applied: bool) -> None:
        self.last = entry.index
        self.sizes.append(len(entry.encoded))
        if not self.terms or self.terms[-1][1] < entry.term:
            self.terms.append((entry.index, entry.term))
        if not is_applied:
            self.tail.append(entry)


def stored_log(engine: Engine, group: int, state: GroupState) -> Log:
    """The log as it is stored, with what is not applied in memory.

    Of the applied entries only those count that join on to the others: a damaged one, and the remains of a log that a
    snapshot has replaced, are as good as dropped. Raises ReplicaLost if an entry that is not applied can't be read.
    """
    applied = state.applied_index
    run, oldest = Run(1, 0), None
    for index, entry in scanned_entries(engine, group):
        oldest = index if oldest is None else oldest
        if index > max(run.last, applied) + 1:
            raise ReplicaLost(f"its log has a gap before {index}")
        if entry is None or index != run.last + 1:
            run = Run(index, index - 1)
        if entry is not None:
            run.take(entry, is_applied=index <= applied)
        elif index > applied:
            raise ReplicaLost(f"entry {index} of its log is damaged")
        else:
            run = Run(index + 1, index)
    load = Load(lambda first, last: stored_entries(engine, group, first, last))
    if run.last < run.first or run.last < applied:
        return Log([(applied, state.applied_term)], applied, (), load, stored_from=oldest)
    terms = [(0, 0), *run.terms] if run.first == 1 else run.terms
    if run.first == applied + 1:
        terms = [(applied, state.applied_term), *run.terms]
    return Log(terms, run.last, run.tail, load, sizes=run.sizes, stored_from=oldest)


def scanned_entries(engine: Engine, group: int) -> Iterator[tuple[int, Entry | None]]:
    """All stored entries by index; None: damaged."""
    for key, sealed in scanned(engine, *keyspace.kind_range(keyspace.Kind.LOG, group)):
        index = keyspace.split_log_key(key)[1]
        try:
            yield index, received(index, unseal(sealed))
        except Damaged:
            yield index, None


def stored_entries(engine: Engine, group: int, first: int, last: int) -> list[Entry]:
    """The entries first … last. Raises EntryLost."""
    bounds = keyspace.log_range(group, first, last) if first <= last else (b"", b"")
    try:
        rows = scanned(engine, *bounds)
        entries = [received(keyspace.split_log_key(key)[1], unseal(sealed)) for key, sealed in rows]
    except Damaged as error:
        raise EntryLost(f"an entry of the log of group {group} is damaged: {error}") from error
    if [entry.index for entry in entries] != list(range(first, last + 1)):
        raise EntryLost(f"entries {first} to {last} of the log of group {group} are not all there")
    return entries
