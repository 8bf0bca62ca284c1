"""What a cluster costs when nobody asks for anything: to start it, and to let it idle."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from .figures import Figure
from .servers import Cluster

SETTLE_S = 3.0
MEGABYTE = 1_000_000


def start_to_ready(folder: Path, engine: str, times: int) -> Figure:
    """Seconds from the start of the three processes until all say that they serve: a new cluster each time."""
    measured = []
    for number in range(times):
        with Cluster(folder / f"start-{number}", engine) as cluster:
            began = time.perf_counter()
            cluster.wait_until_ready()
            measured.append(time.perf_counter() - began)
    return Figure("start", f"Start to ready, three nodes, median of {times}", median(measured), "s", 3.0)


def idle(cluster: Cluster, seconds: float) -> Iterator[Figure]:
    """Share of a core and memory of the node that takes most of it. Blocks for `seconds` and a little."""
    time.sleep(SETTLE_S)
    before_s = [server.cpu_s() for server in cluster.servers]
    began = time.perf_counter()
    time.sleep(seconds)
    spent_s = time.perf_counter() - began
    shares = [(server.cpu_s() - cpu_s) / spent_s for server, cpu_s in zip(cluster.servers, before_s, strict=True)]
    resident = max(server.resident_bytes() for server in cluster.servers)
    yield Figure("idle_cpu", f"CPU of an idle node over {seconds:.0f} s", 100 * max(shares), "% of a core", 3.0)
    yield Figure("idle_memory", "Memory of an idle node (RSS)", resident / MEGABYTE, "MB", 90.0)
