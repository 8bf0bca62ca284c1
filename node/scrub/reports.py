"""A scrub that somebody asks for, told as it goes: in messages of ringhold.v1."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from ...api.errors import InvalidRequest
from ...api.proto.ringhold.internal.v1.peer_pb2 import UnhealthyCopy
from ...api.proto.ringhold.v1 import cluster_pb2
from ...ring.topology import SYSTEM_GROUP, partition_of_group
from ..overview import unhealthy_replicas
from .scrubber import Damage, Pass, Scrubber


class ScrubReports:
    """Has a node scrubbed. `unhealthy` says what of it is to be rebuilt."""

    def __init__(self, node_name: str, scrubber: Scrubber, unhealthy: Callable[[], Iterable[UnhealthyCopy]]) -> None:
        self._node_name = node_name
        self._scrubber = scrubber
        self._unhealthy = unhealthy

    async def scrub(self, request: cluster_pb2.ScrubRequest) -> AsyncGenerator[cluster_pb2.ScrubProgress, None]:
        """The contract is on the service. Raises InvalidRequest, Conflict if one is under way, Unavailable."""
        if request.node not in ("", self._node_name):
            message = f"this is {self._node_name}, and {request.node} is to be scrubbed: ask that node"
            raise InvalidRequest("OTHER_NODE", message, {"node": self._node_name})
        async with aclosing(self._scrubber.scrub(request.bytes_per_s)) as reports:
            async for passing in reports:
                yield self._progress(passing)

    def _progress(self, passing: Pass) -> cluster_pb2.ScrubProgress:
        """How far it is; what is found is told once."""
        found, passing.found = passing.found, []
        return cluster_pb2.ScrubProgress(
            node=self._node_name,
            groups=passing.groups,
            groups_in_all=passing.groups_in_all,
            records=passing.records,
            bytes=passing.bytes,
            seconds=passing.seconds,
            damage=[damage_of(damage) for damage in found],
            is_done=passing.is_done,
            unhealthy=unhealthy_replicas(self._unhealthy()) if passing.is_done else (),
            uncounted=passing.uncounted,
        )


def damage_of(damage: Damage) -> cluster_pb2.Damage:
    group = damage.group
    partition = None if group is None or group == SYSTEM_GROUP else partition_of_group(group)
    return cluster_pb2.Damage(partition=partition, is_of_node=group is None, what=damage.what, done=damage.done)
