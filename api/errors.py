"""The errors of Ringhold: one tree, one table, used by nodes to answer and by clients to raise.

A reason is the machine-readable name of a situation; the table gives each its gRPC code and its exception class.
See docs/protocols/errors.md.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Self

DOMAIN = "ringhold"


class Code(IntEnum):
    """The gRPC status codes in use (google.rpc.Code)."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RingholdError(Exception):
    """An operation did not do what was asked. `reason` names the situation, `details` its figures."""

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(self, reason: str, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = dict(details or {})

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, dict[str, str]]]:
        return type(self), (self.reason, self.message, self.details)


class KeyNotFound(RingholdError, KeyError):
    """There is no record under the key, or, if that is `stale`, the replica that was read has none."""

    code = Code.NOT_FOUND

    @property
    def stale(self) -> bool:
        """Whether a stale read says so."""
        return self.details.get("stale") == "true"

    @property
    def behind_ms(self) -> int | None:
        """As in a record: 0 unless `stale`, None if nobody knows how far behind the replica is."""
        text = self.details.get("behind_ms", "" if self.stale else "0")
        return int(text) if text.isdecimal() else None


class InvalidRequest(RingholdError, ValueError):
    """The request can never succeed as it is: bad input, over a limit, a request_id that is used up."""

    code = Code.INVALID_ARGUMENT


class Conflict(RingholdError):
    """A condition was not met."""

    code = Code.FAILED_PRECONDITION


class ChangeRefused(RingholdError):
    """The cluster, as it is, can't be changed so; nothing was changed."""

    code = Code.FAILED_PRECONDITION


class Unavailable(RingholdError):
    """Nothing was applied; a retry is safe."""

    code = Code.UNAVAILABLE


class TimedOut(Unavailable, TimeoutError):
    """A read had no answer within its deadline."""

    code = Code.DEADLINE_EXCEEDED


class InDoubt(RingholdError, TimeoutError):
    """A mutation may or may not have been applied: `details` carries its request_id (hex), anchor and key (hex).

    Repeating it with id and anchor finds out, and takes effect at most once. To resolve it with all three finds out
    too, and sees that it never takes effect if it has not by then. A change of the cluster that is in doubt has none of
    the three: to give it again is safe.
    """

    code = Code.DEADLINE_EXCEEDED

    @property
    def request_id(self) -> bytes:
        """What to repeat the mutation with; empty if unknown."""
        return bytes.fromhex(self.details.get("request_id", ""))

    @property
    def anchor(self) -> int:
        """What to repeat the mutation with; 0 if unknown: then it can't be repeated safely."""
        return int(self.details.get("anchor", "0"))

    @property
    def key(self) -> bytes:
        """A key that the mutation changes; empty if unknown."""
        return bytes.fromhex(self.details.get("key", ""))

    def about(self, key: bytes, request_id: bytes | None = None) -> "InDoubt":
        """The same doubt, about another mutation: of that key, and that request if one is given."""
        doubt = in_doubt(self.message, request_id or self.request_id, self.anchor, key)
        doubt.__cause__ = self.__cause__
        return doubt


class Incomplete(RingholdError):
    """Some shards did not answer an index query: `details["missing"]` lists their partitions."""

    code = Code.UNAVAILABLE


class Overloaded(RingholdError):
    """A limit on work or on room was hit; `details["retry_after_ms"]` says when to come back. Nothing was applied."""

    code = Code.RESOURCE_EXHAUSTED


class DataLoss(RingholdError):
    """No healthy copy of the record is left."""

    code = Code.DATA_LOSS


class AccessDenied(RingholdError):
    """No credential, or one that does not allow this."""

    code = Code.UNAUTHENTICATED


class Unsupported(RingholdError):
    """The endpoint does not know the call: it is of another version, or no node of Ringhold."""

    code = Code.UNIMPLEMENTED


def in_doubt(message: str, request_id: bytes, anchor: int, key: bytes) -> InDoubt:
    """The doubt about a mutation that is known by these."""
    return InDoubt("IN_DOUBT", message, {"request_id": request_id.hex(), "anchor": str(anchor), "key": key.hex()})


REASONS: Mapping[str, type[RingholdError]] = {
    "KEY_NOT_FOUND": KeyNotFound,
    "KEY_EMPTY": InvalidRequest,
    "KEY_TOO_LARGE": InvalidRequest,
    "VALUE_TOO_LARGE": InvalidRequest,
    "TOO_MANY_INDEX_ENTRIES": InvalidRequest,
    "INDEX_NAME_INVALID": InvalidRequest,
    "INDEX_VALUE_TOO_LARGE": InvalidRequest,
    "DUPLICATE_INDEX_ENTRY": InvalidRequest,
    "REQUEST_ID_EMPTY": InvalidRequest,
    "REQUEST_ID_TOO_LARGE": InvalidRequest,
    "ANCHOR_INVALID": InvalidRequest,
    "BATCH_TOO_LARGE": InvalidRequest,
    "BATCH_OPERATION_EMPTY": InvalidRequest,
    "ANSWER_TOO_LARGE": InvalidRequest,
    "PAGE_LIMIT_TOO_LARGE": InvalidRequest,
    "QUERY_INVALID": InvalidRequest,
    "CONSISTENCY_INVALID": InvalidRequest,
    "MESSAGE_TOO_LARGE": InvalidRequest,
    "MESSAGE_MALFORMED": InvalidRequest,
    "BAD_PAGE_TOKEN": InvalidRequest,
    "REQUEST_ID_REUSED": InvalidRequest,
    # Not a Conflict: no condition was met with other records than expected, and to read them again and retry would not
    # help. Like an expired or reused request_id, this one is used up.
    "REQUEST_ABORTED": InvalidRequest,
    "REQUEST_EXPIRED": InvalidRequest,
    "VERSION_MISMATCH": Conflict,
    "SCRUB_RUNNING": Conflict,
    "OTHER_NODE": InvalidRequest,
    "CHANGE_INVALID": InvalidRequest,
    "NODE_UNKNOWN": InvalidRequest,
    "CHANGE_REFUSED": ChangeRefused,
    "NO_QUORUM": Unavailable,
    "NOT_READY": Unavailable,
    "DRAINING": Unavailable,
    "NO_ENDPOINT": Unavailable,
    "TIMED_OUT": TimedOut,
    "IN_DOUBT": InDoubt,
    "NO_ANSWER": InDoubt,
    "CONNECTION_LOST": InDoubt,
    "UNKNOWN": InDoubt,
    "INCOMPLETE": Incomplete,
    "OVERLOADED": Overloaded,
    "DEDUPE_FULL": Overloaded,
    "DISK_FULL": Overloaded,
    "NO_HEALTHY_REPLICA": DataLoss,
    "UNAUTHENTICATED": AccessDenied,
    "PERMISSION_DENIED": AccessDenied,
    "UNIMPLEMENTED": Unsupported,
}
"""Every reason that a node or the client may give."""

CODES: Mapping[str, Code] = {
    "REQUEST_ABORTED": Code.FAILED_PRECONDITION,
    "REQUEST_ID_REUSED": Code.FAILED_PRECONDITION,
    "REQUEST_EXPIRED": Code.FAILED_PRECONDITION,
    "PERMISSION_DENIED": Code.PERMISSION_DENIED,
    "CONNECTION_LOST": Code.UNKNOWN,
    "UNKNOWN": Code.UNKNOWN,
}
"""Reasons whose gRPC code is not that of their class."""


CLASSES: Mapping[int, type[RingholdError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.NOT_FOUND: KeyNotFound,
    Code.FAILED_PRECONDITION: Conflict,
    Code.UNAVAILABLE: Unavailable,
    Code.DEADLINE_EXCEEDED: InDoubt,
    Code.UNKNOWN: InDoubt,
    Code.RESOURCE_EXHAUSTED: Overloaded,
    Code.DATA_LOSS: DataLoss,
    Code.UNAUTHENTICATED: AccessDenied,
    Code.PERMISSION_DENIED: AccessDenied,
    Code.UNIMPLEMENTED: Unsupported,
}
"""What a reason that this version does not know (a newer node's) means, by its gRPC code."""


def error_for(
    reason: str, message: str, details: Mapping[str, str] | None = None, *, code: int | None = None
) -> RingholdError:
    """The exception of a reason; one that this version does not know gives that of its gRPC `code`.

    >>> error_for("KEY_NOT_FOUND", "no such key")
    KeyNotFound('no such key')
    >>> error_for("REASON_OF_TOMORROW", "not now", code=Code.UNAVAILABLE)
    Unavailable('not now')
    """
    by_code = RingholdError if code is None else CLASSES.get(code, RingholdError)
    return REASONS.get(reason, by_code)(reason, message, details)


def code_of(error: RingholdError) -> Code:
    """The gRPC code that an error is answered with."""
    return CODES.get(error.reason, error.code)
