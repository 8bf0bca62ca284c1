"""Engines against a dict: any sequence of batches, reads and views, and any damage to the end of a log."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_writer import Model, all_rows, batch_number, last_of

from ringhold.node.machine.staged import Reader
from ringhold.node.storage.engine import Engine, Row, View, WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.opening import ENGINES, open_engine

KEYS = st.binary(max_size=2)


@dataclass
class Write:
    puts: dict[bytes, bytes]
    deletes: set[bytes]


@dataclass
class Read:
    start: bytes
    end: bytes
    limit: int
    reverse: bool


@dataclass
class TakeView:
    """Take a view; it is checked once all steps are done."""


STEPS = st.lists(
    st.one_of(
        st.builds(Write, st.dictionaries(KEYS, st.binary(max_size=5), max_size=6), st.sets(KEYS, max_size=4)),
        st.builds(Read, KEYS, KEYS, st.integers(0, 5), st.booleans()),
        st.builds(TakeView),
    ),
    max_size=25,
)


@dataclass
class Twin:
    """An engine and the dict that it must be like."""

    engine: Engine
    rows: dict[bytes, bytes] = field(default_factory=dict)
    views: list[tuple[View, dict[bytes, bytes]]] = field(default_factory=list)

    def take(self, step: Write | Read | TakeView) -> None:
        match step:
            case Write(puts, deletes):
                self.write(puts, deletes)
            case Read(start, end, limit, reverse):
                found = self.engine.scan(start, end, limit=limit, reverse=reverse)
                assert found == expected(self.rows, start, end, limit, reverse)
            case TakeView():
                self.views.append((self.engine.snapshot(), self.rows.copy()))

    def write(self, puts: dict[bytes, bytes], deletes: set[bytes]) -> None:
        batch = WriteBatch()
        for key in deletes:
            batch.delete(key)
            self.rows.pop(key, None)
        for key, value in puts.items():
            batch.put(key, value)
        self.rows |= puts
        self.engine.write(batch)

    def check(self) -> None:
        readers: list[tuple[Reader, dict[bytes, bytes]]] = [(self.engine, self.rows), *self.views]
        for reader, rows in readers:
            assert reader.scan(b"", b"\xff" * 3, limit=1_000) == sorted(rows.items())
            assert reader.get_many([*rows, b"none"]) == [*rows.values(), None]
        for view, rows in self.views:
            assert view.scan_keys([(b"", b"\xff" * 3)], limit=1_000) == [sorted(rows)]
            view.close()


def expected(rows: dict[bytes, bytes], start: bytes, end: bytes, limit: int, reverse: bool) -> list[Row]:
    return sorted(((key, value) for key, value in rows.items() if start <= key < end), reverse=reverse)[:limit]


@pytest.mark.parametrize("kind", ["memory", *ENGINES])
def test_an_engine_is_an_ordered_map(kind: str, tmp_path: Path) -> None:
    """Whatever is written, every scan, every read and every view gives what a sorted dict would."""

    @settings(max_examples=40)
    @given(STEPS)
    def check(steps: list[Write | Read | TakeView]) -> None:
        twin = Twin(engine)
        twin.write({}, {key for key, _ in engine.scan(b"", b"\xff" * 3, limit=1_000)})
        for step in steps:
            twin.take(step)
        twin.check()

    engine = MemoryEngine() if kind == "memory" else open_engine(kind, tmp_path)
    check()
    engine.close()


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("damage", ["cut", "zeroed", "flipped"])
def test_a_damaged_end_of_a_log_leaves_a_prefix(kind: str, damage: str, tmp_path: Path) -> None:
    """Power loss may cut, empty or garble what was not synced: the engine opens with the batches before it, whole.

    Nothing here is synced, by no checkpoint either: the log is short for the engine's usual settings.
    """
    engine = open_engine(kind, tmp_path / "engine")
    for number in range(60):
        engine.write(batch_number(number))
    recovered = set()
    for seed in range(12):
        with TemporaryDirectory() as copy:
            shutil.copytree(tmp_path / "engine", copy, dirs_exist_ok=True)
            harm(log_in(Path(copy)), damage, Random(seed))
            recovered.add(check_prefix(kind, Path(copy)))
    assert len(recovered) > 1
    engine.close()


def check_prefix(kind: str, path: Path) -> int:
    survivor = open_engine(kind, path)
    last = last_of(survivor)
    assert all_rows(survivor) == Model().rows_after(last)
    survivor.close()
    return last


def log_in(folder: Path) -> Path:
    """The write-ahead log, the one file that a missing sync may harm."""
    (log,) = [*folder.rglob("*-wal"), *folder.rglob("*.log")]
    return log


def harm(path: Path, damage: str, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    match damage:
        case "cut":
            del content[place:]
        case "zeroed":
            content[place:] = bytes(len(content) - place)
        case "flipped":
            content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
