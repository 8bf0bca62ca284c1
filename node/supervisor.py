"""Runs a node's loops, and sees to it that none ends unnoticed: a loop that fails stops the node."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any


class Supervisor:
    """Owns tasks. The first failure of any of them is reported once, by `on_failure(name, error)`."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._failed = False

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it returns, is cancelled, or fails."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def report(self, name: str, error: BaseException) -> None:
        """Tell of a failure outside a task, as of one inside."""
        if not self._failed:
            self._failed = True
            self._on_failure(name, error)

    async def stop(self) -> None:
        """Cancel every task, also those that ending ones spawn, and return when all have ended."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:  # from Python 3.12 on, gathering what has ended does not let its callbacks run
                self._tasks.pop(task, None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.report(task.get_name(), error)

    def guard(self, name: str, *expected: type[BaseException]) -> "Guard":
        """A context that reports whatever leaves it, but for cancellation and the `expected`: a bug, or worse."""
        return Guard(self, name, (asyncio.CancelledError, *expected))


class Guard:
    """A context without state of its own, so that one serves any number of calls at once."""

    def __init__(self, supervisor: Supervisor, name: str, expected: tuple[type[BaseException], ...]) -> None:
        self._supervisor = supervisor
        self._name = name
        self._expected = expected

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, self._expected):
            self._supervisor.report(self._name, error)
