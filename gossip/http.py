"""Gossip over HTTP: the routes that a node mounts, the client that calls them, and the guard on both sides.

Pods reuse addresses, and rings have really merged: so the cluster is checked before a body is read, by the server in
the request and by the client in the answer. See docs/protocols/gossip.md, "Transport".
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    StreamReader,
    TCPConnector,
    web,
)

from .config import BODY_BYTES_MAX
from .ports import ExchangeFailed, Handler, OtherCluster
from .wire import WireError

PATH_PREFIX = "/gossip/v1/"
NAME_HEADER = "Ringhold-Cluster"
ID_HEADER = "Ringhold-Cluster-Id"

CLIENT_KEEPALIVE_S = 30.0
SERVER_KEEPALIVE_S = 75.0
"""For the server's AppRunner. The client gives a connection up first, so that none closes under a request."""

BODY_TIMEOUT_S = 5.0
"""Time for a request's body to arrive."""

CONNECTIONS_MAX = 128
CONNECTIONS_PER_PEER_MAX = 8

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not from this cluster, and the HTTP status that says so."""

    status: int
    text: str


class ClusterGuard:
    """Tells this cluster's messages from others' by their headers."""

    def __init__(self, name: str, cluster_id: Callable[[], str]) -> None:
        """`cluster_id` gives the id, empty as long as it is not known; two ids are compared once both are."""
        self._name = name
        self._cluster_id = cluster_id

    def headers(self) -> dict[str, str]:
        """What goes with every request and every answer."""
        cluster_id = self._cluster_id()
        return {NAME_HEADER: self._name, ID_HEADER: cluster_id} if cluster_id else {NAME_HEADER: self._name}

    def refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Why a message with these headers is refused; None if it is welcome."""
        name = headers.get(NAME_HEADER)
        if not name:
            return Refusal(400, f"the header {NAME_HEADER} is missing")
        if name != self._name:
            return Refusal(403, f"this node is in cluster {self._name!r}, not in {name!r}")
        ours, theirs = self._cluster_id(), headers.get(ID_HEADER, "")
        if ours and theirs and ours != theirs:
            return Refusal(
                403, f"this node is in the cluster {self._name!r} with id {ours}, not in that with id {theirs}"
            )
        return None


def routes(answer: Handler, names: Iterable[str], guard: ClusterGuard) -> list[web.RouteDef]:
    """What the node mounts in its web.Application: `names` are gossip's ROUTES and any more that `answer` knows."""
    return [web.post(PATH_PREFIX + name, _handler(answer, guard, name)) for name in names]


def _handler(
    answer: Handler, guard: ClusterGuard, route: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        refusal = guard.refusal(request.headers) or _unreadable(request)
        if refusal is not None:
            return _refused(refusal, guard)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _capped(request.content)
            answered = await answer(route, body)
        except _BodyTooLargeError:
            return _refused(_too_large(), guard)
        except WireError as error:
            return _refused(Refusal(400, str(error)), guard)
        except TimeoutError:
            return _refused(Refusal(408, f"the body did not arrive within {BODY_TIMEOUT_S} s"), guard)
        return web.Response(body=answered, content_type="application/json", headers=guard.headers())

    return handle


def _unreadable(request: web.Request) -> Refusal | None:
    if "Content-Encoding" in request.headers:
        return Refusal(415, "a body with Content-Encoding is refused: send it plain")
    if request.content_length is not None and request.content_length > BODY_BYTES_MAX:
        return _too_large()
    return None


def _too_large() -> Refusal:
    return Refusal(413, f"a body has at most {BODY_BYTES_MAX} bytes")


def _refused(refusal: Refusal, guard: ClusterGuard) -> web.Response:
    response = web.Response(status=refusal.status, text=refusal.text + "\n", headers=guard.headers())
    response.force_close()
    return response


class _BodyTooLargeError(Exception):
    """More than BODY_BYTES_MAX arrived."""


async def _capped(content: StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise _BodyTooLargeError
    return bytes(body)


class HttpExchange:
    """The `Exchange` over HTTP, with connections that stay open between probes."""

    def __init__(self, guard: ClusterGuard) -> None:
        self._guard = guard
        self._session: ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._sent_again_if_disconnected(f"http://{address}{PATH_PREFIX}{route}", body)
        except TimeoutError as error:
            raise ExchangeFailed(f"{address} did not answer within {timeout_s} s") from error
        except (ClientError, OSError, ValueError) as error:
            raise ExchangeFailed(f"{address}: {error}") from error

    async def _sent_again_if_disconnected(self, url: str, body: bytes) -> bytes:
        """A kept connection may have been closed by the other side meanwhile; every request is idempotent."""
        try:
            return await self._sent(url, body)
        except ClientConnectorError:
            raise
        except (ServerDisconnectedError, ClientOSError):
            return await self._sent(url, body)

    async def _sent(self, url: str, body: bytes) -> bytes:
        headers = self._guard.headers()
        async with self._opened().post(url, data=body, headers=headers, allow_redirects=False) as response:
            return await self._checked(response)

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = _session()
        return self._session

    async def _checked(self, response: ClientResponse) -> bytes:
        refusal = self._guard.refusal(response.headers)
        if refusal is not None:
            raise OtherCluster(f"{response.url.authority} answers for another cluster: {refusal.text}")
        if "Content-Encoding" in response.headers:
            raise ExchangeFailed(f"{response.url.authority} sent an encoded body")
        body = await self._whole(response)
        if response.status != 200:
            raise ExchangeFailed(f"{response.url.authority} refused: {response.status} {body[:500]!r}")
        return body

    @staticmethod
    async def _whole(response: ClientResponse) -> bytes:
        try:
            return await _capped(response.content)
        except _BodyTooLargeError as error:
            raise ExchangeFailed(f"{response.url.authority} sent more than {BODY_BYTES_MAX} bytes") from error


def _session() -> ClientSession:
    connector = TCPConnector(
        limit=CONNECTIONS_MAX, limit_per_host=CONNECTIONS_PER_PEER_MAX, keepalive_timeout=CLIENT_KEEPALIVE_S
    )
    return ClientSession(
        connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False, timeout=ClientTimeout(total=None)
    )
