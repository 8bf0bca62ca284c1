"""What one node holds about all others: one fact each, with what is asked of them together."""

from collections.abc import Iterator, Mapping

from .member import Fact, Member, MemberState


class MemberTable:
    """Facts by node id, in the order in which the members became known. Knows nothing of how facts are merged."""

    def __init__(self) -> None:
        self._facts: dict[str, Fact] = {}
        self._reachable_count = 0

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def facts(self) -> Mapping[str, Fact]:
        """All facts by node id; not to be kept over a change."""
        return self._facts

    @property
    def reachable_count(self) -> int:
        """How many are reachable. Counted as they change: a suspicion needs it, and many may come at once."""
        return self._reachable_count

    def fact(self, node_id: str) -> Fact | None:
        """What is held about the node, None if nothing is."""
        return self._facts.get(node_id)

    def member(self, node_id: str) -> Member | None:
        """The member of that id, None if there is none."""
        fact = self._facts.get(node_id)
        return fact.member if fact else None

    def members(self) -> Iterator[Member]:
        """All members."""
        return (fact.member for fact in self._facts.values())

    def reachable(self) -> list[Member]:
        """Those that may be alive."""
        return [member for member in self.members() if member.is_reachable]

    def in_state(self, *states: MemberState) -> Iterator[Member]:
        """Those in one of the states."""
        return (member for member in self.members() if member.state in states)

    def put(self, fact: Fact) -> None:
        """Hold `fact` in place of what was held about its member."""
        before = self.member(fact.member.node_id)
        self._facts[fact.member.node_id] = fact
        self._reachable_count += _reachable(fact.member) - _reachable(before)

    def remove(self, node_id: str) -> Member | None:
        """Hold nothing about the member any more; what was held last."""
        member = self.member(node_id)
        self._facts.pop(node_id, None)
        self._reachable_count -= _reachable(member)
        return member


def _reachable(member: Member | None) -> int:
    return 1 if member is not None and member.is_reachable else 0
