"""Which endpoint is asked, in which order: the client's picture of the cluster, shared by all its calls.

It is fed by answers and failures, tells the owner of a key when it knows it, and otherwise spreads the load. A wrong
picture costs a detour, never a wrong answer: every node is a gateway.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf, ldexp

from ...ring.hashing import partition_of
from ..errors import InDoubt, RingholdError, Unavailable
from ..proto.ringhold.v1 import cluster_pb2
from ..proto.ringhold.v1.kv_pb2 import Header
from .config import DOUBLINGS_MAX, ClientConfig

GONE = (cluster_pb2.LIVENESS_DEAD, cluster_pb2.LIVENESS_LEFT)
SILENT = (*GONE, cluster_pb2.LIVENESS_SUSPECT)


@dataclass(slots=True)
class Avoidance:
    """An endpoint that failed: `failures` times in a row; it is tried last `until` then."""

    failures: int = 0
    until: float = -inf


@dataclass(frozen=True, slots=True)
class LogTime:
    """A log time of a group, in milliseconds, and when it was learnt."""

    value_ms: int
    learnt_at: float


class Routing:
    """The endpoints and their health, the leaders, and the newest log time of each group."""

    def __init__(self, endpoints: Sequence[str], config: ClientConfig, rng: random.Random) -> None:
        self._endpoints = tuple(dict.fromkeys(endpoints))
        self._config = config
        self._rng = rng
        self._addresses: Sequence[str] = self._endpoints
        self._avoided: dict[str, Avoidance] = {}
        self._silent: set[str] = set()
        self._leaders: list[str | None] = []
        self._replicas: list[Sequence[str]] = []
        self._log_times: dict[int, LogTime] = {}
        self._struggling: set[int] = set()
        self._cluster_id = ""
        self._epoch = 0
        self._outdated = True
        self._fetched_at = 0.0
        self._asked_at: float | None = None

    @property
    def partitions(self) -> int:
        """The number of partitions; 0 while it is unknown."""
        return len(self._leaders)

    def partition_of(self, key: bytes) -> int | None:
        """The partition of a key; None while their number is unknown."""
        return partition_of(key, len(self._leaders)) if self._leaders else None

    def choose(self, partition: int | None, tried: Collection[str], now: float) -> str:
        """The endpoint to ask next: the leader of the partition if it is known and well, else any, the well ones first.

        Those in `tried` come last.
        """
        leader = None if partition is None else self._leader_of(partition)
        if leader is not None and leader not in tried and not self._is_avoided(leader, now):
            return leader
        untried = [address for address in self._addresses if address not in tried] or self._addresses
        well = [address for address in untried if not self._is_avoided(address, now)]
        return self._rng.choice(well) if well else min(untried, key=self._avoided_until)

    def choose_replica(self, partition: int | None, tried: Collection[str], now: float) -> str:
        """The endpoint to ask for what any replica has: the first one that is well and untried, else as `choose`."""
        for replica in self._replicas_of(partition):
            if replica not in tried and not self._is_avoided(replica, now):
                return replica
        return self.choose(partition, tried, now)

    def is_prompt(self, partition: int | None, address: str) -> bool:
        """Whether the endpoint leads the partition, as far as is known, and its group has not just failed to answer."""
        return partition is not None and partition not in self._struggling and address == self._leader_of(partition)

    def has_replica(self, partition: int | None, address: str) -> bool:
        """Whether the endpoint has, as far as is known, a replica of the partition."""
        return address in self._replicas_of(partition)

    def has_untried(self, tried: Collection[str]) -> bool:
        """Whether there is an endpoint that is not in `tried`."""
        return any(address not in tried for address in self._addresses)

    def claim_refresh(self, now: float) -> bool:
        """Whether the caller should ask for the topology now; then nobody else should for a while."""
        wanted = self._outdated or now - self._fetched_at > self._config.topology_age_s_max
        if not wanted or not self._may_ask(now):
            return False
        self._asked_at = now
        return True

    def adopt(self, topology: cluster_pb2.TopologyResponse, now: float) -> None:
        """Take a topology over, unless a newer one of the same cluster is known."""
        if topology.cluster_id == self._cluster_id and topology.epoch < self._epoch:
            return
        if topology.cluster_id != self._cluster_id:
            self._log_times.clear()
            self._struggling.clear()
        self._cluster_id, self._epoch = topology.cluster_id, topology.epoch
        self._fetched_at, self._outdated = now, False
        served = {at: node.grpc_address for at, node in enumerate(topology.nodes) if _serves(node)}
        self._addresses = tuple(dict.fromkeys((*self._endpoints, *served.values())))
        self._avoided = {at: avoidance for at, avoidance in self._avoided.items() if at in self._addresses}
        self._silent = {node.grpc_address for node in topology.nodes if node.liveness in SILENT}
        self._leaders = [served.get(p.leader) if p.HasField("leader") else None for p in topology.partitions]
        self._replicas = [[served[at] for at in p.replicas if at in served] for p in topology.partitions]
        for number, partition in enumerate(topology.partitions):
            self._learn_rumour(number, partition.log_time_ms, now)

    def heard(self, header: Header, now: float) -> None:
        """Take in what an answer says of its partition's group and of the topology."""
        self.heard_epoch(header.topology_epoch)
        if self._struggling and not header.stale:
            self._struggling.discard(header.partition)
        self.heard_log_time(header.partition, header.log_time_ms, now)

    def heard_epoch(self, epoch: int) -> None:
        """Take in which epoch of the topology a node has."""
        if epoch > self._epoch:
            self._outdated = True

    def heard_log_time(self, partition: int, value_ms: int, now: float) -> None:
        """Take in a log time that the group's leader gave."""
        known = self.log_time_ms(partition, now)
        if value_ms and partition < self.partitions and (known is None or value_ms >= known):
            self._log_times[partition] = LogTime(value_ms, now)

    def heard_failure(self, partition: int, error: RingholdError) -> None:
        """Take in why the partition's group, asked through an endpoint that is well, did not do what it was asked."""
        if isinstance(error, Unavailable | InDoubt):
            self._struggling.add(partition)
        else:
            self._struggling.discard(partition)

    def log_time_ms(self, partition: int | None, now: float) -> int | None:
        """The newest log time of a group, fit for an anchor; None if none is known that is young enough."""
        known = None if partition is None else self._log_times.get(partition)
        if known is None or now - known.learnt_at > self._config.anchor_age_s_max:
            return None
        return known.value_ms

    def answered(self, address: str) -> None:
        """The endpoint is well, whatever is said of it."""
        self._avoided.pop(address, None)
        self._silent.discard(address)

    def failed(self, address: str, now: float) -> None:
        """The endpoint did not serve: try it last for a while, and find out who leads instead.

        It is avoided for longer at each failure in a row; calls that were under way together fail together, once.
        """
        avoidance = self._avoided.setdefault(address, Avoidance())
        if now >= avoidance.until:
            avoidance.failures += 1
        doubled = ldexp(self._config.avoidance_s_min, min(avoidance.failures - 1, DOUBLINGS_MAX))
        longest = min(self._config.avoidance_s_max, doubled)
        avoidance.until = now + longest * self._rng.uniform(0.5, 1.0)
        self._outdated = True

    def _may_ask(self, now: float) -> bool:
        return self._asked_at is None or now - self._asked_at >= self._config.refresh_interval_s_min

    def _leader_of(self, partition: int) -> str | None:
        return self._leaders[partition] if partition < len(self._leaders) else None

    def _replicas_of(self, partition: int | None) -> Sequence[str]:
        return self._replicas[partition] if partition is not None and partition < len(self._replicas) else ()

    def _is_avoided(self, address: str, now: float) -> bool:
        avoidance = self._avoided.get(address)
        return address in self._silent or (avoidance is not None and now < avoidance.until)

    def _avoided_until(self, address: str) -> float:
        avoidance = self._avoided.get(address)
        return -inf if avoidance is None else avoidance.until

    def _learn_rumour(self, partition: int, value_ms: int, now: float) -> None:
        # A gateway that is not the leader may say the same old time for ever: only a newer one counts as learnt now.
        known = self._log_times.get(partition)
        if value_ms and (known is None or value_ms > known.value_ms):
            self._log_times[partition] = LogTime(value_ms, now)


def _serves(node: cluster_pb2.Node) -> bool:
    return bool(node.grpc_address) and node.state != cluster_pb2.NODE_STATE_REMOVED and node.liveness not in GONE
