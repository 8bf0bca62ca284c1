"""Single questions and answers over the fake network: gossip's HTTP exchanges, and the calls of clients.

The server's side runs in the server's life, so a crash ends it wherever it is. What its caller then learns, and when,
follows the real transports: a refused connection, a lost one, or silence until the timeout.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from xxhash import xxh3_64_hexdigest

from ringhold.api.client.channels import METHODS
from ringhold.api.errors import RingholdError, error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ringhold.api.status import from_status, to_status
from ringhold.gossip.ports import ExchangeFailed
from ringhold.gossip.wire import WireError
from ringhold.node.node import Node

from .loop import Life
from .network import Channel, Network

LOST_S_MAX = 0.05
"""How soon a caller hears that a process it was connected to has died."""

ANSWER_MARGIN_S = 0.05
ANSWER_MARGIN_SHARE = 0.1


class Refused(Exception):
    """Nothing listens at the address, or it does not want this question: certainly nothing happened."""


class Lost(Exception):
    """The connection ended before the answer came."""


@dataclass(eq=False)
class Server:
    """What listens at an address: `handle` answers bytes with bytes."""

    life: Life
    machine: str
    handle: Callable[[str, bytes], Awaitable[bytes]]
    running: "dict[asyncio.Future[bytes], None]" = field(default_factory=dict)
    """What callers wait for here."""


class Questions:
    """Carries the questions of one kind (gossip's, or clients') to servers, and the answers back."""

    def __init__(self, network: Network, loop: asyncio.AbstractEventLoop, *, cancels: bool) -> None:
        """`cancels`: a caller that gives up ends the server's work, as gRPC does and HTTP does not."""
        self.network = network
        self.servers: dict[str, Server] = {}
        self.on_bug: Callable[[str, BaseException], None] = lambda name, error: None
        self._loop = loop
        self._cancels = cancels

    async def ask(
        self, source: str, address: str, route: str, body: bytes, timeout_s: float, *, loss: float, repeat: float = 0.0
    ) -> bytes:
        """The answer. Raises Refused, Lost, TimeoutError."""
        network = self.network
        answer: asyncio.Future[bytes] = self._loop.create_future()
        for _ in range(2 if network.chance(repeat) else 1):
            if not network.chance(loss):
                network.after(network.delay_s(), self._arrive, source, address, route, body, answer)
        async with asyncio.timeout(timeout_s):
            return await answer

    def machine_died(self, life: Life, *, silently: bool) -> None:
        """Its questions get no answer; unless it died silently, the callers are told."""
        for address, server in list(self.servers.items()):
            if server.life is life:
                del self.servers[address]
                if not silently:
                    for answer in list(server.running):
                        self._fail_later(answer, Lost)

    def _arrive(self, source: str, address: str, route: str, body: bytes, answer: "asyncio.Future[bytes]") -> None:
        if answer.done():
            return
        server = self.servers.get(address)
        if server is None or server.life.is_over:
            self._fail_later(answer, Refused)
        elif not self.network.is_blocked(source, server.machine, Channel.CALLS):
            self._serve(source, server, route, body, answer)

    def _serve(self, source: str, server: Server, route: str, body: bytes, answer: "asyncio.Future[bytes]") -> None:
        work = server.life.run(asyncio.ensure_future, server.handle(route, body))
        server.running[answer] = None
        if self._cancels:
            answer.add_done_callback(lambda _: work.cancel())
        work.add_done_callback(lambda _: self._served(source, server, work, answer))

    def _served(
        self, source: str, server: Server, work: "asyncio.Future[bytes]", answer: "asyncio.Future[bytes]"
    ) -> None:
        server.running.pop(answer, None)
        if work.cancelled() or server.life.is_over:
            return
        error = work.exception()
        if error is None and self.network.is_blocked(server.machine, source, Channel.CALLS):
            return
        if error is None:
            self.network.after(self.network.delay_s(), deliver, answer, work.result())
        elif isinstance(error, WireError):
            self._fail_later(answer, Refused)
        else:
            self.on_bug(server.machine, error)

    def _fail_later(self, answer: "asyncio.Future[bytes]", kind: type[Exception]) -> None:
        self.network.after(self.network.rng.uniform(0, LOST_S_MAX), fail, answer, kind())


def deliver(answer: "asyncio.Future[bytes]", body: bytes) -> None:
    if not answer.done():
        answer.set_result(body)


def fail(answer: "asyncio.Future[bytes]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


class SimulatedExchange:
    """One node's side of gossip's network. The contract is on `ringhold.gossip.ports.Exchange`."""

    def __init__(self, questions: Questions, machine: str) -> None:
        self._questions = questions
        self._machine = machine

    async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
        network = self._questions.network
        network.trace.note(self._machine, f"gossip {route} to {address}: {xxh3_64_hexdigest(body)}")
        weather = network.weather
        try:
            return await self._questions.ask(
                self._machine,
                address,
                route,
                body,
                timeout_s,
                loss=weather.gossip_loss,
                repeat=weather.gossip_repeat,
            )
        except (Refused, Lost, TimeoutError) as error:
            raise ExchangeFailed(f"{address}: {type(error).__name__}") from error


class ClientFace:
    """What node/faces/calls.py does for a call: admission, deadline, errors as statuses. Without sizes and metrics."""

    def __init__(self, node: Node, now: Callable[[], float]) -> None:
        self._node = node
        self._now = now
        gateway, overview = node.gateway, node.overview
        self._methods: dict[str, tuple[type[Message], Callable[[Any, float], Awaitable[Message]]]] = {
            "Get": (kv_pb2.GetRequest, gateway.get),
            "Set": (kv_pb2.SetRequest, gateway.set),
            "Delete": (kv_pb2.DeleteRequest, gateway.delete),
            "GetByIndex": (kv_pb2.GetByIndexRequest, gateway.get_by_index),
            "Batch": (kv_pb2.BatchRequest, gateway.batch),
            "Resolve": (kv_pb2.ResolveRequest, gateway.resolve),
            "Topology": (cluster_pb2.TopologyRequest, lambda _, deadline: overview.topology(deadline)),
        }

    async def handle(self, route: str, body: bytes) -> bytes:
        """An answer after 0x00, or a google.rpc.Status after 0x01. `route` is the method and the seconds it has."""
        method, _, timeout = route.partition(" ")
        kind, answer = self._methods[method]
        allowed_s = float(timeout) - min(ANSWER_MARGIN_S, ANSWER_MARGIN_SHARE * float(timeout))
        try:
            # GeneratorExit buries what a life that is over has left undone.
            with self._node.supervisor.guard(method, RingholdError, GeneratorExit):
                self._node.check_ready()
                response = await answer(kind.FromString(body), self._now() + allowed_s)
        except RingholdError as error:
            return b"".join((b"\x01", to_status(error).SerializeToString()))
        return b"".join((b"\x00", response.SerializeToString()))


class ClientNetwork:
    """The side of the programs that use the cluster."""

    MACHINE = "clients"

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    async def call(self, address: str, request: Any, timeout_s: float) -> Any:
        """The answer to a request. Raises what api/status.py makes of an error, or of a call without an answer."""
        method = METHODS[type(request)]
        route = f"{method.path.rpartition('/')[2]} {timeout_s!r}"
        loss = self._questions.network.weather.call_loss
        try:
            body = await self._questions.ask(
                self.MACHINE, address, route, request.SerializeToString(), timeout_s, loss=loss
            )
        except Refused as error:
            raise error_for("NO_ENDPOINT", "there is no connection to the node") from error
        except Lost as error:
            raise error_for("CONNECTION_LOST", "the connection was lost before the answer came") from error
        except TimeoutError as error:
            raise error_for("NO_ANSWER", "no answer came in time") from error
        if body[:1] == b"\x00":
            return method.response.FromString(body[1:])
        refusal = from_status(Status.FromString(body[1:]))
        assert refusal is not None, "a node answered with a status that is none of ours"
        raise refusal
