"""One node's consensus at rest: the product's replicas of all its groups, led or following as placement says.

The other nodes are messages: what they would have answered while this node was elected, and the beats that they send.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftKind, RaftMessage
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import HardState
from ringhold.node.consensus.configuration import founders
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.handover import Handovers
from ringhold.node.consensus.heart import Heart, digest_of
from ringhold.node.consensus.log import Load, Log
from ringhold.node.consensus.messages import APPEND, APPENDED, PRE_VOTED, VOTED
from ringhold.node.consensus.states import Recovered
from ringhold.node.consensus.support import BEAT_S, Support
from ringhold.ring.topology import Targets, group_of_partition

TERM = 1
EPOCH = 1
GENERATION = 1
STARTED_AT = 1_000.0
ENTRIES_PER_WRITE = 100
BYTES_PER_WRITE = 10_000
DAYS_UP = 30
BEATS_SENT = round(DAYS_UP * 86_400 / BEAT_S)


@dataclass(slots=True)
class NodeAtRest:
    """Node `node_id`, which beats with `peers`. Its clock is `now`."""

    node_id: str
    peers: Sequence[str]
    heart: Heart
    handovers: Handovers
    replicas: Sequence[Replica[object]]
    now: float = STARTED_AT
    _digests: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(node_id: str, peers: Iterable[str], targets: Targets) -> "NodeAtRest":
        """Every group of the node has a leader whom all follow, and nothing is left to be told."""
        support = Support(GENERATION)
        replicas: list[Replica[object]] = []
        handovers = Handovers(node_id, support)
        handovers.preferred = {group_of_partition(number): holders[0] for number, holders in enumerate(targets)}
        node = NodeAtRest(node_id, tuple(peers), Heart(support, lambda: replicas), handovers, replicas)
        node.hear(node.beats_of_peers())
        for partition, holders in enumerate(targets):
            if node_id in holders:
                replica = new_replica(group_of_partition(partition), node_id, holders, support)
                settle_in_office(replica, holders, node.now)
                replicas.append(replica)
        led_by: dict[str, list[Replica[object]]] = {}
        for replica in replicas:
            led_by.setdefault(replica.leader or "", []).append(replica)
        node._digests = {peer: digest_of(led) for peer, led in led_by.items()}
        node.hear(node.beats_of_peers())
        return node

    def beat(self) -> list[bytes]:
        """A round of beats, one for each peer, as bytes."""
        return [self.heart.beat(peer, self.now, reluctant=False).SerializeToString() for peer in self.peers]

    def hear(self, beats: Iterable[tuple[str, bytes]]) -> None:
        """Take in a round of beats, by peer."""
        for peer, beat in beats:
            self.heart.hear(peer, Beat.FromString(beat), self.now)

    def beats_of_peers(self) -> Iterator[tuple[str, bytes]]:
        """A round of beats of all peers, each of whom has heard this node's newest, which is made for that."""
        for peer, sent in zip(self.peers, self.beat(), strict=True):
            own = Beat.FromString(sent)
            beat = Beat(
                generation=GENERATION,
                number=own.number,
                heard=own.number,
                heard_generation=GENERATION,
                epoch=EPOCH,
                digest=self._digests.get(peer, 0),
            )
            yield peer, beat.SerializeToString()

    def pulse(self) -> None:
        """One look at every replica: at its timers, at what of its log may go, and at who should lead."""
        for replica in self.replicas:
            replica.pulse(self.now)
            replica.outbox.clear()
            assert not replica.log.has_dropped, "nothing is written at rest"
            replica.droppable()
        self.handovers.begin(self.replicas, self.now)


def new_replica(group: int, node_id: str, holders: Sequence[str], support: Support) -> Replica[object]:
    recovered = Recovered(
        number=0,
        hard_state=HardState(term=0, voted_for=""),
        applied_index=0,
        log_time_ms=0,
        log=Log([(0, 0)], 0, [], Load(lambda first, last: [])),
        configurations=[(0, founders(holders))],
    )
    return Replica(group, node_id, recovered, support, random.Random(group), may_vote_from=0.0)


def settle_in_office(replica: Replica[object], holders: Sequence[str], now: float) -> None:
    """The preferred leader leads: this node, by an election, or another, who tells of it."""
    leader, *_ = holders
    if leader != replica.node_id:
        hear_from(replica, leader, APPEND, TERM, now)
        store(replica, now)
        return
    others = [node for node in holders if node != replica.node_id]
    replica.campaign(now)
    store(replica, now)
    for kind in (PRE_VOTED, VOTED):
        for node in others:
            hear_from(replica, node, kind, TERM, now)
        store(replica, now)
    assert replica.leads or not others, "two others have voted for it"
    for node in others:
        hear_from(replica, node, APPENDED, TERM, now, index=replica.log.last_index)
    store(replica, now)


def hear_from(replica: Replica[object], node: str, kind: RaftKind, term: int, now: float, index: int = 0) -> None:
    message = RaftMessage(
        kind=kind,
        group=replica.group,
        term=term,
        index=index,
        epoch=EPOCH,
        source_replica=replica.configuration.numbers[node],
        target_replica=replica.number,
    )
    replica.step(node, message, now)


def store(replica: Replica[object], now: float) -> None:
    """Write, sync and apply all that there is; what it sends is answered elsewhere."""
    while replica.has_work or replica.committed_left:
        writes = replica.take_writes(now, ENTRIES_PER_WRITE, BYTES_PER_WRITE)
        if writes is not None:
            replica.persisted(writes.mark, now)
        for committed in replica.take_committed():
            replica.applied(committed.entry.index, now)
        replica.outbox.clear()


def beat_bytes() -> int:
    """Of a beat between nodes that have been up for DAYS_UP days, with all its fields."""
    beat = Beat(
        generation=GENERATION,
        number=BEATS_SENT,
        heard=BEATS_SENT,
        heard_generation=GENERATION,
        epoch=EPOCH,
        digest=2**63,
        engine_id=2**63,
        synced_batch=BEATS_SENT,
    )
    return len(beat.SerializeToString())
