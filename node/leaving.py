"""How a node's life ends in good order: by a short stop, or by leaving the cluster, which takes until all has moved.

What a stop means is asked (`StopPolicy`), and what leaving takes is done by the cluster (`Departure`): a node that is
killed in the middle has only begun what the others finish. See docs/operations.md, "Stopping".
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ..api.errors import RingholdError
from .clock import Clock
from .ending import Ending, EndingUnknown
from .supervisor import Supervisor

ASK_AGAIN_S = 5.0
"""How often a node that leaves asks whether it is wanted after all. Lower asks the API server more often."""


class Departure(Protocol):
    """The cluster's side of a node's leaving. All of it may be cancelled, and repeated. See `moving/departure.py`."""

    async def decommission_self(self) -> None:
        """Have this node made LEAVING; returns when the topology says so, or REMOVED. Retries until then.

        Raises RingholdError if it can't leave: nobody would be left to hold anything.
        """

    async def keep_self(self) -> None:
        """Take that back; returns when the topology says so, or, since it is too late, REMOVED. Retries until then.

        Raises RingholdError if the cluster refuses that.
        """

    async def until_removed(self) -> None:
        """Return once this node has heard a topology of its cluster in which it is REMOVED; at once if it had."""


class StopPolicy(Protocol):
    """Who knows what a stop means."""

    async def ask(self) -> Ending:
        """What a stop means now; the answer may change. Raises EndingUnknown, after a few seconds at most."""


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """A stop always means the same."""

    ending: Ending

    async def ask(self) -> Ending:
        return self.ending


@dataclass(slots=True)
class StopSignals:
    """What the process was told: `orderly` by the first SIGTERM, `at_once` by SIGINT and by any that comes after."""

    orderly: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)

    def terminate(self) -> None:
        """SIGTERM has come."""
        (self.at_once if self.orderly.is_set() else self.orderly).set()

    def interrupt(self) -> None:
        """SIGINT has come."""
        self.at_once.set()


class Log(Protocol):
    """Where the end tells what it does."""

    def __call__(self, event: str, /, **figures: object) -> None: ...


@dataclass(frozen=True, slots=True)
class End:
    """Watches for all that ends a node's life, and calls `stop` when it is time to drain. `begin` starts it.

    `is_member`: whether there is a cluster to leave. `mark_left` notes durably that this node never starts again.
    """

    signals: StopSignals
    policy: StopPolicy
    departure: Departure
    is_member: Callable[[], bool]
    mark_left: Callable[[], object]
    stop: Callable[[], object]
    clock: Clock
    supervisor: Supervisor
    log: Log
    warn: Log

    def begin(self) -> None:
        """Watch until the supervisor stops."""
        self.supervisor.spawn("removal", self._when_removed())
        self.supervisor.spawn("stop", self._when_told())
        self.supervisor.spawn("stop at once", self._when_told_at_once())

    async def _when_removed(self) -> None:
        """By its own wish, or by an operator's, who may have removed it while it was away."""
        await self.departure.until_removed()
        self.mark_left()
        self.warn("has left", reason="the cluster has removed this node; the next start on its folder is a new node")
        self.stop()

    async def _when_told_at_once(self) -> None:
        await self.signals.at_once.wait()
        self.stop()

    async def _when_told(self) -> None:
        await self.signals.orderly.wait()
        ending = await self._ask()
        while ending is Ending.LEAVE and self.is_member():
            ending = await self._leave_until_told_otherwise()
            if ending is Ending.RESTART:
                ending = await self._stay()
        self.log("stops", ending=ending.value)
        self.stop()

    async def _ask(self) -> Ending:
        """Who does not know may not give up what it has."""
        try:
            return await self.policy.ask()
        except EndingUnknown as unknown:
            self.warn("ending unknown", reason=str(unknown), ending=Ending.RESTART.value)
            return Ending.RESTART

    async def _stay(self) -> Ending:
        """The cluster keeps this node; what is wanted then is asked anew."""
        self.warn("stays", reason="it is wanted again")
        try:
            await self.departure.keep_self()
        except RingholdError as refusal:
            self.warn("not kept", reason=refusal.message)
            return Ending.RESTART
        return await self._ask()

    async def _leave_until_told_otherwise(self) -> Ending:
        """Serve on while the replicas move away; the end comes by `_when_removed`."""
        self.warn("leaves", reason="it serves on until its last replica has moved")
        refused = asyncio.Event()
        leaving = self.supervisor.spawn("decommission", self._decommission(refused))
        try:
            return await self._otherwise_told(refused)
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)  # the supervisor hears how it ended

    async def _decommission(self, refused: asyncio.Event) -> None:
        try:
            await self.departure.decommission_self()
        except RingholdError as refusal:
            self.warn("can't leave", reason=refusal.message)
            refused.set()

    async def _otherwise_told(self, refused: asyncio.Event) -> Ending:
        """Return what is wanted instead of leaving, once it is. While nobody knows, what was last known counts.

        A node that can't leave keeps what it has, as in a stop of all.
        """
        while True:
            await self.clock.sleep(ASK_AGAIN_S)
            if refused.is_set():
                return Ending.STOP
            with suppress(EndingUnknown):
                ending = await self.policy.ask()
                if ending is not Ending.LEAVE:
                    return ending
