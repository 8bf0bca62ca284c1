"""Waiting for company: work that is done for many at once waits until the event loop brings no more of it.

A frame or a tick costs about the same for one operation as for ten, and what will share it is often already on its way:
in sockets that have been read, in callbacks that are due. A few turns of the loop bring it in and cost microseconds
when there is nothing; waiting by the clock would cost a lone operation a millisecond.
"""

import asyncio
from collections.abc import Callable

QUIET_TURNS = 8
"""So many turns in a row that brought nothing end the wait. Of 2 to 32, twice 8 gains nothing more."""

TURNS_MAX = 32
"""The longest wait, in turns."""


async def gathered(count: Callable[[], int]) -> None:
    """Return when `count`, of what waits for the next batch, has stopped growing."""
    before = count()
    quiet = 0
    for _ in range(TURNS_MAX):
        await asyncio.sleep(0)
        now = count()
        quiet = quiet + 1 if now <= before else 0
        if quiet == QUIET_TURNS:
            return
        before = now
