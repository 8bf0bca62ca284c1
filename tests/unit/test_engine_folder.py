"""A data folder belongs to one process, one node, one cluster, one engine, and says so when asked for another."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ringhold.node.storage.folder import (
    DataFolder,
    FolderError,
    Identity,
    _checksum,
    format_identity,
    parse_identity,
)

HOLDER = """
import sys
from pathlib import Path
from ringhold.node.storage.folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = DataFolder(tmp_path / "new" / "node")
    yield made
    made.close()


def make(folder: DataFolder, *, name: str = "a", cluster: str = "c", engine: str = "sqlite") -> Identity:
    return folder.open_identity(name=name, cluster=cluster, engine=engine)


def test_an_identity_is_made_once(folder: DataFolder) -> None:
    """A new folder gets a random node id, which stays; two folders get two."""
    assert folder.identity() is None
    first = make(folder)
    assert first == Identity(first.node_id, "a", "c", "sqlite", 0)
    assert len(first.node_id) == 32
    assert make(folder) == folder.identity() == first
    other = DataFolder(folder.path / "other")
    assert make(other).node_id != first.node_id
    other.close()


def test_an_adopted_cluster_is_remembered(folder: DataFolder) -> None:
    """The id of the cluster stays over starts and renames, and there is only ever one."""
    make(folder)
    adopted = folder.adopt("c-1")
    assert adopted.cluster_id == "c-1"
    assert folder.adopt("c-1") == folder.identity() == adopted
    assert folder.begin_generation().cluster_id == "c-1"
    assert make(folder, name="b").cluster_id == "c-1"
    with pytest.raises(FolderError, match="belongs to the cluster with id c-1, but its engine holds that with id c-2"):
        folder.adopt("c-2")


def test_a_recovered_cluster_goes_on_under_another_id(folder: DataFolder) -> None:
    """The id is changed once, from the very cluster that was recovered; repeating it changes nothing."""
    make(folder)
    folder.adopt("c-1")
    for _ in range(2):
        assert folder.change_cluster("c-1", "c-2").cluster_id == "c-2"
    assert folder.identity() == folder.adopt("c-2")
    with pytest.raises(FolderError, match="does not belong to the cluster with id c-1"):
        folder.change_cluster("c-1", "c-3")


def test_an_engine_without_an_identity_is_refused(folder: DataFolder) -> None:
    """It holds the promises of another node id, which must not be made under a new one."""
    folder.engine_path.mkdir()
    first = make(folder)
    (folder.engine_path / "rows").write_bytes(b"")
    assert make(folder) == first
    (folder.path / "identity.json").unlink()
    with pytest.raises(FolderError, match=r"has an engine, but its identity\.json is missing"):
        make(folder)


def test_an_identity_of_an_earlier_version_is_read(folder: DataFolder) -> None:
    """One that does not know of adoption yet has adopted nothing; nor has one left that knows nothing of leaving."""
    first = make(folder)
    younger = {"cluster_id", "left", "former"}
    content = {name: value for name, value in asdict(first).items() if name not in younger}
    text = json.dumps({"format": 1, "identity": content, "checksum": _checksum(content)})
    assert parse_identity(text.encode()) == first


def test_a_generation_is_counted_at_each_start(folder: DataFolder) -> None:
    """Each begun generation is one more than the last, also after opening the folder again."""
    made = make(folder)
    assert [folder.begin_generation().generation for _ in range(3)] == [1, 2, 3]
    folder.close()
    again = DataFolder(folder.path)
    assert again.begin_generation(above=2) == Identity(made.node_id, "a", "c", "sqlite", 4)
    folder._lock = again._lock


def test_a_generation_may_have_to_go_beyond_one_that_others_know(folder: DataFolder) -> None:
    """An old identity is not alone with what it remembers: it counts on from the higher of both."""
    make(folder)
    assert [folder.begin_generation(above).generation for above in (7, 3, 9)] == [8, 9, 10]
    assert folder.begin_generation().generation == 11


def test_a_node_may_get_another_name(folder: DataFolder) -> None:
    """The name is an attribute: another one is stored, with the same node id."""
    first = make(folder)
    renamed = make(folder, name="b")
    assert renamed == folder.identity() == Identity(first.node_id, "b", "c", "sqlite", 0)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"cluster": "other"}, "belongs to cluster 'c', not to 'other'"),
        ({"engine": "rocksdb"}, "belongs to engine 'sqlite', not to 'rocksdb'"),
    ],
)
def test_another_cluster_or_engine_is_refused(folder: DataFolder, wanted: dict[str, str], sentence: str) -> None:
    """The folder of another cluster or engine is refused, both named, and stays as it is."""
    first = make(folder)
    with pytest.raises(FolderError, match=sentence):
        make(folder, **wanted)
    assert folder.identity() == first


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    """The error names the process that holds the folder; kill -9 of it frees the folder."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match=f"is in use by process {holder.pid}$"):
            DataFolder(tmp_path)
        holder.kill()
    DataFolder(tmp_path).close()


DAMAGES = {
    "empty": b"",
    "cut": b'{"format": 1, "identity": {"no',
    "not json": b"\xff\xfe",
    "a list": b"[]",
    "other format": b'{"format": 2}',
    "no checksum": b'{"format": 1, "identity": {}}',
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_identity_is_refused(folder: DataFolder, damage: bytes) -> None:
    """An identity file that is not what was written is an error that names it, never a new identity."""
    path = folder.path / "identity.json"
    path.write_bytes(damage)
    with pytest.raises(FolderError, match=r"identity file .*identity\.json is damaged"):
        make(folder)
    assert path.read_bytes() == damage


def test_a_changed_identity_is_refused(folder: DataFolder) -> None:
    """A field changed by hand does not fit the checksum; neither do fields of another set that has one."""
    identity = make(folder)
    document = json.loads(format_identity(identity))
    document["identity"]["generation"] = 99
    with pytest.raises(ValueError, match="checksum"):
        parse_identity(json.dumps(document).encode())
    assert parse_identity(format_identity(identity)) == identity


def test_a_file_left_by_a_crash_is_no_matter(folder: DataFolder) -> None:
    """A crash before the rename leaves the old identity and a file that the next change replaces."""
    first = make(folder)
    (folder.path / "identity.json.new").write_bytes(b"half of an iden")
    assert folder.identity() == first
    assert folder.begin_generation().generation == 1


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A path that is a file, or goes through one, is refused in one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="there is a file of that name"):
        DataFolder(tmp_path / "file")
    with pytest.raises(FolderError, match=r"not a folder|file of that name"):
        DataFolder(tmp_path / "file" / "node")


def test_a_folder_without_permission_is_refused() -> None:
    """A folder that may not be written is refused in one sentence, be it new or not."""
    with TemporaryDirectory() as path:
        Path(path).chmod(0o555)
        for folder in (Path(path), Path(path) / "new"):
            with as_nobody_special(), pytest.raises(FolderError, match="permission denied"):
                DataFolder(folder)


@contextmanager
def as_nobody_special() -> Iterator[None]:
    """Permissions do not bind root: while it lasts, be somebody else."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)
