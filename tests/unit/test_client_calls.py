"""The client's core: when a call is repeated, where, and how it ends. No network: events in, effects out."""

import random
from typing import Any

import pytest
from support.client_core import (
    ENDPOINTS,
    batch_results,
    error,
    fail_attempts,
    header,
    key_led_by,
    keys_of,
    new_core,
    next_send,
    told_core,
    topology,
)

from ringhold.api.client.calls import Answered, Fail, Failed, Finish, Send, Sleep, Slept
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.core import Core
from ringhold.api.client.operations import Delete, Get, Set
from ringhold.api.client.results import Record
from ringhold.api.errors import RingholdError
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2

AMBIGUOUS = ["NO_ANSWER", "CONNECTION_LOST", "UNKNOWN", "IN_DOUBT"]
REFUSED = ["NO_QUORUM", "NOT_READY", "DRAINING", "NO_ENDPOINT", "OVERLOADED", "DEDUPE_FULL"]


def test_the_first_call_asks_for_the_topology_and_the_next_does_not() -> None:
    """It is fetched lazily, once."""
    core = new_core()
    call = core.get("k", None)
    effect = call.start(0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, cluster_pb2.TopologyRequest)
    effect = call.handle(Answered(topology()), 0.0)
    assert isinstance(effect, Send)
    assert effect.request == kv_pb2.GetRequest(key=b"k")
    following = core.get("k", None).start(1.0)
    assert isinstance(following, Send)
    assert isinstance(following.request, kv_pb2.GetRequest)


@pytest.mark.parametrize("address", ENDPOINTS)
def test_a_key_is_asked_of_its_owner(address: str) -> None:
    """With the topology known, the partition's leader gets the call."""
    effect = told_core().get(key_led_by(address), None).start(0.0)
    assert isinstance(effect, Send)
    assert effect.address == address


def test_without_a_topology_any_endpoint_serves() -> None:
    """A failed question for the topology does not stop a read."""
    core = new_core()
    call = core.get("k", None)
    call.start(0.0)
    effect = call.handle(Failed(error("UNIMPLEMENTED")), 0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.GetRequest)


def test_a_failed_owner_is_left_at_once_and_avoided_by_the_next_call() -> None:
    """The other endpoint is asked without a pause, and first from then on."""
    core = told_core()
    key = key_led_by("a:1")
    call = core.get(key, None)
    call.start(5.0)
    effect = call.handle(Failed(error("NO_ENDPOINT")), 5.0)
    assert isinstance(effect, Send), "no pause"
    assert effect.address == "b:1"
    assert isinstance(effect.request, cluster_pb2.TopologyRequest), "who leads instead?"
    effect = call.handle(Answered(topology()), 5.0)
    assert isinstance(effect, Send)
    assert effect.address == "b:1"
    following = core.get(key, None).start(5.1)
    assert isinstance(following, Send)
    assert following.address == "b:1"


def test_a_higher_epoch_makes_the_next_call_ask_for_the_topology() -> None:
    """An answer of a newer topology makes the known one old."""
    core = told_core()
    call = core.get("k", None)
    call.start(2.0)
    assert isinstance(call.handle(Answered(kv_pb2.GetResponse(header=header(b"k", epoch=2))), 2.0), Finish)
    effect = core.get("k", None).start(2.1)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, cluster_pb2.TopologyRequest)
    effect = core.get("k", None).start(2.2)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.GetRequest), "at most one such question in a second"


def test_an_older_topology_is_not_taken_over() -> None:
    """A node that lags behind does not turn the client back."""
    core = told_core()
    for epoch in (5, 4):
        question = core.topology(None)
        question.start(1.0)
        question.handle(Answered(topology(epoch=epoch)), 1.0)
    call = core.get("k", None)
    call.start(2.0)
    call.handle(Answered(kv_pb2.GetResponse(header=header(b"k", epoch=5))), 2.0)
    effect = core.get("k", None).start(4.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.GetRequest)


def test_a_mutation_takes_its_anchor_from_the_topology() -> None:
    """The newest log time known of the group goes with the first attempt."""
    effect = told_core().set("k", "v", None, None, None, None).start(0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.SetRequest)
    assert effect.request.anchor == 7_000
    assert len(effect.request.request_id) == 16


def test_a_mutation_takes_its_anchor_from_any_answer() -> None:
    """A later log time in an answer replaces that of the topology."""
    core = told_core()
    call = core.get("k", None)
    call.start(0.0)
    call.handle(Answered(kv_pb2.GetResponse(header=header(b"k", 9_000))), 0.0)
    effect = core.delete("k", None, None, None).start(0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.DeleteRequest)
    assert effect.request.anchor == 9_000


@pytest.mark.parametrize(
    "event",
    [
        Answered(kv_pb2.GetResponse(header=header(b"k", 9_000))),
        Failed(error("KEY_NOT_FOUND", log_time_ms="9000")),
    ],
)
def test_an_unknown_log_time_is_learnt_by_a_get(event: Any) -> None:
    """No mutation goes out without an anchor: an ambiguous failure could not be repeated."""
    call = told_core(log_time_ms=0).set("k", "v", None, None, None, None)
    effect = call.start(0.0)
    assert isinstance(effect, Send)
    assert effect.request == kv_pb2.GetRequest(key=b"k")
    effect = call.handle(event, 0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.SetRequest)
    assert effect.request.anchor == 9_000


def test_an_old_log_time_is_no_anchor() -> None:
    """After a minute it is learnt anew: an expired anchor after an ambiguous attempt would leave the doubt."""
    core = told_core(now=0.0)
    call = core.set("k", "v", None, None, None, None)
    effect = call.start(100.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, cluster_pb2.TopologyRequest)
    effect = call.handle(Answered(topology(log_time_ms=7_000)), 100.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.GetRequest), "a gateway that repeats an old log time teaches nothing"


def test_failing_to_learn_an_anchor_leaves_no_doubt() -> None:
    """Nothing was sent that changes anything: the error is Unavailable."""
    call = told_core(log_time_ms=0).set("k", "v", None, None, None, 3.0)
    _, ended = fail_attempts(call, call.start(0.0), error("NO_ANSWER"))
    assert isinstance(ended, Fail)
    assert ended.error.reason == "TIMED_OUT"


@pytest.mark.parametrize("reason", AMBIGUOUS)
def test_an_ambiguous_mutation_is_repeated_as_it_was(reason: str) -> None:
    """Every attempt has the same request_id and anchor, and the end is InDoubt with both, and the key."""
    call = told_core().set("k", "v", None, b"my id", None, None)
    first = call.start(0.0)
    sent, ended = fail_attempts(call, first, error(reason))
    assert len(sent) >= 5
    assert {(send.request.request_id, send.request.anchor) for send in sent} == {(b"my id", 7_000)}
    assert isinstance(ended, Fail)
    assert ended.error.reason == "IN_DOUBT"
    assert ended.error.details == {"request_id": b"my id".hex(), "anchor": "7000", "key": b"k".hex()}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_mutation_is_repeated_and_then_unavailable(reason: str) -> None:
    """While every attempt was refused before anything was applied, the refusal itself is raised."""
    call = told_core().set("k", "v", None, None, None, None)
    sent, ended = fail_attempts(call, call.start(0.0), error(reason))
    assert len(sent) >= 5
    assert isinstance(ended, Fail)
    assert ended.error.reason == reason


@pytest.mark.parametrize("reason", [*REFUSED, "ANCHOR_INVALID", "NO_HEALTHY_REPLICA", "UNAUTHENTICATED"])
def test_a_refusal_does_not_end_a_doubt(reason: str) -> None:
    """After an ambiguous attempt only a logged result counts."""
    call = told_core().set("k", "v", None, None, None, None)
    call.start(0.0)
    effect = call.handle(Failed(error("CONNECTION_LOST")), 0.0)
    _, ended = fail_attempts(call, effect, error(reason))
    assert isinstance(ended, Fail)
    assert ended.error.reason == "IN_DOUBT"


@pytest.mark.parametrize("reason", ["VERSION_MISMATCH", "REQUEST_ID_REUSED"])
def test_a_logged_refusal_ends_a_doubt(reason: str) -> None:
    """It says what became of this very mutation."""
    call = told_core().set("k", "v", None, None, None, None)
    call.start(0.0)
    effect = call.handle(Failed(error("NO_ENDPOINT")), 0.0)
    next_send(call, effect, 0.0)
    effect = call.handle(Failed(error(reason)), 0.0)
    if isinstance(effect, Send):  # the answer was to the question for the topology
        effect = call.handle(Failed(error(reason)), 0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == reason


def test_success_ends_a_doubt() -> None:
    """The stored result of the first attempt is the result."""
    call = told_core().set("k", "v", None, None, None, None)
    call.start(0.0)
    effect: Any = next_send(call, call.handle(Failed(error("IN_DOUBT")), 0.0), 0.0)
    assert isinstance(effect.request, kv_pb2.SetRequest)
    effect = call.handle(Answered(kv_pb2.SetResponse(version=4, header=header(b"k"))), 0.0)
    assert effect == Finish(4)


def test_an_expired_first_attempt_takes_the_new_log_time_once() -> None:
    """Nothing was applied, so another anchor is safe; a second time it is the program's business."""
    call = told_core().set("k", "v", None, None, None, None)
    call.start(0.0)
    expired = Failed(error("REQUEST_EXPIRED", log_time_ms="900000"))
    effect: Any = next_send(call, call.handle(expired, 0.0), 0.0)
    assert isinstance(effect.request, kv_pb2.SetRequest)
    assert effect.request.anchor == 900_000
    effect = call.handle(expired, 0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == "REQUEST_EXPIRED"


def test_an_expired_repetition_leaves_the_doubt() -> None:
    """Once an attempt was ambiguous, the anchor never changes."""
    call = told_core().set("k", "v", None, None, None, None)
    call.start(0.0)
    effect: Any = next_send(call, call.handle(Failed(error("IN_DOUBT")), 0.0), 0.0)
    effect = call.handle(Failed(error("REQUEST_EXPIRED", log_time_ms="900000")), 0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == "IN_DOUBT"
    assert effect.error.details["anchor"] == "7000"


def test_a_given_anchor_is_never_replaced() -> None:
    """Who repeats a mutation in doubt with its anchor must not have it applied under another."""
    call = told_core().set("k", "v", None, b"id", 3, None)
    effect = call.start(0.0)
    assert isinstance(effect, Send)
    assert effect.request == kv_pb2.SetRequest(key=b"k", value=b"v", request_id=b"id", anchor=3)
    effect = call.handle(Failed(error("REQUEST_EXPIRED", log_time_ms="900000")), 0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == "REQUEST_EXPIRED"


def test_without_any_log_time_the_oldest_anchor_is_tried() -> None:
    """A gateway that chose the anchor would choose another one at the next attempt; a refusal tells what time it is."""
    call = told_core(log_time_ms=0).set("k", "v", None, None, None, None)
    call.start(0.0)
    effect = call.handle(Failed(error("KEY_NOT_FOUND")), 0.0)
    assert isinstance(effect, Send)
    assert isinstance(effect.request, kv_pb2.SetRequest)
    assert effect.request.anchor == 1
    effect = next_send(call, call.handle(Failed(error("REQUEST_EXPIRED", log_time_ms="9000")), 0.0), 0.0)
    assert isinstance(effect.request, kv_pb2.SetRequest)
    assert effect.request.anchor == 9_000


def test_an_overloaded_node_is_given_the_time_it_asks_for() -> None:
    """The pause is at least retry_after, and a longer one than is left ends the call."""
    call = told_core().get("k", None)
    call.start(0.0)
    effect = call.handle(Failed(error("OVERLOADED", retry_after_ms="1500")), 0.0)
    assert isinstance(effect, Sleep)
    assert effect.seconds == 1.5
    next_send(call, effect, 1.5)
    effect = call.handle(Failed(error("OVERLOADED", retry_after_ms="60000")), 1.5)
    assert isinstance(effect, Fail)
    assert effect.error.reason == "OVERLOADED"


def test_a_read_without_any_answer_times_out() -> None:
    """A read is never in doubt."""
    call = told_core().get("k", 4.0)
    sent, ended = fail_attempts(call, call.start(0.0), error("NO_ANSWER"))
    assert isinstance(ended, Fail)
    assert ended.error.reason == "TIMED_OUT"
    assert all(send.timeout_s <= 1.0 for send in sent)


@pytest.mark.parametrize("reason", ["KEY_NOT_FOUND", "KEY_TOO_LARGE", "NO_HEALTHY_REPLICA", "UNIMPLEMENTED"])
def test_a_final_error_is_raised_at_once(reason: str) -> None:
    """What can't become better is not repeated."""
    call = told_core().get("k", None)
    call.start(0.0)
    effect = call.handle(Failed(error(reason)), 0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == reason


def test_no_time_is_an_error_without_an_attempt() -> None:
    """A deadline of nothing ends at once."""
    effect = told_core().get("k", 0.0).start(0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == "TIMED_OUT"


def test_a_batch_repeats_only_what_failed_and_whole_commands() -> None:
    """Mutations of one partition go together again, under the same id and anchor; what is done stays done."""
    even, odd = key_led_by("a:1"), key_led_by("b:1")
    call = told_core().batch([Set(even, "1"), Set(odd, "2"), Delete(odd), Get("g")], b"batch id", None)
    effect: Any = call.start(0.0)
    first = effect.request
    assert keys_of(first) == [even, odd, odd, b"g"]
    assert first.request_id == b"batch id"
    assert all(op.set.anchor == 7_000 for op in first.operations if op.HasField("set"))
    answer = batch_results(first, {odd: error("NO_QUORUM")})
    effect = next_send(call, call.handle(Answered(answer), 0.0), 0.0)
    second = effect.request
    assert keys_of(second) == [odd, odd]
    assert second.request_id == b"batch id"
    assert list(second.operations) == list(first.operations)[1:3]
    effect = call.handle(Answered(batch_results(second, {})), 0.0)
    assert isinstance(effect, Finish)
    assert effect.result == [1, 1, 1, Record(b"g", b"v", 0, 0)]


def test_a_batch_gives_each_operation_its_own_end() -> None:
    """Doubt, refusal, final error and success stand side by side."""
    names = [b"doubt", b"refused", b"wrong", b"fine"]
    operations = [Set(name, "v", request_id=name) for name in names]
    call = told_core().batch(operations, None, 3.0)
    effect: Any = call.start(0.0)
    ill = {b"doubt": error("IN_DOUBT"), b"refused": error("NO_QUORUM"), b"wrong": error("VALUE_TOO_LARGE")}
    now = 0.0
    while isinstance(effect, Send | Sleep):
        now += 0.4
        event = Slept() if isinstance(effect, Sleep) else Answered(batch_results(effect.request, ill))
        effect = call.handle(event, now)
    assert isinstance(effect, Finish)
    ends = [outcome.reason if isinstance(outcome, RingholdError) else outcome for outcome in effect.result]
    assert ends == ["IN_DOUBT", "NO_QUORUM", "VALUE_TOO_LARGE", 1]


def test_a_batch_learns_the_anchors_of_its_partitions_first() -> None:
    """One question with a Get for each unit; a partition that does not answer does not hold up the others."""
    even, odd = key_led_by("a:1"), key_led_by("b:1")
    call = told_core(log_time_ms=0).batch([Set(even, "1"), Set(odd, "2")], None, None)
    effect = call.start(0.0)
    assert isinstance(effect, Send)
    asked: Any = effect.request
    assert [op.WhichOneof("kind") for op in asked.operations] == ["get", "get"]
    effect = call.handle(Answered(batch_results(asked, {odd: error("NO_QUORUM")})), 0.0)
    assert isinstance(effect, Send)
    sent: Any = effect.request
    assert keys_of(sent) == [even]
    assert sent.operations[0].set.anchor == 8_000
    effect = next_send(call, call.handle(Answered(batch_results(sent, {})), 0.0), 0.0)
    again: Any = effect.request
    assert keys_of(again) == [odd]
    assert again.operations[0].HasField("get")


def test_a_batch_refused_as_a_whole_raises() -> None:
    """Nothing was changed, so one error says it all."""
    call = told_core().batch([Set("a", "1"), Get("b")], None, None)
    call.start(0.0)
    effect = call.handle(Failed(error("BATCH_TOO_LARGE")), 0.0)
    assert isinstance(effect, Fail)
    assert effect.error.reason == "BATCH_TOO_LARGE"


def test_a_lost_batch_is_in_doubt_for_mutations_only() -> None:
    """Its reads have timed out."""
    call = told_core().batch([Set("a", "1"), Get("b")], None, None)
    _, ended = fail_attempts(call, call.start(0.0), error("CONNECTION_LOST"))
    assert isinstance(ended, Finish)
    assert [outcome.reason for outcome in ended.result] == ["IN_DOUBT", "TIMED_OUT"]


def test_an_answer_of_the_wrong_length_is_an_unknown_outcome() -> None:
    """It is repeated, not trusted."""
    call = told_core().batch([Set("a", "1"), Get("b")], None, None)
    call.start(0.0)
    effect = next_send(call, call.handle(Answered(kv_pb2.BatchResponse()), 0.0), 0.0)
    if isinstance(effect.request, cluster_pb2.TopologyRequest):
        effect = next_send(call, call.handle(Answered(topology()), 0.0), 0.0)
    assert keys_of(effect.request) == [b"a", b"b"]


def test_an_empty_batch_is_done_at_once() -> None:
    """No call is made for nothing."""
    assert told_core().batch([], None, None).start(0.0) == Finish([])


def test_the_load_of_keyless_calls_is_spread() -> None:
    """Queries go to all endpoints."""
    core = told_core()
    asked = set()
    for _ in range(50):
        effect = core.status(None).start(0.0)
        assert isinstance(effect, Send)
        asked.add(effect.address)
    assert asked == set(ENDPOINTS)


@pytest.mark.parametrize("endpoints", [[], [""], "", "a:1,"])
def test_a_client_needs_endpoints(endpoints: Any) -> None:
    """An empty address is refused at the start, not at the first call."""
    with pytest.raises(ValueError, match="addresses"):
        Core(endpoints, 10.0, ClientConfig(), random.Random(1))


def test_only_a_first_attempt_at_the_leader_is_prompt() -> None:
    """Its answer holds up nobody who waits for it too; a repetition, or a detour, may take long."""
    core = told_core()
    key = key_led_by("a:1")
    for call in (core.get(key, None), core.set(key, "v", None, None, None, None), core.delete(key, None, None, None)):
        first = call.start(0.0)
        assert isinstance(first, Send)
        assert first.is_prompt
        again = next_send(call, call.handle(Failed(error("OVERLOADED")), 0.0), 0.0)
        assert not again.is_prompt
    detour = core.get(key, None)
    detour.start(5.0)
    effect = next_send(detour, detour.handle(Failed(error("NO_ENDPOINT")), 5.0), 5.0)
    assert isinstance(effect.request, cluster_pb2.TopologyRequest)
    assert not effect.is_prompt
    elsewhere = core.get(key, None).start(5.1)
    assert isinstance(elsewhere, Send)
    assert (elsewhere.address, elsewhere.is_prompt) == ("b:1", False)
