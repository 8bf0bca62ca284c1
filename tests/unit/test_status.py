"""Errors on the wire: one table, both directions."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from support.fake_server import FakeCluster, Fault, fake_cluster

from ringhold.api.errors import (
    CODES,
    DOMAIN,
    REASONS,
    Code,
    InDoubt,
    KeyNotFound,
    RingholdError,
    TimedOut,
    Unavailable,
    code_of,
    error_for,
)
from ringhold.api.proto.ringhold.v1.kv_pb2 import GetRequest, GetResponse, OperationError, SetRequest, SetResponse
from ringhold.api.status import from_operation_error, from_rpc_error, from_status, to_operation_error, to_status

ERRORS_PAGE = Path(__file__).parents[2] / "docs/protocols/errors.md"
DETAILS = {"limit": "4096", "name": "Köln"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster(nodes=1) as cluster:
        yield cluster


class BrokenCall(grpc.RpcError):
    """A failed call as grpc describes it, without rich details unless given."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None = "", metadata: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        super().__init__()
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


def same(found: RingholdError | None, expected: RingholdError) -> bool:
    return (
        found is not None
        and type(found) is type(expected)
        and (found.reason, found.message, found.details) == (expected.reason, expected.message, expected.details)
    )


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_survives_a_status(reason: str) -> None:
    """Class, reason, message and details come back from a status, which has the code of the table."""
    error = error_for(reason, f"why {reason}", DETAILS)
    status = to_status(error)
    assert status.code == code_of(error)
    assert same(from_status(status), error)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_survives_a_batch(reason: str) -> None:
    """The error of one operation says the same as the status of a call."""
    error = error_for(reason, f"why {reason}", DETAILS)
    assert same(from_operation_error(to_operation_error(error)), error)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_survives_the_wire(cluster: FakeCluster, reason: str) -> None:
    """What a node aborts with is what a client raises."""
    error = error_for(reason, f"why {reason} in Köln", DETAILS)
    cluster.faults.append(Fault("Get", error=error))
    with grpc.insecure_channel(cluster.endpoints[0]) as channel:
        get = channel.unary_unary("/ringhold.v1.KV/Get", GetRequest.SerializeToString, GetResponse.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            get(GetRequest(key=b"k"), timeout=5)
    assert same(from_rpc_error(caught.value), error)


async def test_asyncio_errors_are_translated_too(cluster: FakeCluster) -> None:
    """An error of grpc.aio carries the same."""
    error = error_for("NO_QUORUM", "one of three is alive", {"needed": "2", "alive": "1"})
    cluster.faults.append(Fault("Get", error=error))
    async with grpc.aio.insecure_channel(cluster.endpoints[0]) as channel:
        get = channel.unary_unary("/ringhold.v1.KV/Get", GetRequest.SerializeToString, GetResponse.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            await get(GetRequest(key=b"k"), timeout=5)
    assert same(from_rpc_error(caught.value), error)


def test_a_status_has_exactly_one_detail() -> None:
    """It is an ErrorInfo of our domain, so that any language can read it."""
    status = to_status(error_for("KEY_TOO_LARGE", "too large", {"size": "5000"}))
    found = ErrorInfo()
    assert len(status.details) == 1
    assert status.details[0].Unpack(found)
    assert (found.domain, found.reason, dict(found.metadata)) == (DOMAIN, "KEY_TOO_LARGE", {"size": "5000"})


def test_every_reason_is_documented() -> None:
    """The page on errors has each reason of the table, with its code and exception in the same row."""
    rows = [line for line in ERRORS_PAGE.read_text().splitlines() if line.startswith("|")]
    for reason, kind in REASONS.items():
        code = code_of(error_for(reason, "")).name
        row = next(row for row in rows if f"`{reason}`" in row)
        assert f"| {code} |" in row
        assert f"`{kind.__name__}`" in row


def test_exceptional_codes_name_known_reasons() -> None:
    """Only reasons of the table have a code other than their class's."""
    assert set(CODES) <= set(REASONS)


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: …", "NO_ENDPOINT"),
        (grpc.StatusCode.UNAVAILABLE, "errors resolving nohost:1: …", "NO_ENDPOINT"),
        (grpc.StatusCode.UNAVAILABLE, "DNS resolution failed for nohost:1", "NO_ENDPOINT"),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", "CONNECTION_LOST"),
        (grpc.StatusCode.UNAVAILABLE, "Received RST_STREAM with error code 7", "NO_ENDPOINT"),
        (grpc.StatusCode.UNAVAILABLE, "Received RST_STREAM with error code 2", "CONNECTION_LOST"),
        (grpc.StatusCode.UNAVAILABLE, None, "CONNECTION_LOST"),
        (grpc.StatusCode.CANCELLED, "Channel closed!", "CONNECTION_LOST"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "NO_ANSWER"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", "MESSAGE_TOO_LARGE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Bandwidth exhausted", "UNKNOWN"),
        (grpc.StatusCode.INVALID_ARGUMENT, "bad", "MESSAGE_MALFORMED"),
        (grpc.StatusCode.NOT_FOUND, "", "KEY_NOT_FOUND"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", "UNIMPLEMENTED"),
        (grpc.StatusCode.UNAUTHENTICATED, "no token", "UNAUTHENTICATED"),
        (grpc.StatusCode.PERMISSION_DENIED, "not you", "PERMISSION_DENIED"),
        (grpc.StatusCode.INTERNAL, "RST_STREAM", "UNKNOWN"),
        (grpc.StatusCode.UNKNOWN, "Exception calling application", "UNKNOWN"),
        (grpc.StatusCode.ABORTED, "", "UNKNOWN"),
    ],
)
def test_errors_that_no_node_gave_have_a_reason(code: grpc.StatusCode, details: str | None, reason: str) -> None:
    """Without rich details the code decides, and what may have reached a node is in doubt."""
    error = from_rpc_error(BrokenCall(code, details))
    assert error.reason == reason
    assert type(error) is REASONS[reason]


@pytest.mark.parametrize(
    "rich",
    [
        b"\xff garbage",
        Status(code=5, message="another message").SerializeToString(),
        Status(code=14, message="m").SerializeToString(),
        b"",
    ],
)
def test_damaged_details_leave_the_code(rich: bytes) -> None:
    """Details that can't be read, contradict the code, or hold nothing of ours are as if they were absent."""
    broken = BrokenCall(grpc.StatusCode.UNAVAILABLE, "m", (("grpc-status-details-bin", rich),))
    assert from_rpc_error(broken).reason == "CONNECTION_LOST"


def test_details_of_another_domain_are_not_ours() -> None:
    """A proxy's ErrorInfo is no promise of a node."""
    status = Status(code=14, message="m")
    status.details.add().Pack(ErrorInfo(domain="example.com", reason="NO_QUORUM"))
    assert from_status(status) is None


def test_a_reason_of_tomorrow_means_what_its_code_says() -> None:
    """An older client still knows what to do with a newer node's errors."""
    status = to_status(error_for("NO_QUORUM", "m"))
    found = ErrorInfo(domain=DOMAIN, reason="REASON_OF_TOMORROW")
    status.details[0].Pack(found)
    error = from_status(status)
    assert isinstance(error, Unavailable)
    assert error.reason == "REASON_OF_TOMORROW"
    assert code_of(error) is Code.UNAVAILABLE
    unknown = OperationError(code=9999, reason="?", message="m")
    assert type(from_operation_error(unknown)) is RingholdError


def test_a_message_over_the_nodes_limit_is_an_invalid_request(cluster: FakeCluster) -> None:
    """gRPC's own refusal of 5 MB has our reason."""
    with grpc.insecure_channel(cluster.endpoints[0]) as channel:
        call = channel.unary_unary("/ringhold.v1.KV/Set", SetRequest.SerializeToString, SetResponse.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            call(SetRequest(key=b"k", value=b"v" * 5_000_000), timeout=5)
    assert from_rpc_error(caught.value).reason == "MESSAGE_TOO_LARGE"


def test_errors_can_be_pickled() -> None:
    """A worker process can hand them to its parent."""
    error = error_for("KEY_NOT_FOUND", "no such key", DETAILS)
    assert same(pickle.loads(pickle.dumps(error)), error)


def test_errors_are_what_python_programs_expect() -> None:
    """KeyError, ValueError and TimeoutError catch them, and their text is the sentence."""
    assert issubclass(KeyNotFound, KeyError)
    assert issubclass(InDoubt, TimeoutError)
    assert issubclass(TimedOut, TimeoutError)
    assert issubclass(TimedOut, Unavailable)
    assert str(error_for("KEY_NOT_FOUND", "no such key")) == "no such key"


def test_in_doubt_says_how_to_repeat() -> None:
    """Its request_id and anchor are those of its details."""
    doubt = InDoubt("IN_DOUBT", "m", {"request_id": "0aff", "anchor": "12"})
    assert (doubt.request_id, doubt.anchor) == (b"\x0a\xff", 12)
    assert (InDoubt("IN_DOUBT", "m").request_id, InDoubt("IN_DOUBT", "m").anchor) == (b"", 0)
