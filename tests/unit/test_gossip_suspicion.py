"""How long a suspect has, how often a fact is told, and in which order members are probed."""

import random

import pytest
from support.gossip import member

from ringhold.gossip.broadcast import FactQueue
from ringhold.gossip.config import GossipConfig, lan, local, wan
from ringhold.gossip.member import Fact, MemberState
from ringhold.gossip.rotation import ProbeRotation
from ringhold.gossip.suspicion import Suspicion, suspicion_timeout_s


@pytest.mark.parametrize(
    ("members", "confirmations", "seconds"),
    [(1, 0, 4.0), (3, 0, 4.0), (3, 5, 4.0), (4, 0, 24.0), (4, 2, 4.0), (4, 9, 4.0), (100, 0, 48.0), (1000, 2, 12.0)],
)
def test_suspicion_times(members: int, confirmations: int, seconds: float) -> None:
    """Below four members there are no confirmations; above, they bring the time from max to min and no further."""
    assert suspicion_timeout_s(members, confirmations, GossipConfig()) == pytest.approx(seconds)


def test_only_independent_accusers_shorten_a_suspicion() -> None:
    """The first accuser's word counts once, and no more than k others are wanted."""
    doubted = Suspicion(Fact(member(state=MemberState.SUSPECT), "x"), 100.0, 10, GossipConfig())
    assert doubted.expires_at == pytest.approx(124.0)
    assert [doubted.confirm(accuser) for accuser in ("x", "y", "y", "z", "w")] == [False, True, False, True, False]
    assert doubted.expires_at == pytest.approx(104.0)


def test_time_not_running_here_does_not_count() -> None:
    """A postponed suspicion ends that much later."""
    doubted = Suspicion(Fact(member(state=MemberState.SUSPECT), "x"), 100.0, 3, GossipConfig())
    doubted.postpone(7.0)
    assert doubted.expires_at == pytest.approx(111.0)


def test_facts_are_told_least_told_first_and_a_bounded_number_of_times() -> None:
    """A new fact goes before an older one, and leaves the queue after its last transmission."""
    queue = FactQueue()
    first, second = Fact(member("b")), Fact(member("c"))
    queue.put(first)
    assert queue.take(1, 3) == (first,)
    queue.put(second)
    assert [queue.take(1, 3) for _ in range(6)] == [(second,), (second,), (first,), (second,), (first,), ()]


def test_a_newer_fact_replaces_what_waits() -> None:
    """Only the newest about a member is told, and from the beginning."""
    queue = FactQueue()
    queue.put(Fact(member("b")))
    queue.take(9, 2)
    newer = Fact(member("b", incarnation=2))
    queue.put(newer)
    assert [queue.take(9, 2) for _ in range(3)] == [(newer,), (newer,), ()]
    queue.put(newer)
    queue.forget("b")
    assert not queue


def test_everybody_is_probed_once_per_pass() -> None:
    """Each pass holds each candidate once; newcomers get a turn in the current pass, the departed none."""
    rotation = ProbeRotation(random.Random(1))
    ids = ["a", "b", "c", "d"]
    assert sorted(str(rotation.next_of(ids)) for _ in ids) == ids
    assert rotation.next_of(ids) in ids
    rotation.insert("e")
    rest = [str(rotation.next_of(["a", "b", "c", "d", "e"])) for _ in range(4)]
    assert "e" in rest
    assert len(set(rest)) == 4
    assert rotation.next_of(["b"]) == "b"
    assert rotation.next_of([]) is None


@pytest.mark.parametrize("preset", [local, lan, wan])
def test_presets_are_valid(preset: object) -> None:
    """Each preset keeps the rules between its fields."""
    assert isinstance(preset(), GossipConfig)  # type: ignore[operator]


@pytest.mark.parametrize(
    "wrong", [{"probe_timeout_s": 2.0}, {"relay_timeout_share": 1.0}, {"suspicion_stretch": 0.5}, {"tick_s": 0.0}]
)
def test_wrong_settings_are_named(wrong: dict[str, float]) -> None:
    """Figures that contradict each other are refused with the rule that they break."""
    with pytest.raises(ValueError, match="gossip: "):
        GossipConfig(**wrong)  # type: ignore[arg-type]
