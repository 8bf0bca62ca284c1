"""What HTTP adds to a body of gossip, counted on a real connection between the product's client and server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from ringhold.gossip.http import ClusterGuard, HttpExchange, routes

CLUSTER_ID_CHARACTERS = 32
BODY_BYTES = 1_000
TIMEOUT_S = 5.0


@dataclass(slots=True)
class Envelope:
    """Bytes of request line, status line and headers; those of TCP and IP come on top."""

    request_bytes: int = 0
    answer_bytes: int = 0

    @property
    def mean_bytes(self) -> float:
        return (self.request_bytes + self.answer_bytes) / 2


async def measured_envelope() -> Envelope:
    guard = ClusterGuard("demo", lambda: "0" * CLUSTER_ID_CHARACTERS)
    application = web.Application()
    application.add_routes(routes(echoed, ["ping"], guard))
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    exchange = HttpExchange(guard)
    try:
        async with relay_to(runner.addresses[0][1]) as (address, envelope):
            await exchange.exchange(address, "ping", bytes(BODY_BYTES), TIMEOUT_S)
            await exchange.close()
    finally:
        await runner.cleanup()
    return Envelope(envelope.request_bytes - BODY_BYTES, envelope.answer_bytes - BODY_BYTES)


async def echoed(route: str, body: bytes, /) -> bytes:
    return body


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[tuple[str, Envelope]]:
    """Where to connect instead of the port, and the bytes that went each way."""
    counted = Envelope()

    async def both_ways(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def there() -> None:
            while some := await reader.read(2**16):
                counted.request_bytes += len(some)
                far_writer.write(some)
            far_writer.close()

        async def back() -> None:
            while some := await far_reader.read(2**16):
                counted.answer_bytes += len(some)
                writer.write(some)
            writer.close()

        await asyncio.gather(there(), back())

    async with await asyncio.start_server(both_ways, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", counted
