"""What must hold on disk once nothing is under way: within an engine, and between the replicas of a group."""

from collections import Counter
from collections.abc import Iterable, Mapping

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState, Row
from ringhold.node.keyspace import GROUP_KINDS, Kind, index_key, kind_range, split_row_key
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.records import record_bytes
from ringhold.node.replica_record import GONE, load_record
from ringhold.node.storage.engine import Engine
from ringhold.node.storage.envelope import unseal

SCAN_MAX = 1_000_000

REPLICATED_KINDS = (Kind.STATE, Kind.ROW, Kind.INDEX, Kind.DEDUPE, Kind.EXPIRY)
"""What replicas that have applied the same entries hold byte for byte; votes and what is left of the logs differ."""


def stored(engine: Engine, kind: Kind, group: int) -> list[tuple[bytes, bytes]]:
    return engine.scan(*kind_range(kind, group), limit=SCAN_MAX)


def replicas_of(engines: Mapping[str, Engine], groups: Iterable[int]) -> dict[int, dict[str, Engine]]:
    """By group, the engines that hold a replica of it, by the names of their machines. One that is gone is none."""
    replicas = {
        group: {name: engine for name, engine in engines.items() if has_replica(engine, group)} for group in groups
    }
    return {group: engines for group, engines in replicas.items() if engines}


def has_replica(engine: Engine, group: int) -> bool:
    """Whether anything of the group is there, and it is not only the note that the replica is gone."""
    record = load_record(engine, group)
    if record is not None:
        return record.status != GONE
    return any(engine.scan(*kind_range(kind, group), limit=1) for kind in GROUP_KINDS)


def applied_indexes(replicas: Mapping[str, Engine], group: int) -> dict[str, int]:
    """How far each replica of a group has applied its log."""
    return {name: load_state(engine, group).applied_index for name, engine in replicas.items()}


def wrong_between(replicas: Mapping[str, Engine], group: int) -> list[str]:
    """What differs between the replicas of a group, which must all have applied the same entries."""
    (first, model), *others = replicas.items()
    contents = {name: replicated(engine, group) for name, engine in others}
    expected = replicated(model, group)
    return [
        f"group {group}: {name} and {first} differ under {key!r}: {content.get(key)!r}, {expected.get(key)!r}"
        for name, content in contents.items()
        for key in sorted(content.keys() | expected.keys())
        if content.get(key) != expected.get(key)
    ]


def replicated(engine: Engine, group: int) -> dict[bytes, bytes]:
    return dict(row for kind in REPLICATED_KINDS for row in stored(engine, kind, group))


def stored_records(engine: Engine, group: int) -> dict[bytes, Row]:
    """The records of a group, by key."""
    return {split_row_key(key)[1]: Row.FromString(unseal(row)) for key, row in stored(engine, Kind.ROW, group)}


def wrong_with_group(engine: Engine, group: int) -> list[str]:
    """What contradicts itself in one group."""
    rows = list(stored_records(engine, group).items())
    state = load_state(engine, group)
    expected = {index_key(group, entry.name, entry.value, key) for key, row in rows for entry in row.indexes}
    entries = {key for key, _ in stored(engine, Kind.INDEX, group)}
    counted = {
        "keys": len(rows),
        "bytes": sum(record_bytes(key, row) for key, row in rows),
        "dedupe_records": len(stored(engine, Kind.DEDUPE, group)),
    }
    return [
        *(f"group {group}: the entry {entry!r} has no row" for entry in sorted(entries - expected)),
        *(f"group {group}: the entry {entry!r} is missing" for entry in sorted(expected - entries)),
        *wrong_counters(group, state, counted),
        *wrong_versions(group, state, rows),
    ]


def wrong_counters(group: int, state: GroupState, counted: dict[str, int]) -> list[str]:
    return [
        f"group {group}: {name} says {getattr(state, name)}, {number} are there"
        for name, number in counted.items()
        if getattr(state, name) != number
    ]


def wrong_versions(group: int, state: GroupState, rows: list[tuple[bytes, Row]]) -> list[str]:
    versions = Counter(row.version for _, row in rows)
    wrong = [f"group {group}: version {version} is on {times} rows" for version, times in versions.items() if times > 1]
    if rows and max(versions) > state.revision:
        wrong.append(f"group {group}: a row has version {max(versions)}, the revision is {state.revision}")
    return wrong
