"""What one call of the benchmarks measures: which contestants, which rows, how long, and of how much."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from .rounds import Pace

Tell: TypeAlias = Callable[[str], None]


FULL_PACE = Pace(rounds=5, run_s=2.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What all tables follow."""

    engines: Sequence[str] = ("sqlite", "rocksdb")
    """Ringhold runs on each, in a cluster of its own."""

    before: Path | None = None
    """A clone of another state of Ringhold, to be measured beside this one."""

    is_alone: bool = False
    """Whether etcd and Redis are left out."""

    rows: frozenset[str] = frozenset()
    """The rows to measure; all if there are none."""

    pace: Pace = FULL_PACE
    records: int = 50_000
    """Imported before what a record takes is told."""

    matches: int = 100_000
    """Imported before pages are asked for."""

    idle_s: float = 30.0
    starts: int = 5
    kills: int = 50

    def asks_for(self, row: str) -> bool:
        return not self.rows or row in self.rows


def quick(plan: Plan) -> Plan:
    """A look: figures of it say little."""
    pace = Pace(rounds=2, run_s=0.7)
    return replace(plan, pace=pace, records=5_000, matches=10_000, idle_s=5.0, starts=2, kills=3)
