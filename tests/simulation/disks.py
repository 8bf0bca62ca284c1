"""What must hold within one engine once nothing is under way: rows, index entries and counters say the same."""

from collections import Counter
from collections.abc import Iterator

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState, Row
from ringhold.node.keyspace import GROUP_KINDS, Kind, index_key, kind_range, split_row_key
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.records import record_bytes
from ringhold.node.storage.engine import Engine
from ringhold.node.storage.envelope import unseal
from ringhold.ring.topology import SYSTEM_GROUP

SCAN_MAX = 1_000_000


def stored(engine: Engine, kind: Kind, group: int) -> list[tuple[bytes, bytes]]:
    return engine.scan(*kind_range(kind, group), limit=SCAN_MAX)


def groups_of(engine: Engine, groups: range) -> Iterator[int]:
    """The record groups that the engine holds anything of."""
    for group in groups:
        if group != SYSTEM_GROUP and any(stored(engine, kind, group) for kind in GROUP_KINDS):
            yield group


def wrong_with_group(engine: Engine, group: int) -> list[str]:
    """What contradicts itself in one group."""
    rows = [(split_row_key(key)[1], Row.FromString(unseal(row))) for key, row in stored(engine, Kind.ROW, group)]
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
