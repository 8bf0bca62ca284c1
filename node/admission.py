"""What the leader of the system group does beside answering: it takes new nodes into the topology (DESIGN 8.1)."""

import asyncio
from collections.abc import Callable

from ..gossip.member import Member, MemberState
from ..ring.topology import SYSTEM_GROUP, NodeRecord, NodeState, Topology
from .consensus.groups import Groups
from .machine.topology_machine import ChangeKind, ChangeNode, TopologyMachine
from .topology_store import TopologyStore


class Admission:
    """Watches gossip for nodes that the topology does not list, and commits them as JOINING.

    A JOINING node is a gateway; it owns nothing until targets name it.
    """

    def __init__(self, groups: Groups, store: TopologyStore, members: Callable[[], tuple[Member, ...]]) -> None:
        self._groups = groups
        self._store = store
        self._members = members
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Gossip has changed."""
        self._news.set()

    async def run(self) -> None:
        """For ever, on the node that holds the system group."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._groups.leads(SYSTEM_GROUP):
                newcomer = self._newcomer(self.topology)
                if newcomer is None:
                    break
                await self._admit(newcomer)

    @property
    def topology(self) -> Topology:
        """The authoritative topology, as of the last applied command."""
        machine = self._groups.machine(SYSTEM_GROUP)
        assert isinstance(machine, TopologyMachine)
        return machine.topology

    def _newcomer(self, topology: Topology) -> Member | None:
        for member in self._members():
            fresh = topology.node(member.node_id) is None and topology.node_named(member.name) is None
            if fresh and member.state is MemberState.ALIVE:
                return member
        return None

    async def _admit(self, member: Member) -> None:
        change = ChangeNode(ChangeKind.ADD_NODE, self.topology.epoch, joining_record(member))
        anchor_ms = self._groups.log_time_ms(SYSTEM_GROUP)
        await self._groups.propose(SYSTEM_GROUP, change.encode(), anchor_ms)
        await self._store.adopt(self.topology)


def joining_record(member: Member) -> NodeRecord:
    return NodeRecord(
        id=member.node_id,
        name=member.name,
        grpc_address=member.grpc_address,
        http_address=member.http_address,
        host=member.host,
        zone=member.zone,
        weight=member.weight,
        state=NodeState.JOINING,
    )
