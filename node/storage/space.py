"""Watches the room on the device of the data folder, so that a node stops growing before an engine finds none.

An engine that finds no space has failed, and its node stops; below a reserve the node still reads, deletes and hands
its leaderships over (DESIGN section 7). See docs/operations.md.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from ...api.limits import MIB
from ..clock import Clock

RESERVE_BYTES_DEFAULT_MAX = 256 * MIB
"""The reserve, if none is set: more than a busy node writes between two looks."""

RESERVE_SHARE_OF_DEVICE = 20
"""A small device is not asked for more than this part of it, if no reserve is set."""

ENOUGH_PERCENT = 110
"""A node that was short of room goes on at so much of the reserve: at the very edge it would change its mind often."""

LOOK_S = 1.0
"""Between two looks at the device."""


class Room(NamedTuple):
    """What a device of `total_bytes` still takes from this process."""

    free_bytes: int
    total_bytes: int


class Device(Protocol):
    """Where a node's folder lies."""

    async def room(self) -> Room:
        """The room that there is now. Never blocks the loop. Raises OSError."""


class FolderDevice:
    """The device of a folder, asked in a thread: one that is stuck, or far away, may take its time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def room(self) -> Room:
        return await asyncio.to_thread(room_of, self._folder)


class FakeDevice:
    """A device that has what it is told; large and empty at first."""

    def __init__(self, free_bytes: int = 1024**4, total_bytes: int = 1024**4) -> None:
        self.free_bytes = free_bytes
        self.total_bytes = total_bytes

    async def room(self) -> Room:
        return Room(self.free_bytes, self.total_bytes)


class Reserve:
    """Judges the room by a reserve of so many bytes; 0: always enough; None: by the size of the device.

    What an engine keeps in its files for later writes counts as free, for a Delete may give room to nobody else. But
    half of the reserve must be free on the device: an engine grows a little before it fills its gaps.
    """

    def __init__(self, reserve_bytes: int | None) -> None:
        self._reserve_bytes = reserve_bytes
        self.room = Room(0, 0)
        self.reusable_bytes = 0
        self.is_short = False

    @property
    def bytes(self) -> int:
        """The reserve of the device last looked at."""
        return reserve_of(self._reserve_bytes, self.room.total_bytes)

    def saw(self, room: Room, reusable_bytes: int) -> bool:
        """Take in what a look has found; whether `is_short` is another one now."""
        before = self.is_short
        self.room, self.reusable_bytes = room, reusable_bytes
        wanted = self.bytes * ENOUGH_PERCENT // 100 if before else self.bytes
        self.is_short = room.free_bytes < wanted // 2 or room.free_bytes + reusable_bytes < wanted
        return self.is_short != before


class SpaceWatch:
    """Looks at the device once a second and tells `on_change(is_short)`; it is not short until a look says so."""

    def __init__(
        self,
        device: Device,
        reusable_bytes: Callable[[], int],
        reserve_bytes: int | None,
        clock: Clock,
        on_change: Callable[[bool], None],
    ) -> None:
        self.reserve = Reserve(reserve_bytes)
        self._device = device
        self._reusable_bytes = reusable_bytes
        self._clock = clock
        self._on_change = on_change

    async def run(self) -> None:
        """Look for ever. Raises OSError (the folder is gone), EngineFailed."""
        while True:
            room = await self._device.room()
            if self.reserve.saw(room, self._reusable_bytes()):
                self._on_change(self.reserve.is_short)
            await self._clock.sleep(LOOK_S)


def room_of(folder: Path) -> Room:
    device = os.statvfs(folder)
    return Room(device.f_bavail * device.f_frsize, device.f_blocks * device.f_frsize)


def reserve_of(reserve_bytes: int | None, total_bytes: int) -> int:
    """The reserve in bytes: the one that is set, or what suits a device of this size.

    >>> reserve_of(None, 1024**4) // MIB, reserve_of(None, 100 * MIB) // MIB, reserve_of(0, 1024**4)
    (256, 5, 0)
    """
    if reserve_bytes is not None:
        return reserve_bytes
    return min(RESERVE_BYTES_DEFAULT_MAX, total_bytes // RESERVE_SHARE_OF_DEVICE)
