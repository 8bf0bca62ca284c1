"""What nodes promise each other by beats: what one counts ends before what the other promised (DESIGN section 7)."""

import pytest

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat
from ringhold.node.consensus.support import COUNTED_S, DRIFT_MAX, RESTART_HOLD_S, SENT_KEPT_MAX, SUPPORT_S, Support


def exchange(leader: Support, follower: Support, sent: float, heard: float, answered: float) -> None:
    """L's beat, F's answer to it."""
    follower.hear("L", leader.beat("F", sent), heard)
    leader.hear("F", follower.beat("L", heard), answered)


@pytest.mark.parametrize("late", [0.0, 0.3, 0.8])
def test_what_is_counted_ends_before_what_is_promised(late: float) -> None:
    """F promises D from receipt, L counts 0.9 D from sending, whatever the messages take."""
    leader, follower = Support(1), Support(1)
    exchange(leader, follower, 10.0, 10.0 + late, 10.0 + 2 * late)
    epoch = follower.epoch("L")
    assert leader.counted_until("F", epoch) == pytest.approx(10.0 + COUNTED_S)
    assert follower.promised_until("L", epoch) == pytest.approx(10.0 + late + SUPPORT_S)


def test_clocks_may_differ_by_a_tenth() -> None:
    """P7: what L counts on a slow clock ends within what F promises, or a restarted F waits, on a fast one."""
    assert COUNTED_S / (1 - DRIFT_MAX) <= SUPPORT_S
    assert RESTART_HOLD_S >= SUPPORT_S * (1 + DRIFT_MAX)


def test_a_beat_that_was_lost_renews_nothing() -> None:
    """L counts from the beat that F names, not from its newest."""
    leader, follower = Support(1), Support(1)
    follower.hear("L", leader.beat("F", 10.0), 10.0)
    leader.beat("F", 10.5)
    leader.hear("F", follower.beat("L", 10.6), 10.6)
    assert leader.counted_until("F", follower.epoch("L")) == pytest.approx(10.0 + COUNTED_S)


def test_a_late_beat_takes_nothing_back() -> None:
    """Beats may be reordered and repeated: the newest that was heard counts."""
    leader, follower = Support(1), Support(1)
    first, second = leader.beat("F", 10.0), leader.beat("F", 10.2)
    for beat, moment in ((second, 10.3), (first, 10.4), (second, 10.5)):
        follower.hear("L", beat, moment)
    early, late = Beat(), follower.beat("L", 10.5)
    early.CopyFrom(late)
    early.heard = first.number
    for beat in (late, early):
        leader.hear("F", beat, 10.6)
    assert leader.counted_until("F", follower.epoch("L")) == pytest.approx(10.2 + COUNTED_S)


def test_an_epoch_ends_when_support_has_lapsed() -> None:
    """In the gap F may have voted for another: what it acknowledged before counts no more."""
    leader, follower = Support(1), Support(1)
    exchange(leader, follower, 10.0, 10.0, 10.0)
    before = follower.epoch("L")
    exchange(leader, follower, 10.9, 10.9, 10.9)
    assert follower.epoch("L") == before
    exchange(leader, follower, 12.0, 12.0, 12.0)
    assert follower.epoch("L") > before
    assert leader.counted_until("F", before) < 0
    assert follower.promised_until("L", before) < 12.0


def test_an_epoch_ends_with_the_session_and_its_promise_stands_until_it_lapses() -> None:
    """L must hear anew what F follows; F stays bound by what L may still count on."""
    leader, follower = Support(1), Support(1)
    exchange(leader, follower, 10.0, 10.0, 10.0)
    before = follower.epoch("L")
    follower.break_off("L", 10.1)
    follower.break_off("L", 10.2)
    exchange(leader, follower, 10.5, 10.5, 10.5)
    assert follower.promised_until("L", before) == pytest.approx(11.0)
    assert follower.promised_until("L", follower.epoch("L")) == pytest.approx(11.5)
    assert leader.counted_until("F", before) < 0


def test_a_new_generation_frees_from_all_promises_to_the_one_before() -> None:
    """Who has restarted leads nothing and counts on nothing."""
    follower = Support(1)
    assert follower.hear("L", Support(1).beat("F", 10.0), 10.0)
    old, reborn = follower.epoch("L"), Support(2)
    assert follower.hear("L", reborn.beat("F", 0.0), 10.2)
    assert follower.promised_until("L", old) < 10.2
    assert not follower.hear("L", Support(1).beat("F", 10.3), 10.3)
    assert not follower.hear("L", reborn.beat("F", 0.1), 10.4)


def test_support_for_an_earlier_life_is_not_counted() -> None:
    """The numbers of beats begin anew with each generation."""
    before, follower, reborn = Support(1), Support(1), Support(2)
    follower.hear("L", before.beat("F", 10.0), 10.0)
    reborn.beat("F", 10.1)
    reborn.hear("F", follower.beat("L", 10.2), 10.2)
    assert reborn.counted_until("F", follower.epoch("L")) < 0


def test_epochs_grow_over_restarts() -> None:
    """A restarted F has forgotten what it follows; its epochs are later than all that it had."""
    assert Support(2).epoch("L") > Support(1).epoch("L") + 1_000_000


def test_a_beat_sent_too_long_ago_is_not_remembered() -> None:
    """P8: what is kept of the beats sent has a bound, well above the time of support."""
    leader = Support(1)
    numbers = [leader.beat("F", float(moment)).number for moment in range(SENT_KEPT_MAX + 1)]
    assert leader.sent_at("F", numbers[0]) is None
    assert leader.sent_at("F", numbers[1]) == 1.0


def test_the_newest_beat_says_whether_a_peer_wants_leaderships() -> None:
    """An older one that comes late changes nothing."""
    follower, leader = Support(1), Support(1)
    first, second = leader.beat("F", 1.0), leader.beat("F", 2.0)
    second.reluctant = True
    for beat in (second, first):
        follower.hear("L", beat, 3.0)
    assert follower.is_reluctant("L")
    follower.hear("L", leader.beat("F", 4.0), 4.0)
    assert not follower.is_reluctant("L")


def test_a_peer_is_alive_while_it_is_supported() -> None:
    """Liveness between replicas is that of beats."""
    follower = Support(1)
    assert not follower.is_alive("L", 0.0)
    follower.hear("L", Support(1).beat("F", 1.0), 1.0)
    assert follower.is_alive("L", 1.99)
    assert not follower.is_alive("L", 2.01)
