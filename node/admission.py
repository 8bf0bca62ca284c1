"""What voters of the system group do beside voting: they tell of its topology, and their leader takes new nodes in.

Every voter runs this (DESIGN 8.1). A change names the epoch that it was made for, so that two voters that both believe
to lead, or one that asks twice after a doubt, do no harm.
"""

import asyncio
from collections.abc import Callable

from ..api.errors import Overloaded, Unavailable
from ..gossip.member import Member, MemberState
from ..ring.changes import TopologyChange
from ..ring.topology import SYSTEM_GROUP, InvalidTopology, NodeRecord, NodeState, Topology
from .clock import Clock
from .consensus.groups import Groups
from .consensus.tickets import AnchorOutOfRange, Deposed, NotLeader
from .founding import EventLog
from .machine.topology_machine import TopologyMachine, TopologyOutcome, TopologyVerdict, encode_change
from .topology_store import TopologyStore

RETRY_S = 0.2
PATIENCE_S = 2.5
"""Longer than a leader is without a lease before it steps down, and than the first lease takes after an election."""
PROPOSAL_S_MAX = 5.0
"""A proposal without an outcome by then is in doubt: its leader was cut off."""


class Admission:
    """Watches gossip for nodes that the topology does not list, and commits them as JOINING.

    A JOINING node is a gateway; it owns nothing until targets name it. A member that the topology can't hold is logged
    once and left out until it starts anew.
    """

    def __init__(
        self,
        groups: Groups,
        store: TopologyStore,
        members: Callable[[], tuple[Member, ...]],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._groups = groups
        self._store = store
        self._members = members
        self._clock = clock
        self._log = log
        self._refused: dict[str, tuple[int, int]] = {}
        """The boots that were refused, by node id."""
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Gossip has changed, an entry of the system group was applied, or this node leads the group now."""
        self._news.set()

    async def run(self) -> None:
        """For ever; of use as long as there is a good copy of the system group here.

        While somebody waits to be let in it looks again by itself: as long as this node leads, and for a while after
        each `wake` if it does not, for a lease may come, or come back, without one.
        """
        self.wake()  # for what an earlier life of this node did not get to tell
        while True:
            await self._news.wait()
            self._news.clear()
            patient_until = self._clock.now() + PATIENCE_S
            while not await self._all_told() and self._may_lead(patient_until):
                await self._clock.sleep(RETRY_S)

    async def _all_told(self) -> bool:
        """Adopt what is committed, and take in who is there; False if somebody still waits."""
        while (topology := self.topology) is not None:
            await self._store.adopt(topology)
            newcomer = self._newcomer(topology)
            if newcomer is None:
                return True
            if not self._groups.leads(SYSTEM_GROUP):
                return False
            try:
                await self._admit(newcomer, topology)
            except InvalidTopology as error:
                self._refuse(newcomer, str(error))
            except (NotLeader, AnchorOutOfRange, Deposed, Overloaded, Unavailable, TimeoutError):
                return False
        return True

    def _may_lead(self, patient_until: float) -> bool:
        return self._groups.leads(SYSTEM_GROUP) or self._clock.now() < patient_until

    @property
    def topology(self) -> Topology | None:
        """The authoritative topology, as of the last applied command; None without a good copy of it here."""
        if not self._groups.hosting.is_healthy(SYSTEM_GROUP):
            return None
        machine = self._groups.machine(SYSTEM_GROUP)
        assert isinstance(machine, TopologyMachine)
        return machine.topology

    def _newcomer(self, topology: Topology) -> Member | None:
        members = self._members()
        self._refused = {m.node_id: m.boot for m in members if self._refused.get(m.node_id) == m.boot}
        for member in members:
            fresh = topology.node(member.node_id) is None and topology.node_named(member.name) is None
            if fresh and member.state is MemberState.ALIVE and member.node_id not in self._refused:
                return member
        return None

    async def _admit(self, member: Member, topology: Topology) -> None:
        """Raises InvalidTopology if the topology can't hold the member, TimeoutError, and what `Groups.propose` raises.

        A command that finds another epoch has changed nothing: the caller looks at the topology again.
        """
        change = TopologyChange.between(topology, topology.with_node(joining_record(member)))
        anchor_ms = self._groups.log_time_ms(SYSTEM_GROUP)
        async with asyncio.timeout(PROPOSAL_S_MAX):
            applied = await self._groups.propose(SYSTEM_GROUP, encode_change(change), anchor_ms)
        outcome = TopologyOutcome.decode(applied.outcome)
        if outcome.verdict is TopologyVerdict.REFUSED:
            raise InvalidTopology(outcome.message)

    def _refuse(self, member: Member, reason: str) -> None:
        self._refused[member.node_id] = member.boot
        self._log("not admitted", name=member.name, address=member.grpc_address, reason=reason)


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
