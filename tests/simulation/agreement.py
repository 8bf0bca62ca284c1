"""What replicas of a group must agree on for ever, whatever crashes: fed by probes with what each of them says it did.

Each call says what breaks a rule, or None. The rules are the safety properties of Raft (Ongaro, figure 3.2) and P3.
"""

from typing import NamedTuple

from ringhold.node.consensus.configuration import Configuration


class Leaders:
    """Election safety: at most one leader per group and term."""

    def __init__(self) -> None:
        self._by_term: dict[tuple[int, int], str] = {}

    def elected(self, replica: str, group: int, term: int) -> str | None:
        """A replica says that it leads the group in this term; it may say so again."""
        first = self._by_term.setdefault((group, term), replica)
        return None if first == replica else f"{first} and {replica} both lead group {group} in term {term}"


class Votes:
    """One vote per replica and term, whatever its node has lost meanwhile; and nothing from replicas that are gone."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, int, int, int], str] = {}
        self._newest: dict[tuple[str, int], int] = {}
        self._gone: dict[tuple[str, int], int] = {}

    def spoke(self, node: str, group: int, number: int) -> str | None:
        """A replica of that number has sent something."""
        self._newest[node, group] = max(number, self._newest.get((node, group), 0))
        if number <= self._gone.get((node, group), -1):
            return f"replica {number} of group {group} on node {node} speaks, though it is gone"
        return None

    def voted(self, node: str, group: int, number: int, term: int, candidate: str) -> str | None:
        first = self._given.setdefault((node, group, number, term), candidate)
        if first == candidate:
            return None
        return f"replica {number} of group {group} on node {node} votes for {first} and for {candidate} in term {term}"

    def gone(self, node: str, group: int, number: int) -> None:
        """A node has said that its replica of that number, and any before it, never speaks again."""
        self._gone[node, group] = max(number, self._gone.get((node, group), -1))

    def forgotten(self, node: str) -> None:
        """A node has lost its engine: no replica that it has had may speak again."""
        for (owner, group), number in self._newest.items():
            if owner == node:
                self.gone(node, group, number)


class Promises:
    """What a replica has made durable outlives its process: its term, and how up to date its log is (5.4.1)."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int], tuple[int, tuple[int, int]]] = {}

    def made(self, machine: str, group: int, number: int, term: int, position: tuple[int, int]) -> None:
        """A replica has, durably, a term and a log that ends with this (term, index)."""
        self._kept[machine, group, number] = (term, position)

    def found(self, machine: str, group: int, number: int, term: int, position: tuple[int, int]) -> str | None:
        """A replica begins with these."""
        kept_term, kept = self._kept.get((machine, group, number), (0, (0, 0)))
        if term >= kept_term and position >= kept:
            return None
        return (
            f"replica {number} of group {group} on {machine} begins in term {term} with a log up to {position}; "
            f"it had term {kept_term} and a log up to {kept}"
        )

    def forgotten(self, machine: str) -> None:
        """A machine's disk was hurt: none of its replicas may begin again, which `Votes` watches over."""
        self._kept = {key: kept for key, kept in self._kept.items() if key[0] != machine}


class Committed(NamedTuple):
    """An entry that a replica holds as committed; `digest` covers its content."""

    term: int
    digest: int


class Logs:
    """State machine safety: one entry per index of a group, and no replica applies backwards within its life."""

    def __init__(self) -> None:
        self._committed: dict[tuple[int, int], tuple[Committed, str]] = {}
        self._applied: dict[tuple[str, int], tuple[object, int]] = {}
        self._states: dict[tuple[int, int], tuple[object, str]] = {}

    def committed(self, replica: str, group: int, index: int, entry: Committed) -> str | None:
        """A replica says which entry is committed at an index."""
        known, first = self._committed.setdefault((group, index), (entry, replica))
        if known == entry:
            return None
        return f"entry {index} of group {group} is {known} for {first} and {entry} for {replica}"

    def stands(self, replica: str, group: int, index: int, state: object) -> str | None:
        """A replica that has applied everything up to `index`, itself or by a snapshot, counts its rows."""
        known, first = self._states.setdefault((group, index), (state, replica))
        if known == state:
            return None
        return f"group {group} is at {index} {known} for {first} and {state} for {replica}"

    def applied(self, replica: str, life: object, group: int, index: int) -> str | None:
        """A replica, in the given life of it, has applied everything up to `index`."""
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


class Members:
    """Who is in a group changes one voter at a time, each change committed before the next (Ongaro, 4.1)."""

    def __init__(self) -> None:
        self._committed: dict[int, int] = {}

    def committed(self, group: int, index: int) -> None:
        """Some leader has committed the group's log up to `index`."""
        self._committed[group] = max(index, self._committed.get(group, 0))

    def appended(
        self, group: int, before: Configuration, before_index: int, after: Configuration, index: int
    ) -> str | None:
        """A leader appends a configuration at `index`, in place of one."""
        fresh = set(after.members.values()) - set(before.members.values())
        if any(member.number != index for member in fresh):
            return f"group {group} has {fresh} from entry {index} on: a replica's id is that of the entry that adds it"
        if before_index > self._committed.get(group, 0):
            return f"group {group} changes {before} of entry {before_index}, which is not committed, to {after}"
        changed = set(before.voters) ^ set(after.voters)
        learners = set(before.learners) | set(before.voters)
        if len(changed) > 1 or not set(after.voters) <= learners:
            return f"group {group} changes {before} to {after} in one step"
        return None

    def dropped(self, replica: str, group: int, index: int) -> str | None:
        """A replica is buried because the configuration at `index` does without it."""
        if index > self._committed.get(group, 0):
            return f"{replica} drops group {group} by the configuration of entry {index}, which is not committed"
        return None
