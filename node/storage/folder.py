"""A node's data folder: one process at a time, and an identity that is made once and counted up at each start.

The lock is a flock, which ends with its process however that ends; the file beside it only names the holder.
See docs/storage-format.md.
"""

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

FORMAT = 1
LOCK_FILE = "node.lock"
IDENTITY_FILE = "identity.json"


class FolderError(Exception):
    """The data folder can't be used; the text says why and names the folder."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is. `node_id` never changes; `generation` grows by one at each start, synced before it is used."""

    node_id: str
    name: str
    cluster: str
    engine: str
    generation: int
    cluster_id: str = ""
    """The adopted cluster's; empty before that. Its engine must then hold that cluster's topology, votes and logs."""
    left: bool = False
    """The cluster has removed this node: it never starts again, and the next start on the folder is a new node."""
    former: str = ""
    """The node that left this folder to this one. One that came so founds no cluster: there is one, or was."""


YOUNGER_FIELDS = frozenset({"cluster_id", "left", "former"})
"""What identities of earlier versions don't have."""


def random_node_id() -> str:
    """128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


class FolderLock:
    """Makes a folder, if it is missing, and holds it for this process until `release`.

    Raises FolderError: it can't be made or written, or another process, which the text names, holds it.
    """

    def __init__(self, folder: Path, file_name: str) -> None:
        self._folder = folder
        try:
            make_folder(folder)
            self._file = os.open(folder / file_name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unusable(folder, error) from error
        self._take()

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = self._holder()
            self.release()
            raise FolderError(f"the data folder {self._folder} is in use by {holder}") from error
        except OSError as error:
            self.release()
            raise unusable(self._folder, error) from error

    def _holder(self) -> str:
        """Between taking the lock and writing its number, the holder is nameless."""
        number = os.pread(self._file, 20, 0).strip().decode(errors="replace")
        return f"process {number}" if number else "another process"

    def release(self) -> None:
        """Let the next process in. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._file)


class DataFolder:
    """The folder of one node, locked from construction to `close`.

    Raises FolderError if it can't be made, read, written or locked. The engine lives in `engine_path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FolderLock(path, LOCK_FILE)

    @property
    def engine_path(self) -> Path:
        """Where the engine keeps its files."""
        return self.path / "engine"

    def identity(self) -> Identity | None:
        """Who the folder belongs to; None if it is new. Raises FolderError on damage."""
        path = self.path / IDENTITY_FILE
        try:
            return parse_identity(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable(self.path, error) from error
        except ValueError as error:
            raise FolderError(f"the identity file {path} is damaged: {error}; restore it from a backup") from error

    def open_identity(
        self, *, name: str, cluster: str, engine: str, new_node_id: Callable[[], str] = random_node_id
    ) -> Identity:
        """The identity of the folder, made at the first call with generation 0; a node may get another name later.

        Raises FolderError if the folder belongs to another cluster or engine, or has an engine but no identity.
        """
        stored = self.identity()
        if stored is None:
            self._check_new()
            return self._store(Identity(new_node_id(), name, cluster, engine, generation=0))
        self._check_same("cluster", stored.cluster, cluster)
        self._check_same("engine", stored.engine, engine)
        return stored if stored.name == name else self._store(replace(stored, name=name))

    def begin_generation(self, above: int = 0) -> Identity:
        """Count the start of this process: generation + 1, durable on return. The identity must exist.

        `above`: what others know of this node, from a life that the folder has forgotten.
        """
        stored = self.identity()
        assert stored is not None, "a generation needs an identity: call open_identity first"
        assert not stored.left, "a node that has left never starts again"
        return self._store(replace(stored, generation=max(stored.generation, above) + 1))

    def adopt(self, cluster_id: str) -> Identity:
        """Note that this node has adopted a cluster, durable on return; nothing may rest on the adoption before.

        At each start it is told again what the engine has adopted, in case a crash came between the two. Raises
        FolderError if it has adopted another one.
        """
        stored = self.identity()
        assert stored is not None, "only a node with an identity adopts a cluster"
        if stored.cluster_id == cluster_id:
            return stored
        if stored.cluster_id:
            raise two_clusters(self.path, stored.cluster_id, cluster_id)
        return self._store(replace(stored, cluster_id=cluster_id))

    def change_cluster(self, previous_id: str, cluster_id: str) -> Identity:
        """Note that the cluster goes on under another id, durable on return: the recovery of a lost quorum does this.

        Repeating it changes nothing. Raises FolderError if the node belongs to neither.
        """
        stored = self.identity()
        if stored is not None and stored.cluster_id == cluster_id:
            return stored
        if stored is None or stored.cluster_id not in ("", previous_id):
            raise FolderError(f"the data folder {self.path} does not belong to the cluster with id {previous_id}")
        return self._store(replace(stored, cluster_id=cluster_id))

    def mark_left(self) -> Identity:
        """Note that the cluster has removed this node for good, durable on return; repeating it changes nothing."""
        stored = self.identity()
        assert stored is not None, "only a node with an identity can have left"
        return stored if stored.left else self._store(replace(stored, left=True))

    def succeed_left(
        self, *, name: str, cluster: str, engine: str, new_node_id: Callable[[], str] = random_node_id
    ) -> Identity:
        """A new node takes the place of the one that has left, durable on return. Nothing of that one may be here."""
        stored = self.identity()
        assert stored is not None, "nobody has left"
        assert stored.left, "a node that has not left has no successor"
        self._check_new()
        return self._store(Identity(new_node_id(), name, cluster, engine, generation=0, former=stored.node_id))

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()

    def _check_new(self) -> None:
        """An engine without an identity holds what another node id has promised."""
        if self.engine_path.is_dir() and any(self.engine_path.iterdir()):
            raise FolderError(
                f"the data folder {self.path} has an engine, but its {IDENTITY_FILE} is missing: restore it, or remove "
                "the whole folder and start a new node, under another name"
            )

    def _check_same(self, what: str, stored: str, wanted: str) -> None:
        if stored != wanted:
            raise FolderError(f"the data folder {self.path} belongs to {what} {stored!r}, not to {wanted!r}")

    def _store(self, identity: Identity) -> Identity:
        try:
            write_durably(self.path / IDENTITY_FILE, format_identity(identity))
        except OSError as error:
            raise unusable(self.path, error) from error
        return identity


def format_identity(identity: Identity) -> bytes:
    """The content of the identity file: JSON, to be read by people too, with a checksum over the identity."""
    content = asdict(identity)
    return (
        json.dumps({"format": FORMAT, "identity": content, "checksum": _checksum(content)}, indent=2).encode() + b"\n"
    )


def parse_identity(text: bytes) -> Identity:
    """The inverse of `format_identity`. Raises ValueError saying what is wrong."""
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("its format is unknown")
    content = document.get("identity")
    if not isinstance(content, dict) or document.get("checksum") != _checksum(content):
        raise ValueError("its checksum is wrong")
    if content.keys() | YOUNGER_FIELDS != {field.name for field in fields(Identity)}:
        raise ValueError("its fields are not those of an identity")
    return Identity(**content)


def _checksum(content: dict[str, Any]) -> str:
    return xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file as a whole: after a crash it holds the old content or the new; the new one for sure on return."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder with its parents, if it is missing, so that it survives power loss."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a file durable that something else has written."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: creating or replacing a file is a change of its folder, not of the file."""
    sync_file(path)


def two_clusters(folder: Path, adopted_id: str, engine_id: str) -> FolderError:
    """The sentence for an engine that is not of the cluster of its folder."""
    return FolderError(
        f"the data folder {folder} belongs to the cluster with id {adopted_id}, but its engine holds that with id "
        f"{engine_id}: if a recovery was cut short here, apply the recovery plan again (ringhold recover); else "
        "restore the engine that belongs to the folder"
    )


def unusable(folder: Path, error: OSError) -> FolderError:
    """The sentence for an operation of the system that failed in `folder`."""
    return FolderError(f"the data folder {folder} can't be used: {_REASONS.get(error.errno or 0, error.strerror)}")


_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "there is a file of that name",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.ENOSPC: "no space is left on its device",
    errno.EROFS: "it is read-only",
}
