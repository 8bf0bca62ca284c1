"""What a node says of the groups that it leads, and what it lets the mover do to them.

Both compare epochs: a mover that acts for an old topology is refused, and a node that has not heard of the newest yet
is not believed (DESIGN section 8.2).
"""

from collections.abc import Iterable

from ...api.proto.ringhold.internal.v1.peer_pb2 import (
    ConfigureReply,
    ConfigureRequest,
    GroupPlacement,
    InstallState,
    MembershipReply,
    MembershipRequest,
    PlacementReply,
)
from ..consensus.groups import Groups
from ..consensus.reconfiguring import LedGroup, NotNow
from ..snapshots.installer import InstallCounts
from ..topology_store import TopologyStore
from .steps import Placement


class Placements:
    """Answers for this node's groups."""

    def __init__(self, groups: Groups, store: TopologyStore, installs: InstallCounts) -> None:
        self._groups = groups
        self._store = store
        self._installs = installs

    def report(self) -> PlacementReply:
        """The groups led here, compared with the topology that this node has."""
        topology = self._store.known
        reply = PlacementReply(epoch=topology.epoch)
        settled, others = [], []
        for led in self._groups.reconfiguring.led():
            voters = led.configuration.voting_nodes
            is_settled = led.is_committed and not led.configuration.learners
            if is_settled and set(voters) == set(topology.targets_of(led.group)):
                settled.append(led.group)
            else:
                others.append(led)
        reply.settled.extend(settled)
        reply.groups.extend(map(described, others))
        reply.bytes.extend(self._bytes_of(group) for group in [*settled, *(led.group for led in others)])
        running = self._installs.running.values()
        reply.installing.extend(InstallState(group=each.group, bytes=each.bytes) for each in running)
        return reply

    def _bytes_of(self, group: int) -> int:
        return self._groups.machine(group).state.bytes

    def configure(self, request: ConfigureRequest) -> ConfigureReply:
        """Append a configuration, if the request was made for what is true here."""
        known = self._store.known.epoch
        if request.epoch != known:
            return ConfigureReply(message=f"the topology here is that of epoch {known}, not of {request.epoch}")
        reconfiguring = self._groups.reconfiguring
        try:
            if request.add:
                reconfiguring.add(request.group, request.add, request.configuration_index)
            else:
                reconfiguring.remove(request.group, request.remove, request.configuration_index)
        except NotNow as reason:
            return ConfigureReply(message=str(reason))
        return ConfigureReply(is_appended=True)

    def membership(self, request: MembershipRequest) -> MembershipReply:
        """Whether a replica is known here to be a member no longer."""
        index = self._groups.reconfiguring.removal_of(request.group, request.node_id, request.replica_id)
        return MembershipReply(is_removed=index > 0, configuration_index=index)


def described(led: LedGroup) -> GroupPlacement:
    return GroupPlacement(
        group=led.group,
        configuration_index=led.configuration_index,
        is_committed=led.is_committed,
        voters=led.configuration.voting_nodes,
        learners=[learner.node_id for learner in led.configuration.learners],
        dispensable=led.dispensable,
    )


def placements_in(reply: PlacementReply, node_id: str) -> Iterable[Placement]:
    """What a node says of the groups that it leads and that are not settled."""
    for each in reply.groups:
        yield Placement(
            group=each.group,
            leader=node_id,
            configuration_index=each.configuration_index,
            is_committed=each.is_committed,
            voters=tuple(each.voters),
            learners=tuple(each.learners),
            dispensable=frozenset(each.dispensable),
        )
