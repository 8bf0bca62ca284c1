"""Keeps this node's topology as new as any that it hears of: gossip tells the epochs, and who is ahead is asked."""

import asyncio
from collections.abc import Callable, Sequence

from ..gossip.member import Member
from ..ring.topology import Topology
from .clock import Clock
from .founding import Founding
from .topology_store import TopologyStore

CATCH_UP_PAUSE_S = 0.2


class TopologyFollower:
    """`run` is its loop."""

    def __init__(
        self, store: TopologyStore, founding: Founding, members: Callable[[], Sequence[Member]], clock: Clock
    ) -> None:
        self._store = store
        self._founding = founding
        self._members = members
        self._clock = clock
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Gossip has changed: somebody may have a higher epoch."""
        self._news.set()

    async def run(self) -> None:
        """Fetch the topology from whoever gossips a higher epoch, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            current = self._store.current
            if current is None:
                continue
            ahead = [each for each in self._members() if each.is_reachable and each.topology_epoch > current.epoch]
            if ahead:
                await self._catch_up(current, ahead)
                self._news.set()

    async def _catch_up(self, current: Topology, ahead: Sequence[Member]) -> None:
        """Adopt a newer topology from the first of these members that gives one; pause if none does."""
        for member in ahead:
            topology = await self._founding.fetch(member.http_address)
            if topology is not None and topology.cluster_id == current.cluster_id and topology.epoch > current.epoch:
                await self._store.adopt(topology)
                return
        await self._clock.sleep(CATCH_UP_PAUSE_S)
