"""What callers of a group wait for, and the bounds on how much of it there may be."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...api.errors import Overloaded


class NotLeader(Exception):
    """This node does not lead the group; `leader` is who may (None: unknown), in `term`. Nothing was appended.

    `is_lost`: it could not even help out, for its own copy of the group is damaged or gone.
    """

    def __init__(self, group: int, leader: str | None, term: int, *, is_lost: bool = False) -> None:
        super().__init__(f"this node does not lead group {group}")
        self.is_lost = is_lost
        self.group = group
        self.leader = leader
        self.term = term


class AnchorOutOfRange(Exception):
    """The anchor lies outside the dedupe window, whose newest end is `log_time_ms`. Nothing was appended."""

    def __init__(self, log_time_ms: int) -> None:
        super().__init__("the anchor lies outside the dedupe window")
        self.log_time_ms = log_time_ms


class Deposed(Exception):
    """The leader appended the command and then lost its office: it may or may not be applied."""


class Applied(NamedTuple):
    """The outcome of a command (encoded), and where it was made."""

    outcome: bytes
    term: int
    log_time_ms: int


class ReadAnswer(NamedTuple):
    """The stored rows under the keys asked for, in their order (None: absent).

    `behind_ms`: the rows may be so old; 0: they are the newest; None: nobody knows how old.
    """

    rows: Sequence[bytes | None]
    term: int
    log_time_ms: int
    behind_ms: int | None = 0


class Waiting:
    """A command that was accepted, or a read to be confirmed: what is to come of it, a command's bytes, since when."""

    __slots__ = ("future", "since", "size")

    def __init__(self, future: "asyncio.Future[Any]", size: int, since: float) -> None:
        self.future = future
        self.size = size
        self.since = since


class Admission:
    """Counts the commands without an outcome on this node, and refuses more than `commands_max` or `bytes_max`."""

    def __init__(self, commands_max: int, bytes_max: int) -> None:
        self.commands = 0
        self.bytes = 0
        self.none_left = asyncio.Event()
        self.none_left.set()
        self._commands_max = commands_max
        self._bytes_max = bytes_max

    def admit(self, size: int, now: float) -> Waiting:
        """Count a command of `size` bytes in. Raises Overloaded."""
        if self.commands >= self._commands_max or self.bytes >= self._bytes_max:
            raise Overloaded("OVERLOADED", "too many commands wait for their commit", {"retry_after_ms": "50"})
        self.commands += 1
        self.bytes += size
        self.none_left.clear()
        return Waiting(asyncio.get_running_loop().create_future(), size, now)

    def answer(self, waiting: Waiting, outcome: Applied | Exception) -> None:
        """The command is done with, whether or not anybody still waits for it."""
        self.commands -= 1
        self.bytes -= waiting.size
        if not waiting.future.done():
            if isinstance(outcome, Exception):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)
        if self.commands == 0:
            self.none_left.set()
