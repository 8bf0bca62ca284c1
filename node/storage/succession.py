"""A new node in the folder of one that has left its cluster for good.

The former node's engine is put aside, for people; nothing of it is used. A crash at any step leaves a folder that is
still marked as left, and the next start takes the steps again. See docs/storage-format.md.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from .folder import DataFolder, Identity, random_node_id, sync_folder, unusable
from .health import DAMAGE_FILE, LOST_PREFIX, Log
from .mark import MARK_FILE

LEFT_PREFIX = "engine.left-"


def succeed(
    folder: DataFolder,
    log: Log,
    *,
    name: str,
    cluster: str,
    engine: str,
    new_node_id: Callable[[], str] = random_node_id,
) -> Identity | None:
    """Make the folder that of a new node, if the one that had it has left; None if it has not. Raises FolderError."""
    former = folder.identity()
    if former is None or not former.left:
        return None
    try:
        put_aside(folder, former)
    except OSError as error:
        raise unusable(folder.path, error) from error
    fresh = folder.succeed_left(name=name, cluster=cluster, engine=engine, new_node_id=new_node_id)
    kept = left_engine(folder, former)
    log("new node", former=former.node_id, node_id=fresh.node_id, kept=str(kept) if kept.exists() else "")
    return fresh


def put_aside(folder: DataFolder, former: Identity) -> None:
    """Keep the former node's engine in place of what earlier ones have left or lost. May be repeated. Raises OSError.

    The numbers of engines that were put aside are those of nodes that were here one after the other, so they say no
    order, and may come again.
    """
    remove_all(folder, LOST_PREFIX)
    if folder.engine_path.exists():
        remove_all(folder, LEFT_PREFIX)
        folder.engine_path.rename(left_engine(folder, former))
    (folder.path / MARK_FILE).unlink(missing_ok=True)
    (folder.path / DAMAGE_FILE).unlink(missing_ok=True)
    sync_folder(folder.path)


def left_engine(folder: DataFolder, former: Identity) -> Path:
    """Where the engine of a node that has left is kept."""
    return folder.path / f"{LEFT_PREFIX}{former.generation}"


def remove_all(folder: DataFolder, prefix: str) -> None:
    for older in folder.path.glob(f"{prefix}*"):
        shutil.rmtree(older)
