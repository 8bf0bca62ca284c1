"""What is heard of the engines of others tells a restart from an old state of a disk, and outlives restarts here."""

import pytest

from ringhold.node.identity_conflict import GenerationForgotten, RestoredDisk, conflict_with_heard
from ringhold.node.peers.boots import Boot
from ringhold.node.peers.heard import Heard, HeardEngines, heard_key
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.envelope import Damaged, seal
from ringhold.node.storage.mark import NOWHERE, Position, new_engine_id
from ringhold.node.storage.memory import MemoryEngine


def at(number: int, generation: int = 1) -> Position:
    return Position(new_engine_id(generation, lambda bits: 7), number)


def test_a_start_is_measured_by_those_before_it() -> None:
    """What a start itself has synced since says nothing of what it has found."""
    heard = Heard(1, 5, newest=at(10))
    assert (heard.least(1, 5), heard.least(2, 6), heard.least(1, 6)) == (NOWHERE, at(10), at(10))
    assert heard.hear(1, 5, at(12))
    assert not heard.hear(1, 5, at(12))
    assert not heard.hear(1, 5, at(11))
    assert heard.hear(2, 6, at(11))
    assert (heard.least(2, 6), heard.least(3, 7)) == (at(12), at(12))
    assert heard.hear(2, 6, at(40))
    assert (heard.least(2, 6), heard.least(3, 7)) == (at(12), at(40))


@pytest.mark.parametrize("start", [(1, 5), (2, 7)])
def test_who_is_not_the_newest_start_is_not_heard(start: tuple[int, int]) -> None:
    """A late beat of an older process, or of another one of the same generation, moves nothing."""
    heard = Heard(2, 6, at(3), at(10))
    assert not heard.hear(*start, at(99))
    assert heard == Heard(2, 6, at(3), at(10))


def test_an_engine_begun_later_is_beyond_all_of_an_earlier_one() -> None:
    """So the reborn are believed, and what was put aside before is not; a recovery is later than its generation."""
    first = new_engine_id(4, lambda bits: 2**bits - 1)
    recovered = new_engine_id(4, lambda bits: 0, by_recovery=True)
    second = new_engine_id(5, lambda bits: 0)
    assert first < recovered < second < 2**64
    assert Position(first, 2**63) < Position(second, 0)
    assert Position(recovered, 0).generation == 4


def test_what_was_heard_is_kept_in_one_put() -> None:
    """Only what changed is written, and nothing if nothing did; who is forgotten stays forgotten."""
    engine = MemoryEngine()
    known = HeardEngines(engine)
    known.keep()
    assert engine.scan(b"", b"\xff", limit=9) == []
    for node_id, number in (("a", 3), ("b", 4), ("a", 5)):
        known.hear(node_id, 1, 0, at(number))
    known.keep()
    assert [key for key, _ in engine.scan(b"", b"\xff", limit=9)] == [heard_key("a"), heard_key("b")]
    again = HeardEngines(engine)
    assert (again.of("a"), again.of("b"), again.of("c")) == (Heard(1, 0, newest=at(5)), Heard(1, 0, newest=at(4)), None)
    again.forget(["a", "never seen"])
    again.keep()
    assert (HeardEngines(engine).of("a"), HeardEngines(engine).of("b")) == (None, Heard(1, 0, newest=at(4)))


def test_a_hello_tells_what_is_kept() -> None:
    """Both forms hold the same."""
    heard = Heard(2**40, 2**53 - 1, at(3), at(2**60, generation=9))
    assert Heard.of(heard.told()) == Heard.decode(heard.encode()) == heard
    for wrong in (b"", seal(b"short"), heard.encode()[:-1]):
        with pytest.raises(Damaged):
            Heard.decode(wrong)
    engine = MemoryEngine()
    engine.write(WriteBatch({heard_key("a"): b"wrong"}))
    with pytest.raises(Damaged):
        HeardEngines(engine)


def test_a_ghost_is_told_how_old_it_is() -> None:
    """And the way out; an engine begun anew without replicas goes on beyond whatever the others know."""
    own, heard = Boot(4, 1, at(870, generation=2)), Heard(3, 8, newest=at(900, generation=2))
    restored = conflict_with_heard(own, heard, is_blank=False)
    assert isinstance(restored, RestoredDisk)
    assert "at batch 900 of the engine of generation 2, and here its engine was opened at batch 870" in str(restored)
    assert "Remove its folder 'engine' and start again" in str(restored)
    blank = conflict_with_heard(own, Heard(7, 8, newest=at(1, generation=6)), is_blank=True)
    assert isinstance(blank, GenerationForgotten)
    assert blank.generation == 7
