"""An engine is chosen by name, and a wrong choice says what to do."""

import sys
from pathlib import Path

import pytest

from ringhold.node.storage.engine import EngineFailed
from ringhold.node.storage.folder import FolderError
from ringhold.node.storage.opening import ENGINES, EngineUnavailable, open_engine


def test_an_unknown_engine_names_the_known_ones(tmp_path: Path) -> None:
    """A name that no engine has is an error that lists those that exist, and makes no folder."""
    with pytest.raises(EngineUnavailable, match="unknown engine 'leveldb': choose one of rocksdb, sqlite"):
        open_engine("leveldb", tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_a_missing_library_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rocksdict the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    monkeypatch.delitem(sys.modules, "ringhold.node.storage.rocksdb", raising=False)
    with pytest.raises(EngineUnavailable, match=r"pip install 'ringhold\[rocksdb\]'"):
        open_engine("rocksdb", tmp_path / "engine")


@pytest.mark.parametrize("kind", ENGINES)
def test_a_file_in_the_way_is_an_error(kind: str, tmp_path: Path) -> None:
    """A path that is a file is refused in one sentence."""
    (tmp_path / "engine").write_text("")
    with pytest.raises(FolderError, match=r"there is a file of that name|not a folder"):
        open_engine(kind, tmp_path / "engine")


def test_a_damaged_database_is_not_opened(tmp_path: Path) -> None:
    """A file that is no database is EngineFailed, again at the next try, and stays as it is."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "rows.sqlite").write_bytes(b"not a database" * 1_000)
    for _ in range(2):
        with pytest.raises(EngineFailed, match="not a database"):
            open_engine("sqlite", tmp_path / "engine")
    assert (tmp_path / "engine" / "rows.sqlite").stat().st_size == 14_000
