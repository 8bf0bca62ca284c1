"""Whom to probe next: everybody once per pass, in an order shuffled anew (SWIM, section 4.3).

So the time until a dead member is probed has an upper bound, and probes of different nodes don't fall into step.
"""

from .ports import Rng


class ProbeRotation:
    """The order of the current pass, by node id."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._order: list[str] = []

    def next_of(self, candidates: list[str]) -> str | None:
        """The next of `candidates` in this pass; a new pass begins when all had their turn. None if there is none."""
        if not candidates:
            return None
        target = self._next_in_pass(candidates)
        if target is not None:
            return target
        self._order = list(candidates)
        self._rng.shuffle(self._order)
        return self._order.pop()

    def insert(self, node_id: str) -> None:
        """Give a newcomer a random turn in the current pass."""
        self._order.insert(self._rng.randrange(len(self._order) + 1), node_id)

    def _next_in_pass(self, candidates: list[str]) -> str | None:
        allowed = frozenset(candidates)
        while self._order:
            target = self._order.pop()
            if target in allowed:
                return target
        return None
