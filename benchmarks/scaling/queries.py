"""What a page of GetByIndex costs as nodes are added: it asks every node that leads a partition.

The gateway's part and a node's part are the product's code with the wire left out; what a frame costs is from
docs/performance.md. How many matches come back too many, and how often a page comes out short, is drawn by chance.
"""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import mean, median
from typing import cast

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import QueryReply, Reply, Request
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.clock import BootClock
from ringhold.node.consensus.groups import Groups
from ringhold.node.keyspace import equals_bounds, index_key, index_prefix
from ringhold.node.machine.queries import QuerySpec, query
from ringhold.node.merge import ShardAnswer
from ringhold.node.peers.exchange import Exchange
from ringhold.node.router import Router
from ringhold.node.routes import Routes
from ringhold.node.scatter import Scatter, share_of
from ringhold.node.shards import NodeAnswer, Shards
from ringhold.node.storage.engine import View, WriteBatch
from ringhold.node.storage.opening import open_engine
from ringhold.ring.topology import Topology, group_of_partition

from ..plan import Tell
from .heartbeats import MESSAGE_CPU_S, cpu_s
from .placement import Places
from .tables import topology_of

ENGINE = "rocksdb"
INDEX = "i"
VALUE = b"x"
LIMIT = 100
MATCHES = 100_000
"""Of all records together."""

MATCHES_PER_GROUP_MAX = 200
"""So many are stored of a group: a page reads fewer."""

PAGES = 7
DRAWS = 500
DEADLINE_S = 60.0
SLOW_ONE_IN = 100
"""Of a node's answers, so many is one slow: what that makes of pages."""


@dataclass(frozen=True, slots=True)
class QueryFigures:
    """Of one page of LIMIT matches, of keys alone."""

    nodes: int
    partitions: int
    asked: int
    """Nodes that lead a partition, the gateway among them."""

    fetched: int
    """Matches that come to the gateway."""

    short_share: float
    """Of pages that end before LIMIT matches, since a node had more of the first ones than it was asked for."""

    matches_mean: float
    gateway_s: float
    node_s: float

    @property
    def frames(self) -> int:
        return 2 * (self.asked - 1)

    @property
    def cpu_s(self) -> float:
        """Of all nodes, without the client's call."""
        return self.gateway_s + self.asked * self.node_s + self.frames * MESSAGE_CPU_S

    @property
    def slow_share(self) -> float:
        """Of pages that wait for at least one slow answer."""
        return 1 - (1 - 1 / SLOW_ONE_IN) ** self.asked


def query_figures(places: Places, tell: Tell) -> Iterator[QueryFigures]:
    for nodes, partitions in places:
        tell(f"queries: {nodes:,} nodes, {partitions:,} partitions")
        topology = topology_of(nodes, partitions)
        led = groups_led(topology)
        lengths = page_lengths([len(groups) for groups in led.values()], random.Random(1))
        yield QueryFigures(
            nodes=nodes,
            partitions=partitions,
            asked=len(led),
            fetched=sum(share_of(LIMIT, len(groups), partitions, len(led)) for groups in led.values()),
            short_share=sum(length < LIMIT for length in lengths) / len(lengths),
            matches_mean=mean(lengths),
            gateway_s=asyncio.run(gateway_s(topology, led)),
            node_s=node_s(max(led.values(), key=len), partitions, len(led)),
        )


def groups_led(topology: Topology) -> Mapping[str, Sequence[int]]:
    led: dict[str, list[int]] = {}
    for partition, (leader, *_) in enumerate(topology.targets):
        led.setdefault(leader, []).append(group_of_partition(partition))
    return led


def page_lengths(groups_of_nodes: Sequence[int], rng: random.Random) -> Sequence[int]:
    """How many matches pages have, if the node of each of the first LIMIT and more matches is drawn by its groups."""
    nodes = range(len(groups_of_nodes))
    partitions = sum(groups_of_nodes)
    shares = [share_of(LIMIT, groups, partitions, len(nodes)) for groups in groups_of_nodes]
    return [page_length(rng.choices(nodes, groups_of_nodes, k=LIMIT), shares) for _ in range(DRAWS)]


def page_length(nodes: Sequence[int], shares: Sequence[int]) -> int:
    """The matches of a page, given the node of each: it ends with the last one that some node was asked for.

    >>> page_length([0, 1, 0, 0, 1], shares=[2, 2])
    3
    """
    come: Counter[int] = Counter()
    for length, node in enumerate(nodes, 1):
        come[node] += 1
        if come[node] == shares[node]:
            return length
    return len(nodes)


class OtherNodes:
    """Answers in place of all other nodes, at once. Requests and replies pass as bytes, as they do in frames."""

    def __init__(self, matches: Mapping[str, Sequence[bytes]]) -> None:
        self._matches = matches

    def connected(self, peer_id: str) -> bool:
        return True

    def request(self, peer_id: str, request: Request, timeout_s: float) -> asyncio.Future[Reply]:
        limit = Request.FromString(request.SerializeToString()).query.limit
        matches = self._matches[peer_id]
        reply = QueryReply(pairs=matches[:limit], cut=len(matches) > limit)
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        answered.set_result(Reply.FromString(Reply(query=reply).SerializeToString()))
        return answered


class OwnGroups:
    """What the gateway's router asks of the groups of its own node."""

    def __init__(self, led: Sequence[int]) -> None:
        self._led = frozenset(led)

    def is_leader(self, group: int) -> bool:
        return group in self._led

    def term(self, group: int) -> int:
        return 1

    def hears(self, peer_id: str) -> bool:
        return True


class OwnShards:
    """The gateway's own part is not counted with it: it is a node's part."""

    def __init__(self, matches: Sequence[bytes]) -> None:
        self._matches = matches

    async def query(self, groups: Sequence[int], spec: QuerySpec) -> NodeAnswer:
        found = [(pair, b"") for pair in self._matches[: spec.limit]]
        return NodeAnswer(ShardAnswer(found, cut=len(self._matches) > spec.limit), [])


async def gateway_s(topology: Topology, led: Mapping[str, Sequence[int]]) -> float:
    """CPU seconds of a page in the gateway: the plan, questions, answers, the merge and the response."""
    own = next(iter(led))
    matches = matches_of(led)
    routes = Routes()
    routes.adopt(topology)
    clock, rng = BootClock(), random.Random(1)
    groups, others = cast("Groups", OwnGroups(led[own])), cast("Exchange", OtherNodes(matches))
    router = Router(own, groups, others, routes, clock, rng)
    scatter = Scatter(own, cast("Shards", OwnShards(matches[own])), router, routes, clock, rng, Limits())
    request = kv_pb2.GetByIndexRequest(index=INDEX, equals=VALUE, limit=LIMIT)
    spent = []
    for _ in range(PAGES):
        began = time.process_time()
        await scatter.page(request, topology, clock.now() + DEADLINE_S)
        spent.append(time.process_time() - began)
    return median(spent)


def matches_of(led: Mapping[str, Sequence[int]]) -> Mapping[str, Sequence[bytes]]:
    """The pairs that each node has, in order: enough for its share, and for a page to be found."""
    rng = random.Random(1)
    weights = [len(groups) for groups in led.values()]
    of_nodes: dict[str, list[bytes]] = {node: [] for node in led}
    skip = len(index_prefix(0, INDEX))
    for number, node in enumerate(rng.choices(list(led), weights, k=max(10 * LIMIT, 10 * len(led)))):
        of_nodes[node].append(index_key(0, INDEX, VALUE, key_of(number))[skip:])
    return of_nodes


def key_of(number: int) -> bytes:
    return b"key:%012d" % number


def node_s(groups: Sequence[int], partitions: int, nodes: int) -> float:
    """CPU seconds of a node's part in a page: one view, and the first matches of all the groups that it leads."""
    per_group = min(MATCHES_PER_GROUP_MAX, ceil(MATCHES / partitions))
    limit = share_of(LIMIT, len(groups), partitions, nodes)
    spec = QuerySpec(INDEX, equals_bounds(VALUE), descending=False, limit=limit, bytes_max=2**20, with_records=False)
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(ENGINE, Path(folder) / "engine")
        try:
            batch = WriteBatch()
            for place, group in enumerate(groups):
                for number in range(per_group):
                    batch.put(index_key(group, INDEX, VALUE, key_of(number * len(groups) + place)), b"")
            engine.write(batch)
            return median(cpu_s(lambda: part_of(engine.snapshot(), groups, spec)) for _ in range(PAGES))
        finally:
            engine.close()


def part_of(view: View, groups: Sequence[int], spec: QuerySpec) -> ShardAnswer:
    try:
        return query(view, groups, spec)
    finally:
        view.close()


def query_table(everything: Sequence[QueryFigures]) -> Table:
    table = Table(title=f"GetByIndex: one page of {LIMIT}; CPU of all nodes without the client's call", box=SIMPLE_HEAD)
    for column in ("nodes", "partitions", "asked", "frames", "fetched", "pages cut short", "matches"):
        table.add_column(column, justify="right")
    for column in ("gateway, ms", "a node, ms", "frames, ms", "CPU, ms", f"slow, if 1 in {SLOW_ONE_IN} is"):
        table.add_column(column, justify="right")
    for each in everything:
        spans = (each.gateway_s, each.node_s, each.frames * MESSAGE_CPU_S, each.cpu_s)
        table.add_row(
            f"{each.nodes:,}",
            f"{each.partitions:,}",
            f"{each.asked:,}",
            f"{each.frames:,}",
            f"{each.fetched:,}",
            f"{100 * each.short_share:.1f} %",
            f"{each.matches_mean:.1f}",
            *(f"{1000 * span:,.2f}" for span in spans),
            f"{100 * each.slow_share:.0f} %",
        )
    return table
