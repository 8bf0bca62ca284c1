"""What the mover does next, for every way in which a group can differ from its targets."""

import pytest
from support.ring_nodes import node_records

from ringhold.node.moving.steps import (
    COPIES_PER_SOURCE_MAX,
    COPIES_PER_TARGET_MAX,
    REMOVALS_PER_ROUND_MAX,
    Add,
    Copies,
    Placement,
    Remove,
    Step,
    next_step,
    next_steps,
    reached,
)
from ringhold.ring.placement import found
from ringhold.ring.topology import Topology

TARGETS = ("a", "b", "d")


def placed(
    voters: str, learners: str = "", *, dispensable: str = "abcdef", leader: str = "b", is_committed: bool = True
) -> Placement:
    return Placement(1, leader, 7, is_committed, tuple(voters), tuple(learners), frozenset(dispensable))


def add(node: str) -> Add:
    return Add(1, "b", 7, node)


def remove(node: str, leader: str = "b") -> Remove:
    return Remove(1, leader, 7, node)


@pytest.mark.parametrize(
    ("placement", "dead", "step"),
    [
        (placed("abd"), "", None),
        (placed("abc"), "", add("d")),
        (placed("abc"), "d", None),
        (placed("abc", is_committed=False), "", None),
        (placed("abc", "d"), "", None),
        (placed("abc", "d"), "d", None),
        (placed("abc", "e"), "", remove("e")),
        (placed("abc", "e"), "e", remove("e")),
        (placed("abcd"), "", remove("c")),
        (placed("abcd", dispensable="abd"), "", None),
        (placed("ab"), "", add("d")),
        (placed("bc"), "", add("a")),
        (placed("bc"), "a", add("d")),
        (placed("bce"), "", add("a")),
        (placed("abce"), "", remove("c")),
        (placed("abce"), "e", remove("e")),
        (placed("abde"), "", remove("e")),
        (placed("abdc", leader="c"), "", remove("c", "c")),
        (placed("abdce", leader="c"), "", remove("e", "c")),
        (placed("cef"), "", add("a")),
    ],
)
def test_one_step(placement: Placement, dead: str, step: Step | None) -> None:
    """A newcomer before who leaves, strays first, the dead before the living, the leader last, never two at once."""
    assert next_step(TARGETS, placement, lambda node: node not in dead, Copies([])) == step


def topology_of(targets: tuple[tuple[str, ...], ...]) -> Topology:
    nodes = node_records(6)
    return found("c", "c1", 8, 3, nodes).with_targets(targets)


def test_copies_are_bounded_per_target_and_per_source() -> None:
    """More newcomers than that wait, whoever sends them what they lack; other targets and sources go on."""
    ids = [node.id for node in node_records(6)]
    topology = topology_of(((ids[0], ids[1], ids[5]),) * 8)
    placements = {
        group: Placement(group, ids[group % 2], 1, True, (ids[0], ids[1], ids[2]), (), frozenset(ids))
        for group in range(1, 9)
    }
    steps = next_steps(topology, placements, lambda node: True)
    assert len(steps) == COPIES_PER_TARGET_MAX
    placements = {group: each for group, each in placements.items() if each.leader == ids[0]}
    more = {group + 4: Placement(group + 4, ids[0], 1, True, (ids[0], ids[1]), ()) for group in (1, 3)}
    assert len(next_steps(topology, placements | more, lambda node: True)) <= COPIES_PER_SOURCE_MAX


def test_groups_that_have_lost_a_voter_come_first() -> None:
    """Where one more failure would stop writes there is no time to lose."""
    ids = [node.id for node in node_records(6)]
    topology = topology_of(((ids[0], ids[1], ids[5]),) * 8)
    healthy, hurt = (ids[0], ids[1], ids[2]), (ids[0], ids[1], ids[4])
    placements = {
        group: Placement(group, ids[0], 1, True, hurt if group == 8 else healthy, (), frozenset(ids))
        for group in range(1, 9)
    }
    steps = next_steps(topology, placements, lambda node: node != ids[4])
    assert steps[0].group == 8


def test_removals_of_a_round_are_bounded() -> None:
    """So that a round's requests, and the handovers that come with them, are bounded too (P8)."""
    ids = [node.id for node in node_records(6)]
    big = found("c", "c1", 32, 3, node_records(6)).with_targets(((ids[0], ids[1], ids[5]),) * 32)
    full = {
        group: Placement(group, ids[0], 1, True, (ids[0], ids[1], ids[5], ids[2]), (), frozenset(ids))
        for group in range(1, 33)
    }
    assert len(next_steps(big, full, lambda node: True)) == REMOVALS_PER_ROUND_MAX


def test_only_committed_members_without_learners_count_as_reached() -> None:
    """What may be undone, or is still being copied, is no place to have arrived at."""
    some = [placed("abd"), placed("abc", "d"), placed("abd", is_committed=False)]
    assert list(reached(some)) == [(1, frozenset("abd"))]
