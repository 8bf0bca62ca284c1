"""The yardstick: a bare `grpc.aio` server that answers any request with as many bytes as the method's name says.

It runs as a script and imports nothing of the product: what it costs is what gRPC costs in Python.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc

SERVICE = "benchmarks.Echo"

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


def path_of(answer_bytes: int) -> str:
    """The method that answers with so many bytes.

    >>> path_of(114)
    '/benchmarks.Echo/114'
    """
    return f"/{SERVICE}/{answer_bytes}"


class EchoHandler(grpc.GenericRpcHandler):
    """Makes a method when it is first called."""

    def __init__(self) -> None:
        self._methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        path = handler_call_details.method
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = grpc.unary_unary_rpc_method_handler(answering(int(path.rpartition("/")[2])))
        return method


def answering(answer_bytes: int) -> Callable[[bytes, Context], Awaitable[bytes]]:
    answer = bytes(answer_bytes)

    async def call(_: bytes, __: Context) -> bytes:
        return answer

    return call


async def serve(address: str) -> None:
    """Answer until the process is ended."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((EchoHandler(),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
