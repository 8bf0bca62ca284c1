"""Folders of nodes that have stopped, as a crash leaves them, for tests of recovery."""

import asyncio
from pathlib import Path

from support.ring_nodes import node_record
from support.rows import command_of, set_of

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.machine.founding_replicas import stage_founding_replicas
from ringhold.node.storage.engine import Engine, WriteBatch
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.folder import DataFolder
from ringhold.node.storage.mark import MARK_FILE, FileMark, Position, write_mark
from ringhold.node.storage.numbered import NumberedEngine
from ringhold.node.storage.opening import open_engine
from ringhold.node.topology_store import FOUNDING_KEY, TOPOLOGY_KEY
from ringhold.ring.placement import found
from ringhold.ring.topology import Topology

NODES = "abc"
GROUP = 1
OLD, NEW = "old-id", "new-id"
ENTRIES = 5
ENGINE_ID = 1 << 32


def known_topology(cluster_id: str = OLD) -> Topology:
    return found("c", cluster_id, 2, 3, [node_record(node_id) for node_id in NODES])


def make_node(path: Path, engine_kind: str, node_id: str = "a", *, entries: int = ENTRIES) -> Path:
    """The folder of a node that has run: founded, with entries of partition 0 that are not applied."""
    folder = DataFolder(path)
    folder.open_identity(name=f"name-{node_id}", cluster="c", engine=engine_kind, new_node_id=lambda: node_id)
    folder.begin_generation()
    with write_to(folder.engine_path, engine_kind) as (_, batch):
        stage_founding_replicas(known_topology(), node_id, batch)
        for key in (TOPOLOGY_KEY, FOUNDING_KEY):
            batch.put(key, seal(known_topology().to_json()))
        for index in range(1, entries + 1):
            batch.put(keyspace.log_key(GROUP, index), seal(entry_at(index)))
    folder.adopt(OLD)
    folder.close()
    return path


def entry_at(index: int) -> bytes:
    command = command_of(set_of(b"k", b"v", []), request_id=b"%d" % index, anchor_ms=0)
    return stored.LogEntry(term=1, commands=[command]).SerializeToString()


class write_to:  # noqa: N801 - a context manager
    """The engine of a folder and a batch, which is written and synced at the end of the block."""

    def __init__(self, path: Path, engine_kind: str) -> None:
        mark = path.with_name(MARK_FILE)
        if not mark.exists():
            write_mark(mark, Position(ENGINE_ID, 0))
        self._engine, self._batch = NumberedEngine(open_engine(engine_kind, path), FileMark(mark)), WriteBatch()

    def __enter__(self) -> tuple[Engine, WriteBatch]:
        return self._engine, self._batch

    def __exit__(self, *_: object) -> None:
        self._engine.write(self._batch)
        asyncio.run(self._engine.sync())
        self._engine.close()


def change(path: Path, engine_kind: str, key: bytes, value: bytes) -> None:
    with write_to(path / "engine", engine_kind) as (_, batch):
        batch.put(key, value)
