"""Committed entries become rows: many groups' in one engine write, in slices that the event loop can bear (P8)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from ...api.limits import KIB
from .. import keyspace
from ..machine.machine import Machine
from ..machine.staged import Staged
from ..storage.engine import Engine, WriteBatch
from .core import Replica
from .states import Committed
from .tickets import Waiting


@dataclass(frozen=True, slots=True)
class SliceConfig:
    """Bounds of what is applied before the event loop gets its turn again, and so also the most that one entry takes.

    reads_max: a command reads its record and the row of each mutation, at 15 to 20 microseconds each, all that follows
    included (P8: 5 ms). bytes_max: of entries. drop_min: applied entries that the log keeps until they are dropped
    together, for neighbours lie in the same pages; lower: more work per tick.
    """

    reads_max: int = 192
    bytes_max: int = 64 * KIB
    drop_min: int = 256


class Work(NamedTuple):
    """A committed entry of a group, and the keys that applying it will read."""

    group: int
    committed: Committed[Waiting]
    reads: Sequence[bytes]


class Done(NamedTuple):
    """An applied entry, and the outcomes of its commands."""

    group: int
    committed: Committed[Waiting]
    outcomes: Sequence[bytes]


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
            machine = self.machines[replica.group]
            for committed in replica.take_committed():
                entry = committed.entry
                work = Work(replica.group, committed, machine.reads(entry.index, entry.content))
                reads += len(work.reads)
                size += len(entry.encoded)
                if slices[-1] and (reads > self.config.reads_max or size > self.config.bytes_max):
                    slices.append([])
                    reads, size = len(work.reads), len(entry.encoded)
                slices[-1].append(work)
        return slices

    def apply(self, slice_: Sequence[Work], batch: WriteBatch) -> list[Done]:
        """Stage what the entries do: rows, index entries, outcomes and states change in one atomic write (P4).

        Raises UnknownCommand, Damaged.
        """
        staged = Staged(self._engine, batch)
        staged.prefetch(chain.from_iterable(work.reads for work in slice_))
        done: list[Done] = []
        for group, committed, _ in slice_:
            outcomes = self.machines[group].apply(committed.entry.index, committed.entry.content, staged)
            done.append(Done(group, committed, outcomes))
        return done

    def drop_log(self, replicas: Iterable[Replica[Waiting]], batch: WriteBatch) -> None:
        """Delete log entries that no member will ask for, when they are many."""
        for replica in replicas:
            if self.may_drop_log(replica):
                end = replica.droppable()
                for index in range(replica.log.first_index, end):
                    batch.delete(keyspace.log_key(replica.group, index))
                replica.log.drop(end)

    def may_drop_log(self, replica: Replica[Waiting]) -> bool:
        """Whether there are many log entries that no member will ask for."""
        return replica.droppable() - replica.log.first_index >= self.config.drop_min
