"""Commits changes of the topology: on the leader of the system group, one after the other, each for one epoch.

What is committed is decided by a pure function of the topology (ring/changes.py); where another change came first it is
asked again. So orders, newcomers and the mover need not know of each other (DESIGN section 5).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from ...ring.changes import TopologyChange
from ...ring.topology import SYSTEM_GROUP, InvalidTopology, Topology
from ..consensus.groups import Groups
from ..consensus.tickets import NotLeader
from ..machine.topology_machine import TopologyMachine, TopologyOutcome, TopologyVerdict, encode_change
from ..topology_store import TopologyStore

PROPOSAL_S_MAX = 5.0
"""A proposal without an outcome by then is in doubt: its leader was cut off."""

Result = TypeVar("Result")


class Aside(Protocol):
    """Runs what may take seconds without holding the event loop (P8)."""

    def __call__(self, work: Callable[[], Result], /) -> Awaitable[Result]: ...


async def at_once(work: Callable[[], Result]) -> Result:
    """An `Aside` for small clusters and simulated ones: it holds the loop."""
    return work()


async def in_a_thread(work: Callable[[], Result]) -> Result:
    """The `Aside` of a process."""
    return await asyncio.to_thread(work)


class Amendments:
    """The topology as this node's replica of the system group has it, and the way to change it."""

    def __init__(self, groups: Groups, store: TopologyStore, aside: Aside) -> None:
        self._groups = groups
        self._store = store
        self._aside = aside
        self._one_at_a_time = asyncio.Lock()

    @property
    def topology(self) -> Topology | None:
        """The authoritative topology, as of the last applied command; None without a good copy of it here."""
        if not self._groups.hosting.is_healthy(SYSTEM_GROUP):
            return None
        machine = self._groups.machine(SYSTEM_GROUP)
        assert isinstance(machine, TopologyMachine)
        return machine.topology

    @property
    def is_leader(self) -> bool:
        """Whether changes can be committed here now."""
        return self._groups.leads(SYSTEM_GROUP)

    async def amend(self, make: Callable[[Topology], Topology]) -> tuple[Topology, Topology]:
        """Commit what `make` makes of the topology; it may return it unchanged. The topologies before and after.

        `make` may be called again, always with a newer one. Adopted here on return. Raises what `make` raises;
        InvalidTopology; NotLeader, Deposed, TimeoutError (the latter two in doubt: to ask again does no harm), and what
        else `Groups.propose` raises.
        """
        async with self._one_at_a_time:
            while True:
                topology = self._led_topology()
                after = await self._aside(lambda: make(topology))  # noqa: B023 - it is awaited before the next turn
                if after is topology:
                    return topology, topology
                outcome = await self._propose(TopologyChange.between(topology, after))
                if outcome.verdict is TopologyVerdict.REFUSED:
                    raise InvalidTopology(outcome.message)
                if outcome.verdict is TopologyVerdict.APPLIED:
                    changed = self._led_topology()
                    await self._store.adopt(changed)
                    return topology, changed

    async def imagine(self, make: Callable[[Topology], Topology]) -> tuple[Topology, Topology]:
        """The topology, and what `make` makes of it; nothing changes. Raises NotLeader, and what `make` raises."""
        topology = self._led_topology()
        return topology, await self._aside(lambda: make(topology))

    def _led_topology(self) -> Topology:
        """Raises NotLeader."""
        topology = self.topology
        if topology is None or not self.is_leader:
            raise NotLeader(SYSTEM_GROUP, *self._groups.leader(SYSTEM_GROUP))
        return topology

    async def _propose(self, change: TopologyChange) -> TopologyOutcome:
        anchor_ms = self._groups.log_time_ms(SYSTEM_GROUP)
        async with asyncio.timeout(PROPOSAL_S_MAX):
            applied = await self._groups.propose(SYSTEM_GROUP, encode_change(change), anchor_ms)
        return TopologyOutcome.decode(applied.outcome)
