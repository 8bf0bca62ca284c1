"""The WebSockets of the HTTP port that carry consensus frames: what they have in common with a stream of grpc.aio."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    DummyCookieJar,
    TCPConnector,
    WSCloseCode,
    WSMsgType,
    web,
)

from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftFrame

RAFT_PATH = "/raft/v1"

DIAL_S_MAX = 2.0
"""Until the other side has agreed to a socket; one that hangs accepts connections all the same."""
PING_S = 5.0
"""Of silence, until the other side is asked whether it is still there; half as long again, and it is not."""
CLOSE_S_MAX = 1.0
"""How long an end waits for the other's good-bye."""
FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A bound for whoever calls, far above what a node sends."""
REASON_BYTES_MAX = 123
"""RFC 6455, 5.5: what fits into a control frame beside the code."""


class SocketBroken(ConnectionError):
    """There is no socket to the peer."""


class RaftSocket:
    """One end of a socket. The contract is on `Caller`."""

    def __init__(self, socket: ClientWebSocketResponse | web.WebSocketResponse) -> None:
        self._socket = socket

    async def write(self, frame: RaftFrame, /) -> None:
        await self._socket.send_bytes(frame.SerializeToString())

    async def read(self) -> RaftFrame | None:
        """The next frame; None at the end. Raises DecodeError."""
        received = await self._socket.receive()
        return RaftFrame.FromString(received.data) if received.type is WSMsgType.BINARY else None

    async def abort(self, code: grpc.StatusCode, details: str, /) -> None:
        reason = f"{code.name}: {details}".encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason.encode())


def socket_client() -> ClientSession:
    """What sockets are dialled with; to be made while the loop runs, and closed."""
    return ClientSession(connector=TCPConnector(limit=0), cookie_jar=DummyCookieJar(), timeout=ClientTimeout())


@asynccontextmanager
async def dialled(client: ClientSession, address: str) -> AsyncIterator[RaftSocket]:
    """A socket to the node at that HTTP address, closed at the end of the block. Raises SocketBroken."""
    try:
        async with asyncio.timeout(DIAL_S_MAX):
            socket = await client.ws_connect(
                f"http://{address}{RAFT_PATH}",
                heartbeat=PING_S,
                timeout=ClientWSTimeout(ws_close=CLOSE_S_MAX),
                max_msg_size=FRAME_BYTES_MAX,
            )
    except (ClientError, TimeoutError) as error:
        raise SocketBroken(str(error)) from error
    async with socket:
        yield RaftSocket(socket)


def accepting(live: Callable[[RaftSocket], Awaitable[None]]) -> web.RouteDef:
    """What the node mounts in its web.Application: `live` is called with each socket, which ends when it returns."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            heartbeat=PING_S, timeout=CLOSE_S_MAX, max_msg_size=FRAME_BYTES_MAX, compress=False
        )
        await socket.prepare(request)
        try:
            await live(RaftSocket(socket))
        finally:
            await socket.close()
        return socket

    return web.get(RAFT_PATH, handle)
