"""Linearizability where versions give the order: one sweep, linear once the operations are sorted.

The certain writes stand in the order of their versions, each followed by the looks that saw it; the clock must allow
that. Looks that found nothing need a gap after a Delete, or before the first write. Only where such a gap is missing,
or a Delete had nothing to delete, can writes in doubt matter: then `search.py` decides.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, chain
from math import inf

from .register import Look, Write


class Ruling(Enum):
    """Whether the history is linearizable; OPEN: that depends on writes in doubt."""

    FITS = "fits"
    BROKEN = "broken"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Gap:
    """Between two certain writes: what comes here must return after `opened` and be invoked before `closed`."""

    is_empty: bool
    """Nothing is stored here, unless a write in doubt has put it there."""
    opened: float
    closed: float


def sweep(writes: Sequence[Write], looks: Sequence[Look]) -> tuple[Ruling, str]:
    """The ruling, and the reason if it is BROKEN.

    Every look with a value must be of a certain write with that value and version, and no two have one version.
    """
    certain = sorted((write for write in writes if write.certain), key=lambda write: write.version or 0)
    segments = segments_of(certain, looks)
    if (reason := against_the_clock(segments)) is not None:
        return Ruling.BROKEN, reason
    in_doubt = [write for write in writes if not write.certain]
    gaps = gaps_of(certain, segments)
    empty = [gap for gap in gaps if gap.is_empty]
    rulings = [
        rule(unfounded_delete(certain, gaps), any(write.value is not None for write in in_doubt)),
        rule(unplaced(looks, empty), any(write.value is None for write in in_doubt)),
    ]
    for wanted in (Ruling.BROKEN, Ruling.OPEN):
        for ruling, reason in rulings:
            if ruling is wanted:
                return ruling, reason
    return Ruling.FITS, ""


def segments_of(certain: Sequence[Write], looks: Sequence[Look]) -> list[list[Write | Look]]:
    """Each write with the looks that saw it."""
    seen: dict[int, list[Look]] = defaultdict(list)
    for look in sorted(looks, key=lambda look: look.invoked):
        if look.value is not None:
            seen[look.version].append(look)
    return [[write, *seen[write.version or 0]] for write in certain]


def against_the_clock(segments: Sequence[Sequence[Write | Look]]) -> str | None:
    """The first operation that had returned before one began that its version puts before it."""
    latest: Write | Look | None = None
    for operation in chain.from_iterable(segments):
        if latest is not None and operation.returned < latest.invoked:
            return f"{told(operation)} comes after {told(latest)} by its version, and had ended before that began"
        if latest is None or operation.invoked > latest.invoked:
            latest = operation
    return None


def gaps_of(certain: Sequence[Write], segments: Sequence[Sequence[Write | Look]]) -> list[Gap]:
    """The gaps before, between and after the certain writes."""
    invoked = [max(operation.invoked for operation in segment) for segment in segments]
    returned = [min(operation.returned for operation in segment) for segment in segments]
    opened = accumulate([-inf, *invoked], max)
    closed = reversed(list(accumulate([inf, *reversed(returned)], min)))
    empty = [True, *(write.value is None for write in certain)]
    return [Gap(*gap) for gap in zip(empty, opened, closed, strict=True)]


def unfounded_delete(certain: Sequence[Write], gaps: Sequence[Gap]) -> str | None:
    """The first Delete that, but for writes in doubt, had nothing to delete."""
    for write, gap in zip(certain, gaps, strict=False):
        if write.value is None and gap.is_empty:
            return f"{told(write)} had nothing to delete"
    return None


def unplaced(looks: Sequence[Look], empty: Sequence[Gap]) -> str | None:
    """The first look that found nothing and fits into none of the gaps in which nothing was there.

    The earliest gap is best for each, because both bounds of the gaps only grow.
    """
    at = 0
    for look in sorted((look for look in looks if look.value is None), key=lambda look: look.invoked):
        while at < len(empty) and empty[at].closed < look.invoked:
            at += 1
        if at == len(empty) or look.returned < empty[at].opened:
            return f"{told(look)} is wrong: there was a record all the time"
    return None


def rule(reason: str | None, can_be_mended: bool) -> tuple[Ruling, str]:
    """`can_be_mended`: there are writes in doubt that might explain it."""
    if reason is None:
        return Ruling.FITS, ""
    return (Ruling.OPEN if can_be_mended else Ruling.BROKEN), reason


def told(operation: Write | Look) -> str:
    """An operation for people."""
    if isinstance(operation, Write):
        what = "a Delete" if operation.value is None else f"the Set of {operation.value!r}"
    else:
        what = "a read of nothing" if operation.value is None else f"a read of {operation.value!r}"
    return f"{what} ({operation.invoked:.3f}-{operation.returned:.3f}, version {operation.version})"
