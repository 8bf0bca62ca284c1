"""A scrub finds what is damaged before anybody needs it, whatever is written meanwhile, and sees to it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import pairwise
from random import Random

import pytest
from support.damage import flip, replace
from support.replicas import leading, propose
from support.ring_nodes import node_record
from support.rows import delete_of, set_of
from support.trio import trio
from support.virtual_time import LoopClock, pass_time, reached, turns, virtual

from ringhold.api.errors import Conflict, InvalidRequest, Unavailable
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import HardState
from ringhold.api.proto.ringhold.v1.cluster_pb2 import ScrubProgress, ScrubRequest
from ringhold.node import keyspace
from ringhold.node.consensus.groups import Groups
from ringhold.node.machine.machine import load_state
from ringhold.node.replica_record import DAMAGED, HEALTHY, load_record
from ringhold.node.scrub import checks
from ringhold.node.scrub.checks import is_damaged
from ringhold.node.scrub.reports import ScrubReports
from ringhold.node.scrub.scrubber import FIRST_PASS_S, Damage, Pass, Scrubber
from ringhold.node.storage.cache import CachedEngine
from ringhold.node.storage.engine import Engine, View, ViewGone
from ringhold.node.storage.envelope import unseal
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import FORMED_KEY, FOUNDING_KEY, TOPOLOGY_KEY, TopologyStore
from ringhold.ring.placement import found

GROUP = 3
Made = tuple[MemoryEngine, Groups]


def scrubber(engine: Engine, groups: Groups, *, bytes_per_s: int = 0, store: TopologyStore | None = None) -> Scrubber:
    told: list[str] = []
    store = store or TopologyStore("n1", MemoryEngine())
    made = Scrubber(engine, groups, store, LoopClock(), lambda event, /, **_: told.append(event), bytes_per_s)
    made.told = told  # type: ignore[attr-defined]
    return made


async def scrubbed(engine: Engine, groups: Groups, *, bytes_per_s: int = 0, store: TopologyStore | None = None) -> Pass:
    """A whole scrub, and all that it has found."""
    last: Pass | None = None
    async with aclosing(scrubber(engine, groups, store=store).scrub(bytes_per_s)) as reports:
        async for passing in reports:
            last = passing
    assert last is not None
    assert last.is_done
    assert last.damage == len(last.found)
    return last


async def fill(groups: Groups, count: int = 100, group: int = GROUP, value: bytes = b"v") -> None:
    for number in range(count):
        entries = [("i", b"%d" % (number % 10)), ("j", b"\x00%d" % number)]
        change = set_of(b"key:%03d" % number, value, entries)
        await propose(groups, group, change, request_id=b"r%d" % number)


def row(key: bytes) -> bytes:
    return keyspace.row_key(GROUP, key)


def keys_of(engine: MemoryEngine, kind: keyspace.Kind) -> list[bytes]:
    return [key for key, _ in engine.scan(*keyspace.kind_range(kind, GROUP), limit=10_000)]


def entry(value: bytes, key: bytes) -> bytes:
    return keyspace.index_key(GROUP, "i", value, key)


@virtual
async def test_nothing_is_found_where_nothing_is_damaged() -> None:
    """Everything is read: records, their entries, outcomes, log, votes; and every group is counted."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP, 5]) as groups:
        await fill(groups)
        await propose(groups, GROUP, delete_of(b"key:007"), request_id=b"delete")
        await propose(groups, GROUP, set_of(b"key:008", b"w"), request_id=b"replace")
        passing = await scrubbed(engine, groups)
        assert (passing.damage, passing.uncounted, passing.groups, passing.groups_in_all) == (0, 0, 2, 2)
        assert passing.records > 100 * 4
        assert passing.bytes > 5_000


ROW_DAMAGES: dict[str, Callable[[MemoryEngine], None]] = {
    "a flipped bit in a record": lambda engine: flip(engine, row(b"key:042")),
    "a record that is gone": lambda engine: replace(engine, row(b"key:042"), None),
    "a record of another group's key": lambda engine: replace(engine, row(b"key:9999"), engine.get(row(b"key:042"))),
    "an older record": lambda engine: replace(engine, row(b"key:042"), engine.get(row(b"key:043"))),
    "an index entry that is gone": lambda engine: replace(engine, entry(b"2", b"key:042"), None),
    "an index entry too many": lambda engine: replace(engine, entry(b"x", b"key:042"), b""),
    "an index entry without a record": lambda engine: replace(engine, entry(b"2", b"nobody"), b""),
    "an index entry that can't be read": lambda engine: replace(
        engine, keyspace.index_prefix(GROUP, "i") + b"no end", b""
    ),
    "the state": lambda engine: flip(engine, keyspace.state_key(GROUP)),
    "no state": lambda engine: replace(engine, keyspace.state_key(GROUP), None),
    "an outcome": lambda engine: flip(engine, keys_of(engine, keyspace.Kind.DEDUPE)[0]),
}


@pytest.mark.parametrize("damage", ROW_DAMAGES)
@virtual
async def test_damaged_rows_of_a_sole_voter_are_named_and_kept(damage: str) -> None:
    """There is no other copy to rebuild from; each scrub says so again."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP, 5]) as groups:
        await fill(groups)
        ROW_DAMAGES[damage](engine)
        for _ in range(2):
            passing = await scrubbed(engine, groups)
            assert passing.found
            assert all((each.group, each.done) == (GROUP, "kept: there is no other copy") for each in passing.found)
        assert not groups.is_lost(GROUP)


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("damage", ROW_DAMAGES)
@virtual
async def test_damaged_rows_of_a_replica_are_given_up(damage: str, node: str) -> None:
    """To be rebuilt from the others: one finding is enough, and the group is left at once; the other groups are not."""
    async with trio(GROUP, 5) as nodes:
        await fill(nodes["n1"].groups, 50)
        await reached(nodes.settled)
        engine, groups = nodes[node].engine, nodes[node].groups
        ROW_DAMAGES[damage](engine)
        (found,) = (await scrubbed(engine, groups)).found
        assert (found.group, found.done) == (GROUP, "to be rebuilt from another replica")
        record = load_record(engine, GROUP)
        assert record is not None
        assert (record.status, groups.is_lost(5)) == (DAMAGED, False)
        assert found.what in record.reason
        assert (await scrubbed(engine, groups)).found == []


def mended(found: list[Damage], what: str, done: str) -> bool:
    return [(what in each.what, each.done) for each in found] == [(True, done)]


@virtual
async def test_a_damaged_vote_is_written_anew() -> None:
    """Memory has it, so the replica need not go; the cache of rows does not hide the damage."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        vote = keyspace.vote_key(GROUP)
        before = HardState.FromString(unseal(engine.get(vote) or b""))
        for damaged in (b"\x01garbage-garbage", None):
            cached = CachedEngine(engine)
            cached.get(vote)
            replace(engine, vote, damaged)
            assert mended((await scrubbed(cached, groups)).found, "the vote", "written anew")
            assert HardState.FromString(unseal(engine.get(vote) or b"")) == before
        assert (await scrubbed(engine, groups)).found == []


@virtual
async def test_a_damaged_record_of_a_replica_is_written_anew() -> None:
    """Or the next start would take the replica for gone."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        flip(engine, keyspace.replica_key(GROUP))
        assert mended((await scrubbed(engine, groups)).found, "record of the replica", "written anew")
        record = load_record(engine, GROUP)
        assert record is not None
        assert record.status == HEALTHY


@virtual
async def test_a_damaged_log_entry_in_memory_is_written_anew() -> None:
    """An entry that is not applied always is."""
    async with trio(GROUP) as nodes:
        await fill(nodes["n1"].groups, 10)
        for other in nodes.others("n1"):
            nodes.crash(other)
        groups, engine = nodes["n1"].groups, nodes["n1"].engine
        waiting = propose(groups, GROUP, set_of(b"k", b"v"), request_id=b"new")
        last = groups._replicas[GROUP].log.last_index + 1
        await reached(lambda: engine.get(keyspace.log_key(GROUP, last)))
        before = engine.get(keyspace.log_key(GROUP, last))
        flip(engine, keyspace.log_key(GROUP, last))
        assert mended((await scrubbed(engine, groups)).found, f"entry {last} of the log", "written anew")
        assert engine.get(keyspace.log_key(GROUP, last)) == before
        for other in nodes.others("n1"):
            nodes.restart(other)
        await waiting
        await reached(nodes.settled)


@virtual
async def test_a_damaged_log_entry_that_is_applied_is_dropped() -> None:
    """The log does without it, and without those before; what follows stays."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 150)
        log = groups._replicas[GROUP].log
        index = log.first_index + 5
        assert log.remembered(index) is None
        flip(engine, keyspace.log_key(GROUP, index))
        assert mended((await scrubbed(engine, groups)).found, f"entry {index} of the log", "dropped: it is applied")
        assert (await scrubbed(engine, groups)).found == []
        await propose(groups, GROUP, set_of(b"more", b"v"), request_id=b"more")
        assert log.first_index >= index
        crashed = engine.crash(Random(1))
    async with leading(crashed, [GROUP]) as groups:
        assert groups.read(GROUP, [b"key:149"]).rows[0]
        assert load_state(crashed, GROUP).keys == 150 or load_state(crashed, GROUP).keys == 151


@virtual
async def test_damaged_records_of_the_node_are_named_and_the_topology_is_written_anew() -> None:
    """What memory has not, a member say, is left as it is; a record without content is no damage."""
    engine = MemoryEngine()
    store = TopologyStore("n1", engine)
    await store.adopt(found("c", "c1", 8, 1, [node_record("n1")]))
    await store.mark_formed()
    member = keyspace.node_key("member/x")
    replace(engine, member, b"\x01garbage-garbage")
    for key in (TOPOLOGY_KEY, FOUNDING_KEY):
        flip(engine, key)
    async with leading(engine, [GROUP]) as groups:
        found_damage = (await scrubbed(engine, groups, store=store)).found
    assert {(each.what.split(":")[0], each.done) for each in found_damage} == {
        ("the node's record founding", "written anew"),
        ("the node's record member/x", "left as it is"),
        ("the node's record topology", "written anew"),
    }
    assert not any(is_damaged(engine, key) for key in (TOPOLOGY_KEY, FOUNDING_KEY))
    assert engine.get(FORMED_KEY) == b""


@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_what_is_written_meanwhile_is_no_damage(seed: int) -> None:
    """Records come, go and change their entries while a slow scrub passes by."""
    engine, rng = MemoryEngine(), Random(seed)
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 60)
        scrubbing = asyncio.ensure_future(scrubbed(engine, groups, bytes_per_s=50_000))
        number = 0
        while not scrubbing.done():
            number += 1
            key = b"key:%03d" % rng.randrange(90)
            change = delete_of(key) if rng.random() < 0.3 else set_of(key, b"w", [("i", b"%d" % rng.randrange(10))])
            await propose(groups, GROUP, change, request_id=b"%d" % number)
            await pass_time(rng.random() / 50)
        assert (await scrubbing).found == []
        assert number > 20
        assert (await scrubbed(engine, groups)).damage == 0


class Brittle(MemoryEngine):
    """Gives every view up after some reads."""

    def snapshot(self) -> View:  # type: ignore[override]
        view = super().snapshot()
        left = iter(range(6))
        whole = view.scan

        def scan(start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[tuple[bytes, bytes]]:
            if next(left, None) is None:
                raise ViewGone("kept for too long")
            return whole(start, end, limit=limit, reverse=reverse)

        view.scan = scan  # type: ignore[method-assign]
        return view


@virtual
async def test_a_group_whose_view_was_given_up_is_read_but_not_counted() -> None:
    """Everything is checked all the same, and it is said that it was not counted."""
    engine = Brittle()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 300)
        passing = await scrubbed(engine, groups)
        assert (passing.damage, passing.uncounted) == (0, 1)
        flip(engine, row(b"key:299"))
        assert "b'key:299'" in (await scrubbed(engine, groups)).found[0].what


@virtual
async def test_a_slow_scrub_keeps_no_view_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is overwritten must be kept for a view, so a large group is not counted by a slow scrub."""
    engine, opened = MemoryEngine(), dict[float, float]()
    real = engine.snapshot

    def snapshot() -> View:
        view, at = real(), LoopClock().now()
        close = view.close

        def closing() -> None:
            opened[at] = max(opened.get(at, 0.0), LoopClock().now() - at)
            close()

        view.close = closing  # type: ignore[method-assign]
        return view

    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 300)
        monkeypatch.setattr(engine, "snapshot", snapshot)
        passing = await scrubbed(engine, groups, bytes_per_s=0)
        assert passing.uncounted == 0
        opened.clear()
        assert (await scrubbed(engine, groups, bytes_per_s=50_000)).uncounted == 1
        assert max(opened.values()) <= checks.COUNT_S_MAX + 2


@virtual
async def test_a_slice_is_small_whatever_the_size_of_the_records() -> None:
    """Large ones come one at a time (P8), and small ones are not read by the thousand."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 100)
        await fill(groups, 20, value=bytes(300_000))
        steps = list(checks.group_checked(engine.snapshot, LoopClock().now, GROUP, checks.Counted()))
    assert max(step.records for step in steps) <= checks.ROWS_PER_SLICE_MAX
    assert sorted(step.bytes for step in steps)[-10] < 1_000_000


@virtual
async def test_the_rate_is_kept() -> None:
    """Bytes, and a kibibyte for each record, in so much time."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 50)
        began = LoopClock().now()
        passing = await scrubbed(engine, groups, bytes_per_s=100_000)
        expected = (passing.bytes + 1_024 * passing.records) / 100_000
        assert LoopClock().now() - began == pytest.approx(expected, rel=0.01)


@virtual
async def test_the_background_scrubs_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not right after the start, and not without a pause; its figures tell of it."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 10)
        monkeypatch.setattr("ringhold.node.scrub.scrubber.PAUSE_S", 30.0)
        made = scrubber(engine, groups, bytes_per_s=1_000_000)
        running = asyncio.ensure_future(made.run())
        await pass_time(FIRST_PASS_S - 1)
        assert (made.age_s, made.bytes) == (None, 0)
        assert made.unscrubbed_s >= FIRST_PASS_S - 1
        await reached(lambda: made.age_s is not None, 5)
        once = made.bytes
        await pass_time(20)
        assert (made.bytes, made.age_s == made.unscrubbed_s) == (once, True)
        flip(engine, row(b"key:001"))
        await reached(lambda: made.damage, 30)
        assert made.told == ["scrubbed", "damage found"]  # type: ignore[attr-defined]
        running.cancel()


@virtual
async def test_the_background_waits_for_copies() -> None:
    """While a replica is copied from here or to here nothing is read; then the pass goes on."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 1_000)
        made = scrubber(engine, groups, bytes_per_s=100_000)
        running = asyncio.ensure_future(made.run())
        await pass_time(FIRST_PASS_S + 2)
        groups.foreground.copied(LoopClock().now())
        await pass_time(1)
        before = made.bytes
        assert before > 0
        for _ in range(10):
            groups.foreground.copied(LoopClock().now())
            await pass_time(3)
        assert (made.bytes, made.age_s) == (before, None)
        await reached(lambda: made.age_s is not None, 60)
        running.cancel()


@virtual
async def test_one_scrub_at_a_time_and_the_one_asked_for_comes_first() -> None:
    """A second one is refused; that in the background stands back and begins anew; who goes away ends his."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 100)
        made = scrubber(engine, groups, bytes_per_s=20_000)
        running = asyncio.ensure_future(made.run())
        await reached(lambda: made.bytes, FIRST_PASS_S + 5)
        asked = made.scrub(20_000)
        await anext(asked)
        assert made.is_asked_for
        with pytest.raises(Conflict) as caught:
            await anext(made.scrub(0))
        assert caught.value.reason == "SCRUB_RUNNING"
        await asked.aclose()
        before = made.bytes
        await turns()
        await reached(lambda: made.age_s is not None, 60)
        assert made.bytes > before
        running.cancel()


@virtual
async def test_a_cancelled_scrub_reads_no_more() -> None:
    """The call ends, and another one may begin."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 100)
        made = scrubber(engine, groups)

        async def consume() -> None:
            async with aclosing(made.scrub(1_000)) as reports:
                async for _ in reports:
                    pass

        consuming = asyncio.ensure_future(consume())
        await reached(lambda: made.bytes)
        consuming.cancel()
        await turns()
        read = made.bytes
        await pass_time(10)
        assert (made.bytes, made.is_asked_for, engine._rows.readers) == (read, False, 0)


@virtual
async def test_a_node_that_stops_ends_its_scrub() -> None:
    """Whoever asked is told so."""
    engine = MemoryEngine()
    async with leading(engine, [GROUP]) as groups:
        await fill(groups, 100)
        made = scrubber(engine, groups)
        asked = made.scrub(20_000)
        await anext(asked)
        made.close()
        with pytest.raises(Unavailable):
            await anext(asked)


@virtual
async def test_rows_that_are_replaced_meanwhile_are_not_judged() -> None:
    """A snapshot that is being installed leaves holes in what a scrub was about to read."""
    async with trio(GROUP) as nodes:
        await fill(nodes["n1"].groups, 60)
        await reached(nodes.settled)
        engine, groups = nodes["n2"].engine, nodes["n2"].groups
        asked = scrubber(engine, groups).scrub(20_000)
        await anext(asked)
        groups.hosting.begin_install(GROUP)
        for key in keys_of(engine, keyspace.Kind.ROW)[::2]:
            replace(engine, key, None)
        async for passing in asked:
            last = passing
        assert (last.is_done, last.found) == (True, [])


async def reports_of(made: AsyncGenerator[ScrubProgress, None]) -> list[ScrubProgress]:
    return [report async for report in made]


@virtual
async def test_a_scrub_is_told_as_it_goes() -> None:
    """Damage once, in the report after it was found; the last one says what is rebuilt."""
    async with trio(GROUP) as nodes:
        await fill(nodes["n1"].groups, 100)
        await reached(nodes.settled)
        engine, groups = nodes["n2"].engine, nodes["n2"].groups
        flip(engine, row(b"key:042"))
        scrubs = ScrubReports("node-2", scrubber(engine, groups), list)
        reports = await reports_of(scrubs.scrub(ScrubRequest(node="node-2", bytes_per_s=50_000)))
        assert len(reports) > 2
        assert [each.partition for report in reports for each in report.damage] == [GROUP - 1]
        assert [report.is_done for report in reports] == [False] * (len(reports) - 1) + [True]
        assert all(before.bytes <= after.bytes for before, after in pairwise(reports))
        assert reports[-1].seconds > 1
        with pytest.raises(InvalidRequest) as caught:
            await reports_of(scrubs.scrub(ScrubRequest(node="node-3")))
        assert caught.value.reason == "OTHER_NODE"
