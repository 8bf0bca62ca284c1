"""Whether the engine of a data folder is what the node has left there, and a new one in its place if it is not.

A replica that has forgotten what it acknowledged, or for whom it voted, can undo what a majority has agreed on. So an
engine that lost something is never used again: it is put aside, and the node is rebuilt from the others, under new
replica ids. Where there are no others the node refuses to start (DATA_LOSS). See docs/operations.md.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...gossip.wire import decode_member
from ...ring.topology import SYSTEM_GROUP, InvalidTopology, Topology, group_of_partition
from ..known_members import MEMBER_PREFIX, MEMBERS_PER_SCAN, KnownMembers
from ..peers.heard import HEARD_PREFIX, Heard, stored_heard
from ..topology_store import FOUNDING_KEY, TOPOLOGY_KEY, stored_topology
from .engine import Engine, EngineDamaged, EngineFailed, Row, WriteBatch, prefix_end
from .envelope import Damaged, unseal
from .folder import DataFolder, FolderError, Identity, make_folder, sync_folder, two_clusters, unusable, write_durably
from .mark import MARK_FILE, NOWHERE, FileMark, MarkLost, Position, Reading, new_engine_id, read_mark, write_mark
from .numbered import BATCH_KEY, NumberedEngine, stored_position
from .reborn import REBORN_KEY, Reborn, stored_reborn

DAMAGE_FILE = "engine.damaged"
"""A note that the engine was found damaged while it ran, for the next start; its content is for people."""

LOST_PREFIX = "engine.lost-"
ALL_KEYS = (b"", b"\xff" * 8)


class Log(Protocol):
    """Where an opening tells what it found."""

    def __call__(self, event: str, /, **figures: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """Why an engine can't be used: a sentence, and how many batches are gone (None: nobody can say)."""

    reason: str
    batches: int | None = None


@dataclass(frozen=True, slots=True)
class Remains:
    """What can still be read of a lost engine. `is_empty`: nothing is in it, so it is not worth keeping."""

    topology: Topology | None = None
    members: Sequence[Row] = field(default=())
    is_empty: bool = False


def loss_of(engine: Engine, mark: Reading | MarkLost, cluster_id: str) -> Loss | None:
    """What is wrong with an engine, given its mark and the cluster that the folder's identity has adopted (or empty).

    A mark is made before the first batch. So where there are batches and no mark, somebody has removed it or has put
    the folder together from parts: nobody can vouch for the last batches, and one forgotten vote is too many.
    Raises EngineFailed.
    """
    try:
        position = stored_position(engine)
        if position is None:
            return _loss_of_unnumbered(engine, mark, cluster_id)
        return _loss_against(position, mark) or _loss_of_records(engine, cluster_id)
    except Damaged as damage:
        return Loss(f"a record of the node itself is damaged ({damage})")
    except EngineDamaged as damage:
        return Loss(str(damage))


def _loss_of_unnumbered(engine: Engine, mark: Reading | MarkLost, cluster_id: str) -> Loss | None:
    if engine.scan(*ALL_KEYS, limit=1):
        return Loss("its batches are not numbered, so nobody can say whether the last ones are there")
    noted = mark.position.number if isinstance(mark, Reading) else 0
    if cluster_id or noted:
        return Loss("it is empty: its files were lost", noted or None)
    return None


def _loss_against(position: Position, mark: Reading | MarkLost) -> Loss | None:
    if isinstance(mark, MarkLost):
        return Loss(f"its mark {mark}, so nobody can say whether the last batches are there")
    noted = mark.position
    if position.engine_id != noted.engine_id:
        return Loss("it is not the engine that the mark speaks of, but of an earlier life, or of another node")
    if position.number < noted.number:
        lost = noted.number - position.number
        return Loss(f"the last {lost} batches before its last sync are gone: it holds {position.number}", lost)
    return None


def _loss_of_records(engine: Engine, cluster_id: str) -> Loss | None:
    """What a start reads must be readable; an adopted topology must be there, unless the engine waits for it anew."""
    topology, reborn = stored_topology(engine, TOPOLOGY_KEY), stored_reborn(engine)
    stored_topology(engine, FOUNDING_KEY)
    KnownMembers(engine, _nothing_to_sync).load()
    stored_heard(engine)
    if topology is None and reborn is None and cluster_id:
        return Loss("it has no topology, though the node had adopted one")
    return None


def _nothing_to_sync(name: str, work: object) -> None:
    raise AssertionError("reading members writes nothing")


@dataclass(frozen=True, slots=True)
class Opening:
    """All that an opening needs to know. `seeds` are those of other nodes; `open_files` opens the engine in a folder.

    `random_bits(count)`: an engine of another node is told by them. `begins_again`: others know this node from later
    generations than the folder did, in which it began its engine, sound or not; so the engine becomes one of this one.
    """

    folder: DataFolder
    identity: Identity
    seeds: Sequence[str]
    open_files: Callable[[Path], Engine]
    random_bits: Callable[[int], int]
    log: Log
    begins_again: bool = False

    def run(self) -> NumberedEngine:
        """The engine of the folder, sound, or begun anew with the record `reborn`.

        Raises FolderError where there is nobody to be rebuilt from, and what opening an engine raises otherwise.
        """
        mark = mark_of(self.folder)
        engine, loss = self._examined(mark)
        if loss is not None:
            self._replace(engine, loss)
            engine = self.open_files(self.folder.engine_path)
        elif isinstance(mark, MarkLost):
            self._begin_mark()  # a new folder
        elif mark.damaged_slots:
            self.log("a slot of the mark is damaged", path=str(self._mark_path))
        if self.begins_again and engine is not None and loss is None:
            engine = self._begun_again(engine)
        assert engine is not None, "only an engine that could be looked at is sound"
        return NumberedEngine(engine, FileMark(self._mark_path))

    def _begin_mark(self) -> None:
        write_mark(self._mark_path, Position(self._new_engine_id(), 0))

    def _new_engine_id(self) -> int:
        return new_engine_id(self.identity.generation, self.random_bits)

    def _begun_again(self, engine: Engine) -> Engine:
        batch = WriteBatch()
        position = stage_takeover(engine, self._new_engine_id(), batch)
        engine.write(batch)
        engine.close()
        take_over(self.folder, position)
        return self.open_files(self.folder.engine_path)

    @property
    def _mark_path(self) -> Path:
        return self.folder.path / MARK_FILE

    def _examined(self, mark: Reading | MarkLost) -> tuple[Engine | None, Loss | None]:
        """The engine, if it opens at all, and what is wrong with it."""
        note = damage_noted(self.folder)
        try:
            engine = self.open_files(self.folder.engine_path)
        except EngineDamaged as damage:
            return None, Loss(note or str(damage))
        if note:
            return engine, Loss(note)
        try:
            return engine, loss_of(engine, mark, self.identity.cluster_id)
        except EngineFailed:
            engine.close()
            raise

    def _replace(self, engine: Engine | None, loss: Loss) -> None:
        """Begin a new engine. A crash in between leaves an engine that is lost, and the next start does it again."""
        remains = remains_of(engine)
        if remains.topology is not None and remains.topology.cluster_id != self.identity.cluster_id != "":
            assert engine is not None, "it was read"
            close_lost(engine)
            raise two_clusters(self.folder.path, self.identity.cluster_id, remains.topology.cluster_id)
        if engine is not None:
            close_lost(engine)
        if self.identity.cluster_id:
            self._check_others(loss, remains)
        kept = None if remains.is_empty else self._put_aside()
        self._mark_path.unlink(missing_ok=True)
        (self.folder.path / DAMAGE_FILE).unlink(missing_ok=True)
        sync_folder(self.folder.path)
        self._begin_mark()
        if self.identity.cluster_id:
            self._begin_reborn(loss, remains)
        self.log("engine lost", reason=loss.reason, batches=loss.batches, kept=str(kept) if kept else "")

    def _check_others(self, loss: Loss, remains: Remains) -> None:
        alone = sole_groups(remains.topology, self.identity.node_id)
        if not alone and (self.seeds or remains.members):
            return
        others = (
            f"no other node has a replica of {alone} of its groups"
            if alone
            else "it knows of no other node to be rebuilt from (--seeds names none)"
        )
        raise FolderError(
            f"DATA_LOSS: the engine in {self.folder.engine_path} has lost data: {loss.reason}; {others}. "
            "Restore the engine's files as they were at the end, or go on with what is left: ringhold recover --unsafe"
        )

    def _put_aside(self) -> Path | None:
        """Keep the lost engine, for people, in place of what an earlier loss has left."""
        if not self.folder.engine_path.exists():
            return None
        kept = self.folder.path / f"{LOST_PREFIX}{self.identity.generation}"
        self.folder.engine_path.rename(kept)
        sync_folder(self.folder.path)
        for older in self.folder.path.glob(f"{LOST_PREFIX}*"):
            if older != kept:
                shutil.rmtree(older)
        return kept

    def _begin_reborn(self, loss: Loss, remains: Remains) -> None:
        """What gossip kept of the others is carried over: who they are, and how to find them."""
        make_folder(self.folder.engine_path)
        identity = self.identity
        record = Reborn(identity.cluster_id, identity.generation, loss.reason, loss.batches)
        engine = NumberedEngine(self.open_files(self.folder.engine_path), FileMark(self._mark_path))
        engine.write(WriteBatch({REBORN_KEY: record.encode(), **dict(remains.members)}))
        engine.close()


def sole_groups(topology: Topology | None, node_id: str) -> int:
    """How many groups have their only replica on a node, as far as its last topology tells; 0 if there is none."""
    if topology is None:
        return 0
    groups = {group_of_partition(partition): targets for partition, targets in enumerate(topology.targets)}
    groups[SYSTEM_GROUP] = topology.system_voters
    return sum(set(voters) == {node_id} for voters in groups.values())


def remains_of(engine: Engine | None) -> Remains:
    """Read what helps to find the others; what can't be read is left out."""
    if engine is None:
        return Remains()
    return Remains(_topology_of(engine), _members_of(engine), _is_empty(engine))


def _topology_of(engine: Engine) -> Topology | None:
    try:
        return stored_topology(engine, TOPOLOGY_KEY)
    except (EngineFailed, Damaged, InvalidTopology):
        return None


def _members_of(engine: Engine) -> Sequence[Row]:
    try:
        KnownMembers(engine, _nothing_to_sync).load()
        return engine.scan(MEMBER_PREFIX, prefix_end(MEMBER_PREFIX), limit=MEMBERS_PER_SCAN)
    except (EngineFailed, Damaged):
        return ()


def _is_empty(engine: Engine) -> bool:
    try:
        return not engine.scan(*ALL_KEYS, limit=1)
    except EngineFailed:
        return False


def close_lost(engine: Engine) -> None:
    """Release an engine whose failures tell nothing new."""
    try:
        engine.close()
    except EngineFailed:
        return


def mark_of(folder: DataFolder) -> Reading | MarkLost:
    """Raises FolderError."""
    try:
        return read_mark(folder.path / MARK_FILE)
    except MarkLost as lost:
        return lost
    except OSError as error:
        raise unusable(folder.path, error) from error


def damage_noted(folder: DataFolder) -> str:
    """What an earlier process has found while it ran; empty if nothing. Raises FolderError."""
    try:
        return (folder.path / DAMAGE_FILE).read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise unusable(folder.path, error) from error


def note_damage(folder: DataFolder, engine: Engine) -> None:
    """If the engine has found its files damaged, leave a note, durably, that the next start must not use them.

    An engine that has failed says so at every call, so one read tells, if no cache answers it: a scan. Raises OSError:
    the note can't be left.
    """
    try:
        engine.scan(*ALL_KEYS, limit=1)
    except EngineDamaged as damage:
        write_durably(folder.path / DAMAGE_FILE, f"{damage}\n".encode())
    except EngineFailed:
        return


def stage_takeover(engine: Engine, engine_id: int | None, batch: WriteBatch) -> Position:
    """Put into the last batch before `take_over` that the engine is taken as it is; its position after that.

    `engine_id`: a new one, for an engine that has lost something: others know how far it once was. None: it is sound.
    Raises Damaged, if it is not; EngineFailed.
    """
    if engine_id is None:
        position = stored_position(engine) or NOWHERE
        position = Position(position.engine_id, position.number + 1)
    else:
        position = Position(engine_id, 1)
        for key in _unreadable_records(engine):
            batch.delete(key)
    batch.put(BATCH_KEY, position.encode())
    return position


def _unreadable_records(engine: Engine) -> list[bytes]:
    """What a start reads, and can do without."""
    readers: list[tuple[bytes, Callable[[bytes], object]]] = [
        (REBORN_KEY, Reborn.decode),
        (MEMBER_PREFIX, lambda stored: decode_member(unseal(stored))),
        (HEARD_PREFIX, Heard.decode),
    ]
    return [
        key
        for prefix, read in readers
        for key, stored in engine.scan(prefix, prefix_end(prefix), limit=MEMBERS_PER_SCAN)
        if not _can(read, stored)
    ]


def _can(read: Callable[[bytes], object], stored: bytes) -> bool:
    try:
        read(stored)
    except (Damaged, ValueError):
        return False
    return True


def take_over(folder: DataFolder, position: Position) -> None:
    """Once the batch of `stage_takeover` is durable: the mark begins again there. May be repeated. Raises OSError."""
    write_mark(folder.path / MARK_FILE, position)
    (folder.path / DAMAGE_FILE).unlink(missing_ok=True)
    sync_folder(folder.path)
