"""The mark says how far an engine had come at its last sync, and never a batch more."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.gate import Gate
from support.virtual_time import turns, virtual

from ringhold.node.storage.engine import EngineFailed, WriteBatch
from ringhold.node.storage.envelope import Damaged, seal
from ringhold.node.storage.health import loss_of
from ringhold.node.storage.mark import (
    SLOT_BYTES,
    SLOT_DISTANCE,
    FileMark,
    Mark,
    MarkLost,
    MemoryMark,
    Position,
    read_mark,
    write_mark,
)
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import BATCH_KEY, NumberedEngine, stored_position

FIRST = Position(2**64 - 1, 0)


def at(number: int) -> Position:
    return Position(FIRST.engine_id, number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_mark(tmp_path / "mark", FIRST)
    return tmp_path / "mark"


def test_a_position_is_sealed() -> None:
    """The bytes are those of docs/storage-format.md; anything else is damaged."""
    stored = Position(1, 258).encode()
    assert stored[0] == 1
    assert stored[9:].hex(" ", 8) == "0000000000000001 0000000000000102"
    assert (Position.decode(stored), len(stored)) == (Position(1, 258), SLOT_BYTES)
    for wrong in (b"", stored[:-1], seal(b"short"), stored[:12] + b"\xff" + stored[13:]):
        with pytest.raises(Damaged):
            Position.decode(wrong)


def test_a_mark_holds_the_newest_note(path: Path) -> None:
    """Notes alternate between the slots, in this life and the next, so that the one before is always there."""
    number = 0
    for life in range(3):
        mark = FileMark(path)
        assert mark.position == at(number)
        for _ in range(life + 2):
            number += 1
            mark.note(at(number).encode())
            content = path.read_bytes()
            slots = {Position.decode(content[start : start + SLOT_BYTES]) for start in (0, SLOT_DISTANCE)}
            assert slots == {at(number), at(number - 1)}
            assert read_mark(path).position == at(number)
        mark.close()
        mark.close()


@pytest.mark.parametrize("spoil", [lambda slot: bytes(len(slot)), lambda slot: slot[:20] + b"\0" * 5])
def test_one_damaged_slot_leaves_the_other(path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Whichever it is, the other counts, and the damaged one is made good before anything else is written."""
    for damaged in (0, SLOT_DISTANCE):
        write_mark(path, FIRST)
        mark = FileMark(path)
        for number in (1, 2):
            mark.note(at(number).encode())
        mark.close()
        content = bytearray(path.read_bytes())
        first, second = (Position.decode(bytes(content[start : start + SLOT_BYTES])) for start in (0, SLOT_DISTANCE))
        expected = second if damaged == 0 else first
        content[damaged : damaged + SLOT_BYTES] = spoil(bytes(content[damaged : damaged + SLOT_BYTES]))
        path.write_bytes(content)
        assert (read_mark(path).position, read_mark(path).damaged_slots) == (expected, 1)
        again = FileMark(path)
        assert (read_mark(path).position, read_mark(path).damaged_slots) == (expected, 0)
        again.note(at(9).encode())
        again.close()
        assert (read_mark(path).position, read_mark(path).damaged_slots) == (at(9), 0)


@pytest.mark.parametrize("content", [b"", b"x", bytes(2 * SLOT_DISTANCE), b"\xff" * 9_000])
def test_what_is_no_mark_is_not_guessed_at(path: Path, content: bytes) -> None:
    """Both slots damaged, or a file cut short before the first, are no mark; neither is none."""
    path.write_bytes(content)
    with pytest.raises(MarkLost, match="both of its slots are damaged"):
        FileMark(path)
    path.unlink()
    with pytest.raises(MarkLost, match="is missing"):
        FileMark(path)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_mark_that_cant_be_kept_fails_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The failure comes up at the next note, or when the mark is closed, and is never tried again."""
    mark = FileMark(path, sync_s=0)

    def fail(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EngineFailed, match="can't be kept: Input/output error"):
        note_for_long(mark)
    monkeypatch.undo()
    with pytest.raises(EngineFailed, match="can't be kept"):
        mark.note(at(1_000_001).encode())
    with pytest.raises(EngineFailed, match="can't be kept"):
        mark.close()


def note_for_long(mark: FileMark) -> None:
    for number in range(1, 1_000_000):
        mark.note(at(number).encode())


class Notes:
    """A mark that remembers what was noted."""

    def __init__(self) -> None:
        self.position = FIRST
        self.numbers: list[int] = []

    def note(self, position: bytes) -> None:
        self.numbers.append(Position.decode(position).number)

    def close(self) -> None:
        self.numbers.append(-1)


def put(engine: NumberedEngine, key: bytes = b"k") -> None:
    engine.write(WriteBatch({key: b"v"}))


async def put_and_sync(engine: NumberedEngine) -> None:
    put(engine)
    await engine.sync()


@virtual
async def test_only_what_was_written_before_a_successful_sync_is_noted() -> None:
    """A batch that comes while a sync runs is not covered by it, and the note is there before the sync returns."""
    gate, notes = Gate(), Notes()
    engine = NumberedEngine(MemoryEngine(before_sync=gate.wait), notes)
    put(engine)
    put(engine)
    gate.close()
    syncing = asyncio.ensure_future(engine.sync())
    syncing.add_done_callback(lambda _: notes.numbers.append(0))
    await turns()
    put(engine)
    assert notes.numbers == []
    gate.open()
    await syncing
    await turns()
    assert notes.numbers == [2, 0]
    assert (engine.opened, engine.synced, engine.position) == (at(0), at(2), at(3))
    await engine.sync()
    await engine.sync()
    assert notes.numbers == [2, 0, 3]
    engine.write(WriteBatch())
    assert engine.position == at(3)
    engine.close()
    assert notes.numbers == [2, 0, 3, -1]


@virtual
async def test_a_failed_sync_or_write_is_not_noted() -> None:
    """What is not durable must not be missed at the next opening, neither then nor when the engine is closed."""
    for fault in ("fail_next_sync", "fail_next_write"):
        notes, inner = Notes(), MemoryEngine()
        engine = NumberedEngine(inner, notes)
        put(engine)
        setattr(inner, fault, EngineFailed("EIO"))
        with pytest.raises(EngineFailed):
            await put_and_sync(engine)
        engine.close()
        assert notes.numbers == [-1]


def test_the_number_is_in_the_batch_and_in_no_scan() -> None:
    """Each batch has the next number, also in the next life; scans of engine and views go without its row."""
    inner = MemoryEngine()
    for _ in range(3):
        engine = NumberedEngine(inner, Notes())
        put(engine, b"\x00first")
        put(engine, b"last")
    assert stored_position(inner) == engine.position == at(6)
    view = engine.snapshot()
    for reader in (engine, view):
        assert [key for key, _ in reader.scan(b"", b"z", limit=2)] == [b"\x00first", b"last"]
        assert [key for key, _ in reader.scan(b"", b"z", limit=1, reverse=True)] == [b"last"]
        assert reader.scan(BATCH_KEY, BATCH_KEY + b"\0", limit=9) == []
    view.close()


def test_an_engine_whose_number_is_damaged_is_not_opened() -> None:
    """Nobody may go on counting from a guess."""
    inner = MemoryEngine()
    inner.write(WriteBatch({BATCH_KEY: b"nonsense"}))
    with pytest.raises(Damaged):
        NumberedEngine(inner, Notes())


class TooEarly(NumberedEngine):
    """The fault: the number is in the mark before the sync."""

    async def sync(self) -> None:
        self._mark.note(self._encoded)
        await super().sync()


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def lives(kind: type[NumberedEngine], rng: Random, count: int) -> int:
    """How many of `count` lives find their engine behind its mark, after crashes of process or power at any moment."""
    clock, lost = Hand(), 0
    engine, mark = MemoryEngine(), MemoryMark(FIRST, clock)
    for _ in range(count):
        numbered, gate = kind(engine, mark), Gate()
        engine._before_sync = gate.wait
        for _ in range(rng.randrange(8)):
            clock.now += rng.random() / 2
            put(numbered)
            if rng.random() < 0.6:
                await numbered.sync()
        put(numbered)
        gate.close()
        syncing = asyncio.ensure_future(numbered.sync())
        await turns()
        if rng.random() < 0.5:
            engine = engine.crash(rng)
            mark.lose_power(rng)
        else:
            engine = engine.crash(Random(0) if rng.random() < 0.5 else rng)
            mark.crash()
        gate.open()
        await asyncio.gather(syncing, return_exceptions=True)
        if loss_of(engine, mark.read(), "") is not None:
            lost += 1
            mark = MemoryMark(stored_position(engine) or FIRST, clock)
    return lost


@pytest.mark.parametrize("seed", range(20))
@virtual
async def test_a_crash_that_lost_nothing_durable_is_never_called_a_loss(seed: int) -> None:
    """Any suffix of unsynced batches may go, and the mark fall back or be torn, without an alarm."""
    assert await lives(NumberedEngine, Random(seed), 30) == 0


@virtual
async def test_a_mark_before_the_sync_gives_false_alarms() -> None:
    """The test above would notice: it is not blind."""
    assert await lives(TooEarly, Random(1), 30) > 0


@virtual
async def test_what_was_noted_in_memory_survives_the_process_and_partly_the_power() -> None:
    """The fake forgets as a page cache does: nothing in a crash, in a power loss at most what came after its sync."""
    clock, seen = Hand(), set[int]()
    for seed in range(100):
        mark = MemoryMark(FIRST, clock)
        for number in range(1, 5):
            mark.note(at(number).encode())
        clock.now += 1
        mark.note(at(5).encode())
        for number in range(6, 9):
            mark.note(at(number).encode())
        mark.crash()
        assert mark.read().position == at(8)
        mark.lose_power(Random(seed))
        seen.add(mark.read().position.number)
    assert seen == {4, 5, 6, 7, 8}


def test_both_marks_keep_the_contract(path: Path) -> None:
    """The fake and the file can stand for each other."""
    marks: list[Mark] = [FileMark(path), MemoryMark(FIRST, lambda: 0.0)]
    for mark in marks:
        assert mark.position == FIRST
        mark.note(at(1).encode())
        mark.close()
