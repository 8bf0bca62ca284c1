"""Whether a machine's replicas are all what they should be: good, voting, and with all that is committed."""

from collections.abc import Iterator, Sequence

from ringhold.node.consensus.core import Replica
from ringhold.node.replica_record import HEALTHY
from ringhold.ring.topology import Topology

from .machines import Machine

VOTERS_MIN = 3


def ailing(machine: Machine, machines: Sequence[Machine]) -> str | None:
    """What keeps one of the machines from being whole; None: it could stand in for any other."""
    node = machine.node
    if node is None or not node.ready:
        return f"{machine.name} does not serve"
    return next(filter(None, (wrong_with(machine, machines, group) for group in groups_of(machine, machines))), None)


def thin_group(machines: Sequence[Machine]) -> str | None:
    """A group that could not bear the loss of one more disk: the replica that was lost is not made good yet."""
    topology = next((machine.node.store.current for machine in machines if machine.node is not None), None)
    for group in topology.groups if topology is not None else ():
        leader = leader_of(group, machines)
        if leader is None or len(leader.configuration.voters) < VOTERS_MIN:
            return f"group {group} has no leader, or too few voters"
    return None


def groups_of(machine: Machine, machines: Sequence[Machine]) -> Iterator[int]:
    """The groups of which the machine should have a replica, or has one that counts."""
    assert machine.node is not None
    topology: Topology = machine.node.store.known
    for group in topology.groups:
        leader = leader_of(group, machines)
        counts = leader is None or machine.node_id in leader.configuration.members
        if machine.node_id in topology.targets_of(group) or counts:
            yield group


def wrong_with(machine: Machine, machines: Sequence[Machine], group: int) -> str | None:
    assert machine.node is not None
    groups = machine.node.groups
    replica, record = groups._replicas.get(group), groups.hosting.records.get(group)
    leader = leader_of(group, machines)
    if replica is None or record is None or record.status != HEALTHY or not replica.is_healthy:
        return f"{machine.name} has no good replica of group {group}: {record}"
    if leader is None or leader.office is None:
        return f"group {group} has no leader with a lease"
    if leader.commit_index < leader.configuration_index:
        return f"the configuration of group {group} is not committed"
    own = leader.configuration.members.get(machine.node_id)
    if own not in leader.configuration.voters or own is None or own.number != replica.number:
        return f"{machine.name} does not vote as replica {replica.number} of group {group}: {leader.configuration}"
    if leader.office.match_of(machine.node_id) < leader.commit_index:
        return f"{machine.name} is behind in group {group}"
    return None


def leader_of(group: int, machines: Sequence[Machine]) -> "Replica[object] | None":
    """The replica that leads a group with a lease, as far as it has committed anything."""
    for machine in machines:
        if machine.node is not None:
            replica = machine.node.groups._replicas.get(group)
            if replica is not None and replica.office is not None and replica.office.vouches(machine.clock.now()):
                return replica  # type: ignore[return-value]
    return None
