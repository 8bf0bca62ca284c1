"""The groups of a node that replicates with nobody, over an engine in memory, and what lies in it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

from support.network import Network
from support.rows import command_of
from support.virtual_time import LoopClock, reached

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus.groups import Groups, GroupsConfig
from ringhold.node.consensus.tickets import Applied
from ringhold.node.machine.machine import Machine, founded_state, load_state
from ringhold.node.machine.records import RecordMachine
from ringhold.node.replica_record import hosted_groups, put_founding_replica
from ringhold.node.storage.engine import Engine, WriteBatch
from ringhold.node.storage.envelope import unseal


def opened(
    engine: Engine,
    groups: Sequence[int] = (1, 2),
    config: GroupsConfig | None = None,
    make_machine: Callable[[int, stored.GroupState], Machine] = RecordMachine,
) -> Groups:
    """Sole voters that campaign but have stored no vote yet; those that the engine does not hold are founded."""
    found_alone("n1", engine, groups)
    replicas = Groups("n1", 1, engine, LoopClock(), Random("n1"), config)
    replicas.attach(Network().add("n1", replicas))
    for group in groups:
        replicas.open(group, make_machine)
    return replicas


def found_alone(node_id: str, engine: Engine, groups: Sequence[int]) -> None:
    """Founding replicas with one voter, of the groups that the engine has no replica of."""
    batch, hosted = WriteBatch(), set(hosted_groups(engine))
    for group in groups:
        if group not in hosted:
            put_founding_replica(batch, group, founded_state([node_id]))
    engine.write(batch)


@asynccontextmanager
async def leading(
    engine: Engine,
    groups: Sequence[int] = (1, 2),
    config: GroupsConfig | None = None,
    make_machine: Callable[[int, stored.GroupState], Machine] = RecordMachine,
) -> AsyncIterator[Groups]:
    """Sole voters that run and lead."""
    replicas = opened(engine, groups, config, make_machine)
    running = [asyncio.ensure_future(loop) for loop in (replicas.run(), replicas.pulse())]
    try:
        await reached(lambda: len(replicas.led) == len(groups))
        yield replicas
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def propose(
    replicas: Groups, group: int, *mutations: stored.Mutation, request_id: bytes, anchor_ms: int | None = None
) -> asyncio.Future[Applied]:
    """A command with the anchor that a gateway would give it."""
    anchor = replicas.log_time_ms(group) if anchor_ms is None else anchor_ms
    command = command_of(*mutations, request_id=request_id, anchor_ms=anchor)
    return replicas.propose(group, command, anchor, len(mutations))


def rows_of(engine: Engine, group: int) -> dict[bytes, stored.Row]:
    start, end = keyspace.kind_range(keyspace.Kind.ROW, group)
    found = engine.scan(start, end, limit=1_000_000)
    return {keyspace.split_row_key(key)[1]: stored.Row.FromString(unseal(value)) for key, value in found}


def entries_of(engine: Engine, group: int) -> set[tuple[str, bytes, bytes]]:
    """(name, value, key) of every index entry."""
    start, end = keyspace.kind_range(keyspace.Kind.INDEX, group)
    return {keyspace.split_index_key(key)[1:] for key, _ in engine.scan(start, end, limit=1_000_000)}


def unapplied_of(engine: Engine, group: int) -> list[stored.LogEntry]:
    """The entries in the log that are not applied yet."""
    start = keyspace.log_key(group, load_state(engine, group).applied_index + 1)
    end = keyspace.kind_range(keyspace.Kind.LOG, group).end
    return [stored.LogEntry.FromString(unseal(value)) for _, value in engine.scan(start, end, limit=1_000_000)]
