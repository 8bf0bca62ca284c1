"""Logs leaderships as they come and go: many in one line, for they do so by the dozen."""

from .clock import Clock
from .founding import EventLog
from .supervisor import Supervisor

COUNTED_S = 0.5
"""So long leaderships are counted before they are logged."""


class OfficeLog:
    """Which groups this node leads, as far as was told."""

    def __init__(self, log: EventLog, clock: Clock, supervisor: Supervisor) -> None:
        self._log = log
        self._clock = clock
        self._supervisor = supervisor
        self._offices: dict[int, None] = {}
        self._won = self._lost = 0

    def tell(self, group: int, *, leads: bool) -> None:
        """This node leads the group now, or does not."""
        if leads == (group in self._offices):
            return
        if leads:
            self._offices[group] = None
            self._won += 1
        else:
            del self._offices[group]
            self._lost += 1
        if self._won + self._lost == 1:
            self._supervisor.spawn("log of leaderships", self._write())

    async def _write(self) -> None:
        await self._clock.sleep(COUNTED_S)
        won, lost, self._won, self._lost = self._won, self._lost, 0, 0
        self._log("leaderships", won=won, lost=lost, led=len(self._offices))
