"""Engines and folders on devices that are full or read-only; needs root, to mount a small tmpfs."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import engine_writer
from support.engine_writer import Model, all_rows, last_of, small_engine

from ringhold.node.storage.engine import Engine, EngineFull, WriteBatch
from ringhold.node.storage.folder import DataFolder, FolderError
from ringhold.node.storage.opening import ENGINES, open_engine

MIB = 1024 * 1024


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    path.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"this user may not mount a tmpfs: {mount.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("size_mib", [1, 2])
def test_a_full_device_ends_the_engine_and_loses_nothing_synced(kind: str, size_mib: int, tmp_path: Path) -> None:
    """ENOSPC is EngineFull; with space again, the engine opens with a prefix that has all synced batches."""
    with mounted(tmp_path / "device", f"size={size_mib + 1}m") as device:
        ballast = device / "ballast"
        ballast.write_bytes(bytes(MIB))
        command = [sys.executable, engine_writer.__file__, kind, str(device / "engine")]
        written = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert written[-1] == "full"
        ballast.unlink()
        engine = small_engine(kind, device / "engine")
        acknowledged = int(written[-2]) if len(written) > 1 else -1
        assert last_of(engine) >= acknowledged
        assert all_rows(engine) == Model().rows_after(last_of(engine))
        engine.close()


@pytest.mark.parametrize("kind", ENGINES)
def test_a_full_device_answers_nothing_after(kind: str, tmp_path: Path) -> None:
    """Once EngineFull was raised, reads, writes and syncs raise it too, also when there is space again."""
    with mounted(tmp_path / "device", "size=3m") as device:
        engine = open_engine(kind, device / "engine")
        ballast = device / "ballast"
        ballast.write_bytes(bytes(MIB))
        with pytest.raises(EngineFull, match="no space is left"):
            write_megabytes(engine, 10)
        ballast.unlink()
        with pytest.raises(EngineFull):
            engine.get(b"0")
        with pytest.raises(EngineFull):
            engine.write(WriteBatch({b"k": b"v"}))
        engine.close()


def test_a_full_device_takes_no_identity(tmp_path: Path) -> None:
    """A data folder that can't be written says that the device is full, and keeps the identity it had."""
    with mounted(tmp_path / "device", "size=64k") as device:
        folder = DataFolder(device / "node")
        before = folder.open_identity(name="a", cluster="c", engine="sqlite")
        fill(device / "ballast")
        with pytest.raises(FolderError, match="no space is left"):
            folder.begin_generation()
        assert folder.identity() == before
        folder.close()


def write_megabytes(engine: Engine, size: int) -> None:
    for number in range(10 * size):
        engine.write(WriteBatch({b"%d" % number: bytes(MIB // 10)}))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        for _ in range(1_000):
            try:
                ballast.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - the loop ends here
                return


@pytest.mark.parametrize("kind", ENGINES)
def test_a_read_only_device_is_refused(kind: str, tmp_path: Path) -> None:
    """On a device mounted read-only neither the folder nor an engine opens, in one sentence."""
    with mounted(tmp_path / "device", "ro,size=1m") as device:
        with pytest.raises(FolderError, match="it is read-only"):
            DataFolder(device)
        with pytest.raises(FolderError, match="it is read-only"):
            open_engine(kind, device / "engine")
