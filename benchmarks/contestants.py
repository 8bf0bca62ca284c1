"""All servers of a table at once. Those that idle stay up, so each contestant is measured beside the same others."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import etcd, redis_cluster, redis_load
from .bodies import batch_request
from .etcd import EtcdServers
from .plan import Plan, Tell
from .redis_cluster import RedisServers
from .servers import Cluster, EchoServers, Servers
from .trials import ECHO, ByH2load, Counted, Echoed
from .workloads import Gateway, Workload, Workloads

ETCD = "etcd"
REDIS = "Redis Cluster"
BEFORE = ", before"


@dataclass(frozen=True, slots=True)
class Ringhold:
    """One cluster of it, settled, and how to load it."""

    name: str
    engine: str
    cluster: Cluster
    gateway: Gateway
    workloads: Workloads

    def trial(self, workload_of: Callable[[Workloads], Workload]) -> Counted:
        return Counted(self.name, workload_of(self.workloads), self.cluster)


@dataclass(frozen=True, slots=True)
class Contestants:
    """Everything that runs; None for what is not installed or not wanted."""

    echo: EchoServers
    ringholds: list[Ringhold]
    etcd: EtcdServers | None
    redis: RedisServers | None

    def against_echo(self, workload_of: Callable[[Workloads], Workload]) -> Iterator[ByH2load]:
        """The echo, with the bodies and connections that the first cluster gets, and each cluster of Ringhold."""
        first = self.ringholds[0]
        echo_of = dict(zip(first.cluster.addresses, self.echo.addresses, strict=True))
        yield Echoed(workload_of(first.workloads), self.echo, echo_of)
        for ringhold in self.ringholds:
            yield ringhold.trial(workload_of)

    def servers(self) -> Mapping[str, Servers]:
        """By the contestants' names."""
        found: dict[str, Servers] = {ECHO: self.echo}
        found |= {ringhold.name: ringhold.cluster for ringhold in self.ringholds}
        if self.etcd:
            found[ETCD] = self.etcd
        if self.redis:
            found[REDIS] = self.redis
        return found

    def import_records(self, name: str, count: int) -> int:
        """Write about so many records to one contestant; how many there are more. The echo keeps none."""
        if name == ETCD and self.etcd:
            etcd.import_records(self.etcd, count)
            return count
        if name == REDIS and self.redis:
            before = self.redis.records()
            redis_load.import_records(self.redis, count)
            return self.redis.records() - before
        for ringhold in self.ringholds:
            if name == ringhold.name:
                ringhold.gateway.import_records(count, batch_request)
                return count
        return 0


def name_of(engine: str) -> str:
    """Of Ringhold as it is here, in the tables."""
    return f"Ringhold, {engine}"


@contextmanager
def running(plan: Plan, folder: Path, tell: Tell, *, with_redis: bool = True) -> Iterator[Contestants]:
    """All of a plan, ready and settled. Raises BenchmarkFailed."""
    with ExitStack() as stack:
        echo = stack.enter_context(EchoServers(folder / "echo"))
        echo.wait_until_ready()
        ringholds = [stack.enter_context(running_ringhold(folder, engine, None)) for engine in plan.engines]
        if plan.before:
            ringholds += [stack.enter_context(running_ringhold(folder, each, plan.before)) for each in plan.engines]
        with_etcd = not plan.is_alone and is_there(etcd.is_installed(), ETCD, tell)
        with_redis = with_redis and not plan.is_alone and is_there(redis_cluster.is_installed(), REDIS, tell)
        yield Contestants(
            echo,
            ringholds,
            running_etcd(stack, folder) if with_etcd else None,
            running_redis(stack, folder) if with_redis else None,
        )


@contextmanager
def running_ringhold(folder: Path, engine: str, source: Path | None) -> Iterator[Ringhold]:
    """A new cluster, of this code or of another clone's."""
    name = name_of(engine) + (BEFORE if source else "")
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(folder / name.replace(", ", "-"), engine, source))
        cluster.wait_until_ready()
        gateway = Gateway(cluster.addresses[0])
        stack.callback(gateway.close)
        gateway.wait_until_settled()
        yield Ringhold(name, engine, cluster, gateway, Workloads(gateway))


def running_etcd(stack: ExitStack, folder: Path) -> EtcdServers:
    servers = stack.enter_context(EtcdServers(folder / "etcd"))
    servers.wait_until_ready()
    return servers


def running_redis(stack: ExitStack, folder: Path) -> RedisServers:
    servers = stack.enter_context(RedisServers(folder / "redis"))
    servers.wait_until_ready()
    servers.form()
    redis_load.fill(servers)
    return servers


def is_there(is_installed: bool, name: str, tell: Tell) -> bool:
    if not is_installed:
        tell(f"without {name}: it is not on the PATH (make system-tools installs it)")
    return is_installed
