"""The mark: how far the engine had come at its last sync, kept outside of it, so that a tail that vanishes is noticed.

SQLite drops everything after a bad frame of its log, and RocksDB may skip a log that is gone, both without a word. An
engine that comes back behind its mark has lost what was acknowledged, and is treated like a wiped disk (DESIGN section
7). See docs/storage-format.md.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from struct import Struct
from typing import NamedTuple, Protocol

from .engine import EngineFailed
from .envelope import Damaged, seal, unseal
from .folder import write_durably

MARK_FILE = "mark"
SLOT_DISTANCE = 4096
"""The slots lie in different pages and sectors: what tears or spoils one leaves the other, which is a note older."""

MARK_SYNC_S = 1.0
"""Between two syncs of the mark. A crash of the process loses nothing of it, a power loss about so much."""

CHANCE_BITS = 31
_FORM = Struct(">QQ")


class Position(NamedTuple):
    """How far an engine has come: the `number` of its last batch, of the engine that was begun as `engine_id`.

    Positions of one node are ordered: a later engine is beyond all that an earlier one ever came to (`new_engine_id`).
    """

    engine_id: int
    number: int

    @property
    def generation(self) -> int:
        """Of the start that began the engine."""
        return self.engine_id >> CHANCE_BITS + 1

    @property
    def told(self) -> str:
        """For people.

        >>> Position(3 << 32, 870).told
        'batch 870 of the engine of generation 3'
        """
        return f"batch {self.number} of the engine of generation {self.generation}"

    def encode(self) -> bytes:
        """Sealed, as it stands in a slot of the mark and in each batch."""
        return seal(_FORM.pack(*self))

    @staticmethod
    def decode(stored: bytes) -> "Position":
        """The inverse of `encode`. Raises Damaged."""
        payload = unseal(stored)
        if len(payload) != _FORM.size:
            raise Damaged(f"a position of {len(payload)} bytes")
        return Position(*_FORM.unpack(payload))


SLOT_BYTES = len(Position(0, 0).encode())


NOWHERE = Position(0, 0)
"""Before all others: nothing is known, or nothing numbered."""


def new_engine_id(generation: int, random_bits: Callable[[int], int], *, by_recovery: bool = False) -> int:
    """An id for the engine that the start of `generation` begins, or that a recovery takes over after that start.

    The upper half makes it greater than those of all earlier starts, the lower one tells engines of other nodes.

    >>> hex(new_engine_id(3, lambda bits: 5)), hex(new_engine_id(3, lambda bits: 5, by_recovery=True))
    ('0x300000005', '0x380000005')
    """
    return (generation << 1 | by_recovery) << CHANCE_BITS | random_bits(CHANCE_BITS)


class Mark(Protocol):
    """Keeps the position of the newest batch that is known to be durable."""

    @property
    def position(self) -> Position:
        """What the mark held when it was opened."""

    def note(self, position: bytes) -> None:
        """Keep an encoded position, which is above all before it, over a crash of the process; soon over power loss.

        Takes a few microseconds. Raises EngineFailed, ever after, if an earlier note could not be kept.
        """

    def close(self) -> None:
        """Make the last note durable. Raises EngineFailed."""


class MarkLost(Exception):
    """There is no mark, or nothing in it can be read; the text goes on after 'the mark'."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a mark's two slots say: the higher position, and where it is."""

    position: Position
    slot: int
    damaged_slots: int = 0


def slots_read(slots: tuple[bytes, bytes]) -> Reading:
    """Raises MarkLost if neither slot can be read."""
    readable: list[tuple[Position, int]] = []
    for number, stored in enumerate(slots):
        try:
            readable.append((Position.decode(stored), number))
        except Damaged:
            continue
    if not readable:
        raise MarkLost("can't be read: both of its slots are damaged")
    position, slot = max(readable, key=lambda found: found[0].number)
    return Reading(position, slot, damaged_slots=2 - len(readable))


def read_mark(path: Path) -> Reading:
    """Raises MarkLost, OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MarkLost("is missing") from error
    return slots_read((content[:SLOT_BYTES], content[SLOT_DISTANCE : SLOT_DISTANCE + SLOT_BYTES]))


def write_mark(path: Path, position: Position) -> None:
    """Begin a mark, or replace it as a whole, durably. Raises OSError."""
    slot = position.encode()
    write_durably(path, slot.ljust(SLOT_DISTANCE, b"\0") + slot.ljust(SLOT_DISTANCE, b"\0"))


class FileMark:
    """A Mark in a file that `write_mark` has made. Raises MarkLost, OSError.

    `note` writes into the page cache, which outlives the process, over bytes that are allocated. The sync has a thread
    of its own, so that the event loop never waits for the device.
    """

    def __init__(self, path: Path, sync_s: float = MARK_SYNC_S) -> None:
        reading = read_mark(path)
        if reading.damaged_slots:
            write_mark(path, reading.position)  # or the next power loss could tear the only slot that is left
        self.position = reading.position
        self._path = path
        self._sync_s = sync_s
        self._offset = reading.slot * SLOT_DISTANCE
        self._file = os.open(path, os.O_RDWR)
        self._failure: str = ""
        self._noted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sync_for_ever, name="engine-mark", daemon=True)
        self._thread.start()

    def note(self, position: bytes) -> None:
        if self._failure:
            raise EngineFailed(self._failure)
        self._offset ^= SLOT_DISTANCE
        try:
            os.pwrite(self._file, position, self._offset)
        except OSError as error:
            raise EngineFailed(self._fail(error)) from error
        if not self._noted.is_set():
            self._noted.set()

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._noted.set()
        self._thread.join()
        os.close(self._file)
        if self._failure:
            raise EngineFailed(self._failure)

    def _sync_for_ever(self) -> None:
        while not self._failure:
            self._noted.wait()
            self._noted.clear()
            is_last = self._closing.is_set()
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._fail(error)
            if is_last:
                return
            self._closing.wait(self._sync_s)

    def _fail(self, error: OSError) -> str:
        """A failed sync is never retried: after it, nobody knows what is on the disk."""
        self._failure = f"the mark {self._path} can't be kept: {error.strerror}"
        return self._failure


@dataclass
class MemoryMark:
    """The fake: what was noted since its last sync survives a crash of the process, of power any of it, or torn.

    `now` is in seconds; the sync takes no time.
    """

    position: Position
    now: Callable[[], float]
    sync_s: float = MARK_SYNC_S
    _synced_at: float = field(init=False, default=0.0)
    _offset: int = field(init=False, default=0)
    _is_closed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        slot = self.position.encode()
        self._slots: list[list[bytes]] = [[slot], [slot]]  # of each what it held since the last sync, oldest first
        self._synced_at = self.now()

    def note(self, position: bytes) -> None:
        if self._is_closed:
            self._open()
        self._offset ^= 1
        self._slots[self._offset].append(position)
        if self.now() - self._synced_at >= self.sync_s:
            self.close()

    def close(self) -> None:
        self._slots = [[held[-1]] for held in self._slots]
        self._synced_at = self.now()

    def read(self) -> Reading:
        """What the next process finds. Raises MarkLost."""
        first, second = self._slots
        return slots_read((first[-1], second[-1]))

    def crash(self) -> None:
        """The process dies: what it noted is in the system's memory. The next call but `read` is another process'."""
        self._is_closed, self.position = True, self.read().position

    def _open(self) -> None:
        """As `FileMark` does: a damaged slot is made good before anything else."""
        reading = self.read()
        if reading.damaged_slots:
            slot = reading.position.encode()
            self._slots = [[slot], [slot]]
        self._offset, self._is_closed = reading.slot, False

    def lose_power(self, rng: Random) -> None:
        """Each slot holds its last note, or another since the last sync; one of them may be torn."""
        if self._is_closed:
            self._open()
        self._slots = [[rng.choice((held[-1], rng.choice(held)))] for held in self._slots]
        torn = rng.randrange(6)
        if torn < len(self._slots) and self._slots[torn] != self._slots[torn ^ 1]:
            self._slots[torn] = [self._slots[torn][0][: SLOT_BYTES // 2].ljust(SLOT_BYTES, b"\0")]
        self.crash()
