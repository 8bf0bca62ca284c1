"""What a node finds at its start in place of its engine, with real files: each case is told, none passes for sound."""

import asyncio
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from support.gossip import member
from support.ring_nodes import node_records

from ringhold.gossip.wire import encode_member
from ringhold.node.keyspace import vote_key
from ringhold.node.known_members import MEMBER_PREFIX, KnownMembers, member_key
from ringhold.node.main import adopt_stored
from ringhold.node.storage.cache import CachedEngine
from ringhold.node.storage.engine import Engine, EngineDamaged, EngineFailed, WriteBatch
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.folder import DataFolder, FolderError
from ringhold.node.storage.health import DAMAGE_FILE, Opening, note_damage, stage_takeover, take_over
from ringhold.node.storage.mark import MARK_FILE, SLOT_DISTANCE, new_engine_id, read_mark
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import BATCH_KEY, NumberedEngine
from ringhold.node.storage.opening import ENGINES, open_engine
from ringhold.node.storage.reborn import REBORN_KEY, Reborn, stored_reborn
from ringhold.node.topology_store import FOUNDING_KEY, TOPOLOGY_KEY
from ringhold.ring.placement import found
from ringhold.ring.topology import Topology

CLUSTER = found("c", "cluster-1", 8, 3, node_records(3))
NODE_ID = "n0000"
ALONE = found("c", "cluster-1", 8, 1, [CLUSTER.nodes[0]])
LAST = vote_key(1)
BATCHES = 40


@dataclass
class Disk:
    """A node's data folder, and what its openings have told."""

    path: Path
    kind: str
    seeds: list[str] = field(default_factory=lambda: ["b:2"])
    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    ids: int = 0

    @property
    def engine(self) -> Path:
        return self.path / "engine"

    @property
    def rows(self) -> Path:
        return self.engine / "rows.rocksdb" if self.kind == "rocksdb" else self.engine / "rows.sqlite"

    def open(self) -> tuple[DataFolder, NumberedEngine]:
        """A start of the node, up to its engine. Raises what that raises."""
        folder = DataFolder(self.path)
        try:
            folder.open_identity(name="a", cluster="c", engine=self.kind, new_node_id=lambda: NODE_ID)
            return folder, Opening(
                folder=folder,
                identity=folder.begin_generation(),
                seeds=self.seeds,
                open_files=partial(open_engine, self.kind),
                random_bits=self._random_bits,
                log=self._log,
            ).run()
        except (FolderError, EngineFailed):
            folder.close()
            raise

    def _random_bits(self, count: int) -> int:
        self.ids += 1
        return self.ids

    def _log(self, event: str, /, **figures: object) -> None:
        self.told.append((event, figures))

    def live(self, write: Callable[[DataFolder, NumberedEngine], None] | None = None) -> None:
        """A start of the node and its end in order."""
        folder, engine = self.open()
        if write is not None:
            write(folder, engine)
        engine.close()
        folder.close()

    def reborn(self) -> Reborn | None:
        """What the next start finds: the record of a loss, or that the engine is sound. Raises as `open`."""
        folder, engine = self.open()
        record = stored_reborn(engine)
        assert (engine.get(LAST) is None) is (record is not None), "what was lost is gone as a whole"
        engine.close()
        folder.close()
        return record

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("engine.lost-*"))


def belonging_to(topology: Topology, batches: int = BATCHES) -> Callable[[DataFolder, NumberedEngine], None]:
    """A life in which the node has adopted a cluster, has met b, and has synced some batches."""

    def write(folder: DataFolder, engine: NumberedEngine) -> None:
        batch = WriteBatch({TOPOLOGY_KEY: seal(topology.to_json())})
        if len(topology.nodes) > 1:
            batch.put(member_key("n0001"), seal(encode_member(member("n0001"))))
        engine.write(batch)
        for number in range(batches):
            engine.write(WriteBatch({LAST: seal(b"%d" % number), b"\x05%d" % number: bytes(2_000)}))
        asyncio.run(engine.sync())
        folder.adopt(topology.cluster_id)

    return write


@pytest.fixture(params=ENGINES)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """A node of a cluster of three that has stopped in order."""
    made = Disk(tmp_path / "node", request.param)
    made.live(belonging_to(CLUSTER))
    return made


def crashed(disk: Disk) -> None:
    """Leave the folder as a process that is killed right after a sync leaves it."""
    folder, engine = disk.open()
    belonging_to(CLUSTER)(folder, engine)
    shutil.copytree(disk.path, disk.path.with_name("copy"))
    engine.close()
    folder.close()
    shutil.rmtree(disk.path)
    disk.path.with_name("copy").rename(disk.path)


def test_a_sound_engine_is_used_as_it_is(disk: Disk) -> None:
    """After an orderly end, after kill -9, and however often: nothing is told."""
    assert disk.reborn() is None
    crashed(disk)
    assert disk.reborn() is None
    assert disk.reborn() is None
    assert (disk.told, disk.kept()) == ([], [])


@pytest.mark.parametrize("kind", ENGINES)
def test_a_new_folder_gets_an_engine_and_a_mark(kind: str, tmp_path: Path) -> None:
    """The mark is there before the first batch, so that its absence later means something."""
    disk = Disk(tmp_path / "node", kind)
    folder, engine = disk.open()
    assert read_mark(disk.path / MARK_FILE).position == (new_engine_id(1, lambda bits: 1), 0)
    assert stored_reborn(engine) is None
    engine.close()
    folder.close()
    disk.live()
    assert disk.told == []


def flip(path: Path, *places: int) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 0xFF
    path.write_bytes(content)


def wal_of(disk: Disk) -> Path:
    """The write-ahead log of the crashed engine, which holds its last batches."""
    if disk.kind == "sqlite":
        return disk.rows.with_name("rows.sqlite-wal")
    return max(disk.rows.glob("*.log"), key=lambda log: log.stat().st_size)


def tear_log(disk: Disk) -> None:
    wal = wal_of(disk)
    os_size = wal.stat().st_size
    with wal.open("r+b") as file:
        file.truncate(os_size * 2 // 3)


def flip_in_log(disk: Disk) -> None:
    flip(wal_of(disk), wal_of(disk).stat().st_size // 2)


def delete_log(disk: Disk) -> None:
    wal_of(disk).unlink()


def empty_folder(disk: Disk) -> None:
    shutil.rmtree(disk.engine)
    disk.engine.mkdir()


def delete_rows(disk: Disk) -> None:
    shutil.rmtree(disk.rows) if disk.rows.is_dir() else disk.rows.unlink()


def spoil_rows(disk: Disk) -> None:
    """Every file of the tables says something else."""
    files = [disk.rows] if disk.rows.is_file() else [*disk.rows.glob("MANIFEST*"), *disk.rows.glob("CURRENT")]
    for file in files:
        flip(file, *range(min(file.stat().st_size, 90)))


def delete_part(disk: Disk) -> None:
    for file in [disk.rows] if disk.rows.is_file() else disk.rows.glob("MANIFEST*"):
        file.unlink()


def delete_mark(disk: Disk) -> None:
    (disk.path / MARK_FILE).unlink()


def spoil_mark(disk: Disk) -> None:
    flip(disk.path / MARK_FILE, 20, SLOT_DISTANCE + 3)


def leave_note(disk: Disk) -> None:
    (disk.path / DAMAGE_FILE).write_text("the storage engine in engine is damaged: block checksum mismatch\n")


TAIL = r"the last \d+ batches before its last sync are gone: it holds \d+|it is empty"
DAMAGES: list[tuple[Callable[[Disk], None], str]] = [
    (tear_log, TAIL),
    (flip_in_log, TAIL),
    (delete_log, TAIL),
    (empty_folder, "it is empty: its files were lost"),
    (lambda disk: shutil.rmtree(disk.engine), "it is empty: its files were lost"),
    (delete_rows, "it is empty: its files were lost"),
    (spoil_rows, "is damaged: |it is empty"),
    (delete_part, "is damaged: |it is empty"),
    (delete_mark, "its mark is missing, so nobody can say"),
    (spoil_mark, "its mark can't be read: both of its slots are damaged, so nobody can say"),
    (leave_note, "block checksum mismatch"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_lost_engine_is_put_aside_and_begun_anew(disk: Disk, damage: Callable[[Disk], None], reason: str) -> None:
    """Whatever is missing: the node keeps its id and cluster, knows why it is reborn, and stays what it is then."""
    crashed(disk)
    before = read_mark(disk.path / MARK_FILE).position.number
    damage(disk)
    record = disk.reborn()
    assert record is not None
    assert re.search(reason, record.reason), record.reason
    assert (record.cluster_id, record.generation) == ("cluster-1", 3)
    assert record.batches_lost is None or 0 < record.batches_lost <= before
    (event, figures), *more = disk.told
    assert (event, figures["reason"], more) == ("engine lost", record.reason, [])
    assert disk.kept() in ([], ["engine.lost-3"])
    assert bool(disk.kept()) is bool(figures["kept"])
    assert disk.reborn() == record
    assert len(disk.told) == 1


def test_what_gossip_kept_of_the_others_is_carried_over(disk: Disk) -> None:
    """A reborn node finds the others without seeds, and its peers' ghosts are known as before."""
    crashed(disk)
    disk.seeds = []
    delete_mark(disk)
    folder, engine = disk.open()
    assert [each.node_id for each in KnownMembers(engine, lambda name, work: None).load()] == ["n0001"]
    assert engine.get(TOPOLOGY_KEY) is None
    assert [key for key, _ in engine.scan(b"", b"\xff", limit=9)] == [MEMBER_PREFIX + b"n0001", REBORN_KEY]
    engine.close()
    folder.close()


@pytest.mark.parametrize("damage", [delete_mark, delete_rows, leave_note])
def test_a_node_that_nobody_can_rebuild_does_not_start(disk: Disk, damage: Callable[[Disk], None]) -> None:
    """A cluster of one: it says DATA_LOSS and how to go on, however often, and touches nothing."""
    shutil.rmtree(disk.path)
    disk.seeds = []
    disk.live(belonging_to(ALONE))
    damage(disk)
    for _ in range(2):
        with pytest.raises(FolderError, match=r"^DATA_LOSS: the engine in .* has lost data: .*recover --unsafe"):
            disk.open()
    assert disk.kept() == []
    if damage is delete_mark:
        with pytest.raises(FolderError, match="no other node has a replica of 9 of its groups"):
            disk.open()


def test_without_seeds_and_memory_of_others_nobody_is_found(disk: Disk) -> None:
    """An engine that tells nothing, and no --seeds: the same refusal, which says what is missing."""
    crashed(disk)
    disk.seeds = []
    delete_rows(disk)
    with pytest.raises(FolderError, match=r"DATA_LOSS.*knows of no other node to be rebuilt from \(--seeds names none"):
        disk.open()


def test_the_operator_may_vouch_for_what_is_left(disk: Disk) -> None:
    """Then the engine is taken as it is, and its numbers go on from where it stands."""
    for damage in (tear_log, delete_mark, leave_note):
        shutil.rmtree(disk.path)
        disk.live(belonging_to(CLUSTER))
        crashed(disk)
        damage(disk)
        folder = DataFolder(disk.path)
        engine = open_engine(disk.kind, disk.engine)
        is_there = engine.get(LAST) is not None
        batch = WriteBatch()
        position = stage_takeover(engine, 77, batch)
        engine.write(batch)
        engine.close()
        take_over(folder, position)
        folder.close()
        _, opened = started = disk.open()
        assert (stored_reborn(opened), opened.get(LAST) is not None) == (None, is_there)
        end(*started)


def test_an_engine_that_is_behind_what_others_know_is_begun_again(disk: Disk) -> None:
    """Others know later generations than the folder does: an engine of now is beyond all that they have heard."""
    disk.live()
    before = read_mark(disk.path / MARK_FILE).position
    folder = DataFolder(disk.path)
    identity = folder.begin_generation(above=8)
    opening = Opening(
        folder, identity, ["b:2"], partial(open_engine, disk.kind), lambda count: 5, disk._log, begins_again=True
    )
    engine = opening.run()
    assert engine.opened > before
    assert engine.opened.generation == 9
    assert engine.get(LAST) is not None
    end(folder, engine)
    assert disk.reborn() is None


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_recovery_that_was_cut_is_to_be_applied_again(disk: Disk, is_lost: bool) -> None:
    """The engine is of the new cluster, the identity of the old: nothing is replaced, the sentence says what to do."""
    with_other_id = replace(CLUSTER, cluster_id="recovered")
    disk.live(lambda folder, engine: engine.write(WriteBatch({TOPOLOGY_KEY: seal(with_other_id.to_json())})))
    if is_lost:
        delete_mark(disk)
    with pytest.raises(FolderError, match=r"apply the recovery plan again \(ringhold recover\)"):
        start_until_adopted(disk)
    assert disk.kept() == []


def start_until_adopted(disk: Disk) -> None:
    folder, engine = disk.open()
    try:
        adopt_stored(folder, engine)
    finally:
        end(folder, engine)


def end(folder: DataFolder, engine: Engine) -> None:
    engine.close()
    folder.close()


def test_a_node_without_a_cluster_has_promised_nothing(tmp_path: Path) -> None:
    """Its engine is replaced without a trace: it may found or join as any new node."""
    for damage in (delete_rows, delete_mark, spoil_rows, leave_note):
        shutil.rmtree(tmp_path / "node", ignore_errors=True)
        disk = Disk(tmp_path / "node", "sqlite", seeds=[])
        disk.live(lambda folder, engine: engine.write(WriteBatch({b"\x01x": seal(b"")})))
        damage(disk)
        folder, engine = disk.open()
        assert (stored_reborn(engine), engine.scan(b"", b"\xff", limit=9)) == (None, [])
        end(folder, engine)


def test_an_engine_of_an_earlier_life_is_not_taken_back(disk: Disk) -> None:
    """Renaming what was put aside brings back forgotten votes: the mark knows one engine from another."""
    crashed(disk)
    delete_mark(disk)
    assert disk.reborn() is not None
    shutil.rmtree(disk.engine)
    (disk.path / "engine.lost-3").rename(disk.engine)
    record = disk.reborn()
    assert record is not None
    assert "not the engine that the mark speaks of" in record.reason
    assert disk.kept() == ["engine.lost-4"]


def test_only_the_newest_lost_engine_is_kept(disk: Disk) -> None:
    """A disk that loses engine after engine must not fill up."""
    for _ in range(3):
        folder, engine = disk.open()
        engine.write(WriteBatch({LAST: b""}))
        end(folder, engine)
        delete_mark(disk)
        disk.live()
    assert disk.kept() == ["engine.lost-7"]


@pytest.mark.parametrize("step", ["rename", "unlink", "begin mark", "begin reborn"])
def test_a_crash_on_the_way_to_a_new_engine_is_made_good(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """At every step the next start finds that the engine is lost, and the one that was is kept."""
    crashed(disk)
    leave_note(disk)

    class Killed(Exception):
        pass

    def die(*arguments: object, **_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        match step:
            case "rename":
                patch.setattr(Path, "rename", die)
            case "unlink":
                patch.setattr(Path, "unlink", die)
            case "begin mark":
                patch.setattr(Opening, "_begin_mark", die)
            case "begin reborn":
                patch.setattr(Opening, "_begin_reborn", die)
        folder = DataFolder(disk.path)
        identity = folder.identity()
        assert identity is not None
        opening = Opening(folder, identity, ["b:2"], partial(open_engine, disk.kind), lambda count: 5, disk._log)
        with pytest.raises(Killed):
            opening.run()
        folder.close()
    assert disk.reborn() is not None
    assert len(disk.kept()) == 1
    assert any((disk.path / disk.kept()[0]).iterdir())
    assert not (disk.path / DAMAGE_FILE).exists()


def test_a_damaged_record_of_the_node_itself_is_a_loss(disk: Disk) -> None:
    """A flipped bit that the engine does not see: the checksum of the record does."""
    for key in (TOPOLOGY_KEY, FOUNDING_KEY, member_key("n0001"), REBORN_KEY, BATCH_KEY):
        shutil.rmtree(disk.path)
        disk.live(belonging_to(CLUSTER))
        engine = open_engine(disk.kind, disk.engine)
        engine.write(WriteBatch({key: b"\x01not what was written"}))
        engine.close()
        record = disk.reborn()
        assert record is not None
        assert "a record of the node itself is damaged" in record.reason


def test_an_engine_without_the_adopted_topology_is_a_loss(disk: Disk) -> None:
    """Something has removed it: nothing of ours ever does."""
    disk.live(lambda folder, engine: engine.write(WriteBatch(deletes={TOPOLOGY_KEY})))
    record = disk.reborn()
    assert record is not None
    assert "no topology" in record.reason


def test_one_slot_of_the_mark_is_enough(disk: Disk) -> None:
    """The other one is told of, and made good."""
    flip(disk.path / MARK_FILE, 20)
    assert disk.reborn() is None
    assert disk.told == [("a slot of the mark is damaged", {"path": str(disk.path / MARK_FILE)})]
    assert disk.reborn() is None
    assert len(disk.told) == 1


def test_damage_that_is_found_while_the_node_runs_is_noted(disk: Disk) -> None:
    """The next start treats the engine as lost, even if it would open; other failures leave no note."""
    folder = DataFolder(disk.path)
    engine = MemoryEngine()
    note_damage(folder, engine)
    engine.fail_next_read = EngineFailed("EIO")
    note_damage(folder, engine)
    assert not (disk.path / DAMAGE_FILE).exists()
    damaged = MemoryEngine()
    cached = CachedEngine(damaged)
    note_damage(folder, cached)
    damaged.fail_next_read = EngineDamaged("block checksum mismatch")
    note_damage(folder, cached)
    folder.close()
    record = disk.reborn()
    assert record is not None
    assert record.reason == "block checksum mismatch"


def test_sqlite_says_what_is_damage(tmp_path: Path) -> None:
    """A page of nonsense is found when it is read; the engine is done with from then on."""
    disk = Disk(tmp_path / "node", "sqlite")
    disk.live(belonging_to(CLUSTER, batches=200))
    pages = disk.rows.stat().st_size // 4_096
    flip(disk.rows, *(page * 4_096 + place for page in range(pages // 2, pages) for place in range(8)))
    engine = open_engine("sqlite", disk.engine)
    for _ in range(2):
        with pytest.raises(EngineDamaged, match="is damaged"):
            engine.scan(b"", b"\xff", limit=1_000)
    engine.close()
