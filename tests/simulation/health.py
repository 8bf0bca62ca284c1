"""Whether a machine's replicas are all what they should be: good, voting, and with all that is committed."""

from collections.abc import Iterator, Sequence

from ringhold.node.consensus.core import Replica
from ringhold.node.replica_record import HEALTHY
from ringhold.ring.topology import SYSTEM_GROUP, Topology, group_of_partition

from .machines import Machine


def ailing(machine: Machine, machines: Sequence[Machine]) -> str | None:
    """What keeps one of the machines from being whole; None: it could stand in for any other."""
    node = machine.node
    if node is None or not node.ready:
        return f"{machine.name} does not serve"
    return next(filter(None, (wrong_with(machine, machines, group) for group in groups_of(machine))), None)


def groups_of(machine: Machine) -> Iterator[int]:
    """The groups of which the machine should have a replica."""
    assert machine.node is not None
    topology: Topology = machine.node.store.known
    if machine.node_id in topology.system_voters:
        yield SYSTEM_GROUP
    for partition, targets in enumerate(topology.targets):
        if machine.node_id in targets:
            yield group_of_partition(partition)


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
