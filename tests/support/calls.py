"""A gRPC server with one method, as the faces make it, on a free port."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc

from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.api.status import from_rpc_error
from ringhold.node.clock import BootClock
from ringhold.node.faces.calls import Calls
from ringhold.node.supervisor import Supervisor

SERVICE = "test.KV"

Answer = Callable[[kv_pb2.GetRequest, float], Awaitable[kv_pb2.GetResponse]]


def ready() -> None:
    """A node that takes every call."""


@dataclass
class Face:
    """The server's side and a client's."""

    calls: Calls
    failures: list[tuple[str, BaseException]]
    channel: grpc.aio.Channel

    async def call(self, encoded: bytes, timeout_s: float | None = 5.0) -> bytes:
        """Raises RingholdError as a client would."""
        try:
            return await self.raw(encoded, timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def raw(self, encoded: bytes, timeout_s: float | None = 5.0) -> bytes:
        method: Any = self.channel.unary_unary(f"/{SERVICE}/Get")
        return cast("bytes", await method(encoded, timeout=timeout_s))


@asynccontextmanager
async def face(
    answer: Answer, limits: Limits | None = None, check_ready: Callable[[], None] = ready
) -> AsyncIterator[Face]:
    """`answer` behind everything that all calls go through."""
    failures: list[tuple[str, BaseException]] = []
    supervisor = Supervisor(lambda name, error: failures.append((name, error)))
    calls = Calls(check_ready, limits or Limits(), BootClock(), supervisor)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((calls.handler(SERVICE, {"Get": (kv_pb2.GetRequest, answer)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Face(calls, failures, channel)
    await server.stop(0)
