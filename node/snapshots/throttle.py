"""How fast snapshots may go: so many bytes a second, a share of the event loop, and less when requests suffer."""

from math import inf

from ..clock import Clock
from .pace import Pace

BURST_S = 0.1
"""What was not used within this time can't be made up for."""

LOOP_SHARE_MAX = 0.5
"""Raising it makes snapshots faster where nothing else bounds them, and everything else slower meanwhile."""

WORKED_S_MAX = 0.05
"""One piece takes a few milliseconds; beyond this the machine stood still, which is not to be paid for with pauses."""

BACKED_OFF_BYTES_PER_S_MIN = 1024 * 1024
"""The pace does not lower a limit further than to this: a chunk must arrive before its stream is taken for lost."""


class Throttle:
    """Token buckets that all snapshots of one direction share, first come, first served."""

    def __init__(self, clock: Clock, bytes_per_s_max: int, pace: Pace) -> None:
        """`bytes_per_s_max` 0: no bound. `pace` says how much of both shares may be used now."""
        self._clock = clock
        self._bytes_per_s_max = bytes_per_s_max
        self._pace = pace
        self._bytes_free_at = -inf
        self._loop_free_at = -inf

    async def spend(self, size: int, worked_s: float) -> None:
        """Return when the next bytes may go, after `size` bytes that took the event loop `worked_s`.

        Others always get a turn, and in all at least as much time as all snapshots together took.
        """
        now = self._clock.now()
        factor = self._pace.copied(now)
        worked_s = min(worked_s, WORKED_S_MAX)
        self._loop_free_at = max(self._loop_free_at, now - worked_s) + worked_s / (LOOP_SHARE_MAX * factor)
        free_at = self._loop_free_at
        if self._bytes_per_s_max:
            rate = max(factor * self._bytes_per_s_max, min(self._bytes_per_s_max, BACKED_OFF_BYTES_PER_S_MIN))
            self._bytes_free_at = max(self._bytes_free_at, now - BURST_S) + size / rate
            free_at = max(free_at, self._bytes_free_at)
        await self._clock.sleep(max(0.0, free_at - now))
