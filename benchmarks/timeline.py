"""What happened while a load ran: each operation, the marks between, and what they come to per slice of time. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from .figures import percentiles

SLICE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """An operation that ended `at` seconds after the beginning; `failed` if it raised."""

    at: float
    latency_us: float
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done, such as a node's start."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster at one moment: its nodes, and the groups that are not where they should be."""

    at: float
    nodes: int
    moving: int


@dataclass(frozen=True, slots=True)
class Slice:
    """The operations that ended within SLICE_S seconds from `at` on."""

    at: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the story: from `start` to `end`."""

    title: str
    start: float
    end: float


@dataclass(slots=True)
class Timeline:
    """All of it, in the order of time."""

    samples: list[Sample] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    def samples_of(self, phase: Phase) -> list[Sample]:
        return [each for each in self.samples if phase.start <= each.at < phase.end]


def slices(samples: Sequence[Sample]) -> Iterator[Slice]:
    """One for each slice of time in which an operation ended well.

    >>> [each.at for each in slices([Sample(0.1, 900), Sample(0.4, 800), Sample(1.2, 950)])]
    [0.0, 1.0]
    """
    well = sorted((each for each in samples if not each.failed), key=lambda each: each.at)
    for number, group in groupby(well, key=lambda each: int(each.at / SLICE_S)):
        found = percentiles([each.latency_us for each in group])
        yield Slice(number * SLICE_S, found.p50_ms, found.p99_ms)


def spans(looks: Sequence[Look]) -> Iterator[tuple[float, float]]:
    """When something moved: from the look that saw it first to that which saw nothing more.

    >>> list(spans([Look(0.0, 3, 0), Look(1.0, 3, 5), Look(2.0, 3, 2), Look(3.0, 3, 0)]))
    [(1.0, 3.0)]
    """
    began: float | None = None
    for look in looks:
        if look.moving and began is None:
            began = look.at
        elif not look.moving and began is not None:
            yield began, look.at
            began = None
    if began is not None:
        yield began, looks[-1].at
