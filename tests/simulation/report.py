"""Many runs as one table: how much was simulated, which faults, which rare paths, and what never happened."""

from collections import Counter
from collections.abc import Iterable

from .probes import FAULTS, RARE_PATHS
from .world import Result


class Report:
    """The sum of runs."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.counts: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.counts += result.counts

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if result.violations]

    def never_met(self) -> list[str]:
        """The rare paths and faults that none of the runs has met."""
        expected = [*RARE_PATHS, *(f"fault: {kind}" for kind in FAULTS)]
        return [kind for kind in expected if not self.counts[kind]]

    def lines(self) -> Iterable[str]:
        hours = sum(result.seconds for result in self.results) / 3600
        operations = sum(result.operations for result in self.results)
        yield f"{len(self.results)} seeds, {hours:.2f} virtual hours, {operations:,} operations"
        for kind, number in sorted(self.counts.items()):
            yield f"  {kind:40} {number:9,}"
        for result in self.failed:
            yield result.story()
        yield f"{len(self.failed)} seeds failed"
