"""Committed entries become rows: many groups' in one engine write, in slices that the event loop can bear (P8)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from ...api.limits import KIB
from .. import keyspace
from ..machine.machine import Machine
from ..machine.staged import Staged
from ..storage.engine import Engine, WriteBatch
from ..storage.envelope import Damaged
from .core import Replica
from .states import Committed
from .tickets import Waiting


@dataclass(frozen=True, slots=True)
class SliceConfig:
    """Bounds of what is applied before the event loop gets its turn again, and so also the most that one entry takes.

    reads_max: a command reads its record and the row of each mutation, at 15 to 20 microseconds each, all that follows
    included (P8: 5 ms). bytes_max: of entries. drop_min: applied entries that the log keeps until they are dropped
    together, for neighbours lie in the same pages; lower: more work per tick. drops_max: deleted at once of each group.
    """

    reads_max: int = 192
    bytes_max: int = 64 * KIB
    drop_min: int = 256
    drops_max: int = 1_024


class Work(NamedTuple):
    """A committed entry of a group, the machine that is to apply it, and the keys that this will read."""

    group: int
    machine: Machine
    committed: Committed[Waiting]
    reads: Sequence[bytes]


class Done(NamedTuple):
    """An applied entry, and the outcomes of its commands."""

    group: int
    committed: Committed[Waiting]
    outcomes: Sequence[bytes]


class Failed(NamedTuple):
    """A group whose entries are not applied, and whoever waits for them.

    `reason`: its rows turned out to be damaged; None: its rows were given up or replaced since the entries were taken.
    """

    group: int
    reason: str | None
    tickets: Sequence[Waiting]


class Applier:
    """Applies the entries of all groups of a node to its engine."""

    def __init__(self, engine: Engine, config: SliceConfig) -> None:
        self._engine = engine
        self.config = config
        self.machines: dict[int, Machine] = {}

    def slices(self, replicas: Iterable[Replica[Waiting]]) -> list[list[Work]]:
        """What these replicas have committed, cut into slices; at least one slice."""
        slices: list[list[Work]] = [[]]
        reads = size = 0
        for replica in replicas:
            if not replica.committed_left:
                continue
            machine = self.machines[replica.group]
            for committed in replica.take_committed():
                entry = committed.entry
                work = Work(replica.group, machine, committed, machine.reads(entry.index, entry.content))
                reads += len(work.reads)
                size += len(entry.encoded)
                if slices[-1] and (reads > self.config.reads_max or size > self.config.bytes_max):
                    slices.append([])
                    reads, size = len(work.reads), len(entry.encoded)
                slices[-1].append(work)
        return slices

    def apply(self, slice_: Sequence[Work], batch: WriteBatch) -> tuple[list[Done], list[Failed]]:
        """Stage what the entries do: rows, index entries, outcomes and states change in one atomic write (P4).

        A group with a damaged row does nothing of this slice, and nothing more until it has other rows. Raises
        UnknownCommand.
        """
        staged = Staged(self._engine, batch)
        staged.prefetch(chain.from_iterable(work.reads for work in slice_))
        done: list[Done] = []
        reasons: dict[int, str | None] = {}
        for group, machine, committed, _ in slice_:
            if self.machines.get(group) is not machine:
                reasons.setdefault(group, None)
            if group in reasons:
                continue
            try:
                outcomes = machine.apply(committed.entry.index, committed.entry.content, staged)
                done.append(Done(group, committed, outcomes))
            except Damaged as error:
                reasons[group] = f"a row that a command needs is damaged: {error}"
                discard(batch, group)
        if not reasons:
            return done, []
        return [each for each in done if each.group not in reasons], failures(slice_, reasons)

    def drop_log(self, replicas: Iterable[Replica[Waiting]], batch: WriteBatch) -> None:
        """Delete log entries that no member will ask for, when they are many."""
        for replica in replicas:
            end = replica.droppable()
            if end - replica.log.first_index >= self.config.drop_min:
                replica.log.drop(end)
            for index in replica.log.take_dropped(self.config.drops_max):
                batch.delete(keyspace.log_key(replica.group, index))

    def may_drop_log(self, replica: Replica[Waiting]) -> bool:
        """Whether there are log entries to delete: many that no member will ask for, or some of them already."""
        return replica.log.has_dropped or replica.droppable() - replica.log.first_index >= self.config.drop_min


def discard(batch: WriteBatch, group: int) -> None:
    """Take back all that was staged for a group."""
    for key in [key for key in batch.puts if keyspace.is_of(key, group)]:
        del batch.puts[key]
    batch.deletes -= {key for key in batch.deletes if keyspace.is_of(key, group)}


def failures(slice_: Iterable[Work], reasons: Mapping[int, str | None]) -> list[Failed]:
    """The groups that failed in a slice, with all their tickets there."""
    tickets: dict[int, list[Waiting]] = {group: [] for group in reasons}
    for group, _, committed, _ in slice_:
        if group in tickets:
            tickets[group] += committed.tickets
    return [Failed(group, reasons[group], waiting) for group, waiting in tickets.items()]
