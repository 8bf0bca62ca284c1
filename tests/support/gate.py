"""A door that a sync waits at, so that a test holds a tick in the middle."""

import asyncio


class Gate:
    """`MemoryEngine(before_sync=gate.wait)`: open at first. `asked`: how many syncs have come to it."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._opened.set()
        self.waiting = 0
        self.asked = 0

    async def wait(self) -> None:
        self.asked += 1
        self.waiting += 1
        await self._opened.wait()
        self.waiting -= 1

    def close(self) -> None:
        self._opened.clear()

    def open(self) -> None:
        self._opened.set()

    def let_through(self) -> None:
        """Those who wait now may go; the gate stays closed for others."""
        self._opened.set()
        self._opened.clear()
