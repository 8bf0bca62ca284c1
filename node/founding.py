"""The loop around formation: asks the others, founds or joins, and waits until a majority has adopted the cluster."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ..gossip.ports import Exchange, ExchangeFailed, OtherCluster
from ..ring.placement import found
from ..ring.topology import InvalidTopology, NodeRecord, NodeState, Topology
from .clock import Clock
from .formation import Decision, FormationState, Found, Join, MalformedState, Wait, decide, decide_return
from .topology_store import TopologyStore

ASK_TIMEOUT_S = 0.5
ASK_PAUSE_S_MIN = 0.03
ASK_PAUSE_S_MAX = 1.0
SEED_CHECK_PAUSE_S_MAX = 30.0
ASKED_MAX = 1_000

FORMATION_ROUTE = "formation"
TOPOLOGY_ROUTE = "topology"
ASK_FOR_NEWEST = b""
ASK_FOR_FOUNDING = b"founding"
"""The body of a request for a topology: the newest that a node has, or epoch 1."""


class EventLog(Protocol):
    """Where a node tells what it does."""

    def __call__(self, event: str, /, **figures: object) -> None:
        """Record an event with its figures."""


class Founding:
    """Brings this node from whatever its disk holds to a member of a formed cluster."""

    def __init__(
        self,
        own: Callable[[], FormationState],
        seeds: tuple[str, ...],
        addresses: Callable[[], Iterable[str]],
        exchange: Exchange,
        store: TopologyStore,
        clock: Clock,
        rng: random.Random,
        log: EventLog,
    ) -> None:
        self._own = own
        self._seeds = seeds
        self._addresses = addresses
        self._exchange = exchange
        self._store = store
        self._clock = clock
        self._rng = rng
        self._log = log
        self.waiting_for = ""
        self.heard_removed = False
        """Whether its cluster has said, while this node could adopt nothing, that it has removed this node."""
        self._foreign: dict[str, None] = {}

    async def check_seeds(self) -> None:
        """Tell of seeds that belong to another cluster: of a wrong configuration, or of an address used again.

        Returns when every seed has answered once.
        """
        silent = list(self._seeds)
        pause_s = ASK_PAUSE_S_MIN
        while silent:
            answered = await self._ask(silent)
            silent = [seed for seed in silent if seed not in answered and seed not in self._foreign]
            await self._clock.sleep(pause_s)
            pause_s = min(SEED_CHECK_PAUSE_S_MAX, pause_s * 2)

    async def run(self) -> None:
        """Return when this node is in the topology, and a majority of the founders has adopted it."""
        pause_s = ASK_PAUSE_S_MIN
        while not self._is_member():
            await self._try_to_become_one()
            if not self._is_member():
                await self._clock.sleep(pause_s)
                pause_s = min(ASK_PAUSE_S_MAX, pause_s * 1.3)
        pause_s = ASK_PAUSE_S_MIN
        while not self._store.formed and not await self._has_formed():
            await self._clock.sleep(pause_s)
            pause_s = min(ASK_PAUSE_S_MAX, pause_s * 1.3)
        self._say("")

    def _is_member(self) -> bool:
        topology = self._store.current
        node = topology.node(self._own().node_id) if topology else None
        return node is not None and node.state is not NodeState.REMOVED

    async def _try_to_become_one(self) -> None:
        own = self._own()
        if self._store.current is not None and self._is_removed_from(self._store.current):
            self._say(obstacle_to_joining(own, self._store.current))
            self.heard_removed = True
            return
        if not self._seeds and own.expect == 1 and self._store.reborn is None:
            await self._found([own])
            return
        match self._decide(await self._ask([*self._seeds, *self._addresses()])):
            case Found(nodes):
                await self._found(nodes)
            case Join(address):
                await self._join(address)
            case Wait(reason):
                self._say(reason)

    def _decide(self, answers: Mapping[str, FormationState]) -> Decision:
        if self._store.reborn is not None:
            return decide_return(self._store.reborn.cluster_id, answers)
        return decide(self._own(), self._seeds[0] if self._seeds else "", answers)

    async def _found(self, nodes: Iterable[FormationState]) -> None:
        own = self._own()
        cluster_id = self._rng.randbytes(8).hex()
        try:
            records = [node_record(state) for state in nodes]
            topology = found(own.cluster, cluster_id, own.partitions, own.replication_factor, records)
        except InvalidTopology as error:  # of what another node says of itself
            self._say(f"these nodes can't found a cluster: {error}")
            return
        await self._store.adopt(topology)
        self._log("founded", cluster=own.cluster, cluster_id=cluster_id, nodes=len(topology.nodes))

    async def _join(self, address: str) -> None:
        """Adopt the cluster of the node at `address`, epoch 1 first, if it has taken this node in."""
        founding = await self._fetch(address, ASK_FOR_FOUNDING)
        topology = await self.fetch(address)
        if founding is None or topology is None or (founding.epoch, founding.cluster_id) != (1, topology.cluster_id):
            return
        obstacle = self._obstacle(topology)
        if obstacle:
            self._say(obstacle)
            self.heard_removed |= self._is_removed_from(topology)
        else:
            await self._store.join(founding, topology)
            groups = len(self._store.founded_here)
            self._log("adopted", cluster_id=topology.cluster_id, epoch=topology.epoch, founded_groups=groups)

    def _obstacle(self, topology: Topology) -> str:
        reborn = self._store.reborn
        if reborn is not None and topology.cluster_id != reborn.cluster_id:
            return f"the cluster with id {topology.cluster_id} is not that of this node, which is {reborn.cluster_id}"
        return obstacle_to_joining(self._own(), topology)

    def _is_removed_from(self, topology: Topology) -> bool:
        own, reborn = self._own(), self._store.reborn
        node = topology.node(own.node_id)
        is_own = topology.cluster_name == own.cluster and (not reborn or topology.cluster_id == reborn.cluster_id)
        return is_own and node is not None and node.state is NodeState.REMOVED

    async def fetch(self, address: str) -> Topology | None:
        """The topology of the node at `address`; None if it gives none."""
        return await self._fetch(address, ASK_FOR_NEWEST)

    async def _fetch(self, address: str, what: bytes) -> Topology | None:
        try:
            return Topology.from_json(await self._exchange.exchange(address, TOPOLOGY_ROUTE, what, ASK_TIMEOUT_S))
        except (ExchangeFailed, InvalidTopology):
            return None

    def answer_topology(self, body: bytes) -> bytes:
        """What a node answers on TOPOLOGY_ROUTE: the topology asked for, `{}` if it has none."""
        topology = self._store.founding if body == ASK_FOR_FOUNDING else self._store.current
        return topology.to_json() if topology else b"{}"

    async def _has_formed(self) -> bool:
        """Whether a majority of the founders has adopted; then this node remembers it.

        A later epoch is proof, for only a system group that served has committed it; founders may be gone by then.
        """
        if self._store.known.epoch == 1 and not await self._majority_has_adopted():
            return False
        await self._store.mark_formed()
        return True

    async def _majority_has_adopted(self) -> bool:
        topology = self._store.known
        others = [node for node in topology.nodes if node.id != self._own().node_id]
        answers = await self._ask([node.http_address for node in others])
        adopted = {state.node_id for state in answers.values() if state.cluster_id == topology.cluster_id}
        adopted.add(self._own().node_id)
        if len(adopted) * 2 > len(topology.nodes):
            return True
        missing = ", ".join(sorted(node.name for node in others if node.id not in adopted))
        self._say(f"most nodes have not adopted the cluster yet; missing: {missing}")
        return False

    async def _ask(self, addresses: Iterable[str]) -> dict[str, FormationState]:
        """What the nodes at these addresses say of themselves; the silent ones are left out."""
        asked = list(dict.fromkeys(addresses))[:ASKED_MAX]
        states = await asyncio.gather(*(self._ask_one(address) for address in asked))
        return {address: state for address, state in zip(asked, states, strict=True) if state is not None}

    async def _ask_one(self, address: str) -> FormationState | None:
        own = self._own()
        if address == own.http_address:
            return own
        try:
            body = await self._exchange.exchange(address, FORMATION_ROUTE, b"", ASK_TIMEOUT_S)
            return FormationState.decode(body)
        except OtherCluster as error:
            if address not in self._foreign:
                self._foreign[address] = None
                self._log("other cluster", address=address, reason=str(error))
            return None
        except (ExchangeFailed, MalformedState):
            return None

    def _say(self, reason: str) -> None:
        if reason and reason != self.waiting_for:
            self._log("waiting", reason=reason)
        self.waiting_for = reason


def obstacle_to_joining(own: FormationState, topology: Topology) -> str:
    """Why a node can't adopt a cluster's topology, as a sentence; empty if it can."""
    name = topology.cluster_name
    if name != own.cluster:
        return f"the seeds belong to cluster {name}, this node to {own.cluster}"
    node = topology.node(own.node_id)
    if node is None:
        namesake = topology.node_named(own.name)
        taken = f"; its name {own.name} belongs to another node, {namesake.id}" if namesake else ""
        return f"the cluster {name} exists and has not admitted this node yet{taken}"
    return f"the cluster {name} has removed this node" if node.state is NodeState.REMOVED else ""


def node_record(state: FormationState) -> NodeRecord:
    """A founder as the topology will list it."""
    return NodeRecord(
        id=state.node_id,
        name=state.name,
        grpc_address=state.grpc_address,
        http_address=state.http_address,
        host=state.host,
        zone=state.zone,
        weight=state.weight,
        state=NodeState.NORMAL,
    )
