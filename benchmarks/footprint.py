"""What a contestant takes beside its CPU time under load: memory, disk, and CPU while nobody calls."""

import time
from collections.abc import Mapping

from .contestants import Contestants
from .figures import Footprint
from .plan import Plan, Tell
from .servers import Servers

SETTLE_S = 3.0


def footprints(contestants: Contestants, plan: Plan, tell: Tell) -> list[Footprint]:
    """Of each contestant, after the import of the plan's records. Blocks for the plan's idle time, once for all."""
    servers = contestants.servers()
    before = {name: each.disk_bytes() for name, each in servers.items()}
    tell(f"import of {plan.records:,} records")
    records = {name: contestants.import_records(name, plan.records) for name in servers}
    time.sleep(SETTLE_S)
    after = {name: each.disk_bytes() for name, each in servers.items()}
    tell(f"idle for {plan.idle_s:.0f} s")
    idle = idle_shares(servers, plan.idle_s)
    return [
        Footprint(
            name,
            records[name],
            each.resident_bytes(),
            (after[name] - before[name]) / records[name] if records[name] else 0.0,
            idle[name],
        )
        for name, each in servers.items()
    ]


def idle_shares(servers: Mapping[str, Servers], seconds: float) -> dict[str, float]:
    """The share of one core that each takes, all processes of it together, while nobody calls any of them."""
    before_s = {name: each.cpu_s() for name, each in servers.items()}
    began = time.perf_counter()
    time.sleep(seconds)
    spent_s = time.perf_counter() - began
    return {name: (each.cpu_s() - before_s[name]) / spent_s for name, each in servers.items()}
