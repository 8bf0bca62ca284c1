"""GetByIndex: asks the leaders of all partitions, one request per node, and merges one page from their answers.

A stale page asks any replica instead: this node for whatever it has, others for the rest.

Each shard answers once per call, at a moment within it: a page misses nothing that was there all the time (P4). Shards
whose leader moved or was lost are asked again, alone; in the end the page is complete, or an error names what is
missing (P5).
"""

import asyncio
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from math import ceil, exp, lgamma, log, log1p, sqrt

from ..api.errors import Incomplete, InvalidRequest, RingholdError
from ..api.limits import Limits
from ..api.proto.ringhold.internal.v1.peer_pb2 import QueryReply, QueryRequest, Request
from ..api.proto.ringhold.storage.v1 import records_pb2 as stored
from ..api.proto.ringhold.v1 import kv_pb2
from ..ring.topology import Topology, group_of_partition, partition_of_group
from . import keyspace, page_token
from .attempts import AttemptsConfig
from .clock import Clock
from .consensus.tickets import NotLeader
from .keyspace import Bounds
from .losses import Losses, no_healthy_copy
from .machine.queries import QuerySpec
from .merge import InvalidAnswer, Page, ShardAnswer, merge_page
from .peers.exchange import RequestLost, RequestNotSent
from .router import Router
from .routes import Routes
from .shards import NodeAnswer, Shards, furthest_behind

PAGE_ITEMS_DEFAULT = 100
MATCHES_PER_SLICE = 128

SHORT_PAGES_MAX = 1e-4
"""The share of pages that may end early, because a node has more of their matches than it was asked for."""

NEGLIGIBLE = 1e-6
"""Terms of a sum that are so small beside it, and only get smaller, are left out."""

SHARES_KEPT_MAX = 1024
"""Shares that are remembered: the pages of a cluster are alike, and nodes lead few different numbers of groups."""

NOBODY: Sequence[str] = ()
NO_ROW = b""
CONSISTENCIES = frozenset(kv_pb2.Consistency.values())


@dataclass(slots=True)
class Gathered:
    """The answers of one call so far, and the groups that have not answered yet.

    `asked` has, for a stale page, the nodes that each group was asked of, as often as it was. `losses`: who has said to
    have no good copy.
    """

    missing: list[int]
    is_stale: bool
    losses: Losses
    answers: list[ShardAnswer] = field(default_factory=list)
    behind_ms: int | None = 0
    asked: dict[int, list[str]] = field(default_factory=dict)

    def add(self, node: str, asked: Sequence[int], reply: NodeAnswer) -> None:
        refused = set(reply.refused)
        answered = {group for group in asked if group not in refused}
        if answered:
            self.answers.append(reply.answer)
            self.behind_ms = furthest_behind((self.behind_ms, reply.behind_ms))
            self.missing = [group for group in self.missing if group not in answered]
        lost = set(reply.lost)
        for group in refused.intersection(asked):
            self.losses.heard(group, node, is_lost=group in lost)

    @property
    def lost(self) -> Sequence[int]:
        """The missing groups that nobody has a good copy of."""
        return [group for group in self.missing if self.losses.is_total(group)]


class Scatter:
    """Index queries over the whole cluster."""

    def __init__(
        self,
        node_id: str,
        shards: Shards,
        router: Router,
        routes: Routes,
        clock: Clock,
        rng: random.Random,
        limits: Limits,
        config: AttemptsConfig | None = None,
    ) -> None:
        self._node_id = node_id
        self._shards = shards
        self._router = router
        self._routes = routes
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._config = config or AttemptsConfig()

    async def page(
        self, request: kv_pb2.GetByIndexRequest, topology: Topology, deadline: float
    ) -> kv_pb2.GetByIndexResponse:
        """One page. Raises InvalidRequest, and Incomplete or DataLoss unless `allow_partial`."""
        bounds = self._bounds(request)
        checksum = page_token.query_checksum(
            request.index, request.WhichOneof("match") or "", bounds, descending=request.descending
        )
        if request.page_token:
            last = page_token.decode(request.page_token, checksum)
            bounds = keyspace.resumed(bounds, last, descending=request.descending)
        spec = self._spec(request, bounds)
        groups = [group_of_partition(partition) for partition in range(topology.partitions)]
        gathered = Gathered(groups, is_stale(request.consistency), Losses(self._clock, self._routes))
        await self._gather(gathered, spec, deadline, patient=not request.allow_partial)
        missing = [partition_of_group(group) for group in gathered.missing]
        if missing and not request.allow_partial:
            raise incomplete(missing)
        page = merged(gathered.answers, spec, groups)
        response = kv_pb2.GetByIndexResponse(
            next_page_token=next_token(page, checksum),
            missing_partitions=missing,
            topology_epoch=topology.epoch,
            stale=gathered.is_stale,
            behind_ms=gathered.behind_ms if gathered.is_stale else None,
        )
        await put_matches(response, page, with_records=spec.with_records)
        return response

    def _bounds(self, request: kv_pb2.GetByIndexRequest) -> Bounds:
        """The query's bounds in the space of pairs. Raises InvalidRequest."""
        limits = self._limits
        limits.check_index_name(request.index)
        match request.WhichOneof("match"):
            case "equals":
                limits.check_index_value(request.equals)
                return keyspace.equals_bounds(request.equals)
            case "prefix":
                limits.check_index_value(request.prefix)
                return keyspace.prefix_bounds(request.prefix)
            case "range":
                start = request.range.start if request.range.HasField("start") else None
                end = request.range.end if request.range.HasField("end") else None
                for bound in (start, end):
                    limits.check_index_value(bound or b"")
                if start is not None and end is not None and start > end:
                    raise InvalidRequest("QUERY_INVALID", "the range ends before it starts")
                return keyspace.range_bounds(start, end)
        raise InvalidRequest("QUERY_INVALID", "the query names no value, prefix or range")

    def _spec(self, request: kv_pb2.GetByIndexRequest, bounds: Bounds) -> QuerySpec:
        items_max = self._limits.page_items_max
        if request.limit > items_max:
            message = f"a page has at most {items_max} matches, {request.limit} were asked for"
            raise InvalidRequest(
                "PAGE_LIMIT_TOO_LARGE", message, {"limit": str(items_max), "asked": str(request.limit)}
            )
        return QuerySpec(
            index=request.index,
            bounds=bounds,
            descending=request.descending,
            limit=request.limit or min(PAGE_ITEMS_DEFAULT, items_max),
            bytes_max=self._limits.page_bytes_max,
            with_records=request.with_records,
        )

    async def _gather(self, gathered: Gathered, spec: QuerySpec, deadline: float, *, patient: bool) -> None:
        """Ask until every group has answered, the deadline comes, or (not `patient`) all have been asked twice.

        If `patient`, raises DataLoss for a group that nobody has a good copy of.
        """
        groups = len(gathered.missing)
        attempt = 0
        while True:
            timeout_s = max(0.001, min(self._config.attempt_s_max, deadline - self._clock.now()))
            rounds = sorted(self._plan(gathered).items(), key=self._is_own)
            shares = {node: with_share(spec, len(asked), groups, len(rounds)) for node, asked in rounds}
            await asyncio.gather(*(self._ask(node, asked, shares[node], timeout_s, gathered) for node, asked in rounds))
            attempt += 1
            if patient and gathered.lost:
                raise no_healthy_copy(gathered.lost)
            if not gathered.missing or (attempt == 2 and not patient):
                return
            pause_s = self._rng.uniform(0, min(self._config.backoff_s_max, 0.01 * 2.0 ** min(attempt, 16)))
            if self._clock.now() + pause_s >= deadline:
                return
            await self._clock.sleep(pause_s)

    def _is_own(self, share: tuple[str, list[int]]) -> bool:
        """Of two shares, that of this node is to be begun last: see `_ask`."""
        return share[0] == self._node_id

    def _plan(self, gathered: Gathered) -> dict[str, list[int]]:
        """Whom to ask for what is missing."""
        return self._by_replica(gathered) if gathered.is_stale else self._by_leader(gathered)

    def _by_leader(self, gathered: Gathered) -> dict[str, list[int]]:
        by_leader: dict[str, list[int]] = {}
        reaches = cache(self._router.reaches)
        for group in gathered.missing:
            node = gathered.losses.turn_from(group, self._router.aim(group, reaches))
            by_leader.setdefault(node, []).append(group)
        return by_leader

    def _by_replica(self, gathered: Gathered) -> dict[str, list[int]]:
        """Each group goes to the replica that was asked least, this node before others, those in reach before the rest.

        Among equals it goes to one that is asked for other groups anyway, so that few nodes are asked.
        """
        hosted = self._shards.hosted
        by_replica: dict[str, list[int]] = {}
        for group in gathered.missing:
            asked = gathered.asked.setdefault(group, [])
            if group in hosted and not asked:
                chosen = self._node_id
            else:
                chosen = min(self._candidates(group, hosted), key=partial(self._cost, asked, by_replica))
            asked.append(chosen)
            by_replica.setdefault(chosen, []).append(group)
        return by_replica

    def _candidates(self, group: int, hosted: Container[int]) -> list[str]:
        others = [node for node in self._routes.replicas(group) if node != self._node_id]
        return [self._node_id, *others] if group in hosted or not others else others

    def _cost(self, asked: Sequence[str], chosen: Container[str], node: str) -> tuple[int, bool, bool, bool]:
        return asked.count(node), node != self._node_id, not self._router.reaches(node), node not in chosen

    async def _ask(self, node: str, asked: list[int], spec: QuerySpec, timeout_s: float, gathered: Gathered) -> None:
        """Add a node's answer; a node that does not answer leaves its groups missing."""
        if node == self._node_id:
            await asyncio.sleep(0)  # the questions to the others leave before this node works on its own
            query = self._shards.query_stale if gathered.is_stale else self._shards.query
            answer, leaders = await query(asked, spec), NOBODY
        else:
            request = query_request(asked, spec)
            request.stale = gathered.is_stale
            answer, leaders = await self._ask_peer(node, request, timeout_s)
        gathered.add(node, asked, answer)
        if not gathered.is_stale:
            named = dict(zip(answer.refused, leaders, strict=False))
            refused = set(asked).intersection(answer.refused)
            self._learn(node, {group: named.get(group) or None for group in sorted(refused)})

    async def _ask_peer(self, node: str, request: QueryRequest, timeout_s: float) -> tuple[NodeAnswer, Sequence[str]]:
        """Another node's answer, and who leads the groups that it refused; all are refused if it does not answer."""
        try:
            reply = (await self._router.ask(node, request.groups[0], Request(query=request), timeout_s)).query
            return node_answer(reply), reply.leaders
        except (NotLeader, RequestLost, RequestNotSent, InvalidAnswer):
            return NodeAnswer(ShardAnswer([], cut=False), request.groups), NOBODY

    def _learn(self, node: str, leaders: Mapping[int, str | None]) -> None:
        """Go by what `node` says of the groups that it refused, unless their routes have left it meanwhile."""
        for group, leader in leaders.items():
            route = self._routes.get(group)
            if route.leader != node:
                continue
            if not self._routes.redirected(group, leader, route.term):
                self._routes.passed_over(group, node, self._router.reaches)


def with_share(spec: QuerySpec, groups: int, groups_in_all: int, nodes: int) -> QuerySpec:
    """The same query for one of so many nodes, which leads so many of the groups."""
    return replace(spec, limit=share_of(spec.limit, groups, groups_in_all, nodes))


@lru_cache(maxsize=SHARES_KEPT_MAX)
def share_of(limit: int, groups: int, groups_in_all: int, nodes: int) -> int:
    """How many matches to ask of a node with so many of the groups, if so many nodes are asked.

    Keys are spread by their hash, so the number that a node has among the first matches is binomial. A page comes out
    short if some node has its share before the last one; the more nodes, the likelier. The share is the least that
    keeps this to SHORT_PAGES_MAX for all nodes together, but four standard deviations above the mean at least. A short
    page ends with a token as any other.

    >>> share_of(100, 21, 64, 3), share_of(100, 64, 64, 1), share_of(7, 21, 64, 3)
    (56, 100, 7)
    >>> share_of(100, 41, 4096, 100), share_of(100, 4, 4096, 1000)
    (9, 5)
    """
    mean = limit * groups / groups_in_all
    share = min(limit, ceil(mean + 4 * sqrt(mean)))
    while share < limit and nodes * binomial_tail(limit - 1, groups / groups_in_all, share) > SHORT_PAGES_MAX:
        share += 1
    return share


def binomial_tail(draws: int, chance: float, least: int) -> float:
    """The chance that of so many draws `least` or more hit; 0 < `least` <= `draws`, 0 < `chance` < 1.

    >>> round(binomial_tail(3, 0.5, 2), 6)
    0.5
    """
    log_ways = lgamma(draws + 1) - lgamma(least + 1) - lgamma(draws - least + 1)
    term = exp(log_ways + least * log(chance) + (draws - least) * log1p(-chance))
    odds = chance / (1 - chance)
    tail = 0.0
    for hits in range(least, draws + 1):
        tail += term
        term *= (draws - hits) / (hits + 1) * odds
        if term < NEGLIGIBLE * tail:
            break
    return tail


def query_request(groups: Sequence[int], spec: QuerySpec) -> QueryRequest:
    return QueryRequest(
        groups=groups,
        index=spec.index,
        start=spec.bounds.start,
        end=spec.bounds.end,
        descending=spec.descending,
        limit=spec.limit,
        with_records=spec.with_records,
        bytes_max=spec.bytes_max,
    )


def is_stale(consistency: kv_pb2.Consistency) -> bool:
    """Whether a read may lack the newest changes. Raises InvalidRequest for a level that this version does not know."""
    if consistency not in CONSISTENCIES:
        message = f"{consistency} is no consistency: reads are linearizable (1) or stale (2)"
        raise InvalidRequest("CONSISTENCY_INVALID", message, {"consistency": str(consistency)})
    return consistency == kv_pb2.CONSISTENCY_STALE


def query_spec(request: QueryRequest) -> QuerySpec:
    return QuerySpec(
        index=request.index,
        bounds=Bounds(request.start, request.end),
        descending=request.descending,
        limit=request.limit,
        bytes_max=request.bytes_max,
        with_records=request.with_records,
    )


def node_answer(reply: QueryReply) -> NodeAnswer:
    """Raises InvalidAnswer if there are rows, but not one for each match."""
    pairs, rows = reply.pairs, reply.rows
    if rows and len(rows) != len(pairs):
        raise InvalidAnswer(f"an answer of {len(pairs)} matches and {len(rows)} rows")
    matches = list(zip(pairs, rows or [NO_ROW] * len(pairs), strict=True))
    behind_ms = reply.behind_ms if reply.HasField("behind_ms") else None
    return NodeAnswer(ShardAnswer(matches, cut=reply.cut), list(reply.refused), behind_ms, list(reply.lost))


async def put_matches(response: kv_pb2.GetByIndexResponse, page: Page, *, with_records: bool) -> None:
    """Add the page's matches to the response, in slices (P8).

    They are made in their places: a message that is put into another one is copied.
    """
    add = response.matches.add
    for number, (pair, row) in enumerate(page.matches):
        if number and number % MATCHES_PER_SLICE == 0:
            await asyncio.sleep(0)
        value, key = keyspace.split_pair(pair)
        match = add(key=key, index_value=value)
        if with_records:
            put_record(match.record, key, stored.Row.FromString(row))


def put_record(record: kv_pb2.Record, key: bytes, row: stored.Row) -> None:
    record.key = key
    record.value = row.value
    record.version = row.version
    record.create_version = row.create_version
    for entry in row.indexes:
        record.indexes.add(name=entry.name, value=entry.value)


def merged(answers: Sequence[ShardAnswer], spec: QuerySpec, groups: Sequence[int]) -> Page:
    """The page that the answers make. An answer that no node should give spoils it: all is missing."""
    try:
        return merge_page(answers, limit=spec.limit, bytes_max=spec.bytes_max, descending=spec.descending)
    except InvalidAnswer as error:
        raise incomplete([partition_of_group(group) for group in groups]) from error


def next_token(page: Page, checksum: bytes) -> bytes:
    """The token of the page after this one; empty if there is none."""
    return page_token.encode(page.resume, checksum) if page.more and page.resume is not None else b""


def incomplete(missing: Sequence[int]) -> RingholdError:
    names = ", ".join(str(partition) for partition in missing)
    message = f"{len(missing)} partitions did not answer in time: {names}"
    return Incomplete("INCOMPLETE", message, {"missing": names.replace(" ", "")})
