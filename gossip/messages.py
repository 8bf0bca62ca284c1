"""What nodes say to each other: four requests, each with its answer. `wire` turns them into bytes and back.

Every message carries its sender's own record, so that each exchange is also news about both ends.
"""

from dataclasses import dataclass
from typing import TypeAlias

from .member import Fact, Member, MemberState, Rank


@dataclass(frozen=True, slots=True)
class Digest:
    """A fact without its attributes, for comparing."""

    node_id: str
    generation: int
    nonce: int
    incarnation: int
    state: MemberState

    @property
    def rank(self) -> Rank:
        """Place in the merge order."""
        return self.generation, self.nonce, self.incarnation, self.state


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, `target` (node id)?"""

    sender: Member
    target: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to Ping and Push: I am, and this is who I am."""

    sender: Member
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class IndirectPing:
    """Please ping `target` (node id) for me; its address is what you know of it."""

    sender: Member
    target: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class IndirectAck:
    """Whether the target answered the relay."""

    sender: Member
    reached: bool
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Sync:
    """Compare all members with `after` < node id <= `until`; an empty `until` means to the end."""

    sender: Member
    after: str
    until: str
    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """What the asker lacks, the ids of which it knows more, and up to which id this holds (empty: to the end)."""

    sender: Member
    facts: tuple[Fact, ...]
    wanted: tuple[str, ...]
    covered: str


@dataclass(frozen=True, slots=True)
class Push:
    """News, or what was wanted."""

    sender: Member
    facts: tuple[Fact, ...]


Request: TypeAlias = Ping | IndirectPing | Sync | Push
Answer: TypeAlias = Ack | IndirectAck | SyncAnswer
Message: TypeAlias = Request | Answer
