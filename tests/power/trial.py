"""Power cuts all over a recording, and what an engine must make of the files that each leaves.

The rule is the contract of node/storage/engine.py: after a crash the engine opens and holds a prefix of the batches,
all synced ones included; and it goes on.
"""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from support.engine_writer import all_rows, batch_number, last_of

from ringhold.node.storage.engine import Engine, EngineFailed, Row
from ringhold.node.storage.folder import FolderError

from .disk import Content, Disk, Names, read_files, write_files
from .recording import Entry, Kind, record
from .writer import busy_engine

Model: TypeAlias = tuple[Content, Names]
ORDERED: list[Model] = [(content, names) for content in Content for names in Names if names is not Names.ANY]
UNORDERED: list[Model] = [(content, Names.ANY) for content in Content]
"""No journaling file system loses names in such a way; kept to show who would mind."""

TURNING_POINTS = {Kind.SYNC, Kind.SYNCED, Kind.RENAME, Kind.UNLINK, Kind.OPEN, Kind.MKDIR, Kind.TRUNCATE}
LIVES = 2
BATCHES = 60
BATCHES_AFTER = 25
GOES_ON = 3
ENGINE = "engine"
MANIFEST_WITH_A_HOLE = re.compile(r"Corruption: .*/MANIFEST-\d+ may be corrupted")
"""RocksDB does not recover from it (docs/durability.md). It says so, and changes nothing."""


class States:
    """The rows after each batch."""

    def __init__(self) -> None:
        self._after: list[dict[bytes, bytes]] = [{}]

    def after(self, number: int) -> list[Row]:
        """All rows, by key, when batch `number` (-1: none) was the last."""
        while len(self._after) <= number + 1:
            batch = batch_number(len(self._after) - 1)
            rows = {key: value for key, value in self._after[-1].items() if key not in batch.deletes}
            self._after.append(rows | batch.puts)
        return sorted(self._after[number + 1].items())


@dataclass(frozen=True, slots=True)
class Known:
    """What the writer had said when the power went: the last batch that it began, and the last that it may rely on."""

    begun: int = -1
    synced: int = -1

    def after(self, entry: Entry) -> "Known":
        if entry.kind is not Kind.MARK:
            return self
        word, number = entry.payload.decode().split()
        if word == "begun":
            return Known(max(self.begun, int(number)), self.synced)
        return Known(self.begun, max(self.synced, int(number)))


@dataclass(slots=True)
class Report:
    """How many cuts were tried, by model; in how many the disk lacked something, and the engine lost batches."""

    cuts: Counter[Model] = field(default_factory=Counter)
    incomplete: int = 0
    lossy: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.cuts.total()

    def lines(self) -> Iterator[str]:
        yield f"{'changes of files':62} {'of folders':18} cuts"
        for (content, names), cuts in sorted(self.cuts.items(), key=lambda each: [part.name for part in each[0]]):
            yield f"{content.value:62} {names.value:18} {cuts:4}"
        yield f"{self.total} cuts; in {self.incomplete} something was unsynced, in {self.lossy} batches were lost"
        yield f"{self.refused} times the engine refused a manifest with a hole"
        yield f"{len(self.failures)} failures"
        yield from self.failures


class Trial:
    """Power cuts in the life of one engine. `folder` is for its files and their copies."""

    models = ORDERED

    def __init__(self, kind: str, library: Path, folder: Path, rng: Random, report: Report, states: States) -> None:
        self.report = report
        self._kind = kind
        self._library = library
        self._folder = folder
        self._rng = rng
        self._states = states
        self._left = folder / "left"
        self._some_left: dict[Path, bytes | None] = {}
        self._known_then = Known()

    def run(self, cuts: int, recoveries: int) -> None:
        """Record a process that is killed and one that comes after it, and cut them; then so many recoveries from cuts
        of theirs, which are cut again."""
        root = self._new_root({})
        shares = [0.6, 0.4] if not recoveries else [0.4, 0.2]
        disk, known = Disk(root), Known()
        known = self._record_and_cut(root, disk, known, int(cuts * shares[0]), LIVES, BATCHES)
        self._record_and_cut(root, disk, known, int(cuts * shares[1]), 1, BATCHES_AFTER)
        for _ in range(recoveries):
            self._cut_recovery(int(cuts * 0.4) // recoveries)

    def _record_and_cut(self, root: Path, disk: Disk, known: Known, cuts: int, lives: int, batches: int) -> Known:
        entries = self._recorded(root, lives, batches)
        known = self._cut(entries, disk, known, cuts)
        seen, there = disk.as_seen(), read_files(root)
        known_files = (seen | there).keys() - disk.mapped()
        differing = sorted(str(path) for path in known_files if seen.get(path, 0) != there.get(path, 0))
        assert not differing, f"the recorder has missed changes of {', '.join(differing)}"
        return known

    def _cut_recovery(self, cuts: int) -> None:
        """Power goes, and goes again while the next process recovers or soon after."""
        root = self._new_root(self._some_left)
        disk = Disk(root)
        self._record_and_cut(root, disk, self._known_then, cuts, 1, BATCHES_AFTER)

    def _recorded(self, root: Path, lives: int, batches: int) -> Sequence[Entry]:
        arguments = [self._kind, str(root / ENGINE), str(self._rng.randrange(2**32)), str(lives), str(batches)]
        return record(self._library, root, "power.writer", [*arguments, "abandon"])

    def _new_root(self, files: "dict[Path, bytes | None]") -> Path:
        root = self._folder / "recorded"
        shutil.rmtree(root, ignore_errors=True)
        write_files(root, files)
        return root

    def _cut(self, entries: Sequence[Entry], disk: Disk, known: Known, cuts: int) -> Known:
        """Play a process to its end, with power cuts on the way."""
        counts = Counter(moments(entries, cuts, self._rng))
        for at, entry in enumerate(entries):
            disk.play(entry)
            known = known.after(entry)
            for _ in range(counts[at]):
                self._try(disk, known, at)
        disk.end_process()
        return known

    def _try(self, disk: Disk, known: Known, at: int) -> None:
        content, names = model = self._rng.choice(self.models)
        files = disk.after_power_cut(content, names, self._rng)
        shutil.rmtree(self._left, ignore_errors=True)
        write_files(self._left, files)
        self.report.cuts[model] += 1
        self.report.incomplete += disk.unsynced() > 0
        wrong = self._complaint(known)
        if wrong is not None and content is Content.PIECES and MANIFEST_WITH_A_HOLE.search(wrong):
            self.report.refused += 1
        elif wrong is None:
            self._some_left, self._known_then = files, known
        else:
            self.report.failures.append(f"{self._kind}, entry {at}, {content.name}, names {names.name}: {wrong}")

    def _complaint(self, known: Known) -> str | None:
        try:
            with_rows = busy_engine(self._kind, self._left / ENGINE)
            last = last_of(with_rows)
            self.report.lossy += last < known.begun
            wrong = self._wrong_rows(with_rows, last, known)
            if wrong is None:
                write_after(with_rows, last)
            with_rows.close()
            return wrong or self._wrong_later(last + GOES_ON)
        except (EngineFailed, FolderError) as error:
            return f"{type(error).__name__}: {error}"

    def _wrong_rows(self, engine: Engine, last: int, known: Known) -> str | None:
        if not known.synced <= last <= known.begun:
            return f"it holds {last}, was to hold {known.synced} to {known.begun}"
        return None if all_rows(engine) == self._states.after(last) else f"it holds no prefix, but says {last}"

    def _wrong_later(self, last: int) -> str | None:
        engine = busy_engine(self._kind, self._left / ENGINE)
        rows = all_rows(engine)
        engine.close()
        return None if rows == self._states.after(last) else f"it did not go on to {last}"


def write_after(engine: Engine, last: int) -> None:
    for number in range(last + 1, last + 1 + GOES_ON):
        engine.write(batch_number(number))
    asyncio.run(engine.sync())


def moments(entries: Sequence[Entry], count: int, rng: Random) -> list[int]:
    """Entries after which the power goes: half of them anywhere, half where something turns."""
    turning = [at for at, entry in enumerate(entries) if entry.kind in TURNING_POINTS]
    return [rng.choice(turning) if rng.random() < 0.5 else rng.randrange(len(entries)) for _ in range(count)]
