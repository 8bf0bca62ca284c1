"""What waits to get into a group's log, and what of it waits to be applied; and the log's own clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket")


@dataclass(frozen=True, slots=True)
class Opened(Generic[Ticket]):
    """A command that waits for its entry."""

    command: bytes
    ticket: Ticket
    weight: int


@dataclass(slots=True)
class Proposals(Generic[Ticket]):
    """Commands by where they are. A `Ticket` is whatever the shell wants back with the outcome of a command."""

    open: list[Opened[Ticket]] = field(default_factory=list)
    appended: dict[int, Sequence[Ticket]] = field(default_factory=dict)
    """The tickets of the commands of this term's entries, by index."""
    refused: list[Ticket] = field(default_factory=list)
    """Never appended, nor ever will be."""
    lost: list[Ticket] = field(default_factory=list)
    """Appended by a leader who leads no more: another may commit or remove them."""

    def take_open(self, weight_max: int, bytes_max: int) -> list[Opened[Ticket]]:
        """The first open commands, up to the bounds; one at least, if there is one."""
        count = within_bounds([(opened.weight, len(opened.command)) for opened in self.open], weight_max, bytes_max)
        taken = self.open[:count]
        del self.open[:count]
        return taken

    def take(self, index: int) -> Sequence[Ticket]:
        """The tickets of a committed entry; none if another leader made it."""
        return self.appended.pop(index, ())

    def leave_office(self) -> None:
        """What is not appended never will be; what is, is up to the next leader."""
        self.refused += [opened.ticket for opened in self.open]
        self.open.clear()
        for tickets in self.appended.values():
            self.lost += tickets
        self.appended.clear()


class LogTime:
    """Newest log time in the log plus the time in office of this leader: it never goes back while it leads."""

    def __init__(self, newest_ms: int) -> None:
        self._newest_ms = max(1, newest_ms)  # 0 stands for an anchor that is not set
        self._office_began: float | None = None

    def saw(self, log_time_ms: int) -> None:
        """An entry with this log time is in the log."""
        if self._office_began is None:
            self._newest_ms = max(self._newest_ms, log_time_ms)

    def take_office(self, now: float) -> None:
        self._office_began = now

    def leave_office(self, now: float) -> None:
        self._newest_ms = self.at(now)
        self._office_began = None

    def at(self, now: float) -> int:
        if self._office_began is None:
            return self._newest_ms
        return self._newest_ms + int((now - self._office_began) * 1000)


def within_bounds(commands: Sequence[tuple[int, int]], weight_max: int, bytes_max: int) -> int:
    """How many of the first commands, each a (weight, bytes), fit; one at least.

    >>> within_bounds([(1, 3), (1, 1), (1, 1)], 2, 10), within_bounds([(1, 3), (1, 1)], 2, 3)
    (2, 1)
    """
    weight = size = 0
    for count, (command_weight, command_bytes) in enumerate(commands):
        weight += command_weight
        size += command_bytes
        if count and (weight > weight_max or size > bytes_max):
            return count
    return len(commands)
