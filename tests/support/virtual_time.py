"""Tests of asynchronous parts under virtual time: no wait takes any, and the order of events is always the same."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from simulation.loop import simulate

Arguments = ParamSpec("Arguments")


def virtual(test: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    """Run the test on a loop whose time jumps from timer to timer."""

    @wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        simulate(test(*args, **kwargs))

    return run


class LoopClock:
    """The running loop's time as a `Clock`."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def turns(count: int = 50) -> None:
    """Let everything that is ready run, without any time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def reached(condition: Callable[[], object], seconds_max: float = 30.0) -> None:
    """Return as soon as the condition holds; AssertionError if it does not within so much virtual time."""
    async with asyncio.timeout(seconds_max):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def pass_time(seconds: float) -> None:
    """Let so much virtual time pass."""
    await asyncio.sleep(seconds)
