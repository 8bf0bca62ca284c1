"""What a request says in the end, when no attempt gave an answer."""

from ringhold.api.client.fate import MutationFate, ReadFate
from ringhold.api.errors import error_for


def test_a_read_that_ends_in_silence_tells_what_a_node_said_before() -> None:
    """A typed refusal says more than the timeout of the attempt after it."""
    fate = ReadFate()
    refusal = error_for("INCOMPLETE", "3 is missing", {"missing": "3"})
    assert fate.judge(refusal) is None
    for reason in ("NO_ANSWER", "NO_ENDPOINT", "DRAINING"):
        assert fate.judge(error_for(reason, "silence")) is None
    assert fate.ending() is refusal


def test_a_mutation_that_ends_at_a_dead_endpoint_tells_what_a_node_said_before() -> None:
    """Whoever looks for the cause needs the node's count of those that are missing, not that one of them is dead."""
    fate = MutationFate(b"id", b"k", anchor=1)
    refusal = error_for("NO_QUORUM", "no leader", {"needed": "2", "alive": "1"})
    for error in (error_for("NO_ENDPOINT", "gone"), refusal, error_for("NO_ENDPOINT", "gone")):
        assert fate.judge(error) is None
    assert fate.ending() is refusal
