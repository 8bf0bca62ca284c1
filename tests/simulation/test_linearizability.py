"""The checker of single keys against one that simply tries every order."""

import random
import time
from collections import Counter
from dataclasses import replace
from math import inf

import pytest
from simulation.brute_force import any_order_explains
from simulation.chain import Ruling, sweep
from simulation.history import Fate, Mutation, Read
from simulation.linearizability import verdict
from simulation.register import Look, Write

HISTORIES = 10_000
LONG_HISTORY = 5_000
LONG_HISTORY_S_MAX = 1.0

History = tuple[list[Mutation], list[Read]]


def random_history(rng: random.Random) -> History:
    """Up to eight operations that really ran in some order; most of the time some answers are then changed."""
    mutations: list[Mutation] = []
    reads: list[Read] = []
    value, revision, moment = None, 0, 0.0
    for number in range(rng.randint(2, 8)):
        moment += rng.uniform(0, 2)
        invoked, returned = moment - rng.uniform(0, 2), moment + rng.uniform(0, 2)
        revision += rng.random() < 0.3
        if rng.random() < 0.45:
            reads.append(Read(b"k", value, revision_of(mutations, value), frozenset(), invoked, returned))
            continue
        mutation = Mutation(b"k", None if rng.random() < 0.4 else b"%d" % number, frozenset(), invoked)
        mutations.append(mutation)
        doubted = rng.random() < 0.45
        if not doubted or rng.random() < 0.6:
            revision += mutation.value is not None or value is not None
            mutation.done(revision if mutation.value is not None or value is not None else 0, returned)
            value = mutation.value
        mutation.anchor = doubted
    for _ in range(rng.choice([0, 1, 2, 3])):
        change_an_answer(rng, mutations, reads)
    for mutation in mutations:
        if mutation.anchor:
            mutation.fate, mutation.version = Fate.DOUBT, None
            mutation.returned = rng.choice([inf, mutation.returned])
    return mutations, reads


def revision_of(mutations: list[Mutation], value: bytes | None) -> int:
    return next((one.version or 0 for one in mutations if value is not None and one.value == value), 0)


def change_an_answer(rng: random.Random, mutations: list[Mutation], reads: list[Read]) -> None:
    """A read finds what another operation wrote, or a mutation comes at another time."""
    if reads and rng.random() < 0.7:
        at = rng.randrange(len(reads))
        other = rng.choice([(None, 0), *((one.value, one.version or 1) for one in mutations if one.value)])
        reads[at] = replace(reads[at], value=other[0], version=other[1])
    elif mutations:
        moved = rng.choice(mutations)
        moved.invoked, moved.returned = moved.invoked + 3, moved.returned + 3


def test_it_agrees_with_trying_every_order() -> None:
    """On 10,000 small histories, good and bad, the checker says what an exhaustive one says."""
    rng = random.Random(7)
    found: Counter[bool] = Counter()
    for _ in range(HISTORIES):
        mutations, reads = random_history(rng)
        expected = any_order_explains(mutations, reads)
        assert (verdict(mutations, reads) is None) is expected, (mutations, reads)
        found[expected] += 1
    assert min(found[True], found[False]) > HISTORIES / 10


def test_every_ruling_of_the_sweep_is_met() -> None:
    """The random histories are of all kinds: those that versions decide, either way, and those that need a search."""
    rng = random.Random(8)
    found: Counter[Ruling] = Counter()
    for _ in range(500):
        mutations, reads = random_history(rng)
        certain = {one.value for one in mutations if one.fate is Fate.DONE}
        if all(read.value is None or read.value in certain for read in reads):
            writes = [
                Write(one.value, one.version, one.fate is Fate.DONE, one.invoked, one.returned)
                for one in mutations
                if one.version != 0
            ]
            looks = [Look(read.value, read.version, read.invoked, read.returned) for read in reads]
            found[sweep(writes, looks)[0]] += 1
    assert min(found[ruling] for ruling in Ruling) > 20


def long_history(rng: random.Random, operations: int) -> History:
    """What six clients learn of one key, a tenth of their mutations in doubt."""
    mutations: list[Mutation] = []
    reads: list[Read] = []
    value, version, revision = None, 0, 0
    for number in range(operations):
        moment = number * 0.02
        invoked, returned = moment - rng.uniform(0, 0.06), moment + rng.uniform(0, 0.06)
        if rng.random() < 0.4:
            reads.append(Read(b"k", value, version if value else 0, frozenset(), invoked, returned))
            continue
        mutation = Mutation(b"k", None if rng.random() < 0.4 else b"%d" % number, frozenset(), invoked)
        doubted = rng.random() < 0.1
        if not doubted or rng.random() < 0.5:
            revision += mutation.value is not None or value is not None
            version = revision if mutation.value is not None or value is not None else 0
            value = mutation.value
            mutation.done(version, returned)
        if doubted:
            mutation.fate, mutation.version, mutation.returned = Fate.DOUBT, None, 0.02 * operations
        mutations.append(mutation)
    return mutations, reads


def test_a_long_history_is_quick() -> None:
    """5,000 operations on one key, hundreds in doubt, take less than a second, right or wrong."""
    mutations, reads = long_history(random.Random(3), LONG_HISTORY)
    began = time.process_time()
    assert verdict(mutations, reads) is None
    last = max(at for at, read in enumerate(reads) if read.value is not None)
    reads[last] = replace(reads[last], value=reads[last // 2].value, version=reads[last // 2].version)
    assert verdict(mutations, reads) is not None
    assert time.process_time() - began < 2 * LONG_HISTORY_S_MAX


def set_(value: bytes, invoked: float, returned: float, version: int) -> Mutation:
    return Mutation(b"k", value, frozenset(), invoked, returned=returned, fate=Fate.DONE, version=version)


def delete(invoked: float, returned: float, version: int) -> Mutation:
    return Mutation(b"k", None, frozenset(), invoked, returned=returned, fate=Fate.DONE, version=version)


def doubt(value: bytes | None, invoked: float, returned: float = inf) -> Mutation:
    return Mutation(b"k", value, frozenset(), invoked, returned=returned)


def read(value: bytes | None, invoked: float, returned: float, version: int = 0) -> Read:
    return Read(b"k", value, version, frozenset(), invoked, returned)


GOOD = {
    "a read sees a concurrent write or not": (
        [set_(b"a", 0, 4, 1)],
        [read(None, 1, 2), read(b"a", 2.5, 3, 1)],
    ),
    "a write in doubt may have happened": (
        [doubt(b"a", 0)],
        [read(None, 1, 2), read(b"a", 5, 6, 3)],
    ),
    "a delete in doubt explains an absent key": (
        [set_(b"a", 0, 1, 1), doubt(None, 2)],
        [read(b"a", 3, 4, 1), read(None, 5, 6)],
    ),
    "a set in doubt explains what a delete found": (
        [doubt(b"a", 0), delete(2, 3, 9)],
        [],
    ),
    "a delete that found nothing is a read of nothing": (
        [set_(b"a", 0, 1, 1), delete(2, 3, 2), delete(4, 5, 0)],
        [read(None, 3.5, 6)],
    ),
    "reads of nothing before, between and after": (
        [set_(b"a", 2, 3, 1), delete(4, 5, 2), set_(b"b", 6, 7, 5)],
        [read(None, 0, 1), read(None, 4.5, 5.5), read(b"b", 7, 8, 5)],
    ),
    "one of two in doubt ends in time": (
        [set_(b"a", 0, 1, 1), doubt(None, 2, 3), doubt(None, 5), set_(b"b", 3.2, 3.4, 4)],
        [read(None, 2.5, 3.1), read(None, 6, 7)],
    ),
}
BAD = {
    "a read of a lost write": ([set_(b"a", 0, 1, 1)], [read(None, 2, 3)]),
    "a read goes back": ([set_(b"a", 0, 1, 1), set_(b"b", 2, 3, 2)], [read(b"a", 4, 5, 1)]),
    "an effect after it was settled": (
        [doubt(b"a", 0, 2)],
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
    "a delete of nothing that had an effect": ([delete(0, 1, 1)], []),
    "one delete in doubt can't explain two gaps": (
        [set_(b"a", 0, 1, 1), doubt(None, 1), set_(b"b", 4, 5, 4)],
        [read(None, 2, 3), read(None, 6, 7)],
    ),
    "there is no version for the write in doubt": (
        [set_(b"a", 0, 1, 1), doubt(None, 1), set_(b"b", 4, 5, 2)],
        [read(None, 2, 3)],
    ),
    "a value comes back": (
        [set_(b"a", 0, 1, 1), doubt(None, 1)],
        [read(None, 2, 3), read(b"a", 4, 5, 1)],
    ),
    "two reads see a write and then not": (
        [doubt(b"a", 0)],
        [read(b"a", 1, 2, 1), read(None, 3, 4)],
    ),
}
SIGHTED = {
    "what a stale read found has happened": ([doubt(b"a", 0)], [read(None, 3, 4)], read(b"a", 1, 2, 1), False),
    "a stale read may be late": ([set_(b"a", 0, 1, 1), delete(2, 3, 2)], [read(None, 4, 5)], read(b"a", 6, 7, 1), True),
    "a stale read of another version": ([set_(b"a", 0, 1, 1)], [], read(b"a", 2, 3, 2), False),
    "a stale read from nowhere": ([], [], read(b"a", 2, 3, 2), False),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_histories_pass(case: str) -> None:
    """What one register can do is accepted."""
    assert verdict(*GOOD[case]) is None
    assert any_order_explains(*GOOD[case])


@pytest.mark.parametrize("case", BAD)
def test_bad_histories_fail(case: str) -> None:
    """What no register can do is found."""
    assert verdict(*BAD[case]) is not None
    assert not any_order_explains(*BAD[case])


@pytest.mark.parametrize("case", SIGHTED)
def test_stale_reads_tell_of_doubt(case: str) -> None:
    """The clock does not bind a stale read, but what it found must have been written by then."""
    mutations, reads, sighting, is_right = SIGHTED[case]
    assert (verdict(mutations, reads, [sighting]) is None) is is_right
