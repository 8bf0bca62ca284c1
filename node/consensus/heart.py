"""Heartbeats between this node and each other one, and what they tell beside support: who is away, who must be woken.

A beat speaks for all groups at once. Its digest covers the groups that the sender vouches for as their leader, and the
receiver replicates, but for those in which it waits for a snapshot, as both know. If both compute the same, the
receiver has all that the sender had when it sent; if they differ twice in a row, the sender asks in those groups
(DESIGN section 7, docs/protocols/consensus.md).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from xxhash import xxh3_64_intdigest

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat
from .core import Replica
from .support import Support

_PLACE = Struct(">IQQQ").pack


@dataclass(slots=True)
class Difference:
    """What is known of a peer's digest against the own one."""

    times: int = 0
    """Beats in a row that differed."""


class Heart:
    """Makes the beats for the peers, and takes theirs in."""

    def __init__(self, support: Support, replicas: Callable[[], Iterable[Replica[Any]]]) -> None:
        self._support = support
        self._replicas = replicas
        self._differences: dict[str, Difference] = {}

    def beat(self, peer: str, now: float, *, reluctant: bool) -> Beat:
        """The next beat for a peer."""
        beat = self._support.beat(peer, now)
        beat.digest = digest_of(
            replica
            for replica in self._replicas()
            if replica.office is not None and replica.office.can_lead(peer) and replica.office.vouches(now)
        )
        beat.differs = self._differences.setdefault(peer, Difference()).times > 1
        beat.reluctant = reluctant
        return beat

    def hear(self, peer: str, beat: Beat, now: float) -> bool:
        """Take a beat in: what it says of the groups. True: the peer lives a new life."""
        is_reborn = self._support.hear(peer, beat, now)
        if is_reborn:
            for replica in self._replicas():
                replica.peer_reborn(peer, now)
        self._compare(peer, beat)
        return is_reborn

    def _compare(self, peer: str, beat: Beat) -> None:
        led = [
            replica for replica in self._replicas() if replica.leader == peer and not replica.following.needs_snapshot
        ]
        difference = self._differences.setdefault(peer, Difference())
        if digest_of(led) != beat.digest:
            difference.times += 1
            return
        difference.times = 0
        moment = self._support.sent_at_heard_by(peer, beat)
        if moment is not None:
            for replica in led:
                replica.freshness.vouched(replica.commit_index, moment)


def digest_of(replicas: Iterable[Replica[Any]]) -> int:
    """Of where these groups stand, whatever their order."""
    digest = 0
    for replica in replicas:
        place = _PLACE(replica.group, replica.term, replica.log.last_index, replica.commit_index)
        digest ^= xxh3_64_intdigest(place)
    return digest
