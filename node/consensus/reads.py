"""ReadIndex: a leader without a lease asks a majority whether it still leads, once for all reads that wait.

Section 6.4 of the dissertation. A read joins only a round that is sent after it came; rounds are numbered within a term
and say their group and term, so that a late answer counts for nothing else.
"""

from typing import Generic, TypeVar

Ticket = TypeVar("Ticket")


class ReadRounds(Generic[Ticket]):
    """The reads of one group that wait for a round, and those whose round is under way."""

    def __init__(self) -> None:
        self.round = 0
        self._waiting: list[Ticket] = []
        self._asked: list[Ticket] = []
        self._confirmed_by: dict[str, None] = {}
        self.sent_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._asked)

    def add(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)

    @property
    def is_under_way(self) -> bool:
        return bool(self._asked)

    def begin(self, own_node: str, now: float) -> bool:
        """Start the next round, for all that wait, unless one is under way; whether one was started."""
        if self._asked or not self._waiting:
            return False
        self._asked, self._waiting = self._waiting, []
        self.round += 1
        self.sent_at = now
        self._confirmed_by = {own_node: None}
        return True

    def confirmed(self, node_id: str, round_number: int) -> None:
        if round_number == self.round and self._asked:
            self._confirmed_by[node_id] = None

    def is_won(self, voters: tuple[str, ...], quorum: int) -> bool:
        """Whether a majority has confirmed the round under way."""
        return bool(self._asked) and sum(node in self._confirmed_by for node in voters) >= quorum

    def take_asked(self) -> list[Ticket]:
        """The reads of the round, which is over."""
        asked, self._asked = self._asked, []
        return asked

    def take_all(self) -> list[Ticket]:
        """Every read that waits, in whatever way."""
        tickets = self._asked + self._waiting
        self._asked, self._waiting = [], []
        return tickets
