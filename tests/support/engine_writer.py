"""A process that writes numbered batches to an engine until somebody kills it, and the rows that each leaves.

Run as `engine_writer.py KIND FOLDER`: it goes on after the last batch in the folder, and prints the number of each
batch that a sync has made durable; on a full device it prints `full` and ends.
"""

import asyncio
import sys
from itertools import count
from pathlib import Path
from random import Random

from ringhold.node.storage.engine import Engine, EngineFull, Row, WriteBatch
from ringhold.node.storage.opening import open_engine
from ringhold.node.storage.sqlite import SqliteConfig, SqliteEngine

KIB = 1024
LAST = b"last"
KEYS = 300
ROWS_MAX = 1_000_000


def small_engine(kind: str, path: Path) -> Engine:
    """An engine with upkeep as often as possible: SQLite's log starts over every few dozen batches."""
    if kind == "sqlite":
        return SqliteEngine(path, SqliteConfig(checkpoint_bytes=128 * KIB))
    return open_engine(kind, path)


def batch_number(number: int) -> WriteBatch:
    """Batch `number`, always the same: puts of up to 2 KB and deletes among 300 keys, and one key of its own."""
    rng = Random(number)
    batch = WriteBatch({LAST: b"%d" % number, b"own-%06d" % number: rng.randbytes(KIB // 2)})
    for _ in range(rng.randrange(12)):
        batch.put(b"key-%03d" % rng.randrange(KEYS), rng.randbytes(rng.randrange(2 * KIB)))
    for _ in range(rng.randrange(5)):
        batch.delete(b"key-%03d" % rng.randrange(KEYS))
    return batch


class Model:
    """The rows after batch after batch."""

    def __init__(self) -> None:
        self.next = 0
        self._rows: dict[bytes, bytes] = {}

    def rows_after(self, number: int) -> list[Row]:
        """All rows when batch `number` (-1: none) was the last; numbers must not fall from call to call."""
        while self.next <= number:
            batch = batch_number(self.next)
            for key in batch.deletes:
                self._rows.pop(key, None)
            self._rows |= batch.puts
            self.next += 1
        return sorted(self._rows.items())


def last_of(engine: Engine) -> int:
    """The number of the last batch in an engine, -1 if it is empty."""
    return int(engine.get(LAST) or b"-1")


def all_rows(engine: Engine) -> list[Row]:
    return engine.scan(b"", b"\xff", limit=ROWS_MAX)


def starts_of_log(folder: Path) -> int:
    """How often the log has started over: the sequence number in its header (SQLite's file format, section 4.1)."""
    with (folder / "rows.sqlite-wal").open("rb") as log:
        return int.from_bytes(log.read(16)[12:], "big")


async def write_for_ever(engine: Engine) -> None:
    rng = Random(last_of(engine))
    for number in count(last_of(engine) + 1):
        engine.write(batch_number(number))
        if rng.random() < 0.3:
            await engine.sync()
            print(number, flush=True)


def main(kind: str, folder: str) -> None:
    try:
        asyncio.run(write_for_ever(small_engine(kind, Path(folder))))
    except EngineFull:
        print("full", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
