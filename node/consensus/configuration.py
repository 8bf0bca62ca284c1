"""Who replicates a group, and which of them vote: the membership that consensus counts by (Ongaro, chapter 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ...api.proto.ringhold.storage.v1 import records_pb2 as stored


class ReplicaId(NamedTuple):
    """A replica: its node, and the index of the entry that added it (0: a founder), so that none is ever used again.

    `since`: the generation of the node that had lost the replica before it; 0 if it takes no such place.
    """

    node_id: str
    number: int
    since: int = 0


@dataclass(frozen=True)
class Configuration:
    """The members of a group. Voters are in the order in which they should lead; learners only get the log."""

    voters: tuple[ReplicaId, ...]
    learners: tuple[ReplicaId, ...] = ()

    @cached_property
    def voting_nodes(self) -> tuple[str, ...]:
        return tuple(replica.node_id for replica in self.voters)

    @cached_property
    def quorum(self) -> int:
        """How many voters are a majority."""
        return len(self.voters) // 2 + 1

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The replica's number by its node, of all members."""
        return {node_id: each.number for node_id, each in self.members.items()}

    @cached_property
    def members(self) -> dict[str, ReplicaId]:
        """Voters and learners by their nodes."""
        return {each.node_id: each for each in (*self.voters, *self.learners)}

    def rank(self, node_id: str) -> int:
        """The place of a voter in the order of leading; after all of them for others."""
        nodes = self.voting_nodes
        return nodes.index(node_id) if node_id in nodes else len(nodes)

    def follows_by_one_step(self, before: "Configuration") -> bool:
        """Whether at most one voter differs, so that any two majorities share a voter (section 4.1)."""
        return len(set(self.voters) ^ set(before.voters)) <= 1 and len(self.voters) > 0

    def replacing(self, gone: ReplicaId, number: int, since: int) -> "Configuration":
        """With a learner on the same node in place of a member that is gone: at most one voter differs (4.1)."""
        learners = [each for each in self.learners if each != gone]
        return Configuration(
            tuple(each for each in self.voters if each != gone), (*learners, ReplicaId(gone.node_id, number, since))
        )

    def adding(self, node_id: str, number: int) -> "Configuration":
        """With a learner more, added by the entry `number`."""
        return Configuration(self.voters, (*self.learners, ReplicaId(node_id, number)))

    def without(self, node_id: str) -> "Configuration":
        """Without the member on a node."""
        voters, learners = (
            tuple(each for each in some if each.node_id != node_id) for some in (self.voters, self.learners)
        )
        return Configuration(voters, learners)

    def promoting(self, learner: ReplicaId) -> "Configuration":
        """With a learner among the voters, as the last to lead."""
        return Configuration((*self.voters, learner), tuple(each for each in self.learners if each != learner))

    def encode(self) -> stored.Configuration:
        return stored.Configuration(voters=encoded(self.voters), learners=encoded(self.learners))

    @staticmethod
    def decode(configuration: stored.Configuration) -> "Configuration":
        return Configuration(decoded(configuration.voters), decoded(configuration.learners))


def encoded(ids: Iterable[ReplicaId]) -> list[stored.Member]:
    return [stored.Member(node_id=each.node_id, replica_id=each.number, since=each.since) for each in ids]


def decoded(members: Iterable[stored.Member]) -> tuple[ReplicaId, ...]:
    return tuple(ReplicaId(each.node_id, each.replica_id, each.since) for each in members)


def founders(node_ids: Sequence[str]) -> Configuration:
    """The configuration that a group begins with: these nodes vote, the first should lead."""
    return Configuration(tuple(ReplicaId(node_id, 0) for node_id in node_ids))


def quorum_value(values: Iterable[float], quorum: int) -> float:
    """The largest value that at least `quorum` of the values reach.

    >>> quorum_value([5, 9, 7], 2), quorum_value([5], 1)
    (7, 5)
    """
    return sorted(values, reverse=True)[quorum - 1]
