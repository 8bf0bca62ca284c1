"""Snapshots cost no more than they may: so many at once, so many bytes a second, and views that nobody reads end."""

import asyncio
from contextlib import aclosing

import pytest
from support.replicas import propose
from support.rows import set_of
from support.trio import Trio, trio
from support.virtual_time import LoopClock, pass_time, reached, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk, SnapshotRequest
from ringhold.node.consensus.applying import SliceConfig
from ringhold.node.consensus.foreground import Foreground
from ringhold.node.consensus.groups import GroupsConfig
from ringhold.node.consensus.states import LogBounds
from ringhold.node.peers.transport import Chunks, Refusal, SnapshotRefused
from ringhold.node.snapshots import chunks, source
from ringhold.node.snapshots.pace import Pace
from ringhold.node.snapshots.source import VIEW_KEPT_S, SnapshotSource
from ringhold.node.snapshots.throttle import Throttle

CONFIG = GroupsConfig(slices=SliceConfig(drop_min=8), log=LogBounds(entries_max=20))


async def fill(nodes: Trio, *groups: int, count: int = 40) -> None:
    """So many entries in each group."""
    for number in range(count):
        for group in groups:
            await propose(nodes["n1"].groups, group, set_of(b"%d" % number, bytes(50)), request_id=b"%d" % number)
        await pass_time(0.05)


def at_ease(clock: LoopClock) -> Pace:
    """Of a node without commands, which nothing slows down."""
    return Pace(Foreground(clock.now()), clock.now())


async def refusal_of(stream: Chunks) -> Refusal:
    with pytest.raises(SnapshotRefused) as caught:
        await anext(stream)
    return caught.value.refusal


def asks(source_: SnapshotSource, peer_id: str = "n3", group: int = 1, after: SnapshotChunk | None = None) -> Chunks:
    """A new stream, or one that goes on after a chunk."""
    request = SnapshotRequest(group=group)
    if after is not None:
        request.view, request.checksum, request.after = after.view, after.checksum, after.rows[-1].key
    return source_.serve_snapshot(peer_id, request)


@virtual
async def test_bytes_take_their_time() -> None:
    """All who share a throttle get the rate together, with a short burst at most; 0 is no bound."""
    clock = LoopClock()
    throttle = Throttle(clock, 1_000, at_ease(clock))
    began = clock.now()
    await throttle.spend(100, 0)
    assert clock.now() - began <= 0.001
    for _ in range(10):
        await throttle.spend(200, 0)
    assert 1.9 <= clock.now() - began <= 2.1
    await pass_time(60)
    began = clock.now()
    for _ in range(10):
        await throttle.spend(200, 0)
    assert 1.8 <= clock.now() - began <= 2.1
    began = clock.now()
    await Throttle(clock, 0, at_ease(clock)).spend(10**12, 0)
    assert clock.now() == began


@virtual
async def test_the_event_loop_is_left_to_others_for_as_long() -> None:
    """What has held the loop gives it up for the same time; of several snapshots each waits for all."""
    clock = LoopClock()
    throttle = Throttle(clock, 0, at_ease(clock))
    await pass_time(1.0)
    began = clock.now()
    await throttle.spend(1, 0.004)
    assert clock.now() - began == pytest.approx(0.004)
    began = clock.now()
    await asyncio.gather(*(throttle.spend(1, 0.004) for _ in range(4)))
    assert clock.now() - began == pytest.approx(4 * 0.008)


@virtual
async def test_a_node_sends_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More are refused as busy, and begin when there is room; the same replica again takes the place of itself."""
    monkeypatch.setattr(source, "VIEWS_MAX", 2)
    monkeypatch.setattr(chunks, "CHUNK_BYTES_MAX", 100)
    async with trio(1, 2, 3) as nodes:
        await fill(nodes, 1, 2, 3, count=5)
        sends = nodes["n1"].source
        one, two, three = (asks(sends, group=group) for group in (1, 2, 3))
        await anext(one)
        await anext(two)
        assert sends.running == 2
        assert await refusal_of(three) is Refusal.BUSY
        async with aclosing(asks(sends, group=1)) as again:
            await anext(again)
            assert sends.running == 2
            assert await refusal_of(one) is Refusal.VIEW_GONE
        assert [chunk.last async for chunk in two][-1]
        async with aclosing(asks(sends, group=3)) as three:
            assert (await anext(three)).rows


@virtual
async def test_groups_are_installed_one_after_the_other() -> None:
    """Whoever waits for its turn gets it, however often it is offered."""
    groups = tuple(range(1, 9))
    async with trio(*groups, config=CONFIG) as nodes:
        nodes.crash("n3")
        await fill(nodes, *groups)
        most = 0

        def look(chunk: SnapshotChunk) -> SnapshotChunk:
            nonlocal most
            most = max(most, len(nodes["n3"].installer.counts.running))
            return chunk

        nodes.network.on_chunk = look
        nodes.restart("n3")
        await reached(nodes.settled)
        assert nodes["n3"].installer.counts.done == len(groups)
        assert (most, nodes["n3"].installer.counts.given_up) == (1, 0)


@virtual
async def test_a_view_goes_on_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for its reader, and for no one else; after a while it is closed."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES_MAX", 100)
    async with trio(1) as nodes:
        await fill(nodes, 1, count=10)
        sends = nodes["n1"].source
        stream = asks(sends)
        first = await anext(stream)
        await stream.aclose()
        await pass_time(VIEW_KEPT_S - 1)
        assert sends.running == 1
        assert await refusal_of(asks(sends, "n2", after=first)) is Refusal.VIEW_GONE
        assert await refusal_of(asks(sends, group=2, after=first)) is Refusal.VIEW_GONE
        stream = asks(sends, after=first)
        second = await anext(stream)
        chunks.check(second, 1, first.view, first.rows[-1].key, first.checksum)
        await pass_time(VIEW_KEPT_S + 1)
        assert sends.running == 1
        await stream.aclose()
        await pass_time(VIEW_KEPT_S + 2)
        assert sends.running == 0
        assert await refusal_of(asks(sends, after=second)) is Refusal.VIEW_GONE


@virtual
async def test_only_a_good_copy_is_sent() -> None:
    """Neither a group that is not here, nor one whose rows were given up, nor anything once the node stops."""
    async with trio(1) as nodes:
        sends = nodes["n1"].source
        assert await refusal_of(asks(sends, group=5)) is Refusal.NOT_HERE
        nodes["n2"].groups.hosting.rows_damaged(1, "for the test")
        assert await refusal_of(asks(nodes["n2"].source)) is Refusal.NOT_HERE
        sends.close()
        assert await refusal_of(asks(sends)) is Refusal.NOT_HERE
        await reached(lambda: True)


@virtual
async def test_a_view_that_the_engine_gives_up_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader hears of it, and starts over."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES_MAX", 100)
    async with trio(1) as nodes:
        await fill(nodes, 1, count=10)
        sends = nodes["n1"].source
        stream = asks(sends)
        await anext(stream)
        (served,) = sends._views.values()
        served.view.close()
        with pytest.raises(SnapshotRefused) as caught:
            async for _ in stream:
                pass
        assert caught.value.refusal is Refusal.VIEW_GONE
        assert sends.running == 0


@virtual
async def test_a_full_disk_takes_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation is given up rather than the node stopped, and goes on to its end once there is room."""
    async with trio(1, config=CONFIG) as nodes:
        nodes.crash("n3")
        await fill(nodes, 1)
        nodes.restart("n3")
        monkeypatch.setattr(nodes["n3"].installer, "_is_full", lambda: True)
        await reached(lambda: nodes["n3"].installer.counts.given_up >= 2)
        assert not nodes["n3"].groups.hosting.is_healthy(1)
        monkeypatch.setattr(nodes["n3"].installer, "_is_full", lambda: False)
        await reached(nodes.settled)


@virtual
async def test_a_replica_that_is_buried_meanwhile_is_left_alone() -> None:
    """What is still to come of its snapshot is not written any more: another replica may take its place."""
    async with trio(1, config=CONFIG) as nodes:
        await fill(nodes, 1, count=3)
        nodes.crash("n3")
        await fill(nodes, 1)

        def bury(chunk: SnapshotChunk) -> SnapshotChunk:
            hosting = nodes["n3"].groups.hosting
            if hosting.replica_id(1) == 0:
                hosting.bury(1, "for the test")
            return chunk

        nodes.network.on_chunk = bury
        nodes.restart("n3")
        await reached(nodes.settled)
        assert nodes["n3"].groups.hosting.replica_id(1)
        assert (nodes["n3"].installer.counts.given_up, nodes["n3"].installer.counts.done) == (1, 1)
