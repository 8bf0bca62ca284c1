"""Runs many seeds in several processes at once. Each is as determined as alone, and they come back in their order."""

import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from .faults import ALL_FAULTS
from .world import Result, run_seed

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

PROCESSES_MAX = 8
SEEDS_AHEAD = 2
"""Seeds that wait for a process; whoever needs no more results wastes no more than those under way."""

SEEDS_FOR_ANOTHER_PROCESS_MIN = 3
"""Fewer seeds are done before another process has begun."""


def run_planted(seed: int, fault: str | None = None, keep_trace: bool = False) -> Result:
    """One run; with the named bug planted in the product, up to the first violation. Its trace only if that is kept."""
    with nullcontext() if fault is None else ALL_FAULTS[fault]():
        result = run_seed(seed, hastily=fault is not None)
    return result if keep_trace else replace(result, trace=[])


def processes_for(seeds: int) -> int:
    """How many processes pay for so many seeds."""
    return max(1, min(os.cpu_count() or 1, PROCESSES_MAX, seeds // SEEDS_FOR_ANOTHER_PROCESS_MIN))


class Farm:
    """Worker processes, used as a context. With one process it runs each seed when its result is asked for."""

    def __init__(self, processes: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._ahead_max = processes + SEEDS_AHEAD
        if processes > 1:
            # gRPC does not survive a fork.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, spawn, initializer=warnings.simplefilter, initargs=("error",))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, seeds: Iterable[int], *, fault: str | None = None, keep_traces: bool = False
    ) -> Generator[Result, None, None]:
        """The results in the order of the seeds, each as soon as it and those before it are there."""
        return self.each(partial(run_planted, fault=fault, keep_trace=keep_traces), seeds)

    def each(self, run: Callable[[Item], Outcome], items: Iterable[Item]) -> Generator[Outcome, None, None]:
        """What `run` makes of each item, in their order; it must be something that other processes can import."""
        if self._pool is None:
            yield from map(run, items)
            return
        left = iter(items)
        running: deque[Future[Outcome]] = deque()
        try:
            while True:
                for item in islice(left, self._ahead_max - len(running)):
                    running.append(self._pool.submit(run, item))
                if not running:
                    return
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
