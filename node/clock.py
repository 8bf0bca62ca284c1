"""Time, injected: shells ask a `Clock`, cores are told `now`. Nothing is decided by wall clocks (P7)."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that count while the machine is suspended, with an assumed rate drift of at most 10 %."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return when at least `seconds` have passed on this clock."""


class BootClock:
    """The machine's CLOCK_BOOTTIME."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
