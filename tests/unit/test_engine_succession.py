"""A folder whose node has left for good becomes that of a new node, whatever is cut short on the way."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringhold.node.storage import succession
from ringhold.node.storage.folder import DataFolder, FolderError, Identity
from ringhold.node.storage.succession import succeed


class Crash(Exception):
    """The process ends here."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = DataFolder(tmp_path / "node")
    yield made
    made.close()


class Logged:
    """What was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, /, **figures: object) -> None:
        self.events.append((event, figures))


def live_and_leave(folder: DataFolder, rows: str = "rows of the first") -> Identity:
    """A life of a node up to its removal from the cluster."""
    folder.open_identity(name="a", cluster="c", engine="sqlite")
    folder.begin_generation()
    folder.adopt("c-1")
    folder.engine_path.mkdir()
    (folder.engine_path / "rows").write_text(rows)
    for name in ("mark", "engine.damaged"):
        (folder.path / name).write_text("of the first")
    return folder.mark_left()


def next_node(folder: DataFolder, log: Logged | None = None, engine: str = "sqlite") -> Identity | None:
    return succeed(folder, log or Logged(), name="a", cluster="c", engine=engine)


def check_new(folder: DataFolder, former: Identity, rows: str = "rows of the first") -> None:
    """A new node, with nothing of the former one but an engine put aside."""
    fresh = folder.identity()
    assert fresh is not None
    assert fresh.node_id != former.node_id
    assert fresh == Identity(fresh.node_id, "a", "c", "sqlite", 0, former=former.node_id)
    assert {path.name for path in folder.path.iterdir()} == {"node.lock", "identity.json", "engine.left-1"}
    assert (folder.path / "engine.left-1" / "rows").read_text() == rows


def test_a_node_that_has_not_left_has_no_successor(folder: DataFolder) -> None:
    """A new folder, and one whose node is a member, stay as they are."""
    assert next_node(folder) is None
    folder.open_identity(name="a", cluster="c", engine="sqlite")
    before = folder.begin_generation()
    assert next_node(folder) is None
    assert folder.identity() == before


def test_a_left_folder_becomes_that_of_a_new_node(folder: DataFolder) -> None:
    """It gets a new id, generation 0 and no cluster; the old engine is kept aside, and the log says where."""
    former = live_and_leave(folder)
    assert former.left
    assert folder.mark_left() == folder.identity() == former
    log = Logged()
    fresh = next_node(folder, log)
    check_new(folder, former)
    assert fresh == folder.identity()
    ((event, figures),) = log.events
    assert (event, figures["former"]) == ("new node", former.node_id)
    assert figures["kept"] == str(folder.path / "engine.left-1")
    assert next_node(folder) is None
    assert folder.begin_generation().generation == 1


def test_only_the_newest_engine_is_kept(folder: DataFolder) -> None:
    """Nodes that leave one after the other may have come to the same generation; lost engines are older, too."""
    live_and_leave(folder)
    next_node(folder)
    (folder.path / "engine.lost-1").mkdir()
    second = live_and_leave(folder, "rows of the second")
    next_node(folder)
    check_new(folder, second, "rows of the second")


def test_a_node_that_left_without_an_engine_has_a_successor(folder: DataFolder) -> None:
    """It was never admitted, or its engine was removed by hand: there is nothing to keep."""
    folder.open_identity(name="a", cluster="c", engine="sqlite")
    folder.begin_generation()
    former = folder.mark_left()
    log = Logged()
    fresh = next_node(folder, log)
    assert fresh is not None
    assert fresh.former == former.node_id
    assert log.events[0][1]["kept"] == ""


STEPS = [
    (Path, "rename"),
    (Path, "unlink"),
    (succession, "sync_folder"),
    (DataFolder, "_store"),
]


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_a_crash_at_any_step_is_made_good_by_the_next_start(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, is_done: bool
) -> None:
    """Before or after each change of the folder: the former node never starts again, and its engine is not lost."""
    former = live_and_leave(folder)
    whole: Callable[..., Any] = getattr(owner, step)

    def cut_short(*args: Any, **options: Any) -> None:
        if is_done:
            whole(*args, **options)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, cut_short)
        with pytest.raises(Crash):
            next_node(folder)
    stored = folder.identity()
    assert stored is not None
    assert stored.left is not (is_done and step == "_store")
    next_node(folder)
    check_new(folder, former)


def test_a_crash_while_an_older_engine_is_removed_loses_the_newer_one_never(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there of the older one is removed by the next start, and the newer one put in its place."""
    live_and_leave(folder)
    next_node(folder)
    (folder.path / "engine.left-1" / "more").write_text("")
    second = live_and_leave(folder, "rows of the second")

    def half(path: Path) -> None:
        (path / "more").unlink()
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", half)
        with pytest.raises(Crash):
            next_node(folder)
    next_node(folder)
    check_new(folder, second, "rows of the second")


def test_a_folder_that_can_not_be_changed_is_named(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the system becomes a sentence, and the node stays marked."""
    live_and_leave(folder)

    def refused(*_: object) -> None:
        raise OSError(30, "read-only")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(FolderError, match="can't be used: it is read-only"):
        next_node(folder)
    stored = folder.identity()
    assert stored is not None
    assert stored.left


def test_a_node_that_has_left_never_starts_again(folder: DataFolder) -> None:
    """Counting its next start is a bug, whoever does it."""
    live_and_leave(folder)
    with pytest.raises(AssertionError, match="never starts again"):
        folder.begin_generation()
