"""How the client behaves: its times and limits in one value, so that a program changes them in one place."""

from dataclasses import dataclass

MIB = 1024 * 1024
DOUBLINGS_MAX = 16
"""Pauses that grow are doubled at most so often: beyond it their limit has long been reached."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The defaults suit a cluster in one data centre."""

    attempt_timeout_s: float = 1.0
    """Of one attempt at a Get, Set or Delete. Higher: a node that hangs costs more; lower: slow answers are wasted."""

    bulk_attempt_timeout_s: float = 3.0
    """Of one attempt at a page, a batch or a question to all nodes."""

    backoff_s_min: float = 0.02
    """Pause before the second round, doubled for each more and jittered by half. Lower: more load on an ill cluster."""

    backoff_s_max: float = 0.5
    """Longest pause. Higher: later notice that the cluster is well again."""

    refresh_interval_s_min: float = 1.0
    """Least time between two requests for the topology. Lower: quicker to find new leaders, more load."""

    topology_age_s_max: float = 30.0
    """A topology older than this is asked for again. Higher: calls take a detour for longer after a leader moved."""

    anchor_age_s_max: float = 60.0
    """A log time learnt longer ago is no anchor any more: nodes refuse anchors of more than five minutes."""

    avoidance_s_min: float = 0.5
    """For how long a failed endpoint is tried last, doubled at each failure in a row."""

    avoidance_s_max: float = 30.0
    """Longest avoidance. Higher: later return to a node that is well again; lower: more attempts at a dead one."""

    keepalive_s: float = 10.0
    """A connection with calls but without a sign of life for this long is tested. Nodes refuse less than 2 s."""

    keepalive_timeout_s: float = 5.0
    """A tested connection that stays silent for this long is given up."""

    message_bytes_max: int = 8 * MIB
    """Largest message sent or received; nodes accept 4 MiB."""

    metadata_bytes_max: int = 64 * 1024
    """Largest set of headers received; errors travel there."""

    coalesce: bool = True
    """Whether concurrent get, set and delete of an AsyncClient share calls to a node. False: each is a call of its own,
    for several times the CPU; a slow one then never delays the answer to another."""

    coalesced_operations_max: int = 256
    """Operations in one shared call; nodes accept 1,000. Higher: less CPU for each, but all wait for the slowest."""

    coalesced_bytes_max: int = 1 * MIB
    """Bytes of the requests in one shared call; nodes accept 3 MiB."""

    coalesced_operation_bytes_max: int = 64 * 1024
    """A larger request goes alone: it would hold up the others for more than it saves."""

    coalesced_above: int = 8
    """While so many operations are under way to a node, others gather. Higher: smaller calls, more CPU; lower: a few
    callers wait for each other."""

    coalesced_wait_s_max: float = 0.1
    """Operations that have gathered for so long leave, however many are under way: a call that hangs holds up only what
    is in it. Lower: smaller calls, and more CPU, when the cluster is slow."""
