"""The orders of a change of the cluster, as a program writes them. Nodes go by their names."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class DecommissionNode:
    """The node is to leave for good; it serves until its last replica has moved, and then its process ends."""

    node: str


@dataclass(frozen=True, slots=True)
class KeepNode:
    """The node was to leave, and stays: what has moved already may come back."""

    node: str


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """The node is dead for good: its replicas are made anew elsewhere. Refused while it is alive."""

    node: str


@dataclass(frozen=True, slots=True)
class CordonNode:
    """The node keeps the replicas that it has and gets no others."""

    node: str


@dataclass(frozen=True, slots=True)
class UncordonNode:
    """The node may get replicas again."""

    node: str


@dataclass(frozen=True, slots=True)
class SetReplicationFactor:
    """Each partition has so many replicas, or as many as there are nodes if these are fewer."""

    number: int


@dataclass(frozen=True, slots=True)
class AddNodes:
    """So many more nodes, each on a host of its own; of a dry run only, since a node is added by starting it."""

    number: int


Order: TypeAlias = (
    DecommissionNode | KeepNode | RemoveNode | CordonNode | UncordonNode | SetReplicationFactor | AddNodes
)
