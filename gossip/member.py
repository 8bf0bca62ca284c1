"""A member as one node knows it, and the order in which newer knowledge replaces older.

The order is total, so merging is commutative, associative and idempotent: however facts travel, all nodes end with
the same one. See docs/protocols/gossip.md, "Merge order".
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias, TypedDict

Rank: TypeAlias = tuple[int, int, int, int]
"""(generation, nonce, incarnation, state)."""


class MemberState(IntEnum):
    """Later states win within one incarnation: only the subject can answer, by raising it."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Attributes(TypedDict, total=False):
    """What a member says about itself and may change while it runs."""

    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int
    topology_epoch: int


@dataclass(frozen=True, slots=True)
class Member:
    """One node at one moment. Everything but `state` is the subject's own word and changes only with its incarnation.

    `generation` grows by one with each start; `nonce` is drawn at each start, so that two processes on copies of one
    disk differ. A running node's incarnation is 1 or more: 0 marks what is only remembered from before a restart.
    """

    node_id: str
    generation: int
    nonce: int
    incarnation: int
    state: MemberState
    name: str
    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int
    topology_epoch: int

    @property
    def boot(self) -> tuple[int, int]:
        """(generation, nonce): which start of the node this is."""
        return self.generation, self.nonce

    @property
    def rank(self) -> Rank:
        """Place in the merge order."""
        return self.generation, self.nonce, self.incarnation, self.state

    @property
    def is_reachable(self) -> bool:
        """Whether messages to it make sense: ALIVE, or SUSPECT and due to be asked."""
        return self.state in {MemberState.ALIVE, MemberState.SUSPECT}


@dataclass(frozen=True, slots=True)
class Fact:
    """A member, and who accuses it: who could not reach a SUSPECT one, who has given a DEAD one up, else empty."""

    member: Member
    accuser: str = ""


def merged(left: Member, right: Member) -> Member:
    """The newer of two views of one node. Equal ranks with other attributes are a lie; any fixed choice will do."""
    assert left.node_id == right.node_id, "views of two nodes can't be merged"
    return max(left, right, key=_total_order)


def heard(member: Member) -> Member:
    """What another's word is worth: a death that one has not seen oneself is a suspicion."""
    if member.state is MemberState.DEAD:
        return replace(member, state=MemberState.SUSPECT)
    return member


def remembered(member: Member) -> Member:
    """A member known from before a restart: its boot is certain, its liveness is not, and any word of its own wins."""
    return replace(member, incarnation=0, state=MemberState.SUSPECT)


def replaces(claim: Member, held: Member) -> bool:
    """Whether `claim`, which a process makes about itself, may follow `held`; if not, it runs on a copy of the disk."""
    return claim.boot == held.boot or claim.generation > held.generation


def _total_order(member: Member) -> tuple[Rank, tuple[str | int, ...]]:
    return member.rank, (
        member.name,
        member.grpc_address,
        member.http_address,
        member.host,
        member.zone,
        member.weight,
        member.topology_epoch,
    )
