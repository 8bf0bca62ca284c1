"""Waits for a condition instead of for a time."""

import asyncio
from collections.abc import Awaitable, Callable

PAUSE_S = 0.02


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 15.0) -> None:
    """Return as soon as `condition` holds; TimeoutError if it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(PAUSE_S)
