"""How this node leaves for good: it asks to, serves on until its last replica has moved, and hears that it is out."""

from collections.abc import Callable

from ...api.errors import InvalidRequest, RingholdError
from ...api.proto.ringhold.v1 import cluster_pb2
from ...gossip.member import Member
from ...ring.topology import NodeState, Topology
from ..clock import Clock
from ..founding import EventLog, Founding
from ..topology_store import TopologyStore
from .orders import Orders

ORDER_S_MAX = 5.0
AGAIN_S = 0.5
"""Between two attempts, and between two looks: nobody speaks to a node that has been removed, so it has to ask."""


class Departure:
    """Of this node. What is asked for is asked again until the topology says it."""

    def __init__(
        self,
        node_id: str,
        orders: Orders,
        store: TopologyStore,
        founding: Founding,
        members: Callable[[], tuple[Member, ...]],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._node_id = node_id
        self._orders = orders
        self._store = store
        self._founding = founding
        self._members = members
        self._clock = clock
        self._log = log

    async def decommission_self(self) -> None:
        """Return once the topology says that this node leaves, or is out.

        Raises RingholdError (CHANGE_REFUSED) if it can't leave: nobody else could hold anything.
        """
        await self._order(lambda name: cluster_pb2.Change(decommission=name), (NodeState.LEAVING, NodeState.REMOVED))

    async def keep_self(self) -> None:
        """Take that back: return once the topology says that this node stays, or is out all the same."""
        stays = (NodeState.JOINING, NodeState.NORMAL, NodeState.REMOVED)
        await self._order(lambda name: cluster_pb2.Change(keep=name), stays)

    async def until_removed(self) -> None:
        """Return once this node has heard of a topology in which it is removed; for ever, if that does not come."""
        while (state := self._state) is not NodeState.REMOVED and not self._founding.heard_removed:
            if state is NodeState.LEAVING:
                await self._hear()
            await self._clock.sleep(AGAIN_S)

    @property
    def _state(self) -> NodeState | None:
        topology = self._store.current
        node = topology.node(self._node_id) if topology else None
        return node.state if node else None

    async def _order(self, change: Callable[[str], cluster_pb2.Change], wanted: tuple[NodeState, ...]) -> None:
        while self._state not in wanted:
            topology = self._store.known
            node = topology.node(self._node_id)
            assert node is not None, "a node that was never in leaves"
            try:
                deadline = self._clock.now() + ORDER_S_MAX
                await self._orders.change(cluster_pb2.ChangeRequest(changes=[change(node.name)]), deadline)
            except InvalidRequest as error:  # it does not know this node by that name: it is out already, or renamed
                self._log("not ordered", reason=error.message)
            except RingholdError as error:
                if error.reason == "CHANGE_REFUSED":
                    raise
                self._log("not ordered yet", reason=error.message)
            await self._hear()
            if self._state not in wanted:
                await self._clock.sleep(AGAIN_S)

    async def _hear(self) -> None:
        """Adopt the newest topology of some member that gives one."""
        for member in self._members():
            if member.is_reachable and member.node_id != self._node_id:
                topology: Topology | None = await self._founding.fetch(member.http_address)
                if topology is not None and topology.cluster_id == self._store.cluster_id:
                    await self._store.adopt(topology)
                    if self._state is NodeState.REMOVED:
                        return
