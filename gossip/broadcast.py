"""Facts that wait to ride on messages: newest and least told first, each a bounded number of times.

See SWIM, section 4.1, and docs/protocols/gossip.md, "Spreading".
"""

from dataclasses import dataclass

from .member import Fact


@dataclass(slots=True)
class _Waiting:
    fact: Fact
    transmissions: int
    order: int


class FactQueue:
    """At most one fact per member: a newer one replaces what waits, so its size is bounded by the members'."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, fact: Fact) -> None:
        """Tell `fact` from now on, in place of anything older about the same member."""
        self._order += 1
        self._waiting[fact.member.node_id] = _Waiting(fact, 0, self._order)

    def forget(self, node_id: str) -> None:
        """Tell nothing about the member any more."""
        self._waiting.pop(node_id, None)

    def take(self, count_max: int, transmissions_max: int) -> tuple[Fact, ...]:
        """The next facts for one message; each is dropped after `transmissions_max` of them."""
        if not self._waiting:
            return ()
        chosen = sorted(self._waiting.values(), key=lambda entry: (entry.transmissions, -entry.order))[:count_max]
        for entry in chosen:
            entry.transmissions += 1
            if entry.transmissions >= transmissions_max:
                del self._waiting[entry.fact.member.node_id]
        return tuple(entry.fact for entry in chosen)
