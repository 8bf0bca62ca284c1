"""A load by Ringhold's client: as fast as answers come, to find out what saturates, or at a steady rate.

At a steady rate operations begin when they are due, whether answers come or not, and a latency counts from then: what
one slow answer does to those after it is seen (no coordinated omission).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ringhold import AsyncClient, RingholdError

from .bodies import VALUE, key_of
from .figures import Percentiles, percentiles

SETS_SHARE = 0.5
"""The other operations are Gets."""

SLICE_S = 0.002
"""What is due is begun this often."""

CALLERS = 64
"""One after the other by so many, to saturate."""


@dataclass(slots=True)
class Taken:
    """How long the operations took that were due in one part of a run, and which failed."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def latency(self) -> Percentiles:
        return percentiles([1e6 * each for each in self.seconds])

    @property
    def longest_s(self) -> float:
        return max(self.seconds)


@dataclass(slots=True)
class Steady:
    """Sets and Gets of keys drawn from all records. `taken` may be changed under way: each part has its own."""

    client: AsyncClient
    records: int
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    taken: Taken = field(default_factory=Taken)
    clock: Callable[[], float] = time.perf_counter
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def saturated_per_s(self, seconds: float) -> float:
        """Operations per second when each of many callers begins the next one at once."""
        until = self.clock() + seconds
        counts = await asyncio.gather(*(self._call_until(until) for _ in range(CALLERS)))
        return sum(counts) / seconds

    async def _call_until(self, until: float) -> int:
        count = 0
        while self.clock() < until:
            await self._operation(self.clock(), Taken())
            count += 1
        return count

    @asynccontextmanager
    async def running(self, per_s: float) -> AsyncIterator[None]:
        """At this rate while the block runs; then what is under way ends."""
        beginning = asyncio.create_task(self._begin(per_s))
        try:
            yield
        finally:
            beginning.cancel()
            await asyncio.gather(beginning, *self._under_way, return_exceptions=True)

    async def _begin(self, per_s: float) -> None:
        due = self.clock()
        while True:
            while due <= self.clock():
                task = asyncio.create_task(self._operation(due, self.taken))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                due += 1 / per_s
            await asyncio.sleep(SLICE_S)

    async def _operation(self, due: float, taken: Taken) -> None:
        key = key_of(self.rng.randrange(self.records))
        try:
            if self.rng.random() < SETS_SHARE:
                await self.client.set(key, VALUE)
            else:
                await self.client.get(key)
        except RingholdError as error:
            taken.failures.append(f"{type(error).__name__}: {error}")
        taken.seconds.append(self.clock() - due)
