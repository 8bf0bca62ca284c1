"""An asyncio event loop without real time, sockets or threads: the same calls run in the same order, every time.

Time stands still while anything is ready and then jumps to the next timer. Every callback belongs to the life that its
context names; once that life has ended none of its callbacks ever runs, nor any `finally` block: so abrupt is a crash.
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
Work: TypeAlias = Coroutine[Any, Any, Result] | Generator[Any, None, Result]
Timer: TypeAlias = tuple[float, int, asyncio.TimerHandle]

CALLBACKS_PER_MOMENT_MAX = 200_000
"""More callbacks without any time passing mean that something spins."""

TASKS_KEPT_MIN = 200
"""A life forgets the tasks that are done whenever their number has doubled from here."""

POLL_S = 0.05


class Deadlock(Exception):
    """Nothing is ready and no timer is set, but somebody waits."""


class Spinning(Exception):
    """Callbacks follow each other without end while time stands still."""


@dataclass(eq=False)
class Life:
    """The time between a node's start and its end; it owns the tasks and callbacks that were made in its context."""

    name: str
    is_over: bool = False
    stalled: "list[asyncio.Handle] | None" = None
    """Callbacks that wait while the process is paused; None while it runs."""
    fuse: int | None = None
    """Callbacks until `on_fuse` is called, between two of this life's steps; None: never."""
    on_fuse: Callable[[], None] = lambda: None
    tasks: "list[asyncio.Task[Any]]" = field(default_factory=list)
    """Those that are under way, and some that are done."""
    context: Context = field(init=False)
    _tasks_max: int = TASKS_KEPT_MIN

    def __post_init__(self) -> None:
        self.context = copy_context()
        self.context.run(LIFE.set, self)

    def run(self, action: Callable[..., Result], *arguments: Any) -> Result:
        """Call `action` as this life's own doing."""
        return self.context.copy().run(action, *arguments)

    def may_run(self, handle: asyncio.Handle) -> bool:
        """Whether this life goes on to run a callback of its own; this is where a fuse burns down."""
        if self.fuse is not None and self.stalled is None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                self.on_fuse()
        if self.stalled is not None:
            self.stalled.append(handle)
            return False
        return not self.is_over

    def keep(self, task: "asyncio.Task[Any]") -> None:
        """Know of a task until it is done."""
        self.tasks.append(task)
        if len(self.tasks) > self._tasks_max:
            self.tasks = [task for task in self.tasks if not task.done()]
            self._tasks_max = max(TASKS_KEPT_MIN, 2 * len(self.tasks))


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class SimulationLoop(asyncio.BaseEventLoop):
    """Runs callbacks first in, first out, and timers by their time and then in the order in which they were set."""

    _ready: deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[Timer] = []
        self._timers_set = 0
        self._callbacks_this_moment = 0
        self._orphans: list[asyncio.Task[Any]] = []
        self.set_task_factory(make_task)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_set += 1
        heapq.heappush(self._timers, (when, self._timers_set, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def end(self, life: Life) -> None:
        """Nothing of this life runs any more."""
        life.is_over = True
        self._orphans += life.tasks

    def resume(self, life: Life) -> None:
        """A paused life goes on."""
        self._ready.extend(life.stalled or ())
        life.stalled = None

    def suspend(self, life: Life, seconds: float) -> None:
        """Pause a life on a machine whose own timers stand still meanwhile: all that are set go off so much later."""
        life.stalled = life.stalled or []
        self._timers = [
            (when + seconds if life_of(timer) is life else when, number, timer) for when, number, timer in self._timers
        ]
        heapq.heapify(self._timers)

    def close(self) -> None:
        """Close the loop and what was left undone on it, without a word."""
        if not self.is_closed():
            for task in self._orphans:
                bury(task)
            self._timers.clear()
        super().close()

    def _run_once(self) -> None:
        if not self._ready:
            self._jump()
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(LIFE)  # type: ignore[attr-defined]
            if life is None or life.may_run(handle):
                handle._run()
        self._callbacks_this_moment += 1
        if self._callbacks_this_moment > CALLBACKS_PER_MOMENT_MAX:
            raise Spinning(f"time stands still at {self._now:.3f} s")

    def _jump(self) -> None:
        """Go to the time of the next timer that still matters, and make all timers of that time ready."""
        while self._timers and is_void(self._timers[0][2]):
            heapq.heappop(self._timers)
        if not self._timers:
            raise Deadlock(f"nothing is ready and no timer is set at {self._now:.3f} s")
        if self._timers[0][0] > self._now:
            self._now = self._timers[0][0]
            self._callbacks_this_moment = 0
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._timers)[2])

    def _asyncgen_firstiter_hook(self, generator: Any) -> None:
        """Nobody closes generators but who reads them: the garbage collector's time is not virtual."""

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        """As above."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""


def life_of(handle: asyncio.Handle) -> Life | None:
    life: Life | None = handle._context.get(LIFE)  # type: ignore[attr-defined]
    return life


def is_over(handle: asyncio.Handle) -> bool:
    life = life_of(handle)
    return life is not None and life.is_over


def is_void(handle: asyncio.Handle) -> bool:
    return handle.cancelled() or is_over(handle)


def make_task(
    loop: asyncio.AbstractEventLoop, work: Work[Result], context: Context | None = None
) -> "asyncio.Task[Result]":
    """A task that its life knows of."""
    task = asyncio.Task(work, loop=loop, context=context)
    life = (context or copy_context()).get(LIFE)
    if life is not None:
        life.keep(task)
    return task


def bury(task: "asyncio.Task[Any]") -> None:
    """Close a task that was cut off in the middle, so that the garbage collector has nothing to complain of."""
    if task.done():
        return
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work = task.get_coro()
    try:
        work.close()
    except RuntimeError as error:
        logging.getLogger(__name__).debug("a task of an ended life did not close: %s", error)


def simulate(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end on a loop of its own."""
    loop = SimulationLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        for task in asyncio.all_tasks(loop):
            bury(task)
        loop.close()


async def until(condition: Callable[[], bool], seconds_max: float = inf) -> None:
    """Return when the condition holds, looked at now and then, or when so much time has passed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds_max
    while not condition() and loop.time() < end:  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(POLL_S)


async def within(seconds_max: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition holds at some moment within so much time; returns then."""
    await until(condition, seconds_max)
    return condition()


async def let_pass(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)
