"""Which replicas a node has, and how they fare: one record per group, in the engine beside what it speaks of.

A replica that is gone leaves its record behind, so that its id is never taken for one that is still to come (DESIGN
section 7). See docs/storage-format.md.
"""

from ..api.proto.ringhold.storage.v1.records_pb2 import (
    REPLICA_STATUS_DAMAGED,
    REPLICA_STATUS_GONE,
    REPLICA_STATUS_HEALTHY,
    REPLICA_STATUS_INSTALLING,
    GroupState,
    HardState,
    ReplicaRecord,
)
from .keyspace import GROUP_MAX, Kind, group_of, kind_range, prefix, replica_key, state_key, vote_key
from .machine.staged import Reader
from .storage.engine import WriteBatch
from .storage.envelope import Damaged, seal, unseal
from .storage.scanning import scanned

DAMAGED, GONE = REPLICA_STATUS_DAMAGED, REPLICA_STATUS_GONE
HEALTHY, INSTALLING = REPLICA_STATUS_HEALTHY, REPLICA_STATUS_INSTALLING


def put_record(batch: WriteBatch, group: int, record: ReplicaRecord) -> None:
    batch.put(replica_key(group), seal(record.SerializeToString()))


def load_record(reader: Reader, group: int) -> ReplicaRecord | None:
    """What is known of the group here; None if nothing ever was. Raises Damaged."""
    stored = reader.get(replica_key(group))
    return None if stored is None else ReplicaRecord.FromString(unseal(stored))


def load_records(reader: Reader) -> dict[int, ReplicaRecord]:
    """The records of all groups. One that can't be read says GONE, of whichever id."""
    start, (_, end) = prefix(Kind.REPLICA, 0), kind_range(Kind.REPLICA, GROUP_MAX)
    return {group_of(key): _parsed(stored) for key, stored in scanned(reader, start, end)}


def _parsed(stored: bytes) -> ReplicaRecord:
    try:
        return ReplicaRecord.FromString(unseal(stored))
    except Damaged as error:
        return ReplicaRecord(status=GONE, reason=f"its record is damaged: {error}")


def hosted_groups(reader: Reader) -> list[int]:
    """The groups of which this node has a replica, ascending."""
    return [group for group, record in load_records(reader).items() if record.status != GONE]


def put_new_replica(batch: WriteBatch, group: int, record: ReplicaRecord) -> None:
    """Stage a replica that begins: it has not voted, and it has no log."""
    put_record(batch, group, record)
    batch.put(vote_key(group), seal(HardState().SerializeToString()))


def put_founding_replica(batch: WriteBatch, group: int, state: GroupState) -> None:
    """Stage a replica that a cluster begins with: its id is 0, and its rows stand at `state`."""
    put_new_replica(batch, group, ReplicaRecord(status=HEALTHY))
    batch.put(state_key(group), seal(state.SerializeToString()))


def given_up(record: ReplicaRecord, before: GroupState, reason: str, *, installing: bool = False) -> ReplicaRecord:
    """The record of a replica whose rows, which stood at `before`, can't be used any more."""
    status = INSTALLING if installing else DAMAGED
    return ReplicaRecord(status=status, replica_id=record.replica_id, reason=reason, before=before)
