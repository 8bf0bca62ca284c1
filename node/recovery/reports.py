"""What a stopped node's folder says of itself: the events of which a recovery is planned. Pure.

A report is made on one machine and read on another, so it travels as a document (documents.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from xxhash import xxh3_64_hexdigest

from ...ring.topology import Topology
from ..consensus.configuration import Configuration, ReplicaId
from .documents import canonical

NOBODY = Configuration(())


class Health(StrEnum):
    """How a copy fares, as in storage.v1.ReplicaStatus: all but GONE have a log and a vote that are intact."""

    HEALTHY = "healthy"
    DAMAGED = "damaged"
    INSTALLING = "installing"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Copy:
    """What a survivor has of a group. Of one that is GONE nothing but `number` and `reason` may be known.

    `configuration` is the newest in its log, valid since it was appended, whether it is committed or not. `loss`: why
    its engine is no more what the node has left (empty: it is): the newest entries, votes and rows may be gone.
    """

    group: int
    health: Health
    number: int
    reason: str = ""
    applied_index: int = 0
    last_index: int = 0
    last_term: int = 0
    term: int = 0
    revision: int = 0
    configuration: Configuration = NOBODY
    loss: str = ""

    @property
    def position(self) -> tuple[int, int]:
        """How new its log is: of two logs the greater one holds all that the other has committed (Raft, 3.6.1)."""
        return self.last_term, self.last_index

    @property
    def is_intact(self) -> bool:
        """Whether its log and vote are, so that its word counts."""
        return self.health is not Health.GONE and not self.loss

    def encode(self) -> dict[str, Any]:
        """As JSON has it."""
        content = {name: getattr(self, name) for name in _COPY_FIELDS}
        return {**content, "configuration": encode_configuration(self.configuration)}

    @staticmethod
    def decode(content: Mapping[str, Any]) -> "Copy":
        """The inverse of `encode`; raises TypeError, ValueError or KeyError for anything else."""
        configuration = decode_configuration(content["configuration"])
        return Copy(**{**content, "health": Health(content["health"]), "configuration": configuration})


_COPY_FIELDS = (
    "group",
    "health",
    "number",
    "reason",
    "applied_index",
    "last_index",
    "last_term",
    "term",
    "revision",
    "loss",
)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A survivor: who it is, the newest topology that it knows, and its copies in the order of their groups.

    `loss`: as of its copies.
    """

    node_id: str
    name: str
    cluster_id: str
    engine: str
    generation: int
    topology: Topology
    copies: tuple[Copy, ...]
    loss: str = ""

    @property
    def fingerprint(self) -> str:
        """Tells this state of the node from every later one: its process has run, or a recovery has changed it."""
        return xxh3_64_hexdigest(canonical(self.encode()))

    def encode(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "node_id": self.node_id,
            "name": self.name,
            "cluster_id": self.cluster_id,
            "engine": self.engine,
            "generation": self.generation,
            "topology": self.topology.to_json().decode(),
            "copies": [copy.encode() for copy in self.copies],
            "loss": self.loss,
        }

    @staticmethod
    def decode(content: Mapping[str, Any]) -> "NodeReport":
        """The inverse of `encode`; raises TypeError, ValueError or KeyError for anything else."""
        topology = Topology.from_json(content["topology"].encode())
        copies = tuple(Copy.decode(copy) for copy in content["copies"])
        return NodeReport(**{**content, "topology": topology, "copies": copies})


def encode_configuration(configuration: Configuration) -> dict[str, Any]:
    return {"voters": list(map(list, configuration.voters)), "learners": list(map(list, configuration.learners))}


def decode_configuration(content: Mapping[str, Any]) -> Configuration:
    voters, learners = (tuple(ReplicaId(*each) for each in content[what]) for what in ("voters", "learners"))
    return Configuration(voters, learners)
