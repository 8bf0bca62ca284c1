"""Real engines and power loss: whatever legal state of the files is left, the contract of an engine holds.

`make power` tries thousands of cuts; docs/durability.md says what is cut, and what can't be.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from power.disk import O_CREAT, Disk, File, Write
from power.recording import CompilerMissing, Entry, Kind, build_recorder, record
from power.trial import Report, States, Trial

from ringhold.node.storage.opening import ENGINES

CUTS = 60
CUTS_LONG = 1_500
CUTS_PER_RECORDING = 250
RECOVERIES = 2
SYNCS = {Kind.SYNC, Kind.SYNCED}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build_recorder(tmp_path_factory.mktemp("recorder"))
    except CompilerMissing as error:
        pytest.skip(f"NO POWER CUT WAS TRIED: {error}")


class Forgetful(Trial):
    """A trial that leaves syncs out of the recording, those of folders or those of files: as if never called."""

    of_folders = False

    def _recorded(self, root: Path, lives: int, batches: int) -> Sequence[Entry]:
        entries = super()._recorded(root, lives, batches)
        folders = set(syncs_of_folders(entries))
        return [
            entry if entry.kind not in SYNCS or (entry.number in folders) != self.of_folders else unsynced(entry)
            for entry in entries
        ]


class ForgetfulOfFolders(Forgetful):
    of_folders = True


def syncs_of_folders(entries: Sequence[Entry]) -> list[int]:
    paths: dict[int, Path] = {}
    found = []
    for entry in entries:
        if entry.kind is Kind.OPEN:
            paths[entry.file] = entry.path
        elif entry.kind is Kind.SYNC and paths[entry.file].is_dir():
            found.append(entry.number)
    return found


def unsynced(entry: Entry) -> Entry:
    """A mark in place of a sync, that says nothing."""
    return replace(entry, kind=Kind.MARK, payload=b"begun -1")


@pytest.mark.parametrize("kind", ENGINES)
def test_power_cuts(kind: str, library: Path, tmp_path: Path) -> None:
    """After power loss an engine opens with a prefix of the batches that has all synced ones, and goes on."""
    report = Report()
    Trial(kind, library, tmp_path, Random(kind), report, States()).run(CUTS, recoveries=1)
    assert report.failures == []
    assert report.lossy > 0, "some cuts should lose what was never synced"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ENGINES)
def test_many_power_cuts(kind: str, library: Path, tmp_path: Path) -> None:
    """The same for more recordings and many more cuts, also in recoveries from cuts."""
    report, states = Report(), States()
    while report.total < CUTS_LONG:
        rng = Random(f"{kind} {report.total}")
        Trial(kind, library, tmp_path, rng, report, states).run(CUTS_PER_RECORDING, RECOVERIES)
    assert report.failures == []


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("trial", [Forgetful, ForgetfulOfFolders])
def test_a_sync_left_out_is_found(kind: str, trial: type[Trial], library: Path, tmp_path: Path) -> None:
    """An engine that never synced its files, or never its folders, would not pass."""
    report = Report()
    trial(kind, library, tmp_path, Random(kind), report, States()).run(CUTS, recoveries=0)
    assert report.failures != []


def test_rocksdb_begins_no_log_after_an_unsynced_one(library: Path, tmp_path: Path) -> None:
    """RocksDB would recover over the hole that is left when the end of the older log is lost."""
    root = tmp_path / "recorded"
    root.mkdir()
    disk, logs = Disk(root), 0
    for entry in record(library, root, "power.writer", ["rocksdb", str(root / "engine"), "7", "2", "120", "close"]):
        if entry.kind is Kind.OPEN and entry.number & O_CREAT and entry.path.suffix == ".log":
            logs += 1
            earlier = [node for path, node in disk.nodes() if path.suffix == ".log" and isinstance(node, File)]
            assert not any(isinstance(change, Write) for log in earlier for _, change in log.pending)
        disk.play(entry)
    assert logs > 10
