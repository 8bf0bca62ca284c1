"""What becomes of a cluster that lost the quorum of some groups: reports of the survivors in, a plan out. Pure.

Why the survivors then agree, and why what any of them knows to be committed is kept, is in docs/protocols/recovery.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ring.topology import (
    EPOCH_MAX,
    SYSTEM_GROUP,
    SYSTEM_VOTER_COUNTS,
    NodeState,
    Topology,
    group_of_partition,
    partition_of_group,
)
from ..consensus.configuration import Configuration, ReplicaId
from .plans import Fate, GroupPlan, Plan
from .reports import NOBODY, Copy, Health, NodeReport

EPOCH_LEAP = 1_000
"""A command of the system group names the epoch that it was made for. The new epoch is beyond what any command in an
unapplied tail can name, so on every survivor these commands change nothing."""

Copies = Mapping[str, Copy]
"""What the survivors have of one group, by node."""


class RecoveryRefused(Exception):
    """There is nothing to plan, or nothing that could be right; the text says why, for people."""


def plan_recovery(reports: Sequence[NodeReport], cluster_id: str, *, restart_empty: bool) -> Plan:
    """How the nodes that reported become the cluster `cluster_id`, a new random id; all others are left behind.

    restart_empty: partitions without any copy begin anew instead of being lost. Raises RecoveryRefused.
    """
    survivors = {report.node_id: report for report in reports}
    _check_survivors(reports, survivors)
    newest = max((report.topology for report in reports), key=lambda topology: topology.epoch)
    _check_members(reports, newest)
    groups = tuple(
        _plan_group(group, _copies_of(group, survivors), newest, sorted(survivors), restart_empty)
        for group in (SYSTEM_GROUP, *map(group_of_partition, range(newest.partitions)))
    )
    dead = [node for node in newest.nodes if node.id not in survivors and node.state is not NodeState.REMOVED]
    _check_need(groups, is_anybody_dead=bool(dead), restart_empty=restart_empty)
    return Plan(
        previous_cluster_id=newest.cluster_id,
        topology=_recovered_topology(newest, cluster_id, {node.id for node in dead}, groups),
        groups=groups,
        fingerprints={node_id: report.fingerprint for node_id, report in survivors.items()},
        dead=tuple(node.name for node in dead),
    )


def _check_survivors(reports: Sequence[NodeReport], survivors: Mapping[str, NodeReport]) -> None:
    if not reports:
        raise RecoveryRefused("nobody survives: give the data folder of one node at least")
    if len(survivors) < len(reports):
        names = [report.name for report in reports]
        double = next(name for name in names if names.count(name) > 1)
        raise RecoveryRefused(f"two of these are of the same node, {double}: give each node once, and no copies")
    ids = {report.cluster_id: report.name for report in reports}
    if len(ids) > 1:
        told = ", ".join(f"{name} of that with id {cluster_id}" for cluster_id, name in sorted(ids.items()))
        raise RecoveryRefused(
            f"these nodes are not of one cluster: {told}. If a recovery was cut short, finish it with its own plan"
        )


def _check_members(reports: Sequence[NodeReport], newest: Topology) -> None:
    for report in reports:
        node = newest.node(report.node_id)
        if node is None or node.state is NodeState.REMOVED:
            raise RecoveryRefused(
                f"{report.name} is no node of the cluster any more: what its folder holds may be old. Leave it out"
            )
    if newest.epoch > EPOCH_MAX - EPOCH_LEAP:
        raise RecoveryRefused(f"the epoch {newest.epoch} leaves no room for another one")


def _check_need(groups: Sequence[GroupPlan], *, is_anybody_dead: bool, restart_empty: bool) -> None:
    harm = {group.fate for group in groups} - {Fate.INTACT}
    if not harm:
        raise RecoveryRefused("there is nothing to recover: a majority of every group survives. Just start the nodes")
    if harm == {Fate.LOST} and not is_anybody_dead and not restart_empty:
        raise RecoveryRefused(
            "there is nothing to recover: all nodes are here, and some partitions have no copy on any of them. "
            "With --restart-empty these begin anew, empty"
        )


def _copies_of(group: int, survivors: Mapping[str, NodeReport]) -> Copies:
    return {
        node_id: copy for node_id, report in sorted(survivors.items()) for copy in report.copies if copy.group == group
    }


def _plan_group(
    group: int, copies: Copies, topology: Topology, survivors: Sequence[str], restart_empty: bool
) -> GroupPlan:
    healthy = {node_id: copy for node_id, copy in copies.items() if copy.health is Health.HEALTHY}
    if healthy:
        sound = {node_id: copy for node_id, copy in healthy.items() if not copy.loss}
        plan = _plan_from_copies(group, copies, sound, topology) if sound else None
        if plan is not None and plan.fate is Fate.INTACT:
            return plan
        return _plan_from_copies(group, copies, {**sound, **_newest_of(healthy)}, topology)
    if group == SYSTEM_GROUP or restart_empty:
        return _plan_anew(group, copies, topology, survivors)
    targets = _surviving_targets(group, topology, survivors) or _in_turn(group, survivors)[:1]
    return GroupPlan(
        group,
        Fate.LOST,
        NOBODY,
        targets=tuple(targets),
        missing=tuple(_targets(group, topology)),
        copies=copies,
    )


def _newest_of(healthy: Copies) -> Copies:
    """The copy with the newest log; of equals one that has lost nothing."""
    best = max(healthy, key=lambda node_id: _preference(node_id, healthy[node_id]))
    return {best: healthy[best]}


def _preference(node_id: str, copy: Copy) -> tuple[tuple[int, int], bool, int]:
    return copy.position, not copy.loss, -copy.configuration.rank(node_id)


def _plan_from_copies(group: int, copies: Copies, healthy: Copies, topology: Topology) -> GroupPlan:
    """The group goes on from its best copy: the newest log, which holds all that any survivor knows to be committed.

    `healthy`: those that can be used. Of the copies that have lost something that is the newest at most: what it still
    has is better than nothing, but nobody counts on it.
    """
    best = next(iter(_newest_of(healthy)))
    position, known = healthy[best].position, healthy[best].configuration
    standing = [replica for replica in known.voters if _is_here(replica, copies) and copies[replica.node_id].is_intact]
    ahead = [
        node_id
        for node_id, member in known.members.items()
        if _is_here(member, copies) and copies[node_id].is_intact and copies[node_id].position > position
    ]
    is_intact = len(standing) >= known.quorum and not ahead
    configuration = _surviving_configuration(known, best, copies, healthy)
    if group == SYSTEM_GROUP:
        configuration = _with_system_voters(configuration, healthy)
    return GroupPlan(
        group,
        Fate.INTACT if is_intact else Fate.UNCERTAIN,
        configuration,
        targets=tuple(configuration.numbers)[: topology.replication_factor],
        best=best,
        position=position,
        missing=tuple(node_id for node_id in known.voting_nodes if node_id not in healthy),
        ahead=tuple(ahead),
        revision=_next_revision(group, copies),
        copies=copies,
    )


def _surviving_configuration(known: Configuration, best: str, copies: Copies, healthy: Copies) -> Configuration:
    """The members that are left: the healthy voters vote, as many as is safe, the others learn.

    A replica that can't go on is listed as a learner, too: the leader hears that it is gone, and makes it anew.
    """
    voting = [replica for replica in known.voters if _is_here(replica, healthy)]
    if best not in {replica.node_id for replica in voting}:
        voting.append(ReplicaId(best, healthy[best].number))
    sound = {node_id: copy for node_id, copy in healthy.items() if not copy.loss}
    dead = len(known.voters) - sum(_is_here(replica, sound) for replica in known.voters)
    voters = safe_voters(voting, healthy, sure=known.quorum - dead)
    rest = [replica for replica in (*voting, *known.voters, *known.learners) if _is_here(replica, copies)]
    learners = [replica for replica in dict.fromkeys(rest) if replica not in voters]
    return Configuration(tuple(voters), tuple(learners))


def safe_voters(voting: Sequence[ReplicaId], copies: Copies, *, sure: int) -> Sequence[ReplicaId]:
    """As many of `voting` that each majority of them has one that holds all that is committed, so that it leads.

    At least `sure` of them hold it, of which nobody knows who, and those whose logs are the newest. So all of them, if
    what is not sure is no majority; else the newest, and no more others than these are.
    """
    if len(voting) - sure <= len(voting) // 2:
        return voting
    newest = max(copies[replica.node_id].position for replica in voting)
    ranked = _newest_first(voting, copies)
    equal = sum(copies[replica.node_id].position == newest for replica in voting)
    return [replica for replica in voting if replica in ranked[: 2 * equal]]


def _with_system_voters(configuration: Configuration, copies: Copies) -> Configuration:
    """The system group has 1, 3 or 5 voters; the others learn."""
    voters = configuration.voters
    if len(voters) in SYSTEM_VOTER_COUNTS:
        return configuration
    newest = max(copies[replica.node_id].position for replica in voters)
    equal = sum(copies[replica.node_id].position == newest for replica in voters)
    chosen = _newest_first(voters, copies)[: _system_voters_at_most(min(len(voters), 2 * equal))]
    kept = tuple(replica for replica in voters if replica in chosen)
    return Configuration(kept, tuple(r for r in (*voters, *configuration.learners) if r not in kept))


def _newest_first(voting: Sequence[ReplicaId], copies: Copies) -> Sequence[ReplicaId]:
    return sorted(voting, key=lambda replica: copies[replica.node_id].position, reverse=True)


def _system_voters_at_most(count: int) -> int:
    return max(each for each in SYSTEM_VOTER_COUNTS if each <= count)


def _plan_anew(group: int, copies: Copies, topology: Topology, survivors: Sequence[str]) -> GroupPlan:
    """Empty replicas, whose log begins after all that was ever known of the group, so that no id is used again."""
    kept = _surviving_targets(group, topology, survivors)
    nodes = [*kept, *(node_id for node_id in _in_turn(group, survivors) if node_id not in kept)]
    count = min(topology.replication_factor, len(nodes))
    nodes = nodes[: _system_voters_at_most(count) if group == SYSTEM_GROUP else count]
    indexes = [max(copy.number, copy.last_index, copy.applied_index) for copy in copies.values()]
    terms = [max(copy.term, copy.last_term) for copy in copies.values()]
    began = max(indexes) + 1 if indexes else 0
    return GroupPlan(
        group,
        Fate.RESTARTED,
        Configuration(tuple(ReplicaId(node_id, began) for node_id in nodes)),
        targets=tuple(nodes),
        missing=tuple(_targets(group, topology)),
        began=began,
        began_term=max(terms) + 1 if terms else 0,
        revision=_next_revision(group, copies),
        copies=copies,
    )


def _next_revision(group: int, copies: Copies) -> int:
    """The highest known; of the system group the next one, for its new topology."""
    highest = max((copy.revision for copy in copies.values()), default=0)
    return highest + 1 if group == SYSTEM_GROUP else highest


def _is_here(replica: ReplicaId, copies: Copies) -> bool:
    """Whether a node has the very replica that a configuration speaks of, and not an older or a newer one."""
    return replica.node_id in copies and copies[replica.node_id].number == replica.number


def _targets(group: int, topology: Topology) -> Sequence[str]:
    return topology.system_voters if group == SYSTEM_GROUP else topology.targets[partition_of_group(group)]


def _surviving_targets(group: int, topology: Topology, survivors: Sequence[str]) -> list[str]:
    return [node_id for node_id in _targets(group, topology) if node_id in survivors]


def _in_turn(group: int, survivors: Sequence[str]) -> list[str]:
    """The survivors, another one first for each group."""
    start = group % len(survivors)
    return [*survivors[start:], *survivors[:start]]


def _recovered_topology(newest: Topology, cluster_id: str, dead: set[str], groups: Sequence[GroupPlan]) -> Topology:
    system, *partitions = groups
    return replace(
        newest,
        cluster_id=cluster_id,
        epoch=newest.epoch + EPOCH_LEAP,
        nodes=tuple(replace(n, state=NodeState.REMOVED) if n.id in dead else n for n in newest.nodes),
        targets=tuple(group.targets for group in partitions),
        system_voters=system.configuration.voting_nodes,
    )
