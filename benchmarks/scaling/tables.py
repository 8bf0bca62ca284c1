"""What each node keeps of the whole cluster: the topology, the routes, gossip's members; in memory and as bytes."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold.gossip.member import Fact
from ringhold.gossip.table import MemberTable
from ringhold.gossip.wire import decode_member, encode_member
from ringhold.node.routes import Routes
from ringhold.ring.placement import found
from ringhold.ring.topology import TOPOLOGY_BYTES_MAX, Topology, group_of_partition

from ..plan import Tell
from .members import NODE_ID_BYTES, REPLICATION_FACTOR, members_of, node_records
from .placement import Places

Made = TypeVar("Made")

KIB = 1024


@dataclass(frozen=True, slots=True)
class TableFigures:
    nodes: int
    partitions: int
    json_bytes: int
    topology_bytes: int
    routes_bytes: int
    """On top of the topology, once every group's leader has been heard."""

    members_bytes: int
    encode_s: float
    decode_s: float
    adopt_s: float


def table_figures(places: Places, tell: Tell) -> Iterator[TableFigures]:
    for nodes, partitions in places:
        tell(f"tables: {nodes:,} nodes, {partitions:,} partitions")
        yield of_topology(topology_of(nodes, partitions))


def topology_of(nodes: int, partitions: int) -> Topology:
    cluster_id = "0" * 2 * NODE_ID_BYTES
    return found("ringhold", cluster_id, partitions, REPLICATION_FACTOR, node_records(nodes))


def of_topology(topology: Topology) -> TableFigures:
    """Memory is what tracemalloc says is left of making an object from bytes, as a node that has fetched them does."""
    document, encode_s = timed(topology.to_json)
    adopted, decode_s = timed(lambda: Topology.from_json(document))
    _, adopt_s = timed(lambda: heard_routes(adopted))
    stored = [encode_member(member) for member in members_of(topology.nodes, seed=1)]
    return TableFigures(
        nodes=len(topology.nodes),
        partitions=topology.partitions,
        json_bytes=len(document),
        topology_bytes=bytes_of(lambda: Topology.from_json(document)),
        routes_bytes=bytes_of(lambda: heard_routes(adopted)),
        members_bytes=bytes_of(lambda: member_table(stored)),
        encode_s=encode_s,
        decode_s=decode_s,
        adopt_s=adopt_s,
    )


def heard_routes(topology: Topology) -> Routes:
    routes = Routes()
    routes.adopt(topology)
    for partition, replicas in enumerate(topology.targets):
        routes.heard(group_of_partition(partition), replicas[0], 1, 1_000 + partition, 1.0 + partition)
    return routes


def member_table(stored: Sequence[bytes]) -> MemberTable:
    table = MemberTable()
    for each in stored:
        table.put(Fact(decode_member(each)))
    return table


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What was made, and the CPU seconds that it took."""
    began = time.process_time()
    made = make()
    return made, time.process_time() - began


def bytes_of(make: Callable[[], object]) -> int:
    """What the made object takes, without what was there before."""
    make()  # what is made once for all, as caches are, is no part of it
    gc.collect()
    tracemalloc.start()
    try:
        made = make()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        del made
    finally:
        tracemalloc.stop()
    return size


def tables_table(everything: Sequence[TableFigures]) -> Table:
    table = Table(
        title=f"what every node keeps, in KiB; a topology has at most {TOPOLOGY_BYTES_MAX // KIB:,} KiB of JSON",
        box=SIMPLE_HEAD,
    )
    for column in ("nodes", "partitions", "topology: JSON", "memory", "routes", "gossip's members"):
        table.add_column(column, justify="right")
    for column in ("encode, ms", "decode", "adopt"):
        table.add_column(column, justify="right")
    for each in everything:
        sizes = (each.json_bytes, each.topology_bytes, each.routes_bytes, each.members_bytes)
        table.add_row(
            f"{each.nodes:,}",
            f"{each.partitions:,}",
            *(f"{size / KIB:,.1f}" for size in sizes),
            *(f"{1000 * seconds:,.1f}" for seconds in (each.encode_s, each.decode_s, each.adopt_s)),
        )
    return table
