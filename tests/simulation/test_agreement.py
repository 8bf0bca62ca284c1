"""The checkers of what replicas must agree on, on what is right and what is not."""

from simulation.agreement import Committed, Effects, Leaders, Logs


def test_a_term_has_one_leader() -> None:
    """Two replicas that lead one group in one term are found; other terms and groups are other elections."""
    leaders = Leaders()
    assert leaders.elected("n1", 1, 4) is None
    assert leaders.elected("n1", 1, 4) is None
    assert leaders.elected("n2", 1, 5) is None
    assert leaders.elected("n2", 2, 4) is None
    assert leaders.elected("n3", 1, 4) == "n1 and n3 both lead group 1 in term 4"


def test_a_committed_entry_stays() -> None:
    """Whatever was committed at an index is what everyone ever has there: same term, same content."""
    logs = Logs()
    assert logs.committed("n1", 1, 7, Committed(2, 99)) is None
    assert logs.committed("n2", 1, 7, Committed(2, 99)) is None
    assert logs.committed("n2", 2, 7, Committed(1, 5)) is None
    assert logs.committed("n3", 1, 7, Committed(3, 99)) is not None
    assert logs.committed("n1", 1, 7, Committed(2, 98)) is not None


def test_applying_never_goes_back_within_a_life() -> None:
    """A crash may take a replica back to what it had synced; nothing else may."""
    logs = Logs()
    assert logs.applied("n1", 1, 3, 10) is None
    assert logs.applied("n2", 1, 3, 4) is None
    assert logs.applied("n1", 1, 3, 12) is None
    assert logs.applied("n1", 2, 3, 9) is None
    assert logs.applied("n1", 2, 3, 8) == "n1 has applied group 3 up to 8, after it had up to 9"


def test_a_request_takes_effect_once() -> None:
    """Each replica, and each replay, applies a request at the same index; a second index is a second effect."""
    effects = Effects()
    assert effects.took_effect(1, b"id", 5) is None
    assert effects.took_effect(1, b"id", 5) is None
    assert effects.took_effect(2, b"id", 6) is None
    assert effects.took_effect(1, b"id", 8) is not None
