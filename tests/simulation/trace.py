"""What happened in a run, in order: the digest says whether two runs were the same, the tail what led to a failure."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256

TAIL_LINES = 60
LINE_CHARS_MAX = 240
VIOLATION = "VIOLATION"


class Trace:
    """Lines of (virtual time, who, what), and counts of what a run has met."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self._now = now

    def note(self, who: str, what: str) -> None:
        self.lines.append(f"{self._now():11.6f} {who:8} {what}")

    def count(self, kind: str, number: int = 1) -> None:
        self.counts[kind] += number

    def digest(self) -> str:
        return sha256("\n".join(self.lines).encode()).hexdigest()[:32]

    def tail(self) -> str:
        """The last lines, of the run or up to what was first found wrong, without the frames that fill them."""
        end = next((number for number, line in enumerate(self.lines, 1) if VIOLATION in line), len(self.lines))
        told = [line for line in self.lines[:end] if " frame " not in line and " gossip " not in line]
        return "\n".join(line[:LINE_CHARS_MAX] for line in told[-TAIL_LINES:])
