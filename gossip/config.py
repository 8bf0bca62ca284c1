"""The settings of gossip: one frozen dataclass, because every part must agree on the same figures.

See docs/protocols/gossip.md for how they work together.
"""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Times in seconds, sizes in bytes or counts. The defaults suit one data centre.

    A dead node among n is noticed after about (1 + suspicion_factor · max(1, log10 n)) · probe_interval_s.
    """

    probe_interval_s: float = 1.0
    """One member is probed per interval · (1 + health score). Raising it: slower detection; lowering: more load."""

    probe_timeout_s: float = 0.5
    """A direct ping may take this long · (1 + health score), and so may the indirect ones after it.

    Raising it: slower detection (keep 2 · timeout ≤ interval); lowering: more false suspicions on a loaded machine.
    """

    relay_timeout_share: float = 0.8
    """Part of `probe_timeout_s` that a relay gives the target, so that its own answer is still in time.

    Raising it: the relay's "not reached" comes too late; lowering: a slow target is missed.
    """

    indirect_probes: int = 3
    """Members asked to ping one that did not answer. Raising it: fewer false suspicions, more messages."""

    suspicion_factor: float = 4.0
    """min = factor · max(1, log10 n) · probe_interval_s. Raising it: fewer false deaths, slower detection."""

    suspicion_stretch: float = 6.0
    """max = stretch · min: how long a suspect has that nobody else accuses. Raising it: a confused node harms less."""

    suspicion_confirmations: int = 2
    """k: other accusers that bring the time down from max to min. Raising it: needs larger clusters to be fast."""

    health_score_max: int = 8
    """Ceiling of the local health score. Raising it: a sick node slows its own probes further, and heals later."""

    loop_lag_tolerated_s: float = 0.1
    """A tick later than this adds one to the health score. Raising it: stalls of the own loop are blamed on others."""

    transmissions_factor: int = 4
    """A fact rides on factor · ceil(log10(n + 1)) messages. Raising it: surer spreading, larger messages."""

    push_fanout: int = 3
    """Peers to which new facts are pushed at once. Raising it: faster spreading, more messages per change."""

    push_pause_s: float = 0.1
    """Least time between two pushes; facts in between go together. Raising it: slower news, fewer messages."""

    sync_interval_s: float = 10.0
    """A full comparison with one random member. Raising it: what was lost stays unknown longer; lowering: bytes."""

    sync_timeout_s: float = 2.0
    """One page of a comparison, or a push, may take this long. Raising it: dead peers hold connections longer."""

    join_retry_min_s: float = 0.1
    """First pause between attempts to reach anybody; it doubles. Lowering it: more refused connections at start."""

    join_retry_max_s: float = 5.0
    """Last pause between attempts to reach anybody. Raising it: an isolated node finds the others later."""

    join_sync_delay_s: float = 0.4
    """Pause between the first contact and a second comparison, for what spread meanwhile. Raising it: gaps last."""

    join_fanout: int = 3
    """Seeds, and lost members, tried per attempt. Raising it: faster joining when many are down, more messages."""

    dead_retry_interval_s: float = 30.0
    """One dead member or silent seed is tried per interval. Raising it: a healed partition reconnects later."""

    tick_s: float = 0.1
    """Resolution of all timers, and how often the loop's lag is measured. Lowering it: more CPU while idle."""

    leave_timeout_s: float = 1.0
    """Time for telling others of the own departure. Raising it: slower stops when peers don't answer."""

    members_max: int = 4_096
    """Members listed; facts about more are refused and counted. Raising it: memory, about 1 KiB each."""

    exchanges_max: int = 64
    """Exchanges in flight; more count as lost. Raising it: sockets and memory when many peers hang."""

    def __post_init__(self) -> None:
        rules = {
            "a probe must end within its interval": 0 < self.probe_timeout_s <= self.probe_interval_s,
            "a relay must answer within its asker's timeout": 0 < self.relay_timeout_share < 1,
            "the longest suspicion is not below the shortest": self.suspicion_stretch >= 1,
            "suspicion_confirmations is 1 or more": self.suspicion_confirmations >= 1,
            "tick_s is above 0": self.tick_s > 0,
        }
        for rule, holds in rules.items():
            if not holds:
                raise ValueError(f"gossip: {rule}")


FACTS_MAX = 100
"""Facts in one message: 100 of the largest (2.4 KiB) stay under BODY_BYTES_MAX."""

PIGGYBACK_FACTS_MAX = 24
"""Facts that ride on a ping or its answer, so that probes stay small."""

DIGESTS_MAX = 500
"""Digests in one page of a comparison."""

BODY_BYTES_MAX = 256 * KIB
"""Largest body of a request or an answer."""


def local() -> GossipConfig:
    """All nodes on one machine: losses mean that a process is gone, so suspects and the dead are dealt with sooner."""
    return GossipConfig(suspicion_factor=3.0, suspicion_stretch=3.0, dead_retry_interval_s=5.0)


def lan() -> GossipConfig:
    """One data centre: the defaults."""
    return GossipConfig()


def wan() -> GossipConfig:
    """Several regions: slower probes, more patience, rarer comparisons."""
    return GossipConfig(
        probe_interval_s=5.0,
        probe_timeout_s=2.5,
        suspicion_factor=6.0,
        sync_interval_s=60.0,
        sync_timeout_s=10.0,
        push_pause_s=0.5,
        dead_retry_interval_s=60.0,
        leave_timeout_s=5.0,
    )
