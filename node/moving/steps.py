"""What to do next so that every group comes to be where the topology wants it: a pure function of what was reported.

Nothing is remembered between two calls, so any node may go on where another one stopped, orders may be taken back at
any moment, and two movers at once do no harm: each step names the configuration that it was decided on. See
docs/protocols/moves.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ...ring.topology import Topology

COPIES_PER_TARGET_MAX = 4
"""Learners on one node at a time. More wait in its installer anyway; fewer leave it idle between two rounds."""

COPIES_PER_SOURCE_MAX = 4
"""Learners that one leader serves at a time."""

REMOVALS_PER_ROUND_MAX = 16


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a group is, as its leader has just said.

    `is_committed`: the configuration can't be undone any more. `dispensable`: the voters without whom a majority of the
    others is live and has caught up.
    """

    group: int
    leader: str
    configuration_index: int
    is_committed: bool
    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()
    dispensable: frozenset[str] = frozenset()

    @property
    def members(self) -> frozenset[str]:
        return frozenset((*self.voters, *self.learners))


@dataclass(frozen=True, slots=True)
class Add:
    """Have the leader of a group append a learner."""

    group: int
    leader: str
    configuration_index: int
    node: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Have the leader of a group append that a member is one no longer."""

    group: int
    leader: str
    configuration_index: int
    node: str


Step: TypeAlias = Add | Remove


def next_steps(topology: Topology, placements: Mapping[int, Placement], is_alive: Callable[[str], bool]) -> list[Step]:
    """The steps that may be taken now, one per group at most; groups that have lost a voter come first.

    `placements` are of the groups whose leaders were heard; the others wait. `is_alive` is gossip's word: it orders and
    delays, it never decides where anything belongs.
    """
    copies = Copies(placements.values())
    removals = 0
    steps: list[Step] = []
    for placement in sorted(placements.values(), key=lambda each: (all(map(is_alive, each.voters)), each.group)):
        step = next_step(topology.targets_of(placement.group), placement, is_alive, copies)
        if isinstance(step, Add):
            copies.begin(step)
        elif step is not None:
            removals += 1
            if removals > REMOVALS_PER_ROUND_MAX:
                continue
        if step is not None:
            steps.append(step)
    return steps


def next_step(
    targets: tuple[str, ...], placement: Placement, is_alive: Callable[[str], bool], copies: "Copies"
) -> Step | None:
    """One change at a time (Ongaro, 4.1), a newcomer before who leaves (DESIGN section 8.2); None: wait."""
    if not placement.is_committed:
        return None
    strays = [node for node in placement.learners if node not in targets]
    surplus = [node for node in placement.voters if node not in targets]
    if strays:
        return _removal(placement, strays[0])
    if any(map(is_alive, placement.learners)):
        return None  # it catches up, and then its leader lets it vote
    if surplus and len(placement.voters) > len(targets):
        return _first_removal(placement, surplus, is_alive)
    missing = [node for node in targets if node not in placement.members]
    if missing:
        able = (node for node in missing if is_alive(node) and copies.has_room(placement.leader, node))
        node = next(able, None)
        return None if node is None else Add(placement.group, placement.leader, placement.configuration_index, node)
    return _first_removal(placement, surplus, is_alive) if not placement.learners else None


def _first_removal(placement: Placement, surplus: Iterable[str], is_alive: Callable[[str], bool]) -> Step | None:
    """The dead go first, the leader last: it must hand over before."""
    able = [node for node in surplus if node in placement.dispensable]
    able.sort(key=lambda node: (is_alive(node), node == placement.leader))
    return _removal(placement, able[0]) if able else None


def _removal(placement: Placement, node: str) -> Remove:
    return Remove(placement.group, placement.leader, placement.configuration_index, node)


class Copies:
    """How many copies are under way to each node, and from each."""

    def __init__(self, placements: Iterable[Placement]) -> None:
        self._to: Counter[str] = Counter()
        self._from: Counter[str] = Counter()
        for placement in placements:
            for node in placement.learners:
                self._count(placement.leader, node)

    def has_room(self, source: str, target: str) -> bool:
        """Whether one more may begin."""
        return self._to[target] < COPIES_PER_TARGET_MAX and self._from[source] < COPIES_PER_SOURCE_MAX

    def begin(self, step: Add) -> None:
        self._count(step.leader, step.node)

    def _count(self, source: str, target: str) -> None:
        self._to[target] += 1
        self._from[source] += 1


def reached(placements: Iterable[Placement]) -> Iterator[tuple[int, frozenset[str]]]:
    """The groups whose members can be relied on, and the nodes of these: the argument of `ring.changes.settle`."""
    for placement in placements:
        if placement.is_committed and not placement.learners:
            yield placement.group, frozenset(placement.voters)
