"""What a node knows of its replicas, over engines that lost or damaged some of it."""

from support.rows import Rows

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState, ReplicaRecord
from ringhold.node import keyspace
from ringhold.node.replica_record import (
    DAMAGED,
    GONE,
    HEALTHY,
    INSTALLING,
    given_up,
    hosted_groups,
    load_record,
    load_records,
    put_founding_replica,
    put_record,
)
from ringhold.node.storage.engine import WriteBatch


def rows_of(batch: WriteBatch) -> Rows:
    rows = Rows()
    rows.write(batch)
    return rows


def test_hosted_groups_are_those_with_a_replica_that_is_not_gone() -> None:
    """Ascending, whatever else lies beside, the last possible group included."""
    batch = WriteBatch()
    groups = [0, 1, 7, 2_000, *range(3_000, 6_000), keyspace.GROUP_MAX]
    for group in reversed(groups):
        put_founding_replica(batch, group, GroupState())
    put_record(batch, 2, ReplicaRecord(status=GONE, replica_id=4))
    put_record(batch, 3, ReplicaRecord(status=INSTALLING, replica_id=4))
    batch.put(keyspace.node_key("topology"), b"")
    assert hosted_groups(rows_of(batch)) == sorted([*groups, 3])
    assert hosted_groups(Rows()) == []


def test_damaged_record_is_of_a_replica_that_is_gone() -> None:
    """Nobody can say which replica was there, so that none may speak for it."""
    batch = WriteBatch()
    put_founding_replica(batch, 1, GroupState())
    batch.put(keyspace.replica_key(1), batch.puts[keyspace.replica_key(1)] + b"x")
    (record,) = load_records(rows_of(batch)).values()
    assert (record.status, record.replica_id) == (GONE, 0)
    assert "damaged" in record.reason


def test_rows_that_were_given_up_leave_behind_where_they_stood() -> None:
    """The log follows that place."""
    before = GroupState(applied_index=7, applied_term=2)
    record = ReplicaRecord(status=HEALTHY, replica_id=5)
    assert given_up(record, before, "a row") == ReplicaRecord(
        status=DAMAGED, replica_id=5, before=before, reason="a row"
    )
    assert given_up(record, before, "a row", installing=True).status == INSTALLING


def test_no_record_is_no_replica() -> None:
    """A group that never was here has no record."""
    assert load_record(Rows(), 1) is None
