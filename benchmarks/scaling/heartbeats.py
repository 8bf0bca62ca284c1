"""Heartbeats and timers: the streams and beats of a node, whom it beats with and whom it would have to, and the CPU.

`node.node` keeps sessions, and beats, with every other member; pairs that share no group have nothing to tell.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold.node.consensus.groups import PULSE_S
from ringhold.node.consensus.support import BEAT_S
from ringhold.ring.placement import place
from ringhold.ring.topology import Targets

from ..plan import Tell
from .members import REPLICATION_FACTOR, node_records
from .one_node import NodeAtRest, beat_bytes
from .placement import Places

STREAMS_PER_PAIR = 3
"""Requests and beats over gRPC, consensus over a WebSocket (node/peers/network_transport.py)."""

CONNECTIONS_PER_PAIR = 2
MESSAGE_CPU_S = 200e-6
"""Of one message on an open gRPC stream, both ends together (docs/performance.md, "Set")."""

FRAMING_BYTES = 14
"""gRPC's five before each message, and nine of HTTP/2's frame."""

ROUNDS = 7
OTHER_WORK_BYTES = 2**26
"""Written between two parts of a round: more than caches hold."""


@dataclass(frozen=True, slots=True)
class HeartbeatFigures:
    """Of one node; seconds are of CPU, and each round of beats is one turn of the event loop."""

    nodes: int
    partitions: int
    replicas: int
    peers: int
    peers_sharing_mean: float
    peers_sharing_most: int
    beats_per_s: float
    """Sent; as many are heard."""

    bytes_per_s: float
    make_round_s: float
    hear_round_s: float
    pulse_s: float

    @property
    def wire_share(self) -> float:
        """Of a core, for gRPC's part of what is sent and heard."""
        return self.beats_per_s * MESSAGE_CPU_S

    @property
    def own_share(self) -> float:
        """Of a core, for making and hearing beats."""
        return (self.make_round_s + self.hear_round_s) / BEAT_S

    @property
    def pulse_share(self) -> float:
        return self.pulse_s / PULSE_S


def heartbeat_figures(places: Places, tell: Tell) -> Iterator[HeartbeatFigures]:
    size = beat_bytes() + FRAMING_BYTES
    for count, partitions in places:
        tell(f"heartbeats: {count:,} nodes, {partitions:,} partitions")
        ids = [node.id for node in node_records(count)]
        targets = place(node_records(count), partitions, REPLICATION_FACTOR)
        sharing = [len(others) for others in sharing_a_group(ids, targets).values()]
        own, *peers = ids
        node = NodeAtRest.of(own, peers, targets)
        rounds = [round_of(node) for _ in range(ROUNDS)]
        beats_per_s = len(peers) / BEAT_S
        yield HeartbeatFigures(
            nodes=count,
            partitions=partitions,
            replicas=len(node.replicas),
            peers=len(peers),
            peers_sharing_mean=mean(sharing),
            peers_sharing_most=max(sharing),
            beats_per_s=beats_per_s,
            bytes_per_s=beats_per_s * size,
            make_round_s=median(each.make_s for each in rounds),
            hear_round_s=median(each.hear_s for each in rounds),
            pulse_s=median(each.pulse_s for each in rounds),
        )


def sharing_a_group(ids: Sequence[str], targets: Targets) -> Mapping[str, set[str]]:
    """For each node the others that hold a partition with it.

    >>> sharing_a_group("abc", (("a", "b"),)) == {"a": {"b"}, "b": {"a"}, "c": set()}
    True
    """
    sharing: dict[str, set[str]] = {node: set() for node in ids}
    for holders in targets:
        for node in holders:
            sharing[node].update(holders)
    for node, others in sharing.items():
        others.discard(node)
    return sharing


@dataclass(frozen=True, slots=True)
class Round:
    """The CPU seconds of one round of beats, made and heard, and of one look at the timers."""

    make_s: float
    hear_s: float
    pulse_s: float


def round_of(node: NodeAtRest) -> Round:
    """Each part finds the processor's caches as other work leaves them in the 50 ms before it."""
    node.now += BEAT_S
    make_s = cold_cpu_s(node.beat)
    heard = list(node.beats_of_peers())
    return Round(make_s, cold_cpu_s(lambda: node.hear(heard)), cold_cpu_s(node.pulse))


def cold_cpu_s(work: Callable[[], object]) -> float:
    bytearray(b"x") * OTHER_WORK_BYTES
    return cpu_s(work)


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def heartbeat_table(everything: Sequence[HeartbeatFigures]) -> Table:
    table = Table(title="heartbeats: of one node, to all others, and to those that share a group", box=SIMPLE_HEAD)
    for column in ("nodes", "partitions", "replicas", "peers", "sharing: mean", "most"):
        table.add_column(column, justify="right")
    for column in ("streams", "connections", "beats/s each way", "KB/s"):
        table.add_column(column, justify="right")
    for each in everything:
        table.add_row(
            f"{each.nodes:,}",
            f"{each.partitions:,}",
            f"{each.replicas:,}",
            f"{each.peers:,}",
            f"{each.peers_sharing_mean:.1f}",
            f"{each.peers_sharing_most:,}",
            f"{STREAMS_PER_PAIR * each.peers:,}",
            f"{CONNECTIONS_PER_PAIR * each.peers:,}",
            f"{each.beats_per_s:,.0f}",
            f"{each.bytes_per_s / 1000:,.1f}",
        )
    return table


def timer_table(everything: Sequence[HeartbeatFigures]) -> Table:
    """A round is made in one turn of the event loop, and so are pulses of a slice."""
    table = Table(title="heartbeats and timers: CPU of one node at rest", box=SIMPLE_HEAD)
    for column in ("nodes", "partitions", "make a round, ms", "hear it", "look at timers"):
        table.add_column(column, justify="right")
    for column in ("beats, % of a core", "gRPC for them", "timers"):
        table.add_column(column, justify="right")
    for each in everything:
        spans = (each.make_round_s, each.hear_round_s, each.pulse_s)
        shares = (each.own_share, each.wire_share, each.pulse_share)
        table.add_row(
            f"{each.nodes:,}",
            f"{each.partitions:,}",
            *(f"{1000 * span:.2f}" for span in spans),
            *(f"{100 * share:.1f}" for share in shares),
        )
    return table
