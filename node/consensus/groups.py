"""All groups of a node: many logs, one write and one sync per tick.

While a sync is under way new commands gather in the groups' open entries. The next tick applies what that sync has
committed and appends what has gathered in one engine write, answers, and syncs again. See docs/architecture.md.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeAlias

from ...api.errors import DataLoss, Overloaded, Unavailable
from ...api.limits import KIB, MIB, too_large
from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState, HardState, LogEntry
from ...ring.topology import partition_of_group
from .. import keyspace
from ..clock import Clock
from ..gathering import gathered
from ..machine.dedupe import DEDUPE_WINDOW_MS
from ..machine.machine import Machine, load_state
from ..machine.staged import Staged
from ..storage.engine import Engine, View, WriteBatch
from ..storage.envelope import Damaged, seal, unseal
from .core import Committed, Recovered, Replica

ANCHOR_AHEAD_MS_MAX = 24 * 3600 * 1000
"""How far an anchor may lie ahead of the log time, which falls back when an idle group changes its leader."""


class NotLeader(Exception):
    """This node does not lead the group; `leader` is who may (None: unknown), in `term`. Nothing was appended."""

    def __init__(self, group: int, leader: str | None, term: int) -> None:
        super().__init__(f"this node does not lead group {group}")
        self.group = group
        self.leader = leader
        self.term = term


class AnchorOutOfRange(Exception):
    """The anchor lies outside the dedupe window, whose newest end is `log_time_ms`. Nothing was appended."""

    def __init__(self, log_time_ms: int) -> None:
        super().__init__("the anchor lies outside the dedupe window")
        self.log_time_ms = log_time_ms


class Applied(NamedTuple):
    """The outcome of a command (encoded), and where it was made."""

    outcome: bytes
    term: int
    log_time_ms: int


Ticket: TypeAlias = asyncio.Future[Applied]


class ReadAnswer(NamedTuple):
    """The stored rows under the keys asked for, in their order (None: absent).

    `behind_ms`: what was acknowledged so long before the read, or earlier, is in them; None: unknown.
    """

    rows: Sequence[bytes | None]
    term: int
    log_time_ms: int
    behind_ms: int | None = 0


class Work(NamedTuple):
    """A committed entry of a group, and the keys that applying it will read."""

    group: int
    committed: Committed[Ticket]
    reads: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class GroupsConfig:
    """Bounds of a tick.

    commands_waiting_max, bytes_waiting_max: commands without an outcome on this node; more are refused as overload.
    reads_per_slice_max, bytes_per_slice_max: what is applied before the event loop gets its turn again, and so also the
    most that one entry takes. A command reads its record and the row of each mutation, at 15 to 20 microseconds each,
    all that follows included (P8: 5 ms).
    bytes_per_tick_max: appended by all groups together in one write; groups that find no room wait for the next tick.
    answer_bytes_max: rows read for one batch from one group; more are refused, for answers have a limit too.
    applied_log_max: applied entries that stay in the log until they are dropped together. Lower: more work per tick.
    """

    commands_waiting_max: int = 16_384
    bytes_waiting_max: int = 64 * MIB
    reads_per_slice_max: int = 192
    bytes_per_slice_max: int = 64 * KIB
    bytes_per_tick_max: int = 512 * KIB
    applied_log_max: int = 256
    answer_bytes_max: int = 3 * MIB


class Groups:
    """The replicas of this node. `run` is its one loop; everything else is called between two of its awaits."""

    def __init__(self, node_id: str, engine: Engine, clock: Clock, config: GroupsConfig | None = None) -> None:
        self._node_id = node_id
        self._engine = engine
        self._clock = clock
        self._config = config or GroupsConfig()
        self._replicas: dict[int, Replica[Ticket]] = {}
        self._machines: dict[int, Machine] = {}
        self._dirty: dict[int, None] = {}
        self._commands_waiting = 0
        self._bytes_waiting = 0
        self._work = asyncio.Event()
        self._applied_log: list[bytes] = []
        self._campaigned: list[tuple[int, int]] = []
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._closed = False

    def open(self, group: int, make_machine: Callable[[int, GroupState], Machine]) -> None:
        """Take up the replica of a group from what the engine holds, and campaign at the next tick."""
        state, recovered = self._recover(group)
        self._machines[group] = make_machine(group, state)
        self._replicas[group] = Replica(self._node_id, recovered)

    def campaign(self, groups: Iterable[int]) -> None:
        """Store the votes and first entries of these groups; `run` makes them durable."""
        batch = WriteBatch()
        for group in groups:
            vote, entries = self._replicas[group].campaign(self._clock.now())
            put_vote(batch, group, vote)
            put_entries(batch, group, entries)
            self._campaigned.append((group, entries[-1][0]))
        self._engine.write(batch)
        self._work.set()

    @property
    def hosted(self) -> Sequence[int]:
        return list(self._replicas)

    @property
    def led(self) -> Sequence[int]:
        return [group for group, replica in self._replicas.items() if replica.may_read]

    @property
    def commands_waiting(self) -> int:
        return self._commands_waiting

    @property
    def bytes_waiting(self) -> int:
        return self._bytes_waiting

    def machine(self, group: int) -> Machine:
        return self._machines[group]

    def term(self, group: int) -> int:
        return self._replicas[group].term

    def log_time_ms(self, group: int) -> int:
        return self._replicas[group].log_time_ms(self._clock.now())

    def leads(self, group: int) -> bool:
        """Whether this node may answer reads of the group now."""
        replica = self._replicas.get(group)
        return replica is not None and replica.may_read

    def read(self, group: int, keys: Sequence[bytes]) -> ReadAnswer:
        """The rows under `keys`, linearizable. Raises NotLeader, DataLoss."""
        return self._read(self._leading(group), group, keys)

    def read_stale(self, group: int, keys: Sequence[bytes]) -> ReadAnswer:
        """The rows under `keys` as this node's replica has them. Raises NotLeader if there is none, DataLoss."""
        behind_ms = self.behind_ms(group)
        return self._read(self._replicas[group], group, keys)._replace(behind_ms=behind_ms)

    def behind_ms(self, group: int) -> int | None:
        """How far this node's replica may be behind what is acknowledged (None: unknown).

        Raises NotLeader if no replica that may be read is here.
        """
        replica = self._replicas.get(group)
        if replica is None:
            raise NotLeader(group, None, 0)
        return 0 if replica.may_read else None

    def leader(self, group: int) -> tuple[str | None, int]:
        """Who leads the group as far as this node knows (None: it does not), and in which term."""
        replica = self._replicas.get(group)
        if replica is None:
            return None, 0
        return self._node_id if replica.leads else None, replica.term

    def _read(self, replica: Replica[Ticket], group: int, keys: Sequence[bytes]) -> ReadAnswer:
        if len(keys) == 1:
            stored: Sequence[bytes | None] = (self._engine.get(keyspace.row_key(group, keys[0])),)
        else:
            stored = self._engine.get_many([keyspace.row_key(group, key) for key in keys])
            check_answer_size(stored, self._config.answer_bytes_max)
        try:
            rows = [None if sealed is None else unseal(sealed) for sealed in stored]
        except Damaged as error:
            raise lost(group, error) from error
        return ReadAnswer(rows, replica.term, replica.log_time_ms(self._clock.now()))

    def view(self) -> View:
        """The engine as it is now, for queries over groups that `leads` says yes to in the same breath."""
        return self._engine.snapshot()

    def propose(self, group: int, command: bytes, anchor_ms: int, mutations: int = 1) -> asyncio.Future[Applied]:
        """Append a command to the group's log; the future is its outcome once it is durable and applied.

        `mutations` is how many it has: an entry and a slice of applying take only so many.
        Raises NotLeader, AnchorOutOfRange, Overloaded, Unavailable: then nothing was appended, nor ever will be.
        """
        if self._closed:
            raise Unavailable("DRAINING", "this node is stopping")
        replica = self._leading(group)
        log_time_ms = replica.log_time_ms(self._clock.now())
        if not log_time_ms - DEDUPE_WINDOW_MS < anchor_ms <= log_time_ms + ANCHOR_AHEAD_MS_MAX:
            raise AnchorOutOfRange(log_time_ms)
        self._admit(len(command))
        ticket: Ticket = asyncio.get_running_loop().create_future()
        replica.propose(command, ticket, mutations)
        self._dirty[group] = None
        self._work.set()
        return ticket

    async def run(self) -> None:
        """Tick for ever. Raises EngineFailed, Damaged (the node stops); what was accepted by then stays unanswered."""
        try:
            while True:
                await self._work.wait()
                if self._commands_waiting > 1:
                    await gathered(lambda: self._commands_waiting)
                self._work.clear()
                appended = await self._write_tick()
                if appended:
                    await self._engine.sync()
                    self._persisted(appended)
        finally:
            self._closed = True
            self._all_answered.set()

    async def drain(self) -> None:
        """Refuse new commands and return when all accepted ones are answered, or `run` has ended and none will be."""
        self._closed = True
        await self._all_answered.wait()

    async def _write_tick(self) -> list[tuple[int, int]]:
        """Apply what is committed, in slices, and append what is ready with the last: (group, last index) of that."""
        slices = self._take_committed()
        for committed in slices[:-1]:
            self._write_slice(committed, WriteBatch())
            await asyncio.sleep(0)
        batch = WriteBatch()
        appended = self._append_ready(batch)
        self._write_slice(slices[-1], batch)
        return appended

    def _take_committed(self) -> list[list[Work]]:
        """Committed entries, cut into slices that the event loop can bear; at least one slice."""
        slices: list[list[Work]] = [[]]
        config = self._config
        reads = size = 0
        for group in self._dirty:
            for committed in self._replicas[group].take_committed():
                work = Work(group, committed, self._machines[group].reads(committed.index, committed.entry))
                reads += len(work.reads)
                size += committed.entry.ByteSize()
                if slices[-1] and (reads > config.reads_per_slice_max or size > config.bytes_per_slice_max):
                    slices.append([])
                    reads, size = len(work.reads), committed.entry.ByteSize()
                slices[-1].append(work)
        return slices

    def _append_ready(self, batch: WriteBatch) -> list[tuple[int, int]]:
        """Put one entry for each group with open commands into the batch; what does not fit waits for the next tick."""
        now, config = self._clock.now(), self._config
        appended: list[tuple[int, int]] = []
        size = 0
        dirty, self._dirty = self._dirty, {}
        for group in dirty:
            replica = self._replicas[group]
            if size < config.bytes_per_tick_max:
                entries = replica.ready(now, config.reads_per_slice_max // 2, config.bytes_per_slice_max)
                put_entries(batch, group, entries)
                appended += [(group, index) for index, _ in entries]
                size += sum(entry.ByteSize() for _, entry in entries)
            if replica.has_open:
                self._dirty[group] = None
        appended += self._campaigned
        self._campaigned = []
        return appended

    def _write_slice(self, slice_: list[Work], batch: WriteBatch) -> None:
        """Rows, index entries, outcomes and state change in one atomic write; then the answers go out (P4)."""
        staged = Staged(self._engine, batch)
        staged.prefetch(chain.from_iterable(work.reads for work in slice_))
        answers = [(work.group, work.committed, self._apply(work, staged)) for work in slice_]
        self._drop_applied(staged)
        if batch:
            self._engine.write(batch)
        for group, committed, outcomes in answers:
            self._replicas[group].applied(committed.index)
            self._answer(self._replicas[group].term, committed, outcomes)

    def _apply(self, work: Work, staged: Staged) -> list[bytes]:
        """Apply an entry; the log drops it later, for the sole voter has nobody to send it to."""
        outcomes = self._machines[work.group].apply(work.committed.index, work.committed.entry, staged)
        self._applied_log.append(keyspace.log_key(work.group, work.committed.index))
        return outcomes

    def _drop_applied(self, staged: Staged) -> None:
        """Delete applied entries from the log, many at once: neighbours lie in the same pages."""
        if len(self._applied_log) >= self._config.applied_log_max:
            for key in self._applied_log:
                staged.delete(key)
            self._applied_log = []

    def _answer(self, term: int, committed: Committed[Ticket], outcomes: list[bytes]) -> None:
        if not committed.tickets:
            return
        for ticket, command, outcome in zip(committed.tickets, committed.entry.commands, outcomes, strict=True):
            self._commands_waiting -= 1
            self._bytes_waiting -= len(command)
            if not ticket.done():
                ticket.set_result(Applied(outcome, term, committed.entry.log_time_ms))
        if self._commands_waiting == 0:
            self._all_answered.set()

    def _admit(self, size: int) -> None:
        """Count a command of `size` bytes in. Raises Overloaded."""
        config = self._config
        if self._commands_waiting >= config.commands_waiting_max or self._bytes_waiting >= config.bytes_waiting_max:
            raise Overloaded("OVERLOADED", "too many commands wait for their commit", {"retry_after_ms": "50"})
        self._commands_waiting += 1
        self._bytes_waiting += size
        self._all_answered.clear()

    def _persisted(self, appended: list[tuple[int, int]]) -> None:
        for group, index in appended:
            self._replicas[group].persisted(index)
            self._dirty[group] = None
        self._work.set()

    def _leading(self, group: int) -> Replica[Ticket]:
        replica = self._replicas.get(group)
        if replica is None or not replica.may_read:
            raise NotLeader(group, *self.leader(group))
        return replica

    def _recover(self, group: int) -> tuple[GroupState, Recovered]:
        state = load_state(self._engine, group)
        vote = self._engine.get(keyspace.vote_key(group))
        term = 0 if vote is None else HardState.FromString(unseal(vote)).term
        entries = recovered_entries(self._engine, group, state.applied_index)
        applied, _ = keyspace.kind_range(keyspace.Kind.LOG, group)
        end = keyspace.log_key(group, state.applied_index + 1)
        self._applied_log += [key for key, _ in self._engine.scan(applied, end, limit=self._config.applied_log_max)]
        return state, Recovered(term, state.applied_index, state.log_time_ms, entries)


def check_answer_size(stored: Sequence[bytes | None], bytes_max: int) -> None:
    """Raises InvalidRequest if many rows together are too much for an answer; one row never is."""
    size = sum(len(sealed) for sealed in stored if sealed is not None)
    if size > bytes_max:
        raise too_large("ANSWER_TOO_LARGE", "the answer to this batch", size, bytes_max)


def lost(group: int, error: Damaged) -> DataLoss:
    """The error of a stored row that is damaged, in a group that has no other copy."""
    partition = str(partition_of_group(group))
    return DataLoss("NO_HEALTHY_REPLICA", f"the only copy is damaged: {error}", {"partition": partition})


def recovered_entries(engine: Engine, group: int, applied_index: int) -> list[tuple[int, LogEntry]]:
    """The entries after the applied one. Each was stored in its turn, so a gap is damage: an assertion."""
    start, end = keyspace.log_key(group, applied_index + 1), keyspace.kind_range(keyspace.Kind.LOG, group).end
    entries: list[tuple[int, LogEntry]] = []
    while rows := engine.scan(start, end, limit=256):
        entries += [(keyspace.split_log_key(key)[1], LogEntry.FromString(unseal(sealed))) for key, sealed in rows]
        start = rows[-1][0] + b"\x00"
    assert [index for index, _ in entries] == list(range(applied_index + 1, applied_index + 1 + len(entries)))
    return entries


def put_vote(batch: WriteBatch, group: int, vote: HardState) -> None:
    batch.put(keyspace.vote_key(group), seal(vote.SerializeToString()))


def put_entries(batch: WriteBatch, group: int, entries: Iterable[tuple[int, LogEntry]]) -> None:
    for index, entry in entries:
        batch.put(keyspace.log_key(group, index), seal(entry.SerializeToString()))
