"""A node's speaking with its peers: requests and consensus, each by sessions of its own, over one transport."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from .exchange import Exchange
from .raft_exchange import RaftExchange
from .transport import PeerAddress, Transport

FLUSH_S_MAX = 1.0
"""At a stop, how long to wait for what is unsent; raising it delays the stop when a peer hangs."""


class Peering:
    """Starts and ends both exchanges together with what carries them."""

    def __init__(self, transport: Transport, requests: Exchange, raft: RaftExchange) -> None:
        self.transport = transport
        self.requests = requests
        self.raft = raft

    def start(self) -> None:
        self.transport.start(self.requests, self.raft)

    def reach(self, addresses: Mapping[str, PeerAddress]) -> None:
        """Keep sessions up with these nodes, and with no others."""
        self.transport.reach(addresses)

    def connected(self, peer_id: str) -> bool:
        """Whether there are sessions of both kinds with the peer."""
        return self.requests.connected(peer_id) and self.raft.connected(peer_id)

    async def stop(self) -> None:
        """End all sessions, after what waits in them has been handed over; at the latest after `FLUSH_S_MAX`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S_MAX):
                await self.requests.channels.flushed()
                await self.raft.channels.flushed()
        await self.transport.stop()
        for asked in self.requests.channels.all():
            self.requests.session_ended(asked.session)
        for posted in self.raft.channels.all():
            self.raft.session_ended(posted.session)
