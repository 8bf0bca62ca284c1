"""Bodies: what was said comes back as it was said, and nothing else is taken for a message."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gossip import member

from ringhold.gossip.config import BODY_BYTES_MAX, DIGESTS_MAX, FACTS_MAX
from ringhold.gossip.member import Fact, Member, MemberState
from ringhold.gossip.messages import (
    Ack,
    Digest,
    IndirectAck,
    IndirectPing,
    Message,
    Ping,
    Push,
    Request,
    Sync,
    SyncAnswer,
)
from ringhold.gossip.wire import (
    ADDRESS_BYTES_MAX,
    HOST_BYTES_MAX,
    INTEGER_MAX,
    NAME_BYTES_MAX,
    NODE_ID_BYTES_MAX,
    ROUTES,
    ZONE_BYTES_MAX,
    WireError,
    check_member,
    decode_answer,
    decode_request,
    encode,
    route_of,
)

FACTS = (Fact(member("b")), Fact(member("c", state=MemberState.DEAD, zone="Zürich"), "b"))
DIGEST = Digest("b", 1, 2, 3, MemberState.SUSPECT)
REQUESTS: list[Request] = [
    Ping(member("a"), "b", FACTS),
    IndirectPing(member("a"), "b", FACTS),
    Sync(member("a"), "", "b", (DIGEST,)),
    Push(member("a", state=MemberState.LEFT), FACTS),
]
ANSWERS: list[tuple[str, Any]] = [
    ("ping", Ack(member("a"), FACTS)),
    ("push", Ack(member("a"))),
    ("indirect-ping", IndirectAck(member("a"), True, FACTS)),
    ("sync", SyncAnswer(member("a"), FACTS, ("b", "c"), "c")),
]


def largest() -> Member:
    """A member whose every field is as long as allowed, in characters that JSON escapes."""
    return member(
        '"' * NODE_ID_BYTES_MAX,
        generation=INTEGER_MAX,
        nonce=INTEGER_MAX,
        incarnation=INTEGER_MAX,
        state=MemberState.SUSPECT,
        name='"' * NAME_BYTES_MAX,
        grpc_address="h" * (ADDRESS_BYTES_MAX - 6) + ":65535",
        http_address="h" * (ADDRESS_BYTES_MAX - 6) + ":65535",
        host='"' * HOST_BYTES_MAX,
        zone='"' * ZONE_BYTES_MAX,
        weight=INTEGER_MAX,
        topology_epoch=INTEGER_MAX,
    )


@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_come_back_as_they_were(request_: Request) -> None:
    """Decoding undoes encoding, on the request's own route."""
    assert decode_request(route_of(request_), encode(request_)) == request_


@pytest.mark.parametrize(("route", "answer"), ANSWERS)
def test_answers_come_back_as_they_were(route: str, answer: Any) -> None:
    """Decoding undoes encoding, by the route of the request."""
    assert decode_answer(route, encode(answer)) == answer


def test_unknown_keys_are_skipped() -> None:
    """A newer version may add some."""
    fields = json.loads(encode(REQUESTS[0]))
    fields["new"] = fields["sender"]["new"] = fields["facts"][0]["new"] = {"x": [1]}
    assert decode_request("ping", json.dumps(fields).encode()) == REQUESTS[0]


@pytest.mark.parametrize(
    "message",
    [
        Push(member("a"), (Fact(largest(), '"' * NODE_ID_BYTES_MAX),) * FACTS_MAX),
        Sync(member("a"), "", "", (Digest('"' * 64, INTEGER_MAX, INTEGER_MAX, INTEGER_MAX, MemberState.DEAD),) * 500),
        SyncAnswer(member("a"), (Fact(largest(), "b"),) * FACTS_MAX, ('"' * NODE_ID_BYTES_MAX,) * DIGESTS_MAX, "b"),
    ],
)
def test_the_largest_messages_fit(message: Message) -> None:
    """What the counts allow is never over the limit of a body."""
    assert len(encode(message)) <= BODY_BYTES_MAX


def spoilt(path: list[Any], value: Any, message: Message = REQUESTS[0]) -> bytes:
    """A message's body with one field replaced (removed if the value is ...)."""
    fields = json.loads(encode(message))
    place = fields
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["sender"], ...),
        (["sender"], []),
        (["sender", "state"], "DEAD"),
        (["sender", "state"], "alive"),
        (["sender", "state"], ["ALIVE"]),
        (["sender", "incarnation"], 0),
        (["sender", "incarnation"], True),
        (["sender", "incarnation"], -1),
        (["sender", "generation"], 1.0),
        (["sender", "generation"], INTEGER_MAX + 1),
        (["sender", "nonce"], "1"),
        (["sender", "node_id"], ""),
        (["sender", "node_id"], "x" * (NODE_ID_BYTES_MAX + 1)),
        (["sender", "name"], "é" * NAME_BYTES_MAX),
        (["sender", "name"], "two\nlines"),
        (["sender", "name"], "\ud800"),
        (["sender", "zone"], None),
        (["sender", "http_address"], "no-port"),
        (["sender", "http_address"], ":1"),
        (["sender", "http_address"], "user@host:1"),
        (["sender", "http_address"], "host/path:1"),
        (["sender", "http_address"], "host:65536"),
        (["sender", "http_address"], "host:0"),
        (["sender", "grpc_address"], "host:²"),
        (["target"], ""),
        (["target"], 7),
        (["facts"], ...),
        (["facts"], {}),
        (["facts"], [7]),
        (["facts"], [None]),
        (["facts", 0, "accuser"], "b"),
        (["facts", 1, "accuser"], ""),
        (["facts", 1, "weight"], None),
    ],
)
def test_a_spoilt_field_is_named(path: list[Any], value: Any) -> None:
    """Wrong types, missing fields, values over their limit and contradictions are refused."""
    with pytest.raises(WireError):
        decode_request("ping", spoilt(path, value))


def test_counts_are_limited() -> None:
    """One item over the limit refuses the message."""
    fact = json.loads(encode(REQUESTS[0]))["facts"][0]
    digest = json.loads(encode(REQUESTS[2]))["digests"][0]
    with pytest.raises(WireError, match="at most"):
        decode_request("push", spoilt(["facts"], [fact] * (FACTS_MAX + 1), REQUESTS[3]))
    with pytest.raises(WireError, match="at most"):
        decode_request("sync", spoilt(["digests"], [digest] * (DIGESTS_MAX + 1), REQUESTS[2]))
    with pytest.raises(WireError, match="at most"):
        decode_answer("sync", spoilt(["wanted"], ["b"] * (DIGESTS_MAX + 1), ANSWERS[3][1]))
    with pytest.raises(WireError, match="a digest is not an object"):
        decode_request("sync", spoilt(["digests"], [digest, []], REQUESTS[2]))
    with pytest.raises(WireError, match="'wanted' is not"):
        decode_answer("sync", spoilt(["wanted"], [7], ANSWERS[3][1]))
    with pytest.raises(WireError, match="true or false"):
        decode_answer("indirect-ping", spoilt(["reached"], 1, ANSWERS[2][1]))


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"NaN",
    b"{",
    b"[" * 200_000,
    b'{"sender":' * 20_000,
    b"9" * 10_000,
    b'{"sender":{}}',
    b" " * (BODY_BYTES_MAX + 1),
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", GARBAGE)
def test_garbage_is_refused_on_every_route(route: str, body: bytes) -> None:
    """Whatever the bytes are, the error is a WireError."""
    with pytest.raises(WireError):
        decode_request(route, body)
    with pytest.raises(WireError):
        decode_answer(route, body)


@given(st.sampled_from(ROUTES), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), st.text())
def test_any_json_is_decoded_or_refused(route: str, value: object, key: str) -> None:
    """No JSON leads to another error."""
    for body in (value, {key: value}, {"sender": value, "facts": value}):
        with pytest.raises(WireError):
            decode_request(route, json.dumps(body).encode())


def test_an_unknown_route_is_refused() -> None:
    """Only the four routes exist."""
    with pytest.raises(WireError, match="no route"):
        decode_request("nonsense", encode(REQUESTS[0]))


def test_a_member_that_others_would_refuse_is_found_at_home() -> None:
    """The same rules hold for what this node says about itself."""
    check_member(member("a"))
    with pytest.raises(WireError, match="http_address"):
        check_member(member("a", http_address="nowhere"))
