"""The contract of a state machine: what a group's committed entries do to its rows (DESIGN section 7).

A machine is deterministic and reads nothing but the rows of its group, so that replicas that apply the same entries
hold the same bytes, however the entries were put into batches.
"""

from collections.abc import Iterable
from typing import Protocol

from ...api.proto.ringhold.storage.v1.records_pb2 import Configuration, GroupState, LogEntry, Member
from ..keyspace import state_key
from ..storage.envelope import seal, unseal
from .staged import Reader, Staged


class UnknownCommand(Exception):
    """A committed command that this version can't read: the replica stops, for guessing would make replicas differ."""


class Machine(Protocol):
    """Applies the entries of one group, in the order of their indexes and without gaps."""

    state: GroupState
    """Where the group stands after the last `apply`."""

    def reads(self, index: int, entry: LogEntry) -> list[bytes]:
        """The keys that applying the entry will ask for, so that many entries' can be read at once. Changes nothing.

        May leave some out; `apply` reads those itself. Raises UnknownCommand.
        """

    def apply(self, index: int, entry: LogEntry, staged: Staged) -> list[bytes]:
        """What became of each of the entry's commands, in their order: encoded outcomes.

        All changes go to `staged`, the state among them; they count once its batch is written. Raises UnknownCommand
        and Damaged; then the replica stops serving, and both the machine and all that it staged in this batch for its
        group must be thrown away.
        """

    def written(self) -> None:
        """What `apply` has staged is in the engine now, and `state` is what reads see. Must return at once.

        Called once for each batch in which the group had entries, commands in them or not, after the write and after
        the replica counts them as applied.
        """


def load_state(reader: Reader, group: int) -> GroupState:
    """The stored state of a group; that of an empty group if there is none. Raises Damaged."""
    stored = reader.get(state_key(group))
    return GroupState() if stored is None else GroupState.FromString(unseal(stored))


def founded_state(voters: Iterable[str]) -> GroupState:
    """Where a group stands before its first entry: founding replicas on these nodes vote, the first should lead."""
    return GroupState(configuration=Configuration(voters=[Member(node_id=node_id) for node_id in voters]))


def advance(state: GroupState, index: int, entry: LogEntry) -> None:
    """Move `state` to the entry at `index`. Log time never goes back."""
    assert index == state.applied_index + 1, f"entry {index} applied after {state.applied_index}"
    state.applied_index = index
    state.applied_term = entry.term
    state.log_time_ms = max(state.log_time_ms, entry.log_time_ms)
    if entry.HasField("configuration"):
        state.configuration.CopyFrom(entry.configuration)
        state.configuration_index = index


def stage_state(state: GroupState, group: int, staged: Staged) -> None:
    """Have `state` written with the rows that it speaks of."""
    staged.put(state_key(group), seal(state.SerializeToString()))
