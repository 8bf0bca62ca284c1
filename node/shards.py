"""The part of an index query that this node's groups answer: one engine view, read in slices (P4, P8)."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from ..api.errors import DataLoss, Overloaded
from .consensus.groups import Groups
from .machine.queries import QuerySpec, query_in_slices
from .merge import ShardAnswer
from .storage.engine import ViewGone
from .storage.envelope import Damaged

QUERIES_AT_ONCE_MAX = 32
"""Each keeps a view open, and an engine gives the oldest up when there are too many; more wait for their turn."""

VIEWS_PER_QUERY_MAX = 3
"""A query whose views were given up so often finds the node too busy."""


class NodeAnswer(NamedTuple):
    """The first matches of the groups that this node leads, and the groups that it does not."""

    answer: ShardAnswer
    refused: Sequence[int]


class Shards:
    """Answers queries over the groups that this node leads."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._turns = asyncio.Semaphore(QUERIES_AT_ONCE_MAX)

    async def query(self, groups: Sequence[int], spec: QuerySpec) -> NodeAnswer:
        """The first matches of those `groups` that this node leads, as they are at one moment of the call.

        Leadership is checked in the same breath as the view is taken, so the view holds all that was acknowledged.
        Raises DataLoss, Overloaded.
        """
        async with self._turns:
            for _ in range(VIEWS_PER_QUERY_MAX):
                try:
                    return await self._query(groups, spec)
                except ViewGone:
                    await asyncio.sleep(0)  # a view that is gone means starting over
        raise Overloaded("OVERLOADED", "too many queries at once on this node", {"retry_after_ms": "100"})

    async def _query(self, groups: Sequence[int], spec: QuerySpec) -> NodeAnswer:
        led = [group for group in groups if self._groups.leads(group)]
        refused = [group for group in groups if not self._groups.leads(group)]
        if not led:
            return NodeAnswer(ShardAnswer([], cut=False), refused)
        view = self._groups.view()
        try:
            steps = query_in_slices(view, led, spec)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return NodeAnswer(end.value, refused)
                except Damaged as error:
                    raise DataLoss("NO_HEALTHY_REPLICA", f"the only copy of a record is damaged: {error}") from error
                await asyncio.sleep(0)
        finally:
            view.close()
