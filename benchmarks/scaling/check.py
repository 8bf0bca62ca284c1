"""Whether the arithmetic holds where it can be checked: three real nodes on this machine, and what they take idle."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..footprint import idle_shares
from ..plan import Tell
from ..servers import NODES, Cluster
from .heartbeats import heartbeat_figures
from .queries import ENGINE

SETTLE_S = 12.0
IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class CheckFigures:
    """Shares of a core that one node takes while nobody calls."""

    partitions: int
    measured_share: float
    computed_share: float
    """Of beats, gRPC's part of them, and timers: what the computation knows of."""


def check_figures(all_partitions: Sequence[int], folder: Path, tell: Tell) -> Iterator[CheckFigures]:
    """Raises BenchmarkFailed."""
    for partitions in all_partitions:
        (computed,) = heartbeat_figures([(NODES, partitions)], tell)
        tell(f"check: three nodes, {partitions:,} partitions")
        yield CheckFigures(
            partitions,
            measured_share(partitions, folder),
            computed.own_share + computed.wire_share + computed.pulse_share,
        )


def measured_share(partitions: int, folder: Path) -> float:
    with (
        tempfile.TemporaryDirectory(prefix="check-", dir=folder) as run,
        Cluster(Path(run) / "nodes", ENGINE, options=["--partitions", str(partitions)]) as cluster,
    ):
        cluster.wait_until_ready()
        time.sleep(SETTLE_S)
        return idle_shares({ENGINE: cluster}, IDLE_S)[ENGINE] / NODES


def check_table(everything: Sequence[CheckFigures]) -> Table:
    first = everything[0]
    table = Table("partitions", title="one of three idle nodes: % of a core", box=SIMPLE_HEAD)
    for column in ("measured", "computed", f"more than with {first.partitions}: measured", "computed"):
        table.add_column(column, justify="right")
    for each in everything:
        more = (each.measured_share - first.measured_share, each.computed_share - first.computed_share)
        shares = (each.measured_share, each.computed_share, *more)
        table.add_row(f"{each.partitions:,}", *(f"{100 * share:.1f}" for share in shares))
    return table
