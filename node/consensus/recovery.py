"""Replicas and the engine: how log entries and votes are stored, and what a replica finds when its node starts."""

from collections.abc import Callable

from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState, HardState
from .. import keyspace
from ..storage.engine import Engine, WriteBatch
from ..storage.envelope import seal, unseal
from .configuration import Configuration
from .log import Entry, Load, Log, received
from .states import Recovered, Writes

ENTRIES_PER_SCAN = 256


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


def recovered(engine: Engine, group: int, node_id: str, state: GroupState) -> Recovered:
    """What a replica of the group finds. Raises Damaged; a gap in the log is an assertion."""
    vote = engine.get(keyspace.vote_key(group))
    configuration = Configuration.decode(state.configuration)
    assert configuration.voters, f"group {group} has a state without a configuration"
    log = stored_log(engine, group, state)
    configurations = [(state.configuration_index, configuration)]
    log_time_ms = state.log_time_ms
    for entry in log.entries(state.applied_index + 1, log.last_index, 1 << 62):
        log_time_ms = max(log_time_ms, entry.content.log_time_ms)
        if entry.content.HasField("configuration"):
            configurations.append((entry.index, Configuration.decode(entry.content.configuration)))
    return Recovered(
        number=configuration.numbers.get(node_id, 0),
        hard_state=HardState() if vote is None else HardState.FromString(unseal(vote)),
        applied_index=state.applied_index,
        log_time_ms=log_time_ms,
        log=log,
        configurations=configurations,
    )


def stored_log(engine: Engine, group: int, state: GroupState) -> Log:
    """The log as it is stored, with what is not applied in memory."""
    start, end = keyspace.kind_range(keyspace.Kind.LOG, group)
    first, last = engine.scan(start, end, limit=1), engine.scan(start, end, limit=1, reverse=True)
    load = Load(lambda first, last: stored_entries(engine, group, first, last))
    if not first:
        return Log([(state.applied_index, state.applied_term)], state.applied_index, (), load)
    first_index, last_index = keyspace.split_log_key(first[0][0])[1], keyspace.split_log_key(last[0][0])[1]
    assert first_index - 1 <= state.applied_index <= last_index, f"the log of group {group} does not fit its rows"
    tail = stored_entries(engine, group, state.applied_index + 1, last_index)
    terms = term_starts(first_index, last_index, lambda index: stored_entries(engine, group, index, index)[0].term)
    return Log([(0, 0), *terms] if first_index == 1 else terms, last_index, tail, load)


def stored_entries(engine: Engine, group: int, first: int, last: int) -> list[Entry]:
    """The entries first … last. Each was stored in its turn, so a gap is damage: an assertion. Raises Damaged."""
    entries: list[Entry] = []
    start, end = keyspace.log_range(group, first, last) if first <= last else (b"", b"")
    while start < end and (rows := engine.scan(start, end, limit=ENTRIES_PER_SCAN)):
        entries += [received(keyspace.split_log_key(key)[1], unseal(sealed)) for key, sealed in rows]
        start = rows[-1][0] + b"\x00"
    assert [entry.index for entry in entries] == list(range(first, last + 1)), f"the log of group {group} has a gap"
    return entries


def term_starts(first: int, last: int, term_of: Callable[[int], int]) -> list[tuple[int, int]]:
    """Where each term of a log begins, by bisection, for terms only grow along a log (section 3.5).

    >>> term_starts(3, 9, {3: 1, 4: 1, 5: 2, 6: 2, 7: 2, 8: 2, 9: 4}.get)
    [(3, 1), (5, 2), (9, 4)]
    """
    starts = [(first, term_of(first))]
    last_term = term_of(last)
    while starts[-1][1] < last_term:
        low, high = starts[-1][0], last  # the term at `low` is the known one, at `high` it is a later one
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if term_of(middle) == starts[-1][1] else (low, middle)
        starts.append((high, term_of(high)))
    return starts
