"""This node's copy of the topology: durable before anybody hears of it, and never of another cluster (DESIGN 8.5)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ..ring.topology import Topology
from .keyspace import node_key
from .machine.founding_replicas import stage_founding_replicas
from .storage.engine import Engine, WriteBatch
from .storage.envelope import seal, unseal
from .storage.reborn import Reborn, stored_reborn

TOPOLOGY_KEY = node_key("topology")
FOUNDING_KEY = node_key("founding")
FORMED_KEY = node_key("formed")


Remember: TypeAlias = Callable[[str], Awaitable[None]]
"""Keeps the id of the adopted cluster outside of the engine, durably on return."""


class ForeignTopology(Exception):
    """A topology of another cluster was offered to a member."""


class TopologyStore:
    """Holds epoch 1 and the newest topology this node has adopted. `on_change` hears of each, in order of epochs."""

    def __init__(self, node_id: str, engine: Engine, remember: Remember | None = None) -> None:
        self._node_id = node_id
        self._engine = engine
        self._remember = remember
        self._listeners: list[Callable[[Topology], None]] = []
        self._adopting = asyncio.Lock()
        self._current = stored_topology(engine, TOPOLOGY_KEY)
        self._founding = stored_topology(engine, FOUNDING_KEY)
        self._founded_here: frozenset[int] = frozenset()
        self._formed = engine.get(FORMED_KEY) is not None
        self._reborn = stored_reborn(engine)

    @property
    def current(self) -> Topology | None:
        return self._current

    @property
    def known(self) -> Topology:
        assert self._current is not None, "the topology was asked for before there is one"
        return self._current

    @property
    def founding(self) -> Topology | None:
        """Epoch 1 of the adopted cluster, for founders that have not heard of it yet; None before adoption."""
        return self._founding

    @property
    def founded_here(self) -> frozenset[int]:
        """The groups whose founding replicas this process has made: they can't have promised anything before."""
        return self._founded_here

    @property
    def cluster_id(self) -> str:
        """The adopted cluster's id; empty before adoption."""
        return self._current.cluster_id if self._current else ""

    @property
    def formed(self) -> bool:
        """Whether a majority of the founders was once seen to have adopted the cluster."""
        return self._formed

    @property
    def reborn(self) -> Reborn | None:
        """What is known of the loss of an earlier engine of this node; None if there was none.

        If there was one, replicas of which nothing is stored here may have made promises that are forgotten.
        """
        return self._reborn

    def on_change(self, listener: Callable[[Topology], None]) -> None:
        self._listeners.append(listener)

    async def adopt(self, topology: Topology) -> None:
        """Make a newer topology durable, then current; older ones are ignored. The first one is epoch 1, or use `join`.

        One at a time, so that an older epoch is never written over a newer one. Raises ForeignTopology.
        """
        await self.join(topology, topology)

    async def join(self, founding: Topology, topology: Topology) -> None:
        """As `adopt`; a node without a cluster makes the cluster's epoch 1, `founding`, durable in the same batch.

        If epoch 1 gives this node replicas, that batch has them, too: they are made once, from epoch 1, however late
        the node hears of it. A node that epoch 1 does not list makes none, and neither does one that is reborn: it has
        made its own in an earlier life, and has forgotten what they promised. Raises ForeignTopology.
        """
        async with self._adopting:
            if self._current is None:
                await self._begin(founding, topology)
            else:
                await self._advance(topology, self._current)

    async def _begin(self, founding: Topology, topology: Topology) -> None:
        assert founding.cluster_id == topology.cluster_id, "epoch 1 of another cluster"
        batch, founded = WriteBatch(), frozenset[int]()
        if self._reborn is None:
            founded = stage_founding_replicas(founding, self._node_id, batch)
        elif topology.cluster_id != self._reborn.cluster_id:
            raise ForeignTopology(f"cluster {topology.cluster_id} was offered to a node of {self._reborn.cluster_id}")
        batch.put(FOUNDING_KEY, seal(founding.to_json()))
        await self._store(topology, batch)
        if self._remember is not None:
            # After the engine: a crash in between leaves an adoption that nobody has heard of and that has promised
            # nothing, and the next start remembers it. The other way round it would look like an engine that was lost.
            await self._remember(topology.cluster_id)
        self._founding, self._founded_here = founding, founded
        self._make_current(topology)

    async def _advance(self, topology: Topology, current: Topology) -> None:
        if topology.cluster_id != current.cluster_id:
            raise ForeignTopology(f"a topology of cluster {topology.cluster_id} was offered")
        if topology.epoch > current.epoch:
            await self._store(topology, WriteBatch())
            self._make_current(topology)

    def mend(self, key: bytes) -> bool:
        """Write a damaged record of the topology as it is in memory; False if it is none, or changes now."""
        topology = {TOPOLOGY_KEY: self._current, FOUNDING_KEY: self._founding}.get(key)
        if topology is None or self._adopting.locked():
            return False
        batch = WriteBatch()
        batch.put(key, seal(topology.to_json()))
        self._engine.write(batch)
        return True

    async def _store(self, topology: Topology, batch: WriteBatch) -> None:
        batch.put(TOPOLOGY_KEY, seal(topology.to_json()))
        self._engine.write(batch)
        await self._engine.sync()

    def _make_current(self, topology: Topology) -> None:
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


def stored_topology(engine: Engine, key: bytes) -> Topology | None:
    """Raises Damaged, InvalidTopology (a newer form)."""
    stored = engine.get(key)
    return None if stored is None else Topology.from_json(unseal(stored))
