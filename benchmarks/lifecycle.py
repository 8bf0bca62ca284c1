"""`python -m benchmarks lifecycle`: what a cluster takes before anybody asks: its start, and its idling."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from .figures import Figure
from .plan import Plan, Tell
from .report import MEGABYTE, Report
from .servers import Cluster

SETTLE_S = 3.0


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed."""
    for engine in plan.engines:
        tell(f"start to ready, {engine}")
        report.figures.append(start_to_ready(folder, engine, plan.starts))
        tell(f"idle for {plan.idle_s:.0f} s, {engine}")
        with Cluster(folder / f"idle-{engine}", engine) as cluster:
            cluster.wait_until_ready()
            report.figures += idle(cluster, engine, plan.idle_s)


def start_to_ready(folder: Path, engine: str, times: int) -> Figure:
    """Seconds from the start of the three processes until all say that they serve: a new cluster each time."""
    measured = []
    for number in range(times):
        with Cluster(folder / f"start-{engine}-{number}", engine) as cluster:
            began = time.perf_counter()
            cluster.wait_until_ready()
            measured.append(time.perf_counter() - began)
    title = f"Start to ready, three nodes, median of {times}, {engine}"
    return Figure(f"start_{engine}", title, median(measured), "s", 3.0)


def idle(cluster: Cluster, engine: str, seconds: float) -> Iterator[Figure]:
    """Share of a core and memory of the node that takes most of it. Blocks for `seconds` and a little."""
    time.sleep(SETTLE_S)
    before_s = [server.cpu_s() for server in cluster.servers]
    began = time.perf_counter()
    time.sleep(seconds)
    spent_s = time.perf_counter() - began
    shares = [(server.cpu_s() - cpu_s) / spent_s for server, cpu_s in zip(cluster.servers, before_s, strict=True)]
    resident = max(server.resident_bytes() for server in cluster.servers)
    title = f"CPU of an idle node over {seconds:.0f} s, {engine}"
    yield Figure(f"idle_cpu_{engine}", title, 100 * max(shares), "% of a core", 3.0)
    yield Figure(f"idle_memory_{engine}", f"Memory of an idle node (RSS), {engine}", resident / MEGABYTE, "MB", 90.0)
