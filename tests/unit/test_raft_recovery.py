"""What a replica finds of its log and its vote when its node starts, whatever of it is damaged or missing."""

from collections.abc import Iterable

import pytest
from support.raft_replica import FIVE, THREE, entry

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState, HardState, ReplicaRecord
from ringhold.node import keyspace
from ringhold.node.consensus.configuration import Configuration
from ringhold.node.consensus.log import Log
from ringhold.node.consensus.recovery import ReplicaLost, recovered, stored_log, stored_vote
from ringhold.node.replica_record import DAMAGED, HEALTHY
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.memory import MemoryEngine

GROUP = 7


def engine_with(terms: dict[int, int], damaged: Iterable[int] = (), fives: Iterable[int] = ()) -> MemoryEngine:
    """Entries by index and term, some of them damaged; `fives` are configurations."""
    engine, batch = MemoryEngine(), WriteBatch()
    for index, term in terms.items():
        made = entry(index, term, b"command", configuration=FIVE if index in set(fives) else None)
        sealed = seal(made.encoded)
        batch.put(keyspace.log_key(GROUP, index), sealed[:-1] + b"!" if index in set(damaged) else sealed)
    batch.put(keyspace.vote_key(GROUP), seal(HardState(term=3, voted_for="n2").SerializeToString()))
    engine.write(batch)
    return engine


def found(terms: dict[int, int], applied: int, applied_term: int, damaged: Iterable[int] = ()) -> Log:
    state = GroupState(applied_index=applied, applied_term=applied_term)
    return stored_log(engine_with(terms, damaged), GROUP, state)


def summary(log: Log) -> tuple[int, int, list[int | None]]:
    """First and last index, and the terms of what is known."""
    known = [log.term(index) for index in range(log.first_index, log.last_index + 1)]
    return log.first_index, log.last_index, known


WHOLE = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}


@pytest.mark.parametrize(
    ("terms", "applied", "applied_term", "damaged", "expected"),
    [
        ({}, 0, 0, (), (0, 0, [0])),
        ({}, 9, 2, (), (9, 9, [2])),
        (WHOLE, 0, 0, (), (0, 5, [0, 1, 1, 2, 2, 3])),
        (WHOLE, 3, 2, (), (0, 5, [0, 1, 1, 2, 2, 3])),
        (WHOLE, 3, 2, (1,), (2, 5, [1, 2, 2, 3])),
        (WHOLE, 3, 2, (2,), (3, 5, [2, 2, 3])),
        (WHOLE, 3, 2, (3,), (3, 5, [2, 2, 3])),
        (WHOLE, 5, 3, (5,), (5, 5, [3])),
        (WHOLE, 5, 3, (1, 2, 3, 4, 5), (5, 5, [3])),
        ({3: 2, 4: 2, 5: 3}, 4, 2, (), (3, 5, [2, 2, 3])),
        ({4: 2, 5: 3}, 3, 2, (), (3, 5, [2, 2, 3])),
        ({1: 1, 3: 2, 4: 2, 5: 3}, 3, 2, (), (3, 5, [2, 2, 3])),
        ({1: 1, 2: 1}, 7, 4, (), (7, 7, [4])),
        ({1: 1, 2: 1, 8: 4}, 7, 4, (), (7, 8, [4, 4])),
        ({1: 1, 2: 1, 8: 4}, 7, 4, (2,), (7, 8, [4, 4])),
    ],
)
def test_of_the_applied_entries_those_count_that_join_on_to_the_others(
    terms: dict[int, int],
    applied: int,
    applied_term: int,
    damaged: tuple[int, ...],
    expected: tuple[int, int, list[int]],
) -> None:
    """The rows have them, so the others, damaged or left below a snapshot, are as good as dropped."""
    assert summary(found(terms, applied, applied_term, damaged)) == expected


@pytest.mark.parametrize(
    ("terms", "applied", "damaged", "reason"),
    [
        (WHOLE, 3, (4,), "entry 4 of its log is damaged"),
        (WHOLE, 3, (5,), "entry 5 of its log is damaged"),
        (WHOLE, 0, (1,), "entry 1 of its log is damaged"),
        ({5: 3}, 3, (), "its log has a gap before 5"),
        ({1: 1, 2: 1, 3: 2, 5: 3}, 3, (), "its log has a gap before 5"),
        ({1: 1, 2: 1, 3: 2, 4: 2, 6: 3}, 3, (), "its log has a gap before 6"),
        ({2: 1}, 0, (), "its log has a gap before 2"),
    ],
)
def test_a_replica_is_lost_with_an_entry_that_is_not_applied(
    terms: dict[int, int], applied: int, damaged: tuple[int, ...], reason: str
) -> None:
    """It may have acknowledged it; nobody may take it for one that has not."""
    with pytest.raises(ReplicaLost, match=reason):
        found(terms, applied, 2, damaged)


@pytest.mark.parametrize("vote", [None, b"no seal"])
def test_a_replica_is_lost_with_its_vote(vote: bytes | None) -> None:
    """It would vote twice in one term."""
    engine = engine_with(WHOLE)
    batch = WriteBatch()
    if vote is None:
        batch.delete(keyspace.vote_key(GROUP))
    else:
        batch.put(keyspace.vote_key(GROUP), vote)
    engine.write(batch)
    with pytest.raises(ReplicaLost, match="its vote"):
        stored_vote(engine, GROUP)


def test_what_is_not_applied_is_in_memory_and_what_it_says_counts() -> None:
    """It may be truncated; its configurations and its log time are valid as long as it is there."""
    engine = engine_with(WHOLE, fives=(4,))
    state = GroupState(applied_index=3, applied_term=2, log_time_ms=2, configuration=THREE.encode())
    replica = recovered(engine, GROUP, ReplicaRecord(status=HEALTHY, replica_id=0), state)
    assert replica.configurations == [(0, THREE), (4, FIVE)]
    assert (replica.log_time_ms, replica.hard_state.voted_for, replica.is_healthy) == (5, "n2", True)
    engine.write(deleting(4, 5))
    assert [each.index for each in replica.log.entries(4, 5, 1 << 20)] == [4, 5]


def deleting(*indexes: int) -> WriteBatch:
    batch = WriteBatch()
    for index in indexes:
        batch.delete(keyspace.log_key(GROUP, index))
    return batch


def test_a_log_without_rows_counts_from_where_they_stood() -> None:
    """Then log and vote are as good as any; without knowing where, only a log from the beginning is of use."""
    engine = engine_with({3: 2, 4: 2, 5: 3})
    record = ReplicaRecord(status=DAMAGED, replica_id=4)
    replica = recovered(engine, GROUP, record, GroupState(applied_index=3, applied_term=2))
    assert (replica.is_healthy, replica.number, replica.log.last_index) == (False, 4, 5)
    assert replica.configurations == [(0, Configuration(()))]
    with pytest.raises(ReplicaLost, match="a gap before 3"):
        recovered(engine, GROUP, record, GroupState())


def test_the_remains_of_dropped_entries_are_deleted_later() -> None:
    """A crash may leave them, and a snapshot leaves a whole log below it."""
    log = found({1: 1, 2: 1, 8: 4}, 7, 4)
    assert log.has_dropped
    assert list(log.take_dropped(4)) == [1, 2, 3, 4]
    assert list(log.take_dropped(100)) == [5, 6]
    assert not log.has_dropped
