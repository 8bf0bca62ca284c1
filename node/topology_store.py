"""This node's copy of the topology: durable before anybody hears of it, and never of another cluster (DESIGN 8.5)."""

import asyncio
from collections.abc import Callable

from ..ring.topology import Topology
from .keyspace import node_key
from .machine.topology_machine import found_system_group
from .storage.engine import Engine, WriteBatch
from .storage.envelope import seal, unseal

TOPOLOGY_KEY = node_key("topology")
FORMED_KEY = node_key("formed")


class ForeignTopology(Exception):
    """A topology of another cluster was offered to a member."""


class TopologyStore:
    """Holds the newest topology this node has adopted. `on_change` hears of each one, in order of epochs."""

    def __init__(self, node_id: str, engine: Engine) -> None:
        self._node_id = node_id
        self._engine = engine
        self._current: Topology | None = None
        self._listeners: list[Callable[[Topology], None]] = []
        self._adopting = asyncio.Lock()
        stored = engine.get(TOPOLOGY_KEY)
        if stored is not None:
            self._current = Topology.from_json(unseal(stored))
        self._formed = engine.get(FORMED_KEY) is not None

    @property
    def current(self) -> Topology | None:
        return self._current

    @property
    def known(self) -> Topology:
        assert self._current is not None, "the topology was asked for before there is one"
        return self._current

    @property
    def cluster_id(self) -> str:
        """The adopted cluster's id; empty before adoption."""
        return self._current.cluster_id if self._current else ""

    @property
    def formed(self) -> bool:
        """Whether a majority of the founders was once seen to have adopted the cluster."""
        return self._formed

    def on_change(self, listener: Callable[[Topology], None]) -> None:
        self._listeners.append(listener)

    async def adopt(self, topology: Topology) -> None:
        """Make a newer topology durable, then current; older ones are ignored. Raises ForeignTopology.

        Epoch 1 comes with the founding replica of the system group, if this node votes there: made once, in the very
        batch that adopts the cluster. One at a time, so that an older epoch is never written over a newer one.
        """
        async with self._adopting:
            await self._adopt(topology)

    async def _adopt(self, topology: Topology) -> None:
        if self._current is not None:
            if topology.cluster_id != self._current.cluster_id:
                raise ForeignTopology(f"a topology of cluster {topology.cluster_id} was offered")
            if topology.epoch <= self._current.epoch:
                return
        batch = WriteBatch()
        batch.put(TOPOLOGY_KEY, seal(topology.to_json()))
        if self._current is None and topology.epoch == 1 and self._node_id in topology.system_voters:
            found_system_group(topology, batch)
        self._engine.write(batch)
        await self._engine.sync()
        self._current = topology
        for listener in self._listeners:
            listener(topology)

    async def mark_formed(self) -> None:
        """Remember that the cluster has begun to serve."""
        batch = WriteBatch()
        batch.put(FORMED_KEY, b"")
        self._engine.write(batch)
        await self._engine.sync()
        self._formed = True
