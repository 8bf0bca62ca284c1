"""Merging is the same whatever the order, the grouping and the number of times in which facts arrive."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st
from support.gossip import member

from ringhold.gossip.member import Fact, Member, MemberState, heard, merged, remembered
from ringhold.gossip.table import MemberTable

views = st.builds(
    member,
    node_id=st.just("b"),
    generation=st.integers(1, 3),
    nonce=st.integers(1, 2),
    incarnation=st.integers(0, 3),
    state=st.sampled_from(MemberState),
    topology_epoch=st.integers(0, 2),
    name=st.sampled_from(["x", "y"]),
)


@given(views, views)
def test_merge_is_commutative(left: Member, right: Member) -> None:
    """The order of two views does not matter."""
    assert merged(left, right) == merged(right, left)


@given(views, views, views)
def test_merge_is_associative(first: Member, second: Member, third: Member) -> None:
    """The grouping of three views does not matter."""
    assert merged(merged(first, second), third) == merged(first, merged(second, third))


@given(views)
def test_merge_is_idempotent(view: Member) -> None:
    """A view heard twice changes nothing."""
    assert merged(view, view) == view


@given(st.lists(views, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_merge_is_total(arrivals: list[Member], rng: object) -> None:
    """Any order of arrival, repeats included, ends with the same one of the views."""
    shuffled = [*arrivals, *arrivals]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reduce(merged, shuffled) == reduce(merged, arrivals)
    assert reduce(merged, arrivals) in arrivals


@given(views, views)
def test_attributes_change_only_with_the_incarnation(left: Member, right: Member) -> None:
    """A higher state of the same incarnation, derived by an observer, keeps the subject's own attributes."""
    accused = merged(left, member("b", **{**_fields(left), "state": MemberState.DEAD}))
    assert (accused.name, accused.topology_epoch) == (left.name, left.topology_epoch)
    assert merged(left, right).incarnation <= max(left.incarnation, right.incarnation)


@given(views)
def test_a_death_at_second_hand_is_a_suspicion(view: Member) -> None:
    """Hearing never yields DEAD, and changes nothing else."""
    assert heard(view).state is (MemberState.SUSPECT if view.state is MemberState.DEAD else view.state)


@given(views, views)
def test_any_word_of_a_running_node_beats_memory(memory: Member, view: Member) -> None:
    """What was kept over a restart never wins against a running incarnation of the same boot."""
    running = member("b", **{**_fields(view), "generation": memory.generation, "nonce": memory.nonce, "incarnation": 1})
    assert merged(remembered(memory), running) == running


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from(MemberState)), max_size=12))
def test_the_reachable_are_counted_as_they_change(steps: list[tuple[str, MemberState | None]]) -> None:
    """However members come, change and go (None), the count is that of those that may be alive."""
    table = MemberTable()
    for node_id, state in steps:
        if state is None:
            table.remove(node_id)
        else:
            table.put(Fact(member(node_id, state=state)))
        assert table.reachable_count == len(table.reachable())


def _fields(view: Member) -> dict[str, object]:
    return {name: getattr(view, name) for name in Member.__slots__ if name != "node_id"}
