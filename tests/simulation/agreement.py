"""What replicas of a group must agree on for ever, whatever crashes: fed by probes with what each of them says it did.

Each call says what breaks a rule, or None. The rules are the safety properties of Raft (Ongaro, figure 3.2) and P3.
"""

from typing import NamedTuple


class Leaders:
    """Election safety: at most one leader per group and term."""

    def __init__(self) -> None:
        self._by_term: dict[tuple[int, int], str] = {}

    def elected(self, replica: str, group: int, term: int) -> str | None:
        """A replica says that it leads the group in this term; it may say so again."""
        first = self._by_term.setdefault((group, term), replica)
        return None if first == replica else f"{first} and {replica} both lead group {group} in term {term}"


class Committed(NamedTuple):
    """An entry that a replica holds as committed; `digest` covers its content."""

    term: int
    digest: int


class Logs:
    """State machine safety: one entry per index of a group, and no replica applies backwards within its life."""

    def __init__(self) -> None:
        self._committed: dict[tuple[int, int], tuple[Committed, str]] = {}
        self._applied: dict[tuple[str, int], tuple[int, int]] = {}

    def committed(self, replica: str, group: int, index: int, entry: Committed) -> str | None:
        """A replica says which entry is committed at an index."""
        known, first = self._committed.setdefault((group, index), (entry, replica))
        if known == entry:
            return None
        return f"entry {index} of group {group} is {known} for {first} and {entry} for {replica}"

    def applied(self, replica: str, life: int, group: int, index: int) -> str | None:
        """A replica, in the given life of its process, has applied everything up to `index`."""
        last_life, last_index = self._applied.get((replica, group), (life, 0))
        self._applied[replica, group] = (life, index)
        if life == last_life and index < last_index:
            return f"{replica} has applied group {group} up to {index}, after it had up to {last_index}"
        return None


class Effects:
    """At most once: one request takes effect at one index of its group, on all replicas."""

    def __init__(self) -> None:
        self._effects: dict[tuple[int, bytes], int] = {}

    def took_effect(self, group: int, request_id: bytes, index: int) -> str | None:
        """The command of a request changed rows when the entry at `index` was applied; a replay may say so again."""
        first = self._effects.setdefault((group, request_id), index)
        if first == index:
            return None
        return f"request {request_id.hex()} took effect in group {group} at {first} and again at {index}"
