"""What operators order: checked, carried out by the leader of the system group, or only told what it would do.

An order is a name and what is to become of it; given twice it does no more than given once.
"""

from collections.abc import Callable, Mapping
from functools import partial

from google.protobuf.message import DecodeError

from ...api.changes import check_change
from ...api.errors import RingholdError, Unavailable, error_for
from ...api.proto.ringhold.internal.v1.peer_pb2 import ChangeTopologyReply, ChangeTopologyRequest, Request
from ...api.proto.ringhold.v1 import cluster_pb2
from ...gossip.member import Member, MemberState
from ...ring import changes
from ...ring.plans import Plan, plan, with_added
from ...ring.topology import SYSTEM_GROUP, InvalidTopology, NodeRecord, NodeState, Topology, partition_of_group
from ..consensus.tickets import AnchorOutOfRange, Deposed
from ..router import Router
from .amendments import Amendments, Aside
from .mover import Surveyor
from .moves import names_of


class Orders:
    """Takes orders on any node. `member` is gossip's word on a node, `bytes_per_s` the throttle of snapshots."""

    def __init__(
        self,
        amendments: Amendments,
        surveyor: Surveyor,
        router: Router,
        member: Callable[[str], Member | None],
        aside: Aside,
        bytes_per_s: int,
    ) -> None:
        self._amendments = amendments
        self._surveyor = surveyor
        self._router = router
        self._member = member
        self._aside = aside
        self._bytes_per_s = bytes_per_s

    async def change(self, request: cluster_pb2.ChangeRequest, deadline: float) -> cluster_pb2.ChangeResponse:
        """Have the leader of the system group carry an order out. Raises InvalidRequest, ChangeRefused, Unavailable."""
        check_change(request)

        async def there(leader: str, timeout_s: float) -> cluster_pb2.ChangeResponse:
            asked = Request(change=ChangeTopologyRequest(change=request.SerializeToString()))
            reply = await self._router.ask(leader, SYSTEM_GROUP, asked, timeout_s)
            return cluster_pb2.ChangeResponse.FromString(reply.change.answer)

        return await self._router.at_leader(SYSTEM_GROUP, deadline, partial(self._carry_out, request), there)

    async def carry_out(self, request: ChangeTopologyRequest) -> ChangeTopologyReply:
        """For a peer that takes this node for the leader. Raises NotLeader, and what `change` raises."""
        try:
            order = cluster_pb2.ChangeRequest.FromString(request.change)
        except DecodeError as error:
            raise RingholdError("UNKNOWN_REQUEST", "an order that can't be read") from error
        check_change(order)
        return ChangeTopologyReply(answer=(await self._carry_out(order)).SerializeToString())

    async def _carry_out(self, request: cluster_pb2.ChangeRequest) -> cluster_pb2.ChangeResponse:
        try:
            if request.dry_run:
                before, after = await self._amendments.imagine(partial(self._ordered, request))
                return await self._answer(before, after, before.epoch)
            before, after = await self._amendments.amend(partial(self._ordered, request))
        except (changes.ChangeRefused, InvalidTopology) as refusal:
            raise error_for("CHANGE_REFUSED", str(refusal)) from refusal
        except (Deposed, AnchorOutOfRange, TimeoutError) as error:
            raise Unavailable("NO_QUORUM", "the order may have been committed or not; repeat it") from error
        return await self._answer(before, after, after.epoch)

    async def _answer(self, before: Topology, after: Topology, epoch: int) -> cluster_pb2.ChangeResponse:
        survey = await self._surveyor.survey(before)
        planned = await self._aside(lambda: plan(before, after, survey.bytes_of, self._bytes_per_s))
        return answer_of(planned, after, epoch)

    def _ordered(self, request: cluster_pb2.ChangeRequest, topology: Topology) -> Topology:
        """With all that is ordered, in one epoch. Raises ChangeRefused, InvalidRequest, InvalidTopology."""
        after = topology
        for change in request.changes:
            after = self._with(change, after, is_real=not request.dry_run)
        return topology.in_one_epoch(after)

    def _with(self, change: cluster_pb2.Change, topology: Topology, *, is_real: bool) -> Topology:
        kind = change.WhichOneof("kind")
        if kind == "replication_factor":
            return changes.with_replication_factor(topology, change.replication_factor)
        if kind == "add":
            return with_added(topology, change.add)
        assert kind is not None, "it was checked"
        name: str = getattr(change, kind)
        if kind in LEAVING and has_left(topology, name):
            return topology
        node = node_of(topology, name)
        if kind == "remove" and is_real:
            check_dead(name, self._member(node.id))
        return NODE_ORDERS[kind](topology, node.id)


def check_dead(name: str, member: Member | None) -> None:
    """Raises ChangeRefused for a node that lives, or whose death is not sure yet, by what gossip knows of it here."""
    if member is None or not member.is_reachable:
        return
    if member.state is MemberState.SUSPECT:
        raise changes.ChangeRefused(f"the node {name} does not answer, but may be alive: repeat this in some seconds")
    raise changes.ChangeRefused(f"the node {name} is alive: decommission it, and it leaves without loss")


NODE_ORDERS: Mapping[str, Callable[[Topology, str], Topology]] = {
    "decommission": changes.decommission,
    "keep": changes.keep,
    "remove": changes.remove,
    "cordon": partial(changes.cordon, is_on=True),
    "uncordon": partial(changes.cordon, is_on=False),
}
LEAVING = ("decommission", "remove")


def has_left(topology: Topology, name: str) -> bool:
    """Whether the node of this name is out already: whoever orders that once more has what he wants."""
    return topology.node_named(name) is None and any(node.name == name for node in topology.nodes)


def node_of(topology: Topology, name: str) -> NodeRecord:
    """Raises InvalidRequest (NODE_UNKNOWN)."""
    node = topology.node_named(name)
    if node is None:
        names = ", ".join(sorted(node.name for node in topology.nodes if node.state is not NodeState.REMOVED))
        raise error_for("NODE_UNKNOWN", f"no node is called {name!r}; there are {names}", {"node": name})
    return node


def answer_of(planned: Plan, after: Topology, epoch: int) -> cluster_pb2.ChangeResponse:
    nodes = {node.id: node for node in after.nodes}
    return cluster_pb2.ChangeResponse(
        epoch=epoch,
        bytes=planned.bytes,
        seconds=planned.seconds,
        warnings=planned.warnings,
        moves=[
            cluster_pb2.PlannedMove(
                partition=None if move.group == SYSTEM_GROUP else partition_of_group(move.group),
                adding=names_of(after, move.adding),
                removing=names_of(after, move.removing),
                bytes=move.bytes,
            )
            for move in planned.moves
        ],
        loads=[
            cluster_pb2.NodeLoad(
                name=nodes[load.node_id].name,
                host=nodes[load.node_id].host,
                zone=nodes[load.node_id].zone,
                replicas_before=load.replicas_before,
                replicas_after=load.replicas_after,
                leaders_before=load.leaders_before,
                leaders_after=load.leaders_after,
                bytes_before=load.bytes_before,
                bytes_after=load.bytes_after,
            )
            for load in planned.loads
        ],
    )
