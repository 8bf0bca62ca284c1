"""Operations of a batch that share a fate: a read, a mutation with a request_id of its own, or a partition's command.

The mutations of one partition that have no request_id of their own are one command of its group: they are repeated
together, or the group would see another payload under the same request_id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..commands import command_id
from ..errors import InDoubt, RingholdError
from .fate import MutationFate, ReadFate
from .operations import Get, Operation
from .results import Record

Outcome: TypeAlias = Record | int | RingholdError
"""A Get gives its record, a mutation its version; either may give its error instead."""


@dataclass(slots=True)
class Unit:
    """`keys` by the positions of its operations in the batch; `outcomes` is what is known of them so far."""

    fate: ReadFate | MutationFate
    partition: int | None
    keys: dict[int, bytes]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    is_settled: bool = False

    @property
    def positions(self) -> list[int]:
        return list(self.keys)

    @property
    def needs_anchor(self) -> bool:
        return isinstance(self.fate, MutationFate) and self.fate.anchor is None

    @property
    def is_untouched(self) -> bool:
        """Whether it has had no effect for sure."""
        in_doubt = isinstance(self.fate, MutationFate) and self.fate.is_in_doubt
        return not self.outcomes and not in_doubt

    def take(self, outcomes: Mapping[int, Outcome]) -> RingholdError | None:
        """Take the outcomes of an attempt in; the error for which the unit is to be repeated, None if it is settled."""
        verdicts: dict[str, RingholdError | None] = {}
        repeat_for: RingholdError | None = None
        for position, outcome in outcomes.items():
            if not isinstance(outcome, RingholdError):
                self.outcomes[position] = outcome
                continue
            if outcome.reason not in verdicts:
                verdicts[outcome.reason] = self.fate.judge(outcome)
            final = verdicts[outcome.reason]
            if final is None:
                repeat_for = outcome
            else:
                self.outcomes[position] = self._of(position, final)
        self.is_settled = repeat_for is None
        return repeat_for

    def refuse(self, error: RingholdError) -> RingholdError | None:
        """Take in that an attempt failed as a whole."""
        return self.take(dict.fromkeys(self.positions, error))

    def end(self) -> None:
        """There is no time left."""
        for position in self.positions:
            self.outcomes.setdefault(position, self._of(position, self.fate.ending()))

    def _of(self, position: int, error: RingholdError) -> RingholdError:
        """A doubt names the operation's own key, and the command that it is in."""
        if not isinstance(error, InDoubt):
            return error
        assert isinstance(self.fate, MutationFate)
        place = self.positions.index(position)
        return error.about(self.keys[position], command_id(self.fate.request_id, place))


def units_of(
    operations: Sequence[Operation], keys: Sequence[bytes], partitions: Sequence[int | None], request_id: bytes
) -> list[Unit]:
    """The units of a batch, of whose operations the keys and partitions are given."""
    units: list[Unit] = []
    commands: dict[int | None, Unit] = {}
    for position, (operation, key, partition) in enumerate(zip(operations, keys, partitions, strict=True)):
        if isinstance(operation, Get):
            units.append(Unit(ReadFate(), partition, {position: key}))
        elif operation.request_id:
            units.append(Unit(MutationFate(operation.request_id, key, operation.anchor), partition, {position: key}))
        elif partition in commands:
            commands[partition].keys[position] = key
        else:
            commands[partition] = Unit(MutationFate(request_id, key), partition, {position: key})
    return [*units, *commands.values()]
