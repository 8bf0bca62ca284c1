"""The checkers of what replicas must agree on, on what is right and what is not."""

from simulation.agreement import Committed, Effects, Leaders, Logs, Promises, Votes


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


def test_a_replica_votes_once_in_a_term() -> None:
    """Whatever its node has lost meanwhile; a replica of another id is another voter."""
    votes = Votes()
    assert votes.voted("n1", 1, 0, 4, "n2") is None
    assert votes.voted("n1", 1, 0, 4, "n2") is None
    assert votes.voted("n1", 1, 9, 4, "n3") is None
    assert votes.voted("n1", 1, 0, 5, "n3") is None
    assert votes.voted("n1", 1, 0, 4, "n3") is not None


def test_a_replica_that_is_gone_is_silent_for_ever() -> None:
    """One that its node has said to be gone, or whose engine was lost, and none before it; later ones may speak."""
    votes = Votes()
    assert votes.spoke("n1", 1, 7) is None
    votes.gone("n1", 1, 7)
    assert votes.spoke("n1", 1, 7) is not None
    assert votes.spoke("n1", 1, 0) is not None
    assert votes.spoke("n1", 1, 12) is None
    assert votes.spoke("n1", 2, 0) is None
    votes.forgotten("n1")
    assert [votes.spoke("n1", group, number) is None for group, number in ((1, 12), (1, 13), (2, 0))] == [
        False,
        True,
        False,
    ]


def test_what_was_durable_is_there_after_a_restart() -> None:
    """Neither the term goes back nor the end of the log, unless the disk was hurt: then nobody may rely on it."""
    promises = Promises()
    promises.made("n1", 1, 0, 4, (3, 20))
    assert promises.found("n1", 1, 0, 4, (3, 20)) is None
    assert promises.found("n1", 1, 0, 5, (4, 11)) is None
    assert promises.found("n1", 1, 0, 4, (3, 19)) is not None
    assert promises.found("n1", 1, 0, 3, (3, 20)) is not None
    assert promises.found("n1", 1, 21, 0, (0, 0)) is None
    promises.forgotten("n1")
    assert promises.found("n1", 1, 0, 0, (0, 0)) is None


def test_replicas_count_the_same_at_the_same_index() -> None:
    """However they came there: entry by entry, or by a snapshot."""
    logs = Logs()
    assert logs.stands("n1", 1, 7, (5, 2)) is None
    assert logs.stands("n2", 1, 7, (5, 2)) is None
    assert logs.stands("n2", 1, 8, (6, 2)) is None
    assert logs.stands("n3", 1, 7, (5, 1)) is not None
