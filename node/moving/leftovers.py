"""Replicas that nobody speaks to any more: the group has gone on without them while they were not there to hear it.

A replica drops what it has only because of a committed configuration, newer than itself, without it (DESIGN section 7).
Who was away when that was committed has to ask for it: as one that should not be here, or that knows of no leader.
"""

from collections.abc import Iterator

from ...api.errors import RingholdError
from ...api.proto.ringhold.internal.v1.peer_pb2 import MembershipRequest, Request
from ...ring.topology import NodeState
from ..clock import Clock
from ..consensus.groups import Groups
from ..consensus.tickets import NotLeader
from ..peers.exchange import RequestLost, RequestNotSent
from ..router import Router
from ..topology_store import TopologyStore

LOOK_S = 1.0
LONELY_LOOKS = 3
"""A replica for which something is wrong at so many looks in a row asks; moves and elections are over by then."""

GROUPS_PER_LOOK_MAX = 32
ASK_S_MAX = 1.0


class Leftovers:
    """`run` is its loop."""

    def __init__(self, node_id: str, groups: Groups, store: TopologyStore, router: Router, clock: Clock) -> None:
        self._node_id = node_id
        self._groups = groups
        self._store = store
        self._router = router
        self._clock = clock
        self._looks: dict[int, int] = {}

    async def run(self) -> None:
        """Ask for ever, for replicas without a leader, whether they are still members; bury those that are not."""
        while True:
            await self._clock.sleep(LOOK_S)
            lonely = filter(self._is_lonely, self._groups.hosted)
            self._looks = {group: self._looks.get(group, 0) + 1 for group in lonely}
            asking = [group for group, looks in self._looks.items() if looks >= LONELY_LOOKS]
            for group in asking[:GROUPS_PER_LOOK_MAX]:
                self._looks.pop(group)
                await self._ask(group)

    def _is_lonely(self, group: int) -> bool:
        """Whether a replica here knows of no leader, or should be elsewhere."""
        is_target = self._node_id in self._store.known.targets_of(group)
        return not is_target or self._groups.leader(group)[0] is None

    async def _ask(self, group: int) -> None:
        number = self._groups.hosting.replica_id(group)
        for node_id in self._holders(group):
            if number is None:
                return
            request = MembershipRequest(group=group, node_id=self._node_id, replica_id=number)
            try:
                reply = await self._router.ask(node_id, group, Request(membership=request), ASK_S_MAX)
            except (RequestLost, RequestNotSent, NotLeader, RingholdError):
                continue
            if reply.membership.is_removed and self._groups.hosting.replica_id(group) == number:
                index = reply.membership.configuration_index
                self._groups.hosting.bury(group, f"the configuration of entry {index} does without it")
                return

    def _holders(self, group: int) -> Iterator[str]:
        """Who may know: the nodes that should have the group, or may have it."""
        topology = self._store.known
        for node_id in dict.fromkeys((*topology.targets_of(group), *dict(topology.moving).get(group, ()))):
            node = topology.node(node_id)
            is_there = node is not None and node.state is not NodeState.REMOVED and self._router.reaches(node_id)
            if node_id != self._node_id and is_there:
                yield node_id
