"""A cluster's side of a node's leaving, that a test decides."""

import asyncio
from dataclasses import dataclass, field

from ringhold.api.errors import RingholdError
from ringhold.node.ending import Ending, EndingUnknown


@dataclass
class FakeDeparture:
    """Does what it is asked as soon as the test lets it; `calls` are what it was asked, in their order."""

    calls: list[str] = field(default_factory=list)
    may_leave: asyncio.Event = field(default_factory=asyncio.Event)
    may_stay: asyncio.Event = field(default_factory=asyncio.Event)
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: RingholdError | None = None
    """What it gets instead, once it may."""

    async def decommission_self(self) -> None:
        self.calls.append("decommission")
        try:
            await self.may_leave.wait()
        except asyncio.CancelledError:
            self.calls.append("cancelled")
            raise
        self._refuse()

    async def keep_self(self) -> None:
        self.calls.append("keep")
        await self.may_stay.wait()
        self._refuse()

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def until_removed(self) -> None:
        await self.removed.wait()


@dataclass
class FakePolicy:
    """`ending` is what a stop means now; None: nobody knows."""

    ending: Ending | None
    asked: int = 0

    async def ask(self) -> Ending:
        self.asked += 1
        if self.ending is None:
            raise EndingUnknown("nobody knows")
        return self.ending
