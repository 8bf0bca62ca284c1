"""A disk below a page cache: what may be left of a recording's files when the power goes at one of its entries.

Durable is, of a file, what was written before a sync of it began, once that sync has returned; of a folder, the names
that were made, replaced or removed before a sync of the folder began. What else was done may have arrived or not, as
`Content` and `Names` say. Which file systems are kinder than this is in docs/durability.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import TypeAlias

from .recording import Entry, Kind

PIECE_SIZES = (512, 4096)
O_CREAT = 0o100
O_TRUNC = 0o1000


class Content(Enum):
    """What has arrived of the changes of a file that no sync covers."""

    LOST = "nothing"
    THERE = "everything"
    PIECES = "any of the pieces of 512 B or 4 KiB, each on its own"
    TORN = "the first ones, the last of them in part"
    SIZES = "the size of the file alone: zeros where it has grown"


class Names(Enum):
    """What has arrived of the changes of a folder that no sync covers."""

    LOST = "nothing"
    THERE = "everything"
    FIRST = "the first ones"
    ANY = "any, each alone"


class Unseen(Exception):
    """A file was changed in a way that the recorder can't see."""


@dataclass(slots=True)
class File:
    """A file: its synced content, and what was done since, in order."""

    durable: bytearray = field(default_factory=bytearray)
    pending: "list[tuple[int, Change]]" = field(default_factory=list)
    is_mapped: bool = False

    def settle(self, before: int) -> None:
        """A sync that began at entry `before` has returned."""
        for at, change in self.pending:
            if at < before:
                apply(change, self.durable)
        self.pending = [(at, change) for at, change in self.pending if at >= before]

    def left(self, content: Content, rng: Random) -> bytes:
        image = bytearray(self.durable)
        for change in arrived([change for _, change in self.pending], content, rng):
            apply(change, image)
        return bytes(image)


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    content: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.content)


@dataclass(frozen=True, slots=True)
class Resize:
    length: int


Change: TypeAlias = Write | Resize


@dataclass(slots=True)
class Folder:
    """A folder: its synced names, those that a process would see, and the changes between them, in order."""

    durable: "dict[str, File | Folder]" = field(default_factory=dict)
    names: "dict[str, File | Folder]" = field(default_factory=dict)
    pending: "list[tuple[int, dict[str, File | Folder | None]]]" = field(default_factory=list)

    def change(self, at: int, changes: "dict[str, File | Folder | None]") -> None:
        """Names that change together; None removes one."""
        rename(self.names, changes)
        self.pending.append((at, changes))

    def settle(self, before: int) -> None:
        for at, changes in self.pending:
            if at < before:
                rename(self.durable, changes)
        self.pending = [(at, changes) for at, changes in self.pending if at >= before]

    def left(self, names: Names, rng: Random) -> "dict[str, File | Folder]":
        image = dict(self.durable)
        for changes in arrived_names([changes for _, changes in self.pending], names, rng):
            rename(image, changes)
        return image


Node: TypeAlias = File | Folder


class Disk:
    """The files below a folder while a recording is played; it begins with what is there, all of it durable."""

    def __init__(self, root: Path) -> None:
        self._path = root.resolve()
        self._root = stored(root)
        self._open: dict[int, Node] = {}
        self._syncs: dict[int, tuple[int, Node]] = {}
        self._at = 0

    def play(self, entry: Entry) -> None:
        """Raises Unseen."""
        self._at += 1
        match entry.kind:
            case Kind.OPEN:
                self._open_file(entry)
            case Kind.CLOSE:
                self._open.pop(entry.file)
            case Kind.WRITE:
                self._file(entry).pending.append((self._at, Write(entry.number, entry.payload)))
            case Kind.TRUNCATE:
                self._file(entry).pending.append((self._at, Resize(entry.number)))
            case Kind.MAPPED:
                self._file(entry).is_mapped = True
            case Kind.SYNC:
                self._syncs[entry.number] = (self._at, self._open[entry.file])
            case Kind.SYNCED:
                before, node = self._syncs.pop(entry.number)
                node.settle(before)
            case Kind.MARK:
                pass
            case Kind.ALARM:
                raise Unseen(entry.payload.decode(errors="replace"))
            case _:
                self._change_names(entry)

    def end_process(self) -> None:
        """kill -9, or a normal end: files are closed, nothing is synced and nothing is lost."""
        self._open.clear()
        self._syncs.clear()

    def after_power_cut(self, content: Content, names: Names, rng: Random) -> "dict[Path, bytes | None]":
        """What is left, by path relative to the root: contents of files, None for folders, those above first."""
        return dict(left_of(self._root, Path(), content, names, rng))

    def as_seen(self) -> "dict[Path, bytes | None]":
        """What a process sees now."""
        return self.after_power_cut(Content.THERE, Names.THERE, Random(0))

    def mapped(self) -> set[Path]:
        """The files whose content is not known, for writes to mapped memory leave no entry."""
        return {path for path, node in self.nodes() if isinstance(node, File) and node.is_mapped}

    def unsynced(self) -> int:
        """Changes, of files and of folders, that a power cut may undo."""
        return len(self._root.pending) + sum(len(node.pending) for _, node in self.nodes())

    def nodes(self) -> "Iterator[tuple[Path, Node]]":
        """Files and folders that a process sees now, by path relative to the root."""
        return nodes_of(self._root, Path())

    def _open_file(self, entry: Entry) -> None:
        """An OPEN has succeeded: what isn't there was made by it."""
        folder, name = self._place(entry.path)
        if not name:
            self._open[entry.file] = folder
            return
        if name not in folder.names:
            assert entry.number & O_CREAT, f"a file from nowhere: {entry.path}"
            folder.change(self._at, {name: File()})
        node = folder.names[name]
        self._open[entry.file] = node
        if entry.number & O_TRUNC and isinstance(node, File):
            node.pending.append((self._at, Resize(0)))

    def _file(self, entry: Entry) -> File:
        node = self._open[entry.file]
        assert isinstance(node, File)
        return node

    def _change_names(self, entry: Entry) -> None:
        first, _, second = entry.payload.decode().partition("\n")
        folder, name = self._place(Entry(entry.kind, -1, 0, first.encode()).path)
        match entry.kind:
            case Kind.MKDIR:
                folder.change(self._at, {name: Folder()})
            case Kind.UNLINK | Kind.RMDIR:
                folder.change(self._at, {name: None})
            case Kind.RENAME | Kind.LINK:
                target, new = self._place(Entry(entry.kind, -1, 0, second.encode()).path)
                assert target is folder, f"from folder to folder, which this disk does not know: {first}, {second}"
                changes: dict[str, Node | None] = {new: folder.names[name]}
                folder.change(self._at, changes | ({name: None} if entry.kind is Kind.RENAME else {}))

    def _place(self, path: Path) -> tuple[Folder, str]:
        """The folder above a path, and the name in it; of the root, itself and an empty name."""
        parts = path.relative_to(self._path).parts
        folder = self._root
        for part in parts[:-1]:
            inner = folder.names[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, parts[-1] if parts else ""


def rename(names: dict[str, Node], changes: dict[str, Node | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def apply(change: Change, image: bytearray) -> None:
    if isinstance(change, Resize):
        del image[change.length :]
        image.extend(bytes(max(0, change.length - len(image))))
        return
    image.extend(bytes(max(0, change.offset - len(image))))
    image[change.offset : change.end] = change.content


def arrived_names(changes: "list[dict[str, Node | None]]", names: Names, rng: Random) -> "list[dict[str, Node | None]]":
    """Of the unsynced changes of one folder, those that the disk has."""
    match names:
        case Names.LOST:
            return []
        case Names.THERE:
            return changes
        case Names.FIRST:
            return changes[: rng.randint(0, len(changes))]
        case Names.ANY:
            return [change for change in changes if rng.random() < 0.5]


def arrived(changes: list[Change], content: Content, rng: Random) -> Iterable[Change]:
    """Of the unsynced changes of one file, those that the disk has."""
    match content:
        case Content.LOST:
            return ()
        case Content.THERE:
            return changes
        case Content.TORN:
            return torn(changes, rng)
        case Content.SIZES:
            return (change if isinstance(change, Resize) else Write(change.end, b"") for change in changes)
        case Content.PIECES:
            return pieces(changes, rng)


def torn(changes: list[Change], rng: Random) -> Iterator[Change]:
    if not changes:
        return
    last = rng.randrange(len(changes))
    yield from changes[:last]
    if isinstance(half := changes[last], Write):
        yield Write(half.offset, half.content[: rng.randint(0, len(half.content))])


def pieces(changes: list[Change], rng: Random) -> Iterator[Change]:
    """Each piece of the file is as it was after any number of the writes that touched it.

    Resizes arrive in order, the first ones. After one that did not, what lies beyond its length is not there.
    """
    size, chance = rng.choice(PIECE_SIZES), rng.choice([0.1, 0.5, 0.9])
    resizes_left = rng.randint(0, sum(isinstance(change, Resize) for change in changes))
    stale: set[int] = set()  # pieces of which nothing more arrives
    beyond = None
    for change in changes:
        if isinstance(change, Write):
            for piece in cut(change, size, beyond):
                if piece.offset // size not in stale and rng.random() < chance:
                    yield piece
                else:
                    stale.add(piece.offset // size)
        elif resizes_left:
            resizes_left -= 1
            yield change
        else:
            beyond = change.length if beyond is None else min(beyond, change.length)


def cut(write: Write, size: int, beyond: int | None) -> Iterator[Write]:
    """A write in pieces that end at multiples of `size` in the file, none of them at `beyond` or after it."""
    end = write.end if beyond is None else min(write.end, beyond)
    at = write.offset
    while at < end:
        stop = min(end, (at // size + 1) * size)
        yield Write(at, write.content[at - write.offset : stop - write.offset])
        at = stop


def nodes_of(folder: Folder, path: Path) -> Iterator[tuple[Path, Node]]:
    for name, node in folder.names.items():
        yield path / name, node
        if isinstance(node, Folder):
            yield from nodes_of(node, path / name)


def left_of(
    folder: Folder, path: Path, content: Content, names: Names, rng: Random
) -> "Iterator[tuple[Path, bytes | None]]":
    for name, node in folder.left(names, rng).items():
        if isinstance(node, Folder):
            yield path / name, None
            yield from left_of(node, path / name, content, names, rng)
        else:
            yield path / name, node.left(content, rng)


def stored(path: Path) -> Folder:
    """A folder of the real disk, as durable."""
    names: dict[str, Node] = {
        inner.name: stored(inner) if inner.is_dir() else File(bytearray(inner.read_bytes())) for inner in path.iterdir()
    }
    return Folder(durable=dict(names), names=names)


def write_files(root: Path, files: "dict[Path, bytes | None]") -> None:
    """Make `root` a folder with these files."""
    root.mkdir()
    for path, content in files.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


def read_files(root: Path) -> "dict[Path, bytes | None]":
    """The inverse of `write_files`."""
    return {path.relative_to(root): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}
