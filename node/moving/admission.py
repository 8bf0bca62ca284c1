"""What the leader of the system group learns by gossip and commits: who is new, who takes a lost node's place, who has
another address, host, zone or weight than before (DESIGN 8.1). Every voter tells of the topology that it has applied.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from ...api.errors import Overloaded, Unavailable
from ...gossip.member import Member, MemberState
from ...ring.changes import ChangeRefused, admit, describe_anew, is_described
from ...ring.topology import SYSTEM_GROUP, InvalidTopology, NodeRecord, NodeState, Topology
from ..clock import Clock
from ..consensus.groups import Groups
from ..consensus.tickets import AnchorOutOfRange, Deposed, NotLeader
from ..founding import EventLog
from ..topology_store import TopologyStore
from .amendments import Amendments

RETRY_S = 0.2
PATIENCE_S = 2.5
"""Longer than a leader is without a lease before it steps down, and than the first lease takes after an election."""

NEWS_MAX = 64
"""Nodes that come in, or are described anew, by one change."""


class Admission:
    """Watches gossip for what the topology does not say yet, and commits it.

    A member that the topology can't hold is logged once and left out until it starts anew.
    """

    def __init__(
        self,
        groups: Groups,
        store: TopologyStore,
        amendments: Amendments,
        members: Callable[[], tuple[Member, ...]],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._groups = groups
        self._store = store
        self._amendments = amendments
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

        While there is something to commit it looks again by itself: as long as this node leads, and for a while after
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
        """Adopt what is committed, and commit what is new; False if that has to wait."""
        while (topology := self._amendments.topology) is not None:
            await self._store.adopt(topology)
            news = [member for member in self._present() if self._is_news(topology, member)]
            if not news:
                return True
            if not self._amendments.is_leader or not await self._commit(news[:NEWS_MAX]):
                return False
        return True

    def _may_lead(self, patient_until: float) -> bool:
        return self._groups.leads(SYSTEM_GROUP) or self._clock.now() < patient_until

    def _present(self) -> list[Member]:
        """Who is alive; those that can't be in any topology are refused, once."""
        members = self._members()
        self._refused = {m.node_id: m.boot for m in members if self._refused.get(m.node_id) == m.boot}
        alive = [m for m in members if m.state is MemberState.ALIVE and m.node_id not in self._refused]
        return [member for member in alive if self._is_presentable(member)]

    def _is_presentable(self, member: Member) -> bool:
        try:
            joining_record(member)
        except InvalidTopology as error:
            self._refuse(member, str(error))
            return False
        return True

    def _is_news(self, topology: Topology, member: Member) -> bool:
        """Whether it is not in, and may come (nobody bears its name, or one that has ended), or has changed."""
        if topology.node(member.node_id) is not None:
            return not is_described(topology, joining_record(member))
        namesake = topology.node_named(member.name)
        return namesake is None or self._is_dead(namesake)

    def _is_dead(self, node: NodeRecord) -> bool:
        """Whether gossip is sure, by having probed it and waited for it to object, or by the node's own goodbye."""
        ended = (MemberState.DEAD, MemberState.LEFT)
        return any(m.node_id == node.id and m.state in ended for m in self._members())

    async def _commit(self, news: Sequence[Member]) -> bool:
        """Some of the news, at least; or what of it can't be committed is refused. False if it has to wait."""
        try:
            await self._amendments.amend(partial(self._with, news))
        except (InvalidTopology, ChangeRefused) as error:
            if len(news) > 1:  # whose fault it is will be seen
                return await self._commit(news[: len(news) // 2])
            self._refuse(news[0], str(error))
        except (NotLeader, AnchorOutOfRange, Deposed, Overloaded, Unavailable, TimeoutError):
            return False
        return True

    def _with(self, news: Sequence[Member], topology: Topology) -> Topology:
        """The topology with what is still news. Raises InvalidTopology, ChangeRefused."""
        records = {member.name: joining_record(member) for member in news if self._is_news(topology, member)}
        described = describe_anew(topology, [record for record in records.values() if topology.node(record.id)])
        newcomers = [record for record in records.values() if not topology.node(record.id)]
        if not newcomers:
            return described
        namesakes = (described.node_named(record.name) for record in newcomers)
        lost = [node.id for node in namesakes if node is not None]
        return topology.in_one_epoch(admit(described, newcomers, lost))

    def _refuse(self, member: Member, reason: str) -> None:
        self._refused[member.node_id] = member.boot
        self._log("not admitted", name=member.name, address=member.grpc_address, reason=reason)


def joining_record(member: Member) -> NodeRecord:
    """Raises InvalidTopology."""
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
