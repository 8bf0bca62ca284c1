"""What one register can have answered, by trying every order: slow, plain, and nothing of the real checker in it."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

from .history import Fate, Mutation, Read


class Step(NamedTuple):
    """An operation. `writes` None: it only looks, and finds `value`; `version` None: unknown."""

    writes: bool
    value: bytes | None
    version: int | None
    needed: bool
    invoked: float
    returned: float


class Cell(NamedTuple):
    """What is stored. Not `exact`: the version may be higher."""

    value: bytes | None = None
    version: int = 0
    exact: bool = True


def any_order_explains(mutations: Iterable[Mutation], reads: Iterable[Read]) -> bool:
    """Whether some order of these operations of one key, with or without those in doubt, fits clock and register."""
    steps = [Step(False, read.value, read.version, True, read.invoked, read.returned) for read in reads]
    for one in mutations:
        if one.fate is Fate.DONE and one.version == 0:
            steps.append(Step(False, None, 0, True, one.invoked, one.returned))
        elif one.fate is not Fate.NEVER:
            steps.append(Step(True, one.value, one.version, one.fate is Fate.DONE, one.invoked, one.returned))
    return explains(steps, Cell(), -inf)


def explains(left: Sequence[Step], cell: Cell, latest: float) -> bool:
    if not any(step.needed for step in left):
        return True
    for at, step in enumerate(left):
        others = [*left[:at], *left[at + 1 :]]
        if step.returned < latest or any(other.needed and other.returned < step.invoked for other in others):
            continue
        after = stepped(cell, step)
        if after is not None and explains(others, after, max(latest, step.invoked)):
            return True
    return False


def stepped(cell: Cell, step: Step) -> Cell | None:
    """The cell after a step; None if it can't come next."""
    if step.writes:
        if step.value is None and cell.value is None:
            return None
        if step.version is None:
            return Cell(step.value, cell.version + 1, False)
        return Cell(step.value, step.version) if step.version > cell.version else None
    if step.value != cell.value:
        return None
    if step.value is None:
        return cell
    assert step.version is not None
    fits = step.version == cell.version or (not cell.exact and step.version > cell.version)
    return Cell(cell.value, step.version) if fits else None
