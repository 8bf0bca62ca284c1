"""The groups on the move, as an operator is told of them."""

from collections.abc import Iterable, Sequence

from ...api.proto.ringhold.v1 import cluster_pb2
from ...ring.topology import SYSTEM_GROUP, Topology, partition_of_group
from .mover import Survey
from .steps import Placement


def moves_of(survey: Survey) -> list[cluster_pb2.Move]:
    """One for each group that is not where it should be, in their order; also those whose leaders were not heard."""
    topology = survey.topology
    unheard = [group for group, _ in topology.moving if group not in survey.settled]
    return [move_of(survey, group) for group in sorted({*survey.placements, *unheard})]


def move_of(survey: Survey, group: int) -> cluster_pb2.Move:
    topology, placement = survey.topology, survey.placements.get(group)
    targets = topology.targets_of(group)
    holders = placement.voters if placement is not None else dict(topology.moving).get(group, ())
    adding = [node for node in targets if node not in holders]
    copied = [survey.installed.get((node, group), 0) for node in adding]
    return cluster_pb2.Move(
        partition=None if group == SYSTEM_GROUP else partition_of_group(group),
        adding=names_of(topology, adding),
        removing=names_of(topology, [node for node in holders if node not in targets]),
        step=step_of(placement, adding),
        bytes_done=sum(copied),
        bytes_total=survey.bytes_of.get(group, 0) * len(adding),
    )


def step_of(placement: Placement | None, adding: Sequence[str]) -> cluster_pb2.MoveStep:
    if placement is None:
        return cluster_pb2.MOVE_STEP_UNKNOWN
    if placement.learners:
        return cluster_pb2.MOVE_STEP_COPYING
    return cluster_pb2.MOVE_STEP_WAITING if adding else cluster_pb2.MOVE_STEP_REMOVING


def names_of(topology: Topology, ids: Iterable[str]) -> list[str]:
    nodes = (topology.node(node_id) for node_id in ids)
    return [node.name for node in nodes if node is not None]
