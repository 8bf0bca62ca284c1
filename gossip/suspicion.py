"""How long a suspect has to refute: short when several accuse it independently, long when only one does.

A single confused accuser then harms little, and a real death is still found fast (Lifeguard, section IV-B).
"""

from math import log, log10

from .config import GossipConfig
from .member import Fact


def suspicion_timeout_s(members: int, confirmations: int, config: GossipConfig) -> float:
    """Seconds a suspect has to refute (Lifeguard, section IV-B), in a cluster of `members`, itself and us included.

    >>> round(suspicion_timeout_s(10, 0, GossipConfig()), 1)
    24.0
    >>> round(suspicion_timeout_s(10, 1, GossipConfig()), 1)
    11.4
    >>> round(suspicion_timeout_s(10, 2, GossipConfig()), 1)
    4.0
    >>> round(suspicion_timeout_s(3, 0, GossipConfig()), 1)
    4.0
    """
    least = config.suspicion_factor * max(1.0, log10(members)) * config.probe_interval_s
    wanted = confirmations_wanted(members, config)
    if wanted == 0:
        return least
    most = config.suspicion_stretch * least
    share = log(min(confirmations, wanted) + 1) / log(wanted + 1)
    return most - (most - least) * share


def confirmations_wanted(members: int, config: GossipConfig) -> int:
    """k: the confirmations that bring the time down to its minimum; 0 where too few others exist to give them."""
    k = config.suspicion_confirmations
    return k if members - 2 >= k else 0


class Suspicion:
    """The time that runs against one suspect, and who accuses it."""

    def __init__(self, fact: Fact, now: float, members: int, config: GossipConfig) -> None:
        self.fact = fact
        self._started_at = now
        self._members = members
        self._config = config
        self._accusers = [fact.accuser]

    @property
    def expires_at(self) -> float:
        """When the suspect counts as dead, on the clock of `now`."""
        confirmations = len(self._accusers) - 1
        return self._started_at + suspicion_timeout_s(self._members, confirmations, self._config)

    def confirm(self, accuser: str) -> bool:
        """Note another accuser; False if it is known or no more are wanted."""
        wanted = confirmations_wanted(self._members, self._config)
        if accuser in self._accusers or len(self._accusers) > wanted:
            return False
        self._accusers.append(accuser)
        return True

    def postpone(self, seconds: float) -> None:
        """Don't count time in which this node itself was not running and could not have heard a refutation."""
        self._started_at += seconds
