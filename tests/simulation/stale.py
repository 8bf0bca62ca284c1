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
        if not timeline.explains(read, oldest(read), read.returned):
            yield f"a stale read found what was not stored from {oldest(read):.3f} to {read.returned:.3f}: {read}"


def oldest(read: StaleRead) -> float:
    """The moment whose acknowledged mutations the answer must hold: before the call, as its answer may be slow."""
    if read.behind_s is None:
        return -inf
    return read.invoked - read.behind_s * (1 + DRIFT_SHARE_MAX) - ROUNDING_S
