"""Linearizability where writes in doubt matter: depth first over what may come next, bounded.

A write in doubt that nobody saw is worth a place in two cases only: a Set right before a Delete that had nothing to
delete otherwise, and a Delete right before a look that found nothing; anywhere else it can be left out. Of two that
would do, one that begins no later and ends no later is as good. So there are few ways to go, and each step looks at
few operations: those that began before the next one that must come has ended.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from .chain import told
from .register import Look, Register, Write

STEPS_MAX = 200_000


class Undecided(Exception):
    """The search was given up: too much is in doubt."""


class State(NamedTuple):
    """Where a search stands. Needed operations are numbered by their beginning, those in doubt likewise."""

    base: int
    """All needed ones before this one are taken."""
    taken: int
    """A bit for each that is taken from there on."""
    spent: int
    """A bit for each one in doubt that is taken."""
    written: int
    """How many certain writes are taken."""
    seen: int
    """How many looks at the newest of them are taken."""
    latest: float
    """When the last of all taken ones began: nothing that had ended before that may follow."""
    register: Register


START = State(0, 0, 0, 0, 0, -inf, Register())


class Search:
    """Whether some order of the operations fits both the clock and the register. The contract is that of `sweep`."""

    def __init__(self, writes: Sequence[Write], looks: Sequence[Look]) -> None:
        certain = [write for write in writes if write.certain]
        self._needed: list[Write | Look] = sorted([*certain, *looks], key=lambda one: one.invoked)
        self._chain = sorted(certain, key=lambda write: write.version or 0)
        self._doubted = sorted((write for write in writes if not write.certain), key=lambda one: one.invoked)
        self._looks_at = Counter(look.version for look in looks if look.value is not None)
        self._furthest = 0
        self._steps = 0

    def run(self) -> str | None:
        """None if there is an order; else how far the best attempt got. Raises Undecided."""
        pending, met = [START], {START}
        while pending:
            state = pending.pop()
            if state.base == len(self._needed):
                return None
            self._furthest = max(self._furthest, state.base)
            self._count_step()
            fresh = [one for one in self._after(state) if one not in met]
            met.update(fresh)
            pending += fresh
        return f"no order explains {told(self._needed[self._furthest])} and what was answered before"

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Undecided(f"{len(self._needed)} operations, {len(self._doubted)} in doubt, {STEPS_MAX} steps")

    def _after(self, state: State) -> list[State]:
        """The states that may follow; the likeliest is last."""
        window, horizon = self._window(state)
        left = [
            (number, write)
            for number, write in enumerate(self._doubted)
            if write.returned >= state.latest and not state.spent >> number & 1
        ]
        fitting = [number for number, one in window if isinstance(one, Look) and state.register.shows(one)]
        patience = min((write.returned for _, write in left), default=inf)
        for number in fitting:
            if self._needed[number].invoked <= patience:
                return [self._looked(state, number)]  # it changes nothing and shuts out nothing
        after = [self._looked(state, number) for number in fitting]
        if self._all_seen(state):
            after += self._doubted_next(state, [one for one in left if one[1].invoked <= horizon], window)
            after += self._certain_next(state, window)
        return after

    def _window(self, state: State) -> tuple[list[tuple[int, Write | Look]], float]:
        """The needed operations that may come next, and the moment before which any next one must have begun."""
        horizon, window = inf, []
        for number in range(state.base, len(self._needed)):
            one = self._needed[number]
            if one.invoked > horizon:
                break
            if not state.taken >> (number - state.base) & 1:
                horizon = min(horizon, one.returned)
                window.append((number, one))
        return [(number, one) for number, one in window if one.invoked <= horizon], horizon

    def _all_seen(self, state: State) -> bool:
        """Whether all looks at the newest certain write are taken: once it is overwritten none can be."""
        return not state.written or state.seen == self._looks_at[self._chain[state.written - 1].version or 0]

    def _certain_next(self, state: State, window: Sequence[tuple[int, Write | Look]]) -> Iterator[State]:
        for number, one in window:
            if state.written < len(self._chain) and one is self._chain[state.written]:
                register = state.register.written(self._chain[state.written])
                if register is not None:
                    moved = self._moved(state, number)
                    yield moved._replace(written=state.written + 1, seen=0, register=register)

    def _doubted_next(
        self, state: State, left: Sequence[tuple[int, Write]], window: Sequence[tuple[int, Write | Look]]
    ) -> Iterator[State]:
        """A write in doubt where one is worth its place."""
        if state.register.value is None:
            follower = self._chain[state.written] if state.written < len(self._chain) else None
            is_wanted = follower is not None and follower.value is None
            able = [one for one in left if one[1].value is not None]
        else:
            is_wanted = any(isinstance(one, Look) and one.value is None for _, one in window)
            able = [one for one in left if one[1].value is None]
        for number, write in undominated(able, state.latest) if is_wanted else ():
            register = state.register.written(write)
            assert register is not None, "a Set, or a Delete of a record, is always possible"
            yield state._replace(
                spent=state.spent | 1 << number, latest=max(state.latest, write.invoked), register=register
            )

    def _looked(self, state: State, number: int) -> State:
        moved = self._moved(state, number)
        return moved if self._needed[number].value is None else moved._replace(seen=moved.seen + 1)

    def _moved(self, state: State, number: int) -> State:
        """The state with one more needed operation taken."""
        taken = state.taken | 1 << (number - state.base)
        base = state.base
        while taken & 1:
            taken >>= 1
            base += 1
        return state._replace(base=base, taken=taken, latest=max(state.latest, self._needed[number].invoked))


def undominated(writes: Sequence[tuple[int, Write]], latest: float) -> Iterator[tuple[int, Write]]:
    """Those than which no other both begins (after `latest`) and ends as early."""
    first_end: float | None = None
    for number, write in sorted(writes, key=lambda one: (max(one[1].invoked, latest), one[1].returned)):
        if first_end is None or write.returned < first_end:
            first_end = write.returned
            yield number, write
