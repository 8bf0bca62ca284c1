"""All rows of a range, whatever its size."""

from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.scanning import ROWS_PER_SLICE, scanned


def test_every_row_comes_once_and_in_order() -> None:
    """Over several slices, with bounds as a scan has them; neighbours stay out."""
    engine = MemoryEngine()
    rows = {b"k%06d" % number: b"%d" % number for number in range(2 * ROWS_PER_SLICE + 1)}
    engine.write(WriteBatch({b"j": b"", **rows, b"l": b""}))
    assert list(scanned(engine, b"k", b"l")) == list(rows.items())


def test_a_range_of_nothing_is_not_read() -> None:
    """Its end may lie before its start."""
    engine = MemoryEngine()
    engine.write(WriteBatch({b"b": b""}))
    assert list(scanned(engine, b"c", b"a")) == []
    assert list(scanned(engine, b"c", b"d")) == []
