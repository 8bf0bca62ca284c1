"""Clocks of simulated machines: each begins elsewhere and runs at a rate of its own, within what the design allows."""

import asyncio
import random
from collections.abc import Callable
from math import sqrt

APART_MAX = 1.1
"""How much faster the fastest clock may be than the slowest: the 10 % that leases assume (P7)."""

RATE_MAX = sqrt(APART_MAX)
RATE_MIN = 1 / RATE_MAX
EXTREME_CHANCE = 0.4
"""That a rate is one of these two, where a bound that is counted wrongly shows."""

RESOLUTION_S = 1e-9


def random_rate(rng: random.Random) -> float:
    """Seconds of a clock per second that passes."""
    if rng.random() < EXTREME_CHANCE:
        return rng.choice([RATE_MIN, RATE_MAX])
    return rng.uniform(RATE_MIN, RATE_MAX)


class SimulatedClock:
    """A `Clock` over the loop's time. Suspending the machine moves it on; timers of the loop don't count that."""

    def __init__(self, time: Callable[[], float], rng: random.Random) -> None:
        self._time = time
        self._told = rng.uniform(0, 1_000_000)
        self._since = time()
        self._rate = random_rate(rng)

    def now(self) -> float:
        return self._told + (self._time() - self._since) * self._rate

    async def sleep(self, seconds: float) -> None:
        end = self.now() + seconds
        await asyncio.sleep(seconds / self._rate)
        while (left := end - self.now()) > RESOLUTION_S:  # noqa: ASYNC110 - the rate has changed meanwhile
            await asyncio.sleep(left / self._rate)

    def drift(self, rate: float) -> None:
        """From now on the clock runs at another rate, from RATE_MIN to RATE_MAX."""
        self._told, self._since, self._rate = self.now(), self._time(), rate

    def suspend(self, seconds: float) -> None:
        """The machine was suspended for so long."""
        self._told += seconds
