"""Which node leads a group, as far as this gateway has heard: a cache that costs one redirect when it is wrong.

While nobody says who leads, the replicas are asked in turn: one of them leads, or knows who does, or soon will.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..ring.topology import NodeState, Topology
from .consensus.support import DRIFT_MAX

ESTIMATED_S_MAX = 12 * 3600.0
"""A log time heard longer ago is not carried on: anchors may be a day ahead of it at most."""

Reaches: TypeAlias = Callable[[str], bool]
"""Whether a request to this node may be answered: it is this one, or it is connected and was heard lately."""


@dataclass(frozen=True, slots=True)
class Route:
    """The leader of a group in a term, and the log time last heard of it (0: none), and when."""

    leader: str
    term: int = 0
    log_time_ms: int = 0
    heard_at: float = 0.0

    def log_time_at(self, now: float) -> int:
        """What the log time will be by now if the group had a leader all the time; 0 if none was heard.

        An anchor of long ago is of no use: a mutation that is lost with it can't be told from one that was not applied.
        One that is ahead, for the group had no leader or a new one, does until it is too far ahead.

        >>> Route("a", 1, 5_000, heard_at=10.0).log_time_at(21.0)
        15000
        """
        if not self.log_time_ms:
            return 0
        elapsed_s = min(now - self.heard_at, ESTIMATED_S_MAX)
        return self.log_time_ms + int(elapsed_s * 1000 / (1 + DRIFT_MAX))


class Routes:
    """Group → route. Fed by the topology (the preferred leader), by replies, redirects, and the replicas of this node.

    Whoever names a leader in a term that is not older than the known one is believed (Raft, figure 2: terms only grow).
    """

    def __init__(self) -> None:
        self._routes: dict[int, Route] = {}
        self._replicas: dict[int, tuple[str, ...]] = {}
        self._turns: dict[int, str] = {}

    def adopt(self, topology: Topology) -> None:
        """Take over who may have replicas, and start from those that should lead wherever nothing better is known.

        A group on the move may still be where it was, and is led from there until a newcomer has caught up.
        """
        moving = dict(topology.moving)
        self._replicas = {
            group: tuple(dict.fromkeys((*moving.get(group, ()), *topology.targets_of(group))))
            for group in topology.groups
        }
        known = {node.id for node in topology.nodes if node.state is not NodeState.REMOVED}
        for group, replicas in self._replicas.items():
            route = self._routes.get(group)
            if route is None or route.leader not in known:
                self._routes[group] = Route(replicas[0])

    def replicas(self, group: int) -> tuple[str, ...]:
        """The nodes that should hold the group or may still do so; the one that should lead, or has led, first."""
        return self._replicas[group]

    def leader(self, group: int) -> str:
        return self._routes[group].leader

    def get(self, group: int) -> Route:
        return self._routes[group]

    def heard(self, group: int, leader: str, term: int, log_time_ms: int, now: float) -> None:
        """`leader` has answered for the group in `term`: its log time counts, though another one was ahead of it."""
        if term >= self._routes[group].term:
            self._routes[group] = Route(leader, term, log_time_ms, now)

    def redirected(self, group: int, leader: str | None, term: int) -> bool:
        """A node that does not lead the group has named who may; whether that is news to go by."""
        route = self._routes[group]
        if leader is None or term < route.term:
            return False
        self._routes[group] = replace(route, leader=leader, term=term)
        return True

    def led(self, group: int, leader: str | None, term: int) -> None:
        """The replica of this node knows who leads its group in `term` now; None: nobody that it knows of."""
        if group in self._routes:
            self.redirected(group, leader, term)
        elif leader is not None:
            self._routes[group] = Route(leader, term)

    def passed_over(self, group: int, node: str, reaches: Reaches) -> None:
        """An attempt at `node` led nowhere: the next replica in turn is asked, one in reach if there is one.

        The turn goes on from the last replica that had it, not from `node`: two that name each other, one of them dead,
        must not keep the third from being asked. Nothing changes if the route has left `node` meanwhile.
        """
        route = self._routes[group]
        others = [other for other in self._in_turn(group) if other != node]
        if route.leader == node and others:
            chosen = next(filter(reaches, others), others[0])
            self._turns[group] = chosen
            self._routes[group] = replace(route, leader=chosen)

    def _in_turn(self, group: int) -> Sequence[str]:
        """The replicas, beginning after the one whose turn it was last."""
        replicas = self._replicas[group]
        last = self._turns.get(group, self._routes[group].leader)
        at = replicas.index(last) + 1 if last in replicas else 0
        return replicas[at:] + replicas[:at]
