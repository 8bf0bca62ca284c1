"""What is known of the effect of a request, and hence whether an error ends it or it is repeated.

The rule of P3: once an attempt at a mutation may have reached a leader, only a logged result ends the doubt. See
docs/protocols/errors.md.
"""

from typing import Protocol

from ..errors import (
    Conflict,
    Incomplete,
    InDoubt,
    InvalidRequest,
    KeyNotFound,
    Overloaded,
    RingholdError,
    TimedOut,
    Unavailable,
)

SILENCE = frozenset({"TIMED_OUT", "NO_ENDPOINT", "NOT_READY", "DRAINING"})
"""Reasons that say nothing of the request."""


class Fate(Protocol):
    def judge(self, error: RingholdError) -> RingholdError | None:
        """Take in how an attempt failed: None if the request should be repeated, else the error that ends it."""

    def ending(self) -> RingholdError:
        """The error that the request ends with if there is no time left."""


class ReadFate:
    """A read has no effect: it is repeated for as long as an answer may come."""

    def __init__(self) -> None:
        self._last: RingholdError = TimedOut("TIMED_OUT", "the deadline passed before the first attempt")

    def judge(self, error: RingholdError) -> RingholdError | None:
        if isinstance(error, InDoubt):
            self._note(TimedOut("TIMED_OUT", f"there was no answer within the deadline: {error}"))
        elif isinstance(error, Unavailable | Overloaded | Incomplete):
            self._note(error)
        else:
            return error
        return None

    def ending(self) -> RingholdError:
        return self._last

    def _note(self, error: RingholdError) -> None:
        """A node's own word on why stays: silence, or an endpoint that is gone, says less."""
        if error.reason not in SILENCE or self._last.reason in SILENCE:
            self._last = error


class MutationFate:
    """A mutation is repeated with one request_id and one anchor, so that it takes effect at most once.

    `anchor` is None until it is chosen, once; 0 means that no log time could be learnt: then the gateway chooses, at
    each attempt anew, and an attempt in doubt can't be repeated. While nothing is in doubt, an anchor that turns out
    too old is replaced, once, unless the program gave it.
    """

    def __init__(self, request_id: bytes, anchor: int | None = None) -> None:
        self.request_id = request_id
        self.anchor = anchor
        self.is_in_doubt = False
        self._may_renew = anchor is None
        self._last: RingholdError = TimedOut("TIMED_OUT", "the deadline passed before the first attempt")

    def judge(self, error: RingholdError) -> RingholdError | None:
        self._last = error
        if isinstance(error, InDoubt):
            self.is_in_doubt = True
            return None if self.anchor else self._doubt()
        if isinstance(error, Unavailable | Overloaded):
            return None
        if error.reason == "REQUEST_EXPIRED" and self._renew(error):
            self._last = TimedOut("TIMED_OUT", "the deadline passed before an attempt with a new anchor")
            return None
        return self._doubt() if self.is_in_doubt and not _is_logged(error) else error

    def ending(self) -> RingholdError:
        return self._doubt() if self.is_in_doubt else self._last

    def anchor_not_learnt(self, error: RingholdError) -> None:
        """The mutation is not tried, because the question for a log time failed."""
        self._last = error

    def _renew(self, error: RingholdError) -> bool:
        anchor = log_time_in(error)
        if self.is_in_doubt or not self._may_renew or not anchor:
            return False
        self.anchor, self._may_renew = anchor, False
        return True

    def _doubt(self) -> InDoubt:
        message = f"the mutation may or may not have been applied: {self._last}"
        doubt = InDoubt("IN_DOUBT", message, {"request_id": self.request_id.hex(), "anchor": str(self.anchor or 0)})
        doubt.__cause__ = self._last
        return doubt


def log_time_in(error: RingholdError) -> int:
    """The group's log time that came with a KEY_NOT_FOUND or REQUEST_EXPIRED, in milliseconds; 0 if none came."""
    text = error.details.get("log_time_ms", "")
    return int(text) if text.isdecimal() else 0


def _is_logged(error: RingholdError) -> bool:
    # What the group's log says of this very mutation: it was evaluated, or another one has its request_id.
    evaluated = isinstance(error, Conflict | KeyNotFound)
    return evaluated or (isinstance(error, InvalidRequest) and error.reason == "REQUEST_ID_REUSED")
