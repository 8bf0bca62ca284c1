"""What a crash leaves of a group without other replicas: a prefix of the commands, the acknowledged ones included."""

import asyncio
from random import Random

import pytest
from support.replicas import entries_of, leading, opened, propose, rows_of, unapplied_of
from support.rows import delete_of, set_of
from support.virtual_time import turns, virtual

from ringhold.node.consensus.applying import SliceConfig
from ringhold.node.consensus.groups import Groups, GroupsConfig
from ringhold.node.machine.machine import load_state
from ringhold.node.storage.memory import MemoryEngine


class Writer:
    """Proposes numbered pairs of keys to one group and knows which were acknowledged."""

    def __init__(self, replicas: Groups, group: int, rng: Random) -> None:
        self.group = group
        self.tickets: list[asyncio.Future[object]] = []
        self._replicas = replicas
        self._rng = rng

    def write(self) -> None:
        """A command of several mutations, so that half of it would show."""
        number = len(self.tickets)
        value = b"%d" % number
        mutations = [set_of(name, value, [("number", value), ("side", name)]) for name in (b"left", b"right")]
        mutations.append(set_of(b"only:%d" % number, value, [("only", value)]))
        if number and self._rng.random() < 0.5:
            mutations.append(delete_of(b"only:%d" % (number - 1)))
        ticket = propose(self._replicas, self.group, *mutations, request_id=b"%d" % number)
        self.tickets.append(asyncio.ensure_future(ticket))

    @property
    def acknowledged(self) -> int:
        """How many of the first commands were acknowledged."""
        done = [number for number, ticket in enumerate(self.tickets, 1) if ticket.done() and not ticket.cancelled()]
        return done[-1] if done else 0


@pytest.mark.parametrize("seed", range(60))
@virtual
async def test_a_crash_at_any_point_leaves_a_prefix_with_all_that_was_acknowledged(seed: int) -> None:
    """P1, P4: whole commands in their order, all acknowledged ones among them, and index entries equal to the rows."""
    rng = Random(seed)
    engine = MemoryEngine(before_sync=lambda: turns(rng.randint(0, 3)))
    config = GroupsConfig(slices=SliceConfig(reads_max=rng.choice((2, 4, 200)), drop_min=rng.choice((1, 256))))
    async with leading(engine, [1, 2], config) as replicas:
        writers = [Writer(replicas, group, rng) for group in (1, 2)]
        for _ in range(rng.randint(1, 60)):
            rng.choice(writers).write()
            await turns(rng.randint(0, 2))
        acknowledged = [writer.acknowledged for writer in writers]
        engine = engine.crash(rng)
    for _ in range(rng.randint(0, 2)):  # a crash while it recovers
        replicas = opened(engine, [1, 2], config)
        running = asyncio.ensure_future(replicas.run())
        await turns(rng.randint(0, 6))
        engine = engine.crash(rng)
        running.cancel()
    async with leading(engine, [1, 2], config):
        for writer, count in zip(writers, acknowledged, strict=True):
            survived = check_group(engine, writer.group)
            assert count <= survived <= len(writer.tickets)


def check_group(engine: MemoryEngine, group: int) -> int:
    """How many commands survived, after a check that they are whole and that all records agree."""
    rows = rows_of(engine, group)
    state = load_state(engine, group)
    assert state.keys == len(rows)
    assert entries_of(engine, group) == {(e.name, e.value, key) for key, row in rows.items() for e in row.indexes}
    assert unapplied_of(engine, group) == []
    if not rows:
        return 0
    assert rows[b"left"].value == rows[b"right"].value
    last = int(rows[b"left"].value)
    assert max(int(key[5:]) for key in rows if key.startswith(b"only:")) == last
    assert state.dedupe_records == last + 1
    return last + 1
