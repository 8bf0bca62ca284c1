"""How often a node writes: the more is under way, the more shares a tick; what is alone waits for nothing."""

import asyncio

import pytest
from support.replicas import leading, propose
from support.rows import set_of
from support.virtual_time import pass_time, turns, virtual

from ringhold.node.consensus.ticks import PACE_S, PACE_S_MAX
from ringhold.node.storage.memory import MemoryEngine


@virtual
async def test_a_lone_command_waits_for_nothing() -> None:
    """Not even right after another one: its way is a few turns of the loop, and its sync."""
    async with leading(MemoryEngine()) as replicas:
        loop = asyncio.get_running_loop()
        await propose(replicas, 1, set_of(b"k"), request_id=b"1")
        began = loop.time()
        await propose(replicas, 1, set_of(b"k"), request_id=b"2")
        assert loop.time() == began


@pytest.mark.parametrize(("under_way", "pace_s"), [(20, 20 * PACE_S), (60, PACE_S_MAX)])
@virtual
async def test_ticks_are_paced_by_what_is_under_way(under_way: int, pace_s: float) -> None:
    """Each caller asks again as soon as it is answered; writes follow each other by the pace, and none is starved."""
    engine = MemoryEngine()
    async with leading(engine) as replicas:
        loop = asyncio.get_running_loop()
        answered = [0] * under_way

        async def ask_again_and_again(number: int) -> None:
            while True:
                request_id = b"%d:%d" % (number, answered[number])
                await propose(replicas, 1 + number % 2, set_of(b"%d" % number), request_id=request_id)
                answered[number] += 1

        callers = [asyncio.ensure_future(ask_again_and_again(number)) for number in range(under_way)]
        await turns()
        before, began = engine.stats().batches_written, loop.time()
        await pass_time(20 * pace_s)
        written = engine.stats().batches_written - before
        assert written <= (loop.time() - began) / pace_s + 1
        assert min(answered) >= 5
        for caller in callers:
            caller.cancel()
