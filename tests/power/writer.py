"""A process that writes numbered batches to a small engine, opened and closed again and again, and ends.

Run as `python -m power.writer KIND FOLDER SEED LIVES BATCHES END` under the recorder, from the folder tests/: it goes
on after the last batch in the folder, BATCHES in each life. END is `close`, or `abandon` for a last life that ends as
by kill -9. Marks in the recording: `begun n` before batch n is written; `synced n` once a sync has returned that was
asked for after it was written, and when an engine that holds it was opened: the next process builds on what it finds.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from support.engine_writer import batch_number, last_of

from ringhold.node.storage.engine import Engine
from ringhold.node.storage.rocksdb import RocksdbConfig, RocksdbEngine
from ringhold.node.storage.sqlite import SqliteConfig, SqliteEngine

KIB = 1024
WRITTEN_MEANWHILE_MAX = 4


def busy_engine(kind: str, path: Path) -> Engine:
    """An engine with upkeep as often as possible: a new log, or a flush, every dozen batches, compactions between."""
    if kind == "sqlite":
        return SqliteEngine(path, SqliteConfig(checkpoint_bytes=96 * KIB))
    return RocksdbEngine(path, RocksdbConfig(write_buffer_bytes=64 * KIB))


class Recorder:
    """The functions that the recorder has for the program itself."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)

    def mark(self, text: str) -> None:
        """Leave a note in the recording."""
        self._library.power_mark(text.encode())

    def end(self) -> None:
        """End this process at once, as kill -9 would, but with no call half recorded."""
        self._library.power_end()


class Writer:
    """Writes batches, and syncs now and then, with more batches written while a sync is under way."""

    def __init__(self, engine: Engine, rng: Random, mark: Callable[[str], None]) -> None:
        self._engine = engine
        self._rng = rng
        self._mark = mark
        self._last = last_of(engine)
        mark(f"synced {self._last}")
        self._idle_chance = rng.choice([0.2, 0.8, 0.99])  # of a batch that is not synced at once

    async def write(self, batches: int) -> None:
        goal = self._last + batches
        while self._last < goal:
            self._write_one()
            if self._rng.random() >= self._idle_chance:
                await self._sync()

    def close(self) -> None:
        """Closing syncs."""
        self._engine.close()
        self._mark(f"synced {self._last}")

    def _write_one(self) -> None:
        self._last += 1
        self._mark(f"begun {self._last}")
        self._engine.write(batch_number(self._last))

    async def _sync(self) -> None:
        written = self._last
        async with asyncio.TaskGroup() as tasks:
            sync = tasks.create_task(self._engine.sync())
            await asyncio.sleep(0)
            for _ in range(self._rng.randrange(WRITTEN_MEANWHILE_MAX)):
                self._write_one()
            await sync
            self._mark(f"synced {written}")


def main(kind: str, folder: str, seed: str, lives: str, batches: str, end: str) -> None:
    rng, recorder = Random(int(seed)), Recorder()
    for life in reversed(range(int(lives))):
        writer = Writer(busy_engine(kind, Path(folder)), rng, recorder.mark)
        asyncio.run(writer.write(int(batches)))
        if end == "abandon" and life == 0:
            recorder.end()
        writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
