"""The metrics of a node, read from its parts when they are scraped: nothing is counted twice."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..clock import Clock
from ..node import Node
from ..replica_record import DAMAGED, GONE, INSTALLING
from ..storage.engine import Engine
from .calls import CallCounters

STATUS_NAMES: Mapping[int, str] = {DAMAGED: "damaged", INSTALLING: "installing", GONE: "gone"}


class NodeCollector(Collector):
    """What /metrics shows."""

    def __init__(self, node: Node, engine: Engine, calls: CallCounters, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._engine = engine
        self._calls = calls

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._groups()
        yield from self._gossip()
        yield from self._storage()

    def _requests(self) -> Iterable[Metric]:
        finished = CounterMetricFamily(
            "ringhold_requests", "Finished calls by method and reason.", labels=["method", "reason"]
        )
        for (method, reason), count in self._calls.finished.items():
            finished.add_metric([method, reason], count)
        yield finished
        yield gauge("ringhold_requests_in_flight", "Calls that are being answered.", self._calls.in_flight)
        waiting = self._node.peering.requests.requests_waiting
        yield gauge("ringhold_peer_requests_waiting", "Requests to other nodes without an answer.", waiting)

    def _groups(self) -> Iterable[Metric]:
        described = self._node.describe()
        led = sum(1 for group in described.led if group.group)
        yield gauge("ringhold_ready", "1 if this node takes requests.", int(self._node.ready))
        yield gauge("ringhold_topology_epoch", "Epoch of the topology.", described.topology_epoch)
        yield gauge("ringhold_partitions_led", "Partitions whose leader is here.", led)
        yield gauge("ringhold_keys", "Records of the partitions led.", described.keys)
        yield gauge("ringhold_record_bytes", "Bytes of keys, values and index entries led.", described.bytes)
        waiting = self._node.groups.commands_waiting
        yield gauge("ringhold_commands_waiting", "Commands without an outcome.", waiting)
        size = self._node.groups.bytes_waiting
        yield from self._replication()
        yield gauge("ringhold_command_bytes_waiting", "Bytes of the commands without an outcome.", size)

    def _replication(self) -> Iterable[Metric]:
        groups = self._node.groups
        yield gauge("ringhold_replicas", "Groups with a replica here.", len(groups.hosted))
        yield gauge("ringhold_leaderless", "Replicas here that know of no leader.", groups.leaderless)
        yield gauge("ringhold_log_entries", "Entries of the longest log here.", groups.longest_log)
        yield gauge("ringhold_log_bytes", "Bytes of all log entries kept here.", groups.log_bytes)
        yield from self._snapshots()
        yield from self._sessions()
        waiting = self._node.peering.raft.bytes_waiting
        yield gauge("ringhold_raft_bytes_waiting", "Consensus messages to be sent.", waiting)

    def _sessions(self) -> Iterable[Metric]:
        """By what the sessions with other nodes carry."""
        frames = CounterMetricFamily("ringhold_frames_sent", "Frames sent to other nodes.", labels=["of"])
        given_up = CounterMetricFamily(
            "ringhold_sessions_given_up", "Sessions ended for peers too slow.", labels=["of"]
        )
        peering = self._node.peering
        for of, channels in (("requests", peering.requests.channels), ("consensus", peering.raft.channels)):
            frames.add_metric([of], channels.frames_sent)
            given_up.add_metric([of], channels.given_up)
        yield from (frames, given_up)

    def _snapshots(self) -> Iterable[Metric]:
        """Whole copies of groups, on their way to others and from others."""
        source, installer = self._node.snapshots, self._node.installer
        counts = installer.counts
        yield gauge("ringhold_snapshots_sending", "Snapshots on their way from here.", source.running)
        yield counter("ringhold_snapshot_bytes_sent", "Bytes of snapshots sent.", source.bytes_sent)
        yield gauge("ringhold_snapshots_installing", "Snapshots on their way to here.", len(counts.running))
        yield gauge("ringhold_snapshots_waiting", "Groups that wait for their turn to install one.", installer.waiting)
        yield counter("ringhold_snapshots_installed", "Snapshots installed.", counts.done)
        yield counter("ringhold_snapshots_given_up", "Snapshots not installed, or not to the end.", counts.given_up)
        yield counter("ringhold_snapshot_bytes_received", "Bytes of snapshots received.", counts.bytes_received)
        yield from self._pace()

    def _pace(self) -> Iterable[Metric]:
        """What whole copies leave to commands, and why."""
        now, foreground = self._clock.now(), self._node.groups.foreground
        factor = self._node.pace.factor(now)
        yield gauge("ringhold_snapshot_pace", "Share of the snapshots' limits that they may use now.", factor)
        p99 = "99 % of recent commands had an outcome within this; 0: too few."
        yield gauge("ringhold_command_seconds_p99", p99, foreground.p99_s(now) or 0)
        at_rest = "The same while nothing was copied; 0: too few."
        yield gauge("ringhold_command_seconds_p99_at_rest", at_rest, foreground.p99_at_rest_s or 0)

    def _gossip(self) -> Iterable[Metric]:
        members = GaugeMetricFamily("ringhold_members", "Members by state, this node too.", labels=["state"])
        counts: dict[str, int] = {}
        for member in self._node.gossip.members():
            counts[member.state.name] = counts.get(member.state.name, 0) + 1
        for state, count in sorted(counts.items()):
            members.add_metric([state], count)
        yield members
        counters = self._node.gossip.counters
        yield counter("ringhold_gossip_exchanges", "Gossip requests sent.", counters.exchanges_sent)
        yield counter("ringhold_gossip_exchanges_lost", "Gossip requests without answer.", counters.exchanges_lost)
        over = counters.exchanges_refused
        yield counter("ringhold_gossip_exchanges_refused", "Gossip requests over the limit.", over)
        refused = self._node.gossip.facts_refused
        yield counter("ringhold_gossip_facts_refused", "Facts about members over the limit.", refused)
        yield counter("ringhold_gossip_malformed", "Malformed gossip requests refused.", counters.requests_malformed)
        yield gauge("ringhold_health_score", "0 if this node is well (Lifeguard).", self._node.gossip.health_score)

    def _storage(self) -> Iterable[Metric]:
        stats = self._engine.stats()
        yield from self._space()
        yield from self._syncs()
        yield from self._health()
        yield gauge("ringhold_disk_bytes", "Bytes of the engine's files.", stats.disk_bytes)
        yield counter("ringhold_batches_written", "Atomic batches written.", stats.batches_written)
        yield counter("ringhold_batches_synced", "Batches made durable.", stats.batches_synced)

    def _space(self) -> Iterable[Metric]:
        reserve = self._node.space.reserve
        yield gauge("ringhold_disk_free_bytes", "Free bytes of the data folder's device.", reserve.room.free_bytes)
        yield gauge("ringhold_disk_reusable_bytes", "Room in the engine's files.", reserve.reusable_bytes)
        yield gauge("ringhold_disk_reserve_bytes", "With less room than this, Sets are refused.", reserve.bytes)
        yield gauge("ringhold_disk_full", "1 while Sets are refused for want of room.", int(reserve.is_short))

    def _health(self) -> Iterable[Metric]:
        unhealthy = GaugeMetricFamily(
            "ringhold_replicas_unhealthy", "Replicas that are to be rebuilt, and serve nothing.", labels=["status"]
        )
        counts = dict.fromkeys(STATUS_NAMES, 0)
        for copy in self._node.describe().unhealthy:
            counts[copy.status] += 1
        for status, count in counts.items():
            unhealthy.add_metric([STATUS_NAMES[status]], count)
        yield unhealthy
        scrubber = self._node.scrubber
        yield counter("ringhold_scrub_bytes", "Bytes read back to find damage.", scrubber.bytes)
        yield counter("ringhold_scrub_damage", "What was found damaged by that.", scrubber.damage)
        age = "Since everything was read, or since the start."
        yield gauge("ringhold_scrub_age_seconds", age, scrubber.unscrubbed_s)

    def _syncs(self) -> Iterable[Metric]:
        groups = self._node.groups
        reluctant = GaugeMetricFamily(
            "ringhold_reluctant", "1 while this node wants no leaderships.", labels=["reason"]
        )
        for reason in groups.reluctant_for:
            reluctant.add_metric([reason], 1)
        yield reluctant
        yield gauge("ringhold_sync_running_seconds", "Of the sync under way, so far.", groups.sync_running_s)
        yield gauge("ringhold_sync_seconds_max", "Of the longest sync since the start.", groups.sync_s_max)


def gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(name, documentation, value=value)


def registry(collector: NodeCollector) -> CollectorRegistry:
    """A registry of its own: two nodes in one process share nothing."""
    own = CollectorRegistry()
    own.register(collector)
    return own
