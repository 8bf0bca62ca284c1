"""What happens to the membership core (events, past tense) and what it wants done (effects, imperative)."""

from dataclasses import dataclass
from typing import TypeAlias

from .member import Attributes, Member
from .messages import Answer, Message, Request


@dataclass(frozen=True, slots=True)
class Started:
    """The node runs and can be reached."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A tick, and by how many seconds it came late."""

    lag_s: float


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A peer asks. Exactly one Reply follows, at once or after a RelayPing is answered or lost."""

    request: Request


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """The answer to `send`."""

    send: "Send"
    answer: Answer


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """There will be no answer to `send`."""

    send: "Send"
    cause: str


@dataclass(frozen=True, slots=True)
class AttributesChanged:
    """The local node says something new about itself."""

    attributes: Attributes


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The local node says good-bye."""


@dataclass(frozen=True, slots=True)
class MemberRemoved:
    """The topology says that the node is REMOVED: forget it and believe nothing about it any more."""

    node_id: str


Event: TypeAlias = (
    Started
    | TimePassed
    | RequestReceived
    | AnswerReceived
    | AnswerLost
    | AttributesChanged
    | LeaveRequested
    | MemberRemoved
)


@dataclass(frozen=True, slots=True)
class Send:
    """Ask `address`; report AnswerReceived or AnswerLost with this object within `timeout_s`."""

    address: str
    message: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class SendPing(Send):
    """The direct ping of probe number `probe`."""

    probe: int


@dataclass(frozen=True, slots=True)
class SendIndirectPing(Send):
    """A request for help in probe number `probe`."""

    probe: int


@dataclass(frozen=True, slots=True)
class SendNews(Send):
    """A Sync or a Push: whatever comes back is merged."""


@dataclass(frozen=True, slots=True)
class RelayPing(Send):
    """A ping on another's behalf; the Reply to that other comes with its outcome."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the request at hand."""

    message: Message


@dataclass(frozen=True, slots=True)
class ReportChange:
    """A member (the local one too) is new, differs, or (`after` is None) was removed."""

    before: Member | None
    after: Member | None


@dataclass(frozen=True, slots=True)
class ReportConflict:
    """Another process runs, or ran later, under the local node's id, as `other`: this one must stop."""

    other: Member


@dataclass(frozen=True, slots=True)
class PersistPeer:
    """Keep this member durably, in place of any older boot: it is passed in at the next start."""

    member: Member


@dataclass(frozen=True, slots=True)
class ForgetPeer:
    """Delete what PersistPeer kept."""

    node_id: str


Effect: TypeAlias = Send | Reply | ReportChange | ReportConflict | PersistPeer | ForgetPeer
