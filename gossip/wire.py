"""Messages as JSON bodies, and the strict way back: whatever does not fit the schema is a WireError.

Keys that are not known are skipped, so that a newer version may add some. See docs/protocols/gossip.md, "Bodies".
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from .config import BODY_BYTES_MAX, DIGESTS_MAX, FACTS_MAX
from .member import Fact, Member, MemberState
from .messages import (
    Ack,
    Answer,
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

T = TypeVar("T")
Json: TypeAlias = Mapping[str, Any]

INTEGER_MAX = 2**63 - 1
NODE_ID_BYTES_MAX = 64
NAME_BYTES_MAX = 128
ADDRESS_BYTES_MAX = 262
"""A DNS name of 255 bytes, a colon, a port."""
HOST_BYTES_MAX = 255
ZONE_BYTES_MAX = 128

_STATES = {state.name: state for state in MemberState}
_ACCUSED = (MemberState.SUSPECT, MemberState.DEAD)


class WireError(Exception):
    """A body that does not fit the schema. Nothing of it was taken in."""


def encode(message: Message) -> bytes:
    """The body of a message."""
    fields = {"sender": _member_fields(message.sender), **_own_fields(message)}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def decode_request(route: str, body: bytes) -> Request:
    """The request that arrived at `route`. Raises WireError."""
    decoder = _REQUESTS.get(route)
    if decoder is None:
        raise WireError(f"there is no route {route!r}")
    return decoder(_parsed(body))


def decode_answer(route: str, body: bytes) -> Answer:
    """The answer to a request sent to `route`. Raises WireError."""
    return _ANSWERS[route](_parsed(body))


def encode_member(member: Member) -> bytes:
    """A member as a node keeps it on its disk."""
    return json.dumps(_member_fields(member), separators=(",", ":")).encode()


def decode_member(stored: bytes) -> Member:
    """The inverse of `encode_member`. Raises WireError."""
    return _member(_parsed(stored))


def check_member(member: Member) -> None:
    """Raise WireError if others would refuse this member, so that a bad setting is found at its own node."""
    _member(json.loads(json.dumps(_member_fields(member))))


# Encoding


def _own_fields(message: Message) -> dict[str, Any]:
    match message:
        case Ping(_, target, facts) | IndirectPing(_, target, facts):
            return {"target": target, "facts": [_fact_fields(fact) for fact in facts]}
        case Ack(_, facts) | Push(_, facts):
            return {"facts": [_fact_fields(fact) for fact in facts]}
        case IndirectAck(_, reached, facts):
            return {"reached": reached, "facts": [_fact_fields(fact) for fact in facts]}
        case Sync(_, after, until, digests):
            return {"after": after, "until": until, "digests": [_digest_fields(digest) for digest in digests]}
        case SyncAnswer(_, facts, wanted, covered):
            return {"facts": [_fact_fields(fact) for fact in facts], "wanted": list(wanted), "covered": covered}


def _member_fields(member: Member) -> dict[str, Any]:
    return {
        "node_id": member.node_id,
        "generation": member.generation,
        "nonce": member.nonce,
        "incarnation": member.incarnation,
        "state": member.state.name,
        "name": member.name,
        "grpc_address": member.grpc_address,
        "http_address": member.http_address,
        "host": member.host,
        "zone": member.zone,
        "weight": member.weight,
        "topology_epoch": member.topology_epoch,
    }


def _fact_fields(fact: Fact) -> dict[str, Any]:
    return {**_member_fields(fact.member), "accuser": fact.accuser}


def _digest_fields(digest: Digest) -> dict[str, Any]:
    return {
        "node_id": digest.node_id,
        "generation": digest.generation,
        "nonce": digest.nonce,
        "incarnation": digest.incarnation,
        "state": digest.state.name,
    }


# Decoding


def _parsed(body: bytes) -> Json:
    if len(body) > BODY_BYTES_MAX:
        raise WireError(f"the body has {len(body)} bytes, at most {BODY_BYTES_MAX} are allowed")
    try:
        return _object(json.loads(body.decode()), "the body")
    except (ValueError, RecursionError) as error:
        raise WireError(f"the body is not JSON: {error}") from error


def _ping(fields: Json) -> Ping:
    return Ping(_sender(fields), _node_id(fields, "target"), _facts(fields))


def _indirect_ping(fields: Json) -> IndirectPing:
    return IndirectPing(_sender(fields), _node_id(fields, "target"), _facts(fields))


def _sync(fields: Json) -> Sync:
    return Sync(
        _sender(fields),
        _bound(fields, "after"),
        _bound(fields, "until"),
        _items(fields, "digests", DIGESTS_MAX, _digest),
    )


def _push(fields: Json) -> Push:
    return Push(_sender(fields), _facts(fields))


def _ack(fields: Json) -> Ack:
    return Ack(_sender(fields), _facts(fields))


def _indirect_ack(fields: Json) -> IndirectAck:
    reached = fields.get("reached")
    if not isinstance(reached, bool):
        raise WireError("'reached' is not true or false")
    return IndirectAck(_sender(fields), reached, _facts(fields))


def _sync_answer(fields: Json) -> SyncAnswer:
    return SyncAnswer(
        _sender(fields),
        _facts(fields),
        _items(fields, "wanted", DIGESTS_MAX, _wanted_id),
        _bound(fields, "covered"),
    )


_REQUESTS: Mapping[str, Callable[[Json], Request]] = {
    "ping": _ping,
    "indirect-ping": _indirect_ping,
    "sync": _sync,
    "push": _push,
}
_ANSWERS: Mapping[str, Callable[[Json], Answer]] = {
    "ping": _ack,
    "indirect-ping": _indirect_ack,
    "sync": _sync_answer,
    "push": _ack,
}
_ROUTES: Mapping[type[Request], str] = {Ping: "ping", IndirectPing: "indirect-ping", Sync: "sync", Push: "push"}

ROUTES = tuple(_REQUESTS)
"""The names of all routes."""


def route_of(request: Request) -> str:
    """The route that a request is sent to."""
    return _ROUTES[type(request)]


def _sender(fields: Json) -> Member:
    member = _member(_object(fields.get("sender"), "'sender'"))
    if member.state in _ACCUSED or member.incarnation == 0:
        raise WireError("a sender speaks for itself: it is ALIVE or LEFT, and its incarnation is 1 or more")
    return member


def _facts(fields: Json) -> tuple[Fact, ...]:
    return _items(fields, "facts", FACTS_MAX, _fact)


def _fact(item: object) -> Fact:
    fields = _object(item, "a fact")
    member = _member(fields)
    accuser = _text(fields, "accuser", NODE_ID_BYTES_MAX)
    if bool(accuser) != (member.state in _ACCUSED):
        raise WireError("a SUSPECT or DEAD member has an accuser, others have none")
    return Fact(member, accuser)


def _member(fields: Json) -> Member:
    return Member(
        node_id=_node_id(fields, "node_id"),
        generation=_integer(fields, "generation"),
        nonce=_integer(fields, "nonce"),
        incarnation=_integer(fields, "incarnation"),
        state=_state(fields),
        name=_text(fields, "name", NAME_BYTES_MAX),
        grpc_address=_address(fields, "grpc_address"),
        http_address=_address(fields, "http_address"),
        host=_text(fields, "host", HOST_BYTES_MAX),
        zone=_text(fields, "zone", ZONE_BYTES_MAX),
        weight=_integer(fields, "weight"),
        topology_epoch=_integer(fields, "topology_epoch"),
    )


def _digest(item: object) -> Digest:
    fields = _object(item, "a digest")
    return Digest(
        node_id=_node_id(fields, "node_id"),
        generation=_integer(fields, "generation"),
        nonce=_integer(fields, "nonce"),
        incarnation=_integer(fields, "incarnation"),
        state=_state(fields),
    )


def _wanted_id(item: object) -> str:
    return _node_id({"wanted": item}, "wanted")


def _object(item: object, what: str) -> Json:
    if not isinstance(item, dict):
        raise WireError(f"{what} is not an object")
    return item


def _items(fields: Json, name: str, count_max: int, decoder: Callable[[object], T]) -> tuple[T, ...]:
    items = fields.get(name)
    if not isinstance(items, list):
        raise WireError(f"{name!r} is not a list")
    if len(items) > count_max:
        raise WireError(f"{name!r} has {len(items)} items, at most {count_max} are allowed")
    return tuple(decoder(item) for item in items)


def _text(fields: Json, name: str, bytes_max: int) -> str:
    text = fields.get(name)
    if not isinstance(text, str) or not text.isprintable():
        raise WireError(f"{name!r} is not a printable text")
    if len(text.encode()) > bytes_max:
        raise WireError(f"{name!r} has {len(text.encode())} bytes, at most {bytes_max} are allowed")
    return text


def _node_id(fields: Json, name: str) -> str:
    node_id = _bound(fields, name)
    if not node_id:
        raise WireError(f"{name!r} is empty")
    return node_id


def _bound(fields: Json, name: str) -> str:
    return _text(fields, name, NODE_ID_BYTES_MAX)


def _address(fields: Json, name: str) -> str:
    address = _text(fields, name, ADDRESS_BYTES_MAX)
    host, _, port = address.rpartition(":")
    if not host or not frozenset(host) <= _HOST_CHARACTERS or not _is_port(port):
        raise WireError(f"{name!r} is not host:port")
    return address


_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_[]:%")


def _is_port(port: str) -> bool:
    return port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65_535


def _integer(fields: Json, name: str) -> int:
    number = fields.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= INTEGER_MAX:
        raise WireError(f"{name!r} is not an integer from 0 to {INTEGER_MAX}")
    return number


def _state(fields: Json) -> MemberState:
    state = fields.get("state")
    if not isinstance(state, str) or state not in _STATES:
        raise WireError(f"'state' is not one of {', '.join(_STATES)}")
    return _STATES[state]
