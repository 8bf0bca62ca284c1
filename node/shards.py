"""The part of an index query that this node's groups answer: one engine view, read in slices (P4, P8)."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeAlias

from ..api.errors import Overloaded
from .consensus.groups import Groups
from .consensus.tickets import NotLeader
from .machine.queries import QuerySpec, RowsDamaged, query_in_slices
from .merge import ShardAnswer
from .storage.engine import ViewGone

QUERIES_AT_ONCE_MAX = 32
"""Each keeps a view open, and an engine gives the oldest up when there are too many; more wait for their turn."""

CONFIRM_S_MAX = 0.5
"""A leader that no majority has confirmed by then refuses its group."""

VIEWS_PER_QUERY_MAX = 3
"""A query whose views were given up so often finds the node too busy."""


class LeadersDoubted(Exception):
    """This node believes that it leads these groups, and has no lease to be sure."""

    def __init__(self, groups: Sequence[int]) -> None:
        super().__init__(f"no lease of groups {groups}")
        self.groups = groups


class NodeAnswer(NamedTuple):
    """The first matches of some groups of one node, and the groups that it did not read.

    `behind_ms`: what was acknowledged so long before the reading, or earlier, is in them; None: unknown.
    `lost`: those of `refused` of which this node has no good copy.
    """

    answer: ShardAnswer
    refused: Sequence[int]
    behind_ms: int | None = 0
    lost: Sequence[int] = ()


class Selected(NamedTuple):
    """Which of the groups that are asked for this node reads, and how far behind the furthest of them may be."""

    groups: Sequence[int]
    refused: Sequence[int]
    behind_ms: int | None = 0


Select: TypeAlias = Callable[[Sequence[int]], Selected]


class Shards:
    """Answers queries over the groups that this node leads, or, if they may be stale, has replicas of."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._turns = asyncio.Semaphore(QUERIES_AT_ONCE_MAX)

    @property
    def hosted(self) -> frozenset[int]:
        """The groups that this node has replicas of."""
        return frozenset(self._groups.hosted)

    async def query(self, groups: Sequence[int], spec: QuerySpec) -> NodeAnswer:
        """The first matches of those `groups` that this node leads, as they are at one moment of the call.

        Leadership is checked in the same breath as the view is taken, so the view holds all that was acknowledged.
        A group whose rows turn out to be damaged is refused. Raises Overloaded.
        """
        try:
            return await self._query_in_turn(groups, spec, self._led_for_sure)
        except LeadersDoubted as doubt:
            confirmed = await self._confirmed(doubt.groups)
        return await self._query_in_turn(groups, spec, partial(self._led, confirmed))

    async def query_stale(self, groups: Sequence[int], spec: QuerySpec) -> NodeAnswer:
        """The first matches of those `groups` that this node has good replicas of, at one moment of the call.

        Raises Overloaded.
        """
        return await self._query_in_turn(groups, spec, self._hosted)

    async def _query_in_turn(self, groups: Sequence[int], spec: QuerySpec, select: Select) -> NodeAnswer:
        damaged: dict[int, None] = {}
        views_gone = 0
        async with self._turns:
            while views_gone < VIEWS_PER_QUERY_MAX:
                try:
                    answer = await self._query(select([group for group in groups if group not in damaged]), spec)
                    return self._with_losses(answer, damaged)
                except ViewGone:
                    views_gone += 1  # a view that is gone means starting over
                except RowsDamaged as error:
                    damaged[error.group] = None
                await asyncio.sleep(0)
        raise Overloaded("OVERLOADED", "too many queries at once on this node", {"retry_after_ms": "100"})

    def _with_losses(self, answer: NodeAnswer, damaged: Iterable[int]) -> NodeAnswer:
        """The answer with what can't be read here: damaged rows, whether or not they were given up for it."""
        refused = [*answer.refused, *damaged]
        lost = [group for group in answer.refused if self._groups.is_lost(group)]
        return answer._replace(refused=refused, lost=[*lost, *damaged]) if refused else answer

    async def _confirmed(self, doubted: Sequence[int]) -> frozenset[int]:
        """The groups whose leader here was in doubt and is confirmed now, so that a view taken later has all."""
        confirmed: list[int] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_S_MAX):
                await asyncio.gather(*(self._confirm(group, confirmed) for group in doubted))
        return frozenset(confirmed)

    async def _confirm(self, group: int, confirmed: list[int]) -> None:
        with suppress(NotLeader):
            await self._groups.confirm(group)
            confirmed.append(group)

    def _led_for_sure(self, groups: Sequence[int]) -> Selected:
        """Raises LeadersDoubted rather than leave out a group that this node may lead."""
        selected = self._led(frozenset(), groups)
        if doubted := [group for group in selected.refused if self._groups.is_leader(group)]:
            raise LeadersDoubted(doubted)
        return selected

    def _led(self, confirmed: frozenset[int], groups: Sequence[int]) -> Selected:
        led = self._groups.led_of(groups)
        others = left_out(led, groups)
        led += [group for group in others if group in confirmed and self._groups.is_leader(group)]
        return Selected(led, left_out(led, groups))

    def _hosted(self, groups: Sequence[int]) -> Selected:
        ages: dict[int, int | None] = {}
        refused: list[int] = []
        for group in groups:
            try:
                ages[group] = self._groups.behind_ms(group)
            except NotLeader:
                refused.append(group)
        return Selected(list(ages), refused, furthest_behind(ages.values()))

    async def _query(self, selected: Selected, spec: QuerySpec) -> NodeAnswer:
        """Read the groups that were selected in the same breath as the view is taken."""
        groups, refused, behind_ms = selected
        if not groups:
            return NodeAnswer(ShardAnswer([], cut=False), refused)
        view = self._groups.view()
        known = {group: self._groups.hosting.records[group] for group in groups}
        try:
            steps = query_in_slices(view, groups, spec)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return NodeAnswer(end.value, refused, behind_ms)
                except RowsDamaged as error:
                    if self._groups.hosting.records[error.group] is known[error.group]:  # else they are others by now
                        self._groups.row_damaged(error.group, error.reason)
                    raise
                await asyncio.sleep(0)
        finally:
            view.close()


def left_out(some: Sequence[int], groups: Sequence[int]) -> list[int]:
    """Those of `groups` that are not among `some` of them.

    >>> left_out([1, 3], [1, 2, 3, 4])
    [2, 4]
    """
    chosen = set(some)
    return [group for group in groups if group not in chosen]


def furthest_behind(ages: Iterable[int | None]) -> int | None:
    """How far behind the whole is, of parts that are so far behind; None if one of them does not know.

    >>> furthest_behind([3, 0, 12]), furthest_behind([3, None]), furthest_behind([])
    (12, None, 0)
    """
    furthest = 0
    for age in ages:
        if age is None:
            return None
        furthest = max(furthest, age)
    return furthest
