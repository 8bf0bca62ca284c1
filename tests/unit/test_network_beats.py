"""Beats between nodes over real sockets: the newest first, to whoever is a member, and no memory of the rest."""

import asyncio

import pytest
from support.network_peers import beating, beats_up, introduce, peers, start, wait_for
from support.virtual_time import turns, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat
from ringhold.node.peers.boots import Boot
from ringhold.node.peers.lines import BeatSender, Line


async def test_both_ends_send_beats() -> None:
    """They go beside the frames, without their hello, to whom they are for."""
    async with peers("a", "b", "c") as (a, b, c):
        introduce(a, b, c)
        await beating(a, b)
        assert set(b.raft.beats) == {("a", 1)}
        assert c.raft.beats == []


class SlowStream:
    """Takes a beat at a time while `taking`."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.begun = 0
        self.taking = asyncio.Event()

    async def write(self, message: Beat, /) -> None:
        self.begun += 1
        await self.taking.wait()
        self.sent.append(message.number)

    async def read(self) -> object:
        raise AssertionError("nobody reads here")


@virtual
async def test_the_newest_beat_replaces_those_that_have_not_left() -> None:
    """A peer that takes nothing costs one beat of memory, and hears the newest first."""
    stream = SlowStream()
    sender = BeatSender(Line(Beat, "b", Boot(1, 0), stream))
    sending = asyncio.ensure_future(sender.run())
    sender.put(Beat(number=1))
    await turns()
    for number in (2, 3, 4):
        sender.put(Beat(number=number))
    stream.taking.set()
    await turns()
    sender.put(Beat(number=5))
    await turns()
    assert stream.sent == [1, 4, 5]
    sending.cancel()


async def test_a_beat_to_nobody_is_dropped() -> None:
    """Best effort: there is no error and no memory of it."""
    async with peers("a", "b") as (a, b):
        a.transport.send_beat("b", Beat(number=1))
        a.transport.send_beat("z", Beat(number=1))
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        await beating(a, b, number=2)
        assert set(b.raft.beats) == {("a", 2)}


@pytest.mark.parametrize("forgetting", ["a", "b"])
async def test_who_is_no_member_any_more_loses_the_beats(forgetting: str) -> None:
    """`reach` ends both streams, whoever dialled."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await beating(a, b)
        (a if forgetting == "a" else b).transport.reach({})
        await wait_for(lambda: not beats_up(a) and not beats_up(b))


async def test_beats_follow_a_changed_address() -> None:
    """Both streams move to where the peer is now."""
    async with peers("a") as (a,):
        old, new = await start("b"), await start("b", generation=2)
        for b in (old, new):
            b.transport.reach({"a": a.address})
        a.transport.reach({"b": old.address})
        await beating(a, old)
        a.transport.reach({"b": new.address})
        await beating(a, new, number=2)
        await wait_for(lambda: not beats_up(old) and not old.heard.open)
        assert ("a", 2) not in old.raft.beats
        await old.stop()
        await new.stop()
