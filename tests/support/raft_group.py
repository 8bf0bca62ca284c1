"""One group of Raft's cores under virtual time: replicas, disks, beats, and sessions that bring all in order or break.

A seed decides everything. Every node has a clock of its own rate. What must always hold is checked after every event
(raft_witness.py).
"""

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from support.raft_disk import GROUP, Disk, Stored, applied_batch, drop_batch, log_batch
from support.raft_hosting import Hosting
from support.raft_node import Link, Node
from support.raft_witness import Witness

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftMessage
from ringhold.node.consensus.configuration import Configuration, founders
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.messages import GONE, Outbound
from ringhold.node.consensus.states import LogBounds, Writes
from ringhold.node.consensus.support import BEAT_S, RESTART_HOLD_S

PULSE_S = 0.07
TICK_S = 0.001
WEIGHT_MAX = 4
BYTES_MAX = 10_000


class RaftGroup:
    """Nodes n1 … n`size`, all voters unless `voters` are named, and the time that passes for them."""

    def __init__(self, size: int, seed: int = 0, *, voters: Sequence[str] = (), leases: bool = True) -> None:
        self.rng = random.Random(seed)
        self.time = 100.0
        self.leases = leases
        self.bounds = LogBounds()
        self.delay_s = (0.0005, 0.002)
        self.beat_loss = 0.0
        self.nodes: dict[str, Node] = {}
        self.witness = Witness()
        self.hosting = Hosting(self)
        self._links: dict[frozenset[str], Link] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._next_ticket = 0
        names = [f"n{number}" for number in range(1, size + 1)]
        self.founded = founders(voters or names)
        for name in names:
            node = self.add_node(name)
            if name in self.founded.voting_nodes:
                self._found(node)

    # Time

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._events and self._events[0][0] <= end:
            self._run_next()
        self.time = end

    def run_until(self, condition: Callable[[], object], seconds_max: float = 10.0) -> float:
        """Let time pass until the condition holds; how long that took. AssertionError if it takes too long."""
        began = self.time
        while not condition():
            assert self.time < began + seconds_max, f"{condition} does not hold after {seconds_max} s"
            self._run_next()
        return self.time - began

    def _run_next(self) -> None:
        when, _, action, arguments = heapq.heappop(self._events)
        self.time = max(self.time, when)
        action(*arguments)

    def at(self, when: float, action: Callable[..., None], *arguments: object, sequence: int | None = None) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence if sequence is None else sequence, action, arguments))

    def on(self, when: float, node: Node, action: Callable[..., None], *arguments: object) -> None:
        """Run an action of the node then, unless it has crashed; later if it is paused."""
        self.at(when, self._run_on, node, node.life, self._sequence + 1, action, arguments)

    def _run_on(
        self, node: Node, life: int, sequence: int, action: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        if node.life != life or not node.is_up:
            return
        if self.time < node.paused_until:
            self.at(node.paused_until, self._run_on, node, life, sequence, action, arguments, sequence=sequence)
            return
        action(node, *arguments)
        self.after(node)

    # Nodes

    def now(self, node: Node) -> float:
        return node.clock(self.time)

    def add_node(self, name: str, rate: float = 1.0) -> Node:
        node = self.nodes[name] = Node(name, rate=rate, offset=self.rng.uniform(0, 1000))
        self.start(name)
        return node

    def start(self, name: str) -> None:
        node = self.nodes[name]
        assert not node.is_up
        node.begin_life()
        if node.disk is not None:
            self.open(node, self.now(node) + RESTART_HOLD_S)
        self.on(self.time + self.rng.uniform(0, BEAT_S), node, self._beat)
        self.on(self.time + self.rng.uniform(0, PULSE_S), node, self._pulse)
        for other in self.nodes.values():
            if other is not node and other.is_up:
                self._join_later(node.node_id, other.node_id, 0.0)

    def crash(self, name: str, kept: int | None = None) -> None:
        """`kept`: how many batches that were not synced survive; random without."""
        node = self.nodes[name]
        assert node.is_up
        node.is_up = False
        node.close()
        if node.disk is not None:
            node.disk.crash(self.rng.randint(0, node.disk.written) if kept is None else kept)
        for other in self.nodes.values():
            if other is not node:
                self.break_session(name, other.node_id)
                link = self.link(name, other.node_id)
                link.open[name], link.news[name] = False, 0

    def _found(self, node: Node) -> None:
        node.disk = Disk(Stored(0, 0, self.founded))
        self.open(node, 0.0)

    def open(self, node: Node, may_vote_from: float) -> None:
        assert node.disk is not None
        rng = random.Random(self.rng.random())
        recovered = node.disk.recovered()
        node.open(
            Replica(
                GROUP,
                node.node_id,
                recovered,
                node.support,
                rng,
                may_vote_from=may_vote_from,
                leases=self.leases,
                bounds=self.bounds,
            )
        )
        self.witness.opened(node.node_id, recovered.applied_index)

    # Sessions and beats

    def link(self, one: str, other: str) -> Link:
        return self._links.setdefault(frozenset((one, other)), Link())

    def break_session(self, one: str, other: str) -> None:
        """All that is under way is lost; each side hears of it in its own time."""
        link = self.link(one, other)
        if not link.is_joined:
            return
        link.is_joined = False
        link.session += 1
        slowest = 0.0
        for name, peer in ((one, other), (other, one)):
            delay = self.rng.uniform(0, 0.05)
            slowest = max(slowest, delay)
            self._tell(link, self.nodes[name], peer, delay, is_open=False)
        self._join_later(one, other, slowest)

    def _tell(self, link: Link, node: Node, peer: str, delay: float, *, is_open: bool) -> None:
        if node.is_up:
            link.news[node.node_id] = link.news.get(node.node_id, 0) + 1
            self.on(self.time + delay, node, self._session_changed, peer, is_open)

    def _join_later(self, one: str, other: str, delay: float) -> None:
        delay += self.rng.uniform(0.001, 0.1)
        self.at(self.time + delay, self._join, one, other)

    def _join(self, one: str, other: str) -> None:
        link = self.link(one, other)
        nodes = [self.nodes[one], self.nodes[other]]
        if link.is_joined or link.is_blocked or not all(node.is_up for node in nodes):
            return
        if any(link.news.get(name) for name in (one, other)):  # one side has not heard of the end yet
            self._join_later(one, other, 0.05)
            return
        link.is_joined = True
        link.session += 1
        for node, peer in ((nodes[0], other), (nodes[1], one)):
            delay = self.rng.uniform(0, 0.005)
            link.free_at[node.node_id] = self.time + delay
            self._tell(link, node, peer, delay, is_open=True)

    def _session_changed(self, node: Node, peer: str, is_open: bool) -> None:
        link = self.link(node.node_id, peer)
        link.news[node.node_id] -= 1
        link.open[node.node_id] = is_open
        node.support.break_off(peer, self.now(node))
        if node.hosted is not None:
            node.hosted.session_changed(peer, self.now(node))

    def block(self, one: str, other: str) -> None:
        """No session and no beat between the two."""
        self.link(one, other).is_blocked = True
        self.break_session(one, other)

    def unblock(self, one: str, other: str) -> None:
        link = self.link(one, other)
        if link.is_blocked:
            link.is_blocked = False
            self._join_later(one, other, 0.0)

    def isolate(self, name: str) -> None:
        for other in self.nodes:
            if other != name:
                self.block(name, other)

    def heal(self) -> None:
        """End all faults of the network, the nodes and the disks; a pause lasts as long as it was to last."""
        self.beat_loss = 0.0
        for node in self.nodes.values():
            node.sync_s = 0.001
            if not node.is_up:
                self.start(node.node_id)
        for pair in self._links:
            self.unblock(*pair)

    def _beat(self, node: Node) -> None:
        for peer in self.nodes.values():
            if peer is node:
                continue
            beat = node.heart.beat(peer.node_id, self.now(node), reluctant=False)
            copies = 1 if not self.beat_loss else self.rng.choices((0, 1, 2), (self.beat_loss, 1, self.beat_loss))[0]
            for _ in range(copies):
                if peer.is_up and not self.link(node.node_id, peer.node_id).is_blocked:
                    late = self.rng.uniform(0, 0.4) if self.rng.random() < self.beat_loss else 0.0
                    when = self.time + self.rng.uniform(*self.delay_s) + late
                    self.on(when, peer, self._beat_received, node.node_id, beat)
        self.on(self.time + BEAT_S / node.rate, node, self._beat)

    def _beat_received(self, node: Node, source: str, beat: Beat) -> None:
        node.heart.hear(source, beat, self.now(node))
        if beat.differs and node.hosted is not None and node.hosted.office is not None:
            node.hosted.office.wake(source, self.now(node))

    # Messages

    def post(self, node: Node, messages: Iterable[Outbound]) -> None:
        for target, message in messages:
            is_gone = message.kind != GONE and message.source_replica <= node.buried
            assert not is_gone, f"replica {message.source_replica} of {node.node_id} is gone and speaks"
            link = self.link(node.node_id, target)
            if not link.open.get(node.node_id) or not link.is_joined:
                continue
            when = max(link.free_at[target], self.time + self.rng.uniform(*self.delay_s))
            link.free_at[target] = when
            heard = node.support.heard_beat(target)
            receiver = self.nodes[target]
            self.on(when, receiver, self._receive, node.node_id, message, heard, link.session)

    def _receive(self, node: Node, source: str, message: RaftMessage, heard: int, session: int) -> None:
        link = self.link(node.node_id, source)
        if link.session != session or not link.open.get(node.node_id):
            return
        replica = self.hosting.addressed(node, source, message)
        if replica is None:
            return
        if message.kind == GONE:
            replica.member_gone(source, message, self.now(node))
        else:
            replica.step(source, message, self.now(node), node.support.sent_at(source, heard))

    # What a shell does

    def _pulse(self, node: Node) -> None:
        if node.hosted is not None:
            node.hosted.pulse(self.now(node))
            self._hand_over(node)
        self.on(self.time + PULSE_S / node.rate, node, self._pulse)

    def _hand_over(self, node: Node) -> None:
        """A leader whose rows are bad does not stay, if another can lead."""
        replica, office = node.replica, node.replica.office
        if office is None or replica.is_healthy or office.handover is not None:
            return
        able = [name for name in replica.configuration.voting_nodes if office.can_lead(name)]
        if able and office.match_of(able[0]) >= replica.commit_index:
            replica.transfer(able[0], self.now(node))

    def after(self, node: Node) -> None:
        """Whatever was done to a replica: send what may leave, note what became of commands and reads, check."""
        replica = node.hosted
        if replica is None:
            return
        self.send_off(node)
        if replica.offer is not None:
            leader, replica.offer = replica.offer, None
            self.hosting.offered(node, leader)
        if (replica.has_work or replica.committed_left) and not (node.is_ticking or node.is_syncing):
            node.is_ticking = True
            self.on(self.time + self.rng.uniform(0, 2 * TICK_S), node, self._tick, replica)
        elif node.is_syncing and replica.commit_index > replica.applied_index and self.rng.random() < 0.2:
            self.apply(node)  # a shell may apply while a sync is under way
        self.witness.check(self, node)

    def send_off(self, node: Node) -> None:
        """Send what may leave at once, and note what became of commands and reads."""
        outbox, node.replica.outbox = node.replica.outbox, []
        self.post(node, outbox)
        self._note_outcomes(node, node.replica)

    def _note_outcomes(self, node: Node, replica: Replica[int]) -> None:
        for outcome, tickets in (("refused", replica.proposals.refused), ("lost", replica.proposals.lost)):
            for ticket in tickets:
                self.witness.resolved(ticket, outcome)
            tickets.clear()
        for ticket in replica.confirmed:
            self.witness.read_released(ticket, replica)
        replica.confirmed = []
        replica.unconfirmed = []

    def _tick(self, node: Node, replica: Replica[int]) -> None:
        node.is_ticking = False
        if node.hosted is not replica:
            return
        assert node.disk is not None
        writes = replica.take_writes(self.now(node), WEIGHT_MAX, BYTES_MAX)
        if writes is None:
            self.apply(node)
            return
        self.witness.wrote(node.node_id, replica, writes)
        node.disk.write(log_batch(writes))
        node.is_syncing = True
        delay = self.rng.uniform(0.2, 2) * node.sync_s
        self.on(self.time + delay, node, self._synced, replica, writes, node.disk.written)

    def _synced(self, node: Node, replica: Replica[int], writes: Writes, count: int) -> None:
        if node.hosted is not replica:
            return
        assert node.disk is not None
        node.disk.sync(count)
        node.is_syncing = False
        replica.persisted(writes.mark, self.now(node))
        self.post(node, writes.messages)
        self.apply(node)

    def apply(self, node: Node) -> None:
        replica, disk = node.replica, node.disk
        assert disk is not None
        is_removed = False
        for entry, tickets in ((each.entry, each.tickets) for each in replica.take_committed()):
            disk.write(applied_batch(entry))
            for ticket in tickets:
                self.witness.answered(ticket, entry, self.time)
            if entry.content.HasField("configuration") and entry.index > replica.number:
                configuration = Configuration.decode(entry.content.configuration)
                is_removed = configuration.numbers.get(node.node_id) != replica.number
            replica.applied(entry.index, self.now(node))
        if is_removed:
            self.hosting.bury(node)

    def drop_log(self, node: Node) -> None:
        """Delete what nobody needs of a node's log."""
        replica = node.replica
        assert node.disk is not None
        if replica.droppable() > replica.log.first_index:
            replica.log.drop(replica.droppable())
        if replica.log.has_dropped:
            node.disk.write(drop_batch(replica.log.take_dropped(1_000)))
        kept = min(replica.applied_index, replica.log.last_index) - replica.log.first_index
        assert kept <= self.bounds.stretch * self.bounds.entries_max, f"{node.node_id} keeps {kept} applied entries"

    # What users do

    @property
    def leader(self) -> Node:
        """The leader of the latest term that has one."""
        return max(self.leaders, key=lambda node: node.replica.term)

    @property
    def leaders(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.hosted is not None and node.hosted.leads]

    def propose(self, node: Node) -> int:
        """Put a command to a leader; its ticket, which is also what it says."""
        self._next_ticket += 1
        ticket = self._next_ticket
        node.replica.propose(ticket.to_bytes(4, "big"), ticket)
        self.after(node)
        return ticket

    def bound_logs(self, bounds: LogBounds) -> None:
        """Keep so much of the log for members that are behind."""
        self.bounds = bounds
        for node in self.nodes.values():
            if node.hosted is not None:
                node.hosted.bounds = bounds

    def read(self, node: Node) -> int:
        """Read at a node, by its lease or by ReadIndex; the witness checks what it sees."""
        self._next_ticket += 1
        ticket = self._next_ticket
        self.witness.read_began(ticket)
        if node.replica.may_read(self.now(node)):
            self.witness.read_released(ticket, node.replica)
        else:
            node.replica.confirm(ticket, self.now(node))
            self.after(node)
        return ticket

    def read_stale(self, node: Node) -> None:
        as_of = node.replica.freshness.as_of(node.replica.applied_index)
        if as_of is not None:
            self.witness.read_stale(node.time(as_of), node.replica)

    def reconfigure(self, node: Node, configuration: Configuration) -> bool:
        replica = node.replica
        done = replica.propose_configuration(configuration, replica.configuration_index, self.now(node))
        self.after(node)
        return done

    def transfer(self, node: Node, successor: str) -> None:
        node.replica.transfer(successor, self.now(node))
        self.after(node)

    def campaign(self, name: str) -> None:
        node = self.nodes[name]
        node.replica.campaign(self.now(node))
        self.after(node)

    def has_converged(self) -> bool:
        """All members of the newest leader's configuration have applied its log, an entry of its term included."""
        if not self.leaders:
            return False
        node = self.leader
        replica = node.replica
        return replica.has_applied_own_term and all(
            self.hosting.is_good(member) and self._has_all(self.nodes[name], replica.log.last_index)
            for name, member in replica.configuration.members.items()
        )

    def _has_all(self, node: Node, index: int) -> bool:
        return node.hosted is not None and node.hosted.is_healthy and node.hosted.applied_index == index
