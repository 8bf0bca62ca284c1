"""Clocks of simulated machines: each begins elsewhere and runs at a rate of its own, within what the design allows."""

import asyncio
import random
from collections.abc import Callable

DRIFT_MAX = 0.05
"""Two clocks differ by less than the 10 % that leases assume (P7)."""


class SimulatedClock:
    """A `Clock` over the loop's time. Suspending the machine moves it on; timers of the loop don't count that."""

    def __init__(self, time: Callable[[], float], rng: random.Random) -> None:
        self._time = time
        self._offset_s = rng.uniform(0, 1_000_000)
        self._rate = rng.uniform(1 - DRIFT_MAX, 1 + DRIFT_MAX)

    def now(self) -> float:
        return self._offset_s + self._time() * self._rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)

    def suspend(self, seconds: float) -> None:
        """The machine was suspended for so long."""
        self._offset_s += seconds
