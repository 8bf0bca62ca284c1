"""What the client's core keeps of what it hears, so that every doubt can be resolved: ids, keys and log times."""

from typing import Any

import pytest
from support.client_core import PARTITIONS, batch_results, error, fail_attempts, told_core

from ringhold.api.client.calls import Answered, Failed, Finish
from ringhold.api.client.operations import Set
from ringhold.api.commands import MUTATIONS_PER_COMMAND_MAX, command_id
from ringhold.api.errors import RingholdError
from ringhold.ring.hashing import partition_of


def test_each_doubt_of_a_batch_names_its_own_key_and_command() -> None:
    """The gateway cuts the mutations of a partition into commands; without a word from it the client counts alike."""
    core = told_core()
    keys = [key for key in (b"k%d" % n for n in range(900)) if partition_of(key, PARTITIONS) == 1]
    own = [Set("own", "v", request_id=b"own id", anchor=6_000)]
    call = core.batch([*own, *(Set(key, "v") for key in keys)], b"batch id", None)
    _, ended = fail_attempts(call, call.start(0.0), error("CONNECTION_LOST"))
    assert isinstance(ended, Finish)
    assert len(keys) > 2 * MUTATIONS_PER_COMMAND_MAX
    first, *others = ended.result
    assert (first.key, first.request_id, first.anchor) == (b"own", b"own id", 6_000)
    assert [(doubt.key, doubt.request_id, doubt.anchor) for doubt in others] == [
        (key, command_id(b"batch id", place), 7_000) for place, key in enumerate(keys)
    ]
    assert {doubt.request_id for doubt in others} == {b"batch id", b"batch id/1", b"batch id/2"}


@pytest.mark.parametrize("reason", ["KEY_NOT_FOUND", "REQUEST_ID_REUSED", "REQUEST_ABORTED", "DEDUPE_FULL"])
def test_errors_teach_the_log_time_of_their_partition(reason: str) -> None:
    """An answer of the group's leader carries it, whatever it says; in a batch too."""
    for anchor_of in (anchor_after_a_set, anchor_after_a_batch):
        assert anchor_of(error(reason, log_time_ms="9000")) == 9_000


def anchor_after_a_set(taught: RingholdError) -> int:
    core = told_core()
    call = core.set("k", "v", None, b"first", None, 0.5)
    call.start(0.0)
    call.handle(Failed(taught), 0.0)
    effect: Any = core.set("k", "v", None, None, None, None).start(0.0)
    return int(effect.request.anchor)


def anchor_after_a_batch(taught: RingholdError) -> int:
    core = told_core()
    call = core.batch([Set("k", "v")], b"first", 0.5)
    effect: Any = call.start(0.0)
    call.handle(Answered(batch_results(effect.request, {b"k": taught})), 0.0)
    effect = core.set("k", "v", None, None, None, None).start(0.0)
    return int(effect.request.anchor)
