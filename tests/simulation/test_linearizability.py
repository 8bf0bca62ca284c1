"""The checker of single keys against one that simply tries every order."""

import random
from math import inf

import pytest
from simulation.history import Fate, Mutation, Read
from simulation.linearizability import Look, Register, Write, linearizable, verdict

HISTORIES = 4_000


def any_order(left: list[Write | Look], register: Register, latest: float) -> bool:
    """Whether some order of the operations fits, by trying them all."""
    needed = [operation for operation in left if isinstance(operation, Look) or operation.certain]
    if not needed:
        return True
    for operation in left:
        others = [other for other in left if other is not operation]
        if any(other in needed and other.returned < operation.invoked for other in others):
            continue
        if operation.returned < latest:
            continue
        if isinstance(operation, Look):
            after = register if register.shows(operation) else None
        else:
            after = register.written(operation)
        if after is not None and any_order(others, after, max(latest, operation.invoked)):
            return True
    return False


def random_history(rng: random.Random) -> tuple[list[Write], list[Look]]:
    """Up to seven operations that really ran in some order, half of the time with one answer changed."""
    writes: list[Write] = []
    looks: list[Look] = []
    register, revision, began = Register(), 0, 0.0
    for number in range(rng.randint(2, 7)):
        moment = began = began + rng.uniform(0, 2)
        invoked, returned = moment - rng.uniform(0, 3), moment + rng.uniform(0, 3)
        if rng.random() < 0.5:
            looks.append(Look(register.value, register.version if register.value else 0, invoked, returned))
            continue
        value = None if rng.random() < 0.3 else b"%d" % number
        in_doubt = rng.random() < 0.4
        happens = not in_doubt or rng.random() < 0.5
        if value is None and register.value is None:
            looks.append(Look(None, 0, invoked, returned))
            continue
        revision += rng.randint(1, 2)
        version = None if in_doubt else revision
        until = rng.choice([inf, returned]) if in_doubt else returned
        writes.append(Write(value, version, not in_doubt, invoked, until))
        if happens:
            register = Register(value, revision)
    if rng.random() < 0.5 and looks:
        changed = rng.randrange(len(looks))
        look = looks[changed]
        other = rng.choice([(None, 0), *((write.value, write.version or revision) for write in writes)])
        looks[changed] = Look(other[0], other[1], look.invoked, look.returned)
    return writes, looks


def test_it_agrees_with_trying_every_order() -> None:
    """On thousands of small histories the search says what an exhaustive one says."""
    rng = random.Random(7)
    found = {True: 0, False: 0}
    for _ in range(HISTORIES):
        writes, looks = random_history(rng)
        expected = any_order([*writes, *looks], Register(), -inf)
        assert linearizable(writes, looks) is expected, (writes, looks)
        found[expected] += 1
    assert min(found.values()) > HISTORIES / 20


def set_(value: bytes, invoked: float, returned: float, version: int) -> Mutation:
    return Mutation(b"k", value, frozenset(), invoked, returned=returned, fate=Fate.DONE, version=version)


def read(value: bytes | None, invoked: float, returned: float, version: int = 0) -> Read:
    return Read(b"k", value, version, frozenset(), invoked, returned)


GOOD = {
    "a read sees a concurrent write or not": (
        [set_(b"a", 0, 4, 1)],
        [read(None, 1, 2), read(b"a", 2.5, 3, 1)],
    ),
    "a write in doubt may have happened": (
        [Mutation(b"k", b"a", frozenset(), 0)],
        [read(None, 1, 2), read(b"a", 5, 6, 3)],
    ),
    "a delete in doubt explains an absent key": (
        [set_(b"a", 0, 1, 1), Mutation(b"k", None, frozenset(), 2)],
        [read(b"a", 3, 4, 1), read(None, 5, 6)],
    ),
    "a set in doubt explains what a delete found": (
        [
            Mutation(b"k", b"a", frozenset(), 0),
            Mutation(b"k", None, frozenset(), 2, returned=3, fate=Fate.DONE, version=9),
        ],
        [],
    ),
}
BAD = {
    "a read of a lost write": ([set_(b"a", 0, 1, 1)], [read(None, 2, 3)]),
    "a read goes back": ([set_(b"a", 0, 1, 1), set_(b"b", 2, 3, 2)], [read(b"a", 4, 5, 1)]),
    "an effect after it was settled": (
        [Mutation(b"k", b"a", frozenset(), 0, returned=2)],
        [read(None, 3, 4), read(b"a", 5, 6, 3)],
    ),
    "versions against the clock": ([set_(b"a", 0, 1, 2), set_(b"b", 2, 3, 1)], []),
    "one version twice": ([set_(b"a", 0, 1, 2), set_(b"b", 2, 3, 2)], []),
    "the same set twice": ([set_(b"a", 0, 1, 1)], [read(b"a", 2, 3, 7)]),
    "an effect that was denied": (
        [Mutation(b"k", b"a", frozenset(), 0, returned=1, fate=Fate.NEVER)],
        [read(b"a", 2, 3, 1)],
    ),
    "a value from nowhere": ([], [read(b"a", 2, 3, 7)]),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_histories_pass(case: str) -> None:
    """What one register can do is accepted."""
    assert verdict(*GOOD[case]) is None


@pytest.mark.parametrize("case", BAD)
def test_bad_histories_fail(case: str) -> None:
    """What no register can do is found."""
    assert verdict(*BAD[case]) is not None
