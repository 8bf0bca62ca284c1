"""What is known of the effect of a request, and hence whether an error ends it or it is repeated.

The rule of P3: once an attempt at a mutation may have reached a leader, only a logged result ends the doubt. See
docs/protocols/errors.md.
"""

from typing import Protocol

from ..errors import (
    Conflict,
    Incomplete,
    InDoubt,
    KeyNotFound,
    Overloaded,
    RingholdError,
    TimedOut,
    Unavailable,
    in_doubt,
)

SILENCE = frozenset({"TIMED_OUT", "NO_ENDPOINT", "NOT_READY", "DRAINING"})
"""Reasons that say nothing of the request."""

ANCHOR_MIN = 1
"""Stands in for a log time that nobody tells. A leader that finds it too old says what time it is."""


LOGGED_REFUSALS = frozenset({"REQUEST_ID_REUSED", "REQUEST_ABORTED"})


def more_telling(before: RingholdError | None, error: RingholdError) -> RingholdError:
    """What to report of two failed attempts: a node's own word; silence, or an endpoint that is gone, says less."""
    return error if before is None or error.reason not in SILENCE or before.reason in SILENCE else before


class RequestFate(Protocol):
    def judge(self, error: RingholdError) -> RingholdError | None:
        """Take in how an attempt failed: None if the request should be repeated, else the error that ends it."""

    def ending(self) -> RingholdError:
        """The error that the request ends with if there is no time left."""


class ReadFate:
    """A read has no effect: it is repeated for as long as an answer may come."""

    def __init__(self) -> None:
        self._last: RingholdError | None = None

    def judge(self, error: RingholdError) -> RingholdError | None:
        if isinstance(error, InDoubt):
            error = TimedOut("TIMED_OUT", f"there was no answer within the deadline: {error}")
            self._last = more_telling(self._last, error)
        elif isinstance(error, Unavailable | Overloaded | Incomplete):
            self._last = more_telling(self._last, error)
        else:
            return error
        return None

    def ending(self) -> RingholdError:
        return self._last or not_attempted()


class MutationFate:
    """A mutation is repeated with one request_id and one anchor, so that it takes effect at most once.

    `anchor` is None until it is chosen, once. It is never left to the gateway: an attempt that is lost could then
    neither be repeated nor resolved. While nothing is in doubt, an anchor that turns out too old is replaced, once,
    unless the program gave it.
    """

    def __init__(self, request_id: bytes, key: bytes, anchor: int | None = None) -> None:
        self.request_id = request_id
        self.anchor = anchor or None
        self.is_in_doubt = False
        self._key = key
        self._may_renew = self.anchor is None
        self._last: RingholdError | None = None

    def judge(self, error: RingholdError) -> RingholdError | None:
        self._last = more_telling(self._last, error)
        if isinstance(error, InDoubt):
            self.is_in_doubt = True
            return None
        if isinstance(error, Unavailable | Overloaded):
            return None
        if error.reason == "REQUEST_EXPIRED" and self._renew(error):
            self._last = TimedOut("TIMED_OUT", "the deadline passed before an attempt with a new anchor")
            return None
        return self._doubt() if self.is_in_doubt and not _is_logged(error) else error

    def ending(self) -> RingholdError:
        return self._doubt() if self.is_in_doubt else self._last or not_attempted()

    def anchor_learnt(self, log_time_ms: int) -> None:
        """The group was asked for its log time; 0: it did not say."""
        self.anchor = log_time_ms or ANCHOR_MIN

    def anchor_not_learnt(self, error: RingholdError) -> None:
        """The mutation is not tried, because the question for a log time failed."""
        self._last = more_telling(self._last, error)

    def _renew(self, error: RingholdError) -> bool:
        anchor = log_time_in(error)
        if self.is_in_doubt or not self._may_renew or not anchor:
            return False
        self.anchor, self._may_renew = anchor, False
        return True

    def _doubt(self) -> InDoubt:
        assert self.anchor, "nothing is sent without an anchor"
        message = f"the mutation may or may not have been applied: {self._last}"
        doubt = in_doubt(message, self.request_id, self.anchor, self._key)
        doubt.__cause__ = self._last
        return doubt


class OrderFate:
    """Orders to the cluster are idempotent, so that they are repeated; but what was sent may have been taken.

    Then a refusal of a later attempt ends nothing: the first one may be the reason for it.
    """

    def __init__(self) -> None:
        self.is_in_doubt = False
        self._last: RingholdError | None = None

    def judge(self, error: RingholdError) -> RingholdError | None:
        self._last = more_telling(self._last, error)
        if isinstance(error, InDoubt):
            self.is_in_doubt = True
            return None
        return None if isinstance(error, Unavailable | Overloaded) else self.ending()

    def ending(self) -> RingholdError:
        last = self._last or not_attempted()
        if not self.is_in_doubt:
            return last
        message = f"the change may or may not have been made, to give it again is safe: {last}"
        doubt = InDoubt("IN_DOUBT", message)
        doubt.__cause__ = last
        return doubt


def not_attempted() -> TimedOut:
    """The error of a request for which there was no time at all."""
    return TimedOut("TIMED_OUT", "the deadline passed before the first attempt")


def log_time_in(error: RingholdError) -> int:
    """The group's log time that came with an error, in milliseconds; 0 if none came."""
    text = error.details.get("log_time_ms", "")
    return int(text) if text.isdecimal() else 0


def _is_logged(error: RingholdError) -> bool:
    # What the group's log says of this very mutation: it was evaluated, or another one has its request_id, or it was
    # resolved before it was applied.
    return isinstance(error, Conflict | KeyNotFound) or error.reason in LOGGED_REFUSALS
