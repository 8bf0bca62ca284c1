"""The loop of virtual time: order, jumps, abrupt ends."""

import asyncio
from contextvars import ContextVar

import pytest
from simulation.loop import Deadlock, Life, SimulationLoop, let_pass, simulate

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


async def note_after(seconds: float, notes: list[object], what: object) -> None:
    await let_pass(seconds)
    notes.append(what)


def running() -> SimulationLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulationLoop)
    return loop


def test_time_jumps_to_the_next_timer() -> None:
    """An hour of sleep takes an hour of virtual time, and timeouts count in it too."""

    async def story() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert simulate(story()) == 3600


def test_equal_times_run_in_the_order_in_which_they_were_set() -> None:
    """Timers of one moment fire in the order of their making, whatever was cancelled between them."""

    async def story() -> list[object]:
        notes: list[object] = []
        loop = asyncio.get_running_loop()
        timers = [loop.call_at(5, notes.append, number) for number in range(20)]
        for timer in timers[::3]:
            timer.cancel()
        await note_after(6, notes, "end")
        return notes

    assert simulate(story()) == [*(number for number in range(20) if number % 3), "end"]


def test_waiting_for_nothing_is_an_error() -> None:
    """If nothing is ready and no timer is set the loop says so."""
    with pytest.raises(Deadlock):
        simulate(asyncio.Event().wait())


def test_an_ended_life_runs_nothing_more() -> None:
    """Not even a `finally` block of a task runs after the end of its life; others go on."""

    async def story() -> list[object]:
        notes: list[object] = []

        async def work() -> None:
            try:
                await note_after(2, notes, "too late")
            finally:
                notes.append("finally")

        life = Life("n1")
        task = life.run(asyncio.ensure_future, work())
        await note_after(1, notes, "one")
        running().end(life)
        task.cancel()
        await note_after(5, notes, "six")
        return list(notes)

    assert simulate(story()) == ["one", "six"]


def test_a_paused_life_goes_on_where_it_stood() -> None:
    """What becomes due during a pause happens after it, in order."""

    async def story() -> list[object]:
        notes: list[object] = []
        life = Life("n1")
        life.run(asyncio.ensure_future, note_after(1, notes, "one"))
        life.run(asyncio.ensure_future, note_after(2, notes, "two"))
        await let_pass(0.5)
        life.stalled = []
        await note_after(5, notes, "pause over")
        running().resume(life)
        await note_after(1, notes, "end")
        return notes

    assert simulate(story()) == ["pause over", "one", "two", "end"]


def test_timers_stand_still_on_a_suspended_machine() -> None:
    """A timer that had two seconds to go has two seconds to go after the suspension; other lives' timers go on."""

    async def story() -> list[object]:
        notes: list[object] = []
        life, other = Life("n1"), Life("n2")
        life.run(asyncio.ensure_future, note_after(2, notes, "suspended"))
        other.run(asyncio.ensure_future, note_after(3, notes, "other"))
        await let_pass(0.5)
        running().suspend(life, 5)
        await note_after(5, notes, "goes on")
        running().resume(life)
        await note_after(1, notes, "not yet")
        await note_after(1, notes, "end")
        return notes

    assert simulate(story()) == ["other", "goes on", "not yet", "suspended", "end"]


def test_a_fuse_ends_a_life_between_two_steps() -> None:
    """A fuse counts the callbacks of its own life only, and burns down where no time passes."""

    async def story() -> list[object]:
        notes: list[object] = []

        async def count() -> None:
            for number in range(100):
                notes.append(number)
                await asyncio.sleep(0)

        life = Life("n1")
        life.fuse = 4
        life.on_fuse = lambda: running().end(life)
        life.run(asyncio.ensure_future, count())
        await note_after(1, notes, "end")
        return notes

    assert simulate(story()) == [0, 1, 2, "end"]


def test_context_variables_stay_with_their_task() -> None:
    """A task sees the context in which it was made."""

    async def colour() -> str:
        await asyncio.sleep(0)
        return COLOUR.get()

    async def story() -> list[str]:
        COLOUR.set("red")
        red = asyncio.ensure_future(colour())
        COLOUR.set("blue")
        return [await red, await asyncio.ensure_future(colour())]

    assert simulate(story()) == ["red", "blue"]
