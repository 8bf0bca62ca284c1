"""What a read says in the end, when no attempt gave an answer."""

from ringhold.api.client.fate import ReadFate
from ringhold.api.errors import error_for


def test_a_read_that_ends_in_silence_tells_what_a_node_said_before() -> None:
    """A typed refusal says more than the timeout of the attempt after it."""
    fate = ReadFate()
    refusal = error_for("INCOMPLETE", "3 is missing", {"missing": "3"})
    assert fate.judge(refusal) is None
    for reason in ("NO_ANSWER", "NO_ENDPOINT", "DRAINING"):
        assert fate.judge(error_for(reason, "silence")) is None
    assert fate.ending() is refusal
