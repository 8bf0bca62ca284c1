"""Whether what clients learnt of one key could come from one register that changes at single moments (P2).

Every acknowledged mutation names its version, and every value is written once, so nearly all of the order is known and
is only compared with the clock (`chain.py`). What is left to search are mutations in doubt that nobody has read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .chain import Ruling, sweep
from .history import Fate, Mutation, Read
from .register import Look, Write
from .search import Search, Undecided

__all__ = ["Misread", "Undecided", "verdict"]


class Misread(Exception):
    """A value was read that nobody wrote so."""


def verdict(mutations: Iterable[Mutation], reads: Iterable[Read], sightings: Iterable[Read] = ()) -> str | None:
    """Why the operations of one key are not linearizable; None if they are. Raises Undecided.

    `sightings` are stale reads: the clock does not bind them, but what they found has happened by then.
    """
    looks = [look_of(read) for read in reads]
    writes: list[Write] = []
    for mutation in mutations:
        if mutation.fate is Fate.DONE and mutation.version == 0:
            looks.append(Look(None, 0, mutation.invoked, mutation.returned))
        elif mutation.fate is not Fate.NEVER:
            certain = mutation.fate is Fate.DONE
            writes.append(Write(mutation.value, mutation.version, certain, mutation.invoked, mutation.returned))
    try:
        writes = sighted(observed(writes, looks), [look_of(read) for read in sightings])
    except Misread as error:
        return str(error)
    versions = [write.version for write in writes if write.version is not None]
    if len(set(versions)) < len(versions):
        return f"two mutations have one version: {sorted(versions)}"
    return why_not_linearizable(writes, looks)


def look_of(read: Read) -> Look:
    return Look(read.value, read.version, read.invoked, read.returned)


def observed(writes: Sequence[Write], looks: Sequence[Look]) -> list[Write]:
    """The writes, with the versions that looks tell of those in doubt."""
    by_value = {write.value: write for write in writes if write.value is not None}
    for look in looks:
        if look.value is None:
            continue
        write = by_value.get(look.value)
        if write is None:
            raise Misread(f"{look.value!r} was read, and nobody has set it, or its Set was reported as not applied")
        if write.version not in {None, look.version}:
            raise Misread(f"{look.value!r} was read at version {look.version} and set at version {write.version}")
        by_value[look.value] = replace(write, version=look.version, certain=True)
    return [write if write.value is None else by_value[write.value] for write in writes]


def sighted(writes: Sequence[Write], sightings: Sequence[Look]) -> list[Write]:
    """The writes, with what stale looks tell: the version, and a moment by which it had happened."""
    seen = {look.value: look for look in sorted(sightings, key=lambda look: -look.returned) if look.value is not None}
    return [
        replace(write, returned=min(write.returned, seen[write.value].returned)) if write.value in seen else write
        for write in observed(writes, sightings)
    ]


def why_not_linearizable(writes: Sequence[Write], looks: Sequence[Look]) -> str | None:
    """Why no order of these operations fits both the clock and the register; None if one does. See `sweep`."""
    ruling, reason = sweep(writes, looks)
    if ruling is Ruling.OPEN:
        return Search(writes, looks).run()
    return reason if ruling is Ruling.BROKEN else None
