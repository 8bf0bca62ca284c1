"""Single questions and answers over the fake network: gossip's HTTP exchanges, and the calls of clients.

The server's side runs in the server's life, so a crash ends it wherever it is. What its caller then learns, and when,
follows the real transports: a refused connection, a lost one, or silence until the timeout.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from xxhash import xxh3_64_hexdigest

from ringhold.api.client.channels import METHODS
from ringhold.api.errors import RingholdError, error_for
from ringhold.api.status import from_status, to_status
from ringhold.gossip.ports import ExchangeFailed
from ringhold.gossip.wire import WireError

from .loop import Life
from .network import Network

LOST_S_MAX = 0.05
"""How soon a caller hears that a process it was connected to has died."""


class CallEnded(Exception):
    """The server's side did not answer; `answer` is what the caller hears instead, if anything."""


@dataclass(eq=False)
class Server:
    """What listens at an address: `handle` answers bytes with bytes."""

    life: Life
    machine: str
    handle: Callable[[str, bytes], Awaitable[bytes]]
    running: "dict[Pending, None]" = field(default_factory=dict)


@dataclass(eq=False)
class Pending:
    """One question under way, from the caller's point of view."""

    source: str
    server: Server
    answer: "asyncio.Future[bytes]"


class Questions:
    """Carries questions to the servers of one kind (gossip's, or clients') and their answers back."""

    def __init__(self, network: Network, lost: Callable[[str], Exception]) -> None:
        """`lost` makes the error of a call that broke or was refused."""
        self.network = network
        self.servers: dict[str, Server] = {}
        self.on_bug: Callable[[str, BaseException], None] = lambda name, error: None
        self._lost = lost

    async def ask(
        self, source: str, address: str, route: str, body: bytes, timeout_s: float, *, loss: float, repeat: float = 0.0
    ) -> bytes:
        """The answer. Raises TimeoutError, or what `lost` makes."""
        network = self.network
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        for _ in range(2 if network.chance(repeat) else 1):
            if not network.chance(loss):
                network.after(network.delay_s(), self._arrive, source, address, route, body, answer)
        async with asyncio.timeout(timeout_s):
            return await answer

    def machine_died(self, life: Life, *, silently: bool) -> None:
        """Questions that it was working on get no answer; unless it died silently, the callers are told."""
        for address, server in list(self.servers.items()):
            if server.life is life:
                del self.servers[address]
                for pending in list(server.running):
                    if not silently:
                        self._fail_later(pending.answer, "lost")

    def close(self, life: Life) -> None:
        """The process ends in order; what still runs breaks off."""
        self.machine_died(life, silently=False)

    def _arrive(self, source: str, address: str, route: str, body: bytes, answer: "asyncio.Future[bytes]") -> None:
        if answer.done():
            return
        server = self.servers.get(address)
        if server is None or server.life.is_over:
            self._fail_later(answer, "refused")
        elif not self.network.is_blocked(source, server.machine):
            pending = Pending(source, server, answer)
            server.running[pending] = None
            loop = asyncio.get_event_loop_policy().get_event_loop()
            task = server.life.run(loop.create_task, server.handle(route, body))
            # A caller that gives up cancels the server's work, as gRPC does.
            answer.add_done_callback(lambda _: task.cancel())
            task.add_done_callback(lambda _: self._answered(pending, task))

    def _answered(self, pending: Pending, task: "asyncio.Task[bytes]") -> None:
        pending.server.running.pop(pending, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, WireError):
            self.on_bug(pending.server.machine, error)
        elif not self.network.is_blocked(pending.server.machine, pending.source):
            deliver = self._refused if error else self._deliver
            self.network.after(self.network.delay_s(), deliver, pending.answer, task)

    def _deliver(self, answer: "asyncio.Future[bytes]", task: "asyncio.Task[bytes]") -> None:
        if not answer.done():
            answer.set_result(task.result())

    def _refused(self, answer: "asyncio.Future[bytes]", task: "asyncio.Task[bytes]") -> None:
        self._fail(answer, "refused")

    def _fail_later(self, answer: "asyncio.Future[bytes]", how: str) -> None:
        self.network.after(self.network.rng.uniform(0, LOST_S_MAX), self._fail, answer, how)

    def _fail(self, answer: "asyncio.Future[bytes]", how: str) -> None:
        if not answer.done():
            answer.set_exception(self._lost(how))
