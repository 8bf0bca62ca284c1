"""Bugs to plant in snapshots, in what replicas outlive, and in how damaged, lost and copied disks are recognised."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import Command, HardState, ReplicaRecord
from ringhold.node.consensus import groups as serving
from ringhold.node.consensus import recovery
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.hosting import Hosting
from ringhold.node.consensus.leadership import Leadership
from ringhold.node.consensus.messages import OF_LEADER
from ringhold.node.consensus.tickets import ReadAnswer
from ringhold.node.keyspace import Kind, kind_of, kind_range
from ringhold.node.machine.dedupe import DedupeTable
from ringhold.node.peers.boots import Boots
from ringhold.node.replica_record import GONE, INSTALLING, put_new_replica
from ringhold.node.snapshots import chunks
from ringhold.node.snapshots.chunks import RowCutter
from ringhold.node.snapshots.source import ServedView, SnapshotSource
from ringhold.node.storage import health
from ringhold.node.storage.engine import Row, WriteBatch
from ringhold.node.storage.envelope import HEADER_BYTES
from ringhold.node.storage.numbered import NumberedEngine
from ringhold.node.topology_store import TopologyStore

from .patches import patched

LOG_ROWS_MAX = 1_000_000


@contextmanager
def snapshot_without_dedupe_table() -> Iterator[None]:
    """A snapshot lacks the outcomes of recent requests, and says that there were none."""

    def make(original: Any) -> Any:
        def next_rows(self: RowCutter) -> list[Row]:
            rows: list[Row] = original(self)
            return [row for row in rows if kind_of(row[0]) is not Kind.DEDUPE]

        return next_rows

    def finish(original: Any) -> Any:
        def finish_install(self: Hosting, group: int, state: Any) -> None:
            state.dedupe_records = 0
            original(self, group, state)

        return finish_install

    with patched(RowCutter, "next_rows", make), patched(Hosting, "finish_install", finish):
        yield


@contextmanager
def log_dropped_before_the_install_ended() -> Iterator[None]:
    """The log goes with the first batch of an installation: a crash leaves a voter that has forgotten what it had."""

    def make(original: Any) -> Any:
        def begin_install(self: Hosting, group: int) -> None:
            original(self, group)
            rows = self._engine.scan(*kind_range(Kind.LOG, group), limit=LOG_ROWS_MAX)
            self._engine.write(WriteBatch({}, {key for key, _ in rows}))

        return begin_install

    with patched(Hosting, "begin_install", make):
        yield


@contextmanager
def old_replica_id_accepted() -> Iterator[None]:
    """A node that has lost its engine makes the replica anew that it is asked for, under the id of the lost one."""

    def make(original: Any) -> Any:
        def strange(self: Hosting, peer_id: str, message: Any) -> Any:
            is_unknown = message.group not in self._records and self.reborn_since
            if is_unknown and message.kind in OF_LEADER:
                return made_again(self, message.group, message.target_replica)
            return original(self, peer_id, message)

        return strange

    with patched(Hosting, "strange", make):
        yield


@contextmanager
def tombstones_forgotten() -> Iterator[None]:
    """A replica that is gone leaves nothing behind: its node makes it again at its leader's word."""

    def make(original: Any) -> Any:
        def strange(self: Hosting, peer_id: str, message: Any) -> Any:
            group, number = message.group, message.target_replica
            record = self._records.get(group)
            is_buried = record is not None and record.status == GONE and number == record.replica_id
            if is_buried and message.kind in OF_LEADER and group not in self._erasing:
                return made_again(self, group, number)
            return original(self, peer_id, message)

        return strange

    with patched(Hosting, "strange", make):
        yield


def made_again(hosting: Hosting, group: int, number: int) -> Any:
    """A replica of this id, as if there had never been one."""
    if hosting._default_machine is None:
        return None
    record = ReplicaRecord(status=INSTALLING, replica_id=number, reason="it is asked for")
    batch = WriteBatch()
    put_new_replica(batch, group, record)
    hosting._engine.write(batch)
    hosting._records[group] = record
    hosting._make_machines.setdefault(group, hosting._default_machine)
    hosting._open(group, record, may_vote_from=float("-inf"))
    return hosting._replicas[group]


@contextmanager
def mark_written_before_the_sync() -> Iterator[None]:
    """The mark tells of batches that are not durable yet: a power cut looks like a lost engine."""

    def make(_: Any) -> Any:
        async def sync(self: NumberedEngine) -> None:
            if self._position > self.synced:
                self._mark.note(self._encoded)
                self.synced = self._position
            await self._engine.sync()

        return sync

    with patched(NumberedEngine, "sync", make):
        yield


@contextmanager
def lost_tail_not_noticed() -> Iterator[None]:
    """An engine that comes back behind its mark is used as if nothing were missing."""

    def make(_: Any) -> Any:
        return lambda position, mark: None

    with patched(health, "_loss_against", make):
        yield


@contextmanager
def reborn_node_founds_again() -> Iterator[None]:
    """A node that has lost its engine makes its founding replicas a second time, as if they had never voted."""

    def make(original: Any) -> Any:
        def begin(self: TopologyStore, *arguments: Any) -> None:
            original(self, *arguments)
            self._reborn = None

        return begin

    with patched(TopologyStore, "__init__", make):
        yield


@contextmanager
def expired_id_applied_again() -> Iterator[None]:
    """Nobody looks whether a request is too old to be recognised: its outcome was forgotten, and it happens again."""

    def make(original: Any) -> Any:
        def answer(self: DedupeTable, key: bytes, command: Command, fingerprint: int, staged: Any) -> Any:
            stored = staged.get(key)
            return None if stored is None else original(self, key, command, fingerprint, staged)

        return answer

    def admit(original: Any) -> Any:
        def propose(self: Groups, group: int, command: bytes, anchor_ms: int, *arguments: Any, **named: Any) -> Any:
            replica = self._replicas.get(group)
            young = anchor_ms if replica is None else max(anchor_ms, self.log_time_ms(group))
            return original(self, group, command, young, *arguments, **named)

        return propose

    with patched(DedupeTable, "answer", make), patched(Groups, "propose", admit):
        yield


@contextmanager
def rows_served_while_installing() -> Iterator[None]:
    """A replica answers stale reads from rows that are being deleted and replaced."""

    def make(original: Any) -> Any:
        def read_stale(self: Groups, group: int, keys: Sequence[bytes]) -> ReadAnswer:
            replica = self._replicas.get(group)
            if replica is None or replica.is_healthy:
                answer: ReadAnswer = original(self, group, keys)
                return answer
            now = self._clock.now()
            as_of = replica.freshness.as_of(replica.applied_index)
            behind_ms = None if as_of is None else int((now - as_of) * 1000)
            return ReadAnswer(self._rows(group, keys), replica.term, replica.log_time_ms(now), behind_ms)

        return read_stale

    with patched(Groups, "read_stale", make):
        yield


@contextmanager
def bad_checksum_served() -> Iterator[None]:
    """A read takes a row as it is, whatever its checksum says."""

    def make(_: Any) -> Any:
        return lambda stored: stored[HEADER_BYTES:]

    with patched(serving, "unseal", make):
        yield


@contextmanager
def damaged_vote_begins_anew() -> Iterator[None]:
    """A replica whose vote can't be read goes on as if it had never voted."""

    def make(original: Any) -> Any:
        def stored_vote(engine: Any, group: int) -> HardState:
            try:
                vote: HardState = original(engine, group)
            except recovery.ReplicaLost:
                return HardState()
            return vote

        return stored_vote

    with patched(recovery, "stored_vote", make):
        yield


@contextmanager
def damaged_log_cut_off() -> Iterator[None]:
    """A log ends where its first damaged entry is, like one that a crash has cut off."""

    def make(original: Any) -> Any:
        def scanned_entries(engine: Any, group: int) -> Any:
            for index, entry in original(engine, group):
                if entry is None:
                    return
                yield index, entry

        return scanned_entries

    with patched(recovery, "scanned_entries", make):
        yield


@contextmanager
def learner_promoted_before_it_caught_up() -> Iterator[None]:
    """A new replica votes as soon as it has been added, whatever it has."""

    def make(original: Any) -> Any:
        def change_for(self: Leadership[Any], member: Any, progress: Any, now: float) -> Any:
            if not progress.is_gone and member in self._replica.configuration.learners:
                return self._replica.configuration.promoting(member)
            return original(self, member, progress, now)

        return change_for

    with patched(Leadership, "_change_for", make):
        yield


@contextmanager
def snapshot_from_two_views() -> Iterator[None]:
    """A snapshot whose stream broke goes on with the rows as they are by then."""

    def make(original: Any) -> Any:
        def taken_up(self: SnapshotSource, peer_id: str, request: Any) -> ServedView:
            served: ServedView = original(self, peer_id, request)
            served.view.close()
            served.view = self._engine.snapshot()
            return served

        return taken_up

    with patched(SnapshotSource, "_taken_up", make):
        yield


@contextmanager
def damage_spread_by_snapshots() -> Iterator[None]:
    """A snapshot is sent without a look at the checksums of its rows, and so are those that it came from."""

    def make(_: Any) -> Any:
        return lambda key, value: None

    with patched(chunks, "check_row", make):
        yield


@contextmanager
def copied_disk_heard() -> Iterator[None]:
    """Nobody compares generation and nonce of a hello with what is known of the node."""

    def make(_: Any) -> Any:
        return lambda self, peer_id, boot: ""

    with patched(Boots, "contradiction", make):
        yield


DAMAGE: Sequence[Callable[[], AbstractContextManager[None]]] = (
    snapshot_without_dedupe_table,
    log_dropped_before_the_install_ended,
    old_replica_id_accepted,
    tombstones_forgotten,
    mark_written_before_the_sync,
    lost_tail_not_noticed,
    reborn_node_founds_again,
    expired_id_applied_again,
    bad_checksum_served,
    damaged_log_cut_off,
    snapshot_from_two_views,
)

DAMAGE_RARELY_SHOWN: Sequence[Callable[[], AbstractContextManager[None]]] = (
    copied_disk_heard,
    damage_spread_by_snapshots,
    damaged_vote_begins_anew,
    learner_promoted_before_it_caught_up,
    rows_served_while_installing,
)
"""Bugs that the first dozens of seeds don't find: each needs several chances at once."""
