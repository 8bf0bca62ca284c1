"""The client without I/O: what each method of `Client` and `AsyncClient` does, as a call for the shell to run.

Both shells make the same calls of the same arguments here, so that they can't differ. See docs/client.md.
"""

import random
from collections.abc import Iterable, Sequence

from ..errors import InDoubt, InvalidRequest
from ..proto.ringhold.v1 import cluster_pb2, kv_pb2
from . import wire
from .batch import Batch
from .calls import BulkRead, Call, Mutation, Orders, Plan, Read, Resolve, StaleRead, Surroundings, TopologyRead
from .config import ClientConfig
from .operations import Consistency, Indexes, Operation, Text
from .orders import AddNodes, DecommissionNode, Order, RemoveNode, SetReplicationFactor
from .results import ClusterChange, ClusterStatus, Explanation, Match, Record, Resolution, Topology
from .routing import Routing
from .unit import Outcome

REQUEST_ID_BYTES = 16


class Pages:
    """The pages of one query: where it stands, how many matches are still wanted, which shards were missing.

    `stale` and `behind_ms` are those of the pages so far: 0 before the first, None once one of them did not know.
    """

    def __init__(self, query: kv_pb2.GetByIndexRequest, limit: int | None, page_size: int) -> None:
        self._query = query
        self._left = limit
        self._page_size = page_size
        self._is_over = limit == 0
        self.missing_partitions: tuple[int, ...] = ()
        self.stale = False
        self.behind_ms: int | None = 0

    def next_request(self) -> kv_pb2.GetByIndexRequest | None:
        """The request for the next page; None if there is none."""
        if self._is_over:
            return None
        self._query.limit = self._page_size if self._left is None else min(self._page_size, self._left)
        return self._query

    def accept(self, page: kv_pb2.GetByIndexResponse) -> list[Match]:
        """The matches of a page."""
        matches = wire.matches_of(page)
        self._age(page)
        self._query.page_token = page.next_page_token
        self._left = None if self._left is None else self._left - len(matches)
        self._is_over = not page.next_page_token or self._left == 0
        self.missing_partitions = tuple(sorted({*self.missing_partitions, *page.missing_partitions}))
        return matches

    def _age(self, page: kv_pb2.GetByIndexResponse) -> None:
        behind_ms = wire.behind_ms_of(page)
        self.stale = self.stale or page.stale
        is_known = self.behind_ms is not None and behind_ms is not None
        self.behind_ms = max(self.behind_ms or 0, behind_ms or 0) if is_known else None


class Core:
    """Makes the calls of one client, and holds what they share."""

    def __init__(
        self, endpoints: Sequence[str] | str, timeout_s: float, config: ClientConfig, rng: random.Random
    ) -> None:
        addresses = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
        if not addresses or not all(addresses):
            raise InvalidRequest("NO_ENDPOINT", "a client needs the addresses (host:port) of one or more nodes")
        self.config = config
        self._timeout_s = timeout_s
        self._around = Surroundings(Routing(addresses, config, rng), config, rng)

    def get(self, key: Text, timeout_s: float | None, consistency: Consistency = "linearizable") -> Call[Record]:
        request = wire.get_request(key, consistency)

        def parse(answer: kv_pb2.GetResponse, now: float) -> Record:
            self._around.routing.heard(answer.header, now)
            return wire.record_of(request.key, answer)

        kind = StaleRead if request.consistency == kv_pb2.CONSISTENCY_STALE else Read
        return kind(self._around, request.key, self._deadline_s(timeout_s), request, parse)

    def set(
        self,
        key: Text,
        value: Text,
        indexes: Indexes | None,
        request_id: bytes | None,
        anchor: int | None,
        timeout_s: float | None,
    ) -> Call[int]:
        request = wire.set_request(key, value, indexes)
        return Mutation(self._around, self._deadline_s(timeout_s), request, self._id(request_id), anchor or None)

    def delete(self, key: Text, request_id: bytes | None, anchor: int | None, timeout_s: float | None) -> Call[int]:
        request = wire.delete_request(key)
        return Mutation(self._around, self._deadline_s(timeout_s), request, self._id(request_id), anchor or None)

    def resolve(
        self,
        doubt: InDoubt | None,
        request_id: bytes | None,
        anchor: int | None,
        key: Text | None,
        timeout_s: float | None,
    ) -> Call[Resolution]:
        request = wire.resolve_request(doubt, request_id, anchor, key)

        def parse(answer: kv_pb2.ResolveResponse, now: float) -> Resolution:
            self._around.routing.heard(answer.header, now)
            return wire.resolution_of(answer)

        return Resolve(self._around, request.key, self._deadline_s(timeout_s), request, parse)

    def batch(
        self, operations: Sequence[Operation], request_id: bytes | None, timeout_s: float | None
    ) -> Call[list[Outcome]]:
        return Batch(self._around, self._deadline_s(timeout_s), operations, self._id(request_id))

    def find(
        self,
        name: str,
        value: Text | None,
        prefix: Text | None,
        start: Text | None,
        end: Text | None,
        limit: int | None,
        descending: bool,
        with_records: bool,
        allow_partial: bool,
        page_size: int,
        consistency: Consistency = "linearizable",
    ) -> Pages:
        if limit is not None and limit < 0:
            raise InvalidRequest("QUERY_INVALID", f"limit is {limit}, it must not be negative")
        if page_size < 1:
            raise InvalidRequest("QUERY_INVALID", f"page_size is {page_size}, it must be positive")
        query = wire.query_request(name, value, prefix, start, end)
        query.descending, query.with_records, query.allow_partial = descending, with_records, allow_partial
        query.consistency = wire.consistency_of(consistency)
        return Pages(query, limit, page_size)

    def page(self, pages: Pages, timeout_s: float | None) -> Call[list[Match]] | None:
        """The call for the next page of a query; None if there is none."""
        request = pages.next_request()
        if request is None:
            return None
        return BulkRead(self._around, self._deadline_s(timeout_s), request, lambda answer, _: pages.accept(answer))

    def topology(self, timeout_s: float | None) -> Call[Topology]:
        def parse(answer: cluster_pb2.TopologyResponse, now: float) -> Topology:
            self._around.routing.adopt(answer, now)
            return wire.topology_of(answer)

        return TopologyRead(self._around, self._deadline_s(timeout_s), cluster_pb2.TopologyRequest(), parse)

    def status(self, timeout_s: float | None) -> Call[ClusterStatus]:
        request = cluster_pb2.StatusRequest()
        return BulkRead(self._around, self._deadline_s(timeout_s), request, lambda answer, _: wire.status_of(answer))

    def change(self, orders: Iterable[Order], dry_run: bool, timeout_s: float | None) -> Call[ClusterChange]:
        request = wire.change_request(orders, dry_run)

        def parse(answer: cluster_pb2.ChangeResponse, _now: float) -> ClusterChange:
            self._around.routing.heard_epoch(answer.epoch)
            return wire.cluster_change_of(answer)

        kind = Plan if dry_run else Orders
        return kind(self._around, self._deadline_s(timeout_s), request, parse)

    def plan(
        self,
        add: int,
        remove: str | Iterable[str],
        decommission: str | Iterable[str],
        replication_factor: int | None,
        timeout_s: float | None,
    ) -> Call[ClusterChange]:
        orders: list[Order] = [AddNodes(add)] if add else []
        orders += map(RemoveNode, _names(remove))
        orders += map(DecommissionNode, _names(decommission))
        orders += [] if replication_factor is None else [SetReplicationFactor(replication_factor)]
        return self.change(orders, True, timeout_s)

    def explain(self, key: Text, timeout_s: float | None) -> Call[Explanation]:
        name = wire.to_bytes(key)
        request = cluster_pb2.ExplainRequest(key=name)
        return BulkRead(
            self._around, self._deadline_s(timeout_s), request, lambda answer, _: wire.explanation_of(name, answer)
        )

    def _deadline_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def _id(self, request_id: bytes | None) -> bytes:
        return request_id or self._around.rng.randbytes(REQUEST_ID_BYTES)


def _names(names: str | Iterable[str]) -> Iterable[str]:
    return (names,) if isinstance(names, str) else names
