"""How fast snapshots may go: so many bytes a second, and a share of the event loop that leaves room for requests."""

from ..clock import Clock

BURST_S = 0.1
"""What was not used within this time can't be made up for."""

LOOP_SHARE_MAX = 0.5
"""Raising it makes snapshots faster where nothing else bounds them, and everything else slower meanwhile."""


class Throttle:
    """A token bucket that all snapshots of one direction share, first come, first served."""

    def __init__(self, clock: Clock, bytes_per_s_max: int) -> None:
        """`bytes_per_s_max` 0: no bound."""
        self._clock = clock
        self._bytes_per_s_max = bytes_per_s_max
        self._free_at = clock.now() - BURST_S

    async def spend(self, size: int, worked_s: float) -> None:
        """Return when the next bytes may go, after `size` bytes that took the event loop `worked_s`.

        Others always get a turn, and in all at least as much time as the snapshot took.
        """
        pause_s = worked_s * (1 / LOOP_SHARE_MAX - 1)
        now = self._clock.now()
        if self._bytes_per_s_max:
            self._free_at = max(self._free_at, now - BURST_S) + size / self._bytes_per_s_max
            pause_s = max(pause_s, self._free_at - now)
        await self._clock.sleep(max(0.0, pause_s))
