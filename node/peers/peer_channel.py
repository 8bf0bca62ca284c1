"""The gRPC channel to a peer, made anew whenever nothing is open on it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from ...api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerStub

if TYPE_CHECKING:
    from .lines import Message

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class PeerChannel:
    """What the streams to a peer share.

    A channel keeps its connection as long as that lives, whoever is at its other end. Where a name has come to mean
    another machine, it would lead to the wrong node, which refuses each stream, for ever; a new channel looks the name
    up again.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._open = 0

    @asynccontextmanager
    async def stream(
        self, begin: "Callable[[PeerStub], grpc.aio.StreamStreamCall[Message, Message]]"
    ) -> "AsyncIterator[grpc.aio.StreamStreamCall[Message, Message]]":
        """A call that is over when the block is left."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        self._open += 1
        call = begin(PeerStub(self._channel))
        try:
            yield call
        finally:
            call.cancel()
            self._open -= 1
            if not self._open:
                channel, self._channel = self._channel, None
                await channel.close()
