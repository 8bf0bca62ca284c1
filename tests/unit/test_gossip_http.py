"""Gossip's HTTP face over real sockets: the guard, the limits, and what the client makes of bad answers."""

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from support.gossip import member

from ringhold.gossip.agent import GossipAgent, GossipListener
from ringhold.gossip.config import BODY_BYTES_MAX, GossipConfig
from ringhold.gossip.http import ID_HEADER, NAME_HEADER, PATH_PREFIX, ClusterGuard, HttpExchange, routes
from ringhold.gossip.messages import Ping
from ringhold.gossip.ports import ExchangeFailed, FakeExchange
from ringhold.gossip.wire import ROUTES, decode_answer, encode

NAMED = {NAME_HEADER: "demo"}
PING = encode(Ping(member("b"), "a"))


class StillClock:
    """A clock that stands: nothing here depends on time."""

    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


def ignore(*_: object) -> None:
    """A listener's callback that does nothing."""


def lone_agent() -> GossipAgent:
    """An agent whose own exchanges reach nobody."""
    return GossipAgent(
        member("a"),
        seeds=[],
        known=[],
        config=GossipConfig(),
        exchange=FakeExchange({}, "a", lambda source, target: True),
        clock=StillClock(),
        rng=random.Random(1),
        listener=GossipListener(ignore, ignore, ignore, ignore, ignore),
    )


@asynccontextmanager
async def serving(*definitions: web.RouteDef) -> AsyncIterator[str]:
    """An HTTP server with these routes; yields its address."""
    application = web.Application()
    application.add_routes(definitions)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def exchanging(guard: ClusterGuard) -> AsyncIterator[HttpExchange]:
    exchange = HttpExchange(guard)
    try:
        yield exchange
    finally:
        await exchange.close()


async def status_of(address: str, route: str, body: object, headers: dict[str, str]) -> tuple[int, str]:
    async with (
        ClientSession() as session,
        session.post(f"http://{address}{PATH_PREFIX}{route}", data=body, headers=headers) as response,
    ):
        return response.status, await response.text()


async def pieces(count: int) -> AsyncIterator[bytes]:
    """A chunked body without a Content-Length."""
    for _ in range(count):
        yield b" " * 65_536


OVERSIZED = b" " * (BODY_BYTES_MAX + 1)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [
        (NAMED, b"garbage", 400, "not JSON"),
        (NAMED, b'{"sender": 1}', 400, "'sender'"),
        ({}, PING, 400, f"{NAME_HEADER} is missing"),
        ({NAME_HEADER: "other"}, PING, 403, "in cluster 'demo', not in 'other'"),
        ({NAME_HEADER: "demo", ID_HEADER: "2"}, PING, 403, "id 1, not in that with id 2"),
        (NAMED, OVERSIZED, 413, "at most"),
        (NAMED, None, 413, "at most"),
        ({**NAMED, "Content-Encoding": "gzip"}, gzip.compress(PING), 415, "Content-Encoding"),
        ({**NAMED, "Content-Encoding": "gzip"}, b"not even gzip", 415, "Content-Encoding"),
    ],
)
async def test_bad_requests_get_a_clear_error_and_change_nothing(
    route: str, headers: dict[str, str], body: bytes | None, status: int, words: str
) -> None:
    """On every route, whatever is wrong, the status says what kind and the text says why."""
    guard = ClusterGuard("demo", lambda: "1")
    agent = lone_agent()
    async with serving(*routes(agent.handle_request, ROUTES, guard)) as address:
        answered = await status_of(address, route, pieces(8) if body is None else body, headers)
    assert answered[0] == status
    assert words in answered[1]
    assert agent.members() == (member("a"),)


async def test_a_guarded_exchange_carries_both_ways() -> None:
    """Two sides of one cluster understand each other, also while one does not know the id yet."""
    guard = ClusterGuard("demo", lambda: "1")
    agent = lone_agent()
    async with (
        serving(*routes(agent.handle_request, ROUTES, guard)) as address,
        exchanging(ClusterGuard("demo", lambda: "")) as exchange,
    ):
        answer = decode_answer("ping", await exchange.exchange(address, "ping", PING, 2.0))
    await agent.stop(leave=False)
    assert answer.sender == member("a")
    assert agent.member("b") == member("b")


async def test_the_id_is_compared_as_soon_as_it_is_known() -> None:
    """The guard asks for the id at each message."""
    known = [""]
    guard = ClusterGuard("demo", lambda: known[0])
    assert guard.refusal({NAME_HEADER: "demo", ID_HEADER: "2"}) is None
    known[0] = "1"
    refusal = guard.refusal({NAME_HEADER: "demo", ID_HEADER: "2"})
    assert refusal is not None
    assert refusal.status == 403
    assert guard.refusal({NAME_HEADER: "demo"}) is None
    assert guard.headers() == {NAME_HEADER: "demo", ID_HEADER: "1"}


async def plain(_: web.Request) -> web.Response:
    return web.Response(body=b"{}")


async def foreign(_: web.Request) -> web.Response:
    return web.Response(body=b"{}", headers={NAME_HEADER: "other"})


async def encoded(_: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"{}"), headers={**NAMED, "Content-Encoding": "gzip"})


async def oversized(_: web.Request) -> web.Response:
    return web.Response(body=OVERSIZED, headers=NAMED)


async def moved(_: web.Request) -> web.Response:
    return web.Response(status=307, headers={**NAMED, "Location": "http://127.0.0.1:1/"})


async def silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (plain, "missing"),
        (foreign, "another cluster"),
        (encoded, "encoded"),
        (oversized, "more than"),
        (moved, "refused: 307"),
        (silent, "did not answer"),
    ],
)
async def test_the_client_refuses_answers_that_are_not_this_clusters(
    handler: Callable[[web.Request], Awaitable[web.Response]], words: str
) -> None:
    """Whoever answers at a reused address is not believed."""
    timeout_s = 0.2 if handler is silent else 5.0
    async with (
        serving(web.post(PATH_PREFIX + "ping", handler)) as address,
        exchanging(ClusterGuard("demo", lambda: "1")) as exchange,
    ):
        with pytest.raises(ExchangeFailed, match=words):
            await exchange.exchange(address, "ping", PING, timeout_s)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nowhere.invalid:1", "[:1", "..:1"])
async def test_an_unreachable_address_fails_as_an_exchange(address: str) -> None:
    """Neither a refused connection nor a senseless address raises anything else."""
    async with exchanging(ClusterGuard("demo", lambda: "")) as exchange:
        with pytest.raises(ExchangeFailed):
            await exchange.exchange(address, "ping", PING, 2.0)


async def test_a_closed_connection_is_tried_once_more() -> None:
    """A server that closed a kept connection costs no exchange; one that always closes does, after the second try."""
    calls: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        calls.append(1)
        if len(calls) != 2:
            assert request.transport is not None
            request.transport.close()
        return web.Response(body=b"{}", headers=NAMED)

    async with (
        serving(web.post(PATH_PREFIX + "ping", handle)) as address,
        exchanging(ClusterGuard("demo", lambda: "")) as exchange,
    ):
        assert await exchange.exchange(address, "ping", PING, 2.0) == b"{}"
        with pytest.raises(ExchangeFailed):
            await exchange.exchange(address, "ping", PING, 2.0)
    assert len(calls) == 4
