"""The checker of what lies on disks, on replicas that agree and on ones that were tampered with."""

from collections.abc import Callable

import pytest
from simulation.disks import applied_indexes, replicas_of, wrong_between, wrong_with_group
from support.rows import command_of, delete_of, set_of

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import LogEntry
from ringhold.node.keyspace import Kind, index_key, kind_range, row_key, vote_key
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.records import RecordMachine
from ringhold.node.machine.staged import Staged
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine

GROUP = 3
COMMANDS = (
    command_of(set_of(b"a", b"1", [("city", b"Oslo")]), request_id=b"first", anchor_ms=1),
    command_of(set_of(b"b", b"2", [("city", b"Paris")]), delete_of(b"a"), request_id=b"second", anchor_ms=1),
    command_of(set_of(b"c", b"3"), request_id=b"third", anchor_ms=1),
)


def replica(entries: int = len(COMMANDS)) -> MemoryEngine:
    """An engine on which a replica has applied so many entries."""
    engine = MemoryEngine()
    machine = RecordMachine(GROUP, load_state(engine, GROUP))
    for index, command in enumerate(COMMANDS[:entries], 1):
        batch = WriteBatch()
        machine.apply(index, LogEntry(term=1, log_time_ms=index, commands=[command]), Staged(engine, batch))
        engine.write(batch)
    return engine


def drop(engine: MemoryEngine, key: bytes) -> None:
    engine.write(WriteBatch({}, {key}))


def drop_index_entry(engine: MemoryEngine) -> None:
    drop(engine, index_key(GROUP, "city", b"Paris", b"b"))


def drop_row(engine: MemoryEngine) -> None:
    drop(engine, row_key(GROUP, b"c"))


def drop_dedupe_record(engine: MemoryEngine) -> None:
    drop(engine, engine.scan(*kind_range(Kind.DEDUPE, GROUP), limit=1)[0][0])


def add_index_entry(engine: MemoryEngine) -> None:
    engine.write(WriteBatch({index_key(GROUP, "city", b"Rome", b"c"): b""}))


TAMPERINGS = (drop_index_entry, drop_row, drop_dedupe_record, add_index_entry)


def test_equal_replicas_pass() -> None:
    """Replicas that have applied the same agree, whatever else they keep; engines without the group are no replicas."""
    engines = {"n1": replica(), "n2": replica(), "n3": MemoryEngine()}
    engines["n2"].write(WriteBatch({vote_key(GROUP): b"n1"}))
    replicas = replicas_of(engines, range(9))
    assert {group: list(names) for group, names in replicas.items()} == {GROUP: ["n1", "n2"]}
    assert applied_indexes(replicas[GROUP], GROUP) == {"n1": 3, "n2": 3}
    assert wrong_between(replicas[GROUP], GROUP) == []
    assert wrong_with_group(engines["n1"], GROUP) == []


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_tampered_replicas_fail(tamper: Callable[[MemoryEngine], None]) -> None:
    """What one replica lacks or has too much is found, by comparing it with others and with itself."""
    sound, tampered = replica(), replica()
    tamper(tampered)
    assert wrong_between({"n1": sound, "n2": tampered}, GROUP)
    assert wrong_with_group(tampered, GROUP)


def test_a_replica_that_lags_is_seen() -> None:
    """How far each replica has applied is told, so that a run can wait until all have the same."""
    assert applied_indexes({"n1": replica(), "n2": replica(2)}, GROUP) == {"n1": 3, "n2": 2}
