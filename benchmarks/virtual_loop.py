"""An event loop whose time jumps from timer to timer and that has no threads: the same calls, always in one order.

It is asyncio's own loop, so that what asyncio costs is counted too. The simulator's (tests/simulation/loop.py) replaces
more of it, for it must crash nodes.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

THREAD_S = 0.0002
"""Virtual seconds that pass until work for a thread is done, whatever it is: about what a sync takes."""


class JumpingSelector(selectors.SelectSelector):
    """Waits for no socket: instead of waiting, virtual time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is ready and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Work for threads is done at once, on the loop's own; who waits for it goes on THREAD_S later."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        done: asyncio.Future[Result] = self.create_future()
        self.call_later(THREAD_S, deliver, done, func(*args))
        return done


def deliver(done: asyncio.Future[Result], result: Result) -> None:
    if not done.done():
        done.set_result(result)


class LoopClock:
    """The running loop's time as the nodes' `Clock`."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtually(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
