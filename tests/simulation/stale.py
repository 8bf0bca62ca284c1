"""Whether stale reads found what they may: what was true no longer ago than they say (P2's one exception)."""

from collections.abc import Iterable, Iterator
from math import inf

from .history import StaleRead
from .queries import Timeline

DRIFT_SHARE_MAX = 0.1
"""A replica measures how far it is behind on its own clock."""

ROUNDING_S = 0.002


def wrong_with_stale(reads: Iterable[StaleRead], timeline: Timeline) -> Iterator[str]:
    """What no replica can have had within the age that the answer admits; of an unknown age, what none ever had."""
    for read in reads:
        as_of = oldest(read.invoked, read.behind_s)
        if not timeline.explains(read, as_of, read.returned):
            yield f"a stale read found what was not stored from {as_of:.3f} to {read.returned:.3f}: {read}"


def oldest(invoked: float, behind_s: float | None) -> float:
    """The moment whose acknowledged mutations an answer must hold: before the call, as the answer may be slow."""
    if behind_s is None:
        return -inf
    return invoked - behind_s * (1 + DRIFT_SHARE_MAX) - ROUNDING_S
