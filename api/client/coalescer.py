"""Runs the shared calls of coalescing.py to one node on grpc.aio: futures, timers and the calls themselves."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import grpc

from ..status import from_rpc_error
from .calls import ATTEMPT_S_MIN, Event, Send
from .channels import now_s
from .coalescing import Coalescing, Departure, Seat
from .config import ClientConfig

WAIT_S_MIN = 0.001
"""The clock of the loop need not be ours: a timer that comes too early is set again, but not at once."""


class Coalescer:
    """Sends operations to one node, several in a call when there are several at a time.

    `batch` is the stub of Batch; `alone` sends an operation as a call of its own.
    """

    def __init__(
        self, config: ClientConfig, batch: Callable[..., Any], alone: Callable[[Send], Awaitable[Event]]
    ) -> None:
        self._config = config
        self._batch = batch
        self._alone = alone
        self._core = Coalescing(config)
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._overdue: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def send(self, send: Send) -> Event:
        """What a call of its own would have been answered with, within the time that `send` gives."""
        future: asyncio.Future[Event | None] = self._loop.create_future()
        seat = self._core.add(send.request, send.timeout_s, future, now_s())
        if seat is None:
            return await self._alone(send)
        self._plan()
        # An attempt that has its full time is ended by that of the Batch: only the others need a timer of their own.
        timer = None
        if send.timeout_s < self._config.attempt_timeout_s:
            timer = self._loop.call_later(send.timeout_s, seat.expire)
        try:
            event = await future
            return event if event is not None else await self._alone(_in_time(send, seat))
        finally:
            if timer is not None:
                timer.cancel()
            if seat.is_lone:
                self._returned(1)

    def abandon(self) -> None:
        """Send nothing any more; who waits for it is cancelled."""
        self._core.abandon()

    async def ended(self) -> None:
        """Return when nothing is under way any more: as soon as the channel has been closed."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _plan(self) -> None:
        """See that what waits leaves: after this turn of the loop, in which more may come, or once it is overdue."""
        if self._is_due:
            return
        if self._core.may_depart():
            self._is_due = True
            self._loop.call_soon(self._depart)
        elif self._overdue is None and (wait_s := self._core.overdue_in_s(now_s())) < inf:
            self._overdue = self._loop.call_later(max(WAIT_S_MIN, wait_s), self._depart)

    def _depart(self) -> None:
        self._is_due = False
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        for departure in self._core.depart(now_s()):
            task = self._loop.create_task(self._carry(departure))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        self._plan()

    async def _carry(self, departure: Departure) -> None:
        try:
            departure.arrive(await self._batch(departure.request(), timeout=departure.timeout_s))
        except grpc.RpcError as error:
            departure.fail(from_rpc_error(error))
        finally:
            departure.abandon()  # of use if the channel was closed under it
            self._returned(len(departure.seats))

    def _returned(self, operations: int) -> None:
        self._core.returned(operations)
        self._plan()


def _in_time(send: Send, seat: Seat) -> Send:
    return Send(send.address, send.request, max(ATTEMPT_S_MIN, seat.ends_at - now_s()))
