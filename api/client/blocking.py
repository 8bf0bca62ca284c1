"""The client for programs with threads: runs the calls of the core on grpc's blocking channels."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from ..errors import InDoubt
from ..status import from_rpc_error
from .calls import Answered, Call, Event, Fail, Failed, Finish, Send, Sleep, Slept
from .channels import METHODS, channel_options, now_s
from .config import ClientConfig
from .core import Core, Pages
from .operations import Consistency, Indexes, Operation, Text
from .orders import (
    CordonNode,
    DecommissionNode,
    KeepNode,
    Order,
    RemoveNode,
    SetReplicationFactor,
    UncordonNode,
)
from .results import ClusterChange, ClusterStatus, Explanation, Match, Record, Resolution, Topology
from .unit import Outcome

Result = TypeVar("Result")
Stubs = dict[type[Message], Callable[..., Any]]


class Client:
    """A cluster, for programs with threads; one client may be used by many threads, and should live long.

    `endpoints` are gRPC addresses (host:port) of some nodes, the rest is found through them; no connection is made
    before the first call. Every call ends within its deadline of `timeout_s` seconds, with its result or one of the
    errors of `ringhold.api.errors`. Keys, values and index values are bytes, or str for their UTF-8; results are bytes.
    """

    def __init__(
        self, endpoints: Sequence[str] | str, *, timeout_s: float = 10.0, config: ClientConfig | None = None
    ) -> None:
        self._core = Core(endpoints, timeout_s, config or ClientConfig(), random.SystemRandom())
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._stubs: dict[str, Stubs] = {}
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; no call may follow."""
        with self._lock:
            self._is_closed = True
            channels, self._channels, self._stubs = list(self._channels.values()), {}, {}
        for channel in channels:
            channel.close()

    def get(self, key: Text, *, consistency: Consistency = "linearizable", timeout_s: float | None = None) -> Record:
        """The record under `key`, as new as the newest acknowledged write. Raises KeyNotFound if there is none.

        With consistency="stale" it is what the nearest replica has, also while there is no leader: the record, or
        KeyNotFound, is then `stale`, and its `behind_ms` says how far behind it may be.
        """
        return self._run(self._core.get(key, timeout_s, consistency))

    def set(
        self,
        key: Text,
        value: Text,
        indexes: Indexes | None = None,
        *,
        request_id: bytes | None = None,
        anchor: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Replace the value and all index entries of `key`; the new version.

        `indexes` has for each name one value or several. InDoubt has the `request_id` and `anchor` with which the call
        can be repeated without taking effect twice; `resolve` says what became of it instead.
        """
        return self._run(self._core.set(key, value, indexes, request_id, anchor, timeout_s))

    def delete(
        self,
        key: Text,
        *,
        request_id: bytes | None = None,
        anchor: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Remove `key`; the version of the removal, 0 if there was nothing. For the rest see `set`."""
        return self._run(self._core.delete(key, request_id, anchor, timeout_s))

    def resolve(
        self,
        doubt: InDoubt | None = None,
        *,
        request_id: bytes | None = None,
        anchor: int | None = None,
        key: Text | None = None,
        timeout_s: float | None = None,
    ) -> Resolution:
        """What became of a mutation that raised `doubt`; if nothing by now, see that nothing ever will.

        Without the error, for instance in another process, its `request_id`, `anchor` and `key` do. Raises
        InvalidRequest if one of them is missing, and Unavailable or Overloaded if there is no answer in time: then the
        doubt stands, and this can be repeated.
        """
        return self._run(self._core.resolve(doubt, request_id, anchor, key, timeout_s))

    def batch(
        self, operations: Iterable[Operation], *, request_id: bytes | None = None, timeout_s: float | None = None
    ) -> list[Outcome]:
        """One outcome for each operation, in their order: a Record, a version, or the error of this operation.

        Mutations of one key take effect in their order, unless they have a request_id of their own; what a Get sees of
        the other operations is not said. Raises only if the batch was refused as a whole and nothing was changed.
        """
        return self._run(self._core.batch(list(operations), request_id, timeout_s))

    def find(
        self,
        name: str,
        value: Text | None = None,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int | None = None,
        descending: bool = False,
        with_records: bool = True,
        allow_partial: bool = False,
        page_size: int = 200,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
    ) -> "Matches":
        """The keys found in index `name` under `value`, a `prefix`, or start <= value < end, by (index value, key).

        Pages are fetched as the iteration goes, each within `timeout_s`. Raises Incomplete if shards are missing,
        unless `allow_partial`: then `missing_partitions` of the iterator names them. With consistency="stale" each
        partition is read from any replica; `behind_ms` of the iterator says how far behind the pages so far may be.
        """
        pages = self._core.find(
            name, value, prefix, start, end, limit, descending, with_records, allow_partial, page_size, consistency
        )
        return Matches(pages, lambda: self._page(pages, timeout_s))

    def topology(self, *, timeout_s: float | None = None) -> Topology:
        """Nodes, partitions and their leaders, as the node that was asked knows them."""
        return self._run(self._core.topology(timeout_s))

    def status(self, *, timeout_s: float | None = None) -> ClusterStatus:
        """Health and load of every node."""
        return self._run(self._core.status(timeout_s))

    def change(self, *orders: Order, dry_run: bool = False, timeout_s: float | None = None) -> ClusterChange:
        """Change what the cluster is made of, by all of the orders or none; what will move.

        Returns once it is decided; the replicas move after, see `status`. Orders are idempotent: one that is carried
        out already is no error. Raises InvalidRequest for orders that can't be right or a node that is not there,
        ChangeRefused for what can't be done as the cluster is, InDoubt if there was no answer: to repeat it is safe.
        With `dry_run` it only tells what would happen.
        """
        return self._run(self._core.change(orders, dry_run, timeout_s))

    def plan(
        self,
        *,
        add: int = 0,
        remove: str | Iterable[str] = (),
        decommission: str | Iterable[str] = (),
        replication_factor: int | None = None,
        timeout_s: float | None = None,
    ) -> ClusterChange:
        """What would move if so many nodes were added, and those of these names removed or decommissioned.

        Changes nothing; `remove` may name nodes that are alive.
        """
        return self._run(self._core.plan(add, remove, decommission, replication_factor, timeout_s))

    def decommission(self, node: str, *, timeout_s: float | None = None) -> ClusterChange:
        """Have a node leave for good; it serves until its last replica has moved. For the rest see `change`."""
        return self.change(DecommissionNode(node), timeout_s=timeout_s)

    def keep(self, node: str, *, timeout_s: float | None = None) -> ClusterChange:
        """Take a decommission back, while the node is not gone."""
        return self.change(KeepNode(node), timeout_s=timeout_s)

    def remove_node(self, node: str, *, timeout_s: float | None = None) -> ClusterChange:
        """Give a node up that is dead for good: its replicas are made anew. Raises ChangeRefused while it is alive."""
        return self.change(RemoveNode(node), timeout_s=timeout_s)

    def cordon(self, node: str, *, timeout_s: float | None = None) -> ClusterChange:
        """Give a node no more replicas; it keeps those that it has."""
        return self.change(CordonNode(node), timeout_s=timeout_s)

    def uncordon(self, node: str, *, timeout_s: float | None = None) -> ClusterChange:
        """Let a node have replicas again."""
        return self.change(UncordonNode(node), timeout_s=timeout_s)

    def set_replication_factor(self, number: int, *, timeout_s: float | None = None) -> ClusterChange:
        """Have so many replicas of each partition, or as many as there are nodes if these are fewer."""
        return self.change(SetReplicationFactor(number), timeout_s=timeout_s)

    def explain(self, key: Text, *, timeout_s: float | None = None) -> Explanation:
        """Where `key` lives, and what is stored under it; an absent key is no error."""
        return self._run(self._core.explain(key, timeout_s))

    def _page(self, pages: Pages, timeout_s: float | None) -> list[Match] | None:
        call = self._core.page(pages, timeout_s)
        if call is None:
            return None
        return self._run(call)

    def _run(self, call: Call[Result]) -> Result:
        with self._lock:
            effect = call.start(now_s())
        while True:
            match effect:
                case Finish(result):
                    return result
                case Fail(error):
                    raise error
                case Send():
                    event = self._send(effect)
                case Sleep(seconds):
                    time.sleep(seconds)
                    event = Slept()
            with self._lock:
                effect = call.handle(event, now_s())

    def _send(self, send: Send) -> Event:
        stub = self._stubs_of(send.address)[type(send.request)]
        try:
            return Answered(stub(send.request, timeout=send.timeout_s))
        except grpc.RpcError as error:
            return Failed(from_rpc_error(error))

    def _stubs_of(self, address: str) -> Stubs:
        with self._lock:
            if self._is_closed:
                raise ValueError("the client is closed")
            if address not in self._stubs:
                self._channels[address] = channel = grpc.insecure_channel(address, channel_options(self._core.config))
                self._stubs[address] = {
                    request: channel.unary_unary(method.path, request.SerializeToString, method.response.FromString)
                    for request, method in METHODS.items()
                }
            return self._stubs[address]


class Matches(Iterator[Match]):
    """The matches of a query, page by page."""

    def __init__(self, pages: Pages, next_page: Callable[[], list[Match] | None]) -> None:
        self._pages = pages
        self._next_page = next_page
        self._fetched: deque[Match] = deque()

    @property
    def missing_partitions(self) -> tuple[int, ...]:
        """The partitions that did not answer so far; only with `allow_partial`."""
        return self._pages.missing_partitions

    @property
    def stale(self) -> bool:
        """Whether the pages so far were stale reads."""
        return self._pages.stale

    @property
    def behind_ms(self) -> int | None:
        """As in a `Record`, of that page so far that is furthest behind; None if it is unknown of one of them."""
        return self._pages.behind_ms

    def __next__(self) -> Match:
        while not self._fetched:
            page = self._next_page()
            if page is None:
                raise StopIteration
            self._fetched.extend(page)
        return self._fetched.popleft()
