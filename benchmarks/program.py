"""`python -m benchmarks.program`: a program that does nothing but call, by one of the clients; what it did as JSON.

It is its own process, so that what the clients take can be told apart. Once it is warm it says "ready", then waits for
a line; and a single call that raises ends it without a figure.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count

from .bodies import key_of
from .callers import ASYNC_CALLERS, CALLERS, AsyncCall, AsyncCaller, Call, Caller
from .figures import Percentiles, percentiles

KEYS = 256
WARMERS = 32


@dataclass(frozen=True, slots=True)
class Task:
    """What the program is told."""

    operation: str
    callers: int
    seconds: float
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class Done:
    """What it says at the end: calls that returned in so many seconds, from the first to the end of the last."""

    operations: int
    seconds: float
    cpu_s: float
    latency: Percentiles


class Measurement:
    """Of all callers together."""

    def __init__(self, seconds: float) -> None:
        self._cpu_began_s = time.process_time()
        self._began = time.perf_counter()
        self.ends_at = self._began + seconds
        self.latencies_s: list[float] = []

    def done(self) -> Done:
        seconds = time.perf_counter() - self._began
        found = percentiles([1e6 * latency_s for latency_s in self.latencies_s])
        return Done(len(self.latencies_s), seconds, time.process_time() - self._cpu_began_s, found)


def keys_from(first: int) -> Iterator[bytes]:
    """All keys, again and again."""
    return (key_of(number % KEYS) for number in count(first))


def wait_for_the_start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


async def run_async(caller: AsyncCaller, task: Task) -> Done:
    async with caller(task.addresses, max(task.callers, WARMERS)) as calls:
        call: AsyncCall = getattr(calls, task.operation)
        await asyncio.gather(*(warm(calls.set, first) for first in range(WARMERS)))
        await asyncio.to_thread(wait_for_the_start)
        measurement = Measurement(task.seconds)
        await asyncio.gather(*(call_until_the_end(call, first, measurement) for first in range(task.callers)))
        return measurement.done()


async def warm(call: AsyncCall, first: int) -> None:
    for number in range(first, KEYS, WARMERS):
        await call(key_of(number))


async def call_until_the_end(call: AsyncCall, first: int, measurement: Measurement) -> None:
    for key in keys_from(first):
        began = time.perf_counter()
        if began >= measurement.ends_at:
            return
        await call(key)
        measurement.latencies_s.append(time.perf_counter() - began)


def run_blocking(caller: Caller, task: Task) -> Done:
    with caller(task.addresses, task.callers) as calls:
        for key in map(key_of, range(KEYS)):
            calls.set(key)
        wait_for_the_start()
        call: Call = getattr(calls, task.operation)
        with ThreadPoolExecutor(task.callers) as pool:
            measurement = Measurement(task.seconds)
            threads = [pool.submit(block_until_the_end, call, first, measurement) for first in range(task.callers)]
            for thread in threads:
                thread.result()
        return measurement.done()


def block_until_the_end(call: Call, first: int, measurement: Measurement) -> None:
    for key in keys_from(first):
        began = time.perf_counter()
        if began >= measurement.ends_at:
            return
        call(key)
        measurement.latencies_s.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.program", description=__doc__)
    parser.add_argument("caller", choices=[*ASYNC_CALLERS, *CALLERS])
    parser.add_argument("operation", choices=["get", "set"])
    parser.add_argument("callers", type=int, help="how many call at a time")
    parser.add_argument("seconds", type=float)
    parser.add_argument("addresses", nargs="+", metavar="HOST:PORT")
    told = parser.parse_args()
    task = Task(told.operation, told.callers, told.seconds, told.addresses)
    if told.caller in ASYNC_CALLERS:
        done = asyncio.run(run_async(ASYNC_CALLERS[told.caller], task))
    else:
        done = run_blocking(CALLERS[told.caller], task)
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
