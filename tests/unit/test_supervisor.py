"""Tasks that end unnoticed: there are none."""

import asyncio

import pytest
from support.virtual_time import turns, virtual

from ringhold.node.supervisor import Supervisor


class Reports:
    """What the node would be told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.supervisor = Supervisor(lambda name, error: self.told.append((name, str(error))))


async def fail(message: str) -> None:
    raise ValueError(message)


async def for_ever() -> None:
    await asyncio.Event().wait()


@virtual
async def test_the_first_failure_is_reported_once() -> None:
    """Later failures are often its consequences; a return and a cancellation are none."""
    reports = Reports()
    reports.supervisor.spawn("returns", turns(1))
    reports.supervisor.spawn("cancelled", for_ever()).cancel()
    await turns()
    assert reports.told == []
    reports.supervisor.spawn("first", fail("cause"))
    reports.supervisor.spawn("second", fail("consequence"))
    await turns()
    reports.supervisor.report("third", ValueError("outside a task"))
    assert reports.told == [("first", "cause")]
    await reports.supervisor.stop()


@virtual
async def test_a_failure_outside_a_task_counts_like_one_inside() -> None:
    """`report` is for callbacks and handlers that own no task."""
    reports = Reports()
    reports.supervisor.report("callback", ValueError("cause"))
    assert reports.told == [("callback", "cause")]


@virtual
async def test_a_guard_reports_what_is_not_expected_and_lets_it_through() -> None:
    """Expected errors and cancellation pass untold; a bug is told and still raised."""
    reports = Reports()
    for error in (KeyError("expected"), asyncio.CancelledError()):
        with pytest.raises(type(error)), reports.supervisor.guard("handler", LookupError):
            raise error
    assert reports.told == []
    with pytest.raises(ZeroDivisionError), reports.supervisor.guard("handler", LookupError):
        raise ZeroDivisionError("bug")
    assert reports.told == [("handler", "bug")]


@virtual
async def test_stop_ends_every_task_also_those_that_ending_ones_spawn() -> None:
    """After `stop` nothing of the node runs any more."""
    reports = Reports()
    late: list[asyncio.Task[None]] = []

    async def spawns_at_its_end() -> None:
        try:
            await for_ever()
        finally:
            late.append(reports.supervisor.spawn("late", for_ever()))

    tasks = [reports.supervisor.spawn("loop", for_ever()), reports.supervisor.spawn("parent", spawns_at_its_end())]
    await turns()
    await reports.supervisor.stop()
    assert all(task.done() for task in [*tasks, *late])
    assert len(late) == 1
    await reports.supervisor.stop()
    assert reports.told == []


async def test_a_stop_ends_though_tasks_have_ended_before_it() -> None:
    """A task whose end nobody has been told of yet does not keep the stop waiting."""
    supervisor = Supervisor(lambda _name, error: pytest.fail(str(error)))
    task = supervisor.spawn("short", asyncio.sleep(0))
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(supervisor.stop(), timeout=5)
