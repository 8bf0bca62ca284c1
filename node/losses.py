"""Who has no good copy of a group: once all who should have one say so, waiting for a leader brings nothing.

A request collects what it hears. See docs/protocols/errors.md for what a client is told in the end.
"""

from collections.abc import Sequence

from ..api.errors import DataLoss
from ..ring.topology import SYSTEM_GROUP, partition_of_group
from .clock import Clock
from .routes import Routes

LOST_S_MAX = 3.0
"""What a node has said of its copy counts for so long: it may have been rebuilt since."""


class Losses:
    """What nodes have said of their copies in the course of one request."""

    def __init__(self, clock: Clock, routes: Routes) -> None:
        self._clock = clock
        self._routes = routes
        self._said: dict[int, dict[str, float]] = {}

    def heard(self, group: int, node: str, *, is_lost: bool) -> None:
        """A node has answered that it does not serve the group, and whether for want of a good copy."""
        said = self._said.setdefault(group, {})
        if is_lost:
            said[node] = self._clock.now()
        else:
            said.pop(node, None)

    def is_total(self, group: int) -> bool:
        """Whether all who should hold the group, and whoever may lead it, have said that they have no good copy.

        A node that does not answer may have one.
        """
        lost = self._lost(group)
        return lost.issuperset(self._routes.replicas(group)) and self._routes.leader(group) in lost

    def turn_from(self, group: int, node: str) -> str:
        """Whom to ask rather than a node that has said that it has no good copy: one that has not said so."""
        lost = self._lost(group)
        if node not in lost:
            return node
        return next((replica for replica in self._routes.replicas(group) if replica not in lost), node)

    def _lost(self, group: int) -> set[str]:
        if group not in self._said:
            return set()
        began = self._clock.now() - LOST_S_MAX
        return {node for node, at in self._said.get(group, {}).items() if at >= began}


def no_healthy_copy(groups: Sequence[int]) -> DataLoss:
    """The error of groups that nobody can serve; its details name the first."""
    names = ", ".join("the system group" if group == SYSTEM_GROUP else name_of(group) for group in groups)
    details = {} if groups[0] == SYSTEM_GROUP else {"partition": str(partition_of_group(groups[0]))}
    return DataLoss("NO_HEALTHY_REPLICA", f"no healthy copy is left of {names}", details)


def name_of(group: int) -> str:
    return f"partition {partition_of_group(group)}"
