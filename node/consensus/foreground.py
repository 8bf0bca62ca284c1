"""How long the commands of the groups led here take, now and at rest: what whole copies must not make much worse.

At rest is when nothing is being copied. Latencies are counted in buckets whose width grows with them, by windows of
time, so one command costs less than a microsecond. Pure. See docs/operations.md, "Whole copies of partitions".
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf, log2

WINDOW_S = 1.0
WINDOWS = 4
"""Whole windows that are recent, beside the running one. More are calmer, and see later that copies are too fast."""

SAMPLES_MIN = 50
"""Fewer say nothing. With less than twice as many it is the slowest that counts, now and at rest."""

REST_AFTER_S = 5.0
"""So long after the last piece of a copy it is rest again: disk and engine still work on what was copied."""

REST_FALLS, REST_RISES = 1 / 4, 1 / 16
"""How far the memory of rest goes towards each further window of it: a load that has ended is soon forgotten, and what
slows commands down for a moment is not taken for their usual pace."""

STEPS_PER_OCTAVE = 4
MICROS_PER_S = 1_000_000
BUCKETS = STEPS_PER_OCTAVE * 26
"""Up to a minute; what takes longer counts as that."""


class Foreground:
    """p99 of the commands proposed here, from proposal to outcome."""

    def __init__(self, now: float) -> None:
        self._ends_at = now + WINDOW_S
        self._running = [0] * BUCKETS
        self._recent: deque[Sequence[int]] = deque(maxlen=WINDOWS)
        self._at_rest_s: float | None = None
        self._copied_at = -inf

    def took(self, seconds: float, now: float) -> None:
        """A command has its outcome."""
        if now >= self._ends_at:
            self._rotate(now)
        bucket = int(STEPS_PER_OCTAVE * log2(1 + seconds * MICROS_PER_S))
        self._running[bucket if bucket < BUCKETS else -1] += 1

    def copied(self, now: float) -> None:
        """A piece of a copy was sent or taken."""
        if now >= self._ends_at:
            self._rotate(now)
        self._copied_at = now

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing has been copied for a while."""
        return now - self._copied_at >= REST_AFTER_S

    def p99_s(self, now: float) -> float | None:
        """Of the recent commands; None if there were too few."""
        if now >= self._ends_at:
            self._rotate(now)
        return p99_of(map(sum, zip(self._running, *self._recent, strict=True)))

    @property
    def p99_at_rest_s(self) -> float | None:
        """Of the last commands while nothing was copied, roughly; None if there were always too few.

        It is remembered while copies are under way, and while there are no commands.
        """
        return self._at_rest_s

    def forget_recent(self) -> None:
        """What was measured so far says nothing of what is to come; rest stays."""
        self._running = [0] * BUCKETS
        self._recent.clear()

    def _rotate(self, now: float) -> None:
        """The running window has ended, and others without commands may have passed since."""
        ended, self._running = self._running, [0] * BUCKETS
        self._recent.append(ended)
        if self.is_at_rest(self._ends_at - WINDOW_S) and any(ended):
            self._remember(p99_of(map(sum, zip(*self._recent, strict=True))))
        missed = int((now - self._ends_at) / WINDOW_S)
        self._recent.extend([self._running] * min(missed, WINDOWS))
        if missed:
            self._running = [0] * BUCKETS
        self._ends_at += (missed + 1) * WINDOW_S

    def _remember(self, p99_s: float | None) -> None:
        if p99_s is None:
            return
        at_rest_s = p99_s if self._at_rest_s is None else self._at_rest_s
        self._at_rest_s = at_rest_s + (p99_s - at_rest_s) * (REST_FALLS if p99_s < at_rest_s else REST_RISES)


def p99_of(counts: Iterable[int]) -> float | None:
    """The upper edge of the bucket in which 99 % of all are reached, so at most a fifth too much; None if too few.

    >>> p99_of([0] * 40 + [98, 1, 1])
    0.001447
    >>> p99_of([0] * 40 + [8]) is None
    True
    """
    summed = list(accumulate(counts))
    if summed[-1] < SAMPLES_MIN:
        return None
    bucket = next(number for number, count in enumerate(summed) if count >= 0.99 * summed[-1])
    return round(2 ** ((bucket + 1) / STEPS_PER_OCTAVE) - 1) / MICROS_PER_S
