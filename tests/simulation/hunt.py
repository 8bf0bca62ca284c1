"""Plants each bug in turn and looks for the first seed whose ordinary run finds it: `python -m simulation faults`."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from .farm import Farm
from .world import Result

FAULT_SEEDS_MAX = 2_000
"""A planted bug that so many seeds don't find is not found."""

COMPLAINT_CHARS_MAX = 110


class Catch(NamedTuple):
    """The first run that showed a planted bug; None: none did."""

    fault: str
    result: Result | None

    def line(self) -> str:
        """A row of the table."""
        if self.result is None:
            return f"{self.fault:36} {'-':>5}  not found"
        said = self.result.violations[0].replace("\n", " ")
        return f"{self.fault:36} {self.result.seed:>5}  {said[:COMPLAINT_CHARS_MAX]}"


def hunt(farm: Farm, faults: Sequence[str], seeds: range) -> Iterator[Catch]:
    """What finds each fault, in their order."""
    for fault in faults:
        yield Catch(fault, first_caught(farm, fault, seeds))


def first_caught(farm: Farm, fault: str, seeds: range) -> Result | None:
    """The first run in which something is wrong."""
    with closing(farm.run(seeds, fault=fault)) as results:
        return next((result for result in results if result.violations), None)
