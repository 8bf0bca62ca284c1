"""How long log entries are kept: until every member has them durably, dropped many at a time, and with a limit (P8)."""

from support.replicas import leading, propose, rows_of
from support.rows import set_of
from support.trio import Trio, trio
from support.virtual_time import pass_time, reached, virtual

from ringhold.node import keyspace
from ringhold.node.consensus.applying import SliceConfig
from ringhold.node.consensus.groups import GroupsConfig
from ringhold.node.consensus.states import LogBounds
from ringhold.node.storage.engine import Engine
from ringhold.node.storage.memory import MemoryEngine

DROP_MIN = 8
CONFIG = GroupsConfig(slices=SliceConfig(drop_min=DROP_MIN))


def log_indexes(engine: Engine) -> list[int]:
    rows = engine.scan(*keyspace.kind_range(keyspace.Kind.LOG, 1), limit=10_000)
    return [keyspace.split_log_key(key)[1] for key, _ in rows]


async def write(nodes: Trio, count: int, prefix: bytes) -> None:
    """So many entries, one after the other, with time for the commit index to go round."""
    groups = nodes[nodes.leader_of(1) or ""].groups
    for number in range(count):
        name = b"%b:%d" % (prefix, number)
        await propose(groups, 1, set_of(name), request_id=name)
        await pass_time(0.1)


@virtual
async def test_a_sole_voter_keeps_a_bounded_number_of_applied_entries() -> None:
    """They are dropped together, those of before a restart too."""
    engine = MemoryEngine()
    for life in range(4):
        async with leading(engine, [1], CONFIG) as replicas:
            for number in range(20):
                await propose(replicas, 1, set_of(b"k"), request_id=b"%d:%d" % (life, number))
                await pass_time(0.1)
                assert len(log_indexes(engine)) <= DROP_MIN + 2


@virtual
async def test_every_member_drops_what_all_have() -> None:
    """The leader says up to where; the others believe it, so that no log grows while all are there."""
    async with trio(1, config=CONFIG) as nodes:
        await write(nodes, 40, b"k")
        for node in nodes.nodes.values():
            assert len(log_indexes(node.engine)) <= 2 * DROP_MIN + 2


@virtual
async def test_an_entry_is_kept_while_one_member_lacks_it() -> None:
    """It is the only copy to bring that member up to date with; when it is back, the log shrinks again."""
    async with trio(1, config=CONFIG) as nodes:
        await write(nodes, 10, b"before")
        nodes.crash("n3")
        has = nodes["n1"].groups.machine(1).state.applied_index
        await write(nodes, 40, b"meanwhile")
        for node in nodes.nodes.values():
            kept = log_indexes(node.engine)
            assert kept[0] <= has
            assert kept == list(range(kept[0], kept[-1] + 1))
            assert len(kept) >= 40
        nodes.restart("n3")
        await reached(nodes.settled)
        assert len(rows_of(nodes["n3"].engine, 1)) == 50
        await write(nodes, 10, b"after")
        for node in nodes.nodes.values():
            assert len(log_indexes(node.engine)) <= 2 * DROP_MIN + 2


@virtual
async def test_a_log_that_is_dropped_is_taken_up_again_after_a_restart() -> None:
    """What is left fits the rows, and terms of dropped entries are not asked for."""
    async with trio(1, config=CONFIG) as nodes:
        await write(nodes, 30, b"k")
        for name in ("n1", "n2", "n3"):
            nodes.crash(name)
        for name in ("n1", "n2", "n3"):
            nodes.restart(name)
        await reached(nodes.settled)
        await write(nodes, 5, b"more")
        await reached(nodes.settled)
        for node in nodes.nodes.values():
            assert len(rows_of(node.engine, 1)) == 35


@virtual
async def test_the_log_is_bounded_while_a_member_is_away() -> None:
    """P8: the older half goes, entry by entry or byte by byte, on leader and followers, and commands go on."""
    for bounds in (LogBounds(entries_max=20), LogBounds(bytes_max=20 * 40)):
        async with trio(1, config=GroupsConfig(slices=SliceConfig(drop_min=DROP_MIN), log=bounds)) as nodes:
            nodes.crash("n3")
            await write(nodes, 60, b"k")
            engines = [nodes[name].engine for name in ("n1", "n2")]
            await reached(lambda: max(len(log_indexes(engine)) for engine in engines) <= 20 + DROP_MIN)  # noqa: B023
            assert min(log_indexes(engine)[-1] for engine in engines) >= 60
            assert nodes["n1"].groups.leads(1)
