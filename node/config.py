"""What a node is told when it starts: one frozen value, so that nothing below parses or asks the environment.

It is read from flags, environment and file at one edge (`cli/settings.py`); see docs/configuration.md.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ..api.limits import Limits
from ..ring.topology import REPLICATION_FACTOR_MAX, WEIGHT_MAX
from .ending import pod
from .storage.cache import CACHE_BYTES_MAX

Address: TypeAlias = tuple[str, int]

READS = ("lease", "quorum")
ON_SIGTERM = ("restart", "leave", "kubernetes")
ENGINES = ("sqlite", "rocksdb")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
PARTITIONS_MAX = 65_536
REPLICATION_FACTOR_DEFAULT = 3
NODES_MAX = 1_000
ROW_CACHE_BYTES_MAX = 64 * 1024**3
DISK_RESERVE_BYTES_MAX = 1024**5
SNAPSHOT_BYTES_PER_S_MAX = 1024**4
SCRUB_BYTES_PER_S_MAX = 1024**4
NAME_LENGTH_MAX = 253  # the longest DNS name, which a pod may carry

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class ConfigError(ValueError):
    """A node can't be started as it was asked to. `field` is the name of the setting, the message says why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The settings of one node. Making one that breaks a rule raises ConfigError."""

    data_dir: Path
    """Holds all that the node keeps; one process at a time."""
    grpc: str = "127.0.0.1:50051"
    """Listens here for clients and nodes."""
    http: str = "127.0.0.1:50052"
    """Listens here for gossip, health and metrics."""
    advertise_grpc: str | None = None
    """Where others reach `grpc`; None: at `grpc` itself."""
    advertise_http: str | None = None
    """Where others reach `http`; None: at `http` itself."""
    name: str | None = None
    """Shown to people, unique in the cluster; None: made from the node's id."""
    cluster: str = "ringhold"
    """Nodes of another cluster's name are not spoken to."""
    zone: str = ""
    """Replicas of a partition are spread over zones first, then hosts."""
    host: str | None = None
    """The machine, for placement; None: the name that the machine gives itself."""
    weight: int = 1
    """Share of the partitions, relative to the other nodes' weights."""
    seeds: tuple[str, ...] = ()
    """HTTP addresses that are asked for the cluster; the own one may be among them."""
    expect: int | None = None
    """Nodes that form a new cluster together; None: join one, or be a cluster of one if there are no seeds."""
    engine: str = "sqlite"
    """sqlite needs nothing; rocksdb holds more data at the same speed and needs the extra `ringhold[rocksdb]`."""
    partitions: int = 64
    """Slices of the hash space, a power of two, fixed when the cluster is formed. More of them spread load finer and
    cost memory and messages each."""
    replication_factor: int = REPLICATION_FACTOR_DEFAULT
    """Nodes that hold each partition, or all if they are fewer; fixed when the cluster is formed. Of 2·f + 1, f may be
    lost without losing a write or an answer; each costs its share of disk, and a write waits for a majority of them."""
    reads: str = "lease"
    """lease: a leader answers reads at once while a majority has promised it so; quorum: it asks a majority each time,
    which costs a round trip and is for machines whose clocks may stand still unnoticed (hypervisors that pause)."""
    limits: Limits = field(default_factory=Limits)
    row_cache_bytes: int = CACHE_BYTES_MAX
    """Memory for rows that are read often; 0: none. More of them are read without the engine, in a larger process."""
    disk_reserve_bytes: int | None = None
    """With less room than this on the device the node takes no Sets and leads no more; None: 256 MiB, but not more
    than a twentieth of the device; 0: off. Lower, and one burst of writes fills the device, which stops the node."""
    snapshot_bytes_per_s_max: int = 64 * 1024**2
    """How fast whole copies of partitions are sent, and how fast they are taken; 0: no bound. Lower leaves more of disk
    and network to requests, and a replica that was away for long takes longer to be whole again."""
    scrub_bytes_per_s: int = 1024**2
    """What is read back of the disk in the background to find damage; 0: nothing. A week at 1 MiB/s is 590 GiB, records
    under 1 KiB counting for 1 KiB more. Higher finds damage sooner and takes from the disk and from requests."""
    drain_timeout_s: float = 4.0
    """Time for running requests to end at a stop. Longer loses fewer of them and delays the restart."""
    on_sigterm: str = "restart"
    """restart: a short stop, for which the others wait. leave: the node leaves the cluster for good, which takes until
    its data has moved. kubernetes: one of both, as the number of pods that its StatefulSet wants says."""
    stateful_set: str | None = None
    """The StatefulSet of the node's pod; None: what comes before the ordinal in `name`."""
    kubernetes_api: str | None = None
    """The API server, https://host:port, or a proxy to it on http://127.0.0.1; None: the one that the pod is told."""
    kubernetes_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Where the pod has the token of its service account."""
    log_level: str = "info"
    log_format: str = "text"

    def __post_init__(self) -> None:
        self._check_addresses()
        self._check_names()
        self._check_numbers()
        self._check_choices()
        self._check_formation()
        self._check_stop()
        check_limits(self.limits)

    @property
    def grpc_address(self) -> str:
        """Where others reach this node's gRPC server."""
        return self.advertise_grpc or self.grpc

    @property
    def http_address(self) -> str:
        """Where others reach this node's HTTP server."""
        return self.advertise_http or self.http

    def _check_addresses(self) -> None:
        grpc, http = parse_address(self.grpc, "grpc"), parse_address(self.http, "http")
        if grpc == http:
            raise ConfigError("http", f"gRPC and HTTP can't both listen on {self.http}")
        check_advertised("grpc", self.grpc, self.advertise_grpc)
        check_advertised("http", self.http, self.advertise_http)

    def _check_names(self) -> None:
        for setting in ("name", "cluster", "zone", "host"):
            name = getattr(self, setting)
            if name or setting == "cluster":
                check_name(setting, name)

    def _check_numbers(self) -> None:
        if not 1 <= self.weight <= WEIGHT_MAX:
            raise ConfigError("weight", f"{self.weight} is not between 1 and {WEIGHT_MAX}")
        if not 1 <= self.partitions <= PARTITIONS_MAX or self.partitions.bit_count() != 1:
            raise ConfigError("partitions", f"{self.partitions} is not a power of two between 1 and {PARTITIONS_MAX}")
        if not 1 <= self.replication_factor <= REPLICATION_FACTOR_MAX:
            raise ConfigError(
                "replication_factor", f"{self.replication_factor} is not between 1 and {REPLICATION_FACTOR_MAX}"
            )
        if not 0 <= self.row_cache_bytes <= ROW_CACHE_BYTES_MAX:
            raise ConfigError("row_cache_bytes", f"{self.row_cache_bytes} is not between 0 and {ROW_CACHE_BYTES_MAX}")
        if self.disk_reserve_bytes is not None and not 0 <= self.disk_reserve_bytes <= DISK_RESERVE_BYTES_MAX:
            raise ConfigError(
                "disk_reserve_bytes", f"{self.disk_reserve_bytes} is not between 0 and {DISK_RESERVE_BYTES_MAX}"
            )
        if not 0 <= self.snapshot_bytes_per_s_max <= SNAPSHOT_BYTES_PER_S_MAX:
            raise ConfigError(
                "snapshot_bytes_per_s_max",
                f"{self.snapshot_bytes_per_s_max} is not between 0 and {SNAPSHOT_BYTES_PER_S_MAX}",
            )
        if not 0 <= self.scrub_bytes_per_s <= SCRUB_BYTES_PER_S_MAX:
            raise ConfigError(
                "scrub_bytes_per_s", f"{self.scrub_bytes_per_s} is not between 0 and {SCRUB_BYTES_PER_S_MAX}"
            )
        if not 0 <= self.drain_timeout_s <= 3_600:
            raise ConfigError("drain_timeout_s", f"{self.drain_timeout_s} is not between 0 and 3600 seconds")

    def _check_choices(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        check_choice("reads", self.reads, READS)
        check_choice("on_sigterm", self.on_sigterm, ON_SIGTERM)
        check_choice("log_level", self.log_level, LOG_LEVELS)
        check_choice("log_format", self.log_format, LOG_FORMATS)

    def _check_formation(self) -> None:
        addresses = [parse_address(seed, "seeds") for seed in self.seeds]
        for seed, address in zip(self.seeds, addresses, strict=True):
            if addresses.count(address) > 1:
                raise ConfigError("seeds", f"{seed} is given twice")
        if self.expect is None:
            return
        if not 1 <= self.expect <= NODES_MAX:
            raise ConfigError("expect", f"{self.expect} is not between 1 and {NODES_MAX}")
        if self.expect > 1 and not self.seeds:
            raise ConfigError(
                "expect",
                f"{self.expect} nodes that form a cluster together need seeds: give all of them the same list, "
                "whose first address is that of the node that founds it",
            )

    def _check_stop(self) -> None:
        if self.kubernetes_api is not None:
            check_api(self.kubernetes_api)
        if self.stateful_set is not None:
            check_name("stateful_set", self.stateful_set)
        if self.on_sigterm != "kubernetes":
            return
        if pod(self.name or "") is None:
            raise ConfigError(
                "on_sigterm", f"kubernetes needs --name to be that of the pod, NAME-ORDINAL; it is {self.name!r}"
            )
        if self.kubernetes_api is None:
            raise ConfigError("on_sigterm", "kubernetes works in a pod only: KUBERNETES_SERVICE_HOST is not set")


def parse_address(text: str, setting: str) -> Address:
    """Host and port of `host:port` or `[v6]:port`; raises ConfigError.

    >>> parse_address("[::1]:50051", "grpc")
    ('::1', 50051)
    """
    host, colon, port = text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if in_brackets else host
    if not colon or not is_host(host, in_brackets=in_brackets):
        raise ConfigError(setting, f"{text!r} is not an address: write host:port or [v6]:port")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise ConfigError(setting, f"the port of {text!r} is not a number from 1 to 65535")
    return host, int(port)


def is_host(host: str, *, in_brackets: bool) -> bool:
    if in_brackets:
        try:
            return ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    return len(host) <= NAME_LENGTH_MAX and NAME.fullmatch(host) is not None


def is_wildcard(address: Address) -> bool:
    """Whether an address means all of a machine's own: good to listen on, nothing that others could call."""
    host, _ = address
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def check_advertised(server: str, bound: str, advertised: str | None) -> None:
    setting = f"advertise_{server}"
    if advertised is not None and is_wildcard(parse_address(advertised, setting)):
        raise ConfigError(setting, f"{advertised} can't be called by others: give an address of this machine")
    if advertised is None and is_wildcard(parse_address(bound, server)):
        flag = setting.replace("_", "-")
        raise ConfigError(
            setting,
            f"the node listens on {bound}, which others can't call: say with --{flag} where they reach it",
        )


def check_api(url: str) -> None:
    """A token goes there: over TLS, or not beyond this machine."""
    scheme, _, authority = url.rstrip("/").partition("://")
    if scheme not in ("https", "http"):
        raise ConfigError("kubernetes_api", f"{url!r} is not https://host:port")
    host, _ = parse_address(authority, "kubernetes_api")
    if scheme == "http" and not is_loopback(host):
        raise ConfigError("kubernetes_api", f"{url} would send the token unprotected: write https://")


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def check_name(setting: str, name: str) -> None:
    if len(name) > NAME_LENGTH_MAX or NAME.fullmatch(name) is None:
        raise ConfigError(
            setting, f"{name!r} is not a name: write 1 to {NAME_LENGTH_MAX} letters, digits, dots, dashes, underscores"
        )


def check_choice(setting: str, choice: str, choices: tuple[str, ...]) -> None:
    if choice not in choices:
        raise ConfigError(setting, f"{choice!r} is unknown: choose {', '.join(choices[:-1])} or {choices[-1]}")


def check_limits(limits: Limits) -> None:
    """A record, a batch and a page must fit into a message, or they could be neither written nor read."""
    largest_record = limits.key_bytes_max + limits.value_bytes_max
    for what, size in (
        ("value_bytes_max", largest_record),
        ("batch_bytes_max", limits.batch_bytes_max),
        ("page_bytes_max", limits.page_bytes_max),
    ):
        if size > limits.message_bytes_max:
            raise ConfigError(
                f"limits.{what}", f"{size} bytes don't fit into a message of {limits.message_bytes_max} bytes"
            )
    if limits.deadline_default_s > limits.deadline_max_s:
        raise ConfigError("limits.deadline_default_s", f"it is over deadline_max_s, {limits.deadline_max_s} s")
