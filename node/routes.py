"""Which node leads a group, as far as this gateway has heard: a cache that costs one redirect when it is wrong."""

from dataclasses import dataclass

from ..ring.topology import SYSTEM_GROUP, Topology, group_of_partition


@dataclass(frozen=True, slots=True)
class Route:
    """The leader of a group in a term, and the newest log time heard of it (0: none)."""

    leader: str
    term: int = 0
    log_time_ms: int = 0


class Routes:
    """Group → route. Fed by the topology (the preferred leader), by replies, and by redirects."""

    def __init__(self) -> None:
        self._routes: dict[int, Route] = {}

    def adopt(self, topology: Topology) -> None:
        """Start from the preferred leaders wherever nothing better is known."""
        preferred = {group_of_partition(number): targets[0] for number, targets in enumerate(topology.targets)}
        preferred[SYSTEM_GROUP] = topology.system_voters[0]
        known = {node.id for node in topology.nodes}
        for group, leader in preferred.items():
            route = self._routes.get(group)
            if route is None or route.leader not in known:
                self._routes[group] = Route(leader)

    def leader(self, group: int) -> str:
        return self._routes[group].leader

    def get(self, group: int) -> Route:
        return self._routes[group]

    def heard(self, group: int, leader: str, term: int, log_time_ms: int) -> None:
        """`leader` has answered for the group in `term`; older terms are ignored (Raft, figure 2: terms only grow)."""
        route = self._routes[group]
        if term >= route.term:
            self._routes[group] = Route(leader, term, max(log_time_ms, route.log_time_ms))

    def redirected(self, group: int, leader: str | None, term: int) -> None:
        """A node that does not lead the group has named who may."""
        route = self._routes[group]
        if leader is not None and term >= route.term:
            self._routes[group] = Route(leader, term, route.log_time_ms)
