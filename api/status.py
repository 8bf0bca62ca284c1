"""Errors on the wire and back, by the one table of api/errors.py.

An error travels as google.rpc.Status with exactly one ErrorInfo, so that a client in any language can read its reason;
an operation of a batch carries the same in an OperationError. See docs/protocols/errors.md.
"""

from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from .errors import DOMAIN, RingholdError, code_of, error_for
from .proto.ringhold.v1.kv_pb2 import OperationError

NEVER_SENT = ("failed to connect", "errors resolving", "dns resolution failed", "name resolution", "empty address list")
"""How gRPC begins the details of UNAVAILABLE, in lower case, when it had no connection to send the call on."""

REFUSED_STREAM = "RST_STREAM with error code 7"
"""HTTP/2's REFUSED_STREAM says that nothing was done (RFC 9113, section 8.7): there were too many calls at a time."""


class FailedCall(Protocol):
    """What grpc's and grpc.aio's errors have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...


def to_status(error: RingholdError) -> Status:
    """The status that says all of an error."""
    status = Status(code=code_of(error), message=error.message)
    status.details.add().Pack(ErrorInfo(domain=DOMAIN, reason=error.reason, metadata=error.details))
    return status


def to_grpc_status(error: RingholdError) -> grpc.Status:
    """The same, as `context.abort_with_status` takes it."""
    return rpc_status.to_status(to_status(error))


def from_status(status: Status) -> RingholdError | None:
    """The error in a status; None if none of ours is in it."""
    for detail in status.details:
        found = ErrorInfo()
        if detail.Unpack(found) and found.domain == DOMAIN:
            return error_for(found.reason, status.message, found.metadata, code=status.code)
    return None


def to_operation_error(error: RingholdError) -> OperationError:
    """The error of one operation in a batch."""
    return OperationError(code=code_of(error), message=error.message, reason=error.reason, metadata=error.details)


def from_operation_error(error: OperationError) -> RingholdError:
    """Its inverse."""
    return error_for(error.reason, error.message, error.metadata, code=error.code)


def from_rpc_error(error: grpc.RpcError) -> RingholdError:
    """The error of a failed call, also of one that no node answered.

    `InDoubt` then means: the call may have reached a node (NO_ANSWER, CONNECTION_LOST, UNKNOWN); `Unavailable`
    (NO_ENDPOINT): it was never sent, or not taken.
    """
    return _from_details(error) or _from_code(cast("FailedCall", error))


def _from_details(error: grpc.RpcError) -> RingholdError | None:
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError):  # damaged, or of a proxy that changed code or message: only the code is left
        return None
    return from_status(status) if status else None


def _from_code(call: FailedCall) -> RingholdError:
    details = call.details() or ""
    match call.code():
        case grpc.StatusCode.UNAVAILABLE if details.lower().startswith(NEVER_SENT):
            return error_for("NO_ENDPOINT", f"there is no connection to the node: {details}")
        case grpc.StatusCode.UNAVAILABLE if REFUSED_STREAM in details:
            return error_for("NO_ENDPOINT", f"the node took no more calls on this connection: {details}")
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return error_for("CONNECTION_LOST", f"the connection was lost before the answer came: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return error_for("NO_ANSWER", "no answer came in time")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            return error_for("MESSAGE_TOO_LARGE", f"the message is too large: {details}")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return error_for("MESSAGE_MALFORMED", details)
        case grpc.StatusCode.NOT_FOUND:
            return error_for("KEY_NOT_FOUND", details or "there is no such key")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED as code:
            return error_for(code.name, details)
        case grpc.StatusCode.UNIMPLEMENTED:
            return error_for("UNIMPLEMENTED", f"the endpoint does not know this call: {details}")
        case code:
            return error_for("UNKNOWN", f"the call failed with {code.name}: {details}")
