"""The disk of the power cuts: what is durable, and what else may be left."""

from pathlib import Path
from random import Random

import pytest
from power.disk import O_CREAT, O_TRUNC, Content, Disk, Names, Unseen
from power.recording import Entry, Kind

FILE = 3
FOLDER = 4


class Played:
    """A disk below a folder, and the calls of a process on it."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        (root / "old").write_bytes(b"o" * 1024)
        self._root = root
        self._syncs = 0
        self.disk = Disk(root)

    def open(self, name: str, flags: int = 0, file: int = FILE) -> None:
        self._play(Kind.OPEN, file, flags, str(self._root / name).encode())

    def write(self, offset: int, content: bytes) -> None:
        self._play(Kind.WRITE, FILE, offset, content)

    def truncate(self, length: int) -> None:
        self._play(Kind.TRUNCATE, FILE, length)

    def rename(self, old: str, new: str) -> None:
        self._play(Kind.RENAME, -1, 0, f"{self._root / old}\n{self._root / new}".encode())

    def begin_sync(self, file: int = FILE) -> int:
        self._syncs += 1
        self._play(Kind.SYNC, file, self._syncs)
        return self._syncs

    def end_sync(self, number: int) -> None:
        self._play(Kind.SYNCED, FILE, number)

    def sync(self, file: int = FILE) -> None:
        self.end_sync(self.begin_sync(file))

    def left(self, content: Content, names: Names = Names.THERE, seed: int = 0) -> dict[str, bytes | None]:
        left = self.disk.after_power_cut(content, names, Random(seed))
        return {str(path): found for path, found in left.items()}

    def alarm(self) -> None:
        self._play(Kind.ALARM, FILE, 0, b"sendfile")

    def _play(self, kind: Kind, file: int, number: int, payload: bytes = b"") -> None:
        self.disk.play(Entry(kind, file, number, payload))


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path / "root")


def test_what_was_there_before_is_durable(played: Played) -> None:
    """A recording begins on files that are on the disk."""
    assert played.left(Content.LOST, Names.LOST) == {"old": b"o" * 1024}


def test_a_sync_covers_what_was_written_before_it_began(played: Played) -> None:
    """What is written while a sync runs may be lost after it."""
    played.open("old")
    played.write(0, b"A")
    sync = played.begin_sync()
    played.write(1, b"B")
    assert played.left(Content.LOST)["old"] == b"o" * 1024
    played.end_sync(sync)
    assert played.left(Content.LOST)["old"] == b"A" + b"o" * 1023
    assert played.left(Content.THERE)["old"] == b"AB" + b"o" * 1022


def test_a_synced_file_may_lack_its_name(played: Played) -> None:
    """A name is durable once its folder was synced, and comes without content that was not."""
    played.open("new", O_CREAT)
    played.write(0, b"A")
    played.sync()
    assert "new" not in played.left(Content.THERE, Names.LOST)
    played.open(".", file=FOLDER)
    played.sync(FOLDER)
    assert played.left(Content.LOST, Names.LOST)["new"] == b"A"


def test_a_rename_is_one_change(played: Played) -> None:
    """A file has its old name or its new one, and an unsynced one replaces a synced one without its content."""
    played.open("new", O_CREAT)
    played.write(0, b"A")
    played.rename("new", "old")
    assert played.left(Content.LOST, Names.THERE) == {"old": b""}
    seen = [played.left(Content.THERE, Names.FIRST, seed) for seed in range(20)]
    assert {tuple(sorted(names)) for names in seen} == {("old",), ("new", "old")}


def test_pieces_arrive_each_on_its_own(played: Played) -> None:
    """Either half of a write over two sectors may be there without the other; no sector is torn."""
    played.open("old")
    played.write(0, b"n" * 1024)
    seen = {played.left(Content.PIECES, seed=seed)["old"] for seed in range(200)}
    old, new = b"o" * 512, b"n" * 512
    assert seen == {old + old, old + new, new + old, new + new}


def test_a_sector_has_no_later_write_without_the_earlier_ones(played: Played) -> None:
    """A piece is as the file was there at some moment."""
    played.open("old")
    played.write(0, b"1")
    played.write(1, b"2")
    seen = {(played.left(Content.PIECES, seed=seed)["old"] or b"")[:2] for seed in range(200)}
    assert seen == {b"oo", b"1o", b"12"}


def test_a_file_may_have_its_size_alone(played: Played) -> None:
    """A file that has grown may end in zeros."""
    played.open("old")
    played.write(1022, b"abcd")
    assert played.left(Content.SIZES)["old"] == b"o" * 1024 + bytes(2)


def test_opening_may_truncate(played: Played) -> None:
    """O_TRUNC is a change like another: it may be lost, and what was written after it is then not beyond its length."""
    played.open("old", O_TRUNC)
    played.write(0, b"n" * 512)
    seen = {played.left(Content.PIECES, seed=seed)["old"] for seed in range(50)}
    assert seen == {b"o" * 1024, b"", b"n" * 512}


def test_a_torn_write_is_the_last_one(played: Played) -> None:
    """Before it everything is there, after it nothing."""
    played.open("old")
    played.write(0, b"n" * 512)
    played.truncate(0)
    for seed in range(50):
        left = played.left(Content.TORN, seed=seed)["old"] or b""
        assert left == b"n" * left.count(b"n") + b"o" * left.count(b"o")
        assert len(left) == 1024


def test_what_the_recorder_cannot_see_is_refused(played: Played) -> None:
    """A recording that may be incomplete is no recording."""
    played.open("old")
    with pytest.raises(Unseen, match="sendfile"):
        played.alarm()
