"""Whether what clients learnt of one key could come from one register that changes at single moments (P2).

Every acknowledged mutation names its version, and every value is written once, so nearly all of the order is known and
is only compared with the clock. What is left to search are mutations in doubt that nobody has read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from .history import Fate, Mutation, Read

STEPS_MAX = 200_000


class Undecided(Exception):
    """The search was given up: too much is in doubt."""


@dataclass(frozen=True, slots=True)
class Write:
    """Changes the register. Not `certain`: it may be left out. `version` None: unknown, only larger than the last."""

    value: bytes | None
    version: int | None
    certain: bool
    invoked: float
    returned: float


@dataclass(frozen=True, slots=True)
class Look:
    """Finds `value` at `version`; None: finds nothing."""

    value: bytes | None
    version: int
    invoked: float
    returned: float


@dataclass(frozen=True, slots=True)
class Register:
    """The last write's value and version; `version` is a lower bound after one of unknown version."""

    value: bytes | None = None
    version: int = 0

    def written(self, write: Write) -> "Register | None":
        """The register after a write; None if it can't come next."""
        if write.value is None and self.value is None:
            return None  # an effective Delete needs a record
        if write.version is None:
            return Register(write.value, self.version + 1)
        return Register(write.value, write.version) if write.version > self.version else None

    def shows(self, look: Look) -> bool:
        return look.value == self.value and (look.value is None or look.version == self.version)


def verdict(mutations: Iterable[Mutation], reads: Iterable[Read]) -> str | None:
    """Why the operations of one key are not linearizable; None if they are. Raises Undecided."""
    looks = [Look(read.value, read.version, read.invoked, read.returned) for read in reads]
    writes: list[Write] = []
    for mutation in mutations:
        if mutation.fate is Fate.DONE and mutation.version == 0:
            looks.append(Look(None, 0, mutation.invoked, mutation.returned))
        elif mutation.fate is not Fate.NEVER:
            certain = mutation.fate is Fate.DONE
            writes.append(Write(mutation.value, mutation.version, certain, mutation.invoked, mutation.returned))
    versions = [write.version for write in writes if write.version is not None]
    if len(set(versions)) < len(versions):
        return f"two mutations have one version: {sorted(versions)}"
    try:
        writes = observed(writes, looks)
    except Misread as error:
        return str(error)
    return None if linearizable(writes, looks) else "no order of the operations explains what they answered"


class Misread(Exception):
    """A value was read that nobody wrote so."""


def observed(writes: Sequence[Write], looks: Sequence[Look]) -> list[Write]:
    """The writes, with what reads tell of those in doubt: version, and a moment by which they had happened."""
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


def linearizable(writes: Sequence[Write], looks: Sequence[Look]) -> bool:
    """Whether some order of these operations fits both the clock and the register."""
    return Search(writes, looks).run()


class Search:
    """Depth first over what comes next. Operations are numbered; a set of them is a bit mask."""

    def __init__(self, writes: Sequence[Write], looks: Sequence[Look]) -> None:
        self._operations: list[Write | Look] = sorted([*writes, *looks], key=lambda operation: operation.invoked)
        self._seen: set[tuple[int, Register]] = set()
        self._steps = 0

    def run(self) -> bool:
        pending: list[tuple[int, Register]] = [(0, Register())]
        while pending:
            taken, register = self._take_looks(*pending.pop())
            if self._is_complete(taken):
                return True
            if (taken, register) in self._seen:
                continue
            self._seen.add((taken, register))
            pending += self._steps_from(taken, register)
        return False

    def _is_complete(self, taken: int) -> bool:
        return not any(is_needed(operation) for _, operation in self._left(taken))

    def _take_looks(self, taken: int, register: Register) -> tuple[int, Register]:
        """Take every read that may come next, fits, and shuts out no write: it changes nothing, so that is right."""
        while True:
            end = min((write.returned for write in self._optional(taken)), default=inf)
            fitting = [
                number
                for number, operation in self._next(taken)
                if isinstance(operation, Look) and register.shows(operation) and operation.invoked <= end
            ]
            if not fitting:
                return taken, register
            for number in fitting:
                taken |= 1 << number

    def _steps_from(self, taken: int, register: Register) -> list[tuple[int, Register]]:
        """The states after each operation that may come next; the likeliest is last."""
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Undecided(f"{len(self._operations)} operations, {STEPS_MAX} steps")
        left = [operation for _, operation in self._left(taken)]
        lowest = min((known for operation in left if (known := needed_version(operation)) is not None), default=None)
        latest = self._latest(taken)
        steps: list[tuple[int, Register]] = []
        for number, operation in self._next(taken):
            if isinstance(operation, Look):
                after = register if register.shows(operation) else None
            elif operation.version in {None, lowest} and latest <= operation.returned:
                after = register.written(operation)
            else:
                after = None
            if after is not None:
                steps.append((taken | 1 << number, after))
        return sorted(steps, key=lambda step: step[1].version == lowest)

    def _optional(self, taken: int) -> list[Write]:
        """The writes in doubt that may still come."""
        latest = self._latest(taken)
        left = [operation for _, operation in self._left(taken) if isinstance(operation, Write)]
        return [write for write in left if not write.certain and latest <= write.returned]

    def _latest(self, taken: int) -> float:
        """The latest beginning of what has been taken: nothing that ended before that may follow."""
        return max((self._operations[number].invoked for number in numbers(taken)), default=-inf)

    def _left(self, taken: int) -> list[tuple[int, Write | Look]]:
        return [(number, one) for number, one in enumerate(self._operations) if not taken >> number & 1]

    def _next(self, taken: int) -> list[tuple[int, Write | Look]]:
        """The operations that began before any other one that is still needed had ended."""
        left = self._left(taken)
        horizon = min((operation.returned for _, operation in left if is_needed(operation)), default=inf)
        return [(number, operation) for number, operation in left if operation.invoked <= horizon]


def is_needed(operation: Write | Look) -> bool:
    return isinstance(operation, Look) or operation.certain


def needed_version(operation: Write | Look) -> int | None:
    return operation.version if isinstance(operation, Write) and operation.certain else None


def numbers(taken: int) -> list[int]:
    return [number for number in range(taken.bit_length()) if taken >> number & 1]
