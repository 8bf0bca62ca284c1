"""When a node hands leaderships over: back to the preferred node, and away from a node that should not lead.

A node is *reluctant* while it stops, or while its disk is full or stuck (DESIGN section 7); it takes no leaderships
then, for its beats say so, and hands over those that it has.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...api.errors import Overloaded
from .core import Replica
from .support import Support

HANDOVERS_PER_PULSE_MAX = 4
"""More at once would have more writes wait for a new leader in the same moment."""

HANDOVER_AGAIN_S = 2.0
"""After a handover that came to nothing."""

RETURN_AFTER_S = 1.0
"""A leader stays so long at least: what just moved does not move again at once."""


class Handovers:
    """Decides which groups of this node change their leader now."""

    def __init__(self, node_id: str, support: Support) -> None:
        self.preferred: Mapping[int, str] = {}
        self._node_id = node_id
        self._support = support
        self._reluctant_for: dict[str, None] = {}
        self._not_before: dict[int, float] = {}

    @property
    def is_reluctant(self) -> bool:
        return bool(self._reluctant_for)

    def set_reluctant(self, reason: str, is_on: bool) -> None:
        """Begin or end a reason not to lead."""
        if is_on:
            self._reluctant_for[reason] = None
        else:
            self._reluctant_for.pop(reason, None)

    def took_office(self, group: int, now: float) -> None:
        """A replica here has become leader."""
        self._not_before[group] = now + RETURN_AFTER_S

    @property
    def reasons(self) -> Sequence[str]:
        """Why this node does not want to lead."""
        return tuple(self._reluctant_for)

    def begin(self, replicas: Iterable[Replica[Any]], now: float) -> list[Replica[Any]]:
        """Start the handovers that are due; the replicas concerned."""
        begun: list[Replica[Any]] = []
        for replica in replicas:
            if len(begun) == HANDOVERS_PER_PULSE_MAX:
                break
            successor = self._successor(replica, now)
            if successor is not None:
                self._not_before[replica.group] = now + HANDOVER_AGAIN_S
                replica.transfer(successor, now)
                begun.append(replica)
        return begun

    def hand_over(self, replica: Replica[Any], now: float) -> None:
        """Give a group to whoever is the best of the others, if anybody is able to and it is not under way."""
        successor = None if replica.is_handing_over else self._best(replica, now)
        if successor is not None:
            self._not_before[replica.group] = now + HANDOVER_AGAIN_S
            replica.transfer(successor, now)

    def has_successor(self, replica: Replica[Any], now: float) -> bool:
        """Whether anybody could take this group over."""
        return any(self._could_lead(replica, node, now) for node in replica.configuration.voting_nodes)

    def has_willing_heir(self, replica: Replica[Any], now: float) -> bool:
        """Whether another voter is here and willing, be it only once it has caught up."""
        return any(self._is_willing(node, now) for node in replica.configuration.voting_nodes)

    def _is_willing(self, node: str, now: float) -> bool:
        return node != self._node_id and self._support.is_alive(node, now) and not self._support.is_reluctant(node)

    def _successor(self, replica: Replica[Any], now: float) -> str | None:
        is_ready = replica.has_applied_own_term or not replica.is_healthy
        if replica.office is None or replica.is_handing_over or not is_ready:
            return None
        if self.is_reluctant or not replica.is_healthy:
            if self._not_before.get(replica.group, 0.0) > now + RETURN_AFTER_S:
                return None
            return self._best(replica, now)
        preferred = self.preferred.get(replica.group, self._node_id)
        is_due = self._not_before.get(replica.group, 0.0) <= now
        return preferred if is_due and self._could_lead(replica, preferred, now) else None

    def _best(self, replica: Replica[Any], now: float) -> str | None:
        """Who is furthest among those who could lead, the preferred one first among equals."""
        office = replica.office
        able = [node for node in replica.configuration.voting_nodes if self._could_lead(replica, node, now)]
        preferred = self.preferred.get(replica.group)
        return max(able, key=lambda node: (office.match_of(node) if office else 0, node == preferred), default=None)

    def _could_lead(self, replica: Replica[Any], node: str, now: float) -> bool:
        """Whether a voter is here, willing, and has all that is committed (3.10)."""
        office = replica.office
        return (
            office is not None
            and node in replica.configuration.voting_nodes
            and self._is_willing(node, now)
            and office.can_lead(node)
            and office.match_of(node) >= replica.commit_index
        )


def disk_full(will_move: bool) -> Overloaded:
    """The refusal of a leader without room. `will_move`: another node is about to lead the group, and may have some."""
    message = "the leader's disk is full but for its reserve; reads and deletes go on"
    return Overloaded("DISK_FULL", message, {"retry_after_ms": "1000", **({"moving": "true"} if will_move else {})})
