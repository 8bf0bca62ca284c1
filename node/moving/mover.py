"""The mover: on the leader of the system group it brings every group to where the topology wants it (DESIGN 8.2).

It asks all nodes what their groups look like, decides (steps.py), has the leaders carry it out, and commits what has
been reached. It keeps nothing: when it dies, the next leader of the system group goes on.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from ...api.errors import RingholdError
from ...api.proto.ringhold.internal.v1.peer_pb2 import (
    ConfigureReply,
    ConfigureRequest,
    PlacementReply,
    PlacementRequest,
    Request,
)
from ...ring.changes import settle
from ...ring.topology import InvalidTopology, NodeState, Topology
from ..clock import Clock
from ..consensus.tickets import AnchorOutOfRange, Deposed, NotLeader
from ..founding import EventLog
from ..peers.exchange import RequestLost, RequestNotSent
from ..router import Router
from .amendments import Amendments
from .placements import Placements, placements_in
from .steps import Add, Placement, Step, next_steps, reached

ROUND_S = 0.25
"""Between two rounds while something is to be moved. Shorter ones ask more often; moves wait for longer ones."""

IDLE_S = 10.0
"""Between two looks at a cluster in which everything is where it should be."""

ASK_S_MAX = 1.0

NOT_COMMITTED = (InvalidTopology, NotLeader, Deposed, AnchorOutOfRange, RingholdError, TimeoutError)
"""What keeps a change from being committed now; the next round, or the next leader, does it."""

Members = Mapping[int, frozenset[str]]


class IsAlive(Protocol):
    """Gossip's word on a node."""

    def __call__(self, node_id: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What all nodes have said in one round, of one epoch.

    `placements` are of the groups that are not where they should be, as far as their leaders were heard; `settled` are
    where they should be. `bytes_of`: of the records of each group; `installed`: (node, group) → bytes of the snapshot
    under way.
    """

    topology: Topology
    placements: dict[int, Placement] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    bytes_of: dict[int, int] = field(default_factory=dict)
    installed: dict[tuple[str, int], int] = field(default_factory=dict)

    def heard(self, node_id: str, reply: PlacementReply) -> None:
        """A node has answered; what it says of another epoch is of no use."""
        for install in reply.installing:
            self.installed[node_id, install.group] = install.bytes
        if reply.epoch != self.topology.epoch:
            return
        placements = list(placements_in(reply, node_id))
        groups = [*reply.settled, *(each.group for each in placements)]
        self.bytes_of.update(zip(groups, reply.bytes, strict=True))
        self.settled.update(reply.settled)
        self.placements.update((each.group, each) for each in placements)

    @property
    def members(self) -> Members:
        """The argument of `ring.changes.settle`."""
        settled = {group: frozenset(self.topology.targets_of(group)) for group in self.settled}
        return {**settled, **dict(reached(self.placements.values()))}


class Surveyor:
    """Asks every node for its groups."""

    def __init__(self, node_id: str, router: Router, placements: Placements) -> None:
        self._node_id = node_id
        self._router = router
        self._placements = placements

    async def survey(self, topology: Topology) -> Survey:
        """What those say who are in reach and answer in time."""
        survey = Survey(topology)
        nodes = [node.id for node in topology.nodes if node.state is not NodeState.REMOVED]
        replies = await asyncio.gather(*map(self._ask, nodes))
        for node_id, reply in zip(nodes, replies, strict=True):
            if reply is not None:
                survey.heard(node_id, reply)
        return survey

    async def _ask(self, node_id: str) -> PlacementReply | None:
        if node_id == self._node_id:
            return self._placements.report()
        if not self._router.reaches(node_id):
            return None
        try:
            reply = await self._router.ask(node_id, 0, Request(placement=PlacementRequest()), ASK_S_MAX)
        except (RequestLost, RequestNotSent, RingholdError):
            return None
        return reply.placement

    async def configure(self, leader: str, request: ConfigureRequest) -> ConfigureReply:
        """Have a leader change a group's configuration; whether it did the next round will show."""
        if leader == self._node_id:
            return self._placements.configure(request)
        try:
            reply = await self._router.ask(leader, request.group, Request(configure=request), ASK_S_MAX)
        except (RequestLost, RequestNotSent, NotLeader, RingholdError) as error:
            return ConfigureReply(message=str(error))
        return reply.configure


class Mover:
    """`run` is its loop; it does nothing on a node that does not lead the system group."""

    def __init__(
        self, amendments: Amendments, surveyor: Surveyor, is_alive: IsAlive, clock: Clock, log: EventLog
    ) -> None:
        self._amendments = amendments
        self._surveyor = surveyor
        self._is_alive = is_alive
        self._clock = clock
        self._log = log
        self._news = asyncio.Event()

    def wake(self) -> None:
        """The topology has changed, or this node may lead the system group now."""
        self._news.set()

    async def run(self) -> None:
        """Move for ever."""
        while True:
            self._news.clear()
            is_busy = await self._round()
            await self._pause(ROUND_S if is_busy else IDLE_S)

    async def _pause(self, seconds: float) -> None:
        """Return after so long, or when there is news; but never begin a round right after another one."""
        await self._clock.sleep(ROUND_S)
        if seconds > ROUND_S:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()

    async def _round(self) -> bool:
        """One look, and what follows from it; whether there is more to do here."""
        topology = self._amendments.topology
        if topology is None or not self._amendments.is_leader:
            return False
        survey = await self._surveyor.survey(topology)
        steps = next_steps(topology, survey.placements, self._is_alive)
        await asyncio.gather(*(self._take(step, topology.epoch) for step in steps))
        await self._settle(survey)
        return bool(steps) or not topology.is_settled

    async def _take(self, step: Step, epoch: int) -> None:
        request = ConfigureRequest(group=step.group, epoch=epoch, configuration_index=step.configuration_index)
        if isinstance(step, Add):
            request.add = step.node
        else:
            request.remove = step.node
        reply = await self._surveyor.configure(step.leader, request)
        if reply.is_appended:
            self._log("moves", group=step.group, **({"adds": step.node} if request.add else {"removes": step.node}))

    async def _settle(self, survey: Survey) -> None:
        """Commit what has been reached, if nothing has changed meanwhile."""
        before = survey.topology
        if before.is_settled or settle(before, survey.members) is before:
            return
        try:
            await self._amendments.amend(partial(settle_same, before.epoch, survey.members))
        except NOT_COMMITTED as error:
            self._log("not settled yet", reason=str(error))


def settle_same(epoch: int, members: Members, topology: Topology) -> Topology:
    """`settle` of what was seen of an epoch; nothing at a later one, which may want something else."""
    return settle(topology, members) if topology.epoch == epoch else topology
