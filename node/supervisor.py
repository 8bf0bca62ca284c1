"""Runs a node's loops, and sees to it that none ends unnoticed: a loop that fails stops the node."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


class Supervisor:
    """Owns tasks. The first failure of any of them is reported once, by `on_failure(name, error)`."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._failed = False

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it returns, is cancelled, or fails."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = name
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

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.report(name, error)

    @contextmanager
    def guard(self, name: str, *expected: type[BaseException]) -> Iterator[None]:
        """Report whatever leaves the block, but for cancellation and the `expected`: then it is a bug, or worse."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, (asyncio.CancelledError, *expected)):
                self.report(name, error)
            raise
